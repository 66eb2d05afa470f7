//! Calibration: log loss, Brier score, expected calibration error, and the temperature that corrects
//! overconfidence.

use serde::{Deserialize, Serialize};

/// Mean of -ln p(truth), with p kept within [ε, 1 - ε] for ε = 2⁻⁵² as scikit-learn does.
/// `probabilities` `[N, C]`, `truth` `[N]`.
pub fn log_loss(probabilities: &[f64], classes: usize, truth: &[usize]) -> f64 {
    let loss = |(row, &label): (&[f64], &usize)| log_loss_of(row[label]);
    probabilities.chunks_exact(classes).zip(truth).map(loss).sum::<f64>() / truth.len() as f64
}

/// -ln p, p kept within [ε, 1 - ε].
pub(crate) fn log_loss_of(p: f64) -> f64 {
    -p.clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln()
}

/// A row's part of the Brier score, Σ (p - truth)²; halved for two classes, so that it is the squared
/// error of the positive one's probability.
pub(crate) fn brier_of(row: &[f64], label: usize) -> f64 {
    let sum: f64 = row
        .iter()
        .enumerate()
        .map(|(class, p)| (p - f64::from(u8::from(class == label))).powi(2))
        .sum();
    if row.len() == 2 { sum / 2.0 } else { sum }
}

/// Rows whose score falls into one interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct CalibrationBin {
    /// Scores above this (the first bin includes it) …
    pub from: f64,
    /// … up to and including this.
    pub to: f64,
    /// Rows in the bin.
    pub rows: usize,
    /// Their mean score; 0 without rows.
    pub mean_score: f64,
    /// The share of them that the score is right about; 0 without rows.
    pub share: f64,
}

/// Sorts rows into `bins` equal intervals of (0, 1] by score. `hit` says whether what the score claims is so.
pub fn calibration_bins(scores: &[f64], hit: &[bool], bins: usize) -> Vec<CalibrationBin> {
    let mut sums = vec![(0usize, 0.0, 0usize); bins];
    for (&score, &hit) in scores.iter().zip(hit) {
        let edges = |b: usize| b as f64 / bins as f64;
        // by comparing with the edges themselves: a product would misplace scores on an edge
        let mut bin = ((score * bins as f64).ceil() as usize).clamp(1, bins) - 1;
        if bin > 0 && score <= edges(bin) {
            bin -= 1;
        } else if bin + 1 < bins && score > edges(bin + 1) {
            bin += 1;
        }
        let sum = &mut sums[bin];
        *sum = (sum.0 + 1, sum.1 + score, sum.2 + usize::from(hit));
    }
    let mean = |sum: f64, rows: usize| if rows == 0 { 0.0 } else { sum / rows as f64 };
    let bin = |(i, (rows, score, hits)): (usize, (usize, f64, usize))| CalibrationBin {
        from: i as f64 / bins as f64,
        to: (i + 1) as f64 / bins as f64,
        rows,
        mean_score: mean(score, rows),
        share: mean(hits as f64, rows),
    };
    sums.into_iter().enumerate().map(bin).collect()
}

/// Expected calibration error: Σ rows/N · |share - mean score| (Guo et al., "On Calibration of Modern
/// Neural Networks", 2017, eq. 3).
pub fn expected_calibration_error(bins: &[CalibrationBin]) -> f64 {
    let rows: usize = bins.iter().map(|b| b.rows).sum();
    bins.iter().map(|b| b.rows as f64 / rows as f64 * f64::abs(b.share - b.mean_score)).sum()
}

/// The fitted temperature: probabilities are softmax(logits / value).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// The temperature; above 1 it makes the classifier less sure.
    pub value: f64,
    /// True if the best value lies outside the limits: too few rows, or rows that separate perfectly.
    pub at_limit: bool,
    /// Log loss on the fitting rows at temperature 1.
    pub loss_before: f64,
    /// Log loss on the fitting rows at this temperature.
    pub loss_after: f64,
}

/// Temperatures outside these bounds say more about the few validation rows than about the classifier.
pub const TEMPERATURE_LIMITS: (f64, f64) = (0.05, 100.0);

