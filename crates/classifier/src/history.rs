//! The history of a training run: shown live, plotted in the report, stored in the snapshot.

use serde::{Deserialize, Serialize};

/// One optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Step {
    /// From 1.
    pub step: usize,
    /// From 1.
    pub epoch: usize,
    /// Mean loss of the batch.
    pub loss: f64,
    /// Accuracy on the batch, before the update.
    pub accuracy: f64,
    /// Learning rate.
    pub rate: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// False if the step was skipped because a number was not finite.
    pub taken: bool,
}

/// The end of an epoch, measured on the validation rows; figures are none without them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    /// Optimizer steps so far.
    pub step: usize,
    /// Mean loss of the epoch's batches.
    pub train_loss: f64,
    /// Log loss.
    pub validation_loss: Option<f64>,
    /// ROC-AUC.
    pub validation_auc: Option<f64>,
    /// F1.
    pub validation_f1: Option<f64>,
}

/// A whole run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct History {
    /// The steps.
    pub steps: Vec<Step>,
    /// The epochs.
    pub epochs: Vec<Epoch>,
    /// The epoch whose adapter was kept, from 1.
    pub best_epoch: Option<usize>,
}

impl History {
    /// Adds an epoch and says whether it is the best so far: by validation AUC, then by validation loss.
    /// Without validation rows the latest is best.
    pub fn end_epoch(&mut self, epoch: Epoch) -> bool {
        let best = self.best_epoch.and_then(|b| self.epochs.iter().find(|e| e.epoch == b));
        let better = best.is_none_or(|best| match (epoch.validation_auc, best.validation_auc) {
            (Some(new), Some(old)) if new != old => new > old,
            _ => match (epoch.validation_loss, best.validation_loss) {
                (Some(new), Some(old)) => new < old,
                _ => true,
            },
        });
        if better {
            self.best_epoch = Some(epoch.epoch);
        }
        self.epochs.push(epoch);
        better
    }
}

/// Weight of a new loss in the smoothed line.
const SMOOTH: f64 = 0.1;

/// The losses as lines of (step, loss), for the live picture and the report. Losses that are not finite are left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LossLines {
    /// Of each step.
    pub raw: Vec<(f64, f64)>,
    /// The running mean of these.
    pub smooth: Vec<(f64, f64)>,
    /// Of the validation rows, where epochs ended.
    pub validation: Vec<(f64, f64)>,
}

impl LossLines {
    /// Of a run so far.
    pub fn of(steps: &[Step], epochs: &[Epoch]) -> Self {
        let finite = |point: &(f64, f64)| point.1.is_finite();
        let raw: Vec<(f64, f64)> =
            steps.iter().map(|s| (s.step as f64, s.loss)).filter(finite).collect();
        let mut mean = raw.first().map_or(0.0, |point| point.1);
        let smooth = raw.iter().map(|&(step, loss)| {
            mean += SMOOTH * (loss - mean);
            (step, mean)
        });
        let smooth = smooth.collect();
        let validation = epochs.iter().filter_map(|e| Some((e.step as f64, e.validation_loss?)));
        Self { smooth, validation: validation.filter(finite).collect(), raw }
    }
}

/// One run of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// Training rows.
    pub rows: usize,
    /// Epochs.
    pub epochs: usize,
    /// Seed.
    pub seed: u64,
    /// F1 on the test rows.
    pub f1: Option<f64>,
    /// ROC-AUC on the test rows.
    pub auc: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(epoch: usize, auc: Option<f64>, loss: Option<f64>) -> Epoch {
        Epoch {
            epoch,
            step: epoch * 10,
            train_loss: 0.5,
            validation_loss: loss,
            validation_auc: auc,
            validation_f1: None,
        }
    }

    #[test]
    fn the_best_epoch_has_the_best_auc_then_the_lowest_loss() {
        let mut history = History::default();
        assert!(history.end_epoch(epoch(1, Some(0.7), Some(0.6))));
        assert!(history.end_epoch(epoch(2, Some(0.8), Some(0.7))));
        assert!(!history.end_epoch(epoch(3, Some(0.8), Some(0.9))));
        assert!(history.end_epoch(epoch(4, Some(0.8), Some(0.5))));
        assert!(!history.end_epoch(epoch(5, Some(0.75), Some(0.1))));
        assert_eq!(history.best_epoch, Some(4));
    }

    #[test]
    fn without_validation_rows_the_last_epoch_counts() {
        let mut history = History::default();
        assert!(history.end_epoch(epoch(1, None, None)) && history.end_epoch(epoch(2, None, None)));
        assert_eq!(history.best_epoch, Some(2));
    }
}
