//! Where a run's snapshots lie, and what must be equal for a run to go on.

use std::collections::BTreeMap;

use hearth_gemma::{Model, snapshot::Snapshot, train::StepPlan};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Task;
use crate::{error::ClassifierError, history::History, recipe::Recipe};

/// Two places that are written in turn: while one is written, the other is whole.
pub trait SnapshotStore {
    /// Replaces what a slot (0 or 1) holds. Atomic where the medium can; a torn slot is noticed by its
    /// checksum.
    ///
    /// # Errors
    /// In words, why it could not be written.
    fn save(&mut self, slot: usize, bytes: &[u8]) -> Result<(), String>;

    /// What a slot holds; empty where nothing was saved.
    ///
    /// # Errors
    /// In words, why it could not be read.
    fn load(&mut self, slot: usize) -> Result<Vec<u8>, String>;
}

/// Slots in memory, for tests and for pages that keep nothing.
#[derive(Debug, Default, Clone)]
pub struct MemoryStore {
    /// The two slots.
    pub slots: [Vec<u8>; 2],
}

impl SnapshotStore for MemoryStore {
    fn save(&mut self, slot: usize, bytes: &[u8]) -> Result<(), String> {
        self.slots[slot] = bytes.to_vec();
        Ok(())
    }

    fn load(&mut self, slot: usize) -> Result<Vec<u8>, String> {
        Ok(self.slots[slot].clone())
    }
}

/// A run's own bookkeeping. The order of the rows is a pure function of seed and epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Optimizer steps done.
    pub step: usize,
    /// How batches are cut, as memory had decided when the run began.
    pub plan: StepPlan,
    /// What happened.
    pub history: History,
    /// Adapters in the running average.
    pub averaged: usize,
    /// Tokens computed.
    pub tokens: u64,
    /// Tokens that padded rows would have taken.
    pub padded: u64,
    /// Seconds spent.
    pub seconds: f64,
    /// Snapshots written: tells their age.
    pub saved: u64,
}

/// Name and value of everything that must be equal, so that a refusal can say what differs.
pub(super) fn identity(
    model: &Model,
    task: &Task<'_>,
    recipe: &Recipe,
) -> BTreeMap<String, String> {
    let variants = model.variants;
    BTreeMap::from([
        ("build".to_owned(), format!("hearth {}", env!("CARGO_PKG_VERSION"))),
        ("model".to_owned(), model.identity.clone()),
        ("data".to_owned(), data_hash(task)),
        ("classes".to_owned(), format!("{:?}", task.class_tokens)),
        // a recipe is plain numbers and names: it always becomes JSON
        ("recipe".to_owned(), serde_json::to_string(recipe).unwrap_or_default()),
        ("adapter".to_owned(), model.gpu.adapter().to_string()),
        ("profile".to_owned(), format!("{:?}", model.gpu.profile())),
        // the size of submissions changes no number
        (
            "kernel variants".to_owned(),
            format!("software {}, forced {:?}", variants.software, variants.forced),
        ),
    ])
}

/// A sha256 over all prompts and classes.
fn data_hash(task: &Task<'_>) -> String {
    let mut hash = Sha256::new();
    for rows in [task.train, task.validation] {
        hash.update((rows.len() as u64).to_le_bytes());
        for row in rows {
            hash.update((row.ids.len() as u64).to_le_bytes());
            row.ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
            hash.update((row.class as u64).to_le_bytes());
        }
    }
    hash.update(format!("{:?} {:?}", task.positive, task.end_token));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the next snapshot into the slot whose turn it is.
pub(super) fn save(
    store: &mut dyn SnapshotStore,
    identity: &BTreeMap<String, String>,
    state: &mut State,
    buffers: BTreeMap<String, Vec<f32>>,
) -> Result<(), ClassifierError> {
    state.saved += 1;
    let text = serde_json::to_string(state).map_err(|e| fault(e.to_string()))?;
    let snapshot = Snapshot { identity: identity.clone(), state: text, buffers };
    store.save((state.saved % 2) as usize, &snapshot.to_bytes()?).map_err(fault)
}

/// Empties both slots.
pub(super) fn clear(store: &mut dyn SnapshotStore) -> Result<(), ClassifierError> {
    (0..2).try_for_each(|slot| store.save(slot, &[])).map_err(fault)
}

/// The newest whole snapshot, if it belongs to this run.
pub(super) fn load(
    store: &mut dyn SnapshotStore,
    identity: &BTreeMap<String, String>,
) -> Result<(State, BTreeMap<String, Vec<f32>>), ClassifierError> {
    let slots = [store.load(0).map_err(fault)?, store.load(1).map_err(fault)?];
    let read = |s: &Snapshot| serde_json::from_str::<State>(&s.state);
    let age = |s: &Snapshot| read(s).map_or(0, |state| state.saved);
    let snapshot = hearth_gemma::snapshot::newest(&slots, age);
    let snapshot = snapshot.ok_or(ClassifierError::NothingToResume)?;
    snapshot.check_identity(identity)?;
    let state = read(&snapshot).map_err(|e| fault(e.to_string()))?;
    Ok((state, snapshot.buffers))
}

fn fault(why: String) -> ClassifierError {
    ClassifierError::Snapshot(why)
}
