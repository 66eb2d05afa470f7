//! Between the page and the engine.

use hearth_classifier::{
    columns::TextSource, history::Epoch, prompt::PromptSpec, recipe::Recipe, table::TableOptions,
};
use serde::{Deserialize, Serialize};

use super::{
    Classified, ClassifierSummary, DataChoices, DataPreview, DataReport, Evaluated, FilePreview,
    FilledPrompt, GpuSummary, InUse, ModelFile, ModelSummary, PlanReport, RunRecord, SelfTestRow,
    StoredRun, Traffic, TrainProgress, WeightsAs, on_page,
};

/// From the page to the engine. Everything but `Cancel`, `Pause` and `Stop` is done in order, one after the
/// other; of several `Classify` that wait only the newest is answered in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum ToEngine {
    /// Open the GPU and say which it is: [`FromEngine::Gpu`].
    OpenGpu,
    /// Compute known sums on the GPU: [`FromEngine::SelfTested`].
    SelfTest,
    /// Load a model; a blob rides along for every file. [`FromEngine::Loading`], then
    /// [`FromEngine::ModelReady`]. The model before is given up first.
    LoadModel {
        /// The model's name for people.
        name: String,
        /// Its files, in the order of the blobs.
        files: Vec<ModelFile>,
        /// How weights are held.
        weights: WeightsAs,
    },
    /// Read a table; one blob. [`FromEngine::Reading`], then [`FromEngine::Data`].
    OpenData {
        /// The file's name.
        name: String,
        /// What the user knows better than the guess.
        options: TableOptions,
    },
    /// Read the same file again with other options; answered like `OpenData`.
    ReadAgain {
        /// What the user knows better than the guess.
        options: TableOptions,
    },
    /// Say what the columns mean: [`FromEngine::Prepared`]. Token lengths are there once a model is loaded.
    SetRoles {
        /// The choices.
        choices: DataChoices,
        /// For token lengths.
        spec: PromptSpec,
    },
    /// Fill the prompt with a row: [`FromEngine::Prompt`]. Needs a model and [`ToEngine::SetRoles`].
    FillPrompt {
        /// The prompt.
        spec: PromptSpec,
        /// Place among the usable rows.
        row: usize,
    },
    /// What training would take: [`FromEngine::Planned`].
    Plan {
        /// The prompt.
        spec: PromptSpec,
        /// The recipe.
        recipe: Recipe,
        /// Device memory that may be used, in bytes.
        memory: u64,
        /// Whether the untrained model is evaluated too.
        zero_shot: bool,
    },
    /// Measure the untrained model on the test rows: [`FromEngine::Scoring`], [`FromEngine::Evaluated`].
    ZeroShot {
        /// The prompt.
        spec: PromptSpec,
    },
    /// Train and measure: [`FromEngine::Training`], [`FromEngine::Scoring`], then [`FromEngine::Trained`], or
    /// [`FromEngine::Paused`]. The run can be gone on with after the tab was closed.
    Train {
        /// The run's name for people.
        name: String,
        /// The prompt.
        spec: PromptSpec,
        /// The recipe.
        recipe: Recipe,
        /// Device memory that may be used, in bytes.
        memory: u64,
        /// Measure the untrained model on the test rows too.
        zero_shot: bool,
    },
    /// Go on with a run that was paused or broken off; answered like `Train`, after [`FromEngine::Data`] and
    /// [`FromEngine::Prepared`] of that run.
    ResumeRun {
        /// [`RunRecord::key`].
        key: String,
    },
    /// Save a snapshot and pause the training: its request ends with [`FromEngine::Paused`].
    Pause,
    /// End the training now and keep the best so far: its request ends with [`FromEngine::Trained`].
    Stop,
    /// End a paused or broken-off run and keep its best; answered like `ResumeRun`.
    FinishRun {
        /// [`RunRecord::key`].
        key: String,
    },
    /// Measure the classifier in use on the data's test rows: [`FromEngine::Evaluated`].
    Evaluate,
    /// The probabilities of a text: [`FromEngine::Classified`].
    Classify {
        /// The text.
        text: String,
    },
    /// From which probability on the positive class is predicted, chosen on the rows that measured the classifier in
    /// use: [`FromEngine::InUse`] with their figures at that threshold.
    SetThreshold {
        /// 0 to 1.
        threshold: f64,
        /// The classifier whose rows were looked at, by [`ClassifierSummary::id`].
        classifier: u64,
    },

    /// Let the base model write on: [`FromEngine::Wrote`], then [`FromEngine::Written`].
    Generate {
        /// The text to continue.
        prompt: String,
        /// How.
        writing: Writing,
    },
    /// Read a table that is to be classified; one blob. [`FromEngine::Reading`], then [`FromEngine::FilePreview`].
    PreviewFile {
        /// The file's name.
        name: String,
        /// How to read it; none: as the classifier's training table, or by its own look.
        options: Option<TableOptions>,
    },
    /// Add predictions to a table; one blob. [`FromEngine::Reading`], [`FromEngine::Scoring`], then
    /// [`FromEngine::File`].
    ClassifyFile {
        /// The file's name.
        name: String,
        /// How to read it.
        options: TableOptions,
        /// Where the texts come from; none: as in training, or guessed where that is not known.
        text: Option<TextSource>,
        /// Guard cells that a spreadsheet would run as formulas.
        for_spreadsheets: bool,
    },
    /// The classifier as one file: [`FromEngine::File`].
    ExportBundle {
        /// Its name.
        name: String,
    },
    /// The adapter as PEFT reads it: [`FromEngine::File`] with two blobs.
    ExportPeft {
        /// What PEFT is to find the base model by; may be empty.
        base_model: String,
    },
    /// The adapter as llama.cpp reads it: [`FromEngine::File`].
    ExportGguf,
    /// The report of the run in use: [`FromEngine::File`].
    ExportReport {
        /// The date, in the user's words.
        created: String,
    },
    /// Open a classifier's file; one blob. [`FromEngine::Classifier`].
    OpenBundle,
    /// All kept runs: [`FromEngine::Runs`].
    ListRuns,
    /// Take a finished run's classifier into use: [`FromEngine::InUse`].
    OpenRun {
        /// [`RunRecord::key`].
        key: String,
    },
    /// Forget a run: [`FromEngine::Runs`].
    DeleteRun {
        /// [`RunRecord::key`].
        key: String,
    },
    /// Forget every run: [`FromEngine::Runs`].
    DeleteRuns,
    /// Give up a request; it ends with [`FromEngine::Cancelled`] unless it is done already.
    Cancel {
        /// Its id.
        request: u64,
    },
}

