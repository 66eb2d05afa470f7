//! One run, step by step.

use std::collections::BTreeMap;

use hearth_gemma::{
    Lora, LoraLayout, Model,
    plan::MemoryPlan,
    shared_prefix,
    targets::Example,
    train::{StepReport, Trainer},
};
use web_time::Instant;

use super::{
    CHOOSING_ROWS, Choice, Effort, FitOptions, Fitted, OnProgress, Progress, SnapshotStore, Task,
    order, setup,
    snapshots::{self, State},
};
use crate::{
    calibration::log_loss,
    error::ClassifierError,
    history::{Epoch, History, Step},
    metrics::{Scored, evaluate},
    recipe::Recipe,
    scoring::Scoring,
};

/// Skipped steps in a row that end a run.
const SKIPS: u32 = 3;
/// Adapters that an average is made of, at most.
const AVERAGED: usize = 64;

/// Names of the buffers that a run adds to the trainer's.
const BEST: &str = "best";
const BEST_LOGS: &str = "best validation scores";
const AVERAGE: &str = "average";

struct Run<'m, 'a> {
    model: &'m Model,
    task: &'a Task<'a>,
    recipe: &'a Recipe,
    examples: Vec<Example>,
    lengths: Vec<usize>,
    trainer: Trainer<'m>,
    state: State,
    /// The batches of an epoch.
    order: Option<(usize, Vec<Vec<usize>>)>,
    best: Option<Vec<f32>>,
    /// ln p of the validation rows by the best adapter, `[N, C]`, as f32: what a snapshot holds.
    best_logs: Vec<f32>,
    average: Vec<f32>,
    epochs: Vec<Vec<f32>>,
    keep_epochs: bool,
    begun: Instant,
    begun_at: (usize, f64),
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
    let identity = snapshots::identity(model, task, recipe);
    let (mut run, plan) = Run::start(model, task, recipe, options).await?;
    if options.resume {
        let store = store.as_deref_mut().ok_or(ClassifierError::NothingToResume)?;
        run.resume(snapshots::load(store, &identity)?).await?;
    } else if let Some(store) = store.as_deref_mut() {
        // an older run's snapshot must not pass for one of this
        snapshots::clear(store)?;
    }
    let mut saved = Instant::now();
    loop {
        let mut due = saved.elapsed().as_secs_f64() >= options.snapshot_seconds;
        let mut going = true;
        if run.epoch_is_over() {
            match run.end_epoch(progress).await {
                Err(ClassifierError::Stopped) => going = false,
                other => other?,
            }
            due = true;
        } else if run.is_over() || options.finish {
            break;
        } else {
            run.step().await?;
            going = progress(&run.progress(None));
        }
        if (due || !going)
            && let Some(store) = store.as_deref_mut()
        {
            run.flush().await?;
            let buffers = run.buffers().await?;
            run.state.seconds = run.seconds();
            snapshots::save(store, &identity, &mut run.state, buffers)?;
            saved = Instant::now();
        }
        if !going {
            return Err(ClassifierError::Stopped);
        }
    }
    run.finish(plan, progress).await
}

impl<'m, 'a> Run<'m, 'a> {
    async fn start(
        model: &'m Model,
        task: &'a Task<'a>,
        recipe: &'a Recipe,
        options: &FitOptions,
    ) -> Result<(Self, MemoryPlan), ClassifierError> {
        let examples = setup::examples(task, recipe);
        let config = setup::config(task, recipe);
        let (step_plan, plan) = setup::plan(model, &config, recipe, &examples, options.memory)?;
        if setup::needs_tables(recipe) {
            model.load_tables(|_| true).await?;
        }
        let state = State {
            step: 0,
            plan: step_plan,
            history: History::default(),
            averaged: 0,
            tokens: 0,
            padded: 0,
            seconds: 0.0,
            saved: 0,
        };
        let run = Self {
            model,
            task,
            recipe,
            lengths: examples.iter().map(|e| e.tokens.len()).collect(),
            examples,
            trainer: Trainer::new(model, config, step_plan, None).await?,
            state,
            order: None,
            best: None,
            best_logs: Vec::new(),
            average: Vec::new(),
            epochs: Vec::new(),
            keep_epochs: options.keep_epochs,
            begun: Instant::now(),
            begun_at: (0, 0.0),
        };
        Ok((run, plan))
    }

