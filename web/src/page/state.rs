//! What the page knows. Screens read it and ask [`super::actions`] to change it.

use std::sync::Arc;

use hearth_classifier::{
    columns::{Roles, TextSource},
    history::Epoch,
    prompt::{ClassWord, PromptSpec},
    recipe::Recipe,
    table::TableOptions,
};
use leptos::prelude::*;
use web_sys::Blob;

use super::client::{Client, EngineWorker, LoaderWorker};
use crate::protocol::{
    ClassifierSummary, DataChoices, DataPreview, DataReport, Evaluated, Failure, FilePreview,
    GpuSummary, KeptModel, ModelFile, ModelSummary, PlanReport, RemoteModel, RunRecord, Space,
    StoredRun, Traffic, TrainProgress, WeightsAs,
};

/// A step of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Screen {
    #[default]
    Model,
    Data,
    Train,
    Results,
    Using,
}

impl Screen {
    pub const ALL: [Self; 5] = [Self::Model, Self::Data, Self::Train, Self::Results, Self::Using];

    pub fn title(self) -> &'static str {
        match self {
            Self::Model => "Model",
            Self::Data => "Data",
            Self::Train => "Train",
            Self::Results => "Results",
            Self::Using => "Use",
        }
    }

    /// Its name in the address and in tests.
    pub fn key(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Data => "data",
            Self::Train => "train",
            Self::Results => "results",
            Self::Using => "use",
        }
    }
}

/// The GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Gpu {
    #[default]
    Opening,
    On(GpuSummary),
    /// Why, and what to do.
    None(String),
}

/// Where a model stands on its way from its file to the GPU.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ModelStage {
    #[default]
    None,
    /// From the network, or into storage.
    Fetching(Fetching),
    /// Onto the GPU.
    Loading {
        /// To give it up by.
        request: u64,
        name: String,
        done: u64,
        total: u64,
    },
    Ready(ModelSummary),
}

/// How a download comes along.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fetching {
    pub key: String,
    pub name: String,
    pub done: u64,
    pub total: u64,
    pub bytes_per_second: f64,
    pub seconds_left: Option<f64>,
    /// A copy of files that the user picked.
    pub copying: bool,
    /// Only a damaged piece is fetched.
    pub repairing: bool,
    /// The connection broke, and the next try is waited for.
    pub waiting: bool,
    /// It stands still, as asked.
    pub paused: bool,
    /// Everything is there, and a smaller file of so many bits a weight is made of it.
    pub bits: Option<u32>,
}

/// Whether the page opens without a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offline {
    /// Its files are being kept.
    #[default]
    Keeping,
    /// They are kept.
    Kept,
    /// This browser or host does not let them be kept.
    Without,
    /// They were deleted, as asked.
    Deleted,
}

/// Something the user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub id: u64,
    pub kind: NoticeKind,
    pub what: String,
    pub advice: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    Error,
    Warning,
    Good,
}

/// What the engine is busy with, beside training.
#[derive(Debug, Clone, PartialEq)]
pub enum Busy {
    Reading { name: String, bytes: u64, total: u64, rows: u64 },
    Scoring { what: String, done: usize, of: usize },
    Writing,
    Working(&'static str),
}

impl Busy {
    /// In words, as the label of a progress bar.
    pub fn label(&self) -> String {
        let scoring = |what: &str| match what {
            "zero-shot" => "Evaluating the untrained model…",
            "testing" => "Evaluating on the test rows…",
            "predicting" => "Classifying rows…",
            _ => "Scoring rows…",
        };
        match self {
            Self::Reading { name, .. } => format!("Reading {name}…"),
            Self::Scoring { what, .. } => scoring(what).to_owned(),
            Self::Writing => "Generating text…".to_owned(),
            Self::Working(what) => (*what).to_owned(),
        }
    }
}

/// A request that the page shows until it ends. The engine does them in order: all but the first wait.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub request: u64,
    pub busy: Busy,
}

