//! Scores labelled texts and measures the classifier on them.

use anyhow::Result;
use hearth_classifier::{
    bootstrap::Bootstrap,
    calibration::{CalibrationBin, softmax},
    estimator::{Labelled, TextClassifier},
    metrics::{Evaluation, Scored, evaluate},
};
use web_time::Instant;

use crate::{interrupt, options::Options, output::Bar};

/// Resamples behind an interval.
const RESAMPLES: usize = 1000;
/// Points of a curve that a file keeps.
const POINTS: usize = 400;

/// Scores and figures of some rows.
pub struct Measured {
    /// Calibrated probabilities `[N, C]`.
    pub probabilities: Vec<f64>,
    /// Predicted classes `[N]`.
    pub predicted: Vec<usize>,
    /// The figures, with intervals.
    pub evaluation: Evaluation,
    /// Calibration without the temperature.
    pub calibration_before: Vec<CalibrationBin>,
    /// F1 at one half, whatever threshold is in use.
    pub f1_at_half: Option<f64>,
    /// Rows scored a second.
    pub rows_per_second: f64,
}

/// Scores texts, with a bar: ln p `[N, C]`.
pub async fn score(
    options: &Options,
    what: &str,
    classifier: &mut TextClassifier<'_>,
    texts: &[&str],
) -> Result<Vec<f64>> {
    let bar = Bar::of_items(options, what, texts.len() as u64);
    let progress = |done: usize| {
        bar.at(done as u64);
        !interrupt::asked()
    };
    Ok(classifier.log_probabilities(texts, progress).await?)
}

/// Scores and measures rows.
pub async fn measure(
    options: &Options,
    what: &str,
    classifier: &mut TextClassifier<'_>,
    rows: &[Labelled<'_>],
) -> Result<Measured> {
    let texts: Vec<&str> = rows.iter().map(|row| row.0).collect();
    let start = Instant::now();
    let logs = score(options, what, classifier, &texts).await?;
    let seconds = start.elapsed().as_secs_f64();
    let truth: Vec<usize> = rows.iter().map(|row| row.1).collect();
    let mut measured = figures(classifier, &logs, &truth)?;
    measured.rows_per_second = rows.len() as f64 / seconds.max(1e-9);
    Ok(measured)
}

/// Measures ln p `[N, C]` against the true classes.
pub fn figures(classifier: &TextClassifier<'_>, logs: &[f64], truth: &[usize]) -> Result<Measured> {
    let (names, choice) = (classifier.classes(), classifier.choice());
    let (classes, positive) = (names.len(), classifier.positive());
    let probabilities = softmax(logs, classes, choice.temperature);
    let scored =
        |probabilities, threshold| Scored { classes, truth, probabilities, positive, threshold };
    let own = scored(&probabilities, choice.threshold);
    let mut evaluation = evaluate(&own, names)?;
    let mut bootstrap = Bootstrap::new(own, RESAMPLES, 0)?;
    while bootstrap.step() {}
    evaluation.intervals = bootstrap.intervals();
    evaluation.thin_curves(POINTS);
    let predicted = own.predicted();
    let f1_at_half = evaluate(&scored(&probabilities, 0.5), names)?.f1.value;
    let plain = softmax(logs, classes, 1.0);
    let calibration_before = evaluate(&scored(&plain, choice.threshold), names)?.calibration;
    Ok(Measured {
        predicted,
        evaluation,
        calibration_before,
        f1_at_half,
        rows_per_second: 0.0,
        probabilities,
    })
}

/// F1, AUC and accuracy in words, with the interval of the AUC.
pub fn words(evaluation: &Evaluation) -> String {
    let figure = |f: &hearth_classifier::metrics::Figure| match f.value {
        Some(value) => format!("{value:.3}"),
        None => "none".to_owned(),
    };
    let interval = evaluation
        .interval("roc_auc")
        .map_or(String::new(), |i| format!(" ({:.3} to {:.3})", i.low, i.high));
    format!(
        "F1 {}, ROC-AUC {}{interval}, accuracy {} on {} rows",
        figure(&evaluation.f1),
        figure(&evaluation.roc_auc),
        figure(&evaluation.accuracy),
        evaluation.rows
    )
}
