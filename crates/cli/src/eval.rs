//! `hearth eval`

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use hearth_classifier::{
    columns::{Dataset, DatasetOptions, Repeats},
    estimator::{Labelled, TextClassifier},
    metrics::Evaluation,
    split::Part,
};
use hearth_gemma::Embedding;
use serde::Serialize;

use crate::{
    Outcome, classifier_file,
    data::{LabelSetArgs, TableArgs},
    measure::{self, Measured, measure},
    options::Options,
    output,
    reading::Reading,
    session::{ModelArgs, Session},
};

/// Evaluate a trained classifier on labeled texts
#[derive(Args)]
pub struct Eval {
    #[command(flatten)]
    table: TableArgs,
    /// A classifier's file, or the folder of the run that made it
    #[arg(long, value_name = "FILE")]
    classifier: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// The label column [default: guessed]
    #[arg(long, value_name = "COL")]
    label: Option<String>,
    #[command(flatten)]
    labels: LabelSetArgs,
    /// Evaluate only the rows that this column marks as test
    #[arg(long, value_name = "COL")]
    split: Option<String>,
    /// Score again with every prompt computed in full, and compare with the cached prefix
    #[arg(long)]
    check_prefix: bool,
}

/// Scoring with the cached prefix, compared with prompts computed in full.
#[derive(Serialize)]
struct PrefixCheck {
    /// Largest difference of a class's probability.
    max_difference: f64,
    tokens: usize,
    whole_tokens: usize,
    rows_per_second: f64,
    whole_rows_per_second: f64,
}

impl PrefixCheck {
    fn words(&self) -> String {
        format!(
            "cached prefix: probabilities differ by at most {:.1e}; {} tokens computed instead of {} ({:.2} times fewer), {:.2} rows/s instead of {:.2} ({:.2} times faster)",
            self.max_difference,
            self.tokens,
            self.whole_tokens,
            self.whole_tokens as f64 / self.tokens as f64,
            self.rows_per_second,
            self.whole_rows_per_second,
            self.rows_per_second / self.whole_rows_per_second
        )
    }
}

#[derive(Serialize)]
struct Report {
    reading: Reading,
    f1: Option<f64>,
    auc: Option<f64>,
    accuracy: Option<f64>,
    rows: usize,
    /// Rows that were used in training and are left out.
    used_in_training: usize,
    score_rows_per_second: f64,
    temperature: f64,
    threshold: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix_check: Option<PrefixCheck>,
    evaluation: Evaluation,
}

pub async fn run(options: &Options, args: &Eval) -> Result<Outcome> {
    let bundle = classifier_file::read(&args.classifier)?;
    let table = args.table.read_for(bundle.classifier.origin.reading.as_ref())?;
    let (mut roles, reading) = args.table.roles_of(
        &table,
        args.label.as_deref(),
        bundle.classifier.origin.reading.as_ref(),
    )?;
    reading.note();
    let kept = &bundle.classifier;
    if let Some(split) = &args.split {
        roles.split = Some(hearth_classifier::columns::column(&table, split)?);
    }
    // the classifier knows the classes and their order; the file may lack some
    let wanted = DatasetOptions {
        drop_bad: args.table.columns.drop_bad,
        labels: args.labels.choices(&table, roles.label),
        ..DatasetOptions::default()
    };
    let (data, mut notes) = Dataset::labelled_as(&table, &roles, &wanted, &kept.classes)
        .with_context(|| args.table.name())?;
    let (repeats, _) = Repeats::among(&data, &kept.classes);
    notes.extend(repeats.words(false));
    notes.iter().for_each(|note| output::note(&format!("warning: {note}")));
    let is_test = |e: &&hearth_classifier::columns::Example| {
        args.split.is_none() || e.split.as_deref().and_then(Part::parse) == Some(Part::Test)
    };
    let rows: Vec<Labelled<'_>> =
        data.iter().filter(is_test).map(|e| (e.text.as_str(), e.label)).collect();
    if let Some(split) = args.split.as_ref().filter(|_| rows.is_empty()) {
        bail!("{}: the column {split:?} marks no row as test", args.table.name());
    }
    if rows.is_empty() {
        bail!("{}: no rows are left to evaluate on", args.table.name());
    }
    let (rows, used_in_training) = match &kept.origin.seen {
        Some(seen) => seen.lookup().unseen(rows, |row| row.0),
        None => (rows, 0),
    };
    if rows.is_empty() {
        bail!(
            "{}: all {used_in_training} rows were used in training, so none are left to evaluate on: give a table with other texts",
            args.table.name()
        );
    }
    if used_in_training > 0 {
        output::note(&format!(
            "warning: {used_in_training} of {} rows were used in training and are left out",
            rows.len() + used_in_training
        ));
    }
    let session = Session::open(options, &args.model, Embedding::FromSource).await?;
    let mut classifier = classifier_file::open(&session, &bundle).await?;
    let measured = measure(options, "measuring", &mut classifier, &rows).await?;
    let prefix_check = match args.check_prefix {
        true => Some(check_prefix(options, &mut classifier, &rows, &measured).await?),
        false => None,
    };
    let choice = classifier.choice();
    let evaluation = measured.evaluation;
    if !options.json {
        output::line(&measure::words(&evaluation))?;
        evaluation.caution().into_iter().for_each(output::note);
        if let Some(check) = &prefix_check {
            output::line(&check.words())?;
        }
        return Ok(Outcome::Done);
    }
    output::json(&Report {
        reading,
        f1: evaluation.f1.value,
        auc: evaluation.roc_auc.value,
        accuracy: evaluation.accuracy.value,
        rows: rows.len(),
        used_in_training,
        score_rows_per_second: measured.rows_per_second,
        temperature: choice.temperature,
        threshold: choice.threshold,
        prefix_check,
        evaluation,
    })?;
    Ok(Outcome::Done)
}

async fn check_prefix(
    options: &Options,
    classifier: &mut TextClassifier<'_>,
    rows: &[Labelled<'_>],
    kept: &Measured,
) -> Result<PrefixCheck> {
    let prompts = classifier.prompter().rows(rows.iter().map(|row| row.0));
    let whole_tokens = prompts.rows.iter().map(|row| row.ids.len()).sum();
    let prefix = classifier.prompter().usual_prefix();
    let tails = prompts.rows.iter().map(|row| match row.ids.starts_with(&prefix) {
        true => row.ids.len() - prefix.len(),
        false => row.ids.len(),
    });
    let tokens = prefix.len() + tails.sum::<usize>();
    classifier.keep_prefix(false);
    let whole = measure(options, "scoring without the cached prefix", classifier, rows).await?;
    classifier.keep_prefix(true);
    let pairs = kept.probabilities.iter().zip(&whole.probabilities);
    Ok(PrefixCheck {
        max_difference: pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max),
        tokens,
        whole_tokens,
        rows_per_second: kept.rows_per_second,
        whole_rows_per_second: whole.rows_per_second,
    })
}
