//! One text scored and one training step, with the memory that they took compared with the plan.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use hearth_formats::checkpoint::Checkpoint;
use hearth_gemma::{
    Embedding, LoadOptions, LoraConfig, Model,
    plan::{
        MemoryPlan, TrainingNeed, input_row_bytes, most_targets, plan_forward, plan_training,
        weight_bytes,
    },
    schedule::{Decay, Schedule},
    score::Scorer,
    targets::{Example, Loss, prediction_count},
    train::{Adam, Logits, StepPlan, TrainConfig, Trainer},
    workspace::{Activations, Sizes},
};
use hearth_gpu::{Commands, Gpu};
use hearth_kernels::variants::Variants;
use hearth_rng::Rng;
use serde::Serialize;
use web_time::Instant;

use super::Bench;
use crate::{heap::Meter, options::Options, output, session};

/// Tokens that all rows begin with: the codelab's instruction has 21.
pub const PREFIX: usize = 21;
/// The tokens of the classes.
pub const CLASSES: [u32; 2] = [5, 9];

#[derive(Serialize)]
pub struct StepReport {
    load_seconds: f64,
    load_heap_peak_bytes: u64,
    score: Part,
    /// Probabilities of the two classes.
    scored: Vec<f32>,
    step: Part,
    /// What the plan chose.
    activations: Option<Activations>,
    rows: usize,
    /// Tokens computed: the prefix once.
    tokens: u32,
    loss: f32,
    grad_norm: f32,
    recorded: Recorded,
}

/// A step by count, whatever the device.
#[derive(Debug, Serialize)]
pub struct Recorded {
    /// Kernel launches.
    pub dispatches: usize,
    /// Turns of loops that come one after the other on any device: of the longest invocation of every launch.
    pub critical_iterations: u64,
    /// Bytes of all ranges that the launches bind.
    pub bound_bytes: u64,
    /// Operations as submissions are sized by.
    pub operations: u64,
    /// Of the host, the batch's upload included, the best of five.
    pub recording_seconds: f64,
    /// The first two counts by kernel.
    pub kernels: BTreeMap<&'static str, Counts>,
}

/// What a kernel has of a step's counts.
#[derive(Debug, Default, Serialize)]
pub struct Counts {
    dispatches: usize,
    critical_iterations: u64,
}

impl Recorded {
    /// Records the step of a trainer without running it.
    async fn of(trainer: &mut Trainer<'_>, rows: &[Example]) -> Result<(Self, Commands)> {
        let mut commands = Commands::new();
        let mut recording_seconds = f64::INFINITY;
        for _ in 0..5 {
            let start = Instant::now();
            commands = trainer.record_step(rows).await?;
            recording_seconds = recording_seconds.min(start.elapsed().as_secs_f64());
        }
        let (bound_bytes, operations) = commands.traffic();
        let (dispatches, critical_iterations) =
            (commands.dispatches(), commands.critical_iterations());
        let mut kernels = BTreeMap::<_, Counts>::new();
        for launch in commands.launches() {
            let counts = kernels.entry(launch.kernel.label).or_default();
            counts.dispatches += 1;
            counts.critical_iterations += launch.serial;
        }
        let counted = Self {
            dispatches,
            critical_iterations,
            bound_bytes,
            operations,
            recording_seconds,
            kernels,
        };
        Ok((counted, commands))
    }

    pub fn line(&self) -> String {
        format!(
            "recorded in {:.2} ms: {} launches, {} turns of loops one after the other, {} bound, {:.1} GFLOP",
            1e3 * self.recording_seconds,
            self.dispatches,
            self.critical_iterations,
            output::bytes(self.bound_bytes),
            self.operations as f64 / 1e9
        )
    }
}

/// Records a training step of a model that takes no memory: what it would launch on this device's limits.
pub async fn outline(
    gpu: &Gpu,
    checkpoint: &Checkpoint,
    how: LoadOptions,
    variants: Variants,
    (lengths, memory): (&[usize], f64),
) -> Result<(Recorded, Commands)> {
    let weights = weight_bytes(checkpoint, how)?;
    let mut model = Model::load(&gpu.outline(), checkpoint, how, |_| true).await?;
    model.variants = variants;
    let rows = examples(lengths, model.config.vocab)?;
    let (config, _, step_plan) = plan_step(&model, &rows, weights, memory)?;
    let mut trainer = Trainer::new(&model, config, step_plan, None).await?;
    Recorded::of(&mut trainer, &rows).await
}

/// The same for the options of the command line, with the variants of a GPU.
pub async fn outline_of(args: &Bench, gpu: &Gpu, checkpoint: &Checkpoint) -> Result<Recorded> {
    let how = LoadOptions { precision: args.weights.into(), embedding: Embedding::FromSource };
    let variants = Variants { software: false, ..Variants::of(gpu) };
    let (recorded, _) = outline(gpu, checkpoint, how, variants, (&args.step, args.memory)).await?;
    Ok(recorded)
}

/// Time and memory of one part.
#[derive(Serialize)]
struct Part {
    seconds: f64,
    /// In buffers, by wgpu's allocator where it reports, after the work.
    gpu_bytes: u64,
    /// Taken from the driver.
    gpu_reserved_bytes: Option<u64>,
    planned_bytes: u64,
    planned: Vec<(String, u64)>,
    heap_peak_bytes: u64,
}

impl Part {
    fn new(gpu: &Gpu, plan: MemoryPlan, start: Instant, heap: &Meter) -> Self {
        let report = gpu.allocator_report();
        Self {
            seconds: start.elapsed().as_secs_f64(),
            gpu_bytes: report.map_or(gpu.account().in_use(), |r| r.allocated),
            gpu_reserved_bytes: report.map(|r| r.reserved),
            planned_bytes: plan.total(),
            planned: plan.parts,
            heap_peak_bytes: heap.peak(),
        }
    }

