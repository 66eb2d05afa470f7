//! What training needs from a device: memory that is released, and a run that survives the loss of
//! its device.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use hearth_gemma::{
    Model, ModelError,
    score::Scorer,
    targets::Loss,
    train::{StepReport, Trainer},
};
use hearth_gpu::{Gpu, GpuOptions, Profile};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::twins::{GEMMA2, GEMMA3, config, load_on, plan, rows};

async fn open() -> Gpu {
    Gpu::open(&GpuOptions::with_profile(Profile::Full)).await.unwrap()
}

/// Trains for a few steps on batches that differ in length, and scores with the result.
async fn train_and_score(model: &Model, seed: u64) {
    let mut config = config(Loss::Choice);
    config.lora.rank = 4 + 4 * (seed as u32 % 3);
    let mut trainer = Trainer::new(model, config, plan(200), None).await.unwrap();
    for step in 0..2 {
        let batch = rows(3 + step as usize, 5, 8, Loss::Choice, seed + step);
        trainer.step(&batch).await.unwrap();
    }
    trainer.last_report().await.unwrap();
    let texts: Vec<_> = rows(3, 5, 8, Loss::Choice, seed).into_iter().map(|e| e.tokens).collect();
    let mut scorer = Scorer::new(model, Some(trainer.lora()), &[7, 9], &[], 64).await.unwrap();
    scorer.score(model, Some(trainer.lora()), &texts, |_| true).await.unwrap();
}

/// Bytes that Hearth counts, and those that wgpu's allocator reports if it does.
async fn held(gpu: &Gpu) -> [u64; 2] {
    gpu.flush().await.unwrap();
    let counted = gpu.account().in_use();
    [counted, gpu.allocator_report().map_or(counted, |report| report.allocated)]
}

/// A browser's rasterizer would take minutes for all rounds.
const ROUNDS: u64 = if cfg!(target_arch = "wasm32") { 3 } else { 10 };

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn rounds_of_training_scoring_and_loading_take_the_memory_of_one() {
    let gpu = open().await;
    let model = load_on(&gpu, &GEMMA3).await;
    let mut first = None;
    for round in 0..ROUNDS {
        train_and_score(&model, 10 * round).await;
        let second = load_on(&gpu, &GEMMA2).await;
        train_and_score(&second, 10 * round + 1).await;
        drop(second);
        for run in 0..3 {
            train_and_score(&model, 10 * round + 3 + run).await;
        }
        let now = held(&gpu).await;
        println!("round {round}: {now:?} bytes, counted and by the allocator");
        for (now, first) in now.into_iter().zip(*first.get_or_insert(now)) {
            let off = now as f64 / first as f64 - 1.0;
            assert!(off.abs() <= 0.02, "round {round}: {now} bytes, {first} after the first");
        }
    }
}

/// Runs one step for each batch `(count, longest)`: `count` rows that share five tokens and have up
/// to `longest` of their own.
async fn steps(trainer: &mut Trainer<'_>, batches: &[(usize, usize)]) {
    for (seed, &(count, longest)) in (0..).zip(batches) {
        trainer.step(&rows(count, 5, longest, Loss::Choice, seed)).await.unwrap();
    }
    trainer.last_report().await.unwrap();
}

/// Runs with the tiles of a rasterizer and with those of a GPU.
#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_new_batch_compiles_nothing_unless_it_is_very_small() {
    for software in [true, false] {
        let gpu = open().await;
        let mut model = load_on(&gpu, &GEMMA3).await;
        model.variants.software = software;
        let mut config = config(Loss::Choice);
        config.lora.rank = 4;
        let mut trainer = Trainer::new(&model, config, plan(400), None).await.unwrap();
        steps(&mut trainer, &[(6, 12)]).await;
        let compiled = gpu.pipelines().len();
        steps(&mut trainer, &[(8, 5), (7, 30), (15, 20), (5, 40), (11, 3)]).await;
        assert_eq!(gpu.pipelines().len(), compiled, "software {software}");
        // fewer than five label positions, or sixteen and more: other tiles, and no new ones after
        // these
        steps(&mut trainer, &[(1, 20), (2, 20), (4, 20), (16, 20)]).await;
        let compiled = gpu.pipelines().len();
        steps(&mut trainer, &[(3, 9), (1, 40), (2, 13), (25, 6), (9, 9)]).await;
        assert_eq!(gpu.pipelines().len(), compiled, "software {software}, few rows");
    }
}

const STEPS: u32 = 8;

async fn step(trainer: &mut Trainer<'_>, step: u32) -> Result<Option<StepReport>, ModelError> {
    trainer.step(&rows(4, 5, 8, Loss::Choice, 100 + u64::from(step))).await
}

async fn finish(trainer: &mut Trainer<'_>, from: u32) -> Vec<u32> {
    for n in from..STEPS {
        step(trainer, n).await.unwrap();
    }
    trainer.params().await.unwrap().iter().map(|p| p.to_bits()).collect()
}

/// Runs steps while the device is destroyed, until one fails.
#[cfg(not(target_arch = "wasm32"))]
async fn lose_within_a_step(trainer: &mut Trainer<'_>, gpu: &Gpu, from: u32) -> ModelError {
    let other = gpu.clone();
    let thread = std::thread::spawn(move || other.destroy());
    let mut n = from;
    let error = loop {
        match step(trainer, n).await {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
    };
    thread.join().unwrap();
    error
}

/// The same on one thread: the device is destroyed at the step's first wait.
#[cfg(target_arch = "wasm32")]
async fn lose_within_a_step(trainer: &mut Trainer<'_>, gpu: &Gpu, from: u32) -> ModelError {
    let destroy = async { gpu.destroy() };
    let (result, ()) = futures_util::future::join(step(trainer, from), destroy).await;
    match result {
        Ok(_) => step(trainer, from + 1).await.unwrap_err(),
        Err(error) => error,
    }
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_run_whose_device_is_lost_resumes_on_another_to_the_same_bits() {
    let gpu = open().await;
    let model = load_on(&gpu, &GEMMA3).await;
    let mut whole = Trainer::new(&model, config(Loss::Choice), plan(200), None).await.unwrap();
    let want = finish(&mut whole, 0).await;
    let losses = [(3, true), (5, false), (0, false), (7, true)];
    let losses = if cfg!(target_arch = "wasm32") { &losses[..2] } else { &losses };
    for &(lost_at, within) in losses {
        let gpu = open().await;
        let model = load_on(&gpu, &GEMMA3).await;
        let mut first = Trainer::new(&model, config(Loss::Choice), plan(200), None).await.unwrap();
        for n in 0..lost_at {
            step(&mut first, n).await.unwrap();
        }
        let snapshot = first.buffers().await.unwrap();
        let error = if within {
            lose_within_a_step(&mut first, &gpu, lost_at).await
        } else {
            gpu.destroy();
            step(&mut first, lost_at).await.unwrap_err()
        };
        assert!(error.to_string().contains("lost"), "lost at {lost_at}: {error}");
        assert!(gpu.is_lost());

        let gpu = open().await;
        let model = load_on(&gpu, &GEMMA3).await;
        let mut second = Trainer::new(&model, config(Loss::Choice), plan(200), None).await.unwrap();
        second.restore(lost_at, &snapshot).unwrap();
        assert_eq!(finish(&mut second, lost_at).await, want, "lost at {lost_at}");
    }
}
