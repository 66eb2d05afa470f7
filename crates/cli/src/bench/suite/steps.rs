//! A model of true shape with made-up weights: training steps and scoring, as a whole and by kernel.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use hearth_formats::layout::WeightLayout;
use hearth_gemma::{
    Embedding, LoadOptions, Precision, plan::weight_bytes, score::Scorer, train::Trainer,
};
use hearth_gpu::{Gpu, Timing};
use serde::Serialize;
use web_time::Instant;

use super::Until;
use crate::{
    bench::step::{CLASSES, PREFIX, examples, plan_step},
    options::Options,
    session,
    synthetic::Shape,
};

/// Eight rows of ETHOS, in tokens.
const LENGTHS: [usize; 8] = [45, 36, 97, 55, 68, 38, 128, 38];
/// Steps that are timed at most, and texts that are scored.
const STEPS: usize = 50;
const TEXTS: usize = 256;
/// Own tokens of texts in a pass of the scorer.
const PASS: usize = 2048;
/// Device memory that a step may take, in GB: enough to keep all activations of Gemma 2B.
const MEMORY: f64 = 24.0;

#[derive(Serialize)]
pub struct Steps {
    load_seconds: f64,
    gpu_bytes: u64,
    /// Tokens computed in a step: the prefix once.
    tokens: u32,
    /// A training step, one after the other without waiting for any.
    step_seconds: f64,
    steps: usize,
    rows_per_second: f64,
    /// Launches of a step.
    dispatches: usize,
    /// The sum over kernels; what `step_seconds` is longer, the device was kept waiting.
    kernel_seconds: f64,
    by_kernel: Vec<KernelTime>,
    scored_rows: usize,
    scored_rows_per_second: f64,
}

/// All launches of a kernel in a step.
#[derive(Debug, Serialize)]
struct KernelTime {
    kernel: &'static str,
    launches: usize,
    seconds: f64,
    gflops: f64,
}

/// Loads, trains and scores.
pub async fn measure(options: &Options, gpu: &Gpu, shape: Shape, until: Until) -> Result<Steps> {
    let start = Instant::now();
    let checkpoint = shape.checkpoint(WeightLayout::Q4).await?;
    let how = LoadOptions { precision: Precision::Exact, embedding: Embedding::FromSource };
    let weights = weight_bytes(&checkpoint, how)?;
    let model = session::load(options, gpu, &checkpoint, how).await?;
    let load_seconds = start.elapsed().as_secs_f64();

    let rows = examples(&LENGTHS, model.config.vocab)?;
    let (config, _, step_plan) = plan_step(&model, &rows, weights, MEMORY)?;
    let mut trainer = Trainer::new(&model, config, step_plan, None).await?;
    // compiles, and is not timed
    trainer.step(&rows).await?;
    let Some(first) = trainer.last_report().await? else { bail!("the step gave no report") };
    let training = until.share(0.5);
    let (start, mut steps) = (Instant::now(), 0);
    while steps == 0 || (steps < STEPS && !training.is_over()) {
        trainer.step(&rows).await?;
        steps += 1;
    }
    trainer.last_report().await?;
    let step_seconds = start.elapsed().as_secs_f64() / steps as f64;
    let gpu_bytes = gpu.allocator_report().map_or(gpu.account().in_use(), |r| r.allocated);
    let timings = gpu.profiled(async || trainer.step(&rows).await).await?;
    drop(trainer);

    let mut scorer = Scorer::new(&model, None, &CLASSES, &rows[0].tokens[..PREFIX], PASS).await?;
    let texts: Vec<Vec<u32>> =
        rows.iter().map(|row| row.tokens[PREFIX..].to_vec()).cycle().take(TEXTS).collect();
    scorer.score(&model, None, &texts[..LENGTHS.len()], |_| true).await?;
    let (start, mut scored) = (Instant::now(), 0);
    for texts in texts.chunks(TEXTS / 4) {
        scorer.score(&model, None, texts, |_| true).await?;
        scored += texts.len();
        if until.is_over() {
            break;
        }
    }
    Ok(Steps {
        load_seconds,
        gpu_bytes,
        tokens: first.tokens,
        step_seconds,
        steps,
        rows_per_second: rows.len() as f64 / step_seconds,
        dispatches: timings.len(),
        kernel_seconds: timings.iter().map(|t| t.seconds).sum(),
        by_kernel: by_kernel(&timings),
        scored_rows: scored,
        scored_rows_per_second: scored as f64 / start.elapsed().as_secs_f64(),
    })
}

/// Sums over the launches of each kernel, the longest first.
fn by_kernel(timings: &[Timing]) -> Vec<KernelTime> {
    let mut sums: BTreeMap<&str, (usize, f64, u64)> = BTreeMap::new();
    for timing in timings {
        let sum = sums.entry(timing.label).or_default();
        *sum = (sum.0 + 1, sum.1 + timing.seconds, sum.2 + timing.cost);
    }
    let time = |(kernel, (launches, seconds, cost)): (&'static str, (usize, f64, u64))| {
        KernelTime { kernel, launches, seconds, gflops: cost as f64 / seconds.max(1e-12) / 1e9 }
    };
    let mut all: Vec<KernelTime> = sums.into_iter().map(time).collect();
    all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_are_summed_by_kernel() {
        let timing = |label, seconds, cost| Timing { label, seconds, cost };
        let all =
            by_kernel(&[timing("a", 1.0, 0), timing("b", 4.0, 8_000_000_000), timing("a", 2.0, 0)]);
        assert_eq!((all[0].kernel, all[0].launches, all[0].gflops), ("b", 1, 2.0));
        assert_eq!((all[1].kernel, all[1].launches, all[1].seconds), ("a", 2, 3.0));
    }
}
