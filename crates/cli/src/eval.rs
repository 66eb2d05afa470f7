//! `hearth eval`

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use hearth_classifier::{
    columns::{Dataset, DatasetOptions},
    estimator::Labelled,
    metrics::Evaluation,
    split::Part,
};
use serde::Serialize;

use crate::{
    Outcome, classifier_file,
    data::TableArgs,
    measure::{self, measure},
    options::Options,
    output,
    session::{ModelArgs, Session},
};

/// Measure a trained classifier on labelled texts
#[derive(Args)]
pub struct Eval {
    #[command(flatten)]
    table: TableArgs,
    /// A classifier's file, or the folder of the run that made it
    #[arg(long, value_name = "FILE")]
    classifier: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// The label's column [default: guessed]
    #[arg(long, value_name = "COL")]
    label: Option<String>,
    /// Measure only the rows that this column calls test
    #[arg(long, value_name = "COL")]
    split: Option<String>,
}

#[derive(Serialize)]
struct Report {
    f1: Option<f64>,
    auc: Option<f64>,
    accuracy: Option<f64>,
    rows: usize,
    score_rows_per_second: f64,
    temperature: f64,
    threshold: f64,
    evaluation: Evaluation,
}

pub async fn run(options: &Options, args: &Eval) -> Result<Outcome> {
    let bundle = classifier_file::read(&args.classifier)?;
    let table = args.table.read()?;
    let mut roles = args.table.roles(&table, args.label.as_deref())?;
    if let Some(split) = &args.split {
        roles.split = Some(hearth_classifier::columns::column(&table, split)?);
    }
    let kept = &bundle.classifier;
    // the classifier knows the classes and their order; the file may lack some
    let wanted = DatasetOptions { drop_bad: args.table.drop_bad, ..DatasetOptions::default() };
    let data = Dataset::labelled_as(&table, &roles, &wanted, &kept.classes)?;
    let is_test = |e: &&hearth_classifier::columns::Example| {
        args.split.is_none() || e.split.as_deref().and_then(Part::parse) == Some(Part::Test)
    };
    let rows: Vec<Labelled<'_>> =
        data.iter().filter(is_test).map(|e| (e.text.as_str(), e.label)).collect();
    if rows.is_empty() {
        bail!("{}: the column {:?} calls no row test", args.table.name(), args.split);
    }
    let session = Session::open(options, &args.model).await?;
    let mut classifier = classifier_file::open(&session, &bundle).await?;
    let measured = measure(options, "measuring", &mut classifier, &rows).await?;
    let choice = classifier.choice();
    let evaluation = measured.evaluation;
    if !options.json {
        output::line(&measure::words(&evaluation))?;
        return Ok(Outcome::Done);
    }
    output::json(&Report {
        f1: evaluation.f1.value,
        auc: evaluation.roc_auc.value,
        accuracy: evaluation.accuracy.value,
        rows: rows.len(),
        score_rows_per_second: measured.rows_per_second,
        temperature: choice.temperature,
        threshold: choice.threshold,
        evaluation,
    })?;
    Ok(Outcome::Done)
}
