//! A loaded model, and the time and memory that loading took.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use hearth_classifier::recipe::{Loss, Recipe};
use hearth_formats::{
    checkpoint::Checkpoint,
    gguf::header::Header,
    source::FileSource,
    tokenizer::{Special, Tokenizer},
};
use hearth_gemma::{Embedding, LoadOptions, Model, Precision, plan::check_fits};
use hearth_gpu::Gpu;
use serde::Serialize;
use web_time::Instant;

use crate::{
    files::ModelFiles,
    heap::Meter,
    interrupt,
    options::Options,
    output::{self, Bar},
};

/// Which model, and how it is held.
#[derive(Args)]
pub struct ModelArgs {
    /// A .gguf or .safetensors file, an index, or the model's folder
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// tokenizer.json or a .gguf file [default: beside the model, or in it]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Weight precision: as in the file, or floats quantized while loading
    #[arg(long, value_enum, default_value = "exact")]
    pub weights: WeightsAs,
}

/// How weights are held.
#[derive(Clone, Copy, ValueEnum)]
pub enum WeightsAs {
    /// As in the file, without loss
    Exact,
    /// Quantize 32-bit floats to 16 bits
    F16,
    /// Quantize floats to 8 bits
    Q8,
    /// Quantize floats to 4 bits
    Q4,
}

impl From<WeightsAs> for Precision {
    fn from(weights: WeightsAs) -> Self {
        match weights {
            WeightsAs::Exact => Self::Exact,
            WeightsAs::F16 => Self::F16,
            WeightsAs::Q8 => Self::Q8,
            WeightsAs::Q4 => Self::Q4,
        }
    }
}

/// What a recipe needs of the embedding: `choice` and scoring need single rows only.
pub fn embedding_for(recipe: &Recipe) -> Embedding {
    match recipe.loss {
        Loss::Choice => Embedding::FromSource,
        Loss::Label | Loss::Sequence => Embedding::OnDevice,
    }
}

/// Time and memory of loading.
#[derive(Serialize)]
pub struct Stats {
    adapter: String,
    profile: &'static str,
    /// From the start of the command until the first token can be computed.
    ready_seconds: f64,
    /// Most Rust heap while the weights were loaded.
    heap_peak_bytes: u64,
    /// Rust heap that the tokenizer holds.
    tokenizer_heap_bytes: u64,
    /// Device memory in buffers.
    gpu_bytes: u64,
    /// Device memory taken from the driver.
    gpu_reserved_bytes: Option<u64>,
}

impl Stats {
    /// In words, on stderr.
    pub fn note(&self) {
        let Self { adapter, profile, ready_seconds, .. } = self;
        output::note(&format!("adapter    {adapter}, {profile} limits"));
        output::note(&format!("ready      after {ready_seconds:.2} s"));
        output::note(&format!(
            "heap       {} at most while loading, {} in the tokenizer",
            output::bytes(self.heap_peak_bytes),
            output::bytes(self.tokenizer_heap_bytes)
        ));
        let reserved = self
            .gpu_reserved_bytes
            .map_or(String::new(), |b| format!(", {} reserved", output::bytes(b)));
        output::note(&format!("GPU memory {}{reserved}", output::bytes(self.gpu_bytes)));
    }
}

/// A loaded model.
pub struct Session {
    pub model: Model,
    tokenizer: Option<Tokenizer>,
    model_name: String,
    start: Instant,
    heap_peak: u64,
    tokenizer_heap: u64,
}

