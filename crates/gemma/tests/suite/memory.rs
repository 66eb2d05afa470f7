//! Compares the memory plan with what wgpu's allocator reports, and tests that what does not fit is
//! rejected.
#![cfg(not(target_arch = "wasm32"))] // a browser reports no memory
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::rc::Rc;

use super::twins::{GEMMA1, GEMMA2, GEMMA3, config, rows};
use hearth_formats::{
    checkpoint::Checkpoint,
    gguf::{blocks::layout_of, mixture::q4_k_m},
    layout::WeightLayout,
    source::{ByteSource, MemorySource},
};
use hearth_gemma::{
    Embedding, LoadOptions, Model, Precision, Projection, config_of,
    plan::{TrainingNeed, check_fits, layer_bytes, training, weight_bytes},
    targets::{Loss, prediction_count},
    train::{Logits, StepPlan, Trainer},
    workspace::Activations,
};
use hearth_gpu::{Gpu, GpuOptions, Profile};

async fn checkpoint(files: &[(&str, &'static [u8])]) -> Checkpoint {
    let sources = files
        .iter()
        .map(|&(name, bytes)| Rc::new(MemorySource::new(name, bytes)) as Rc<dyn ByteSource>)
        .collect();
    Checkpoint::open(sources).await.unwrap()
}

/// Bytes of a step according to the allocator, its peak according to Hearth's own account, and the
/// plan.
async fn step(files: &[(&str, &'static [u8])], loss: Loss, activations: Activations) -> [u64; 3] {
    let gpu = Gpu::open(&GpuOptions::with_profile(Profile::Full)).await.unwrap();
    let checkpoint = checkpoint(files).await;
    let weights = weight_bytes(&checkpoint, Precision::Exact).unwrap();
    let model = Model::load(&gpu, &checkpoint, Precision::Exact, |_| true).await.unwrap();
    // Large enough that the rounding of some 200 buffers to the driver's alignment is negligible.
    let batch = rows(192, 9, 24, loss, 3);
    let config = config(loss);
    let targets = prediction_count(&batch, 9);
    let tokens = 9 + batch.iter().map(|row| row.tokens.len() - 9).sum::<usize>();
    let need = TrainingNeed {
        lora: &config.lora,
        longest_row: 33,
        batch_tokens: tokens,
        targets,
        logits: Logits::of(&config, model.config.vocab),
        averaging: false,
        input_row_bytes: 0,
    };
    let plan = training(&model.config, weights, &need, tokens, activations).unwrap();
    let step_plan = StepPlan { tokens, targets, activations, share_prefix: true };
    let mut trainer = Trainer::new(&model, config, step_plan, None).await.unwrap();
    for _ in 0..2 {
        trainer.step(&batch).await.unwrap();
    }
    trainer.last_report().await.unwrap().unwrap();
    [gpu.allocator_report().unwrap().allocated, gpu.account().peak(), plan.total()]
}

#[pollster::test]
async fn a_training_step_takes_what_the_plan_says() {
    for (name, files) in [("Gemma 2", &GEMMA2), ("Gemma 3", &GEMMA3)] {
        for (loss, activations) in [
            (Loss::Choice, Activations::Keep),
            (Loss::Choice, Activations::Recompute),
            (Loss::Sequence, Activations::Keep),
        ] {
            let [allocated, peak, planned] = step(files, loss, activations).await;
            println!(
                "{name}, {loss:?}, {activations:?}: allocator {allocated}, account's peak {peak}, plan {planned}"
            );
            for found in [allocated, peak] {
                let off = found as f64 / planned as f64 - 1.0;
                assert!(off.abs() <= 0.05, "{name}, {loss:?}, {activations:?}: {off:+.3}");
            }
        }
    }
}

#[pollster::test]
async fn a_model_that_does_not_fit_is_refused_with_numbers_before_anything_is_read() {
    let checkpoint = checkpoint(&GEMMA3).await;
    let bytes = weight_bytes(&checkpoint, Precision::Exact).unwrap();
    assert_eq!(check_fits(&checkpoint, Precision::Exact, bytes).unwrap(), bytes);
    let refusal = check_fits(&checkpoint, Precision::Exact, bytes - 1).unwrap_err().to_string();
    let megabytes = format!("{:.1} MB", bytes as f64 / 1e6);
    for words in ["model.safetensors", &megabytes, "embedding", "layers", "quantize"] {
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
    // With fewer bits per weight, it may fit.
    assert!(weight_bytes(&checkpoint, Precision::Q8).unwrap() < bytes);
    check_fits(&checkpoint, Precision::Q8, bytes - 1).unwrap();
}

#[test]
fn the_weights_of_a_file_that_is_not_here_are_known_from_its_shape() {
    for twin in [GEMMA1, GEMMA2, GEMMA3] {
        let checkpoint = pollster::block_on(checkpoint(&twin));
        let config = config_of(&checkpoint).unwrap();
        let how = |precision| LoadOptions { precision, embedding: Embedding::FromSource };
        for (precision, layout) in
            [(Precision::Exact, WeightLayout::F32), (Precision::F16, WeightLayout::F16)]
        {
            let known = weight_bytes(&checkpoint, how(precision)).unwrap();
            assert_eq!(layer_bytes(&config, |_, _| layout), known, "{}", config.family);
        }
    }
}

#[test]
fn the_weights_of_the_real_model_are_known_from_its_shape() {
    let Some(real) = hearth_testing::real_model() else { return };
    let bytes = std::fs::read(real).unwrap().leak();
    let checkpoint = pollster::block_on(checkpoint(&[("real.gguf", bytes)]));
    let config = config_of(&checkpoint).unwrap();
    let layout = |layer, projection: Projection| {
        let sensitive = matches!(projection, Projection::V | Projection::Down);
        let (inputs, _) = projection.shape(&config);
        layout_of(q4_k_m(layer, config.layers.len(), sensitive, inputs)).unwrap()
    };
    let how = LoadOptions { embedding: Embedding::FromSource, ..LoadOptions::default() };
    assert_eq!(layer_bytes(&config, layout), weight_bytes(&checkpoint, how).unwrap());
}
