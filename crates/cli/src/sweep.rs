//! `hearth sweep`: training sizes × epochs × seeds.
//!
//! A size and a seed are trained once, for the most epochs asked for; the adapter after each epoch is measured
//! on the test rows, as in the codelab's plots. The learning rate falls over the whole run, so the figure
//! after two of eight epochs is not that of a run of two.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use hearth_classifier::{
    error::ClassifierError,
    estimator::TextClassifier,
    fit::{self, Choice, FitOptions, Identity, SnapshotStore},
    history::SweepPoint,
    plots::SweepFigure,
    recipe::Recipe,
    report::Report,
    split::Part,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Outcome, clock,
    data::{LabelArgs, Prepared, SplitArgs, TableArgs, prepare},
    measure::measure,
    options::Options,
    output,
    run_folder::RunFolder,
    session::{ModelArgs, Session, embedding_for},
    train::command,
    train_args::{PromptArgs, RecipeArgs, settings},
    train_progress::Watch,
};

/// Train with several numbers of rows, epochs and seeds, and plot the results
#[derive(Args)]
pub struct Sweep {
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
    /// Numbers of training rows, validation rows included
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_values_t = [50, 100, 200])]
    sizes: Vec<usize>,
    /// Seeds
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_values_t = [0])]
    seeds: Vec<u64>,
    /// The folder for figures, plots and the current run
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Resume the sweep in --out where it stopped
    #[arg(long)]
    resume: bool,
    /// Overwrite what is in --out
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    /// GPU memory that training may use, in GB
    #[arg(long, value_name = "GB", default_value_t = 8.0)]
    memory: f64,
}

/// `sweep.json`, and the result for machines.
#[derive(Serialize, Deserialize)]
struct State {
    /// What must be equal for a sweep to be resumed; empty in the files of older builds.
    #[serde(default)]
    identity: Identity,
    points: Vec<SweepPoint>,
}

const STATE: &str = "sweep.json";

pub async fn run(options: &Options, args: &Sweep) -> Result<Outcome> {
    let (recipe, spec) = settings(&args.recipe, &args.prompt)?;
    let whole = prepare(&args.table, &args.labels, &args.split)?;
    if let Some(size) = args.sizes.iter().find(|&&n| n > whole.part(Part::Train).len() || n == 0) {
        bail!("--sizes: {size} rows, but there are 1 to {}", whole.part(Part::Train).len());
    }
    let folder = RunFolder::open(&args.out, args.resume, args.force)?;
    let state = folder.file(STATE);
    if state.exists() && !args.resume && !args.force {
        bail!(
            "{}: a sweep exists already; --resume continues it, --force starts over",
            state.display()
        );
    }
    let session = Session::open(options, &args.model, embedding_for(&recipe)).await?;
    let (model, tokenizer) = (&session.model, session.tokenizer()?);
    let (positions, codelab) = (model.config.max_positions, args.recipe.is_codelab());
    let classes = whole.data.classes.clone();
    let spec = args.prompt.fit(spec, &classes, tokenizer, positions, codelab)?;
    let mut identity = fit::of_machine(model);
    identity.insert("recipe".to_owned(), serde_json::to_string(&recipe)?);
    identity.insert("prompt".to_owned(), serde_json::to_string(&spec)?);
    identity.insert("data".to_owned(), data(&whole)?);
    let mut done = State { identity, points: Vec::new() };
    if args.resume && state.exists() {
        let at = || format!("{}: reading", state.display());
        let old: State =
            serde_json::from_slice(&std::fs::read(&state).with_context(at)?).with_context(at)?;
        if old.identity.is_empty() {
            bail!(
                "{}: an older build started that sweep and did not record its settings; start over with --force",
                state.display()
            );
        }
        let differences = fit::differences(&old.identity, &done.identity);
        if !differences.is_empty() {
            let words: Vec<String> = differences.into_iter().map(|d| d.words).collect();
            bail!(
                "{}: that sweep differs: {}. Restore what changed, or start over with --force",
                state.display(),
                words.join("; ")
            );
        }
        done.points = old.points;
    }
    for &size in &args.sizes {
        for &seed in &args.seeds {
            let is_done = |p: &SweepPoint| (p.rows, p.seed) == (size, seed);
            if done.points.iter().any(is_done) {
                continue;
            }
            let recipe = Recipe { seed, ..recipe.clone() };
            let mut prepared = prepare(&args.table, &args.labels, &args.split)?;
            prepared.split = whole.split.clone();
            prepared.limit_train(size)?;
            prepared.hold_out(recipe.validation_share, seed)?;
            let (classes, positive) = (&prepared.data.classes, prepared.data.positive);
            let mut classifier = TextClassifier::new(model, tokenizer, classes, positive, &spec)?;
            output::note(&format!("sweep      {size} rows, seed {seed}"));
            let points =
                one(options, args, &prepared, &recipe, size, &mut classifier, &folder).await?;
            done.points.extend(points);
            folder.write(STATE, serde_json::to_string_pretty(&done)?.as_bytes())?;
        }
    }
    for (name, figure) in [("f1.svg", SweepFigure::F1), ("auc.svg", SweepFigure::Auc)] {
        let plot = hearth_classifier::plots::sweep(&done.points, figure)?;
        folder.write(name, plot.as_bytes())?;
    }
    let report = Report {
        title: "Sweep".to_owned(),
        created: clock::now(),
        command: command(),
        model: args.model.model.display().to_string(),
        adapter: model.gpu.adapter().to_string(),
        data: whole.summary.clone(),
        recipe,
        prompt: spec,
        sweep: done.points.clone(),
        ..Report::default()
    };
    folder.write("report.html", report.to_html()?.as_bytes())?;
    if options.json {
        output::json(&serde_json::json!({ "points": done.points }))?;
        return Ok(Outcome::Done);
    }
    for p in &done.points {
        let figure = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.3}"));
        output::line(&format!(
            "{:>6} rows  {:>3} epochs  seed {:<4} F1 {}  ROC-AUC {}",
            p.rows,
            p.epochs,
            p.seed,
            figure(p.f1),
            figure(p.auc)
        ))?;
    }
    Ok(Outcome::Done)
}

