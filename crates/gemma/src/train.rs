//! Training steps: micro-batches forward and backward, then one update, all on the device.
//!
//! A batch consists of the rows of one optimizer step and is part of the training recipe; memory
//! only determines how it is split into micro-batches. The loss is normalized over the whole batch,
//! so the split does not change the result beyond rounding. Nothing is read back within a step: the
//! few numbers of a step arrive while the next one runs.

mod loss;
mod optimizer;

use hearth_gpu::{Commands, Gpu, Slice, Staging};
use serde::{Deserialize, Serialize};

pub use self::loss::{Head, Logits};
pub use self::optimizer::{Adam, Numbers};
use crate::{
    BackwardPass, Config, Lora, LoraConfig, LoraLayout, Model, ModelError, Pass,
    batch::shared_prefix,
    dropout,
    flat::Flat,
    memory::{Memory, OnDevice},
    schedule::Schedule,
    targets::{Example, Loss, pack, prediction_count},
    workspace::{Activations, Sizes, Workspace},
};

/// Name of the adapter's parameters among [`Trainer::buffers`].
pub const PARAMS: &str = "params";

/// Configuration of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// The adapter.
    pub lora: LoraConfig,
    /// The loss.
    pub loss: Loss,
    /// Class tokens in the order of the classes; for [`Loss::Choice`].
    pub classes: Vec<u32>,
    /// The learning rate.
    pub schedule: Schedule,
    /// The optimizer.
    pub adam: Adam,
}

/// What the memory plan determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPlan {
    /// Maximum tokens of a micro-batch.
    pub tokens: usize,
    /// Maximum predictions of a micro-batch.
    pub targets: usize,
    /// What the forward pass keeps for the backward pass.
    pub activations: Activations,
    /// Whether rows share their prefix; off only to measure what sharing saves.
    pub share_prefix: bool,
}

/// What one step reported.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Step of the schedule, from 0.
    pub step: u32,
    /// Weighted mean loss of the batch before the update.
    pub loss: f32,
    /// Fraction of predictions whose largest logit was the target.
    pub accuracy: f32,
    /// Norm of all gradients before clipping.
    pub grad_norm: f32,
    /// Whether the update was skipped because the loss or the gradient was not finite.
    pub skipped: bool,
    /// Number of consecutive skipped steps, including this one.
    pub skipped_in_a_row: u32,
    /// Number of tokens computed.
    pub tokens: u32,
    /// Number of tokens that rows padded to equal length would have taken.
    pub unpacked_tokens: u32,
}

/// Trains one adapter on one model.
pub struct Trainer<'m> {
    model: &'m Model,
    config: TrainConfig,
    plan: StepPlan,
    lora: Lora,
    d_params: Flat,
    adam: optimizer::State,
    head: Head,
    ws: Workspace,
    step: u32,
    pending: Option<Pending>,
}

/// A step whose numbers are still being read back.
struct Pending {
    staging: Staging,
    step: u32,
    tokens: u32,
    unpacked_tokens: u32,
    predictions: u32,
}

/// All buffers that a trainer holds on the device.
pub(crate) struct Buffers<B = Slice> {
    params: Flat<B>,
    d_params: Flat<B>,
    adam: optimizer::State<B>,
    head: loss::HeadBuffers<B>,
    ws: Workspace<B>,
}

impl<B> Buffers<B> {
    /// Allocates all buffers from `memory`: a device, or a count for the plan.
    pub(crate) fn allocate<M: Memory<Buffer = B>>(
        memory: &mut M,
        model: &Config,
        layout: &LoraLayout,
        logits: Logits,
        plan: &StepPlan,
    ) -> Result<Self, ModelError> {
        memory.part("adapter and optimizer");
        let params = Flat::allocate(memory, "lora", layout, 1)?;
        let d_params = Flat::allocate(memory, "lora gradients", layout, 1)?;
        let adam = optimizer::State::allocate(memory, layout)?;
        let sizes = Sizes {
            tokens: plan.tokens,
            chosen: plan.targets,
            lora: Some(layout.config.clone()),
            training: Some(plan.activations),
        };
        let ws = Workspace::allocate(memory, model, sizes)?;
        memory.part("logits");
        let head = loss::HeadBuffers::allocate(memory, logits, model.hidden, plan.targets)?;
        Ok(Self { params, d_params, adam, head, ws })
    }
}

