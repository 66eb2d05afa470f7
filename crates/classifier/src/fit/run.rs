//! One run, step by step.

use hearth_gemma::{
    LoraLayout, Model,
    targets::Example,
    train::{StepReport, Trainer},
};
use web_time::Instant;

use super::{
    FitOptions, Fitted, OnProgress, SnapshotStore, Task,
    identity::{self, Identity, Purpose},
    order,
    results::{Buffers, Results},
    setup,
    snapshots::{self, State},
};
use crate::{error::ClassifierError, history::Step, recipe::Recipe};

/// Consecutive skipped steps that end a run.
const SKIPS: u32 = 3;
/// Most adapters in an average.
const AVERAGED: usize = 64;

struct Run<'m, 'a> {
    model: &'m Model,
    recipe: &'a Recipe,
    examples: Vec<Example>,
    lengths: Vec<usize>,
    trainer: Trainer<'m>,
    results: Results<'a>,
    /// The batches of an epoch.
    order: Option<(usize, Vec<Vec<usize>>)>,
}

pub(super) async fn run(
    model: &Model,
    task: &Task<'_>,
    recipe: &Recipe,
    options: &FitOptions,
    mut store: Option<&mut dyn SnapshotStore>,
    progress: OnProgress<'_>,
) -> Result<Fitted, ClassifierError> {
    setup::check(task)?;
    let identity = identity::of(model, task, recipe);
    if options.finish {
        let store = store.ok_or(ClassifierError::NothingToResume)?;
        let steps_an_epoch = setup::steps_an_epoch(task, recipe);
        let saved = snapshots::load(store, &identity, Purpose::End, steps_an_epoch)?;
        return end(model, task, recipe, options, saved, progress).await;
    }
    let mut resumed = None;
    if options.resume {
        let store = store.as_deref_mut().ok_or(ClassifierError::NothingToResume)?;
        let steps_an_epoch = setup::steps_an_epoch(task, recipe);
        resumed = Some(snapshots::load(store, &identity, Purpose::Resume, steps_an_epoch)?);
    } else if let Some(store) = store.as_deref_mut() {
        // an older run's snapshot must not pass for one of this
        snapshots::clear(store)?;
    }
    let mut run = Run::start(model, task, recipe, options, resumed).await?;
    let mut saved = Instant::now();
    loop {
        let mut due = saved.elapsed().as_secs_f64() >= options.snapshot_seconds;
        let mut going = true;
        if run.results.epoch_is_over() {
            match run.end_epoch(progress).await {
                Err(ClassifierError::Stopped) => going = false,
                other => other?,
            }
            due = true;
        } else if run.results.is_over() {
            break;
        } else {
            run.step().await?;
            going = progress(&run.results.progress(None));
        }
        if (due || !going)
            && let Some(store) = store.as_deref_mut()
        {
            run.save(store, &identity).await?;
            saved = Instant::now();
        }
        if !going {
            return Err(ClassifierError::Stopped);
        }
    }
    let Run { trainer, results, .. } = run;
    let layout = trainer.lora().layout.clone();
    // scoring needs memory of its own
    drop(trainer);
    results.conclude(model, layout, Vec::new(), true, progress).await
}

/// Ends the run of a snapshot in its current state. Nothing is trained or allocated, so build, GPU and layout of the
/// weights may differ from those that trained it.
async fn end(
    model: &Model,
    task: &Task<'_>,
    recipe: &Recipe,
    options: &FitOptions,
    (state, mut buffers): (State, Buffers),
    progress: OnProgress<'_>,
) -> Result<Fitted, ClassifierError> {
    let layout = LoraLayout::new(&setup::config(task, recipe).lora, &model.config)?;
    let mut results = Results::new(task, recipe, state, false);
    results.take(&mut buffers);
    let last = buffers.remove(snapshots::PARAMS).unwrap_or_default();
    if !results.has_best() && last.len() != layout.len {
        return Err(ClassifierError::NothingToResume);
    }
    results.conclude(model, layout, last, !options.at_once, progress).await
}

