//! Confidence intervals of figures: percentile intervals of a seeded bootstrap over the test rows.
//!
//! A resample is a weight for every row, so rows are ranked once and each resample costs one pass.

use crate::calibration::{brier_of, log_loss_of};
use crate::curves::Ranking;
use crate::metrics::{
    Interval, MetricsError, Scored, accuracy, balanced_accuracy, confusion, mean,
    precision_recall_f1,
};
use hearth_rng::Rng;

/// The figures that get an interval.
pub const FIGURES: [&str; 7] =
    ["accuracy", "balanced_accuracy", "f1", "roc_auc", "average_precision", "log_loss", "brier"];

/// A bootstrap that runs in steps, so that a worker can answer messages between them.
pub struct Bootstrap<'a> {
    scored: Scored<'a>,
    predicted: Vec<usize>,
    /// The positive class, or all of them.
    ranked: Vec<(usize, Ranking)>,
    log_losses: Vec<f64>,
    briers: Vec<f64>,
    rng: Rng,
    weights: Vec<u32>,
    samples: [Vec<f64>; FIGURES.len()],
    done: usize,
    wanted: usize,
}

impl<'a> Bootstrap<'a> {
    /// `resamples` (1,000 is usual) of the rows of `scored`.
    pub fn new(scored: Scored<'a>, resamples: usize, seed: u64) -> Result<Self, MetricsError> {
        scored.check()?;
        let rows = || scored.probabilities.chunks_exact(scored.classes).zip(scored.truth);
        let classes = match scored.positive {
            Some(positive) => positive..positive + 1,
            None => 0..scored.classes,
        };
        Ok(Self {
            predicted: scored.predicted(),
            ranked: classes.map(|c| (c, scored.ranking(c))).collect(),
            log_losses: rows().map(|(p, &t)| log_loss_of(p[t])).collect(),
            briers: rows().map(|(p, &t)| brier_of(p, t)).collect(),
            rng: Rng::new(seed),
            weights: vec![0; scored.truth.len()],
            samples: Default::default(),
            done: 0,
            wanted: resamples,
            scored,
        })
    }

    /// Draws one more resample; false when all are drawn.
    pub fn step(&mut self) -> bool {
        if self.done == self.wanted {
            return false;
        }
        let n = self.weights.len();
        self.weights.fill(0);
        for _ in 0..n {
            self.weights[self.rng.below(n)] += 1;
        }
        let weights = Some(self.weights.as_slice());
        let counts = confusion(self.scored.truth, &self.predicted, self.scored.classes, weights);
        let ranked = |of: &dyn Fn(&Ranking) -> Option<f64>| {
            mean(self.ranked.iter().filter_map(|(_, r)| of(r)))
        };
        let weighted = |values: &[f64]| -> f64 {
            values.iter().zip(&self.weights).map(|(v, &w)| v * f64::from(w)).sum::<f64>() / n as f64
        };
        let found = [
            Some(accuracy(&counts)),
            balanced_accuracy(&counts),
            mean(
                self.ranked.iter().filter_map(|(class, _)| precision_recall_f1(&counts, *class)[2]),
            ),
            ranked(&|r| r.roc_auc(weights)),
            ranked(&|r| r.average_precision(weights)),
            Some(weighted(&self.log_losses)),
            Some(weighted(&self.briers)),
        ];
        for (samples, value) in self.samples.iter_mut().zip(found) {
            samples.extend(value);
        }
        self.done += 1;
        true
    }

    /// The intervals over the resamples drawn so far. A figure that was never defined has none.
    pub fn intervals(mut self) -> Vec<Interval> {
        let interval = |(figure, samples): (&str, &mut Vec<f64>)| {
            samples.sort_by(f64::total_cmp);
            let (low, high) = (quantile(samples, 0.025)?, quantile(samples, 0.975)?);
            Some(Interval { figure: figure.into(), low, high, resamples: samples.len() })
        };
        FIGURES.into_iter().zip(&mut self.samples).filter_map(interval).collect()
    }
}

/// Quantile of sorted values, interpolated linearly (NumPy's default).
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = q * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(truth: &[usize], positive_scores: &[f64], seed: u64) -> Vec<Interval> {
        let probabilities: Vec<f64> = positive_scores.iter().flat_map(|p| [1.0 - p, *p]).collect();
        let scored = Scored {
            classes: 2,
            truth,
            probabilities: &probabilities,
            positive: Some(1),
            threshold: 0.5,
        };
        let mut bootstrap = Bootstrap::new(scored, 1000, seed).unwrap();
        let mut steps = 0;
        while bootstrap.step() {
            steps += 1;
        }
        assert_eq!(steps, 1000);
        bootstrap.intervals()
    }

    #[test]
    fn accuracy_has_a_binomial_interval() {
        // 150 of 200 right: standard error sqrt(0.75 * 0.25 / 200) = 0.0306
        let truth: Vec<usize> = (0..200).map(|i| i % 2).collect();
        let scores: Vec<f64> = (0..200)
            .map(|i| {
                if (i % 8) < 6 {
                    0.2 + 0.6 * f64::from(i % 2)
                } else {
                    0.8 - 0.6 * f64::from(i % 2)
                }
            })
            .collect();
        let intervals = run(&truth, &scores, 1);
        let accuracy = &intervals[0];
        assert_eq!(accuracy.figure, "accuracy");
        assert!(
            (accuracy.low - 0.69).abs() < 0.012 && (accuracy.high - 0.81).abs() < 0.012,
            "{accuracy:?}"
        );
        assert_eq!(intervals, run(&truth, &scores, 1));
        assert_ne!(intervals, run(&truth, &scores, 2));
    }

    #[test]
    fn undefined_figures_have_no_interval() {
        let names: Vec<String> =
            run(&[1, 1, 1], &[0.9, 0.4, 0.6], 1).into_iter().map(|i| i.figure).collect();
        assert!(!names.contains(&"roc_auc".to_string()) && names.contains(&"f1".to_string()));
    }

    #[test]
    fn resamples_without_a_class_are_left_out() {
        let intervals = run(&[1, 0, 0, 0], &[0.9, 0.4, 0.6, 0.1], 1);
        let auc = intervals.iter().find(|i| i.figure == "roc_auc").unwrap();
        // (3/4)^4 of the resamples lack the one positive row
        assert!((600..760).contains(&auc.resamples), "{}", auc.resamples);
    }

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
