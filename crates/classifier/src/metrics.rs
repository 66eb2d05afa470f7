//! Classification metrics, equal to scikit-learn's. An undefined figure has no value but a reason.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::calibration::{
    CalibrationBin, brier_of, calibration_bins, expected_calibration_error, log_loss,
};
use crate::curves::{PrPoint, Ranking, RocPoint};

/// A number, or the reason why it is undefined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Figure {
    /// The number.
    pub value: Option<f64>,
    /// Why it is undefined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Figure {
    /// A known number.
    pub fn of(value: f64) -> Self {
        Self { value: Some(value), reason: None }
    }

    /// An undefined figure, with the reason.
    pub fn missing(reason: impl Into<String>) -> Self {
        Self { value: None, reason: Some(reason.into()) }
    }

    fn from(value: Option<f64>, reason: &str) -> Self {
        value.map_or_else(|| Self::missing(reason), Self::of)
    }
}

/// A confidence interval of 95 %.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Interval {
    /// The figure, by its name in [`Evaluation`].
    pub figure: String,
    /// 2.5 % of the resamples lie below.
    pub low: f64,
    /// 2.5 % of the resamples lie above.
    pub high: f64,
    /// Resamples in which the figure was defined.
    pub resamples: usize,
}

/// Scores that cannot be measured.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum MetricsError {
    /// No rows.
    #[error("no rows to evaluate on; give it labeled rows")]
    NoRows,
    /// Sizes that do not match.
    #[error("{probabilities} probabilities for {rows} rows of {classes} classes; expected {}", .rows * .classes)]
    Shape {
        /// Probabilities found.
        probabilities: usize,
        /// Labels found.
        rows: usize,
        /// Classes.
        classes: usize,
    },
    /// A label or a positive class that does not exist.
    #[error("row {row}: class {label} of {classes}")]
    Label {
        /// Row, from 0.
        row: usize,
        /// The label.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// Probabilities that do not add up to 1.
    #[error("row {row}: the probabilities add up to {sum}; expected 1")]
    Sum {
        /// Row, from 0.
        row: usize,
        /// Their sum.
        sum: f64,
    },
    /// A probability out of range.
    #[error("row {row}: probability {value}; expected 0 to 1")]
    Probability {
        /// Row, from 0.
        row: usize,
        /// The value.
        value: f64,
    },
}

/// What is measured: the truth and the classifier's probabilities.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    /// Number of classes C, at least 2.
    pub classes: usize,
    /// True classes `[N]`.
    pub truth: &'a [usize],
    /// Probabilities `[N, C]`.
    pub probabilities: &'a [f64],
    /// The positive class, where there is one.
    pub positive: Option<usize>,
    /// With two classes, the positive one is predicted at this probability and above; otherwise the most probable class.
    pub threshold: f64,
}

impl Scored<'_> {
    /// Checks sizes and ranges.
    pub fn check(&self) -> Result<(), MetricsError> {
        let (rows, classes) = (self.truth.len(), self.classes);
        if rows == 0 {
            return Err(MetricsError::NoRows);
        }
        if classes < 2 || self.probabilities.len() != rows * classes {
            return Err(MetricsError::Shape {
                probabilities: self.probabilities.len(),
                rows,
                classes,
            });
        }
        if let Some((row, &label)) = self.truth.iter().enumerate().find(|(_, l)| **l >= classes) {
            return Err(MetricsError::Label { row, label, classes });
        }
        if let Some(label) = self.positive.filter(|&p| p >= classes) {
            return Err(MetricsError::Label { row: 0, label, classes });
        }
        if let Some(i) = self.probabilities.iter().position(|p| !(0.0..=1.0).contains(p)) {
            return Err(MetricsError::Probability {
                row: i / classes,
                value: self.probabilities[i],
            });
        }
        let sums = self.probabilities.chunks_exact(classes).map(|row| row.iter().sum::<f64>());
        match sums.enumerate().find(|(_, sum)| f64::abs(sum - 1.0) > 1e-3) {
            Some((row, sum)) => Err(MetricsError::Sum { row, sum }),
            None => Ok(()),
        }
    }

    /// Predicted classes `[N]`.
    pub fn predicted(&self) -> Vec<usize> {
        self.probabilities
            .chunks_exact(self.classes)
            .map(|row| predict(row, self.positive, self.threshold))
            .collect()
    }

    /// Rows ranked by the probability of `class`.
    pub fn ranking(&self, class: usize) -> Ranking {
        let scores: Vec<f64> =
            self.probabilities.chunks_exact(self.classes).map(|row| row[class]).collect();
        Ranking::new(&scores, self.truth.iter().map(|&t| t == class).collect())
    }
}

