//! Storage of a run's snapshots, and the check that a snapshot belongs to this run.

use hearth_gemma::{snapshot::Snapshot, train::StepPlan};
use serde::{Deserialize, Serialize};

use super::{
    identity::{self, Identity, Purpose},
    results::Buffers,
};
use crate::{
    error::{ClassifierError, Difference},
    history::History,
};

/// The adapter as it stands, among the trainer's buffers.
pub(super) const PARAMS: &str = hearth_gemma::train::PARAMS;

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
    /// How batches are split, as determined by memory when the run started.
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
    /// Number of snapshots written; the newer of two has the larger number.
    pub saved: u64,
}

impl State {
    /// Before the first step.
    pub(super) fn new(plan: StepPlan) -> Self {
        Self {
            step: 0,
            plan,
            history: History::default(),
            averaged: 0,
            tokens: 0,
            padded: 0,
            seconds: 0.0,
            saved: 0,
        }
    }
}

/// Writes the next snapshot into the slot with the older one.
pub(super) fn save(
    store: &mut dyn SnapshotStore,
    identity: &Identity,
    state: &mut State,
    buffers: Buffers,
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
    identity: &Identity,
    purpose: Purpose,
    steps_an_epoch: usize,
) -> Result<(State, Buffers), ClassifierError> {
    let slots = [store.load(0).map_err(fault)?, store.load(1).map_err(fault)?];
    let read = |s: &Snapshot| serde_json::from_str::<State>(&s.state);
    let age = |s: &Snapshot| read(s).map_or(0, |state| state.saved);
    let snapshot = hearth_gemma::snapshot::newest(&slots, age);
    let snapshot = snapshot.ok_or(ClassifierError::NothingToResume)?;
    let state = read(&snapshot).map_err(|e| fault(e.to_string()))?;
    let mut differences = identity::differences_for(&snapshot.identity, identity, purpose);
    if let [Difference { name, words }] = differences.as_mut_slice()
        && name == "epochs"
        && purpose == Purpose::Resume
        && let (Some(was), Some(now)) =
            (identity::recipe_of(&snapshot.identity), identity::recipe_of(identity))
    {
        match identity::check_more_epochs(&was, &now, steps_an_epoch, state.step) {
            Ok(()) => differences.clear(),
            Err(why) => *words = format!("{words}, {why}"),
        }
    }
    if !differences.is_empty() {
        return Err(ClassifierError::AnotherRun { differences });
    }
    Ok((state, snapshot.buffers))
}

fn fault(why: String) -> ClassifierError {
    ClassifierError::Snapshot(why)
}