impl<'m, 'a> Run<'m, 'a> {
    /// Starts a new run, or one from a snapshot, with batches split as they were when that run started.
    async fn start(
        model: &'m Model,
        task: &'a Task<'a>,
        recipe: &'a Recipe,
        options: &FitOptions,
        resumed: Option<(State, Buffers)>,
    ) -> Result<Self, ClassifierError> {
        let examples = setup::examples(task, recipe);
        let config = setup::config(task, recipe);
        let (state, buffers) = match resumed {
            Some((state, buffers)) => (state, Some(buffers)),
            None => {
                let (plan, _) = setup::plan(model, &config, recipe, &examples, options.memory)?;
                (State::new(plan), None)
            }
        };
        if setup::needs_tables(recipe) {
            model.load_tables(|_| true).await?;
        }
        let mut trainer = Trainer::new(model, config, state.plan, None).await?;
        let mut results = Results::new(task, recipe, state, options.keep_epochs);
        if let Some(mut buffers) = buffers {
            results.take(&mut buffers);
            trainer.restore(results.state.step as u32, &buffers)?;
        }
        let lengths = examples.iter().map(|e| e.tokens.len()).collect();
        Ok(Self { model, recipe, examples, lengths, trainer, results, order: None })
    }

    async fn save(
        &mut self,
        store: &mut dyn SnapshotStore,
        identity: &Identity,
    ) -> Result<(), ClassifierError> {
        self.flush().await?;
        let mut buffers = self.trainer.buffers().await?;
        self.results.add_to(&mut buffers);
        self.results.state.seconds = self.results.seconds();
        snapshots::save(store, identity, &mut self.results.state, buffers)
    }

    async fn step(&mut self) -> Result<(), ClassifierError> {
        let (step, an_epoch) = (self.results.state.step, self.results.steps_an_epoch());
        let (epoch, index) = (step / an_epoch, step % an_epoch);
        if self.order.as_ref().is_none_or(|(of, _)| *of != epoch) {
            let recipe = self.recipe;
            let (batch, grouped) = (recipe.batch, recipe.length_grouped);
            let batches = order::batches(&self.lengths, batch, grouped, recipe.seed, epoch);
            self.order = Some((epoch, batches));
        }
        let batch: Vec<Example> = match &self.order {
            Some((_, batches)) => {
                batches[index].iter().map(|&i| self.examples[i].clone()).collect()
            }
            None => Vec::new(),
        };
        let before = self.trainer.step(&batch).await?;
        self.results.state.step += 1;
        self.record(before)?;
        self.add_to_average().await
    }

    /// Waits for the numbers of the last step.
    async fn flush(&mut self) -> Result<(), ClassifierError> {
        let report = self.trainer.last_report().await?;
        self.record(report)
    }

    fn record(&mut self, report: Option<StepReport>) -> Result<(), ClassifierError> {
        let Some(report) = report else { return Ok(()) };
        // JSON knows no NaN; `taken` tells
        let finite = |x: f32| if x.is_finite() { f64::from(x) } else { 0.0 };
        let step = report.step as usize;
        let (steps, an_epoch) = (self.results.steps(), self.results.steps_an_epoch());
        let state = &mut self.results.state;
        state.tokens += u64::from(report.tokens);
        state.padded += u64::from(report.unpacked_tokens);
        state.history.steps.push(Step {
            step: step + 1,
            epoch: step / an_epoch + 1,
            loss: finite(report.loss),
            accuracy: finite(report.accuracy),
            rate: self.recipe.rate_at(step, steps),
            gradient_norm: finite(report.grad_norm),
            taken: !report.skipped,
        });
        if report.skipped_in_a_row >= SKIPS {
            return Err(ClassifierError::Diverged { step: step + 1, rate: self.recipe.rate });
        }
        Ok(())
    }

    /// Adds the adapter to the running average, in the last part of the run.
    async fn add_to_average(&mut self) -> Result<(), ClassifierError> {
        let steps = self.results.steps();
        let window = (self.recipe.average * steps as f64).ceil() as usize;
        let left = steps - self.results.state.step;
        if window == 0 || left >= window || !left.is_multiple_of(window.div_ceil(AVERAGED)) {
            return Ok(());
        }
        let params = self.trainer.params().await?;
        let (average, state) = (&mut self.results.average, &mut self.results.state);
        if state.averaged == 0 {
            *average = vec![0.0; params.len()];
        }
        state.averaged += 1;
        let n = state.averaged as f32;
        average.iter_mut().zip(params).for_each(|(mean, x)| *mean += (x - *mean) / n);
        Ok(())
    }

    async fn end_epoch(&mut self, progress: OnProgress<'_>) -> Result<(), ClassifierError> {
        self.flush().await?;
        let logs = self.results.validate(self.model, self.trainer.lora(), progress).await?;
        let params = self.trainer.params().await?;
        self.results.end_epoch(params, logs)
    }
}