/// The class of one row of probabilities `[C]`.
pub fn predict(row: &[f64], positive: Option<usize>, threshold: f64) -> usize {
    match positive {
        Some(positive) if row.len() == 2 => {
            if row[positive] >= threshold {
                positive
            } else {
                1 - positive
            }
        }
        _ => {
            (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
        }
    }
}

/// Counts `[truth][predicted]`; `weights` `[N]` counts a row several times.
pub fn confusion(
    truth: &[usize],
    predicted: &[usize],
    classes: usize,
    weights: Option<&[u32]>,
) -> Vec<Vec<usize>> {
    let mut counts = vec![vec![0; classes]; classes];
    for (row, (&t, &p)) in truth.iter().zip(predicted).enumerate() {
        counts[t][p] += weights.map_or(1, |w| w[row] as usize);
    }
    counts
}

/// Rows of one class that were predicted as another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Confusion {
    /// The class that they have.
    pub actual: usize,
    /// The class predicted.
    pub predicted: usize,
    /// How many there are.
    pub rows: usize,
    /// Their share of the rows of `actual`.
    pub share: f64,
}

/// Which classes are taken for which, the most rows first; of equals, the larger share first.
pub fn confusions(counts: &[Vec<usize>]) -> Vec<Confusion> {
    let mut found = Vec::new();
    for (actual, row) in counts.iter().enumerate() {
        let all: usize = row.iter().sum();
        for (predicted, &rows) in row.iter().enumerate() {
            if rows > 0 && actual != predicted {
                found.push(Confusion { actual, predicted, rows, share: rows as f64 / all as f64 });
            }
        }
    }
    found.sort_by(|a, b| b.rows.cmp(&a.rows).then(b.share.total_cmp(&a.share)));
    found
}

/// Figures of one class against the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ClassFigures {
    /// The class.
    pub class: String,
    /// Rows that have it.
    pub support: usize,
    /// Precision: the share of the rows predicted as this class that are of this class.
    pub precision: Figure,
    /// Recall: the share of the rows of this class that are predicted as this class.
    pub recall: Figure,
    /// F1: the harmonic mean of the two.
    pub f1: Figure,
    /// Area under the ROC curve, this class against the rest.
    pub roc_auc: Figure,
    /// Average precision, this class against the rest.
    pub average_precision: Figure,
    /// ROC curve, this class against the rest.
    pub roc: Vec<RocPoint>,
    /// Precision-recall curve, this class against the rest.
    pub pr: Vec<PrPoint>,
}

/// Means over the classes that have the figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Averages {
    /// Of the precisions.
    pub precision: Figure,
    /// Of the recalls.
    pub recall: Figure,
    /// Of the F1s.
    pub f1: Figure,
}

