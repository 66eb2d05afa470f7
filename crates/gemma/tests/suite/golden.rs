//! Compares the tiny models with numbers of the reference stack, on both device profiles, natively
//! and in the browser. `tests/golden/README.md` describes how the files were made.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

use std::rc::Rc;

use hearth_formats::{
    checkpoint::Checkpoint,
    source::{ByteSource, MemorySource},
};
use hearth_gemma::{Model, Precision, verify, workspace::Activations};
use hearth_gpu::{Gpu, GpuOptions, Profile};
use wasm_bindgen_test::wasm_bindgen_test;

macro_rules! twin {
    ($name:literal) => {
        [
            (
                "config.json",
                &include_bytes!(concat!("../golden/", $name, "/model/config.json"))[..],
            ),
            (
                "model.safetensors",
                &include_bytes!(concat!("../golden/", $name, "/model/model.safetensors"))[..],
            ),
            (
                "forward.safetensors",
                &include_bytes!(concat!("../golden/", $name, "/forward.safetensors"))[..],
            ),
        ]
    };
}

async fn load(profile: Profile, files: &[(&str, &'static [u8])]) -> Model {
    let gpu = Gpu::open(&GpuOptions::with_profile(profile)).await.unwrap();
    let sources = files[..2]
        .iter()
        .map(|&(name, bytes)| Rc::new(MemorySource::new(name, bytes)) as Rc<dyn ByteSource>)
        .collect();
    let checkpoint = Checkpoint::open(sources).await.unwrap();
    Model::load(&gpu, &checkpoint, Precision::Exact, |_| true).await.unwrap()
}

fn assert_all(rows: &[verify::Row]) {
    let failed: Vec<_> = rows.iter().filter(|row| !row.ok).collect();
    assert!(!rows.is_empty() && failed.is_empty(), "{failed:#?}");
}

async fn forward(files: [(&str, &'static [u8]); 3]) {
    for &profile in super::twins::PROFILES {
        let model = load(profile, &files).await;
        assert_all(&verify::forward(&model, files[2].1).await.unwrap());
    }
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn gemma1_forward_equals_the_reference() {
    forward(twin!("tiny_gemma1")).await;
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn gemma2_forward_equals_the_reference() {
    forward(twin!("tiny_gemma2")).await;
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn gemma3_forward_equals_the_reference() {
    forward(twin!("tiny_gemma3")).await;
}

async fn lora(files: [(&str, &'static [u8]); 3], golden: &[u8]) {
    for &profile in super::twins::PROFILES {
        let model = load(profile, &files).await;
        for activations in [Activations::Keep, Activations::Recompute] {
            assert_all(&verify::lora(&model, golden, activations).await.unwrap());
        }
    }
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn gemma1_gradients_and_adam_steps_equal_the_reference() {
    lora(
        twin!("tiny_gemma1"),
        include_bytes!("../golden/tiny_gemma1/lora_all7_r8_a16_fullseq.safetensors"),
    )
    .await;
    lora(
        twin!("tiny_gemma1"),
        include_bytes!("../golden/tiny_gemma1/lora_qv_r4_last2.safetensors"),
    )
    .await;
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn gemma2_gradients_and_adam_steps_equal_the_reference() {
    lora(
        twin!("tiny_gemma2"),
        include_bytes!("../golden/tiny_gemma2/lora_all7_r8_a16_last2.safetensors"),
    )
    .await;
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn gemma3_gradients_and_adam_steps_equal_the_reference() {
    lora(
        twin!("tiny_gemma3"),
        include_bytes!("../golden/tiny_gemma3/lora_all7_r8_a16_fullseq.safetensors"),
    )
    .await;
    lora(
        twin!("tiny_gemma3"),
        include_bytes!("../golden/tiny_gemma3/lora_qv_r4_last2.safetensors"),
    )
    .await;
}
