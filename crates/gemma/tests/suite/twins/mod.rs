//! Models and helpers that the integration tests share.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::rc::Rc;

use hearth_formats::{
    checkpoint::Checkpoint,
    source::{ByteSource, MemorySource},
};
use hearth_gemma::{
    LoraConfig, Model, Precision,
    schedule::{Decay, Schedule},
    targets::{Example, Loss},
    train::{Adam, StepPlan, TrainConfig},
    workspace::Activations,
};
use hearth_gpu::{Gpu, GpuOptions, Profile};
use hearth_rng::Rng;

/// The device profiles that a test runs on. In the browser, only WebGPU's default limits: kernels
/// and model depend on the limits of a device and on nothing else of it, and both profiles are
/// tested natively.
pub const PROFILES: &[Profile] = if cfg!(target_arch = "wasm32") {
    &[Profile::Default]
} else {
    &[Profile::Default, Profile::Full]
};

/// The tiny Gemma 3: windows of 8, global layers, norms of q and k.
pub const GEMMA3: [(&str, &[u8]); 2] = [
    ("config.json", include_bytes!("../../golden/tiny_gemma3/model/config.json")),
    ("model.safetensors", include_bytes!("../../golden/tiny_gemma3/model/model.safetensors")),
];

/// The tiny Gemma 2: soft-caps, two key heads.
pub const GEMMA2: [(&str, &[u8]); 2] = [
    ("config.json", include_bytes!("../../golden/tiny_gemma2/model/config.json")),
    ("model.safetensors", include_bytes!("../../golden/tiny_gemma2/model/model.safetensors")),
];

/// The tiny Gemma 1: one key head.
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the tests that use it run natively"))]
pub const GEMMA1: [(&str, &[u8]); 2] = [
    ("config.json", include_bytes!("../../golden/tiny_gemma1/model/config.json")),
    ("model.safetensors", include_bytes!("../../golden/tiny_gemma1/model/model.safetensors")),
];

pub async fn load(profile: Profile, files: &[(&str, &'static [u8])]) -> Model {
    load_on(&Gpu::open(&GpuOptions::with_profile(profile)).await.unwrap(), files).await
}

pub async fn load_on(gpu: &Gpu, files: &[(&str, &'static [u8])]) -> Model {
    let sources = files
        .iter()
        .map(|&(name, bytes)| Rc::new(MemorySource::new(name, bytes)) as Rc<dyn ByteSource>)
        .collect();
    let checkpoint = Checkpoint::open(sources).await.unwrap();
    Model::load(gpu, &checkpoint, Precision::Exact, |_| true).await.unwrap()
}

/// An adapter whose B is not zero, so that no gradient vanishes.
pub fn alive(len: usize) -> Vec<f32> {
    let mut rng = Rng::new(5);
    (0..len).map(|_| (rng.uniform() as f32 - 0.5) * 0.1).collect()
}

pub fn config(loss: Loss) -> TrainConfig {
    TrainConfig {
        lora: LoraConfig::all_seven(),
        loss,
        classes: vec![7, 9, 11],
        schedule: Schedule { rate: 5e-3, warmup: 2, steps: 40, decay: Decay::Linear },
        adam: Adam::default(),
    }
}

pub fn plan(tokens: usize) -> StepPlan {
    StepPlan { tokens, targets: 4096, activations: Activations::Keep, share_prefix: true }
}

/// Rows that share `prefix` tokens, with one to `longest` tokens of their own and unequal weights.
pub fn rows(count: usize, prefix: usize, longest: usize, loss: Loss, seed: u64) -> Vec<Example> {
    let mut rng = Rng::new(seed);
    let mut token = || 12 + rng.below(490) as u32;
    let front: Vec<u32> = (0..prefix).map(|_| token()).collect();
    let mut lengths = Rng::new(seed + 1);
    (0..count)
        .map(|row| {
            let own = if row == 0 {
                1
            } else if row == 1 {
                longest
            } else {
                1 + lengths.below(longest)
            };
            let mut prompt = front.clone();
            prompt.extend((0..own).map(|_| token()));
            let class = lengths.below(3);
            let weight = 0.5 + row as f32 * 0.25;
            Example::new(
                loss,
                &prompt,
                class as u32,
                [7, 9, 11][class],
                Some(1),
                weight,
                row as u32,
            )
        })
        .collect()
}
