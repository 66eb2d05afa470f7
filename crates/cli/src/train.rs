//! `hearth train`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use hearth_classifier::{
    card::model_card,
    error::ClassifierError,
    estimator::TextClassifier,
    fit::{FitOptions, Fitted},
    metrics::Evaluation,
    origin::Origin,
    predictions::PredictionsWriter,
    recipe::Recipe,
    report::{Report, Speed, worst_mistakes},
    split::Part,
};
use serde::Serialize;

use crate::{
    Outcome,
    data::{LabelArgs, Prepared, SplitArgs, TableArgs, prepare},
    measure::{self, Measured, measure},
    options::Options,
    output,
    reading::Reading,
    run_folder::{CLASSIFIER, RunFolder},
    session::{ModelArgs, Session, embedding_for},
    train_args::{PromptArgs, RecipeArgs, settings},
    train_progress::Watch,
};

/// Number of wrong predictions in the report.
const MISTAKES: usize = 20;

/// Train a text classifier on a table of labeled texts
#[derive(Args)]
pub struct Train {
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    split: SplitArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The folder for classifier, adapter, figures, report and snapshots
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Resume the run in --out from its snapshot
    #[arg(long)]
    resume: bool,
    /// End the run in --out at its snapshot and keep its best adapter; works with any build, GPU and
    /// --weights
    #[arg(long, conflicts_with = "resume")]
    finish: bool,
    /// Overwrite what an earlier run left in --out
    #[arg(long, conflicts_with_all = ["resume", "finish"])]
    force: bool,
    /// GPU memory that training may use, in GB
    #[arg(long, value_name = "GB", default_value_t = 8.0)]
    memory: f64,
    /// Prefix cells of predictions.csv that a spreadsheet would run as formulas with an apostrophe
    #[arg(long)]
    for_spreadsheets: bool,
    /// Do not score the test rows with the untrained model for comparison
    #[arg(long)]
    no_zero_shot: bool,
}

/// The result for machines, and `metrics.json`.
#[derive(Serialize)]
struct Metrics<'a> {
    reading: &'a Reading,
    warnings: &'a [String],
    f1: Option<f64>,
    auc: Option<f64>,
    accuracy: Option<f64>,
    f1_at_half: Option<f64>,
    /// Training rows.
    rows: usize,
    validation_rows: usize,
    test_rows: usize,
    epochs: usize,
    seconds: f64,
    best_epoch: Option<usize>,
    averaged: bool,
    temperature: f64,
    threshold: f64,
    tokens: u64,
    padded_tokens: u64,
    score_rows_per_second: f64,
    gpu_bytes: u64,
    adapter: String,
    command: String,
    zero_shot: Option<Short>,
    recipe: &'a Recipe,
    history: &'a hearth_classifier::history::History,
    evaluation: &'a Evaluation,
}

/// The three figures alone.
#[derive(Serialize)]
struct Short {
    f1: Option<f64>,
    auc: Option<f64>,
    accuracy: Option<f64>,
}

impl Short {
    fn of(e: &Evaluation) -> Self {
        Self { f1: e.f1.value, auc: e.roc_auc.value, accuracy: e.accuracy.value }
    }
}