    /// Goes on from a snapshot, with the cut of batches that the run began with.
    async fn resume(
        &mut self,
        (state, mut buffers): (State, BTreeMap<String, Vec<f32>>),
    ) -> Result<(), ClassifierError> {
        if state.plan != self.state.plan {
            let config = setup::config(self.task, self.recipe);
            self.trainer = Trainer::new(self.model, config, state.plan, None).await?;
        }
        self.best = buffers.remove(BEST);
        self.best_logs = buffers.remove(BEST_LOGS).unwrap_or_default();
        self.average = buffers.remove(AVERAGE).unwrap_or_default();
        for epoch in 0..state.history.epochs.len() {
            self.epochs.extend(buffers.remove(&epoch_name(epoch)));
        }
        self.trainer.restore(state.step as u32, &buffers)?;
        self.begun_at = (state.step, state.seconds);
        self.state = state;
        Ok(())
    }

    /// Everything that a snapshot holds beside the state.
    async fn buffers(&self) -> Result<BTreeMap<String, Vec<f32>>, ClassifierError> {
        let mut all = self.trainer.buffers().await?;
        all.extend(self.best.clone().map(|best| (BEST.to_owned(), best)));
        all.insert(BEST_LOGS.to_owned(), self.best_logs.clone());
        all.insert(AVERAGE.to_owned(), self.average.clone());
        for (epoch, params) in self.epochs.iter().enumerate() {
            all.insert(epoch_name(epoch), params.clone());
        }
        Ok(all)
    }

    fn an_epoch(&self) -> usize {
        setup::steps_an_epoch(self.task, self.recipe)
    }

    fn steps(&self) -> usize {
        self.an_epoch() * self.recipe.epochs
    }

    /// The last step of an epoch is done and its end is not.
    fn epoch_is_over(&self) -> bool {
        self.state.history.epochs.len() < self.state.step / self.an_epoch()
    }

    /// No step is left, or enough epochs went by without a better one.
    fn is_over(&self) -> bool {
        let history = &self.state.history;
        let since_best = history.epochs.len() - history.best_epoch.unwrap_or(history.epochs.len());
        let patience = self.recipe.patience;
        self.state.step >= self.steps() || (patience > 0 && since_best >= patience)
    }

    fn seconds(&self) -> f64 {
        self.begun_at.1 + self.begun.elapsed().as_secs_f64()
    }