/// The rows and their parts, in an identity's words.
fn data(prepared: &Prepared) -> Result<String> {
    let mut hash = Sha256::new();
    for example in &prepared.data.examples {
        hash.update((example.text.len() as u64).to_le_bytes());
        hash.update(&example.text);
        hash.update((example.label as u64).to_le_bytes());
    }
    hash.update(serde_json::to_vec(&(&prepared.data.classes, &prepared.split))?);
    let hash = hex::encode(hash.finalize());
    Ok(format!("{} rows, {hash}", prepared.data.examples.len()))
}

/// Whether the snapshot in the folder, if any, is of another size or seed of this sweep. The machine and the settings
/// are those of the sweep by then.
fn is_another_of_the_sweep(error: &ClassifierError) -> bool {
    match error {
        ClassifierError::NothingToResume => true,
        ClassifierError::AnotherRun { differences } => {
            differences.iter().all(|d| d.name == "data" || d.name == "seed")
        }
        _ => false,
    }
}

/// Trains one size and seed, and measures every epoch.
async fn one(
    options: &Options,
    args: &Sweep,
    prepared: &Prepared,
    recipe: &Recipe,
    size: usize,
    classifier: &mut TextClassifier<'_>,
    folder: &RunFolder,
) -> Result<Vec<SweepPoint>> {
    let (train, validation) = (prepared.rows(Part::Train), prepared.rows(Part::Validation));
    let mut store = folder.snapshots();
    let mut fit_options = FitOptions {
        memory: (args.memory * 1e9) as u64,
        keep_epochs: true,
        resume: args.resume,
        ..FitOptions::default()
    };
    let mut watch = Watch::new(options);
    let mut see = |p: &fit::Progress<'_>| watch.see(p);
    let fitted =
        classifier.fit(&train, Some(&validation), recipe, &fit_options, Some(&mut store), &mut see);
    let fitted = match fitted.await {
        Err(error) if args.resume && is_another_of_the_sweep(&error) => {
            fit_options.resume = false;
            let store = Some(&mut store as &mut dyn SnapshotStore);
            classifier.fit(&train, Some(&validation), recipe, &fit_options, store, &mut see).await?
        }
        fitted => fitted?,
    };
    drop(watch);
    let test = prepared.rows(Part::Test);
    let mut points = Vec::new();
    for (epoch, params) in fitted.epochs.iter().enumerate() {
        classifier.set_fitted(&fitted.layout, params, Choice::default())?;
        let evaluation = measure(options, "testing", classifier, &test).await?.evaluation;
        points.push(SweepPoint {
            rows: size,
            epochs: epoch + 1,
            seed: recipe.seed,
            f1: evaluation.f1.value,
            auc: evaluation.roc_auc.value,
        });
    }
    Ok(points)
}