pub async fn run(options: &Options, args: &Train) -> Result<Outcome> {
    let (recipe, spec) = settings(&args.recipe, &args.prompt)?;
    let mut prepared = prepare(&args.table, &args.labels, &args.split)?;
    prepared.hold_out(recipe.validation_share, recipe.seed)?;
    let folder = RunFolder::open(&args.out, args.resume || args.finish, args.force)?;
    prepared.note();
    let session = Session::open(options, &args.model, embedding_for(&recipe)).await?;
    let (model, tokenizer) = (&session.model, session.tokenizer()?);
    let classes = prepared.data.classes.clone();
    let (positions, codelab) = (model.config.max_positions, args.recipe.is_codelab());
    let spec = args.prompt.fit(spec, &classes, tokenizer, positions, codelab)?;
    let positive = prepared.data.positive;
    let new = || TextClassifier::new(model, tokenizer, &classes, positive, &spec);
    let mut classifier = new()?;
    describe(&mut prepared, &classifier);

    let fit_options = FitOptions {
        memory: (args.memory * 1e9) as u64,
        resume: args.resume,
        finish: args.finish,
        ..FitOptions::default()
    };
    let (train, validation) = (prepared.rows(Part::Train), prepared.rows(Part::Validation));
    let mut store = folder.snapshots();
    let mut watch = Watch::new(options);
    let fitted = classifier
        .fit(&train, Some(&validation), &recipe, &fit_options, Some(&mut store), &mut |p| {
            watch.see(p)
        })
        .await;
    if let Ok(fitted) = &fitted {
        watch.end(&fitted.history);
    }
    drop(watch);
    if matches!(fitted, Err(ClassifierError::Stopped)) {
        output::note(&format!(
            "stopped; a snapshot is in {}: the same command with --resume continues, with --finish it keeps the best so far",
            args.out.display()
        ));
    }
    let fitted = fitted?;

    let test = prepared.rows(Part::Test);
    let measured = measure(options, "testing", &mut classifier, &test).await?;
    let zero_shot = if args.no_zero_shot {
        None
    } else {
        Some(measure(options, "zero-shot", &mut new()?, &test).await?.evaluation)
    };
    let on_validation = if validation.is_empty() {
        None
    } else {
        let truth: Vec<usize> = validation.iter().map(|row| row.1).collect();
        Some(measure::figures(&classifier, &fitted.validation, &truth)?.evaluation)
    };
    let gpu_bytes = model.gpu.account().peak();
    let metrics = Metrics {
        reading: &prepared.reading,
        warnings: &prepared.summary.warnings,
        f1: measured.evaluation.f1.value,
        auc: measured.evaluation.roc_auc.value,
        accuracy: measured.evaluation.accuracy.value,
        f1_at_half: measured.f1_at_half,
        rows: train.len(),
        validation_rows: validation.len(),
        test_rows: test.len(),
        epochs: fitted.history.epochs.len(),
        seconds: fitted.effort.seconds,
        best_epoch: fitted.history.best_epoch,
        averaged: fitted.averaged,
        temperature: fitted.choice.temperature,
        threshold: fitted.choice.threshold,
        tokens: fitted.effort.tokens,
        padded_tokens: fitted.effort.padded_tokens,
        score_rows_per_second: measured.rows_per_second,
        gpu_bytes,
        adapter: model.gpu.adapter().to_string(),
        command: command(),
        zero_shot: zero_shot.as_ref().map(Short::of),
        recipe: &recipe,
        history: &fitted.history,
        evaluation: &measured.evaluation,
    };
    let name = args.out.file_name().map_or("classifier".into(), |n| n.to_string_lossy());
    let base = args.model.model.file_name().map_or("model".into(), |n| n.to_string_lossy());
    let mut bundle = classifier.bundle(&name, &base, &recipe, Some(measured.evaluation.clone()))?;
    bundle.classifier.origin = Origin::of(&prepared.table, &prepared.text, &prepared);
    folder.write(CLASSIFIER, &bundle.to_bytes()?)?;
    folder.write("adapter/adapter_model.safetensors", &bundle.adapter)?;
    folder.write("adapter/adapter_config.json", bundle.adapter_config.as_bytes())?;
    let card = model_card(&bundle.classifier, Some(&prepared.summary), "");
    folder.write("adapter/README.md", card.as_bytes())?;
    folder.write("metrics.json", serde_json::to_string_pretty(&metrics)?.as_bytes())?;
    let predicted = predictions(&prepared, &measured, classifier.classes(), args.for_spreadsheets)?;
    folder.write("predictions.csv", &predicted)?;
    let filled = classifier.prompter().fill("…");
    let report = Report {
        title: name.into_owned(),
        command: metrics.command.clone(),
        model: base.into_owned(),
        adapter: metrics.adapter.clone(),
        data: prepared.summary.clone(),
        prompt: spec.clone(),
        filled_prompt: filled,
        zero_shot: zero_shot.clone(),
        validation: on_validation,
        threshold_from: bundle.classifier.origin.threshold,
        ..report(&prepared, &measured, &fitted, &recipe, &classes, gpu_bytes)
    };
    folder.write("report.html", report.to_html().context("drawing the report")?.as_bytes())?;

    if options.json {
        output::json(&metrics)?;
        return Ok(Outcome::Done);
    }
    if let Some(zero_shot) = &zero_shot {
        output::line(&format!("untrained  {}", measure::words(zero_shot)))?;
    }
    output::line(&format!("trained    {}", measure::words(&measured.evaluation)))?;
    measured.evaluation.caution().into_iter().for_each(output::note);
    output::line(&format!(
        "written to {}: {CLASSIFIER}, adapter, report.html, metrics.json, predictions.csv",
        args.out.display()
    ))?;
    Ok(Outcome::Done)
}

