//! Models, data and choices in messages.

use hearth_classifier::{
    columns::{
        BadRows, ClassCount, LabelChoices, LabelFindings, LabelRule, Roles, TextSource,
        TokenHistogram,
    },
    metrics::Evaluation,
    origin::{TextReading, ThresholdFrom},
    prepare::SplitChoice,
    prompt::PromptSpec,
    table::{Dialect, TableOptions},
};
use hearth_gemma::plan::MemoryPlan;
use serde::{Deserialize, Serialize};

use super::{Evaluated, RunRecord};

/// The GPU in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct GpuSummary {
    /// The browser's name for it; may be empty.
    pub name: String,
    /// A CPU pretends to be a GPU: everything takes long.
    pub software: bool,
    /// `shader-f16` is there.
    pub f16: bool,
    /// Largest buffer in one binding, in bytes.
    pub max_binding: u64,
}

/// How weights are held on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum WeightsAs {
    /// Floats of a large model become 4 bits: see [`crate::weights`].
    #[default]
    Auto,
    /// As in the file.
    Exact,
    /// Floats become 8 bits.
    Q8,
    /// Floats become 4 bits.
    Q4,
}

/// A file of a model; its bytes ride along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ModelFile {
    /// Its name, without a path.
    pub name: String,
    /// Hashes of its pieces, made while it was downloaded.
    pub pieces: Option<PieceHashes>,
}

/// A sha256 for every piece of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct PieceHashes {
    /// Bytes of a piece; the last may be shorter.
    pub size: u64,
    /// In hex, in order.
    pub sha256: Vec<String>,
}

/// A loaded model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ModelSummary {
    /// Its name for people.
    pub name: String,
    /// `gemma`, `gemma2`, `gemma3`.
    pub family: String,
    /// Layers.
    pub layers: usize,
    /// Width.
    pub hidden: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Longest text in tokens.
    pub max_positions: usize,
    /// Bytes on the GPU.
    pub gpu_bytes: u64,
    /// Bytes of the engine's own memory in the tab, which never shrinks: what loading took at most.
    pub tab_bytes: u64,
    /// Tells models apart.
    pub identity: String,
    /// Whether it was tuned to chat, as far as its tokenizer and name tell.
    pub instruct: bool,
    /// What the user should know of how its files were read.
    pub notes: Vec<String>,
    /// Seconds it took.
    pub seconds: f64,
}

/// A table that was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct DataPreview {
    /// The file's name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// How it was read.
    pub dialect: Dialect,
    /// What was overridden.
    pub options: TableOptions,
    /// Each part of the reading: its name, what was found, and how sure that is.
    pub reading: Vec<(String, String)>,
    /// What is unusual or could be read otherwise, in words.
    pub warnings: Vec<String>,
    /// Column names.
    pub columns: Vec<String>,
    /// Rows in all.
    pub rows: usize,
    /// The first rows; long cells are cut.
    pub first: Vec<Vec<String>>,
    /// What the columns seem to be.
    pub roles: Roles,
    /// Different values of each column with at most 50, most frequent first, with their rows; none for others.
    pub values: Vec<Option<Vec<(String, usize)>>>,
    /// Whether every cell of a column is a number.
    pub numeric: Vec<bool>,
    /// What was chosen, where a run that is gone on with brings its own data.
    pub choices: Option<DataChoices>,
    /// Told while a run is gone on with: more follows.
    pub on_the_way: bool,
}

/// What the user says about a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct DataChoices {
    /// What the columns are.
    pub roles: Roles,
    /// How cells become classes.
    pub rule: LabelRule,
    /// The class to find, of two.
    pub positive: Option<String>,
    /// Leave out rows without text or label.
    pub drop_bad: bool,
    /// Labels to unite or to leave out.
    #[serde(default)]
    pub labels: LabelChoices,
    /// Parts.
    pub split: SplitChoice,
    /// Use only so many training rows, of every class its share.
    pub limit: Option<usize>,
    /// Share of the training rows that choose; the recipe's counts once training starts.
    pub validation_share: f64,
    /// Of the random split into training and test rows. It has nothing to do with the recipe's, so that trainings
    /// with different seeds are measured on the same rows.
    pub seed: u64,
    /// Of the validation rows; the recipe's counts once training starts. Runs of earlier versions have none: there
    /// [`Self::seed`] counts for both.
    #[serde(default)]
    pub validation_seed: Option<u64>,
}

