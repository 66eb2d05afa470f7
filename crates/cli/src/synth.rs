//! `hearth synth`: a model of the true shape and naming with made-up weights, in the forms that
//! people have, for measuring what the real weights cannot be had for.

mod blocks;
mod gguf;
mod pool;
mod vocabulary;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use hearth_formats::{
    gguf::{header::TensorType, mixture::q4_k_m, write::ALIGNMENT},
    hearth::{NewTensor, Origin, plan},
    layout::WeightLayout,
    safetensors::{Dtype, plan_file},
};
use hearth_gemma::{Config, Projection};
use serde::Serialize;
use serde_json::{Value, json};
use web_time::Instant;

use self::pool::{Norms, Storage};
use self::write::{Out, Piece};
use crate::{Outcome, options::Options, output, synthetic::Shape};

/// Write a model of the true shape with synthetic weights, for measurements
#[derive(Args)]
pub struct Synth {
    /// The model's shape
    #[arg(value_enum)]
    shape: Shape,
    /// The file format
    #[arg(long = "as", value_enum)]
    form: Form,
    /// A file for GGUF, otherwise a folder; it must not exist yet
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// A tokenizer.json: its pieces go into a GGUF, otherwise it is copied beside the model
    /// [default: synthetic pieces in a GGUF, none otherwise]
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// As saved by Hugging Face's Transformers: bf16 in shards with an index
    #[value(name = "bf16-sharded")]
    Bf16Sharded,
    /// As written by llama-quantize: Q4_K and Q6_K
    #[value(name = "gguf-q4_k_m")]
    GgufQ4KM,
    /// Q8_0
    #[value(name = "gguf-q8_0")]
    GgufQ8_0,
    /// As written by MLX: 4 bits in groups of 64
    #[value(name = "mlx-4bit")]
    Mlx4,
    /// As written by `hearth quantize --to q4`
    #[value(name = "hearth-q4")]
    HearthQ4,
}

#[derive(Serialize)]
struct Report {
    out: String,
    files: usize,
    bytes: u64,
    weights: u64,
    seconds: f64,
}

/// A tensor under its uniform name; a vector has one row.
struct Tensor {
    name: String,
    rows: u64,
    columns: u64,
}

impl Tensor {
    fn is_norm(&self) -> bool {
        self.rows == 1
    }

    fn weights(&self) -> u64 {
        self.rows * self.columns
    }
}

/// All tensors in the order of Transformers' files.
fn tensors(config: &Config) -> Vec<Tensor> {
    let tensor = |name: String, rows: usize, columns: usize| Tensor {
        name,
        rows: rows as u64,
        columns: columns as u64,
    };
    let c = config.hidden;
    let mut all = vec![tensor("model.embed_tokens.weight".to_owned(), config.vocab, c)];
    for layer in 0..config.layers.len() {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        for projection in Projection::ALL {
            let (inputs, outputs) = projection.shape(config);
            all.push(tensor(name(projection.module()), outputs, inputs));
        }
        all.push(tensor(name("input_layernorm"), 1, c));
        all.push(tensor(name("post_attention_layernorm"), 1, c));
    }
    all.push(tensor("model.norm.weight".to_owned(), 1, c));
    all
}

pub async fn run(options: &Options, args: &Synth) -> Result<Outcome> {
    let start = Instant::now();
    let text = args.shape.config();
    let config = Config::from_json(&text.to_string())?;
    if config.family != hearth_gemma::config::Family::Gemma1 {
        bail!("only Gemma 1 can be synthesized so far: gemma-2b");
    }
    let tensors = tensors(&config);
    let tokenizer = match &args.tokenizer {
        Some(path) => {
            Some(std::fs::read(path).with_context(|| format!("{}: reading it", path.display()))?)
        }
        None => None,
    };
    let mut out = Out::new(options, &args.out, args.seed)?;
    match args.form {
        Form::GgufQ4KM | Form::GgufQ8_0 => {
            let kind = |tensor: &Tensor| gguf_type(args.form, &config, tensor);
            let vocabulary =
                vocabulary::of(config.vocab, tokenizer.as_deref(), args.tokenizer.as_deref())?;
            let file_type = if args.form == Form::GgufQ8_0 { 7 } else { 15 };
            let header = gguf::header(&config, &tensors, kind, &vocabulary, file_type);
            let pieces: Vec<Piece> = tensors.iter().map(|t| Piece::of_gguf(t, kind(t))).collect();
            out.file(&args.out, &header, &pieces, ALIGNMENT)?;
        }
        Form::Bf16Sharded => shards(&mut out, &args.out, &tensors, &text)?,
        Form::Mlx4 => mlx(&mut out, &args.out, &tensors, &text)?,
        Form::HearthQ4 => hearth_q4(&mut out, &args.out, &tensors, &text)?,
    }
    if let (Some(bytes), false) = (&tokenizer, matches!(args.form, Form::GgufQ4KM | Form::GgufQ8_0))
    {
        out.small(&args.out, "tokenizer.json", bytes)?;
    }
    let (files, bytes) = out.finish()?;
    let report = Report {
        out: args.out.display().to_string(),
        files,
        bytes,
        weights: tensors.iter().map(Tensor::weights).sum(),
        seconds: start.elapsed().as_secs_f64(),
    };
    if options.json {
        output::json(&report)?;
    } else {
        output::line(&format!(
            "{}: {} weights in {files} files of {}, {:.1} s",
            report.out,
            report.weights,
            output::bytes(bytes),
            report.seconds
        ))?;
    }
    Ok(Outcome::Done)
}

