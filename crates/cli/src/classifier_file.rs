//! Opens a classifier's file on the model it was trained on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hearth_classifier::{bundle::Bundle, estimator::TextClassifier};

use crate::{output, run_folder::CLASSIFIER, session::Session};

/// Reads a classifier's file; a training run's folder stands for the one in it.
pub fn read(path: &Path) -> Result<Bundle> {
    let path: PathBuf = if path.is_dir() { path.join(CLASSIFIER) } else { path.to_owned() };
    let at = || format!("{}: reading the classifier", path.display());
    let bytes = std::fs::read(&path).with_context(at)?;
    Bundle::from_bytes(&bytes).with_context(at)
}

/// The classifier, ready to answer.
pub async fn open<'s>(session: &'s Session, bundle: &Bundle) -> Result<TextClassifier<'s>> {
    let (classifier, note) =
        TextClassifier::from_bundle(&session.model, session.tokenizer()?, bundle).await?;
    if let Some(note) = note {
        output::note(&format!("warning: {note}"));
    }
    Ok(classifier)
}
