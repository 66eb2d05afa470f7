//! What a training will take.

use hearth_classifier::{
    estimator::TextClassifier, fit::Row, prepare::Prepared, prompt::PromptSpec, recipe::Recipe,
    split::Part,
};
use web_time::Instant;

use super::{
    model::Loaded,
    problem::Problem,
    request::Request,
    scoring::{tokenized, untrained},
};
use crate::protocol::{PlanReport, TimePlan};

/// Rows that are scored to learn this machine's speed.
const PROBES: usize = 4;
/// Forward, recomputation and backward take this many forwards.
const STEP_COST: f64 = 4.0;

/// What is to be trained.
pub struct Intended<'a> {
    pub spec: &'a PromptSpec,
    pub recipe: &'a Recipe,
    /// Device memory that may be used, in bytes.
    pub memory: u64,
    /// Whether the untrained model is evaluated too.
    pub zero_shot: bool,
}

/// Memory, steps and time of a training. `speed` is this machine's in tokens a second, measured if it is not known.
///
/// # Errors
/// A prompt or recipe that does not work, memory that does not suffice, a cancelled request.
pub async fn plan(
    request: &Request,
    model: &Loaded,
    prepared: &Prepared,
    speed: &mut Option<f64>,
    intended: &Intended<'_>,
) -> Result<PlanReport, Problem> {
    let mut classifier = untrained(model, prepared, intended.spec)?;
    let train = prepared.rows(Part::Train);
    let rows = tokenized(request, &classifier, &train).await?;
    let plan = classifier.plan(&rows, intended.recipe, intended.memory)?;
    let speed = match *speed {
        Some(known) => known,
        None => {
            let texts: Vec<&str> = train.iter().take(PROBES).map(|row| row.0).collect();
            *speed.insert(measure(request, &mut classifier, &texts, &rows).await?)
        }
    };
    // a row is scored without the prefix that all rows share
    let prefix = classifier.prompter().usual_prefix().len();
    let own = |row: &Row| row.ids.len().saturating_sub(prefix);
    let scored = rows.iter().map(own).sum::<usize>() as f64 / rows.len().max(1) as f64;
    let [validation, test] = [Part::Validation, Part::Test].map(|part| prepared.part(part).len());
    let scoring = |rows: usize| rows as f64 * scored / (speed * STEP_COST) / 60.0;
    let time = TimePlan {
        training: plan.tokens as f64 / speed / 60.0 + scoring(validation * intended.recipe.epochs),
        testing: scoring(test * (1 + usize::from(intended.zero_shot))),
    };
    Ok(PlanReport {
        memory: plan.memory,
        steps: plan.steps,
        tokens: plan.tokens,
        time,
        rows: train.len() + validation,
    })
}

/// Tokens a second while training, from scoring the first rows.
async fn measure(
    request: &Request,
    classifier: &mut TextClassifier<'_>,
    texts: &[&str],
    rows: &[Row],
) -> Result<f64, Problem> {
    let tokens: usize = rows[..texts.len()].iter().map(|row| row.ids.len()).sum();
    // the first pass compiles kernels and fills the kept prefix, so the second is timed
    classifier.keep_prefix(false);
    classifier.log_probabilities(texts, |_| !request.is_cancelled()).await?;
    let start = Instant::now();
    classifier.log_probabilities(texts, |_| !request.is_cancelled()).await?;
    let seconds = start.elapsed().as_secs_f64().max(1e-3);
    Ok(tokens as f64 / seconds / STEP_COST)
}
