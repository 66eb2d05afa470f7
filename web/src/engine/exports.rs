//! What leaves by the user's own hand, and classifiers that come in.

use hearth_classifier::{
    bundle::{Bundle, MAX_BYTES},
    estimator::TextClassifier,
};
use hearth_formats::{gguf, peft};
use web_sys::Blob;

use super::{
    active::ActiveClassifier,
    model::Loaded,
    outbox::Reply,
    problem::{Problem, first},
    state::EngineState,
};
use crate::{
    protocol::FromEngine,
    storage::read_blob,
    wire::{BINARY, blob},
};

/// The classifier as one file.
pub fn export_bundle(using: &ActiveClassifier<'_>, name: &str) -> Result<Reply, Problem> {
    let bytes = using.to_blob(name)?;
    file(vec![(file_name(name, "hearth"), bytes)], "adapter, labels, prompt, threshold and figures")
}

/// The adapter as PEFT reads it.
pub fn export_peft(using: &ActiveClassifier<'_>, base_model: &str) -> Result<Reply, Problem> {
    let adapter = adapter(using, base_model)?;
    let files = vec![
        (peft::CONFIG_FILE.to_owned(), blob(adapter.config_json().as_bytes(), "application/json")?),
        (peft::WEIGHTS_FILE.to_owned(), blob(&adapter.to_safetensors()?, BINARY)?),
    ];
    file(files, "put both files into one folder for PeftModel.from_pretrained")
}

/// The adapter as llama.cpp reads it.
pub fn export_gguf(using: &ActiveClassifier<'_>, model: &Loaded) -> Result<Reply, Problem> {
    let architecture = model.model.config.gguf_architecture();
    let adapter = adapter(using, "")?;
    let bytes = gguf::lora::write(&adapter, architecture)?;
    file(vec![("adapter.gguf".to_owned(), blob(&bytes, BINARY)?)], "for llama.cpp's --lora")
}

fn adapter(using: &ActiveClassifier<'_>, base_model: &str) -> Result<peft::Adapter, Problem> {
    let adapter = using.classifier.to_peft(base_model);
    adapter.ok_or_else(|| {
        first("The untrained model has no adapter to export.", "Train a classifier first.")
    })
}

/// The report.
pub fn export_report(using: &ActiveClassifier<'_>, created: String) -> Result<Reply, Problem> {
    let none = || {
        first(
            "This classifier has no report: it was not trained in this browser, or an older version of the page stored it without one.",
            "Use the report that was exported with it, or train again here.",
        )
    };
    let mut report = using.report.clone().ok_or_else(none)?;
    report.created = created;
    let html = blob(report.to_html()?.as_bytes(), "text/html")?;
    file(vec![(file_name(&using.name, "html"), html)], "opens in any browser, offline")
}

/// A classifier's file on its model.
pub async fn open_bundle<'m>(
    state: &mut EngineState,
    loaded: &'m Loaded,
    bundle: &Blob,
    name: Option<&str>,
) -> Result<ActiveClassifier<'m>, Problem> {
    let size = bundle.size() as u64;
    if size > MAX_BYTES as u64 {
        return Err(Problem::new(
            format!("A file of {} MB is too large to be a classifier.", size >> 20),
            "Choose a .hearth file.",
        ));
    }
    let bytes = read_blob(bundle, 0, size).await?.to_vec();
    let bundle = Bundle::from_bytes(&bytes)?;
    let (classifier, note) =
        TextClassifier::from_bundle(&loaded.model, &loaded.tokenizer, &bundle).await?;
    let kept = bundle.classifier;
    Ok(ActiveClassifier {
        id: state.next_id(),
        classifier,
        name: name.map_or(kept.name, str::to_owned),
        base: kept.base.name,
        recipe: kept.recipe,
        spec: kept.prompt,
        evaluation: kept.evaluation,
        note,
        report: None,
        origin: kept.origin,
        own: None,
        measured: None,
        run: None,
    })
}

fn file(files: Vec<(String, Blob)>, note: &str) -> Result<Reply, Problem> {
    let (names, blobs) = files.into_iter().unzip();
    Ok((FromEngine::File { names, note: note.to_owned() }, blobs))
}

/// A name that every system takes.
fn file_name(name: &str, ending: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_. ".contains(c) { c } else { '-' };
    let stem: String = name.trim().chars().take(80).map(plain).collect();
    let stem =
        if stem.trim_matches(['-', '.', ' ']).is_empty() { "classifier".to_owned() } else { stem };
    format!("{stem}.{ending}")
}