impl<'m> Trainer<'m> {
    /// Starts from the adapter's initial parameters, or from given ones.
    ///
    /// # Errors
    /// Options out of range, out of device memory.
    pub async fn new(
        model: &'m Model,
        config: TrainConfig,
        plan: StepPlan,
        start: Option<&[f32]>,
    ) -> Result<Self, ModelError> {
        let gpu = &model.gpu;
        let layout = LoraLayout::new(&config.lora, &model.config)?;
        Head::check(model, &config)?;
        let logits = Logits::of(&config, model.config.vocab);
        let mut memory = OnDevice(gpu);
        let buffers = Buffers::allocate(&mut memory, &model.config, &layout, logits, &plan)?;
        let Buffers { params, d_params, adam, head, ws } = buffers;
        let head = Head::new(model, &config, head).await?;
        params.write(gpu, start.unwrap_or(&layout.initial()));
        adam.start(gpu, &layout, &config.adam);
        let lora = Lora::from_params(layout, params);
        Ok(Self { model, config, plan, lora, d_params, adam, head, ws, step: 0, pending: None })
    }

    /// The adapter in its current state, on the device.
    pub fn lora(&self) -> &Lora {
        &self.lora
    }

    /// Number of completed steps.
    pub fn step_count(&self) -> u32 {
        self.step
    }

    /// Runs one optimizer step on the rows of a batch and returns the report of the previous step.
    ///
    /// # Errors
    /// A row that does not fit the plan, tokens beyond the vocabulary, a device error.
    pub async fn step(&mut self, batch: &[Example]) -> Result<Option<StepReport>, ModelError> {
        let gpu = &self.model.gpu;
        gpu.run(&self.record_start()).await?;
        let (tokens, predictions) = self.accumulate(batch).await?;
        gpu.run(&self.record_update()).await?;

        let before = self.last_report().await?;
        let longest = batch.iter().map(|e| e.tokens.len()).max().unwrap_or(0);
        self.pending = Some(Pending {
            staging: gpu.start_read(self.adam.numbers()),
            step: self.step,
            tokens,
            unpacked_tokens: (longest * batch.len()) as u32,
            predictions,
        });
        self.step += 1;
        Ok(before)
    }

    fn record_start(&self) -> Commands {
        let mut commands = Commands::new();
        self.d_params.clear(&mut commands);
        self.adam.begin(&mut commands);
        commands
    }

    fn record_update(&self) -> Commands {
        let mut commands = Commands::new();
        let rate = self.config.schedule.at(self.step);
        self.adam.update(&mut commands, &self.config.adam, &self.lora.params, &self.d_params, rate);
        commands
    }

