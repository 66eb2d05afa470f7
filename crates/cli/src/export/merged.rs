//! A whole model with the adapter added to its weights.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use hearth_classifier::bundle::Bundle;
use hearth_formats::{
    checkpoint::Checkpoint,
    gguf::{
        header::{Header, TensorType, raw_metadata},
        write::Metadata,
    },
    merge::{Form as MergeForm, Merge, MergedTensor},
    source::FileSource,
    tokenizer::to_gguf,
};
use hearth_gemma::config::{config_json, transformers_config};
use hearth_gemma::config_of;
use serde::Serialize;

use super::{Export, Form, check_free, open_folder, write};
use crate::{
    Outcome, classifier_file,
    files::ModelFiles,
    heap::Meter,
    interrupt,
    options::Options,
    output::{self, Bar},
    quantize::Out,
    run_folder::{PART, beside, keep_whole},
    session::is_gguf,
};

/// The weights' file in a folder for transformers.
const WEIGHTS: &str = "model.safetensors";
/// Files that transformers reads a tokenizer from, copied where they are beside the model.
const TOKENIZER: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
];

/// What to write.
pub struct Job<'a> {
    pub classifier: &'a Path,
    pub form: Form,
    pub out: &'a Path,
    pub model: &'a Path,
    pub number: TensorType,
}

#[derive(Serialize)]
struct Report {
    out: String,
    bytes: u64,
    tensors: Vec<Tensor>,
    /// Over all matrices: root mean square of the rounding error, relative to that of the weights' mean square.
    relative: f64,
    /// Tensors that no text model of Gemma's has: left out.
    left_out: Vec<String>,
    /// Other files that were written.
    files: Vec<String>,
    heap_peak_bytes: u64,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Root mean square of what the adapter added.
    change: f64,
    /// Root mean square of the rounding error.
    rms: f64,
    /// The same, against the root mean square of the weights.
    relative: f64,
    max: f64,
}

impl From<MergedTensor> for Tensor {
    fn from(t: MergedTensor) -> Self {
        let (kind, name) = (t.kind.name(), t.name);
        Self { name, kind, change: t.change, rms: t.rms, relative: t.relative, max: t.max }
    }
}

pub async fn run(options: &Options, args: &Export, job: Job<'_>) -> Result<Outcome> {
    let bundle = classifier_file::read(job.classifier)?;
    let heap = Meter::start();
    let files = ModelFiles::find(job.model)?;
    let checkpoint = Checkpoint::open(files.sources()?).await?;
    // says what is missing, before anything is written
    config_json(&checkpoint)?;
    note_other_base(&checkpoint, &bundle).await?;
    let adapter = bundle.read_adapter().await?;
    let out = job.out.display().to_string();
    let mut others = vec![];
    let (target, merge) = match job.form {
        Form::Gguf => {
            check_free(job.out, args.force)?;
            let config = config_of(&checkpoint)?;
            let metadata = gguf_metadata(&checkpoint, &files, args, &bundle, job.number).await?;
            let architecture = config.gguf_architecture();
            let form = MergeForm::Gguf { architecture, metadata: &metadata };
            let merge = Merge::plan(&checkpoint, &adapter, job.number, &form, &out)?;
            (job.out.to_owned(), merge)
        }
        Form::Safetensors | Form::Peft => {
            let dtype = if job.number == TensorType::F32 { "float32" } else { "float16" };
            let form = MergeForm::Safetensors;
            let merge = Merge::plan(&checkpoint, &adapter, job.number, &form, &out)?;
            let config = transformers_config(&checkpoint, dtype)?;
            others = tokenizer_files(&files, args.tokenizer.as_deref())?;
            let names: Vec<&str> = others.iter().map(|(name, _)| name.as_str()).collect();
            let all = [&[WEIGHTS, "config.json"], &names[..]].concat();
            open_folder(job.out, &all, args.force)?;
            others.push(("config.json".to_owned(), config.into_bytes()));
            (job.out.join(WEIGHTS), merge)
        }
    };
    let part = beside(&target, PART);
    let written = stream(options, &merge, &part).await.and_then(|tensors| {
        // the weights get their name last
        others.iter().try_for_each(|(name, bytes)| write(&job.out.join(name), bytes))?;
        Ok(tensors)
    });
    let tensors = keep_whole(&part, &target, written)?;
    let report = Report {
        out,
        bytes: merge.bytes(),
        relative: overall(&tensors),
        tensors: tensors.into_iter().map(Tensor::from).collect(),
        left_out: merge.left_out,
        files: others.into_iter().map(|(name, _)| name).collect(),
        heap_peak_bytes: heap.peak(),
    };
    if options.json {
        output::json(&report)?;
    } else {
        print(&report)?;
        if job.form != Form::Gguf && !report.files.iter().any(|name| name == TOKENIZER[0]) {
            output::note(
                "no tokenizer.json is written, as there is none beside the model: give one with --tokenizer, or copy it from \
                 the base model's page",
            );
        }
    }
    Ok(Outcome::Done)
}

