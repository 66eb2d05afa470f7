//! Ranking: ROC and precision-recall curves, the areas under them, and thresholds chosen on them.
//!
//! Each function makes one pass over the rows in descending order of score; rows with equal scores form a
//! group. Rows have integer weights, so that a bootstrap resample is only another set of weights.

use serde::{Deserialize, Serialize};

/// Rows in descending order of score, with equal scores in one group. Computed once and used for every resample.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// Row numbers, best score first.
    order: Vec<usize>,
    /// Ends of the groups of equal scores, in `order`.
    ends: Vec<usize>,
    /// The score of each group.
    scores: Vec<f64>,
    /// Whether the row is of the positive class.
    positive: Vec<bool>,
}

/// Weights of the rows at or above a group's score.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Counts {
    score: f64,
    true_positive: f64,
    false_positive: f64,
}

/// A point of the ROC curve: everything with at least this score is called positive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct RocPoint {
    /// The score; none for the first point, where nothing is called positive.
    pub threshold: Option<f64>,
    /// False positives over negatives.
    pub false_positive_rate: f64,
    /// True positives over positives.
    pub true_positive_rate: f64,
}

/// A point of the precision-recall curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct PrPoint {
    /// The score; none for the first point, precision 1 at recall 0.
    pub threshold: Option<f64>,
    /// True positives over those called positive.
    pub precision: f64,
    /// True positives over positives.
    pub recall: f64,
}

/// The criterion by which a threshold is selected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// The highest F1.
    BestF1,
    /// At least this precision, with the highest recall.
    Precision(f64),
    /// At least this recall, with the highest precision.
    Recall(f64),
}

/// A threshold, and its figures on the rows on which it was selected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Probabilities at or above it are called positive.
    pub value: f64,
    /// F1 there.
    pub f1: f64,
    /// Precision there.
    pub precision: f64,
    /// Recall there.
    pub recall: f64,
}

impl Ranking {
    /// Ranks rows by score `[N]`; `positive` `[N]`. Scores must be finite.
    pub fn new(scores: &[f64], positive: Vec<bool>) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        // compared as numbers: 0.0 and -0.0 are one score
        let starts =
            |i: &usize| *i + 1 == order.len() || scores[order[*i]] != scores[order[*i + 1]];
        let ends: Vec<usize> = (0..order.len()).filter(starts).map(|i| i + 1).collect();
        let group_scores = ends.iter().map(|&end| scores[order[end - 1]]).collect();
        Self { order, ends, scores: group_scores, positive }
    }

    /// Running counts after each group. `weights` `[N]`, or 1 each.
    fn walk<'a>(&'a self, weights: Option<&'a [u32]>) -> impl Iterator<Item = Counts> + 'a {
        let (mut start, mut tp, mut fp) = (0, 0.0, 0.0);
        self.ends.iter().zip(&self.scores).map(move |(&end, &score)| {
            for &row in &self.order[start..end] {
                let weight = weights.map_or(1.0, |w| f64::from(w[row]));
                *(if self.positive[row] { &mut tp } else { &mut fp }) += weight;
            }
            start = end;
            Counts { score, true_positive: tp, false_positive: fp }
        })
    }

    /// Weight of the positive and of the negative rows.
    fn totals(&self, weights: Option<&[u32]>) -> (f64, f64) {
        self.walk(weights).last().map_or((0.0, 0.0), |c| (c.true_positive, c.false_positive))
    }

    /// Area under the ROC curve, by trapezoids; none without positives or without negatives.
    pub fn roc_auc(&self, weights: Option<&[u32]>) -> Option<f64> {
        let (mut area, mut last) = (0.0, (0.0, 0.0));
        for c in self.walk(weights) {
            area += (c.false_positive - last.1) * (c.true_positive + last.0) / 2.0;
            last = (c.true_positive, c.false_positive);
        }
        (last.0 > 0.0 && last.1 > 0.0).then(|| area / (last.0 * last.1))
    }

    /// Average precision, Σ (Rₙ - Rₙ₋₁) Pₙ; none without positives.
    pub fn average_precision(&self, weights: Option<&[u32]>) -> Option<f64> {
        let (mut sum, mut last) = (0.0, 0.0);
        for c in self.walk(weights) {
            let called = c.true_positive + c.false_positive;
            if called > 0.0 {
                sum += (c.true_positive - last) * c.true_positive / called;
            }
            last = c.true_positive;
        }
        (last > 0.0).then(|| sum / last)
    }

    /// The ROC curve from (0, 0) to (1, 1); empty where the area is undefined.
    pub fn roc_curve(&self) -> Vec<RocPoint> {
        let (positives, negatives) = self.totals(None);
        if positives == 0.0 || negatives == 0.0 {
            return Vec::new();
        }
        let origin =
            RocPoint { threshold: None, false_positive_rate: 0.0, true_positive_rate: 0.0 };
        let point = |c: Counts| RocPoint {
            threshold: Some(c.score),
            false_positive_rate: c.false_positive / negatives,
            true_positive_rate: c.true_positive / positives,
        };
        std::iter::once(origin).chain(self.walk(None).map(point)).collect()
    }

    /// The precision-recall curve from recall 0 to 1; empty without positives.
    pub fn pr_curve(&self) -> Vec<PrPoint> {
        let (positives, _) = self.totals(None);
        if positives == 0.0 {
            return Vec::new();
        }
        let origin = PrPoint { threshold: None, precision: 1.0, recall: 0.0 };
        let point = |c: Counts| PrPoint {
            threshold: Some(c.score),
            precision: c.true_positive / (c.true_positive + c.false_positive),
            recall: c.true_positive / positives,
        };
        std::iter::once(origin).chain(self.walk(None).map(point)).collect()
    }

    /// The threshold that reaches a goal, half-way between two scores; of equals the one nearest to 0.5.
    /// None without positives, or where the goal is out of reach.
    pub fn threshold(&self, goal: Goal) -> Option<Threshold> {
        let (positives, _) = self.totals(None);
        let groups: Vec<Counts> = self.walk(None).collect();
        let mut best: Option<(f64, Threshold)> = None;
        for (i, c) in groups.iter().enumerate() {
            let next = groups.get(i + 1).map(|n| n.score);
            let value = between(c.score, next);
            let precision = c.true_positive / (c.true_positive + c.false_positive);
            let recall = c.true_positive / positives;
            let f1 = 2.0 * c.true_positive / (positives + c.true_positive + c.false_positive);
            let gain = match goal {
                Goal::BestF1 => f1,
                Goal::Precision(wanted) if precision >= wanted => recall,
                Goal::Recall(wanted) if recall >= wanted => precision,
                Goal::Precision(_) | Goal::Recall(_) => continue,
            };
            let better = best.is_none_or(|(g, t)| {
                gain > g || (gain == g && f64::abs(value - 0.5) < f64::abs(t.value - 0.5))
            });
            if better {
                best = Some((gain, Threshold { value, f1, precision, recall }));
            }
        }
        best.filter(|(gain, _)| positives > 0.0 && *gain > 0.0).map(|(_, t)| t)
    }
}

