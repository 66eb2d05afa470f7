//! Training in the browser: progress, pausing, stopping with the best, going on; then measuring.

use std::rc::Rc;

use hearth_classifier::{
    columns::TokenHistogram,
    error::ClassifierError,
    estimator::TextClassifier,
    fit::{FitOptions, Fitted, MemoryStore, Progress, SnapshotStore},
    measure::Measured,
    metrics::Scored,
    origin::{Origin, ThresholdFrom},
    prepare::Prepared,
    report::{Report, Speed, worst_mistakes},
    split::Part,
};
use web_sys::Blob;

use super::{
    active::ActiveClassifier,
    data::lengths_of,
    inbox::Control,
    model::Loaded,
    problem::Problem,
    request::Request,
    results::{self, MISTAKES},
    runs::{CLASSIFIER, KeptRun, move_to_memory},
    scoring::{evaluated, figures, measure_unless_stopped, tokenized, untrained},
    state::EngineState,
    stored,
};
use crate::{
    protocol::{Evaluated, FromEngine, RunRecord, RunState, TrainProgress},
    storage::{StorageError, run_lock::RunLock, run_store::Slots},
    wire::{BINARY, blob},
};

/// Seconds between snapshots: what a killed tab loses at most.
const SNAPSHOT_SECONDS: f64 = 30.0;

/// How a run ended.
enum Outcome {
    Fitted(Box<Fitted>),
    Paused,
}

/// Where training begins.
#[derive(Clone, Copy)]
struct StartPoint {
    /// At the last snapshot.
    resume: bool,
    /// There, and no step further: the best so far is taken.
    finish: bool,
    /// So, and nothing is scored that was not scored yet.
    at_once: bool,
}

/// What was told of a training so far.
#[derive(Default)]
struct Reported {
    steps: usize,
    epochs: usize,
}

impl Reported {
    fn see(&mut self, request: &Request, key: &str, progress: &Progress<'_>, gpu_bytes: u64) {
        let history = progress.history;
        for epoch in &history.epochs[self.epochs.min(history.epochs.len())..] {
            request.tell(&FromEngine::EpochEnded(*epoch));
        }
        self.epochs = history.epochs.len();
        request.tell_now_and_then(|| {
            let new_steps = history.steps[self.steps.min(history.steps.len())..].to_vec();
            self.steps = history.steps.len();
            FromEngine::Training(TrainProgress {
                key: key.to_owned(),
                step: progress.step,
                steps: progress.steps,
                epoch: progress.epoch,
                epochs: progress.epochs,
                new_steps,
                rows_per_second: progress.rows_per_second,
                tokens: progress.tokens,
                padded_tokens: progress.padded,
                seconds_left: progress.seconds_left,
                validating: progress.validating,
                gpu_bytes,
            })
        });
    }
}

