//! Runs as they are kept: what is needed to go on after the tab was closed, and to compare.

use hearth_classifier::{
    fit::MemoryStore, history::History, prompt::PromptSpec, recipe::Recipe, split::Part,
    table::TableOptions,
};
use serde::{Deserialize, Serialize};
use web_sys::Blob;

use super::{
    data::Data,
    model::Loaded,
    outbox::post,
    problem::{Problem, first},
    request::Request,
    state::EngineState,
};
use crate::{
    protocol::{DataChoices, FromEngine, RunRecord, RunState, UNASKED},
    storage::{
        StorageError, detached, run_lock,
        run_store::{RunStore, SLOTS},
    },
};

/// Names of a run's files.
const RECORD: &str = "run";
/// The copy of the table.
pub const DATA: &str = "data";
/// The classifier's file.
pub const CLASSIFIER: &str = "classifier.hearth";

/// A run's record and what its data were made from.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeptRun {
    pub record: RunRecord,
    pub choices: DataChoices,
    pub options: TableOptions,
    /// Why it lies in memory only, where the storage refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
}

impl KeptRun {
    /// Where it lies.
    pub fn store(&self, state: &EngineState) -> RunStore {
        if self.record.kept { state.store.clone() } else { state.memory.clone() }
    }

    /// Writes its record.
    pub async fn save(&self, state: &EngineState) -> Result<(), Problem> {
        Ok(self.try_save(state).await??)
    }

    /// Writes its record; the storage's own refusal inside.
    pub async fn try_save(&self, state: &EngineState) -> Result<Result<(), StorageError>, Problem> {
        let json = serde_json::to_vec(self).map_err(|e| Problem::new(e.to_string(), ""))?;
        Ok(self.store(state).put_safe(&self.record.key, RECORD, &json).await)
    }

    /// What to tell once it is finished, where it does not outlive the tab; nothing where it does.
    pub fn farewell(&self) -> Option<String> {
        (!self.record.kept).then(|| {
            let why = self.not_kept.as_deref().unwrap_or("the browser stores no files for this page");
            let why = why.trim_end_matches('.');
            format!(
                "The finished run is not stored in this browser: {why}. Export the classifier before you close this tab."
            )
        })
    }

    /// Forgets the user's texts and the snapshots of a finished run: only its classifier is needed now.
    pub async fn forget_data(&self, state: &EngineState) -> Result<(), Problem> {
        let (store, key) = (self.store(state), &self.record.key);
        for name in [DATA].into_iter().chain(SLOTS) {
            store.remove_file(key, name).await?;
        }
        Ok(())
    }
}

/// A run's record; none where there is none that this build can read.
pub async fn read(store: &RunStore, key: &str) -> Result<Option<KeptRun>, StorageError> {
    let parse = |bytes: &[u8]| serde_json::from_slice::<KeptRun>(bytes).ok();
    store.get_safe(key, RECORD, parse).await
}

/// A run, and where it lies.
pub async fn find(state: &EngineState, key: &str) -> Result<(KeptRun, RunStore), Problem> {
    for store in [&state.memory, &state.store] {
        if !store.keys().await?.iter().any(|k| k == key) {
            continue;
        }
        if let Some(run) = read(store, key).await? {
            return Ok((run, store.clone()));
        }
    }
    Err(Problem::new("This run is no longer stored.", "Start a new one."))
}

/// All runs, newest first. What cannot be read is left out, with a warning.
pub async fn list(request: &Request, state: &EngineState) -> Result<Vec<RunRecord>, Problem> {
    let training = run_lock::training().await;
    let mut runs = Vec::new();
    for store in [&state.memory, &state.store] {
        for key in store.keys().await? {
            match read(store, &key).await {
                // requests are done one by one: this tab trains none now
                Ok(Some(mut run)) if training.contains(&key) => {
                    run_lock::when_over(&key, || post(UNASKED, &FromEngine::RunsChanged, &[]));
                    run.record.state = RunState::Elsewhere;
                    runs.push(run.record);
                }
                Ok(Some(run)) => {
                    // killed between finishing and forgetting: nobody needs its copy of the table any more
                    if run.record.state == RunState::Finished
                        && store.get(&key, DATA).await?.is_some()
                    {
                        run.forget_data(state).await?;
                    }
                    runs.push(run.record);
                }
                Ok(None) if store.get(&key, RECORD).await?.is_some() => {
                    request.warn(
                        "A run was stored by another version of Hearth and cannot be read here.",
                    );
                }
                // killed between making the folder and writing the record: nothing is in it
                Ok(None) => store.remove(&key).await.or_else(|error| match error {
                    StorageError::Busy(_) => Ok(()),
                    other => Err(other),
                })?,
                Err(error) => request.warn(format!("A stored run cannot be read: {error}")),
            }
        }
    }
    runs.sort_by(|a, b| b.started.total_cmp(&a.started));
    Ok(runs)
}

/// Forgets a run.
pub async fn delete(state: &EngineState, key: &str) -> Result<(), Problem> {
    state.memory.remove(key).await?;
    if state.store.is_kept() {
        state.store.remove(key).await?;
    }
    Ok(())
}