    /// Records one optimizer step as [`Trainer::step`] runs it, but does not run it, so that its
    /// launches can be counted. The batch is uploaded.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub async fn record_step(&mut self, batch: &[Example]) -> Result<Commands, ModelError> {
        let mut commands = self.record_start();
        self.micro_steps(batch, async |_, recorded| {
            commands.append(recorded);
            Ok(())
        })
        .await?;
        commands.append(self.record_update());
        Ok(commands)
    }

    /// Accumulates the gradients of all micro-batches. Returns the number of tokens computed and
    /// predictions made.
    async fn accumulate(&mut self, batch: &[Example]) -> Result<(u32, u32), ModelError> {
        self.micro_steps(batch, async |gpu, recorded| Ok(gpu.run(&recorded).await?)).await
    }

    /// Uploads and records the micro-batches one by one and passes each to `run`. Returns the
    /// number of tokens computed and predictions made.
    async fn micro_steps(
        &mut self,
        batch: &[Example],
        mut run: impl AsyncFnMut(&Gpu, Commands) -> Result<(), ModelError>,
    ) -> Result<(u32, u32), ModelError> {
        let total: f64 = batch.iter().flat_map(|e| &e.targets).map(|t| f64::from(t.weight)).sum();
        if total <= 0.0 {
            return Err(ModelError::Empty("a batch needs targets of positive weight"));
        }
        let dropout = (self.config.lora.dropout > 0.0).then_some(dropout::Step {
            seed: self.config.lora.seed as u32,
            step: self.step,
            probability: self.config.lora.dropout,
        });
        let (mut tokens, mut predictions) = (0, 0);
        for (rows, prefix) in micro_batches(batch, &self.plan)? {
            let examples: Vec<_> = batch[rows].iter().collect();
            let (packed, targets) = pack(&examples, prefix)?;
            packed.check(self.model.config.vocab, self.model.max_positions())?;
            tokens += packed.len() as u32;
            predictions += targets.indices.len() as u32;
            let gpu = &self.model.gpu;
            self.model.set_batch(&mut self.ws, packed, Some(targets.indices.clone())).await?;
            self.head.set_targets(gpu, &targets, (1.0 / total) as f32)?;
            let mut commands = Commands::new();
            let pass = Pass { lora: Some(&self.lora), dropout };
            self.model.forward(&mut commands, &self.ws, pass, None)?;
            self.head.record(&mut commands, self.model, &self.ws, self.adam.loss())?;
            let pass = BackwardPass { lora: &self.lora, d_params: &self.d_params, dropout };
            self.model.backward(&mut commands, &self.ws, pass)?;
            run(gpu, commands).await?;
        }
        Ok((tokens, predictions))
    }

    /// Loss and gradients of a batch without an update, for comparison with a reference: the
    /// weighted mean loss and the flat gradients.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub async fn gradients(&mut self, batch: &[Example]) -> Result<(f32, Vec<f32>), ModelError> {
        let gpu = &self.model.gpu;
        gpu.run(&self.record_start()).await?;
        self.accumulate(batch).await?;
        let numbers: Vec<Numbers> = gpu.read(self.adam.numbers()).await?;
        let gradients = self.d_params.read(gpu).await?;
        Ok((numbers[0].loss, gradients))
    }

    /// The report of the last step, once it is available.
    ///
    /// # Errors
    /// A device error.
    pub async fn last_report(&mut self) -> Result<Option<StepReport>, ModelError> {
        let Some(pending) = self.pending.take() else { return Ok(None) };
        let numbers: Vec<Numbers> = self.model.gpu.finish_read(pending.staging).await?;
        let n = numbers[0];
        Ok(Some(StepReport {
            step: pending.step,
            loss: n.loss,
            accuracy: n.correct as f32 / pending.predictions.max(1) as f32,
            grad_norm: n.grad_norm,
            skipped: n.skipped_in_a_row > 0,
            skipped_in_a_row: n.skipped_in_a_row,
            tokens: pending.tokens,
            unpacked_tokens: pending.unpacked_tokens,
        }))
    }

    /// The adapter's flat parameters.
    ///
    /// # Errors
    /// A device error.
    pub async fn params(&self) -> Result<Vec<f32>, ModelError> {
        self.lora.params.read(&self.model.gpu).await
    }

    /// Everything on the device that a bit-identical resume needs, by name.
    ///
    /// # Errors
    /// A device error.
    pub async fn buffers(
        &self,
    ) -> Result<std::collections::BTreeMap<String, Vec<f32>>, ModelError> {
        let gpu = &self.model.gpu;
        let mut all = self.adam.buffers(gpu).await?;
        all.insert(PARAMS.to_owned(), self.lora.params.read(gpu).await?);
        Ok(all)
    }

    /// Resumes from what [`Trainer::buffers`] returned at a step.
    ///
    /// # Errors
    /// Buffers that are missing or have another length.
    pub fn restore(
        &mut self,
        step: u32,
        buffers: &std::collections::BTreeMap<String, Vec<f32>>,
    ) -> Result<(), ModelError> {
        let gpu = &self.model.gpu;
        let params = buffers.get(PARAMS).filter(|p| p.len() == self.lora.layout.len);
        let params = params.ok_or(ModelError::Empty("the snapshot's adapter has another size"))?;
        self.adam.restore(gpu, buffers)?;
        self.lora.params.write(gpu, params);
        self.step = step;
        self.pending = None;
        Ok(())
    }
}

/// Splits a batch into runs of rows that fit the plan, each with the prefix that its rows share.
///
/// # Errors
/// A row that does not fit even alone.
pub fn micro_batches(
    batch: &[Example],
    plan: &StepPlan,
) -> Result<Vec<(std::ops::Range<usize>, usize)>, ModelError> {
    let size = |rows: std::ops::Range<usize>| {
        let rows_of = batch[rows.clone()].iter().map(|e| e.tokens.as_slice());
        let prefix = if plan.share_prefix { shared_prefix(rows_of) } else { 0 };
        let own: usize = batch[rows.clone()].iter().map(|e| e.tokens.len() - prefix).sum();
        (prefix, prefix + own, prediction_count(&batch[rows], prefix))
    };
    let mut cuts = Vec::new();
    let mut start = 0;
    while start < batch.len() {
        let mut end = start;
        let mut prefix = 0;
        while end < batch.len() {
            let (shared, tokens, targets) = size(start..end + 1);
            if tokens > plan.tokens || targets > plan.targets {
                break;
            }
            (prefix, end) = (shared, end + 1);
        }
        if end == start {
            return Err(ModelError::Memory(format!(
                "a row of {} tokens and {} predictions exceeds the plan of {} and {}: lower max_tokens",
                batch[start].tokens.len(),
                batch[start].targets.len(),
                plan.tokens,
                plan.targets
            )));
        }
        cuts.push((start..end, prefix));
        start = end;
    }
    Ok(cuts)
}