/// Trains, or goes on, and measures.
pub async fn train<'m>(
    request: &Request,
    state: &mut EngineState,
    model: &'m Loaded,
    active: &mut Option<ActiveClassifier<'m>>,
    mut run: KeptRun,
    resume: bool,
    finish: bool,
) -> Result<FromEngine, Problem> {
    let prepared = state.prepared()?;
    // the classifier in use holds memory on the GPU that training may need
    *active = None;
    model.model.gpu.account().reset_peak();
    let mut classifier = untrained(model, &prepared, &run.record.spec)?;
    run.record.state = RunState::Running;
    // a full disk keeps nobody from training; what it costs is said with the first snapshot
    match run.try_save(state).await? {
        Ok(()) | Err(StorageError::Full(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let mut slots = run.store(state).slots(&run.record.key).await?;
    let _training = run.record.kept.then(|| RunLock::hold(&run.record.key));
    // before the first step: from here on a copy of the table is kept
    stored::tell(request, state, Some(model)).await?;
    let from = StartPoint { resume, finish, at_once: false };
    let ended = fit(request, model, &run, &mut classifier, &prepared, &mut slots, from).await;
    // what was asked of the training is over; from here on `Stop` ends the scoring of the test rows
    request.inbox().training(matches!(ended, Ok(Outcome::Fitted(_))));
    let fitted = match ended {
        Ok(Outcome::Fitted(fitted)) => fitted,
        Ok(Outcome::Paused) => {
            pause(request, state, &mut run, slots).await?;
            return Ok(FromEngine::Paused { run: run.record });
        }
        Err(Problem::Cancelled) => {
            drop(slots);
            run.store(state).remove(&run.record.key).await?;
            return Err(Problem::Cancelled);
        }
        // the page starts the engine anew and can go on, without a snapshot from the beginning
        Err(Problem::Failed(failure)) if failure.fatal => {
            return Err(Problem::Failed(failure));
        }
        Err(problem) => {
            settle(request, state, &mut run, slots).await?;
            return Err(problem);
        }
    };
    drop(slots);
    let effort = fitted.effort;
    if effort.seconds > 1.0 {
        state.speed = Some(effort.tokens as f64 / effort.seconds);
    }
    let concluded = conclude(request, state, run, model, &prepared, classifier, &fitted).await;
    request.inbox().training(false);
    let (using, run) = concluded?;
    let using = active.insert(using);
    Ok(FromEngine::Trained { run, test: using.own.clone(), classifier: using.summary() })
}

/// Notes that a run waits to be resumed: in the storage, or in memory where the storage is full.
async fn pause(
    request: &Request,
    state: &EngineState,
    run: &mut KeptRun,
    slots: Slots,
) -> Result<(), Problem> {
    run.record.state = RunState::Paused;
    let refused = match run.try_save(state).await? {
        Err(error) => error.to_string(),
        Ok(()) if slots.beyond_files() => StorageError::Full("a snapshot".to_owned()).to_string(),
        Ok(()) => return Ok(()),
    };
    let unreadable = |what: String| Problem::new(what, "Start the run again.");
    let snapshots = slots.into_memory().map_err(unreadable)?;
    request.warn(format!(
        "{refused}. The paused run is in this tab only: closing the tab would lose it."
    ));
    move_to_memory(state, run, snapshots, refused).await
}

/// After a failure: a run with a snapshot can be resumed, or ended with its best; any other is forgotten.
async fn settle(
    request: &Request,
    state: &EngineState,
    run: &mut KeptRun,
    mut slots: Slots,
) -> Result<(), Problem> {
    if (0..2).any(|slot| slots.load(slot).is_ok_and(|bytes| !bytes.is_empty())) {
        return pause(request, state, run, slots).await;
    }
    drop(slots);
    Ok(run.store(state).remove(&run.record.key).await?)
}

async fn fit(
    request: &Request,
    model: &Loaded,
    run: &KeptRun,
    classifier: &mut TextClassifier<'_>,
    prepared: &Prepared,
    slots: &mut Slots,
    mut from: StartPoint,
) -> Result<Outcome, Problem> {
    let record = &run.record;
    let gpu = &model.model.gpu;
    let train = tokenized(request, classifier, &prepared.rows(Part::Train)).await?;
    let validation = tokenized(request, classifier, &prepared.rows(Part::Validation)).await?;
    let full = slots.warning();
    loop {
        let options = FitOptions {
            memory: record.memory,
            snapshot_seconds: SNAPSHOT_SECONDS,
            resume: from.resume,
            finish: from.finish,
            at_once: from.at_once,
            ..FitOptions::default()
        };
        let mut reported = Reported::default();
        let mut see = |progress: &Progress<'_>| {
            reported.see(request, &record.key, progress, gpu.account().in_use());
            if let Some(error) = full.borrow_mut().take() {
                request.warn(format!(
                    "{error}. Training continues, but closing the tab would lose everything from now on."
                ));
            }
            !request.is_cancelled() && request.inbox().control() == Control::Continue
        };
        let fitted = classifier.fit_rows(
            &train,
            &validation,
            &record.recipe,
            &options,
            Some(&mut *slots),
            &mut see,
        );
        match fitted.await {
            Ok(fitted) => {
                if from.at_once {
                    request.warn(stopped(&fitted));
                }
                return Ok(Outcome::Fitted(Box::new(fitted)));
            }
            Err(ClassifierError::Stopped) if request.is_cancelled() => {
                return Err(Problem::Cancelled);
            }
            Err(ClassifierError::Stopped) if request.inbox().control() == Control::Stop => {
                // stopping leaves a snapshot; its best is taken
                request.inbox().training(true);
                from = StartPoint { resume: true, finish: true, at_once: true };
            }
            Err(ClassifierError::Stopped) => return Ok(Outcome::Paused),
            // killed before the first snapshot: from the start, with the same numbers
            Err(ClassifierError::NothingToResume) if from.resume && !from.finish => {
                from.resume = false;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Measures a run that has ended, and stores it. Gives its record too.
async fn conclude<'m>(
    request: &Request,
    state: &mut EngineState,
    mut run: KeptRun,
    model: &'m Loaded,
    prepared: &Rc<Prepared>,
    mut classifier: TextClassifier<'m>,
    fitted: &Fitted,
) -> Result<(ActiveClassifier<'m>, RunRecord), Problem> {
    let test = prepared.rows(Part::Test);
    let tested = measure_unless_stopped(request, "testing", &mut classifier, &test).await?;
    if tested.is_none() {
        request.warn("The test rows were not evaluated, so this run has no test results.");
    }
    let truth: Vec<usize> = prepared.rows(Part::Validation).iter().map(|row| row.1).collect();
    let unscored = fitted.validation.is_empty();
    let validation = if unscored {
        None
    } else {
        let found = figures(request, &classifier, &fitted.validation, &truth).await?;
        Some(found.evaluation)
    };
    let record = &mut run.record;
    // for comparison with the test results only
    if record.zero_shot && tested.is_some() {
        let mut plain = untrained(model, prepared, &record.spec)?;
        let measured = measure_unless_stopped(request, "zero-shot", &mut plain, &test).await?;
        record.zero_shot_test = measured.map(|(measured, _)| measured.evaluation);
    }
    let evaluation = tested.as_ref().map(|(measured, _)| measured.evaluation.clone());
    record.history = fitted.history.clone();
    record.test = evaluation.clone();
    record.validation = validation;
    record.seconds = fitted.effort.seconds;
    record.tokens = fitted.effort.tokens;
    record.gpu_bytes = model.model.gpu.account().peak();
    record.state = RunState::Finished;
    let mut report =
        report(request, model, prepared, &classifier, &run, tested.as_ref(), fitted).await?;
    let record = &run.record;
    let data = state.data()?;
    let mut origin = Origin::of(&data.table, &run.choices.roles.text, prepared);
    if unscored {
        origin.threshold = Some(ThresholdFrom::Default);
    }
    report.threshold_from = origin.threshold;
    let part = prepared.part(Part::Test);
    let test = tested.map(|(measured, rate)| evaluated(prepared, part, measured, rate));
    let mut bundle =
        classifier.bundle(&record.name, &record.model, &record.recipe, evaluation.clone())?;
    bundle.classifier.origin = origin.clone();
    let blob = blob(&bundle.to_bytes()?, BINARY)?;
    // a full disk must not take a finished classifier away: it is in use, and can be downloaded
    if let Err(problem) = keep_finished(state, &run, &blob, test.as_ref(), &report).await {
        let Problem::Failed(failure) = problem else { return Err(problem) };
        move_to_memory(state, &mut run, MemoryStore::default(), failure.what).await?;
        keep_finished(state, &run, &blob, test.as_ref(), &report).await?;
    }
    if let Some(warning) = run.farewell() {
        request.warn(warning);
    }
    let record = run.record.clone();
    let using = ActiveClassifier {
        id: state.next_id(),
        classifier,
        name: record.name.clone(),
        base: record.model.clone(),
        recipe: record.recipe.clone(),
        spec: record.spec.clone(),
        evaluation,
        note: None,
        report: Some(report),
        origin,
        own: test,
        measured: None,
        run: Some(run),
    };
    Ok((using, record))
}

/// Keeps a finished run's classifier and record, and forgets its data.
async fn keep_finished(
    state: &EngineState,
    run: &KeptRun,
    classifier: &Blob,
    test: Option<&Evaluated>,
    report: &Report,
) -> Result<(), Problem> {
    run.store(state).put(&run.record.key, CLASSIFIER, classifier).await?;
    results::keep(state, run, test, report).await?;
    run.save(state).await?;
    run.forget_data(state).await
}

/// Which state of a stopped run is kept.
fn stopped(fitted: &Fitted) -> String {
    let history = &fitted.history;
    match history.best_epoch {
        Some(epoch) => format!("The run was stopped. The adapter after epoch {epoch} is kept."),
        None => format!(
            "The run was stopped before an epoch was validated. The adapter after step {} is kept, with the default threshold of {:.3}.",
            history.steps.last().map_or(0, |step| step.step),
            fitted.choice.threshold
        ),
    }
}

/// `tested` is what was measured on the test rows, and rows a second.
async fn report(
    request: &Request,
    model: &Loaded,
    prepared: &Prepared,
    classifier: &TextClassifier<'_>,
    run: &KeptRun,
    tested: Option<&(Measured, f64)>,
    fitted: &Fitted,
) -> Result<Report, Problem> {
    let record = &run.record;
    let test = prepared.part(Part::Test);
    let truth: Vec<usize> = test.iter().map(|&i| prepared.data.examples[i].label).collect();
    let classes = classifier.classes();
    let mistakes = tested.map_or_else(Vec::new, |(measured, _)| {
        let scored = Scored {
            classes: classes.len(),
            truth: &truth,
            probabilities: &measured.probabilities,
            positive: classifier.positive(),
            threshold: fitted.choice.threshold,
        };
        let shown =
            test.iter().map(|&i| &prepared.data.examples[i]).map(|e| (e.row, e.text.as_str()));
        worst_mistakes(&scored, classes, shown, MISTAKES)
    });
    let mut data = prepared.summary.clone();
    let (lengths, cut) = lengths_of(request, classifier.prompter(), prepared).await?;
    (data.tokens, data.cut) = (TokenHistogram::new(&lengths), cut);
    Ok(Report {
        title: record.name.clone(),
        command: "trained in the browser".to_owned(),
        model: record.model.clone(),
        adapter: model.model.gpu.adapter().to_string(),
        data,
        recipe: record.recipe.clone(),
        prompt: record.spec.clone(),
        filled_prompt: classifier.prompter().fill("…"),
        history: fitted.history.clone(),
        test: record.test.clone(),
        validation: record.validation.clone(),
        zero_shot: record.zero_shot_test.clone(),
        calibration_before: tested.map(|(measured, _)| measured.calibration_before.clone()),
        temperature: Some(fitted.choice.temperature),
        mistakes,
        speed: Speed {
            train_seconds: fitted.effort.seconds,
            train_tokens_per_second: fitted.effort.tokens as f64 / fitted.effort.seconds.max(1e-9),
            score_rows_per_second: tested.map_or(0.0, |(_, rate)| *rate),
            gpu_bytes: record.gpu_bytes,
            host_bytes: None,
        },
        ..Report::default()
    })
}
