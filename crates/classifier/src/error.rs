//! What can go wrong between a table and a classifier.

use hearth_formats::peft::PeftError;
use hearth_gemma::ModelError;
use thiserror::Error;

use crate::{
    bundle::BundleError, metrics::MetricsError, prompt::PromptError, recipe::RecipeError,
    split::SplitError,
};

/// Errors of training, scoring and keeping a classifier.
#[derive(Debug, Error)]
pub enum ClassifierError {
    /// The model or the device.
    #[error(transparent)]
    Model(ModelError),
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The prompt.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The split.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The adapter's files.
    #[error("the adapter: {0}")]
    Peft(#[from] PeftError),
    /// The classifier's file.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// No rows, or not as many labels as texts.
    #[error("{0}")]
    Rows(String),
    /// Three steps in a row were not finite.
    #[error(
        "training diverged: three steps in a row up to step {step} gave a loss or a gradient that is not a number, \
         and were skipped. Usually the learning rate ({rate:e}) is too high: try a tenth of it. If that does not help, \
         check the model with `hearth verify`"
    )]
    Diverged {
        /// The last of the three, from 1.
        step: usize,
        /// The recipe's rate.
        rate: f64,
    },
    /// A snapshot cannot be kept or read.
    #[error("snapshot: {0}")]
    Snapshot(String),
    /// There is no snapshot to resume from.
    #[error("there is no usable snapshot to resume from: start the run again, without resuming")]
    NothingToResume,
    /// The snapshot is of another run.
    #[error(
        "the snapshot belongs to another run: {}. Restore what changed, end that run as it stands and keep its \
         best (which any build and GPU can), or start a new run", in_words(.differences)
    )]
    AnotherRun {
        /// What differs.
        differences: Vec<Difference>,
    },
    /// The classifier and the model do not belong together.
    #[error(
        "this classifier was trained on another model: {what} was {expected}, this model has {found}: load that one"
    )]
    OtherModel {
        /// What differs.
        what: &'static str,
        /// In the classifier.
        expected: String,
        /// In the model.
        found: String,
    },
    /// The caller stopped a long call.
    #[error("stopped")]
    Stopped,
}

/// One difference between two runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name: `weights`, `build`, `data`, or a field of the recipe or the prompt.
    pub name: String,
    /// Both values, in words.
    pub words: String,
}

fn in_words(differences: &[Difference]) -> String {
    differences.iter().map(|d| d.words.as_str()).collect::<Vec<_>>().join("; ")
}

impl From<ModelError> for ClassifierError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Stopped => Self::Stopped,
            other => Self::Model(other),
        }
    }
}
