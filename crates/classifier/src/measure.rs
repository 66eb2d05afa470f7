//! The figures of scored rows, with confidence intervals, for all front ends.

use crate::{
    bootstrap::Bootstrap,
    calibration::{CalibrationBin, softmax},
    error::ClassifierError,
    estimator::TextClassifier,
    metrics::{Evaluation, Scored, evaluate},
};

/// Bootstrap resamples per interval.
pub const RESAMPLES: usize = 1000;
/// Points of a curve that are stored.
pub const POINTS: usize = 400;

/// Figures of some rows.
#[derive(Debug, Clone, PartialEq)]
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
}

/// The figures of scored rows, with intervals; also at a threshold that was moved later.
///
/// # Errors
/// As [`figures`].
pub async fn with_intervals(
    scored: Scored<'_>,
    names: &[String],
    proceed: &mut impl AsyncFnMut() -> bool,
) -> Result<Evaluation, ClassifierError> {
    let mut evaluation = evaluate(&scored, names)?;
    let mut bootstrap = Bootstrap::new(scored, RESAMPLES, 0)?;
    loop {
        if !proceed().await {
            return Err(ClassifierError::Stopped);
        }
        if !bootstrap.step() {
            break;
        }
    }
    evaluation.intervals = bootstrap.intervals();
    evaluation.thin_curves(POINTS);
    Ok(evaluation)
}

/// Measures ln p `[N, C]` against the true classes `[N]`. `proceed` is awaited between resamples, so that a browser's
/// worker can handle messages, and returns `false` to stop; other callers pass `async || true`.
///
/// # Errors
/// No rows, scores that are not numbers, or [`ClassifierError::Stopped`].
pub async fn figures(
    classifier: &TextClassifier<'_>,
    logs: &[f64],
    truth: &[usize],
    mut proceed: impl AsyncFnMut() -> bool,
) -> Result<Measured, ClassifierError> {
    let (names, choice) = (classifier.classes(), classifier.choice());
    let (classes, positive) = (names.len(), classifier.positive());
    let probabilities = softmax(logs, classes, choice.temperature);
    let scored =
        |probabilities, threshold| Scored { classes, truth, probabilities, positive, threshold };
    let own = scored(&probabilities, choice.threshold);
    let evaluation = with_intervals(own, names, &mut proceed).await?;
    let predicted = own.predicted();
    let f1_at_half = evaluate(&scored(&probabilities, 0.5), names)?.f1.value;
    let plain = softmax(logs, classes, 1.0);
    let calibration_before = evaluate(&scored(&plain, choice.threshold), names)?.calibration;
    Ok(Measured { predicted, evaluation, calibration_before, f1_at_half, probabilities })
}
