//! What outlives a model: the GPU, the table, the runs.

use std::rc::Rc;

use hearth_classifier::prepare::Prepared;
use hearth_gpu::Gpu;

use super::{
    data::Data,
    problem::{Problem, first},
};
use crate::storage::run_store::RunStore;

/// What outlives a model.
pub struct EngineState {
    pub gpu: Option<Gpu>,
    pub data: Option<Data>,
    /// Where runs are kept.
    pub store: RunStore,
    /// Runs that the store would not take.
    pub memory: RunStore,
    /// Why nothing is kept, until it was reported.
    pub nothing_kept: Option<String>,
    /// Tokens a second while training, once known.
    pub speed: Option<f64>,
    /// Classifiers that were in use so far.
    pub classifiers: u64,
}

impl EngineState {
    /// Opens the storage; nothing else is there yet.
    pub async fn open() -> Self {
        let (store, blocked) = RunStore::open().await;
        let nothing_kept = blocked.map(|why| {
            format!(
                "{why}. Everything works, but closing the tab loses classifiers that are not exported."
            )
        });
        Self {
            gpu: None,
            data: None,
            store,
            memory: RunStore::in_memory(),
            nothing_kept,
            speed: None,
            classifiers: 0,
        }
    }

    /// An id for another classifier in use.
    pub fn next_id(&mut self) -> u64 {
        self.classifiers += 1;
        self.classifiers
    }

    /// The table.
    pub fn data(&self) -> Result<&Data, Problem> {
        self.data.as_ref().ok_or_else(no_data)
    }

    /// The table, to be prepared in another way.
    pub fn data_mut(&mut self) -> Result<&mut Data, Problem> {
        self.data.as_mut().ok_or_else(no_data)
    }

    /// The rows as they are prepared.
    pub fn prepared(&self) -> Result<Rc<Prepared>, Problem> {
        self.data()?.prepared().cloned()
    }
}

fn no_data() -> Problem {
    first("No table is loaded.", "Load a table under Data first.")
}
