//! Rows scored and measured.

use hearth_classifier::{
    error::ClassifierError,
    estimator::{Labelled, TextClassifier},
    fit::Row,
    measure::{self, Measured},
    prepare::Prepared,
    prompt::PromptSpec,
};
use web_time::Instant;

use super::{inbox::Control, model::Loaded, problem::Problem, request::Request};
use crate::protocol::{Evaluated, FromEngine, ScoredRow};

/// A classifier that knows the question and nothing else.
pub fn untrained<'m>(
    model: &'m Loaded,
    prepared: &Prepared,
    spec: &PromptSpec,
) -> Result<TextClassifier<'m>, Problem> {
    let (classes, positive) = (&prepared.data.classes, prepared.data.positive);
    Ok(TextClassifier::new(&model.model, &model.tokenizer, classes, positive, spec)?)
}

/// The prompts of rows.
pub async fn tokenized(
    request: &Request,
    classifier: &TextClassifier<'_>,
    rows: &[Labelled<'_>],
) -> Result<Vec<Row>, Problem> {
    let mut prompts = Vec::with_capacity(rows.len());
    for &row in rows {
        prompts.push(classifier.row(row));
        request.poll().await?;
    }
    Ok(prompts)
}

/// The figures of scored rows: ln p `[N, C]` and the classes `[N]`.
pub async fn figures(
    request: &Request,
    classifier: &TextClassifier<'_>,
    logs: &[f64],
    truth: &[usize],
) -> Result<Measured, Problem> {
    let proceed = async || request.poll().await.is_ok();
    Ok(measure::figures(classifier, logs, truth, proceed).await?)
}

/// Scores rows and measures; also rows a second.
pub async fn measure(
    request: &Request,
    what: &str,
    classifier: &mut TextClassifier<'_>,
    rows: &[Labelled<'_>],
) -> Result<(Measured, f64), Problem> {
    let measured = measure_unless_stopped(request, what, classifier, rows).await?;
    // nothing but a training can be stopped
    measured.ok_or(Problem::Cancelled)
}

/// As [`measure`]; none where the training that it belongs to was stopped meanwhile.
pub async fn measure_unless_stopped(
    request: &Request,
    what: &str,
    classifier: &mut TextClassifier<'_>,
    rows: &[Labelled<'_>],
) -> Result<Option<(Measured, f64)>, Problem> {
    if rows.is_empty() {
        return Err(Problem::new("There are no test rows.", "Choose another split under Data."));
    }
    let start = Instant::now();
    // at once: from here on it can be stopped, and nothing can be paused
    request.tell(&FromEngine::Scoring { what: what.to_owned(), done: 0, of: rows.len() });
    let stopped = || request.inbox().control() == Control::Stop;
    let prompts = tokenized(request, classifier, rows).await?;
    let logs = classifier.score_rows(&prompts, |done| {
        let (what, of) = (what.to_owned(), prompts.len());
        request.tell_now_and_then(|| FromEngine::Scoring { what, done, of });
        !request.is_cancelled() && !stopped()
    });
    let logs = match logs.await {
        Err(ClassifierError::Stopped) if !request.is_cancelled() && stopped() => return Ok(None),
        logs => logs?,
    };
    let rate = rows.len() as f64 / start.elapsed().as_secs_f64().max(1e-9);
    let truth: Vec<usize> = rows.iter().map(|row| row.1).collect();
    Ok(Some((figures(request, classifier, &logs, &truth).await?, rate)))
}

/// Measured rows with their scores, for the page: `places` among the examples.
pub fn evaluated(
    prepared: &Prepared,
    places: &[usize],
    measured: Measured,
    rows_per_second: f64,
) -> Evaluated {
    let classes = prepared.data.classes.len();
    let rows = places.iter().zip(measured.probabilities.chunks_exact(classes));
    let row = |(&i, probabilities): (&usize, &[f64])| {
        let example = &prepared.data.examples[i];
        ScoredRow {
            row: example.row,
            text: example.text.clone(),
            truth: example.label,
            probabilities: probabilities.to_vec(),
        }
    };
    Evaluated {
        rows: rows.map(row).collect(),
        evaluation: measured.evaluation,
        calibration_before: measured.calibration_before,
        rows_per_second,
        data: prepared.summary.file.clone(),
        left_out: 0,
        training_known: true,
    }
}