/// The training that runs or was the last.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Training {
    /// The request, while one is under way.
    pub request: Option<u64>,
    /// `Pause` or `Stop` was asked for and is on its way.
    pub asked: Option<&'static str>,
    /// The last word of the engine.
    pub progress: Option<TrainProgress>,
    /// All steps so far.
    pub steps: Vec<hearth_classifier::history::Step>,
    /// All epochs so far.
    pub epochs: Vec<Epoch>,
    /// Rows scored after training, and for what.
    pub scoring: Option<(String, usize, usize)>,
}

/// The results on screen.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The classifier they belong to, by [`ClassifierSummary::id`].
    pub classifier: u64,
    pub run: Option<RunRecord>,
    pub test: Evaluated,
}

/// A file, and how it is to be read as a table.
#[derive(Debug, Clone)]
pub struct TableFile {
    pub name: String,
    pub blob: Blob,
    pub options: TableOptions,
}

/// A table that waits to be classified.
#[derive(Debug, Clone)]
pub struct ToClassify {
    pub file: TableFile,
    /// None where it could not be read so.
    pub preview: Option<FilePreview>,
    /// Where the texts come from; none until the user has said it.
    pub text: Option<TextSource>,
}

/// A table of this page's own server, with what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Sample {
    pub file: String,
    pub name: String,
    pub about: String,
    pub rows: usize,
    pub question: String,
    pub positive: Option<String>,
    pub words: Vec<ClassWord>,
    /// Fetched with the page: no request is made once a model is ready.
    #[serde(skip)]
    pub bytes: Arc<[u8]>,
}

/// What a worker would need to be told again after it died.
#[derive(Default)]
pub struct Recovery {
    pub model: Option<(String, Vec<ModelFile>, Vec<Blob>, String)>,
    /// The model that the engine holds, also while another one is fetched.
    pub held: Option<ModelSummary>,
    /// Counts the ways to a model that were set out on: what answers an earlier one changes nothing any more.
    pub way: u64,
    pub data: Option<(String, Blob)>,
}

/// All of it. Copied about freely: signals live as long as the page.
#[derive(Clone, Copy)]
pub struct App {
    pub engine: StoredValue<Client<EngineWorker>, LocalStorage>,
    pub loader: StoredValue<Client<LoaderWorker>, LocalStorage>,
    pub recovery: StoredValue<Recovery, LocalStorage>,
    /// Times the engine was started anew since it last did something that the user asked for.
    pub restarts: StoredValue<u32>,

    pub screen: RwSignal<Screen>,
    pub notices: RwSignal<Vec<Notice>>,
    /// What the engine does beside training, the running one first.
    pub jobs: RwSignal<Vec<Job>>,

    pub gpu: RwSignal<Gpu>,
    /// The engine's answer to an attempt at leaving.
    pub policy: RwSignal<Option<String>>,
    /// What page and workers asked the network for since the model was ready.
    pub traffic: RwSignal<Traffic>,
    pub offline: RwSignal<Offline>,

    pub stage: RwSignal<ModelStage>,
    pub weights: RwSignal<WeightsAs>,
    /// Models that this page's own server offers.
    pub offered: RwSignal<Vec<RemoteModel>>,
    pub stored: RwSignal<Vec<KeptModel>>,
    /// None until the loader has looked.
    pub space: RwSignal<Option<Space>>,

    pub data: RwSignal<Option<DataPreview>>,
    /// The file that was chosen last, where it could not be read.
    pub unread: RwSignal<Option<TableFile>, LocalStorage>,
    pub choices: RwSignal<DataChoices>,
    pub report: RwSignal<Option<DataReport>>,
    /// Why the choices come to nothing.
    pub report_error: RwSignal<Option<Failure>>,
    pub samples: RwSignal<Vec<Sample>>,

    pub spec: RwSignal<PromptSpec>,
    pub recipe: RwSignal<Recipe>,
    /// Device memory that training may use, in bytes.
    pub memory: RwSignal<u64>,
    pub zero_shot: RwSignal<bool>,
    /// Guard cells of saved tables that a spreadsheet would run as formulas.
    pub for_spreadsheets: RwSignal<bool>,
    pub plan: RwSignal<Option<PlanReport>>,
    /// Why there is no plan.
    pub plan_error: RwSignal<Option<Failure>>,
    pub training: RwSignal<Training>,
    pub runs: RwSignal<Vec<RunRecord>>,
    /// What runs take in the browser's storage.
    pub stored_runs: RwSignal<Vec<StoredRun>>,

