//! A model whose embedding stays in its file gives bit-identical numbers to one that has it on the
//! device, and takes less memory by exactly the size of that table.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::rc::Rc;

use super::twins::{GEMMA2, GEMMA3, alive, config, plan, rows};
use hearth_formats::{
    checkpoint::Checkpoint,
    source::{ByteSource, MemorySource},
};
use hearth_gemma::{
    Embedding, LoadOptions, Model, Precision,
    generate::Generator,
    plan::{input_row_bytes, weight_bytes},
    score::{Scorer, continuations},
    targets::Loss,
    train::Trainer,
};
use hearth_gpu::{Gpu, GpuOptions, Profile};
use wasm_bindgen_test::wasm_bindgen_test;

async fn checkpoint(files: &[(&str, &'static [u8])]) -> Checkpoint {
    let source = |&(name, bytes): &(&str, &'static [u8])| {
        Rc::new(MemorySource::new(name, bytes)) as Rc<dyn ByteSource>
    };
    Checkpoint::open(files.iter().map(source).collect()).await.unwrap()
}

async fn load(
    files: &[(&str, &'static [u8])],
    precision: Precision,
    embedding: Embedding,
) -> Model {
    let gpu = Gpu::open(&GpuOptions::with_profile(Profile::Default)).await.unwrap();
    let options = LoadOptions { precision, embedding };
    let checkpoint = checkpoint(files).await;
    let planned = weight_bytes(&checkpoint, options).unwrap();
    let mut last = None;
    let model = Model::load(&gpu, &checkpoint, options, |state| {
        last = Some(state);
        true
    })
    .await
    .unwrap();
    let last = last.unwrap();
    assert_eq!(last.done, last.total);
    // Layouts without scales have one dummy word per matrix.
    let held = model.gpu.account().in_use();
    assert!(held >= planned && held < planned + 4096, "{held} bytes, {planned} planned");
    model
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn scores_are_the_same_to_the_bit() {
    for files in [&GEMMA2, &GEMMA3] {
        for precision in [Precision::Exact, Precision::Q8, Precision::Q4] {
            let mut found = vec![];
            for embedding in [Embedding::OnDevice, Embedding::FromSource] {
                let model = load(files, precision, embedding).await;
                let mut scorer =
                    Scorer::new(&model, None, &[7, 300, 7, 0], &[2, 40, 41], 16).await.unwrap();
                let last = model.config.vocab as u32 - 1;
                // Several batches, with repeated tokens and tokens at both ends of the table.
                let rows = [vec![9, 9, 0, last, 30], vec![31; 12], vec![0], vec![last, 9]];
                found.push(scorer.score(&model, None, &rows, |_| true).await.unwrap());
            }
            assert_eq!(found[0], found[1], "{precision:?}");
            assert_ne!(found[0][0], found[0][3]);
        }
    }
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn gradients_and_steps_of_the_choice_loss_are_the_same_to_the_bit() {
    for precision in [Precision::Exact, Precision::Q4] {
        let mut found = vec![];
        for embedding in [Embedding::OnDevice, Embedding::FromSource] {
            let model = load(&GEMMA3, precision, embedding).await;
            let config = config(Loss::Choice);
            let layout = hearth_gemma::LoraLayout::new(&config.lora, &model.config).unwrap();
            // Room for only a part of the batch: input rows change between micro-batches.
            let mut trainer =
                Trainer::new(&model, config, plan(40), Some(&alive(layout.len))).await.unwrap();
            let batch = rows(6, 5, 20, Loss::Choice, 3);
            let (loss, gradients) = trainer.gradients(&batch).await.unwrap();
            for seed in 4..6 {
                trainer.step(&rows(4, 5, 20, Loss::Choice, seed)).await.unwrap();
            }
            found.push((loss, gradients, trainer.params().await.unwrap()));
        }
        assert!(found[0].1.iter().any(|g| *g != 0.0));
        assert!(found[0] == found[1], "{precision:?}");
    }
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn what_needs_the_whole_table_says_so() {
    let model = load(&GEMMA3, Precision::Exact, Embedding::FromSource).await;
    let words = |error: String| {
        assert!(error.contains("model.embed_tokens.weight") && error.contains("choice"), "{error}");
    };
    for loss in [Loss::Label, Loss::Sequence] {
        let refused = Trainer::new(&model, config(loss), plan(40), None).await;
        words(refused.err().unwrap().to_string());
    }
    words(continuations(&model, None, &[2, 5], &[vec![7]]).await.unwrap_err().to_string());
    let mut generator = Generator::new(&model, None, 8).unwrap();
    words(generator.read(&model, None, &[2, 5]).await.unwrap_err().to_string());
    assert!(Scorer::new(&model, None, &[7, 1 << 20], &[2], 8).await.is_err());
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_table_loaded_behind_is_the_same_to_the_bit() {
    let mut found = vec![];
    for embedding in [Embedding::OnDevice, Embedding::FromSource] {
        let model = load(&GEMMA3, Precision::Q8, embedding).await;
        // used without the table first: what was allocated for that must not interfere
        let mut scorer = Scorer::new(&model, None, &[7, 300], &[2, 40, 41], 16).await.unwrap();
        let before = scorer.score(&model, None, &[vec![9, 30]], |_| true).await.unwrap();
        let (missing, held) = (model.missing_table_bytes(), model.gpu.account().in_use());
        let stopped = model.load_tables(|_| false).await;
        assert_eq!(stopped.is_err(), embedding == Embedding::FromSource);
        assert_eq!(model.missing_table_bytes(), missing);
        let mut last = None;
        let progress = |state| {
            last = Some(state);
            true
        };
        model.load_tables(progress).await.unwrap();
        assert_eq!(last.is_some(), embedding == Embedding::FromSource);
        assert!(last.is_none_or(|state| state.done == state.total && state.total > 0));
        assert_eq!((model.missing_table_bytes(), input_row_bytes(&model)), (0, 0));
        let grown = model.gpu.account().in_use() - held;
        assert!(grown >= missing && grown < missing + 64, "{grown} bytes for {missing}");
        let after = scorer.score(&model, None, &[vec![9, 30]], |_| true).await.unwrap();
        assert_eq!(before, after);
        let told = continuations(&model, None, &[2, 5], &[vec![7], vec![8, 9]]).await.unwrap();
        let batch = rows(3, 5, 12, Loss::Label, 3);
        let mut trainer = Trainer::new(&model, config(Loss::Label), plan(64), None).await.unwrap();
        trainer.step(&batch).await.unwrap();
        found.push((before, told, trainer.params().await.unwrap()));
    }
    assert!(found[0] == found[1]);
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn the_table_is_what_is_saved() {
    let checkpoint = checkpoint(&GEMMA3).await;
    let table = checkpoint.tensor("model.embed_tokens.weight").unwrap();
    let (v, c) = (table.rows(), table.columns());
    let bytes = |embedding| {
        weight_bytes(&checkpoint, LoadOptions { precision: Precision::Exact, embedding }).unwrap()
    };
    assert_eq!(bytes(Embedding::OnDevice) - bytes(Embedding::FromSource), 4 * v * c);
    let kept = load(&GEMMA3, Precision::Exact, Embedding::OnDevice).await;
    let left = load(&GEMMA3, Precision::Exact, Embedding::FromSource).await;
    assert_eq!((input_row_bytes(&kept), input_row_bytes(&left)), (0, 4 * c));
}