/// Forgets every run.
pub async fn delete_all(state: &mut EngineState) -> Result<(), Problem> {
    state.memory = RunStore::in_memory();
    let mut refused = Ok(());
    if state.store.is_kept() {
        for key in state.store.keys().await? {
            // the others go all the same
            refused = state.store.remove(&key).await.and(refused);
        }
    }
    Ok(refused?)
}

/// What a new run is to be.
pub struct Settings {
    /// Its name for people.
    pub name: String,
    pub spec: PromptSpec,
    pub recipe: Recipe,
    /// Device memory that may be used, in bytes.
    pub memory: u64,
    /// Whether the untrained model is evaluated too.
    pub zero_shot: bool,
}

/// Makes a run's record and keeps what going on needs.
pub async fn new_run(
    request: &Request,
    state: &mut EngineState,
    model: &Loaded,
    settings: Settings,
) -> Result<KeptRun, Problem> {
    let Settings { name, spec, recipe, memory, zero_shot } = settings;
    let model = model.summary.clone();
    recipe.check().map_err(|e| Problem::new(e.to_string(), ""))?;
    if let Some(why) = state.nothing_kept.take() {
        request.warn(why);
    }
    let kept = state.store.is_kept();
    let data = state.data_mut()?;
    let mut choices = data.choices.clone();
    if let Some(choices) = &mut choices {
        (choices.validation_seed, choices.validation_share) =
            (Some(recipe.seed), recipe.validation_share);
        data.prepare(choices)?;
    }
    let prepared = data.prepared()?.clone();
    let rows = |part| prepared.part(part).len();
    let started = js_sys::Date::now();
    let key = format!("{:012x}-{:04x}", started as u64, (js_sys::Math::random() * 65536.0) as u32);
    let record = RunRecord {
        key,
        name,
        started,
        state: RunState::Running,
        model: model.name,
        model_identity: model.identity,
        data: data.name.clone(),
        classes: prepared.data.classes.clone(),
        spec,
        recipe,
        memory,
        zero_shot,
        rows: [rows(Part::Train), rows(Part::Validation), rows(Part::Test)],
        history: History::default(),
        test: None,
        validation: None,
        zero_shot_test: None,
        seconds: 0.0,
        tokens: 0,
        gpu_bytes: 0,
        kept,
    };
    let unprepared =
        || first("The text and label columns are not chosen yet.", "Choose them under Data.");
    let choices = choices.ok_or_else(unprepared)?;
    let options = data.options.clone();
    let mut run = KeptRun { record, choices, options, not_kept: None };
    let blob = data.blob.clone();
    if let Err(problem) = keep(state, &run, &blob).await {
        if !run.record.kept {
            return Err(problem);
        }
        if let Problem::Failed(failure) = problem {
            request.warn(format!(
                "{}. The run starts anyway, but closing the tab would lose it.",
                failure.what.trim_end_matches('.')
            ));
            move_to_memory(state, &mut run, MemoryStore::default(), failure.what).await?;
        }
    }
    Ok(run)
}

/// Moves a run that the storage refuses into memory, with its snapshots: it lives as long as the tab.
pub async fn move_to_memory(
    state: &EngineState,
    run: &mut KeptRun,
    snapshots: MemoryStore,
    why: String,
) -> Result<(), Problem> {
    // what is half written must not be offered later; a storage that refuses even this has been told of
    let _ = state.store.remove(&run.record.key).await;
    run.record.kept = false;
    run.not_kept = Some(why);
    let data = state.data()?;
    keep(state, run, &data.blob).await?;
    state.memory.set_snapshots(&run.record.key, snapshots);
    Ok(())
}

async fn keep(state: &EngineState, run: &KeptRun, data: &Blob) -> Result<(), Problem> {
    let store = run.store(state);
    // a folder without a record is swept away by the next list, also by another tab's
    run.save(state).await?;
    Ok(store.put(&run.record.key, DATA, data).await?)
}

/// Opens a run that is not finished, with its data, on the model it began with.
pub async fn open_unfinished(
    request: &Request,
    state: &mut EngineState,
    model: &Loaded,
    key: &str,
) -> Result<KeptRun, Problem> {
    let (run, store) = find(state, key).await?;
    if run.record.state == RunState::Finished {
        return Err(Problem::new("This run has finished.", "Open its classifier instead."));
    }
    if run.record.model_identity != model.summary.identity {
        return Err(Problem::new(
            format!("This run trains {}, but {} is loaded.", run.record.model, model.summary.name),
            "Load that model, then resume the run.",
        ));
    }
    let lost = || {
        Problem::new(
            "The run's table is not stored: the browser deleted it, or the run was interrupted too early.",
            "Start a new run.",
        )
    };
    let kept = store.get(key, DATA).await?.ok_or_else(lost)?;
    // the kept file goes when the run ends or moves; the data stay open, and may train another run
    let blob = detached(&kept).await.map_err(|e| StorageError::of(DATA, &e))?;
    let mut data = Data::read(request, run.record.data.clone(), blob, run.options.clone()).await?;
    data.prepare(&run.choices)?;
    request.tell(&FromEngine::Data(data.preview(request, true).await?));
    let report = data.report(request, Some(model), &run.record.spec, true).await?;
    request.tell(&FromEngine::Prepared(report));
    state.data = Some(data);
    Ok(run)
}
