//! Compares the real Gemma 3 270M with the reference, if the file is on this machine
//! (`cargo xtask test --real` fetches it).
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

use std::rc::Rc;

use hearth_formats::{checkpoint::Checkpoint, source::FileSource};
use hearth_gemma::{Model, Precision, verify, workspace::Activations};
use hearth_gpu::{Gpu, GpuOptions, Profile};

async fn load(profile: Profile) -> Option<Model> {
    let path = hearth_testing::real_model()?;
    let gpu = Gpu::open(&GpuOptions::with_profile(profile)).await.unwrap();
    let source = Rc::new(FileSource::open(path).unwrap());
    let checkpoint = Checkpoint::open(vec![source]).await.unwrap();
    Some(Model::load(&gpu, &checkpoint, Precision::Exact, |_| true).await.unwrap())
}

// Runs with the default limits: there, the embedding has to be split, so they are the harder of the
// two profiles.
#[pollster::test]
async fn forward_equals_the_reference_on_default_limits() {
    let Some(model) = load(Profile::Default).await else { return };
    assert!(model.weights.embedding.on_device().unwrap().slabs.len() > 1);
    let golden = include_bytes!("../golden/gemma3_270m/forward.safetensors");
    let rows = verify::forward(&model, golden).await.unwrap();
    for row in &rows {
        println!("{row:?}");
    }
    assert!(rows.iter().all(|row| row.ok), "{rows:#?}");
}

#[pollster::test]
async fn gradients_equal_the_reference() {
    if !hearth_testing::slow() {
        return;
    }
    let Some(model) = load(Profile::Full).await else { return };
    let golden = include_bytes!("../golden/gemma3_270m/lora_qv_r4_labelonly.safetensors");
    for activations in [Activations::Keep, Activations::Recompute] {
        let rows = verify::lora(&model, golden, activations).await.unwrap();
        for row in rows
            .iter()
            .filter(|row| !row.name.contains("layers.") || row.name.contains("layers.0."))
        {
            println!("{row:?}");
        }
        assert!(rows.iter().all(|row| row.ok), "{rows:#?}");
    }
}
