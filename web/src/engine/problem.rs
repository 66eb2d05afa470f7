//! What goes wrong, in words for the user: what happened, and what to do.

use hearth_classifier::{
    bundle::BundleError, columns::ColumnsError, error::ClassifierError,
    predictions::PredictionsError, prepare::PrepareError, prompt::PromptError, table::TableError,
};
use hearth_formats::{
    checkpoint::CheckpointError, peft::PeftError, source::SourceError, tokenizer::TokenizerError,
};
use hearth_gemma::ModelError;
use hearth_gpu::GpuError;

use crate::{protocol::Failure, storage::StorageError};

/// Why a request has no result.
#[derive(Debug)]
pub enum Problem {
    /// The page gave it up.
    Cancelled,
    /// It failed.
    Failed(Failure),
}

impl Problem {
    pub fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Failed(Failure::new(what, advice))
    }
}

/// Something else has to be done first.
pub fn first(what: &str, advice: &str) -> Problem {
    Problem::new(what, advice)
}

impl From<GpuError> for Problem {
    fn from(error: GpuError) -> Self {
        let what = error.to_string();
        match error {
            GpuError::Lost(_) => Self::Failed(Failure {
                what:
                    "The GPU was lost: its driver was reset, or the computer was asleep too long."
                        .to_owned(),
                advice: "The engine restarts.".to_owned(),
                fatal: true,
                piece: None,
            }),
            GpuError::OutOfMemory { .. } | GpuError::TooLarge { .. } => Self::new(
                what,
                "Choose a smaller model, a lower rank or shorter texts, or close other programs and tabs.",
            ),
            GpuError::NoAdapter(_) => Self::new(
                "This browser offers no GPU.",
                "Use a current Chrome or Edge (113 or newer), Firefox 141 or newer, or Safari 26 or newer, and \
                 check that hardware acceleration is on. On Linux, Chrome may need chrome://flags/#enable-unsafe-webgpu.",
            ),
            _ => Self::new(what, ""),
        }
    }
}

impl From<ModelError> for Problem {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Stopped => Self::Cancelled,
            ModelError::Gpu(error) => error.into(),
            other => Self::new(other.to_string(), ""),
        }
    }
}

impl From<ClassifierError> for Problem {
    fn from(error: ClassifierError) -> Self {
        match error {
            ClassifierError::Stopped => Self::Cancelled,
            ClassifierError::Model(error) => error.into(),
            other => Self::new(other.to_string(), ""),
        }
    }
}

impl From<wasm_bindgen::JsValue> for Problem {
    fn from(error: wasm_bindgen::JsValue) -> Self {
        Self::new(crate::wire::words(&error), "")
    }
}

macro_rules! as_told {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Problem {
            fn from(error: $kind) -> Self {
                Self::new(error.to_string(), "")
            }
        }
    )*};
}

// their texts say what to do
as_told!(
    BundleError,
    CheckpointError,
    ColumnsError,
    PeftError,
    PredictionsError,
    PrepareError,
    PromptError,
    SourceError,
    StorageError,
    TableError,
    TokenizerError,
    hearth_classifier::metrics::MetricsError,
    hearth_classifier::plots::PlotError
);
