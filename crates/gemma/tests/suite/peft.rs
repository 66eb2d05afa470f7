//! An adapter made by PEFT gives PEFT's logits. The other direction needs PEFT itself: see
//! `docs/peft.md`. The fixture is written by `tools/peft_check.py --make`: rank 3, rsLoRA, all
//! seven projections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

use super::twins::{GEMMA3, load};
use hearth_formats::{
    peft::{Adapter, CONFIG_FILE, WEIGHTS_FILE},
    source::MemorySource,
};
use hearth_gemma::{
    Lora, Model, Packed, Pass, Row,
    adapter_file::{from_adapter, to_adapter},
    verify::{self, Limit, Tensors},
    workspace::{Sizes, Workspace},
};
use hearth_gpu::{Commands, Profile};
use wasm_bindgen_test::wasm_bindgen_test;

const CONFIG: &[u8] = include_bytes!("../fixtures/peft/adapter_config.json");
const WEIGHTS: &[u8] = include_bytes!("../fixtures/peft/adapter_model.safetensors");
const LOGITS: &[u8] = include_bytes!("../fixtures/peft/logits.safetensors");

async fn adapter() -> Adapter {
    let config = MemorySource::new(CONFIG_FILE, CONFIG);
    Adapter::read(&config, &MemorySource::new(WEIGHTS_FILE, WEIGHTS)).await.unwrap()
}

async fn logits(model: &Model, adapter: &Adapter, ids: &[u32]) -> Vec<f32> {
    let (gpu, vocab) = (&model.gpu, model.config.vocab);
    let (layout, flat) = from_adapter(adapter, &model.config).unwrap();
    let lora = Some(layout.config.clone());
    let sizes = Sizes { tokens: ids.len(), chosen: ids.len(), lora, training: None };
    let mut ws = Workspace::new(gpu, &model.config, sizes).unwrap();
    let packed = Packed::new(&[Row { tokens: ids, id: 0 }], 0).unwrap();
    model.set_batch(&mut ws, packed, None).await.unwrap();
    let lora = Lora::new(gpu, layout, &flat).unwrap();
    let y = gpu.buffer("logits", 4 * (ids.len() * vocab) as u64).unwrap().all();
    let mut commands = Commands::new();
    let pass = Pass { lora: Some(&lora), dropout: None };
    model.forward(&mut commands, &ws, pass, None).unwrap();
    let head = model.weights.output_head().unwrap();
    model.logits(&mut commands, &ws, head, 0..vocab as u32, &y, vocab as u32);
    gpu.run(&commands).await.unwrap();
    gpu.read(y).await.unwrap()
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn an_adapter_made_by_peft_gives_its_logits() {
    let golden = Tensors::new(LOGITS).unwrap();
    let ids: Vec<u32> = golden.i32("input_ids").unwrap().iter().map(|&id| id as u32).collect();
    let want = golden.f32("logits").unwrap();
    let adapter = adapter().await;
    assert_eq!((adapter.rank, adapter.rslora, adapter.targets.len()), (3, true, 7));
    for &profile in super::twins::PROFILES {
        let model = load(profile, &GEMMA3).await;
        let compare =
            |got: &[f32]| verify::Row::compare("logits", got, &want, Limit::Relative(1e-4));
        let row = compare(&logits(&model, &adapter, &ids).await);
        assert!(row.ok, "{row:?}");
        // The comparison can fail: with another scale, the logits are far off.
        let other = Adapter { rslora: false, ..adapter.clone() };
        let row = compare(&logits(&model, &other, &ids).await);
        assert!(row.relative > 1e-2, "{row:?}");
    }
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn an_adapter_made_by_peft_is_written_as_it_was_read() {
    let adapter = adapter().await;
    let model = load(Profile::Default, &GEMMA3).await;
    let (layout, flat) = from_adapter(&adapter, &model.config).unwrap();
    assert_eq!(to_adapter(&layout, &flat, &adapter.base), adapter);
}