    fn line(&self, what: &str) -> String {
        let off = 100.0 * (self.gpu_bytes as f64 / self.planned_bytes as f64 - 1.0);
        format!(
            "{what:<8} {:.1} s, {} on the GPU ({} planned, {off:+.2} %), heap {} at most",
            self.seconds,
            output::bytes(self.gpu_bytes),
            output::bytes(self.planned_bytes),
            output::bytes(self.heap_peak_bytes)
        )
    }
}

/// Rows of synthetic tokens.
pub fn examples(lengths: &[usize], vocab: usize) -> Result<Vec<Example>> {
    if let Some(short) = lengths.iter().find(|n| **n <= PREFIX) {
        bail!("--step: rows share {PREFIX} tokens, so one of {short} is too short");
    }
    let mut rng = Rng::new(1);
    let mut token = || 10 + rng.below(vocab - 10) as u32;
    let front: Vec<u32> = std::iter::once(2).chain((1..PREFIX).map(|_| token())).collect();
    let mut row = |(id, length): (usize, &usize)| {
        let mut tokens = front.clone();
        tokens.extend((PREFIX..*length).map(|_| token()));
        let class = id % CLASSES.len();
        Example::new(Loss::Choice, &tokens, class as u32, CLASSES[class], None, 1.0, id as u32)
    };
    Ok(lengths.iter().enumerate().map(&mut row).collect())
}

/// Scores the first row and trains on all of them, once.
pub async fn measure(
    options: &Options,
    args: &Bench,
    gpu: &Gpu,
    checkpoint: &Checkpoint,
) -> Result<StepReport> {
    let how = LoadOptions { precision: args.weights.into(), embedding: Embedding::FromSource };
    let weights = weight_bytes(checkpoint, how)?;
    let (start, heap) = (Instant::now(), Meter::start());
    let model = session::load(options, gpu, checkpoint, how).await?;
    let (load_seconds, load_heap_peak_bytes) = (start.elapsed().as_secs_f64(), heap.peak());
    let rows = examples(&args.step, model.config.vocab)?;
    output::note(&format!("loaded in {load_seconds:.1} s"));

    let (start, heap) = (Instant::now(), Meter::start());
    let text = rows[0].tokens.clone();
    let mut scorer = Scorer::new(&model, None, &CLASSES, &[], text.len()).await?;
    let sizes = Sizes { tokens: text.len(), chosen: text.len(), lora: None, training: None };
    let plan = plan_forward(&model.config, weights, &sizes, text.len())?;
    let scored = scorer.score(&model, None, &[text], |_| true).await?.concat();
    let score = Part::new(gpu, plan, start, &heap);
    drop(scorer);
    output::note(&score.line("score"));

    let (start, heap) = (Instant::now(), Meter::start());
    let (config, plan, step_plan) = plan_step(&model, &rows, weights, args.memory)?;
    let activations = plan.activations;
    let mut trainer = Trainer::new(&model, config, step_plan, None).await?;
    trainer.step(&rows).await?;
    let Some(report) = trainer.last_report().await? else { bail!("the step gave no report") };
    let step = Part::new(gpu, plan, start, &heap);
    let (recorded, _) = Recorded::of(&mut trainer, &rows).await?;
    Ok(StepReport {
        load_seconds,
        load_heap_peak_bytes,
        score,
        scored,
        step,
        activations,
        rows: rows.len(),
        tokens: report.tokens,
        loss: report.loss,
        grad_norm: report.grad_norm,
        recorded,
    })
}

/// What one step over these rows needs, within so many GB.
pub fn plan_step(
    model: &Model,
    rows: &[Example],
    weights: u64,
    memory: f64,
) -> Result<(TrainConfig, MemoryPlan, StepPlan)> {
    let config = TrainConfig {
        lora: LoraConfig::all_seven(),
        loss: Loss::Choice,
        classes: CLASSES.to_vec(),
        schedule: Schedule { rate: 5e-4, warmup: 0, steps: 1, decay: Decay::Constant },
        adam: Adam::default(),
    };
    let targets = prediction_count(rows, PREFIX);
    let need = TrainingNeed {
        lora: &config.lora,
        longest_row: rows.iter().map(|row| row.tokens.len()).max().unwrap_or(0),
        batch_tokens: PREFIX + rows.iter().map(|row| row.tokens.len() - PREFIX).sum::<usize>(),
        targets,
        logits: Logits::of(&config, model.config.vocab),
        averaging: false,
        input_row_bytes: input_row_bytes(model),
    };
    let limit = model.gpu.max_binding();
    let plan = plan_training(&model.config, weights, &need, (memory * 1e9) as u64, limit)?;
    let activations = plan.activations.unwrap_or(Activations::Recompute);
    let targets = most_targets(targets, plan.tokens);
    let step_plan = StepPlan { tokens: plan.tokens, targets, activations, share_prefix: true };
    Ok((config, plan, step_plan))
}

/// For people.
pub fn print(report: &StepReport) -> Result<()> {
    output::line(&format!(
        "load     {:.1} s, heap {} at most",
        report.load_seconds,
        output::bytes(report.load_heap_peak_bytes)
    ))?;
    output::line(&report.score.line("score"))?;
    output::line(&report.step.line("step"))?;
    output::line(&report.recorded.line())?;
    for (name, bytes) in &report.step.planned {
        output::line(&format!("  {name:<22} {}", output::bytes(*bytes)))?;
    }
    output::line(&format!(
        "{} rows, {} tokens, {:?}, loss {:.4}, gradient norm {:.3e}, classes {:?}",
        report.rows,
        report.tokens,
        report.activations,
        report.loss,
        report.grad_norm,
        report.scored
    ))
}
