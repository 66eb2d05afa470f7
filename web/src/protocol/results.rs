//! Training and measuring in messages.

use hearth_classifier::{
    calibration::CalibrationBin,
    history::{History, Step},
    metrics::Evaluation,
    prompt::PromptSpec,
    recipe::Recipe,
};
use serde::{Deserialize, Serialize};

/// How training comes along.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct TrainProgress {
    /// The run's key.
    pub key: String,
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// The epoch, from 1.
    pub epoch: usize,
    /// Epochs in all.
    pub epochs: usize,
    /// Steps that are new since the last message; the first message of a request brings all.
    pub new_steps: Vec<Step>,
    /// Rows a second.
    pub rows_per_second: f64,
    /// Tokens computed.
    pub tokens: u64,
    /// Tokens that padded batches would have computed.
    pub padded_tokens: u64,
    /// Seconds left.
    pub seconds_left: Option<f64>,
    /// Validation rows scored, of how many.
    pub validating: Option<(usize, usize)>,
    /// GPU memory in use, in bytes.
    pub gpu_bytes: u64,
}

/// A test row and its scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ScoredRow {
    /// Data row in the file, from 1.
    pub row: usize,
    /// The text; empty where the run was kept and opened again, which keeps no texts.
    pub text: String,
    /// Its class.
    pub truth: usize,
    /// Calibrated probabilities `[C]`.
    pub probabilities: Vec<f64>,
}

/// Figures on the test rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Evaluated {
    /// Figures, with intervals.
    pub evaluation: Evaluation,
    /// The rows.
    pub rows: Vec<ScoredRow>,
    /// Calibration without the temperature.
    pub calibration_before: Vec<CalibrationBin>,
    /// Rows scored a second.
    pub rows_per_second: f64,
    /// The table's name.
    pub data: String,
    /// Rows that the classifier was trained on and that are left out here.
    pub left_out: usize,
    /// Whether the classifier knows which rows it was trained on.
    pub training_known: bool,
}

/// A text's probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Classified {
    /// The classes, in the order of the probabilities.
    pub classes: Vec<String>,
    /// Calibrated; empty where a newer text overtook this one.
    pub probabilities: Vec<f64>,
    /// The predicted class.
    pub predicted: usize,
    /// Whether the text was cut.
    pub cut: bool,
    /// Milliseconds it took.
    pub milliseconds: f64,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It trains, or the tab was closed while it did.
    Running,
    /// It trains in another tab. The list says so; no record is stored with it.
    Elsewhere,
    /// Paused.
    Paused,
    /// Trained and measured.
    Finished,
}

/// A run as it is kept: for the list, the comparison and for going on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct RunRecord {
    /// Names the run's files.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// Milliseconds since 1970.
    pub started: f64,
    /// Where it stands.
    pub state: RunState,
    /// The model's name.
    pub model: String,
    /// The model's identity; a run goes on only with the same model.
    pub model_identity: String,
    /// The data file's name.
    pub data: String,
    /// Class names.
    pub classes: Vec<String>,
    /// The prompt.
    pub spec: PromptSpec,
    /// The recipe.
    pub recipe: Recipe,
    /// Device memory that was allowed, in bytes.
    pub memory: u64,
    /// Whether the untrained model is measured too.
    pub zero_shot: bool,
    /// Rows that train, choose and measure.
    pub rows: [usize; 3],
    /// What happened so far.
    pub history: History,
    /// Figures on the test rows.
    pub test: Option<Evaluation>,
    /// Figures on the validation rows.
    pub validation: Option<Evaluation>,
    /// Figures of the untrained model on the test rows.
    pub zero_shot_test: Option<Evaluation>,
    /// Seconds of training.
    pub seconds: f64,
    /// Tokens computed.
    pub tokens: u64,
    /// Most GPU memory, in bytes.
    pub gpu_bytes: u64,
    /// False where the browser keeps nothing: the run ends with the tab.
    pub kept: bool,
}

/// What a run takes in the browser's storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct StoredRun {
    /// [`RunRecord::key`].
    pub key: String,
    /// Its name for people; empty where this build cannot read it.
    pub name: String,
    /// The name of the table of which a copy is kept with it; none where there is no copy.
    pub table: Option<String>,
    /// Bytes of everything that is kept of it.
    pub bytes: u64,
    /// Why this build or machine cannot resume it, once the model it began with is loaded.
    pub not_resumed: Option<String>,
}

/// A sum of the self-test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct SelfTestRow {
    /// What was computed.
    pub name: String,
    /// Relative difference.
    pub relative: f64,
    /// Most that is allowed.
    pub limit: f64,
    /// Whether it is right.
    pub ok: bool,
}
