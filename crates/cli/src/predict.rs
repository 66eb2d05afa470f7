//! `hearth predict`

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use hearth_classifier::{
    calibration::softmax,
    columns::{check_texts, texts},
    metrics::predict,
    predictions::PredictionsWriter,
};
use hearth_gemma::Embedding;
use serde::Serialize;

use crate::{
    Outcome, classifier_file,
    data::TableArgs,
    measure::score,
    options::Options,
    output,
    session::{ModelArgs, Session},
};

/// Add a trained classifier's predictions to a table, or classify single texts
#[derive(Args)]
pub struct Predict {
    #[command(flatten)]
    table: TableArgs,
    /// A classifier's file, or the folder of the run that made it
    #[arg(long, value_name = "FILE")]
    classifier: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// The file holds one text per line and is not a table
    #[arg(long, conflicts_with_all = ["text", "delimiter", "quote", "escape", "header", "no_header"])]
    lines: bool,
    /// Prefix cells that a spreadsheet would run as formulas with an apostrophe; such texts are then changed
    #[arg(long)]
    for_spreadsheets: bool,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Overwrite --out
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    row: usize,
    prediction: Option<&'a str>,
    probabilities: &'a [f64],
}

pub async fn run(options: &Options, args: &Predict) -> Result<Outcome> {
    let bundle = classifier_file::read(&args.classifier)?;
    if let Some(path) = args.out.as_ref().filter(|path| path.exists() && !args.force) {
        bail!("{}: the file exists already; overwrite it with --force", path.display());
    }
    // a file of lines has no columns to look for
    let trained = bundle.classifier.origin.reading.as_ref().filter(|_| !args.lines);
    let table = match args.lines {
        true => args.table.read_as(args.table.reading.options(true)?)?,
        false => args.table.read_for(trained)?,
    };
    let (roles, reading) = args.table.roles_of(&table, None, trained)?;
    let reading = reading.without_label();
    reading.note();
    check_texts(&table, &roles).with_context(|| args.table.name())?;
    let (texts, _) = texts(&table, &roles);
    // a row without text gets no prediction
    let full: Vec<usize> = (0..texts.len()).filter(|&i| !texts[i].trim().is_empty()).collect();
    if full.is_empty() {
        bail!("{}: no row has any text", args.table.name());
    }
    if full.len() < texts.len() {
        let empty = texts.len() - full.len();
        let rows =
            if empty == 1 { "row has no text and gets" } else { "rows have no text and get" };
        output::note(&format!("warning: {empty} {rows} no prediction"));
    }
    let session = Session::open(options, &args.model, Embedding::FromSource).await?;
    let mut classifier = classifier_file::open(&session, &bundle).await?;
    let asked: Vec<&str> = full.iter().map(|&i| texts[i].as_str()).collect();
    let logs = score(options, "predicting", &mut classifier, &asked).await?;
    let (classes, choice) = (classifier.classes(), classifier.choice());
    let probabilities = softmax(&logs, classes.len(), choice.temperature);
    let mut scored = vec![(None, &[][..]); texts.len()];
    for (&i, row) in full.iter().zip(probabilities.chunks_exact(classes.len())) {
        scored[i] = (Some(predict(row, classifier.positive(), choice.threshold)), row);
    }
    if options.json {
        let row = |(i, (class, probabilities)): (usize, &(Option<usize>, &[f64]))| {
            let prediction = class.map(|c| classes[c].as_str());
            serde_json::json!(Row { row: i + 1, prediction, probabilities })
        };
        let rows: Vec<_> = scored.iter().enumerate().map(row).collect();
        output::json(&serde_json::json!({ "reading": reading, "classes": classes, "rows": rows }))?;
        return Ok(Outcome::Done);
    }
    let to: Box<dyn Write> = match &args.out {
        Some(path) => {
            let at = || format!("{}: writing", path.display());
            Box::new(io::BufWriter::new(std::fs::File::create(path).with_context(at)?))
        }
        None => Box::new(io::stdout().lock()),
    };
    let mut writer = PredictionsWriter::new(to, &table.columns, classes, args.for_spreadsheets)?;
    for (row, (class, probabilities)) in table.rows.iter().zip(scored) {
        writer.write(&row.fields, class, probabilities)?;
    }
    writer.flush()?;
    Ok(Outcome::Done)
}