/// llama.cpp's choice of types: with Q4_K_M the tied embedding is Q6_K as an output head.
fn gguf_type(form: Form, config: &Config, tensor: &Tensor) -> TensorType {
    if tensor.is_norm() {
        return TensorType::F32;
    }
    if form == Form::GgufQ8_0 {
        return TensorType::Q8_0;
    }
    let layer = tensor.name.split('.').nth(2).and_then(|layer| layer.parse::<usize>().ok());
    let sensitive = tensor.name.contains("v_proj") || tensor.name.contains("down_proj");
    let columns = tensor.columns as usize;
    layer.map_or(TensorType::Q6_K, |layer| q4_k_m(layer, config.layers.len(), sensitive, columns))
}

/// Bytes of a shard: Transformers' 5 GB, which makes two of Gemma 2B; toys get two as well.
fn shard_limit(total: u64) -> u64 {
    if total > 1 << 30 { 5_000_000_000 } else { total / 2 }
}

fn shards(out: &mut Out, folder: &Path, tensors: &[Tensor], config: &Value) -> Result<()> {
    let total: u64 = tensors.iter().map(|t| 2 * t.weights()).sum();
    let mut cut: Vec<Vec<&Tensor>> = vec![vec![]];
    let mut held = 0;
    for tensor in tensors {
        let bytes = 2 * tensor.weights();
        if held > 0 && held + bytes > shard_limit(total) {
            cut.push(vec![]);
            held = 0;
        }
        held += bytes;
        if let Some(last) = cut.last_mut() {
            last.push(tensor);
        }
    }
    let mut places = BTreeMap::new();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    for (i, shard) in cut.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, cut.len());
        let entry = |t: &&Tensor| {
            let shape = if t.is_norm() { vec![t.columns] } else { vec![t.rows, t.columns] };
            (t.name.clone(), Dtype::BF16, shape)
        };
        let planned = plan_file(&name, &metadata, shard.iter().map(entry))?;
        let pieces: Vec<Piece> =
            shard.iter().map(|t| Piece::new(t, Storage::Bf16, 0, Norms::Bf16)).collect();
        out.file(&folder.join(&name), &planned.bytes, &pieces, 1)?;
        places.extend(shard.iter().map(|t| (t.name.clone(), name.clone())));
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": places });
    out.small(folder, "model.safetensors.index.json", index.to_string().as_bytes())?;
    out.small(folder, "config.json", config.to_string().as_bytes())
}

fn mlx(out: &mut Out, folder: &Path, tensors: &[Tensor], config: &Value) -> Result<()> {
    let mut config = config.clone();
    config["quantization"] = json!({ "group_size": pool::MLX_GROUP, "bits": 4 });
    let mut by_name = BTreeMap::new();
    let mut entries = vec![];
    for tensor in tensors {
        if tensor.is_norm() {
            entries.push((tensor.name.clone(), Dtype::BF16, vec![tensor.columns]));
            by_name.insert(tensor.name.clone(), (tensor, 0));
            continue;
        }
        let module = tensor.name.trim_end_matches(".weight");
        let groups = tensor.columns / pool::MLX_GROUP as u64;
        for (part, (name, dtype, width)) in [
            ("weight", Dtype::U32, tensor.columns / 8),
            ("scales", Dtype::BF16, groups),
            ("biases", Dtype::BF16, groups),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("{module}.{name}");
            entries.push((name.clone(), dtype, vec![tensor.rows, width]));
            by_name.insert(name, (tensor, part));
        }
    }
    let metadata = BTreeMap::from([("format".to_owned(), "mlx".to_owned())]);
    let planned = plan_file("model.safetensors", &metadata, entries)?;
    let piece = |name: &String| {
        let (tensor, part) = by_name[name];
        Piece::new(tensor, Storage::Mlx4, part, Norms::Bf16)
    };
    let pieces: Vec<Piece> = planned.tensors.iter().map(|t| piece(&t.name)).collect();
    out.file(&folder.join("model.safetensors"), &planned.bytes, &pieces, 1)?;
    out.small(folder, "config.json", config.to_string().as_bytes())
}

fn hearth_q4(out: &mut Out, folder: &Path, tensors: &[Tensor], config: &Value) -> Result<()> {
    let new = |t: &Tensor| match t.is_norm() {
        true => NewTensor::Vector { name: t.name.clone(), len: t.columns },
        false => NewTensor::Matrix {
            name: t.name.clone(),
            rows: t.rows,
            columns: t.columns,
            layout: WeightLayout::Q4,
        },
    };
    let source = "synthesized by hearth synth".to_owned();
    let origin = Origin { source, source_sha256: String::new(), config: config.to_string() };
    let new: Vec<NewTensor> = tensors.iter().map(new).collect();
    let planned = plan("model.safetensors", &origin, &new)?;
    let by_name: BTreeMap<&str, &Tensor> = tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let piece = |name: &str| {
        let whole = name.trim_end_matches(".quants").trim_end_matches(".scales");
        let part = usize::from(name.ends_with(".scales"));
        Piece::new(by_name[whole], Storage::HearthQ4, part, Norms::GainF32)
    };
    let pieces: Vec<Piece> = planned.tensors.iter().map(|t| piece(&t.name)).collect();
    out.file(&folder.join("model.safetensors"), &planned.bytes, &pieces, 1)
}
