//! The results of a finished run, stored with it.

use hearth_classifier::report::Report;
use serde::{Deserialize, Serialize};

use super::{problem::Problem, runs::KeptRun, state::EngineState};
use crate::{
    protocol::Evaluated,
    storage::{StorageError, run_store::RunStore},
};

/// Wrong predictions that the report shows.
pub const MISTAKES: usize = 20;

const RESULTS: &str = "results";

/// A finished run's results without any text of the table: those are not kept.
#[derive(Serialize, Deserialize)]
pub struct KeptResults {
    /// None where the test rows were not evaluated.
    pub test: Option<Evaluated>,
    pub report: Report,
}

impl KeptResults {
    /// Of a run; the texts are left out.
    fn of(test: Option<&Evaluated>, report: &Report) -> Self {
        let (mut test, mut report) = (test.cloned(), report.clone());
        test.iter_mut().flat_map(|test| &mut test.rows).for_each(|row| row.text.clear());
        report.mistakes.iter_mut().for_each(|mistake| mistake.text.clear());
        // these quote cells
        report.data.warnings.clear();
        Self { test, report }
    }

    /// Those of a run; none where an earlier version kept it.
    pub async fn read(store: &RunStore, key: &str) -> Result<Option<Self>, StorageError> {
        store.get_safe(key, RESULTS, |bytes| serde_json::from_slice(bytes).ok()).await
    }
}

/// Keeps the results of a finished run.
pub async fn keep(
    state: &EngineState,
    run: &KeptRun,
    test: Option<&Evaluated>,
    report: &Report,
) -> Result<(), Problem> {
    let kept = KeptResults::of(test, report);
    let json = serde_json::to_vec(&kept).map_err(|e| Problem::new(e.to_string(), ""))?;
    Ok(run.store(state).put_safe(&run.record.key, RESULTS, &json).await?)
}
