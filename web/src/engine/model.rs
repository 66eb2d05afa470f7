//! The GPU and the model on it.

use std::{cell::RefCell, rc::Rc};

use hearth_formats::{
    checkpoint::Checkpoint,
    source::{ByteSource, read_vec},
    tokenizer::Tokenizer,
};
use hearth_gemma::{Embedding, LoadOptions, Model, config_and_notes};
use hearth_gpu::{Gpu, GpuOptions};
use web_sys::Blob;
use web_time::Instant;

use super::{blob_source::BlobSource, problem::Problem, request::Request};
use crate::{
    protocol::{
        BadPiece, FromEngine, GpuSummary, ModelFile, ModelSummary, ToEngine, WeightsAs, on_page,
    },
    weights::precision,
};

/// Bytes by which a program's memory grows.
const WASM_PAGE: u64 = 65_536;

/// A model that can be used.
pub struct Loaded {
    pub model: Model,
    pub tokenizer: Tokenizer,
    pub summary: ModelSummary,
}

/// The GPU, opened once.
pub async fn gpu(opened: &mut Option<Gpu>) -> Result<Gpu, Problem> {
    match opened {
        Some(gpu) if !gpu.is_lost() => Ok(gpu.clone()),
        _ => {
            let gpu = Gpu::open(&GpuOptions::default()).await?;
            *opened = Some(gpu.clone());
            Ok(gpu)
        }
    }
}

/// The GPU in words.
pub fn summary(gpu: &Gpu) -> GpuSummary {
    let capabilities = gpu.capabilities();
    GpuSummary {
        software: capabilities.software,
        f16: capabilities.f16,
        max_binding: gpu.max_binding(),
        name: gpu.adapter().name.clone(),
    }
}

/// Loads the model that the request names.
pub async fn load(
    opened: &mut Option<Gpu>,
    request: &Request,
    body: ToEngine,
    blobs: Vec<Blob>,
) -> Result<Loaded, Problem> {
    let ToEngine::LoadModel { name, files, weights } = body else {
        return Err(Problem::new("This request does not load a model.", "Reload the page."));
    };
    let bad = Rc::new(RefCell::new(None));
    let loaded = load_files(opened, request, name, &files, weights, blobs, &bad).await;
    let piece: Option<BadPiece> = bad.borrow_mut().take();
    match (loaded, piece) {
        (Err(Problem::Failed(mut failure)), Some(piece)) => {
            failure.piece = Some(piece);
            failure.advice = "The damaged piece is downloaded again; the rest is kept.".to_owned();
            Err(Problem::Failed(failure))
        }
        (loaded, _) => loaded,
    }
}

async fn load_files(
    opened: &mut Option<Gpu>,
    request: &Request,
    name: String,
    files: &[ModelFile],
    weights: WeightsAs,
    blobs: Vec<Blob>,
    bad: &Rc<RefCell<Option<BadPiece>>>,
) -> Result<Loaded, Problem> {
    let start = Instant::now();
    if files.is_empty() || files.len() != blobs.len() {
        return Err(Problem::new("The model's files are missing.", "Choose them again."));
    }
    let gpu = gpu(opened).await?;
    let before = gpu.account().in_use();
    let source = |(file, blob): (&ModelFile, Blob)| {
        Rc::new(BlobSource::new(&file.name, blob, file.pieces.clone(), bad.clone()))
    };
    let blobs: Vec<Rc<BlobSource>> = files.iter().zip(blobs).map(source).collect();
    let sources: Vec<Rc<dyn ByteSource>> =
        blobs.iter().map(|blob| blob.clone() as Rc<dyn ByteSource>).collect();
    let checkpoint = Checkpoint::open(sources.clone()).await?;
    request.check()?;
    // another model has another tokenizer: what it is matters more
    config_and_notes(&checkpoint)?;
    // before the weights: where it is missing, that should not take minutes to find out
    let tokenizer = tokenizer(&checkpoint, &sources).await?;
    // classes need a few rows of the vocabulary's table; what needs all of it loads it behind
    let options = LoadOptions {
        precision: precision(weights, &checkpoint),
        embedding: Embedding::FromSource,
    };
    let model = Model::load(&gpu, &checkpoint, options, |state| {
        request.tell_now_and_then(|| FromEngine::Loading { done: state.done, total: state.total });
        !request.is_cancelled()
    });
    let model = model.await?;
    for blob in &blobs {
        blob.check_rest(|| !request.is_cancelled()).await?;
    }
    request.check()?;
    let (tokens, vocabulary) = (tokenizer.vocab_size(), model.config.vocab);
    if tokens > vocabulary {
        return Err(Problem::new(
            format!(
                "The tokenizer has {tokens} tokens but the model has {vocabulary}: they do not belong together."
            ),
            "Choose files of the same model.",
        ));
    }
    let lower = name.to_lowercase();
    let summary = ModelSummary {
        family: model.config.gguf_architecture().to_owned(),
        layers: model.config.layers.len(),
        hidden: model.config.hidden,
        vocabulary,
        max_positions: model.max_positions(),
        gpu_bytes: gpu.account().in_use() - before.min(gpu.account().in_use()),
        tab_bytes: core::arch::wasm32::memory_size(0) as u64 * WASM_PAGE,
        identity: model.identity.clone(),
        instruct: lower.contains("-it") || lower.contains("instruct"),
        notes: model.notes.iter().chain(tokenizer.notes()).map(|note| on_page(note)).collect(),
        seconds: start.elapsed().as_secs_f64(),
        name,
    };
    Ok(Loaded { model, tokenizer, summary })
}

async fn tokenizer(
    checkpoint: &Checkpoint,
    sources: &[Rc<dyn ByteSource>],
) -> Result<Tokenizer, Problem> {
    if let Some(header) = checkpoint.gguf() {
        return Ok(Tokenizer::from_gguf(header)?);
    }
    let missing = || {
        Problem::new(
            "These files have no tokenizer.json, which is needed to read text.",
            "Choose all files of the model, including tokenizer.json.",
        )
    };
    let file = sources.iter().find(|s| s.name() == "tokenizer.json").ok_or_else(missing)?;
    Ok(Tokenizer::from_json(&read_vec(&**file, 0, file.len()).await?)?)
}
