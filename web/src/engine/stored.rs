//! What runs take in the browser's storage, for the page's list of what is kept.

use hearth_classifier::fit;
use web_sys::Blob;

use super::{
    model::Loaded,
    problem::Problem,
    request::Request,
    runs::{DATA, KeptRun, read},
    state::EngineState,
};
use crate::{
    protocol::{FromEngine, RunState, StoredRun},
    storage::{
        StorageError, read_blob,
        run_store::{RunStore, SLOTS},
    },
};

/// Most bytes of a snapshot's header: it tells of every step.
const HEADER: u64 = 64 << 20;

/// All runs in storage. Those in memory only are not.
async fn list(state: &EngineState, model: Option<&Loaded>) -> Result<Vec<StoredRun>, Problem> {
    let mut all = Vec::new();
    if !state.store.is_kept() {
        return Ok(all);
    }
    for key in state.store.keys().await? {
        let sizes = state.store.sizes(&key).await?;
        let run = read(&state.store, &key).await?;
        let table = sizes.iter().find(|(name, _)| name == DATA).map(|(_, bytes)| *bytes);
        let not_resumed = match (&run, model) {
            (Some(run), Some(model)) => not_resumed(&state.store, run, model).await?,
            _ => None,
        };
        let record = run.map(|run| run.record);
        all.push(StoredRun {
            name: record.as_ref().map_or_else(String::new, |record| record.name.clone()),
            table: table.map(|_| record.map_or_else(String::new, |record| record.data)),
            bytes: sizes.iter().map(|(_, bytes)| bytes).sum(),
            not_resumed,
            key,
        });
    }
    Ok(all)
}

/// Tells the page of them.
pub async fn tell(
    request: &Request,
    state: &EngineState,
    model: Option<&Loaded>,
) -> Result<(), Problem> {
    request.tell(&FromEngine::Stored(list(state, model).await?));
    Ok(())
}

/// Why a run that was interrupted cannot be resumed on this build and machine, with the model it began with; none
/// where it can be, as far as they tell.
async fn not_resumed(
    store: &RunStore,
    run: &KeptRun,
    model: &Loaded,
) -> Result<Option<String>, StorageError> {
    let record = &run.record;
    if record.state == RunState::Finished || record.model_identity != model.summary.identity {
        return Ok(None);
    }
    for slot in SLOTS {
        let Some(snapshot) = store.get(&record.key, slot).await? else { continue };
        if let Some(why) = of_another_machine(&snapshot, model).await {
            return Ok(Some(why));
        }
    }
    Ok(None)
}

async fn of_another_machine(snapshot: &Blob, model: &Loaded) -> Option<String> {
    // a snapshot that cannot be read is no reason: the other one may do, and resuming says what is wrong
    let length = read_blob(snapshot, 0, 8).await.ok()?.to_vec();
    let length = u64::from_le_bytes(length.try_into().ok()?);
    let header = read_blob(snapshot, 8, 8 + length.min(HEADER)).await.ok()?.to_vec();
    fit::not_resumed(&header, &model.model)
}
