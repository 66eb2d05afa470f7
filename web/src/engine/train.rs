//! Training in the browser: progress, pausing, stopping with the best, going on; then measuring.

use std::rc::Rc;

use hearth_classifier::{
    columns::TokenHistogram,
    error::ClassifierError,
    estimator::{Labelled, TextClassifier},
    fit::{FitOptions, Fitted, MemoryStore, Progress, Row, SnapshotStore},
    measure::{self, Measured},
    metrics::Scored,
    origin::Origin,
    prepare::Prepared,
    prompt::PromptSpec,
    recipe::Recipe,
    report::{Report, Speed, worst_mistakes},
    split::Part,
};
use web_sys::Blob;
use web_time::Instant;

use super::{
    ask::Ask,
    data::lengths_of,
    inbox::Wish,
    model::Loaded,
    problem::Problem,
    results,
    runs::{CLASSIFIER, KeptRun},
    session::{Answer, Session, no_data},
    using::Using,
};
use crate::{
    protocol::{Evaluated, FromEngine, PlanReport, RunState, ScoredRow, TimePlan, TrainProgress},
    storage::{StorageError, shelf::Slots},
};

/// Seconds between snapshots: what a killed tab loses at most.
const SNAPSHOT_SECONDS: f64 = 30.0;
/// Wrong predictions that the report shows.
pub const MISTAKES: usize = 20;
/// Rows that are scored to learn this machine's speed.
const PROBES: usize = 4;
/// Forward, recomputation and backward take this many forwards.
const STEP_COST: f64 = 4.0;

/// How a run ended.
enum Ended {
    Fitted(Box<Fitted>),
    Paused,
}

/// Where training begins.
#[derive(Clone, Copy)]
struct Beginning {
    /// At the last snapshot.
    resume: bool,
    /// There, and no step further: the best so far is taken.
    finish: bool,
}

/// What was told of a training so far.
#[derive(Default)]
struct Told {
    steps: usize,
    epochs: usize,
}

