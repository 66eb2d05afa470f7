//! Scores labelled texts and measures the classifier on them.

use anyhow::Result;
use hearth_classifier::{
    calibration::CalibrationBin,
    estimator::{Labelled, TextClassifier},
    measure,
    metrics::Evaluation,
};
use web_time::Instant;

use crate::{interrupt, options::Options, output::Bar};

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
    /// Rows scored per second.
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
    // nothing here waits for anything: the pauses are for pages
    let found = pollster::block_on(measure::figures(classifier, logs, truth, async || true))?;
    Ok(Measured {
        predicted: found.predicted,
        evaluation: found.evaluation,
        calibration_before: found.calibration_before,
        f1_at_half: found.f1_at_half,
        rows_per_second: 0.0,
        probabilities: found.probabilities,
    })
}

/// F1, AUC and accuracy in words, with the interval of the AUC.
pub fn words(evaluation: &Evaluation) -> String {
    let figure = |f: &hearth_classifier::metrics::Figure| match f.value {
        Some(value) => format!("{value:.3}"),
        None => match &f.reason {
            Some(reason) => format!("none ({reason})"),
            None => "none".to_owned(),
        },
    };
    // of more than two classes one may be looked for
    let about = match evaluation.positive {
        Some(positive) if evaluation.classes.len() > 2 => {
            format!(" of {:?} against the rest", evaluation.classes[positive])
        }
        _ => String::new(),
    };
    let interval = evaluation
        .interval("roc_auc")
        .map_or(String::new(), |i| format!(" ({:.3} to {:.3})", i.low, i.high));
    format!(
        "F1{about} {}, ROC-AUC{about} {}{interval}, accuracy {} on {} rows",
        figure(&evaluation.f1),
        figure(&evaluation.roc_auc),
        figure(&evaluation.accuracy),
        evaluation.rows
    )
}
