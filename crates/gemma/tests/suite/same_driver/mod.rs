//! One run, in the browser and natively: its first gradient and twenty losses.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::ops::Range;

use hearth_gemma::{
    LoraLayout,
    lora::Slot,
    targets::Loss,
    train::{TrainConfig, Trainer},
};
use hearth_gpu::Profile;

use super::twins::{GEMMA3, alive, config, load, plan, rows};

/// Steps of the run.
pub const STEPS: u32 = 20;

/// Loss and gradient of the first batch; the losses of all steps.
pub struct Run {
    /// Description of the driver.
    pub adapter: String,
    /// Loss of the first batch.
    pub loss: f32,
    /// Its gradient with respect to every factor, one after the other: A and B of a projection,
    /// then of the next.
    pub gradient: Vec<f32>,
    /// One loss per step.
    pub losses: Vec<f32>,
}

/// Trains the tiny Gemma 3 within WebGPU's default limits, so that both sides run the same kernels.
pub async fn run() -> Run {
    let model = load(Profile::Default, &GEMMA3).await;
    let config: TrainConfig = config(Loss::Sequence);
    // The numbers belong to factors, wherever a layout places them.
    let layout = LoraLayout::new(&config.lora, &model.config).unwrap();
    let factors = factors(&layout);
    let numbers = alive(layout.len);
    let (mut start, mut used) = (vec![0.0; layout.len], 0);
    for range in factors.clone() {
        let count = range.len();
        start[range].copy_from_slice(&numbers[used..used + count]);
        used += count;
    }
    assert_eq!(used, layout.len, "no gaps between factors");
    let mut trainer = Trainer::new(&model, config, plan(200), Some(&start)).await.unwrap();
    let batch = |step: u32| rows(4, 5, 8, Loss::Sequence, 100 + u64::from(step));
    let (loss, flat) = trainer.gradients(&batch(0)).await.unwrap();
    let gradient = factors.into_iter().flat_map(|range| flat[range].to_vec()).collect();
    let mut losses = vec![];
    for step in 0..STEPS {
        losses.extend(trainer.step(&batch(step)).await.unwrap().map(|report| report.loss));
    }
    losses.extend(trainer.last_report().await.unwrap().map(|report| report.loss));
    Run { adapter: model.gpu.adapter().to_string(), loss, gradient, losses }
}

/// Where the factors are stored: A and B of every projection, layer by layer.
fn factors(layout: &LoraLayout) -> Vec<Range<usize>> {
    let rank = layout.config.padded_rank() as usize;
    let of_slot =
        |slot: Slot| [slot.a..slot.a + rank * slot.inputs, slot.b..slot.b + rank * slot.outputs];
    layout.slots().flat_map(|(_, _, slot)| of_slot(slot)).collect()
}
