//! `hearth inspect`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use hearth_formats::{
    checkpoint::{Checkpoint, Format},
    tokenizer::Tokenizer,
};
use hearth_gemma::{
    Config, Precision,
    config::check_complete,
    config_and_notes,
    load::layout_of,
    plan::{plan_forward, weight_bytes},
    workspace::Sizes,
};
use serde::Serialize;

use crate::{
    Outcome,
    files::ModelFiles,
    heap::Meter,
    inspect_table,
    options::Options,
    output,
    reading_args::ReadingArgs,
    session::{WeightsAs, tokenizer_of},
};

/// Tokens that the memory need is told for.
const TOKENS: usize = 512;

/// Show a model's parts and the GPU memory that it needs, or how a table is read
#[derive(Args)]
pub struct Inspect {
    /// .gguf or .safetensors files, indexes or folders, one model each; or tables
    #[arg(required = true, value_name = "FILE")]
    models: Vec<PathBuf>,
    /// The weight layout to plan for
    #[arg(long, value_enum, default_value = "exact")]
    weights: WeightsAs,
    #[command(flatten)]
    reading: ReadingArgs,
}

#[derive(Serialize)]
struct Report {
    model: String,
    format: &'static str,
    files: Vec<String>,
    config: Option<Summary>,
    /// Why there is no configuration.
    config_error: Option<String>,
    tokenizer_tokens: Option<usize>,
    /// What the user should know of how the files were read.
    notes: Vec<String>,
    /// Why the model cannot be used, beside its configuration: what is missing or left over.
    problem: Option<String>,
    tensors: Vec<Tensor>,
    stored_bytes: u64,
    /// Weights, and what a pass over 512 tokens needs beside them.
    gpu: Option<Memory>,
    heap_peak_bytes: u64,
    tokenizer_heap_bytes: u64,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    shape: Vec<u64>,
    stored_as: String,
    stored_bytes: u64,
    /// On the GPU; none for what a Gemma does not use.
    layout: Option<String>,
    gpu_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Summary {
    family: String,
    layers: usize,
    hidden: usize,
    intermediate: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    max_positions: usize,
    /// Layers with a sliding window.
    window_layers: usize,
    window: Option<u32>,
    rope_theta: Vec<f64>,
    attention_softcap: Option<f32>,
    final_softcap: Option<f32>,
    tied_head: bool,
    bos: u32,
    eos: Vec<u32>,
}

#[derive(Serialize)]
struct Memory {
    parts: Vec<(String, u64)>,
    total: u64,
}

pub async fn run(options: &Options, args: &Inspect) -> Result<Outcome> {
    let mut reports = vec![];
    let mut tables = vec![];
    let mut refused = None;
    for path in &args.models {
        if inspect_table::is_table(path) {
            tables.push(inspect_table::run(options, path, &args.reading)?);
            continue;
        }
        let files = ModelFiles::find(path)?;
        match report(&files, path.display().to_string(), args.weights.into()).await {
            Ok(report) => reports.push(report),
            // what can be shown of the others is shown first
            Err(error) if args.models.len() > 1 => refused = refused.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    if options.json {
        match (&reports[..], &tables[..]) {
            ([one], []) => output::json(one)?,
            ([], [one]) => output::json(one)?,
            (all, []) => output::json(&serde_json::json!({ "models": all }))?,
            (all, tables) => {
                output::json(&serde_json::json!({ "models": all, "tables": tables }))?;
            }
        }
    } else {
        for report in &reports {
            print(options, report)?;
        }
    }
    refused.map_or(Ok(Outcome::Done), Err)
}

async fn report(files: &ModelFiles, model: String, precision: Precision) -> Result<Report> {
    let heap = Meter::start();
    let checkpoint = Checkpoint::open(files.sources()?).await?;
    let heap_peak_bytes = heap.peak();
    let (config, mut notes) = match config_and_notes(&checkpoint) {
        Ok((config, notes)) => (Ok(config), notes),
        Err(error) => (Err(error), checkpoint.notes().to_vec()),
    };
    let complete = config.as_ref().map(|config| check_complete(&checkpoint, config));
    let problem = match complete {
        Ok(Ok(more)) => {
            notes.extend(more);
            None
        }
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => None,
    };
    let heap = Meter::start();
    let tokenizer = match (tokenizer_of(files, &checkpoint, None).await, &config) {
        // Another model has another tokenizer: that it is another is what matters.
        (Err(_), Err(_)) => None,
        // A model with a damaged tokenizer can be looked at, a silent gap would mislead.
        (tokenizer, _) => tokenizer.context("the model's tokenizer")?,
    };
    notes.extend(tokenizer.iter().flat_map(Tokenizer::notes).cloned());
    let gpu = match &config {
        Ok(config) => memory(&checkpoint, config, precision),
        Err(_) => None,
    };
    let tensors: Vec<Tensor> =
        checkpoint.tensors().map(|t| tensor(&checkpoint, t, precision)).collect();
    Ok(Report {
        model,
        format: match checkpoint.format() {
            Format::Gguf => "gguf",
            Format::Safetensors => "safetensors",
            Format::Mlx => "mlx",
            Format::Hearth => "hearth",
        },
        files: checkpoint.sources().iter().map(|s| s.name().to_owned()).collect(),
        config_error: config.as_ref().err().map(ToString::to_string),
        config: config.ok().map(summary),
        tokenizer_tokens: tokenizer.as_ref().map(|t| t.vocab_size()),
        notes,
        problem,
        stored_bytes: tensors.iter().map(|t| t.stored_bytes).sum(),
        tensors,
        gpu,
        heap_peak_bytes,
        tokenizer_heap_bytes: heap.held(),
    })
}

fn tensor(
    checkpoint: &Checkpoint,
    t: &hearth_formats::checkpoint::Tensor,
    precision: Precision,
) -> Tensor {
    let (rows, columns) = (t.rows(), t.columns());
    let layout = if t.layout.is_none() {
        None
    } else if t.shape.len() < 2 {
        Some(("f32".to_owned(), 4 * columns))
    } else {
        layout_of(checkpoint, &t.name, precision)
            .ok()
            .map(|layout| (layout.to_string(), rows * layout.row_bytes(columns as usize) as u64))
    };
    Tensor {
        name: t.name.clone(),
        shape: t.shape.clone(),
        stored_as: t.stored_as(),
        stored_bytes: t.stored_bytes(),
        gpu_bytes: layout.as_ref().map(|(_, bytes)| *bytes),
        layout: layout.map(|(name, _)| name),
    }
}

fn memory(checkpoint: &Checkpoint, config: &Config, precision: Precision) -> Option<Memory> {
    let weights = weight_bytes(checkpoint, precision).ok()?;
    let sizes = Sizes { tokens: TOKENS, chosen: 1, lora: None, training: None };
    let plan = plan_forward(config, weights, &sizes, TOKENS).ok()?;
    Some(Memory { total: plan.total(), parts: plan.parts })
}

fn summary(config: Config) -> Summary {
    let windows: Vec<u32> = config.layers.iter().filter_map(|l| l.window).collect();
    let mut rope_theta: Vec<f64> = config.layers.iter().map(|l| l.rope.theta).collect();
    rope_theta.sort_by(f64::total_cmp);
    rope_theta.dedup();
    Summary {
        family: config.family.to_string(),
        layers: config.layers.len(),
        hidden: config.hidden,
        intermediate: config.intermediate,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        vocab: config.vocab,
        max_positions: config.max_positions,
        window_layers: windows.len(),
        window: windows.first().copied(),
        rope_theta,
        attention_softcap: config.attention_softcap,
        final_softcap: config.final_softcap,
        tied_head: config.tied_head,
        bos: config.bos,
        eos: config.eos,
    }
}

fn print(options: &Options, r: &Report) -> Result<()> {
    let field = |name: &str, value: &str| output::line(&format!("{name:<12}{value}"));
    field("model", &r.model)?;
    field("format", &format!("{}, {} file(s)", r.format, r.files.len()))?;
    match (&r.config, &r.config_error) {
        (Some(c), _) => {
            let window = c
                .window
                .map_or("no window".to_owned(), |w| format!("window {w} on {}", c.window_layers));
            field("family", &c.family)?;
            field(
                "shape",
                &format!(
                    "{} layers ({window}), width {}, MLP {}, {} query and {} key/value heads of {}",
                    c.layers, c.hidden, c.intermediate, c.heads, c.kv_heads, c.head_dim
                ),
            )?;
            let head = if c.tied_head { "tied to the embedding" } else { "of its own" };
            field(
                "vocabulary",
                &format!("{} tokens, head {head}, bos {}, eos {:?}", c.vocab, c.bos, c.eos),
            )?;
            field("context", &format!("{} tokens", c.max_positions))?;
        }
        (None, error) => field("config", error.as_deref().unwrap_or("none"))?,
    }
    let tokenizer = r.tokenizer_tokens.map_or("none found".to_owned(), |n| format!("{n} tokens"));
    field("tokenizer", &tokenizer)?;
    if let Some(problem) = &r.problem {
        field("problem", problem)?;
    }
    for note in &r.notes {
        field("note", note)?;
    }
    let width = r.tensors.iter().map(|t| t.name.len()).max().unwrap_or(0);
    output::line("")?;
    output::line(&format!(
        "{:width$}  {:>16}  {:<9} {:>10}  {:<16} {:>10}",
        "tensor", "shape", "stored as", "bytes", "on the GPU", "bytes"
    ))?;
    for t in &r.tensors {
        let (layout, bytes) = match (&t.layout, t.gpu_bytes) {
            (Some(layout), Some(bytes)) => (layout.as_str(), output::bytes(bytes)),
            _ => ("not used", String::new()),
        };
        output::line(&format!(
            "{:width$}  {:>16}  {:<9} {:>10}  {layout:<16} {bytes:>10}",
            t.name,
            t.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" × "),
            t.stored_as,
            output::bytes(t.stored_bytes),
        ))?;
    }
    output::line("")?;
    field("stored", &output::bytes(r.stored_bytes))?;
    if let Some(memory) = &r.gpu {
        let part = |(name, bytes): &(String, u64)| format!("{name} {}", output::bytes(*bytes));
        let parts: Vec<String> = memory.parts.iter().map(part).collect();
        let total = output::bytes(memory.total);
        field("on the GPU", &format!("{total} for {TOKENS} tokens: {}", parts.join(", ")))?;
    }
    if options.verbose {
        let (open, tokenizer) =
            (output::bytes(r.heap_peak_bytes), output::bytes(r.tokenizer_heap_bytes));
        output::note(&format!(
            "heap       {open} at most while opening, {tokenizer} in the tokenizer"
        ));
    }
    Ok(())
}