/// Completes the data summary by what only the tokenizer knows.
fn describe(prepared: &mut Prepared, classifier: &TextClassifier<'_>) {
    // rows beyond a limit are not used
    let parts = [Part::Train, Part::Validation, Part::Test];
    let used = parts.into_iter().flat_map(|part| prepared.part(part));
    let texts = used.map(|&i| prepared.data.examples[i].text.as_str());
    let prompts = classifier.prompter().rows(texts);
    let lengths: Vec<usize> = prompts.rows.iter().map(|row| row.ids.len()).collect();
    prepared.summary.cut = prompts.cut;
    prepared.summary.tokens = hearth_classifier::columns::TokenHistogram::new(&lengths);
    if prompts.cut > 0 {
        output::note(&format!(
            "warning: {} of {} texts are truncated to fit --max-tokens; question and answer are kept in full",
            prompts.cut,
            prompts.rows.len()
        ));
    }
}

/// The report, without what only the command line knows.
fn report(
    prepared: &Prepared,
    measured: &Measured,
    fitted: &Fitted,
    recipe: &Recipe,
    classes: &[String],
    gpu_bytes: u64,
) -> Report {
    let rows = prepared.part(Part::Test);
    let truth: Vec<usize> = rows.iter().map(|&i| prepared.data.examples[i].label).collect();
    let scored = hearth_classifier::metrics::Scored {
        classes: classes.len(),
        truth: &truth,
        probabilities: &measured.probabilities,
        positive: prepared.data.positive,
        threshold: fitted.choice.threshold,
    };
    let example = |&i: &usize| &prepared.data.examples[i];
    let shown = rows.iter().map(example).map(|e| (e.row, e.text.as_str()));
    Report {
        created: crate::clock::now(),
        recipe: recipe.clone(),
        history: fitted.history.clone(),
        test: Some(measured.evaluation.clone()),
        calibration_before: Some(measured.calibration_before.clone()),
        temperature: Some(fitted.choice.temperature),
        mistakes: worst_mistakes(&scored, classes, shown, MISTAKES),
        speed: Speed {
            train_seconds: fitted.effort.seconds,
            train_tokens_per_second: fitted.effort.tokens as f64 / fitted.effort.seconds.max(1e-9),
            score_rows_per_second: measured.rows_per_second,
            gpu_bytes,
            host_bytes: None,
        },
        ..Report::default()
    }
}

/// The test rows of the file with what was predicted.
fn predictions(
    prepared: &Prepared,
    measured: &Measured,
    classes: &[String],
    for_spreadsheets: bool,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer =
        PredictionsWriter::new(&mut bytes, &prepared.table.columns, classes, for_spreadsheets)?;
    let scores = measured.probabilities.chunks_exact(classes.len());
    for ((&i, &predicted), scores) in
        prepared.part(Part::Test).iter().zip(&measured.predicted).zip(scores)
    {
        let row = prepared.data.examples[i].row - 1;
        writer.write(&prepared.table.rows[row].fields, Some(predicted), scores)?;
    }
    writer.flush()?;
    drop(writer);
    Ok(bytes)
}

/// This command, to be repeated.
pub fn command() -> String {
    let quoted = |arg: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=~:,@%+".contains(c);
        if !arg.is_empty() && arg.chars().all(plain) {
            arg
        } else {
            format!("'{}'", arg.replace('\'', r"'\''"))
        }
    };
    let args: Vec<String> = std::env::args().skip(1).map(quoted).collect();
    format!("hearth {}", args.join(" "))
}