/// Everything measured on one set of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Evaluation {
    /// Rows.
    pub rows: usize,
    /// Class names.
    pub classes: Vec<String>,
    /// The positive class.
    pub positive: Option<usize>,
    /// The threshold in use (two classes).
    pub threshold: f64,
    /// Counts `[truth][predicted]`.
    pub confusion: Vec<Vec<usize>>,
    /// Share of rows predicted correctly.
    pub accuracy: Figure,
    /// Mean recall over the classes that occur.
    pub balanced_accuracy: Figure,
    /// F1 of the positive class; without one, the macro mean.
    pub f1: Figure,
    /// ROC-AUC of the positive class; without one, the mean of one against the rest.
    pub roc_auc: Figure,
    /// Average precision, likewise.
    pub average_precision: Figure,
    /// Mean -ln p(truth).
    pub log_loss: Figure,
    /// Brier score.
    pub brier: Figure,
    /// Expected calibration error of the predicted class's probability, 10 bins.
    pub calibration_error: Figure,
    /// Each class against the rest.
    pub per_class: Vec<ClassFigures>,
    /// Means with every class equal.
    #[serde(rename = "macro")]
    pub macro_average: Averages,
    /// Means weighted by the classes' rows.
    pub weighted: Averages,
    /// Calibration of the positive class's probability; without one, of the likeliest class's.
    pub calibration: Vec<CalibrationBin>,
    /// Scores of the positive class (or the likeliest) of each true class, in 20 bars from 0 to 1.
    pub score_histogram: Vec<Vec<usize>>,
    /// Confidence intervals, by the names of the fields above; filled in by a bootstrap.
    #[serde(default)]
    pub intervals: Vec<Interval>,
}

impl Evaluation {
    /// The interval of a figure, by its name.
    pub fn interval(&self, figure: &str) -> Option<&Interval> {
        self.intervals.iter().find(|i| i.figure == figure)
    }

    /// What has to be said of scores that may be chance.
    pub fn caution(&self) -> Option<&'static str> {
        let may_be_chance = self.interval("roc_auc").is_some_and(|auc| auc.low <= 0.5);
        may_be_chance.then_some(
            "The confidence interval of ROC-AUC includes 0.5: these rows do not show that the classifier is better than \
             guessing. More labeled rows, a clearer question or a larger model may help.",
        )
    }

    /// Keeps about `points` points of each curve, ends included, so that a file does not grow with the rows.
    pub fn thin_curves(&mut self, points: usize) {
        fn thin<T>(curve: &mut Vec<T>, points: usize) {
            let (step, last) =
                (curve.len().div_ceil(points.max(1)).max(1), curve.len().saturating_sub(1));
            let mut i = 0;
            curve.retain(|_| {
                i += 1;
                (i - 1) % step == 0 || i - 1 == last
            });
        }
        for class in &mut self.per_class {
            thin(&mut class.roc, points);
            thin(&mut class.pr, points);
        }
    }
}

/// Bins of the calibration plot and error.
pub const CALIBRATION_BINS: usize = 10;
/// Bars of the score histogram.
pub const HISTOGRAM_BARS: usize = 20;

/// Measures everything but the intervals. `names` `[C]`.
pub fn evaluate(scored: &Scored<'_>, names: &[String]) -> Result<Evaluation, MetricsError> {
    scored.check()?;
    let classes = scored.classes;
    let predicted = scored.predicted();
    let counts = confusion(scored.truth, &predicted, classes, None);
    let per_class: Vec<ClassFigures> =
        (0..classes).map(|c| class_figures(scored, &counts, c, names)).collect();
    let macro_average = averages(&per_class, |_| 1.0);
    let weighted = averages(&per_class, |c| c.support as f64);
    let main = |of: fn(&ClassFigures) -> &Figure, what: &str| match scored.positive {
        Some(positive) => of(&per_class[positive]).clone(),
        None => mean_of(&per_class, of, |_| 1.0, what),
    };
    let rows = || scored.probabilities.chunks_exact(classes);
    let brier = rows().zip(scored.truth).map(|(row, &t)| brier_of(row, t)).sum::<f64>()
        / scored.truth.len() as f64;
    let (top, right): (Vec<f64>, Vec<bool>) =
        rows().zip(scored.truth).map(|(row, &t)| top_of(row, t)).unzip();
    let top_bins = calibration_bins(&top, &right, CALIBRATION_BINS);
    let (scores, hits): (Vec<f64>, Vec<bool>) = match scored.positive {
        Some(p) => {
            (rows().map(|row| row[p]).collect(), scored.truth.iter().map(|&t| t == p).collect())
        }
        None => (top, right),
    };
    let mut score_histogram = vec![vec![0; HISTOGRAM_BARS]; classes];
    for (score, &truth) in scores.iter().zip(scored.truth) {
        score_histogram[truth]
            [((score * HISTOGRAM_BARS as f64) as usize).min(HISTOGRAM_BARS - 1)] += 1;
    }
    Ok(Evaluation {
        rows: scored.truth.len(),
        classes: (0..classes).map(|c| name(names, c)).collect(),
        positive: scored.positive,
        threshold: scored.threshold,
        accuracy: Figure::of(accuracy(&counts)),
        balanced_accuracy: Figure::from(balanced_accuracy(&counts), "no rows"),
        f1: main(|c| &c.f1, "F1"),
        roc_auc: main(|c| &c.roc_auc, "ROC-AUC"),
        average_precision: main(|c| &c.average_precision, "average precision"),
        log_loss: Figure::of(log_loss(scored.probabilities, classes, scored.truth)),
        brier: Figure::of(brier),
        calibration_error: Figure::of(expected_calibration_error(&top_bins)),
        confusion: counts,
        per_class,
        macro_average,
        weighted,
        calibration: calibration_bins(&scores, &hits, CALIBRATION_BINS),
        score_histogram,
        intervals: Vec::new(),
    })
}

