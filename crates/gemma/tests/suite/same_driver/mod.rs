//! One run, in the browser and natively: its first gradient and twenty losses.
#![allow(clippy::unwrap_used, reason = "tests")]

use hearth_gemma::{
    LoraLayout,
    targets::Loss,
    train::{TrainConfig, Trainer},
};
use hearth_gpu::Profile;

use super::twins::{GEMMA3, alive, config, load, plan, rows};

/// Steps of the run.
pub const STEPS: u32 = 20;

/// Loss and gradient of the first batch; the losses of all steps.
pub struct Run {
    /// The driver in words.
    pub adapter: String,
    /// Loss of the first batch.
    pub loss: f32,
    /// Its gradient by every factor, flat.
    pub gradient: Vec<f32>,
    /// A loss a step.
    pub losses: Vec<f32>,
}

/// Trains the tiny Gemma 3 within WebGPU's default limits, so that both sides run the same kernels.
pub async fn run() -> Run {
    let model = load(Profile::Default, &GEMMA3).await;
    let config: TrainConfig = config(Loss::Sequence);
    let start = alive(LoraLayout::new(&config.lora, &model.config).unwrap().len);
    let mut trainer = Trainer::new(&model, config, plan(200), Some(&start)).await.unwrap();
    let batch = |step: u32| rows(4, 5, 8, Loss::Sequence, 100 + u64::from(step));
    let (loss, gradient) = trainer.gradients(&batch(0)).await.unwrap();
    let mut losses = vec![];
    for step in 0..STEPS {
        losses.extend(trainer.step(&batch(step)).await.unwrap().map(|report| report.loss));
    }
    losses.extend(trainer.last_report().await.unwrap().map(|report| report.loss));
    Run { adapter: model.gpu.adapter().to_string(), loss, gradient, losses }
}
