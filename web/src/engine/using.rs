//! The classifier in use: single texts, whole files, and the base model's own words.

use hearth_classifier::{
    calibration::softmax,
    columns::{Guessed, TextSource, check_texts, guess_roles_told, texts},
    estimator::TextClassifier,
    metrics::{Evaluation, predict},
    predictions::PredictionsWriter,
    prompt::PromptSpec,
    recipe::Recipe,
    report::Report,
    split::Part,
    table::TableOptions,
};
use hearth_formats::tokenizer::{Special, TextStream};
use hearth_gemma::{
    ModelError,
    generate::{Generator, Sampling},
};
use web_sys::Blob;
use web_time::Instant;

use super::{
    ask::Ask,
    data::read_table,
    problem::{Problem, first},
    session::{Answer, Session},
    train::{evaluated, measure, untrained},
};
use crate::{
    protocol::{Classified, ClassifierSummary, Evaluated, FromEngine, Writing},
    storage::join,
    wire::blob,
};

/// Rows of a file that are scored and written before the next are looked at.
const ROWS: usize = 512;

/// A classifier and where it comes from.
pub struct Using<'m> {
    pub classifier: TextClassifier<'m>,
    pub name: String,
    pub base: String,
    pub recipe: Recipe,
    pub spec: PromptSpec,
    pub evaluation: Option<Evaluation>,
    pub note: Option<String>,
    /// Where it was trained here.
    pub report: Option<Report>,
}

impl Using<'_> {
    /// For the page.
    pub fn summary(&self) -> ClassifierSummary {
        let choice = self.classifier.choice();
        ClassifierSummary {
            name: self.name.clone(),
            classes: self.classifier.classes().to_vec(),
            positive: self.classifier.positive(),
            prompt: self.spec.clone(),
            threshold: choice.threshold,
            temperature: choice.temperature,
            base: self.base.clone(),
            evaluation: self.evaluation.clone(),
            note: self.note.clone(),
        }
    }
}