impl ToEngine {
    /// Whether it asks for a training, which can be paused.
    pub fn trains(&self) -> bool {
        matches!(self, Self::Train { .. } | Self::ResumeRun { .. } | Self::FinishRun { .. })
    }
}

/// How the base model writes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Writing {
    /// Most tokens.
    pub max_tokens: usize,
    /// 0 always takes the likeliest token.
    pub temperature: f32,
    /// Draw from so many of the likeliest; 0: from all.
    pub top_k: usize,
    /// Draw from the likeliest that reach this probability together; 1: from all.
    pub top_p: f32,
    /// Of the draws.
    pub seed: u64,
    /// Put the prompt into the chat form of instruct models.
    pub chat: bool,
}

impl Default for Writing {
    fn default() -> Self {
        Self { max_tokens: 64, temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0, chat: false }
    }
}

/// From the engine to the page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[allow(clippy::large_enum_variant)] // each is made once and read once
pub enum FromEngine {
    /// The engine listens now, under a policy that keeps it from foreign hosts. Unasked.
    Ready {
        /// The policy's answer to an attempt at leaving, in words.
        policy: String,
    },
    /// The engine does not start. Unasked.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
    /// What the engine asked the network for. Unasked.
    Traffic(Traffic),
    /// Something the user should know; the request goes on.
    Warning {
        /// In words.
        what: String,
    },
    /// The GPU in use.
    Gpu(GpuSummary),
    /// The self-test's sums.
    SelfTested {
        /// A line a kernel.
        rows: Vec<SelfTestRow>,
    },
    /// A model comes along.
    Loading {
        /// Bytes on the device.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The model can be used.
    ModelReady(ModelSummary),
    /// A table is read.
    Reading {
        /// Bytes read.
        bytes: u64,
        /// Bytes in all.
        total: u64,
        /// Rows read.
        rows: u64,
    },
    /// The table.
    Data(DataPreview),
    /// Classes, parts, warnings.
    Prepared(DataReport),
    /// The filled prompt.
    Prompt(FilledPrompt),
    /// What training would take.
    Planned(PlanReport),
    /// Rows are scored.
    Scoring {
        /// For what: "zero-shot", "testing", "predicting".
        what: String,
        /// Rows handed over.
        done: usize,
        /// Rows in all.
        of: usize,
    },
    /// Training comes along.
    Training(TrainProgress),
    /// An epoch ended.
    EpochEnded(Epoch),
    /// Trained, and measured unless that was stopped. The classifier is in use.
    Trained {
        /// The run as it is kept.
        run: RunRecord,
        /// On the test rows.
        test: Option<Evaluated>,
        /// As it is in use.
        classifier: ClassifierSummary,
    },
    /// The run stands still; `ResumeRun` goes on.
    Paused {
        /// The run as it is kept.
        run: RunRecord,
    },
    /// Figures on the test rows.
    Evaluated(InUse),
    /// A text's probabilities. Without any, a newer text overtook this one.
    Classified(Classified),
    /// A piece of generated text.
    Wrote {
        /// To be put behind the others.
        text: String,
    },
    /// The text is finished.
    Written {
        /// Tokens written.
        tokens: usize,
        /// Tokens a second.
        tokens_per_second: f64,
    },
    /// Files to save; a blob rides along for every name.
    File {
        /// Their names.
        names: Vec<String>,
        /// What they are, in words.
        note: String,
    },
    /// The classifier in use.
    Classifier(ClassifierSummary),
    /// The classifier in use, and the results that belong to it.
    InUse(InUse),
    /// A table to be classified.
    FilePreview(FilePreview),
    /// What runs take in the browser's storage: told when a training starts, and before [`Self::Runs`].
    Stored(Vec<StoredRun>),
    /// A run that was trained in another tab is so no more. Unasked.
    RunsChanged,
    /// The kept runs, newest first.
    Runs {
        /// The runs.
        runs: Vec<RunRecord>,
    },
    /// The request was given up, as asked.
    Cancelled,
    /// The request is done and has no result.
    Done,
    /// The request failed. The engine goes on.
    Failed(Failure),
}

impl FromEngine {
    /// Whether this is the last message of its request.
    pub fn ends(&self) -> bool {
        match self {
            Self::Warning { .. }
            | Self::Loading { .. }
            | Self::Reading { .. }
            | Self::Scoring { .. }
            | Self::Training(_)
            | Self::EpochEnded(_)
            | Self::Wrote { .. }
            | Self::Stored(_)
            | Self::Ready { .. }
            | Self::Traffic(_)
            | Self::Refused { .. } => false,
            // while a run is gone on with, its data are told on the way
            Self::Data(data) => !data.on_the_way,
            Self::Prepared(report) => !report.on_the_way,
            _ => true,
        }
    }
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Failure {
    /// What, with names and numbers.
    pub what: String,
    /// What the user can do; may be empty where `what` says it.
    pub advice: String,
    /// The engine cannot go on: the page starts it anew.
    pub fatal: bool,
    /// A piece of a kept file is damaged; the loader can fetch it again.
    pub piece: Option<BadPiece>,
}

impl Failure {
    /// A failure after which the engine goes on.
    pub fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        let (what, advice) = (on_page(&what.into()), on_page(&advice.into()));
        Self { what, advice, fatal: false, piece: None }
    }
}

/// A damaged piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct BadPiece {
    /// The file's name.
    pub file: String,
    /// Its number, from 0.
    pub piece: u64,
}