impl Told {
    fn see(&mut self, ask: &Ask, key: &str, progress: &Progress<'_>, gpu_bytes: u64) {
        let history = progress.history;
        for epoch in &history.epochs[self.epochs.min(history.epochs.len())..] {
            ask.tell(&FromEngine::EpochEnded(*epoch));
        }
        self.epochs = history.epochs.len();
        ask.tell_now_and_then(|| {
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

impl<'m> Session<'m> {
    /// What training would take, and how long, by this machine's speed.
    pub async fn plan(
        &mut self,
        ask: &Ask,
        spec: &PromptSpec,
        recipe: &Recipe,
        memory: u64,
        zero_shot: bool,
    ) -> Result<PlanReport, Problem> {
        let model = self.loaded()?;
        let prepared = self.prepared()?;
        let mut classifier = untrained(model, &prepared, spec)?;
        let train = prepared.rows(Part::Train);
        let mut rows = Vec::with_capacity(train.len());
        for &row in &train {
            rows.push(classifier.row(row));
            ask.breathe().await;
            ask.check()?;
        }
        let plan = classifier.plan(&rows, recipe, memory)?;
        if self.base.speed.is_none() {
            let texts: Vec<&str> = train.iter().take(PROBES).map(|row| row.0).collect();
            let tokens: usize = rows[..texts.len()].iter().map(|row| row.ids.len()).sum();
            // the first pass compiles kernels and fills the kept prefix, so the second is timed
            classifier.keep_prefix(false);
            classifier.log_probabilities(&texts, |_| !ask.is_cancelled()).await?;
            let start = Instant::now();
            classifier.log_probabilities(&texts, |_| !ask.is_cancelled()).await?;
            let seconds = start.elapsed().as_secs_f64().max(1e-3);
            self.base.speed = Some(tokens as f64 / seconds / STEP_COST);
        }
        // a row is scored without the prefix that all rows share
        let prefix = classifier.prompter().usual_prefix().len();
        let own = |row: &Row| row.ids.len().saturating_sub(prefix);
        let scored = rows.iter().map(own).sum::<usize>() as f64 / rows.len().max(1) as f64;
        let [validation, test] =
            [Part::Validation, Part::Test].map(|part| prepared.part(part).len());
        let time = self.base.speed.map(|speed| {
            let scoring = |rows: usize| rows as f64 * scored / (speed * STEP_COST) / 60.0;
            TimePlan {
                training: plan.tokens as f64 / speed / 60.0 + scoring(validation * recipe.epochs),
                testing: scoring(test * (1 + usize::from(zero_shot))),
            }
        });
        let rows = train.len() + validation;
        Ok(PlanReport { memory: plan.memory, steps: plan.steps, tokens: plan.tokens, time, rows })
    }

    /// Trains, or goes on, and measures.
    pub async fn train(
        &mut self,
        ask: &Ask,
        mut run: KeptRun,
        resume: bool,
        finish: bool,
    ) -> Result<Answer, Problem> {
        let model = self.loaded()?;
        let prepared = self.prepared()?;
        // the classifier in use holds memory on the GPU that training may need
        self.using = None;
        model.model.gpu.account().reset_peak();
        let mut classifier = untrained(model, &prepared, &run.record.spec)?;
        run.record.state = RunState::Running;
        // a full disk keeps nobody from training; what it costs is said with the first snapshot
        match run.try_save(self.base).await? {
            Ok(()) | Err(StorageError::Full(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let mut slots = run.shelf(self.base).slots(&run.record.key).await?;
        // before the first step: from here on a copy of the table is kept
        self.tell_stored(ask).await?;
        let from = Beginning { resume, finish };
        let ended = self.fit(ask, &run, &mut classifier, &prepared, &mut slots, from).await;
        ask.inbox().training(false);
        let fitted = match ended {
            Ok(Ended::Fitted(fitted)) => fitted,
            Ok(Ended::Paused) => {
                self.pause(ask, &mut run, slots).await?;
                return Ok((FromEngine::Paused { run: run.record }, Vec::new()));
            }
            Err(Problem::Cancelled) => {
                drop(slots);
                run.shelf(self.base).remove(&run.record.key).await?;
                return Err(Problem::Cancelled);
            }
            // the page starts the engine anew and can go on, without a snapshot from the beginning
            Err(Problem::Failed(failure)) if failure.fatal => {
                return Err(Problem::Failed(failure));
            }
            Err(problem) => {
                self.settle(ask, &mut run, slots).await?;
                return Err(problem);
            }
        };
        drop(slots);
        let effort = fitted.effort;
        if effort.seconds > 1.0 {
            self.base.speed = Some(effort.tokens as f64 / effort.seconds);
        }
        self.finish(ask, run, model, &prepared, classifier, &fitted).await
    }

    /// Notes that a run waits to be resumed: in the storage, or in memory where the storage is full.
    async fn pause(&self, ask: &Ask, run: &mut KeptRun, slots: Slots) -> Result<(), Problem> {
        run.record.state = RunState::Paused;
        let refused = match run.try_save(self.base).await? {
            Err(error) => error.to_string(),
            Ok(()) if slots.beyond_files() => {
                StorageError::Full("a snapshot".to_owned()).to_string()
            }
            Ok(()) => return Ok(()),
        };
        let unreadable = |what: String| Problem::new(what, "Start the run again.");
        let snapshots = slots.into_memory().map_err(unreadable)?;
        ask.warn(format!(
            "{refused}. The paused run is in this tab only: closing the tab would lose it."
        ));
        self.move_to_memory(run, snapshots, refused).await
    }

    /// After a failure: a run with a snapshot can be resumed, or ended with its best; any other is forgotten.
    async fn settle(&self, ask: &Ask, run: &mut KeptRun, mut slots: Slots) -> Result<(), Problem> {
        if (0..2).any(|slot| slots.load(slot).is_ok_and(|bytes| !bytes.is_empty())) {
            return self.pause(ask, run, slots).await;
        }
        drop(slots);
        Ok(run.shelf(self.base).remove(&run.record.key).await?)
    }

    async fn fit(
        &self,
        ask: &Ask,
        run: &KeptRun,
        classifier: &mut TextClassifier<'_>,
        prepared: &Prepared,
        slots: &mut Slots,
        mut from: Beginning,
    ) -> Result<Ended, Problem> {
        let record = &run.record;
        let gpu = &self.loaded()?.model.gpu;
        let (train, validation) = (prepared.rows(Part::Train), prepared.rows(Part::Validation));
        let full = slots.warning();
        loop {
            let options = FitOptions {
                memory: record.memory,
                snapshot_seconds: SNAPSHOT_SECONDS,
                resume: from.resume,
                finish: from.finish,
                ..FitOptions::default()
            };
            let mut told = Told::default();
            let mut see = |progress: &Progress<'_>| {
                told.see(ask, &record.key, progress, gpu.account().in_use());
                if let Some(error) = full.borrow_mut().take() {
                    ask.warn(format!(
                        "{error}. Training continues, but closing the tab would lose everything from now on."
                    ));
                }
                !ask.is_cancelled() && ask.inbox().wish() == Wish::GoOn
            };
            let fitted = classifier.fit(
                &train,
                Some(&validation),
                &record.recipe,
                &options,
                Some(&mut *slots),
                &mut see,
            );
            match fitted.await {
                Ok(fitted) => return Ok(Ended::Fitted(Box::new(fitted))),
                Err(ClassifierError::Stopped) if ask.is_cancelled() => {
                    return Err(Problem::Cancelled);
                }
                Err(ClassifierError::Stopped) if ask.inbox().wish() == Wish::Stop => {
                    // stopping leaves a snapshot; its best is taken
                    ask.inbox().training(true);
                    from = Beginning { resume: true, finish: true };
                }
                Err(ClassifierError::Stopped) => return Ok(Ended::Paused),
                // killed before the first snapshot: from the start, with the same numbers
                Err(ClassifierError::NothingToResume) if from.resume && !from.finish => {
                    from.resume = false;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn finish(
        &mut self,
        ask: &Ask,
        mut run: KeptRun,
        model: &'m Loaded,
        prepared: &Rc<Prepared>,
        mut classifier: TextClassifier<'m>,
        fitted: &Fitted,
    ) -> Result<Answer, Problem> {
        let test = prepared.rows(Part::Test);
        let (measured, rate) = measure(ask, "testing", &mut classifier, &test).await?;
        let truth: Vec<usize> = prepared.rows(Part::Validation).iter().map(|row| row.1).collect();
        let validation = if truth.is_empty() {
            None
        } else {
            let figures = measure::figures(&classifier, &fitted.validation, &truth, async || {
                ask.breathe().await;
            });
            Some(figures.await?.evaluation)
        };
        let record = &mut run.record;
        if record.zero_shot {
            let mut plain = untrained(model, prepared, &record.spec)?;
            let (measured, _) = measure(ask, "zero-shot", &mut plain, &test).await?;
            record.zero_shot_test = Some(measured.evaluation);
        }
        record.history = fitted.history.clone();
        record.test = Some(measured.evaluation.clone());
        record.validation = validation;
        record.seconds = fitted.effort.seconds;
        record.tokens = fitted.effort.tokens;
        record.gpu_bytes = model.model.gpu.account().peak();
        record.state = RunState::Finished;
        let mut report =
            report(ask, model, prepared, &classifier, &run, &measured, fitted, rate).await?;
        let record = &run.record;
        let evaluation = Some(measured.evaluation.clone());
        let data = self.base.data.as_ref().ok_or_else(no_data)?;
        let origin = Origin::of(&data.table, &run.choices.roles.text, prepared);
        report.threshold_from = origin.threshold;
        let test = evaluated(prepared, prepared.part(Part::Test), measured, rate);
        let mut bundle =
            classifier.bundle(&record.name, &record.model, &record.recipe, evaluation.clone())?;
        bundle.classifier.origin = origin.clone();
        let blob = crate::wire::blob(&bundle.to_bytes()?, "application/octet-stream")?;
        // a full disk must not take a finished classifier away: it is in use, and can be downloaded
        if let Err(problem) = self.keep_finished(&run, &blob, &test, &report).await {
            let Problem::Failed(failure) = problem else { return Err(problem) };
            self.move_to_memory(&mut run, MemoryStore::default(), failure.what).await?;
            self.keep_finished(&run, &blob, &test, &report).await?;
        }
        if let Some(warning) = run.farewell() {
            ask.warn(warning);
        }
        let record = run.record.clone();
        let using = self.using.insert(Using {
            id: self.base.next_id(),
            classifier,
            name: record.name.clone(),
            base: record.model.clone(),
            recipe: record.recipe.clone(),
            spec: record.spec.clone(),
            evaluation,
            note: None,
            report: Some(report),
            origin,
            own: Some(test.clone()),
            measured: None,
            run: Some(run),
        });
        let classifier = using.summary();
        Ok((FromEngine::Trained { run: record, test, classifier }, Vec::new()))
    }

    /// Keeps a finished run's classifier and record, and forgets its data.
    async fn keep_finished(
        &self,
        run: &KeptRun,
        classifier: &Blob,
        test: &Evaluated,
        report: &Report,
    ) -> Result<(), Problem> {
        run.shelf(self.base).put(&run.record.key, CLASSIFIER, classifier).await?;
        results::keep(self.base, run, test, report).await?;
        run.save(self.base).await?;
        run.forget_data(self.base).await
    }

    /// The rows as they are prepared.
    pub fn prepared(&self) -> Result<Rc<Prepared>, Problem> {
        self.base.data.as_ref().ok_or_else(no_data)?.prepared().cloned()
    }
}

/// A classifier that knows the question and nothing else.
pub fn untrained<'m>(
    model: &'m Loaded,
    prepared: &Prepared,
    spec: &PromptSpec,
) -> Result<TextClassifier<'m>, Problem> {
    let (classes, positive) = (&prepared.data.classes, prepared.data.positive);
    Ok(TextClassifier::new(&model.model, &model.tokenizer, classes, positive, spec)?)
}

/// Scores rows and measures; also rows a second.
pub async fn measure(
    ask: &Ask,
    what: &str,
    classifier: &mut TextClassifier<'_>,
    rows: &[Labelled<'_>],
) -> Result<(Measured, f64), Problem> {
    if rows.is_empty() {
        return Err(Problem::new("There are no test rows.", "Choose another split under Data."));
    }
    let texts: Vec<&str> = rows.iter().map(|row| row.0).collect();
    let start = Instant::now();
    let logs = classifier.log_probabilities(&texts, |done| {
        let (what, of) = (what.to_owned(), texts.len());
        ask.tell_now_and_then(|| FromEngine::Scoring { what, done, of });
        !ask.is_cancelled()
    });
    let logs = logs.await?;
    let rate = rows.len() as f64 / start.elapsed().as_secs_f64().max(1e-9);
    let truth: Vec<usize> = rows.iter().map(|row| row.1).collect();
    let figures = measure::figures(classifier, &logs, &truth, async || ask.breathe().await).await?;
    Ok((figures, rate))
}

/// Measured rows with their scores, for the page: `places` among the examples.
pub fn evaluated(
    prepared: &Prepared,
    places: &[usize],
    measured: Measured,
    rows_per_second: f64,
) -> Evaluated {
    let classes = prepared.data.classes.len();
    let rows = places.iter().zip(measured.probabilities.chunks_exact(classes));
    let row = |(&i, probabilities): (&usize, &[f64])| {
        let example = &prepared.data.examples[i];
        ScoredRow {
            row: example.row,
            text: example.text.clone(),
            truth: example.label,
            probabilities: probabilities.to_vec(),
        }
    };
    Evaluated {
        rows: rows.map(row).collect(),
        evaluation: measured.evaluation,
        calibration_before: measured.calibration_before,
        rows_per_second,
        data: prepared.summary.file.clone(),
        left_out: 0,
        training_known: true,
    }
}

#[allow(clippy::too_many_arguments)] // a report shows everything there is
async fn report(
    ask: &Ask,
    model: &Loaded,
    prepared: &Prepared,
    classifier: &TextClassifier<'_>,
    run: &KeptRun,
    measured: &Measured,
    fitted: &Fitted,
    rate: f64,
) -> Result<Report, Problem> {
    let record = &run.record;
    let test = prepared.part(Part::Test);
    let truth: Vec<usize> = test.iter().map(|&i| prepared.data.examples[i].label).collect();
    let classes = classifier.classes();
    let scored = Scored {
        classes: classes.len(),
        truth: &truth,
        probabilities: &measured.probabilities,
        positive: classifier.positive(),
        threshold: fitted.choice.threshold,
    };
    let shown = test.iter().map(|&i| &prepared.data.examples[i]).map(|e| (e.row, e.text.as_str()));
    let mistakes = worst_mistakes(&scored, classes, shown, MISTAKES);
    let mut data = prepared.summary.clone();
    let (lengths, cut) = lengths_of(ask, classifier.prompter(), prepared).await?;
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
        test: Some(measured.evaluation.clone()),
        validation: record.validation.clone(),
        zero_shot: record.zero_shot_test.clone(),
        calibration_before: Some(measured.calibration_before.clone()),
        temperature: Some(fitted.choice.temperature),
        mistakes,
        speed: Speed {
            train_seconds: fitted.effort.seconds,
            train_tokens_per_second: fitted.effort.tokens as f64 / fitted.effort.seconds.max(1e-9),
            score_rows_per_second: rate,
            gpu_bytes: record.gpu_bytes,
            host_bytes: None,
        },
        ..Report::default()
    })
}