impl<'m> Session<'m> {
    /// The classifier in use.
    pub fn in_use(&mut self) -> Result<&mut Using<'m>, Problem> {
        let none = || first("No classifier is in use.", "Train one, or open a classifier's file.");
        self.using.as_mut().ok_or_else(none)
    }

    /// Measures the untrained model, which is in use from then on.
    pub async fn zero_shot(&mut self, ask: &Ask, spec: &PromptSpec) -> Result<Evaluated, Problem> {
        let (model, prepared) = (self.loaded()?, self.prepared()?);
        let mut classifier = untrained(model, &prepared, spec)?;
        let test = prepared.rows(Part::Test);
        let (measured, rate) = measure(ask, "zero-shot", &mut classifier, &test).await?;
        self.using = Some(Using {
            classifier,
            name: "untrained".to_owned(),
            base: model.summary.name.clone(),
            recipe: Recipe::default(),
            spec: spec.clone(),
            evaluation: Some(measured.evaluation.clone()),
            note: Some("This is the model before any training.".to_owned()),
            report: None,
        });
        Ok(evaluated(&prepared, measured, rate))
    }

    /// Measures the classifier in use on the data's test rows.
    pub async fn evaluate(&mut self, ask: &Ask) -> Result<Evaluated, Problem> {
        let prepared = self.prepared()?;
        let using = self.in_use()?;
        if using.classifier.classes() != prepared.data.classes {
            return Err(Problem::new(
                format!(
                    "The classifier knows the classes {}, the data have {}.",
                    using.classifier.classes().join(", "),
                    prepared.data.classes.join(", ")
                ),
                "Choose the label column and the positive class as they were in training.",
            ));
        }
        let test = prepared.rows(Part::Test);
        let (measured, rate) = measure(ask, "testing", &mut using.classifier, &test).await?;
        Ok(evaluated(&prepared, measured, rate))
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

    /// From which probability on the positive class is predicted.
    pub fn set_threshold(&mut self, threshold: f64) -> Result<ClassifierSummary, Problem> {
        if !(0.0..=1.0).contains(&threshold) {
            return Err(Problem::new(
                format!("The threshold {threshold} is not within 0 to 1."),
                "",
            ));
        }
        let using = self.in_use()?;
        using.classifier.set_threshold(threshold);
        Ok(using.summary())
    }

    /// Lets the base model write on.
    pub async fn generate(
        &mut self,
        ask: &Ask,
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
            ask.warn("the text begins with its own <bos>: no second one is put in front");
        }
        let ids = tokenizer.encode_with_bos(&prompt, Special::Parse);
        let max = model.max_positions();
        if ids.len() >= max {
            return Err(ModelError::TooLong { tokens: ids.len(), max }.into());
        }
        let most = writing.max_tokens.min(max - ids.len());
        // the table of the vocabulary: left in the file until someone wants to read text
        model.load_tables(|_| !ask.is_cancelled()).await?;
        let mut generator = Generator::new(model, None, ids.len() + most)?;
        let (mut stream, mut tokens, start) = (TextStream::default(), 0, Instant::now());
        let on_token = |token| {
            tokens += 1;
            let text = stream.push(tokenizer, token);
            if !text.is_empty() {
                ask.tell(&FromEngine::Wrote { text });
            }
            !ask.is_cancelled()
        };
        generator.generate(model, None, &ids, most, sampling, on_token).await?;
        ask.check()?;
        let rest = stream.finish();
        if !rest.is_empty() {
            ask.tell(&FromEngine::Wrote { text: rest });
        }
        let tokens_per_second = tokens as f64 / start.elapsed().as_secs_f64().max(1e-9);
        Ok(FromEngine::Written { tokens, tokens_per_second })
    }

    /// Adds predictions to a table. What is written lies in the browser, not in the program's memory.
    pub async fn classify_file(
        &mut self,
        ask: &Ask,
        name: String,
        file: Blob,
        options: TableOptions,
        text: Option<TextSource>,
        for_spreadsheets: bool,
    ) -> Result<Answer, Problem> {
        let using = self.in_use()?;
        let classifier = &mut using.classifier;
        let table = read_table(ask, &name, &file, options).await?;
        let Guessed { mut roles, warnings, .. } = guess_roles_told(&table);
        // what the label would be is of no matter here
        let mut guessed = warnings;
        guessed.retain(|warning| text.is_none() && warning.starts_with("the text"));
        roles.text = text.unwrap_or(roles.text);
        if roles.text.columns().into_iter().any(|c| c >= table.columns.len()) {
            return Err(Problem::new(
                "There is no such column.",
                "Choose the text's column again.",
            ));
        }
        check_texts(&table, &roles)?;
        for warning in table.warnings.iter().chain(&guessed) {
            ask.warn(format!("{name}: {warning}"));
        }
        let (texts, bad) = texts(&table, &roles);
        if bad.empty_text.len() == texts.len() {
            return Err(Problem::new("No row has a text.", "Choose another column for the text."));
        }
        let names = classifier.classes().to_vec();
        let mut parts = Vec::new();
        for (rows, texts) in table.rows.chunks(ROWS).zip(texts.chunks(ROWS)) {
            let done = parts.len() * ROWS;
            let of = table.rows.len();
            ask.tell_now_and_then(|| FromEngine::Scoring {
                what: "predicting".to_owned(),
                done,
                of,
            });
            let full: Vec<usize> =
                (0..texts.len()).filter(|&i| !texts[i].trim().is_empty()).collect();
            let asked: Vec<&str> = full.iter().map(|&i| texts[i].as_str()).collect();
            let logs = classifier.log_probabilities(&asked, |scored| {
                ask.tell_now_and_then(|| FromEngine::Scoring {
                    what: "predicting".to_owned(),
                    done: done + scored,
                    of,
                });
                !ask.is_cancelled()
            });
            let logs = logs.await?;
            let (positive, choice) = (classifier.positive(), classifier.choice());
            let probabilities = softmax(&logs, names.len(), choice.temperature);
            let mut scored = vec![(None, &[][..]); rows.len()];
            for (&i, row) in full.iter().zip(probabilities.chunks_exact(names.len())) {
                scored[i] = (Some(predict(row, positive, choice.threshold)), row);
            }
            let mut bytes = Vec::new();
            let columns = &table.columns;
            let mut writer = PredictionsWriter::new(&mut bytes, columns, &names, for_spreadsheets)?;
            let skipped = match parts.is_empty() {
                true => 0,
                false => header_bytes(columns, &names, for_spreadsheets)?,
            };
            for (row, (class, probabilities)) in rows.iter().zip(scored) {
                writer.write(&row.fields, class, probabilities)?;
            }
            writer.flush()?;
            drop(writer);
            parts.push(blob(&bytes[skipped..], "text/csv")?);
            ask.breathe().await;
            ask.check()?;
        }
        let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
        let skipped = bad.empty_text.len();
        let note = match skipped {
            0 => format!("{} rows", table.rows.len()),
            n => format!("{} rows; {n} have no text and no prediction", table.rows.len()),
        };
        let names = vec![format!("{stem}-classified.csv")];
        Ok((FromEngine::File { names, note }, vec![join(&parts)?]))
    }
}

/// Bytes of the header line: every part is written with it, and the first one keeps it.
fn header_bytes(
    columns: &[String],
    classes: &[String],
    for_spreadsheets: bool,
) -> Result<usize, Problem> {
    let mut bytes = Vec::new();
    PredictionsWriter::new(&mut bytes, columns, classes, for_spreadsheets)?.flush()?;
    Ok(bytes.len())
}