impl Session {
    /// Loads a model and, where there is one, its tokenizer.
    pub async fn open(options: &Options, args: &ModelArgs, embedding: Embedding) -> Result<Self> {
        let start = Instant::now();
        let files = ModelFiles::find(&args.model)?;
        let gpu = options.gpu().await?;
        let heap = Meter::start();
        let checkpoint = Checkpoint::open(files.sources()?).await?;
        let model = load(
            options,
            &gpu,
            &checkpoint,
            LoadOptions { precision: args.weights.into(), embedding },
        )
        .await?;
        let heap_peak = heap.peak();
        let heap = Meter::start();
        let tokenizer = tokenizer_of(&files, &checkpoint, args.tokenizer.as_deref()).await?;
        for note in model.notes.iter().chain(tokenizer.iter().flat_map(Tokenizer::notes)) {
            output::note(&format!("warning: {note}"));
        }
        let tokenizer_heap = heap.held();
        let model_name = args.model.display().to_string();
        Ok(Self { model, tokenizer, model_name, start, heap_peak, tokenizer_heap })
    }

    /// Warns of a prompt that begins with a `<bos>` of its own: no second one is put in front.
    pub fn note_own_bos(&self, text: &str, special: Special) -> Result<()> {
        if self.tokenizer()?.has_own_bos(text, special) {
            output::note("warning: the text already begins with <bos>, so no second one is added");
        }
        Ok(())
    }

    /// The tokenizer; without one there is no text.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        let Some(tokenizer) = &self.tokenizer else {
            bail!(
                "{}: there is no tokenizer.json beside the model; give one with --tokenizer FILE",
                self.model_name
            );
        };
        let (tokens, vocab) = (tokenizer.vocab_size(), self.model.config.vocab);
        if tokens > vocab {
            bail!(
                "the tokenizer has {tokens} tokens but the model has {vocab}: they do not belong together"
            );
        }
        Ok(tokenizer)
    }

    /// What it took until now.
    pub fn stats(&self, options: &Options) -> Stats {
        let gpu = &self.model.gpu;
        let report = gpu.allocator_report();
        Stats {
            adapter: gpu.adapter().to_string(),
            profile: options.profile(),
            ready_seconds: self.start.elapsed().as_secs_f64(),
            heap_peak_bytes: self.heap_peak,
            tokenizer_heap_bytes: self.tokenizer_heap,
            gpu_bytes: report.map_or(gpu.account().in_use(), |r| r.allocated),
            gpu_reserved_bytes: report.map(|r| r.reserved),
        }
    }
}

/// Streams a checkpoint onto the device, with a progress bar.
pub async fn load(
    options: &Options,
    gpu: &Gpu,
    checkpoint: &Checkpoint,
    how: impl Into<LoadOptions>,
) -> Result<Model> {
    let how = how.into();
    if let Some(available) = options.available(gpu) {
        check_fits(checkpoint, how, available)?;
    }
    let bar = Bar::of_bytes(options, "loading", 0);
    let progress = |state: hearth_gemma::LoadProgress| {
        bar.at_of(state.done, state.total);
        !interrupt::asked()
    };
    Ok(Model::load(gpu, checkpoint, how, progress).await?)
}

/// The tokenizer that was named, the one beside the model, or the one in it.
pub async fn tokenizer_of(
    files: &ModelFiles,
    checkpoint: &Checkpoint,
    named: Option<&Path>,
) -> Result<Option<Tokenizer>> {
    if named.is_none()
        && let Some(header) = checkpoint.gguf()
    {
        return Ok(Some(Tokenizer::from_gguf(header)?));
    }
    let Some(path) = named.or(files.tokenizer.as_deref()) else { return Ok(None) };
    let at = || format!("{}: reading the tokenizer", path.display());
    let files = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
    if is_gguf(&files) {
        // It may hold nothing but the vocabulary.
        let header = Header::read(&FileSource::open(&files)?).await?;
        return Ok(Some(Tokenizer::from_gguf(&header)?));
    }
    let bytes = std::fs::read(&files).with_context(at)?;
    Ok(Some(Tokenizer::from_json(&bytes).with_context(at)?))
}

/// Whether a file begins as GGUF does. One of less than four bytes does not; its reader says what is wrong with it.
pub fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = std::fs::File::open(path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic));
    read.is_ok() && magic == *b"GGUF"
}