/// What came out of the choices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct DataReport {
    /// Class names; of two the positive one is last.
    pub classes: Vec<String>,
    /// Place of the positive class.
    pub positive: Option<usize>,
    /// Rows of each class, all parts.
    pub all: Vec<ClassCount>,
    /// Rows of each class that train.
    pub train: Vec<ClassCount>,
    /// Rows of each class that choose.
    pub validation: Vec<ClassCount>,
    /// Rows of each class that measure.
    pub test: Vec<ClassCount>,
    /// How the rows were split, in words.
    pub split: String,
    /// Rows left out.
    pub dropped: BadRows,
    /// Test rows whose text also trains, by data row.
    pub duplicates: Vec<usize>,
    /// Prompt lengths, once a model is loaded.
    pub tokens: Option<TokenHistogram>,
    /// Rows whose text is cut to fit.
    pub cut: usize,
    /// What stands out among the labels.
    pub findings: LabelFindings,
    /// The prompt's limit that the classes need, where it is more than the usual one.
    pub max_tokens: Option<usize>,
    /// Warnings, in words.
    pub warnings: Vec<String>,
    /// Told while a run is gone on with: more follows.
    pub on_the_way: bool,
}

/// A prompt filled with a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct FilledPrompt {
    /// The data row in the file, from 1.
    pub row: usize,
    /// As the model reads it.
    pub text: String,
    /// Its tokens.
    pub tokens: usize,
    /// Whether the text was cut.
    pub cut: bool,
    /// What the model answers for each class: its word, or a code.
    pub answers: Vec<String>,
    /// The token of each class.
    pub class_tokens: Vec<u32>,
    /// The row's class.
    pub label: String,
}

/// What training would take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct PlanReport {
    /// Memory, part by part.
    pub memory: MemoryPlan,
    /// Optimizer steps.
    pub steps: usize,
    /// Tokens of all training rows, all epochs.
    pub tokens: u64,
    /// Time, by this machine's speed.
    pub time: TimePlan,
    /// Training and validation rows.
    pub rows: usize,
}

/// How long a run takes, in minutes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct TimePlan {
    /// Training, and validation after each epoch: in proportion to the rows.
    pub training: f64,
    /// Evaluation on the test rows, of the untrained model too where that is asked for.
    pub testing: f64,
}

impl TimePlan {
    /// The whole run.
    pub fn total(&self) -> f64 {
        self.training + self.testing
    }

    /// The whole run, if it had `rows` training and validation rows instead of `of`.
    pub fn with_rows(&self, rows: usize, of: usize) -> f64 {
        self.training * rows as f64 / of.max(1) as f64 + self.testing
    }
}

/// The classifier in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ClassifierSummary {
    /// Tells the classifiers apart that were in use since the engine started.
    pub id: u64,
    /// Key of its run, where it is one of this browser's.
    pub run: Option<String>,
    /// Its name.
    pub name: String,
    /// Class names, in the order of the probabilities.
    pub classes: Vec<String>,
    /// Place of the positive class.
    pub positive: Option<usize>,
    /// The prompt.
    pub prompt: PromptSpec,
    /// The positive class is predicted from this probability on.
    pub threshold: f64,
    /// Class logits are divided by this.
    pub temperature: f64,
    /// Name of the model it was trained on.
    pub base: String,
    /// How good it was.
    pub evaluation: Option<Evaluation>,
    /// How this model differs from the one it was trained on.
    pub note: Option<String>,
    /// How its texts were read; unknown for classifiers of earlier versions.
    pub reading: Option<TextReading>,
    /// Which rows chose the threshold.
    pub threshold_from: Option<ThresholdFrom>,
    /// Whether its report can be made.
    pub has_report: bool,
}

/// The classifier in use, and the results that belong to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct InUse {
    /// The classifier.
    pub classifier: ClassifierSummary,
    /// Its run, where it is one of this browser's.
    pub run: Option<RunRecord>,
    /// The rows that measured it, where they are known.
    pub test: Option<Evaluated>,
}

/// A table to be classified, as it would be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct FilePreview {
    /// The file's name.
    pub name: String,
    /// How it was read.
    pub dialect: Dialect,
    /// What was given for that.
    pub options: TableOptions,
    /// Column names.
    pub columns: Vec<String>,
    /// Rows in all.
    pub rows: usize,
    /// The first rows; long cells are cut.
    pub first: Vec<Vec<String>>,
    /// Where the texts come from; none where the user has to say it.
    pub text: Option<TextSource>,
    /// Whether the text's column is guessed: the classifier does not know how its own texts were read.
    pub guessed: bool,
    /// How the classifier's texts were read.
    pub trained: Option<TextReading>,
    /// Columns that the classifier's text needs and the table lacks.
    pub missing: Vec<String>,
    /// What is unusual or could be read otherwise, in words.
    pub warnings: Vec<String>,
}