    pub shown: RwSignal<Option<Shown>>,
    pub classifier: RwSignal<Option<ClassifierSummary>>,
    pub to_classify: RwSignal<Option<ToClassify>, LocalStorage>,
}

/// Memory that training may take where nobody says otherwise.
pub const MEMORY: u64 = 4 << 30;

impl App {
    /// Nothing known yet; the workers start with [`super::actions::begin`].
    pub fn new() -> Self {
        Self {
            engine: StoredValue::new_local(Client::new(|_| ())),
            loader: StoredValue::new_local(Client::new(|_| ())),
            recovery: StoredValue::new_local(Recovery::default()),
            restarts: StoredValue::new(0),
            screen: RwSignal::default(),
            notices: RwSignal::default(),
            jobs: RwSignal::default(),
            gpu: RwSignal::default(),
            policy: RwSignal::default(),
            traffic: RwSignal::default(),
            offline: RwSignal::default(),
            stage: RwSignal::default(),
            weights: RwSignal::default(),
            offered: RwSignal::default(),
            stored: RwSignal::default(),
            space: RwSignal::default(),
            data: RwSignal::default(),
            unread: RwSignal::new_local(None),
            choices: RwSignal::new(first_choices()),
            report: RwSignal::default(),
            report_error: RwSignal::default(),
            samples: RwSignal::default(),
            spec: RwSignal::default(),
            recipe: RwSignal::default(),
            memory: RwSignal::new(MEMORY),
            zero_shot: RwSignal::new(true),
            for_spreadsheets: RwSignal::new(false),
            plan: RwSignal::default(),
            plan_error: RwSignal::default(),
            training: RwSignal::default(),
            runs: RwSignal::default(),
            stored_runs: RwSignal::default(),
            shown: RwSignal::default(),
            classifier: RwSignal::default(),
            to_classify: RwSignal::new_local(None),
        }
    }

    /// The app of this page.
    pub fn here() -> Self {
        expect_context::<Self>()
    }

    pub fn model(&self) -> Option<ModelSummary> {
        self.stage.with(|stage| match stage {
            ModelStage::Ready(model) => Some(model.clone()),
            _ => None,
        })
    }

    /// The model that is downloaded or loaded just now.
    pub fn arriving(&self) -> Option<String> {
        self.stage.with(|stage| match stage {
            ModelStage::Loading { name, .. } => Some(name.clone()),
            ModelStage::Fetching(fetching) if !fetching.paused => Some(fetching.name.clone()),
            ModelStage::None | ModelStage::Fetching(_) | ModelStage::Ready(_) => None,
        })
    }

    pub fn model_ready_untracked(&self) -> bool {
        self.stage.with_untracked(|stage| matches!(stage, ModelStage::Ready(_)))
    }

    /// Whether a job is under way, beside training.
    pub fn is_busy(&self) -> bool {
        self.jobs.with(|jobs| !jobs.is_empty())
    }

    /// What another request waits for, in words; none where it is done at once.
    pub fn waits(&self) -> Option<String> {
        self.jobs.with(|jobs| {
            let job = jobs.first()?;
            Some(format!("Waiting for another task: {}", job.busy.label()))
        })
    }

    /// What keeps a file out, in words.
    pub fn occupied(&self) -> String {
        let job = self.jobs.with_untracked(|jobs| jobs.first().map(|job| job.busy.label()));
        match job {
            Some(label) => format!("another task is running ({})", label.trim_end_matches('…')),
            None => "a run is training".to_owned(),
        }
    }

    pub fn is_training(&self) -> bool {
        self.training.with(|training| training.request.is_some())
    }
}

/// Nothing chosen yet.
pub fn first_choices() -> DataChoices {
    DataChoices {
        roles: Roles { text: TextSource::Column(0), label: None, split: None, id: None },
        rule: hearth_classifier::columns::LabelRule::AsIs,
        positive: None,
        drop_bad: true,
        labels: hearth_classifier::columns::LabelChoices::default(),
        split: crate::protocol::SplitChoice::Auto,
        limit: None,
        validation_share: Recipe::default().validation_share,
        seed: 0,
        validation_seed: None,
    }
}
