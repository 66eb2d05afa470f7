//! The training run: batches in a seeded order, validation after every epoch, snapshots, the best adapter.

mod identity;
mod order;
mod outline;
mod results;
mod run;
mod setup;
mod snapshots;

use hearth_gemma::{LoraLayout, Model, plan::MemoryPlan};
use serde::Serialize;

use crate::{
    calibration::{Temperature, fit_temperature, softmax},
    curves::Goal,
    error::ClassifierError,
    history::History,
    metrics::Scored,
    recipe::{CHOOSING_ROWS, Recipe},
};
pub use identity::{Identity, differences, not_resumed, of_machine};
pub use outline::{Outline, outline};
pub use snapshots::{MemoryStore, SnapshotStore};

/// A prompt and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Token ids `[T]`; the logits of the last position give the class.
    pub ids: Vec<u32>,
    /// Its class.
    pub class: usize,
}

/// What is to be learned.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Rows to learn from.
    pub train: &'a [Row],
    /// Rows on which epoch, temperature and threshold are selected; may be empty.
    pub validation: &'a [Row],
    /// The token of each class `[C]`.
    pub class_tokens: &'a [u32],
    /// The positive class.
    pub positive: Option<usize>,
    /// The end token; learned after the label under `label` and `sequence`.
    pub end_token: Option<u32>,
    /// The prompt's settings in JSON, so that a run that is not resumed can say which of them differs.
    pub prompt: &'a str,
}

/// Options that do not change the result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitOptions {
    /// Device memory that may be used in total, in bytes. It determines how batches are split.
    pub memory: u64,
    /// Seconds between snapshots within an epoch; every epoch ends with one.
    pub snapshot_seconds: f64,
    /// Resume from the store's snapshot.
    pub resume: bool,
    /// End the run of the store's snapshot as it stands and keep its best. Nothing is trained, so any build, GPU and
    /// layout of the weights will do.
    pub finish: bool,
    /// With `finish`: score no validation rows. What validations have measured so far selects the adapter; before the
    /// first one, the current adapter is kept, with temperature 1 and a threshold of one half.
    pub at_once: bool,
    /// Keep the adapter of every epoch, for a sweep.
    pub keep_epochs: bool,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            memory: 8 << 30,
            snapshot_seconds: 60.0,
            resume: false,
            finish: false,
            at_once: false,
            keep_epochs: false,
        }
    }
}

/// Progress of a training run, reported after every step and while validation rows are scored.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Steps done.
    pub step: usize,
    /// Total steps.
    pub steps: usize,
    /// The epoch, from 1.
    pub epoch: usize,
    /// Total epochs.
    pub epochs: usize,
    /// The history so far. A step's numbers arrive while the next step runs.
    pub history: &'a History,
    /// Training rows per second in this session.
    pub rows_per_second: f64,
    /// Tokens computed.
    pub tokens: u64,
    /// Tokens that padded batches would have computed.
    pub padded: u64,
    /// Estimated seconds left, from the steps of this session.
    pub seconds_left: Option<f64>,
    /// Validation rows scored, and their total.
    pub validating: Option<(usize, usize)>,
}

impl Progress<'_> {
    /// Mean loss and accuracy over the last ten steps.
    pub fn recent(&self) -> Option<(f64, f64)> {
        let steps = &self.history.steps[self.history.steps.len().saturating_sub(10)..];
        let n = steps.len() as f64;
        let sum = |of: fn(&crate::history::Step) -> f64| steps.iter().map(of).sum::<f64>();
        (n > 0.0).then(|| (sum(|s| s.loss) / n, sum(|s| s.accuracy) / n))
    }
}

/// Called after every step and while validation rows are scored; `false` stops the run, which leaves a
/// snapshot.
pub type OnProgress<'a> = &'a mut dyn FnMut(&Progress<'_>) -> bool;

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// Layout of the adapter's weights.
    pub layout: LoraLayout,
    /// The adapter that was kept.
    pub params: Vec<f32>,
    /// The adapter after every epoch, where asked for.
    pub epochs: Vec<Vec<f32>>,
    /// The history.
    pub history: History,
    /// Whether the average over the last part was kept.
    pub averaged: bool,
    /// What was selected on the validation rows.
    pub choice: Choice,
    /// ln p of the validation rows by the adapter that was kept, `[N, C]`.
    pub validation: Vec<f64>,
    /// Time and tokens.
    pub effort: Effort,
}

