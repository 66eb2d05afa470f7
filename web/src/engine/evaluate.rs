//! Figures of the untrained model and of the classifier in use; single texts.

use hearth_classifier::{
    metrics::predict,
    origin::{Origin, SeenTexts, TextReading, ThresholdFrom},
    prompt::PromptSpec,
    recipe::Recipe,
    split::Part,
};
use web_time::Instant;

use super::{
    active::ActiveClassifier,
    model::Loaded,
    problem::Problem,
    request::Request,
    scoring::{evaluated, measure, untrained},
    state::EngineState,
};
use crate::protocol::Classified;

/// Measures the untrained model.
pub async fn zero_shot<'m>(
    request: &Request,
    state: &mut EngineState,
    model: &'m Loaded,
    spec: &PromptSpec,
) -> Result<ActiveClassifier<'m>, Problem> {
    let prepared = state.prepared()?;
    let mut classifier = untrained(model, &prepared, spec)?;
    let test = prepared.rows(Part::Test);
    let (measured, rate) = measure(request, "zero-shot", &mut classifier, &test).await?;
    let data = state.data()?;
    let text = data.choices.as_ref().map(|choices| &choices.roles.text);
    let origin = Origin {
        reading: text.map(|text| TextReading::of(&data.table, text)),
        // it was trained on nothing
        seen: Some(SeenTexts::of([].into_iter(), [].into_iter())),
        threshold: Some(ThresholdFrom::Default),
    };
    let evaluation = Some(measured.evaluation.clone());
    let test = evaluated(&prepared, prepared.part(Part::Test), measured, rate);
    Ok(ActiveClassifier {
        id: state.next_id(),
        classifier,
        name: "untrained".to_owned(),
        base: model.summary.name.clone(),
        recipe: Recipe::default(),
        spec: spec.clone(),
        evaluation,
        note: Some("This is the untrained model.".to_owned()),
        report: None,
        origin,
        own: Some(test),
        measured: None,
        run: None,
    })
}

/// Measures the classifier in use on the data's test rows, but for those that it was trained on.
pub async fn evaluate(
    request: &Request,
    state: &EngineState,
    using: &mut ActiveClassifier<'_>,
) -> Result<(), Problem> {
    let prepared = state.prepared()?;
    if using.classifier.classes() != prepared.data.classes {
        return Err(Problem::new(
            format!(
                "The classifier has the classes {}, but the table has {}.",
                using.classifier.classes().join(", "),
                prepared.data.classes.join(", ")
            ),
            "Choose the label column and the positive class as in training.",
        ));
    }
    let examples = &prepared.data.examples;
    let rows = prepared.part(Part::Test).iter().copied();
    let (places, left_out) = match &using.origin.seen {
        Some(seen) => seen.lookup().unseen(rows, |&place| examples[place].text.as_str()),
        None => (rows.collect(), 0),
    };
    if places.is_empty() {
        return Err(Problem::new(
            format!(
                "All {left_out} test rows of {} were used in training, so none are left to evaluate on.",
                prepared.summary.file
            ),
            "Load a table with other texts under Data.",
        ));
    }
    let test: Vec<_> = places
        .iter()
        .map(|&place| (examples[place].text.as_str(), examples[place].label))
        .collect();
    let (measured, rate) = measure(request, "testing", &mut using.classifier, &test).await?;
    let mut test = evaluated(&prepared, &places, measured, rate);
    (test.left_out, test.training_known) = (left_out, using.origin.seen.is_some());
    using.measured = Some(test);
    Ok(())
}

/// The probabilities of a text.
pub async fn classify(using: &mut ActiveClassifier<'_>, text: &str) -> Result<Classified, Problem> {
    let (classifier, start) = (&mut using.classifier, Instant::now());
    let probabilities = classifier.predict_proba(&[text]).await?.pop().unwrap_or_default();
    let predicted = predict(&probabilities, classifier.positive(), classifier.choice().threshold);
    Ok(Classified {
        classes: classifier.classes().to_vec(),
        predicted,
        cut: classifier.prompter().row(text).cut,
        probabilities,
        milliseconds: 1e3 * start.elapsed().as_secs_f64(),
    })
}