/// A threshold at or below `score` and above `next`.
fn between(score: f64, next: Option<f64>) -> f64 {
    let Some(next) = next else { return score };
    let middle = next + (score - next) / 2.0;
    if middle > next { middle } else { score }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking() -> Ranking {
        Ranking::new(&[0.9, 0.8, 0.8, 0.4, 0.1], vec![true, true, false, true, false])
    }

    #[test]
    fn weights_equal_repeated_rows() {
        let weights = [2, 0, 3, 1, 1];
        let repeated = Ranking::new(
            &[0.9, 0.9, 0.8, 0.8, 0.8, 0.4, 0.1],
            vec![true, true, false, false, false, true, false],
        );
        let weighted =
            (ranking().roc_auc(Some(&weights)), ranking().average_precision(Some(&weights)));
        assert_eq!(weighted, (repeated.roc_auc(None), repeated.average_precision(None)));
    }

    #[test]
    fn thresholds_reach_their_goals() {
        let best = ranking().threshold(Goal::BestF1).unwrap();
        assert_eq!((best.value, best.recall), (0.25, 1.0));
        let precise = ranking().threshold(Goal::Precision(0.9)).unwrap();
        assert_eq!((precise.precision, precise.recall), (1.0, 1.0 / 3.0));
        assert!((precise.value - 0.85).abs() < 1e-12);
        let recalled = ranking().threshold(Goal::Recall(0.6)).unwrap();
        assert_eq!((recalled.recall, recalled.precision), (1.0, 0.75));
        let wrong = Ranking::new(&[0.9, 0.1], vec![false, true]);
        assert_eq!(wrong.threshold(Goal::Precision(0.8)), None);
        assert_eq!(Ranking::new(&[0.9], vec![false]).threshold(Goal::BestF1), None);
        assert_eq!(Ranking::new(&[], vec![]).threshold(Goal::BestF1), None);
    }

    #[test]
    fn neighbouring_scores_stay_apart() {
        let next = 0.3_f64;
        let score = next.next_up();
        let found =
            Ranking::new(&[score, next], vec![true, false]).threshold(Goal::BestF1).unwrap();
        assert_eq!((found.value, found.precision), (score, 1.0));
    }
}