/// Cost of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Effort {
    /// Seconds of training and validation, over all sessions.
    pub seconds: f64,
    /// Tokens computed.
    pub tokens: u64,
    /// Tokens that padded batches would have computed.
    pub padded_tokens: u64,
}

/// Temperature and threshold, selected on validation rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Choice {
    /// Class logits are divided by this.
    pub temperature: f64,
    /// The positive class is predicted at this probability and above.
    pub threshold: f64,
    /// The fit, where there were validation rows.
    pub fitted: Option<Temperature>,
}

impl Default for Choice {
    fn default() -> Self {
        Self { temperature: 1.0, threshold: 0.5, fitted: None }
    }
}

impl Choice {
    /// Selects both on rows with known classes, which must not be test rows. `logs` `[N, C]`.
    pub fn on(logs: &[f64], truth: &[usize], classes: usize, positive: Option<usize>) -> Self {
        let mut choice = Self { fitted: fit_temperature(logs, classes, truth), ..Self::default() };
        // at a limit there was nothing to learn from: too few rows, or all of them right
        if let Some(fitted) = choice.fitted.filter(|t| !t.at_limit) {
            choice.temperature = fitted.value;
        }
        if let (2, Some(positive)) = (classes, positive)
            && truth.len() >= CHOOSING_ROWS
        {
            let probabilities = softmax(logs, classes, choice.temperature);
            let scored = Scored {
                classes,
                truth,
                probabilities: &probabilities,
                positive: None,
                threshold: 0.5,
            };
            let best = scored.ranking(positive).threshold(Goal::BestF1);
            choice.threshold = best.map_or(0.5, |t| t.value);
        }
        choice
    }
}

/// Cost of a training run: memory, and the tokens of all steps.
///
/// # Errors
/// An invalid recipe or invalid rows; too little memory for a single row.
pub fn plan(
    model: &Model,
    task: &Task<'_>,
    recipe: &Recipe,
    memory: u64,
) -> Result<TrainingPlan, ClassifierError> {
    recipe.check()?;
    setup::check(task)?;
    let (examples, config) = (setup::examples(task, recipe), setup::config(task, recipe));
    let (_, memory) = setup::plan(model, &config, recipe, &examples, memory)?;
    let prefix = hearth_gemma::shared_prefix(examples.iter().map(|e| e.tokens.as_slice()));
    let own: usize = examples.iter().map(|e| e.tokens.len() - prefix).sum();
    let an_epoch = setup::steps_an_epoch(task, recipe);
    Ok(TrainingPlan {
        memory,
        steps: an_epoch * recipe.epochs,
        tokens: ((an_epoch * prefix + own) * recipe.epochs) as u64,
    })
}

/// Cost of a training run.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingPlan {
    /// Memory by part.
    pub memory: MemoryPlan,
    /// Optimizer steps.
    pub steps: usize,
    /// Tokens that go through the model forward and backward.
    pub tokens: u64,
}

/// Trains an adapter.
///
/// The result depends on model, rows, recipe, GPU adapter and kernel variants, to the bit; a run that was
/// stopped, or killed, and resumed gives the same numbers as one that went through.
///
/// # Errors
/// An invalid recipe, invalid rows or an unsuitable model; [`ClassifierError::Stopped`] if `progress` returns false;
/// [`ClassifierError::Diverged`] after three consecutive steps that were not finite; a snapshot of another run;
/// memory or the device.
pub async fn fit(
    model: &Model,
    task: &Task<'_>,
    recipe: &Recipe,
    options: &FitOptions,
    store: Option<&mut dyn SnapshotStore>,
    progress: OnProgress<'_>,
) -> Result<Fitted, ClassifierError> {
    recipe.check()?;
    run::run(model, task, recipe, options, store, progress).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_choose_a_temperature_but_no_threshold() {
        // says 0.98 and is right in three of four; the positive class deserves a lower threshold
        let logs: Vec<f64> = [0.98f64.ln(), 0.02f64.ln()].repeat(40);
        let truth: Vec<usize> = (0..40).map(|i| usize::from(i % 4 == 0)).collect();
        let choice = Choice::on(&logs, &truth, 2, Some(1));
        assert!(choice.temperature > 2.0 && choice.threshold == 0.5, "{choice:?}");
        let (logs, truth) = (logs.repeat(3), truth.repeat(3));
        let many = Choice::on(&logs, &truth, 2, Some(1));
        assert!(many.threshold < 0.5, "{many:?}");
        assert_eq!(Choice::on(&[], &[], 2, Some(1)), Choice::default());
    }
}