/// The likeliest class's probability, and whether it is the true class.
fn top_of(row: &[f64], truth: usize) -> (f64, bool) {
    let class = predict(row, None, 0.0);
    (row[class], class == truth)
}

fn name(names: &[String], class: usize) -> String {
    names.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
}

fn class_figures(
    scored: &Scored<'_>,
    counts: &[Vec<usize>],
    class: usize,
    names: &[String],
) -> ClassFigures {
    let ranking = scored.ranking(class);
    let [precision, recall, f1] = precision_recall_f1(counts, class);
    let one_sided = "needs rows of this class and of another";
    ClassFigures {
        class: name(names, class),
        support: counts[class].iter().sum(),
        precision: Figure::from(precision, "no row was predicted as this class"),
        recall: Figure::from(recall, "no row has this class"),
        f1: Figure::from(f1, "no row has this class or was predicted as it"),
        roc_auc: Figure::from(ranking.roc_auc(None), one_sided),
        average_precision: Figure::from(ranking.average_precision(None), "no row has this class"),
        roc: ranking.roc_curve(),
        pr: ranking.pr_curve(),
    }
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Precision, recall and F1 of one class, from counts `[truth][predicted]`.
pub fn precision_recall_f1(counts: &[Vec<usize>], class: usize) -> [Option<f64>; 3] {
    let hits = counts[class][class];
    let support: usize = counts[class].iter().sum();
    let called: usize = counts.iter().map(|row| row[class]).sum();
    [ratio(hits, called), ratio(hits, support), ratio(2 * hits, support + called)]
}

/// Share of rows predicted correctly; 0 without rows.
pub fn accuracy(counts: &[Vec<usize>]) -> f64 {
    let right = (0..counts.len()).map(|c| counts[c][c]).sum();
    ratio(right, counts.iter().flatten().sum()).unwrap_or(0.0)
}

/// Mean recall over the classes that occur.
pub fn balanced_accuracy(counts: &[Vec<usize>]) -> Option<f64> {
    mean((0..counts.len()).filter_map(|c| precision_recall_f1(counts, c)[1]))
}

/// The mean of the values; none if there are none.
pub fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

fn mean_of(
    classes: &[ClassFigures],
    of: fn(&ClassFigures) -> &Figure,
    weight: fn(&ClassFigures) -> f64,
    what: &str,
) -> Figure {
    let known = || classes.iter().filter_map(|c| of(c).value.map(|v| (v, weight(c))));
    let total: f64 = known().map(|(_, w)| w).sum();
    let sum: f64 = known().map(|(v, w)| v * w).sum();
    Figure::from((total > 0.0).then(|| sum / total), &format!("no class has a {what}"))
}

fn averages(classes: &[ClassFigures], weight: fn(&ClassFigures) -> f64) -> Averages {
    Averages {
        precision: mean_of(classes, |c| &c.precision, weight, "precision"),
        recall: mean_of(classes, |c| &c.recall, weight, "recall"),
        f1: mean_of(classes, |c| &c.f1, weight, "F1"),
    }
}

#[cfg(test)]
#[path = "metrics/tests.rs"]
mod tests;