    fn progress(&self, validating: Option<(usize, usize)>) -> Progress<'_> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let own = self.state.step - self.begun_at.0;
        let rows = own as f64 * self.task.train.len() as f64 / self.an_epoch() as f64;
        let left = (self.steps() - self.state.step) as f64;
        Progress {
            step: self.state.step,
            steps: self.steps(),
            epoch: (self.state.step.saturating_sub(1)) / self.an_epoch() + 1,
            epochs: self.recipe.epochs,
            history: &self.state.history,
            rows_per_second: rows / seconds.max(1e-9),
            tokens: self.state.tokens,
            padded: self.state.padded,
            seconds_left: (own > 0).then(|| left * seconds / own as f64),
            validating,
        }
    }

    async fn step(&mut self) -> Result<(), ClassifierError> {
        let (epoch, place) = (self.state.step / self.an_epoch(), self.state.step % self.an_epoch());
        if self.order.as_ref().is_none_or(|(of, _)| *of != epoch) {
            let recipe = self.recipe;
            let (batch, grouped) = (recipe.batch, recipe.length_grouped);
            let batches = order::batches(&self.lengths, batch, grouped, recipe.seed, epoch);
            self.order = Some((epoch, batches));
        }
        let batch: Vec<Example> = match &self.order {
            Some((_, batches)) => {
                batches[place].iter().map(|&i| self.examples[i].clone()).collect()
            }
            None => Vec::new(),
        };
        let before = self.trainer.step(&batch).await?;
        self.state.step += 1;
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
        self.state.tokens += u64::from(report.tokens);
        self.state.padded += u64::from(report.unpacked_tokens);
        self.state.history.steps.push(Step {
            step: step + 1,
            epoch: step / self.an_epoch() + 1,
            loss: finite(report.loss),
            accuracy: finite(report.accuracy),
            rate: self.recipe.rate_at(step, self.steps()),
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
        let steps = self.steps();
        let window = (self.recipe.average * steps as f64).ceil() as usize;
        let left = steps - self.state.step;
        if window == 0 || left >= window || !left.is_multiple_of(window.div_ceil(AVERAGED)) {
            return Ok(());
        }
        let params = self.trainer.params().await?;
        if self.state.averaged == 0 {
            self.average = vec![0.0; params.len()];
        }
        self.state.averaged += 1;
        let n = self.state.averaged as f32;
        self.average.iter_mut().zip(params).for_each(|(mean, x)| *mean += (x - *mean) / n);
        Ok(())
    }

    /// ln p of the validation rows, as f32 so that a snapshot holds them to the bit.
    async fn validate(
        &self,
        lora: &Lora,
        progress: OnProgress<'_>,
    ) -> Result<Vec<f32>, ClassifierError> {
        let rows: Vec<&[u32]> = self.task.validation.iter().map(|r| r.ids.as_slice()).collect();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let prefix = shared_prefix(rows.iter().copied());
        let mut scoring = Scoring::new(self.task.class_tokens, &rows[0][..prefix]);
        let logs = scoring
            .log_probabilities(self.model, Some(lora), &rows, |done| {
                progress(&self.progress(Some((done, rows.len()))))
            })
            .await?;
        Ok(logs.iter().map(|&x| x as f32).collect())
    }

    /// Loss, AUC and F1 on the validation rows.
    fn figures(&self, logs: &[f32]) -> Result<[Option<f64>; 3], ClassifierError> {
        if logs.is_empty() {
            return Ok([None; 3]);
        }
        let classes = self.task.class_tokens.len();
        let truth: Vec<usize> = self.task.validation.iter().map(|r| r.class).collect();
        let wide: Vec<f64> = logs.iter().map(|&x| f64::from(x)).collect();
        let probabilities = crate::calibration::softmax(&wide, classes, 1.0);
        let positive = self.task.positive;
        let scored = Scored {
            classes,
            truth: &truth,
            probabilities: &probabilities,
            positive,
            threshold: 0.5,
        };
        let evaluation = evaluate(&scored, &[])?;
        let loss = log_loss(&probabilities, classes, &truth);
        Ok([Some(loss), evaluation.roc_auc.value, evaluation.f1.value])
    }

    /// Whether the validation rows choose the epoch. A few rows choose by chance, and on ETHOS they chose the first
    /// epoch of four; early stopping was asked for, so it keeps what it found.
    fn chooses_epoch(&self) -> bool {
        let enough = self.task.validation.len() >= CHOOSING_ROWS;
        self.recipe.best_epoch && (enough || self.recipe.patience > 0)
    }

    async fn end_epoch(&mut self, progress: OnProgress<'_>) -> Result<(), ClassifierError> {
        self.flush().await?;
        let logs = self.validate(self.trainer.lora(), progress).await?;
        let [validation_loss, validation_auc, validation_f1] = self.figures(&logs)?;
        let epoch = self.state.history.epochs.len() + 1;
        let losses = self.state.history.steps.iter().filter(|s| s.epoch == epoch && s.taken);
        let train_loss = crate::metrics::mean(losses.map(|s| s.loss)).unwrap_or(0.0);
        let step = self.state.step;
        let better = self.state.history.end_epoch(Epoch {
            epoch,
            step,
            train_loss,
            validation_loss,
            validation_auc,
            validation_f1,
        });
        if better || !self.chooses_epoch() {
            self.best = Some(self.trainer.params().await?);
            self.best_logs = logs;
        }
        if self.keep_epochs {
            self.epochs.push(self.trainer.params().await?);
        }
        Ok(())
    }

    async fn finish(
        mut self,
        plan: MemoryPlan,
        progress: OnProgress<'_>,
    ) -> Result<Fitted, ClassifierError> {
        let layout: LoraLayout = self.trainer.lora().layout.clone();
        let mut params = match self.best.take() {
            Some(best) => best,
            // ended before the first epoch was over: there is nothing better than what there is
            None => {
                self.flush().await?;
                self.best_logs = self.validate(self.trainer.lora(), progress).await?;
                self.trainer.params().await?
            }
        };
        if !self.chooses_epoch() {
            self.state.history.best_epoch = self.state.history.epochs.last().map(|e| e.epoch);
        }
        let mut averaged = false;
        if self.state.averaged > 0 {
            let lora = Lora::new(&self.model.gpu, layout.clone(), &self.average)?;
            let logs = self.validate(&lora, progress).await?;
            let (new, old) = (self.figures(&logs)?, self.figures(&self.best_logs)?);
            averaged = new[1] > old[1] || (new[1] == old[1] && new[0] <= old[0]);
            if averaged {
                (params, self.best_logs) = (self.average.clone(), logs);
            }
        }
        let validation: Vec<f64> = self.best_logs.iter().map(|&x| f64::from(x)).collect();
        let truth: Vec<usize> = self.task.validation.iter().map(|r| r.class).collect();
        let classes = self.task.class_tokens.len();
        Ok(Fitted {
            layout,
            params,
            epochs: std::mem::take(&mut self.epochs),
            averaged,
            choice: Choice::on(&validation, &truth, classes, self.task.positive),
            validation,
            plan,
            effort: Effort {
                seconds: self.seconds(),
                tokens: self.state.tokens,
                padded_tokens: self.state.padded,
            },
            history: self.state.history,
        })
    }
}

fn epoch_name(epoch: usize) -> String {
    format!("epoch {epoch}")
}
