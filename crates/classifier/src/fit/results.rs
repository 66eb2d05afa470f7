//! The results of a run so far: history, best adapter, averages. They need no trainer, so a run can be ended
//! on a machine that could not resume it.

use std::collections::BTreeMap;

use hearth_gemma::{Lora, LoraLayout, Model, shared_prefix};
use web_time::Instant;

use super::{Choice, Effort, Fitted, OnProgress, Progress, Task, setup, snapshots::State};
use crate::{
    calibration::log_loss,
    error::ClassifierError,
    history::Epoch,
    metrics::{Scored, evaluate},
    recipe::Recipe,
    scoring::Scoring,
};

/// Names of the buffers that a run adds to the trainer's.
const BEST: &str = "best";
const BEST_LOGS: &str = "best validation scores";
const AVERAGE: &str = "average";

/// Flat numbers by name, as a snapshot holds them.
pub(super) type Buffers = BTreeMap<String, Vec<f32>>;

pub(super) struct Results<'a> {
    task: &'a Task<'a>,
    recipe: &'a Recipe,
    pub state: State,
    best: Option<Vec<f32>>,
    /// ln p of the validation rows by the best adapter, `[N, C]`, as f32: what a snapshot holds.
    best_logs: Vec<f32>,
    pub average: Vec<f32>,
    epochs: Vec<Vec<f32>>,
    keep_epochs: bool,
    begun: Instant,
    begun_at: (usize, f64),
}

impl<'a> Results<'a> {
    pub(super) fn new(
        task: &'a Task<'a>,
        recipe: &'a Recipe,
        state: State,
        keep_epochs: bool,
    ) -> Self {
        Self {
            task,
            recipe,
            begun: Instant::now(),
            begun_at: (state.step, state.seconds),
            state,
            best: None,
            best_logs: Vec::new(),
            average: Vec::new(),
            epochs: Vec::new(),
            keep_epochs,
        }
    }

    /// Takes its buffers out of those of a snapshot, and leaves the trainer's.
    pub(super) fn take(&mut self, buffers: &mut Buffers) {
        self.best = buffers.remove(BEST);
        self.best_logs = buffers.remove(BEST_LOGS).unwrap_or_default();
        self.average = buffers.remove(AVERAGE).unwrap_or_default();
        for epoch in 0..self.state.history.epochs.len() {
            self.epochs.extend(buffers.remove(&epoch_name(epoch)));
        }
    }

    /// Adds its buffers to the trainer's.
    pub(super) fn add_to(&self, buffers: &mut Buffers) {
        buffers.extend(self.best.clone().map(|best| (BEST.to_owned(), best)));
        buffers.insert(BEST_LOGS.to_owned(), self.best_logs.clone());
        buffers.insert(AVERAGE.to_owned(), self.average.clone());
        for (epoch, params) in self.epochs.iter().enumerate() {
            buffers.insert(epoch_name(epoch), params.clone());
        }
    }

    pub(super) fn steps_an_epoch(&self) -> usize {
        setup::steps_an_epoch(self.task, self.recipe)
    }

    pub(super) fn steps(&self) -> usize {
        self.steps_an_epoch() * self.recipe.epochs
    }

    /// The last step of an epoch is done, but its validation is not.
    pub(super) fn epoch_is_over(&self) -> bool {
        self.state.history.epochs.len() < self.state.step / self.steps_an_epoch()
    }

    /// No step is left, or early stopping applies.
    pub(super) fn is_over(&self) -> bool {
        let history = &self.state.history;
        let since_best = history.epochs.len() - history.best_epoch.unwrap_or(history.epochs.len());
        let patience = self.recipe.patience;
        self.state.step >= self.steps() || (patience > 0 && since_best >= patience)
    }

    pub(super) fn seconds(&self) -> f64 {
        self.begun_at.1 + self.begun.elapsed().as_secs_f64()
    }