/// Softmax of logits / temperature, row by row. `logits` `[N, C]`.
pub fn softmax(logits: &[f64], classes: usize, temperature: f64) -> Vec<f64> {
    let mut out = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(classes) {
        let max = row.iter().copied().fold(f64::MIN, f64::max);
        let start = out.len();
        out.extend(row.iter().map(|z| ((z - max) / temperature).exp()));
        let sum: f64 = out[start..].iter().sum();
        out[start..].iter_mut().for_each(|p| *p /= sum);
    }
    out
}

/// Fits the temperature that minimizes the log loss of validation rows (never of test rows).
/// `logits` `[N, C]` may be log-probabilities. None without rows or where a logit is not finite.
///
/// The loss is convex in β = 1/T with derivative `Σ (E_p[z] - z_truth)`, which is bisected.
pub fn fit_temperature(logits: &[f64], classes: usize, truth: &[usize]) -> Option<Temperature> {
    let usable = classes > 1 && !truth.is_empty() && logits.len() == truth.len() * classes;
    if !usable || logits.iter().any(|z| !z.is_finite()) || truth.iter().any(|&t| t >= classes) {
        return None;
    }
    let slope = |beta: f64| -> f64 {
        let probabilities = softmax(logits, classes, 1.0 / beta);
        let rows = probabilities.chunks_exact(classes).zip(logits.chunks_exact(classes)).zip(truth);
        rows.map(|((p, z), &t)| p.iter().zip(z).map(|(p, z)| p * z).sum::<f64>() - z[t]).sum()
    };
    let (mut low, mut high) = (1.0 / TEMPERATURE_LIMITS.1, 1.0 / TEMPERATURE_LIMITS.0);
    let at_limit = slope(low) >= 0.0 || slope(high) <= 0.0;
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        *(if slope(middle) > 0.0 { &mut high } else { &mut low }) = middle;
    }
    let value = 1.0 / f64::midpoint(low, high);
    let loss = |temperature| log_loss(&softmax(logits, classes, temperature), classes, truth);
    Some(Temperature { value, at_limit, loss_before: loss(1.0), loss_after: loss(value) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overconfident_classifier_cools_down() {
        // right in three of four rows, always claiming 0.98
        let logits = [4.0, 0.0].repeat(4);
        let fitted = fit_temperature(&logits, 2, &[0, 0, 0, 1]).unwrap();
        // the optimum claims exactly 3/4: 4/T = ln 3
        assert!((fitted.value - 4.0 / 3f64.ln()).abs() < 1e-9, "{fitted:?}");
        assert!(!fitted.at_limit && fitted.loss_after < fitted.loss_before);
        let probabilities = softmax(&logits, 2, fitted.value);
        assert!((probabilities[0] - 0.75).abs() < 1e-9);
    }

    #[test]
    fn limits_and_refusals() {
        let perfect = fit_temperature(&[1.0, 0.0, 0.0, 1.0], 2, &[0, 1]).unwrap();
        assert!(perfect.at_limit && (perfect.value - 0.05).abs() < 1e-9);
        let wrong = fit_temperature(&[1.0, 0.0, 0.0, 1.0], 2, &[1, 0]).unwrap();
        assert!(wrong.at_limit && (wrong.value - 100.0).abs() < 1e-6);
        assert_eq!(fit_temperature(&[], 2, &[]), None);
        assert_eq!(fit_temperature(&[f64::NAN, 0.0], 2, &[0]), None);
        assert_eq!(fit_temperature(&[1.0, 0.0], 2, &[2]), None);
    }

    #[test]
    fn softmax_survives_extreme_logits() {
        assert_eq!(softmax(&[1e4, -1e4, 0.0], 3, 1.0), [1.0, 0.0, 0.0]);
        assert_eq!(softmax(&[-1e300, -1e300], 2, 0.05), [0.5, 0.5]);
    }

    #[test]
    fn scores_on_an_edge_belong_below_it() {
        for bin in 1..=10 {
            let edge = f64::from(bin) / 10.0;
            let found = calibration_bins(&[edge], &[true], 10);
            assert_eq!(found.iter().position(|b| b.rows == 1), Some(bin as usize - 1), "{edge}");
        }
        assert_eq!(calibration_bins(&[0.0], &[false], 10)[0].rows, 1);
    }
}
