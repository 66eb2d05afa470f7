//! The threshold of the classifier in use, moved: everything that is told of it follows.

use hearth_classifier::{
    measure,
    metrics::{Evaluation, Scored},
    origin::ThresholdFrom,
    report::{Mistake, worst_mistakes},
};
use web_sys::Blob;

use super::{
    active::ActiveClassifier,
    problem::Problem,
    request::Request,
    results::{MISTAKES, keep},
    runs::{CLASSIFIER, KeptRun},
    state::EngineState,
};
use crate::protocol::{Evaluated, InUse};

/// The true classes of scored rows, and their probabilities one after the other.
fn columns_of(test: &Evaluated) -> (Vec<usize>, Vec<f64>) {
    let probabilities = test.rows.iter().flat_map(|row| row.probabilities.clone()).collect();
    (test.rows.iter().map(|row| row.truth).collect(), probabilities)
}

/// Figures of scored rows at a threshold.
async fn figures_at(
    request: &Request,
    test: &Evaluated,
    threshold: f64,
) -> Result<Evaluation, Problem> {
    let (names, positive) = (&test.evaluation.classes, test.evaluation.positive);
    let (truth, probabilities) = columns_of(test);
    let scored = Scored {
        classes: names.len(),
        truth: &truth,
        probabilities: &probabilities,
        positive,
        threshold,
    };
    Ok(measure::with_intervals(scored, names, &mut async || request.poll().await.is_ok()).await?)
}

/// Moves the threshold; everything that is told of this classifier is told at the new one.
async fn move_to(
    request: &Request,
    using: &mut ActiveClassifier<'_>,
    threshold: f64,
) -> Result<(), Problem> {
    let own = match &using.own {
        Some(test) => Some(figures_at(request, test, threshold).await?),
        None => None,
    };
    let measured = match &using.measured {
        Some(test) => Some(figures_at(request, test, threshold).await?),
        None => None,
    };
    let rows = using.measured.as_ref().or(using.own.as_ref()).map_or(0, |test| test.rows.len());
    using.classifier.set_threshold(threshold);
    using.origin.threshold = Some(if using.measured.is_some() && using.own.is_some() {
        ThresholdFrom::Other(rows)
    } else {
        ThresholdFrom::Test(rows)
    });
    using.evaluation = own.clone().or_else(|| measured.clone());
    if let (Some(test), Some(evaluation)) = (&mut using.own, own) {
        test.evaluation = evaluation;
    }
    if let (Some(test), Some(evaluation)) = (&mut using.measured, measured) {
        test.evaluation = evaluation;
    }
    if let (Some(report), Some(test)) = (&mut using.report, &using.own) {
        report.test = Some(test.evaluation.clone());
        // measured at the threshold before
        report.validation = None;
        report.threshold_from = using.origin.threshold;
        report.mistakes = mistakes(test);
    }
    if let (Some(run), Some(test)) = (&mut using.run, &using.own) {
        run.record.test = Some(test.evaluation.clone());
    }
    Ok(())
}

fn mistakes(test: &Evaluated) -> Vec<Mistake> {
    let (truth, probabilities) = columns_of(test);
    let evaluation = &test.evaluation;
    let scored = Scored {
        classes: evaluation.classes.len(),
        truth: &truth,
        probabilities: &probabilities,
        positive: evaluation.positive,
        threshold: evaluation.threshold,
    };
    let rows = test.rows.iter().map(|row| (row.row, row.text.as_str()));
    worst_mistakes(&scored, &evaluation.classes, rows, MISTAKES)
}

/// From which probability on the positive class is predicted. A run of this browser is kept with it.
pub async fn set_threshold(
    request: &Request,
    state: &EngineState,
    using: &mut ActiveClassifier<'_>,
    threshold: f64,
    classifier: u64,
) -> Result<InUse, Problem> {
    if !(0.0..=1.0).contains(&threshold) {
        return Err(Problem::new(
            format!("The threshold {threshold} is not within 0 to 1."),
            "Choose one that is.",
        ));
    }
    if using.id != classifier {
        return Err(Problem::new(
            format!(
                "This threshold was chosen for another classifier; {:?} is in use now.",
                using.name
            ),
            "Choose that classifier under Results, then set the threshold again.",
        ));
    }
    if using.measured.is_none() && using.own.is_none() {
        return Err(Problem::new(
            "There are no results to set a threshold for.",
            "Evaluate the classifier on a labeled table first.",
        ));
    }
    move_to(request, using, threshold).await?;
    if let Err(problem) = keep_threshold(state, using).await {
        let Problem::Failed(failure) = problem else { return Err(problem) };
        request.warn(format!(
            "The threshold is in use but could not be stored: {}. Export the classifier to keep it.",
            failure.what.trim_end_matches('.')
        ));
    }
    Ok(using.with_results())
}

async fn keep_threshold(state: &EngineState, using: &ActiveClassifier<'_>) -> Result<(), Problem> {
    let (Some(run), Some(test), Some(report)) = (&using.run, &using.own, &using.report) else {
        // a run of an earlier version has no results, but a classifier
        let Some(run) = using.run.clone() else { return Ok(()) };
        let bundle = using.to_blob(&run.record.name)?;
        return keep_classifier(state, &run, &bundle).await;
    };
    let (run, test, report) = (run.clone(), test.clone(), report.clone());
    let bundle = using.to_blob(&run.record.name)?;
    keep_classifier(state, &run, &bundle).await?;
    keep(state, &run, Some(&test), &report).await?;
    run.save(state).await
}

async fn keep_classifier(state: &EngineState, run: &KeptRun, bundle: &Blob) -> Result<(), Problem> {
    Ok(run.store(state).put(&run.record.key, CLASSIFIER, bundle).await?)
}