/// Root of the summed squares of all rounding errors over that of all weights.
fn overall(tensors: &[MergedTensor]) -> f64 {
    let known = tensors.iter().filter(|t| t.relative > 0.0);
    let (errors, norms) = known.fold((0.0, 0.0), |(errors, norms), t| {
        (errors + t.rms.powi(2), norms + (t.rms / t.relative).powi(2))
    });
    if norms > 0.0 { (errors / norms).sqrt() } else { 0.0 }
}

/// A classifier that was trained on another file of the same shape is merged with a warning.
async fn note_other_base(checkpoint: &Checkpoint, bundle: &Bundle) -> Result<()> {
    let base = &bundle.classifier.base;
    let here = checkpoint.identity().await?;
    if base.sha256.as_ref().is_some_and(|hash| *hash != here) {
        output::note(&format!(
            "warning: the classifier was trained on another file ({}): its figures do not hold for the merged model",
            base.name
        ));
    }
    Ok(())
}

async fn stream(options: &Options, merge: &Merge<'_>, path: &Path) -> Result<Vec<MergedTensor>> {
    let at = || format!("{}: writing", path.display());
    let file = File::create(path).with_context(at)?;
    let mut out = Out { file, path };
    let bar = Bar::of_bytes(options, "merging", merge.source_bytes());
    let merged = merge.run(&mut out, |read| {
        bar.at(read);
        !interrupt::asked()
    });
    let tensors = merged.await?;
    out.file.sync_all().with_context(at)?;
    Ok(tensors)
}

/// The metadata of a merged file: the base model's own where that is a GGUF file, with its vocabulary; otherwise those of
/// its configuration and its tokenizer.
async fn gguf_metadata(
    checkpoint: &Checkpoint,
    files: &ModelFiles,
    args: &Export,
    bundle: &Bundle,
    number: TensorType,
) -> Result<Metadata> {
    let config = config_of(checkpoint)?;
    let named = args.tokenizer.as_deref().or(files.tokenizer.as_deref());
    let mut metadata;
    if checkpoint.gguf().is_some() {
        metadata = Metadata::default();
        let Some(first) = checkpoint.sources().first() else { bail!("the model has no file") };
        for (key, pair) in raw_metadata(&**first).await? {
            let replaced = key.starts_with("split.")
                || ["general.file_type", "general.quantization_version"].contains(&key.as_str())
                // tables of the quantization that the file had
                || key.starts_with("quantize.imatrix.");
            if !replaced {
                metadata.raw(&pair);
            }
        }
    } else {
        metadata = config.gguf_metadata(&bundle.classifier.name).await?;
        match named {
            Some(path) if is_gguf(path) => {
                let source = FileSource::open(path)?;
                Header::read(&source).await?;
                let vocabulary = raw_metadata(&source).await?;
                let own = vocabulary.iter().filter(|(key, _)| key.starts_with("tokenizer."));
                own.for_each(|(_, pair)| metadata.raw(pair));
            }
            Some(path) => {
                let path =
                    if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
                let at = || format!("{}: reading the tokenizer", path.display());
                let json = std::fs::read(&path).with_context(at)?;
                to_gguf::write(&json, config.vocab, &mut metadata).with_context(at)?;
            }
            None => bail!(
                "{}: there is no tokenizer.json beside the model, and a GGUF file holds its tokenizer; give one with \
                 --tokenizer FILE",
                args.model.as_deref().unwrap_or(Path::new("model")).display()
            ),
        }
    }
    // llama.cpp, `enum llama_ftype`
    metadata.number(
        "general.file_type",
        match number {
            TensorType::F32 => 0,
            TensorType::F16 => 1,
            TensorType::Q4_0 => 2,
            _ => 7,
        },
    );
    metadata.number("general.quantization_version", 2);
    Ok(metadata)
}

/// The tokenizer's files that are beside the model, or the one that was named, with their contents.
fn tokenizer_files(files: &ModelFiles, named: Option<&Path>) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = match named {
        Some(path) if path.is_dir() => path.to_owned(),
        Some(path) if is_gguf(path) => return Ok(vec![]),
        Some(path) => {
            let at = || format!("{}: reading the tokenizer", path.display());
            return Ok(vec![(TOKENIZER[0].to_owned(), std::fs::read(path).with_context(at)?)]);
        }
        None => match files.parts.first().and_then(|part| part.parent()) {
            Some(folder) => folder.to_owned(),
            None => return Ok(vec![]),
        },
    };
    let mut all = vec![];
    for name in TOKENIZER {
        let path = folder.join(name);
        if path.is_file() {
            let at = || format!("{}: reading", path.display());
            all.push((name.to_owned(), std::fs::read(&path).with_context(at)?));
        }
    }
    Ok(all)
}

fn print(report: &Report) -> Result<()> {
    let width = report.tensors.iter().map(|t| t.name.len()).max().unwrap_or(0);
    for Tensor { name, kind, change, rms, relative, max } in &report.tensors {
        let relative = 100.0 * relative;
        output::line(&format!(
            "{name:width$}  {kind:<5} adapter {change:8.2e}  rms error {rms:8.2e}  {relative:6.3} %  max {max:8.2e}"
        ))?;
    }
    for name in &report.left_out {
        output::note(&format!("left out: {name}"));
    }
    let (relative, bytes) = (100.0 * report.relative, output::bytes(report.bytes));
    output::line(&format!("{}: {bytes}, RMS error {relative:.3} % of the weights", report.out))
}