    pub(super) fn progress(&self, validating: Option<(usize, usize)>) -> Progress<'_> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let own = self.state.step - self.begun_at.0;
        let rows = own as f64 * self.task.train.len() as f64 / self.steps_an_epoch() as f64;
        let left = self.steps().saturating_sub(self.state.step) as f64;
        Progress {
            step: self.state.step,
            steps: self.steps(),
            epoch: (self.state.step.saturating_sub(1)) / self.steps_an_epoch() + 1,
            epochs: self.recipe.epochs,
            history: &self.state.history,
            rows_per_second: rows / seconds.max(1e-9),
            tokens: self.state.tokens,
            padded: self.state.padded,
            seconds_left: (own > 0).then(|| left * seconds / own as f64),
            validating,
        }
    }

    /// ln p of the validation rows, as f32 so that a snapshot holds them to the bit.
    pub(super) async fn validate(
        &self,
        model: &Model,
        lora: &Lora,
        progress: OnProgress<'_>,
    ) -> Result<Vec<f32>, ClassifierError> {
        let rows: Vec<&[u32]> = self.task.validation.iter().map(|r| r.ids.as_slice()).collect();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let prefix = shared_prefix(rows.iter().copied());
        let mut scoring = Scoring::new(self.task.class_tokens, &rows[0][..prefix]);
        let logs = scoring
            .log_probabilities(model, Some(lora), &rows, |done| {
                progress(&self.progress(Some((done, rows.len()))))
            })
            .await?;
        Ok(logs.iter().map(|&x| x as f32).collect())
    }

    /// Loss, AUC and F1 on the validation rows.
    fn figures(&self, logs: &[f32]) -> Result<[Option<f64>; 3], ClassifierError> {
        if logs.is_empty() {
            return Ok([None; 3]);
        }
        let classes = self.task.class_tokens.len();
        let truth: Vec<usize> = self.task.validation.iter().map(|r| r.class).collect();
        let wide: Vec<f64> = logs.iter().map(|&x| f64::from(x)).collect();
        let probabilities = crate::calibration::softmax(&wide, classes, 1.0);
        let positive = self.task.positive;
        let scored = Scored {
            classes,
            truth: &truth,
            probabilities: &probabilities,
            positive,
            threshold: 0.5,
        };
        let evaluation = evaluate(&scored, &[])?;
        let loss = log_loss(&probabilities, classes, &truth);
        Ok([Some(loss), evaluation.roc_auc.value, evaluation.f1.value])
    }

    /// Whether the validation rows select the epoch.
    fn chooses_epoch(&self) -> bool {
        self.recipe.chooses_epoch(self.task.validation.len())
    }

    /// Records the end of an epoch: the adapter after it, and its scores of the validation rows.
    pub(super) fn end_epoch(
        &mut self,
        params: Vec<f32>,
        logs: Vec<f32>,
    ) -> Result<(), ClassifierError> {
        let [validation_loss, validation_auc, validation_f1] = self.figures(&logs)?;
        let epoch = self.state.history.epochs.len() + 1;
        let losses = self.state.history.steps.iter().filter(|s| s.epoch == epoch && s.taken);
        let train_loss = crate::metrics::mean(losses.map(|s| s.loss)).unwrap_or(0.0);
        let step = self.state.step;
        let better = self.state.history.end_epoch(Epoch {
            epoch,
            step,
            train_loss,
            validation_loss,
            validation_auc,
            validation_f1,
        });
        if self.keep_epochs {
            self.epochs.push(params.clone());
        }
        if better || !self.chooses_epoch() {
            (self.best, self.best_logs) = (Some(params), logs);
        }
        Ok(())
    }

    /// Whether an epoch was finished, so that there is a best adapter.
    pub(super) fn has_best(&self) -> bool {
        self.best.is_some()
    }

    /// Selects the adapter to keep. `last` is the current one: it is kept if no epoch has finished, and may be empty
    /// otherwise. The device only scores validation rows, only those not scored yet, and none unless `score` says so.
    pub(super) async fn conclude(
        mut self,
        model: &Model,
        layout: LoraLayout,
        last: Vec<f32>,
        score: bool,
        progress: OnProgress<'_>,
    ) -> Result<Fitted, ClassifierError> {
        let mut params = match self.best.take() {
            Some(best) => best,
            None => {
                if score {
                    let lora = Lora::new(&model.gpu, layout.clone(), &last)?;
                    self.best_logs = self.validate(model, &lora, progress).await?;
                }
                last
            }
        };
        if !self.chooses_epoch() {
            self.state.history.best_epoch = self.state.history.epochs.last().map(|e| e.epoch);
        }
        let mut averaged = false;
        if score && self.state.averaged > 0 {
            let lora = Lora::new(&model.gpu, layout.clone(), &self.average)?;
            let logs = self.validate(model, &lora, progress).await?;
            let (new, old) = (self.figures(&logs)?, self.figures(&self.best_logs)?);
            averaged = new[1] > old[1] || (new[1] == old[1] && new[0] <= old[0]);
            if averaged {
                (params, self.best_logs) = (self.average.clone(), logs);
            }
        }
        let validation: Vec<f64> = self.best_logs.iter().map(|&x| f64::from(x)).collect();
        let classes = self.task.class_tokens.len();
        let scored = self.task.validation.iter().take(validation.len() / classes);
        let truth: Vec<usize> = scored.map(|r| r.class).collect();
        Ok(Fitted {
            layout,
            params,
            epochs: std::mem::take(&mut self.epochs),
            averaged,
            choice: Choice::on(&validation, &truth, classes, self.task.positive),
            validation,
            effort: Effort {
                seconds: self.seconds(),
                tokens: self.state.tokens,
                padded_tokens: self.state.padded,
            },
            history: self.state.history,
        })
    }
}

fn epoch_name(epoch: usize) -> String {
    format!("epoch {epoch}")
}
