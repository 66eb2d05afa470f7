//! The adapter alone: a PEFT folder with a model card, or a GGUF file for llama.cpp.

use std::path::Path;

use anyhow::Result;
use hearth_classifier::card::model_card;
use hearth_formats::{
    gguf::lora,
    peft::{Base, CONFIG_FILE, WEIGHTS_FILE},
};

use super::{check_free, open_folder, write};
use crate::{Outcome, classifier_file, options::Options, output};

/// Name of a model card.
const CARD: &str = "README.md";

/// Writes a PEFT folder.
pub async fn peft(
    options: &Options,
    classifier: &Path,
    out: &Path,
    base_model: &str,
    force: bool,
) -> Result<Outcome> {
    let bundle = classifier_file::read(classifier)?;
    open_folder(out, &[WEIGHTS_FILE, CONFIG_FILE, CARD], force)?;
    let mut config = bundle.adapter_config.clone();
    if !base_model.is_empty() {
        let mut adapter = bundle.read_adapter().await?;
        adapter.base = Base { name: base_model.to_owned(), ..adapter.base };
        config = adapter.config_json();
    }
    write(&out.join(WEIGHTS_FILE), &bundle.adapter)?;
    write(&out.join(CONFIG_FILE), config.as_bytes())?;
    let card = model_card(&bundle.classifier, None, base_model);
    write(&out.join(CARD), card.as_bytes())?;
    let files = [WEIGHTS_FILE, CONFIG_FILE, CARD];
    say(options, out, &files)
}

/// Writes a GGUF adapter.
pub async fn gguf(
    options: &Options,
    classifier: &Path,
    out: &Path,
    force: bool,
) -> Result<Outcome> {
    let bundle = classifier_file::read(classifier)?;
    check_free(out, force)?;
    // the bundle's names of Gemmas are those of GGUF, but for the first
    let architecture = match bundle.classifier.base.architecture.as_str() {
        "gemma1" => "gemma",
        other => other,
    };
    write(out, &lora::write(&bundle.read_adapter().await?, architecture)?)?;
    say(options, out, &[])
}

fn say(options: &Options, out: &Path, files: &[&str]) -> Result<Outcome> {
    let path = out.display().to_string();
    if options.json {
        output::json(&serde_json::json!({ "out": path, "files": files }))?;
    } else if files.is_empty() {
        output::line(&format!("written: {path}"))?;
    } else {
        output::line(&format!("written to {path}: {}", files.join(", ")))?;
    }
    Ok(Outcome::Done)
}
