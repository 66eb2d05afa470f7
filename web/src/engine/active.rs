//! The classifier in use: single texts, whole files, and the base model's own words.

use hearth_classifier::{
    estimator::TextClassifier,
    metrics::{Evaluation, predict},
    origin::{Origin, SeenTexts, TextReading, ThresholdFrom},
    prompt::PromptSpec,
    recipe::Recipe,
    report::Report,
    split::Part,
};
use hearth_formats::tokenizer::{Special, TextStream};
use hearth_gemma::{
    ModelError,
    generate::{Generator, Sampling},
};
use web_time::Instant;

use super::{
    problem::{Problem, first},
    request::Request,
    runs::KeptRun,
    scoring::{evaluated, measure, untrained},
    session::{Session, no_data},
};
use crate::protocol::{Classified, ClassifierSummary, Evaluated, FromEngine, InUse, Writing};

/// A classifier and where it comes from.
pub struct ActiveClassifier<'m> {
    /// Tells the classifiers apart that were in use.
    pub id: u64,
    pub classifier: TextClassifier<'m>,
    pub name: String,
    pub base: String,
    pub recipe: Recipe,
    pub spec: PromptSpec,
    pub evaluation: Option<Evaluation>,
    pub note: Option<String>,
    /// Where it was trained here.
    pub report: Option<Report>,
    pub origin: Origin,
    /// The test rows of its own training.
    pub own: Option<Evaluated>,
    /// The rows that it was measured on since, where these are others.
    pub measured: Option<Evaluated>,
    /// Its run, where it is one of this browser's.
    pub run: Option<KeptRun>,
}

impl ActiveClassifier<'_> {
    /// For the page.
    pub fn summary(&self) -> ClassifierSummary {
        let choice = self.classifier.choice();
        ClassifierSummary {
            id: self.id,
            run: self.run.as_ref().map(|run| run.record.key.clone()),
            name: self.name.clone(),
            classes: self.classifier.classes().to_vec(),
            positive: self.classifier.positive(),
            prompt: self.spec.clone(),
            threshold: choice.threshold,
            temperature: choice.temperature,
            base: self.base.clone(),
            evaluation: self.evaluation.clone(),
            note: self.note.clone(),
            reading: self.origin.reading.clone(),
            threshold_from: self.origin.threshold,
            has_report: self.report.is_some(),
        }
    }
}

impl<'m> Session<'m> {
    /// The classifier in use.
    pub fn in_use(&mut self) -> Result<&mut ActiveClassifier<'m>, Problem> {
        let none = || first("No classifier is in use.", "Train one, or open a .hearth file.");
        self.active.as_mut().ok_or_else(none)
    }

    /// Measures the untrained model, which is in use from then on.
    pub async fn zero_shot(
        &mut self,
        request: &Request,
        spec: &PromptSpec,
    ) -> Result<InUse, Problem> {
        let (model, prepared) = (self.loaded()?, self.prepared()?);
        let mut classifier = untrained(model, &prepared, spec)?;
        let test = prepared.rows(Part::Test);
        let (measured, rate) = measure(request, "zero-shot", &mut classifier, &test).await?;
        let data = self.state.data.as_ref().ok_or_else(no_data)?;
        let text = data.choices.as_ref().map(|choices| &choices.roles.text);
        let origin = Origin {
            reading: text.map(|text| TextReading::of(&data.table, text)),
            // it was trained on nothing
            seen: Some(SeenTexts::of([].into_iter(), [].into_iter())),
            threshold: Some(ThresholdFrom::Default),
        };
        let evaluation = Some(measured.evaluation.clone());
        let test = evaluated(&prepared, prepared.part(Part::Test), measured, rate);
        let using = self.active.insert(ActiveClassifier {
            id: self.state.next_id(),
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
        });
        Ok(using.with_results())
    }

    /// Measures the classifier in use on the data's test rows, but for those that it was trained on.
    pub async fn evaluate(&mut self, request: &Request) -> Result<InUse, Problem> {
        let prepared = self.prepared()?;
        let using = self.in_use()?;
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
        Ok(using.with_results())
    }

    /// The probabilities of a text.
    pub async fn classify(&mut self, text: &str) -> Result<Classified, Problem> {
        let using = self.in_use()?;
        let (classifier, start) = (&mut using.classifier, Instant::now());
        let probabilities = classifier.predict_proba(&[text]).await?.pop().unwrap_or_default();
        let predicted =
            predict(&probabilities, classifier.positive(), classifier.choice().threshold);
        Ok(Classified {
            classes: classifier.classes().to_vec(),
            predicted,
            cut: classifier.prompter().row(text).cut,
            probabilities,
            milliseconds: 1e3 * start.elapsed().as_secs_f64(),
        })
    }

    /// Lets the base model write on.
    pub async fn generate(
        &mut self,
        request: &Request,
        prompt: &str,
        writing: Writing,
    ) -> Result<FromEngine, Problem> {
        let loaded = self.loaded()?;
        let (model, tokenizer) = (&loaded.model, &loaded.tokenizer);
        let Writing { temperature, top_k, top_p, seed, .. } = writing;
        let sampling = Sampling { temperature, top_k, top_p, seed };
        sampling.check()?;
        let prompt = if writing.chat {
            format!("<start_of_turn>user\n{prompt}<end_of_turn>\n<start_of_turn>model\n")
        } else {
            prompt.to_owned()
        };
        if tokenizer.has_own_bos(&prompt, Special::Parse) {
            request.warn("the text already begins with <bos>, so no second one is added");
        }
        let ids = tokenizer.encode_with_bos(&prompt, Special::Parse);
        let max = model.max_positions();
        if ids.len() >= max {
            return Err(ModelError::TooLong { tokens: ids.len(), max }.into());
        }
        let most = writing.max_tokens.min(max - ids.len());
        // the table of the vocabulary: left in the file until someone wants to read text
        model.load_tables(|_| !request.is_cancelled()).await?;
        let mut generator = Generator::new(model, None, ids.len() + most)?;
        let (mut stream, mut tokens, start) = (TextStream::default(), 0, Instant::now());
        let on_token = |token| {
            tokens += 1;
            let text = stream.push(tokenizer, token);
            if !text.is_empty() {
                request.tell(&FromEngine::Wrote { text });
            }
            !request.is_cancelled()
        };
        generator.generate(model, None, &ids, most, sampling, on_token).await?;
        request.check()?;
        let rest = stream.finish();
        if !rest.is_empty() {
            request.tell(&FromEngine::Wrote { text: rest });
        }
        let tokens_per_second = tokens as f64 / start.elapsed().as_secs_f64().max(1e-9);
        Ok(FromEngine::Written { tokens, tokens_per_second })
    }
}
