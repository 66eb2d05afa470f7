//! The tiny Gemma 3 that the tests train, and its tokenizer.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::rc::Rc;

use hearth_formats::{
    checkpoint::Checkpoint,
    source::{ByteSource, MemorySource},
    tokenizer::Tokenizer,
};
use hearth_gemma::{Model, Precision};
use hearth_gpu::{Gpu, GpuOptions, Profile};

const CONFIG: &[u8] = include_bytes!("../../../gemma/tests/golden/tiny_gemma3/model/config.json");
const TOKENIZER: &[u8] = include_bytes!("../fixtures/tokenizer.json");

/// The file of weights.
pub const WEIGHTS: &[u8] =
    include_bytes!("../../../gemma/tests/golden/tiny_gemma3/model/model.safetensors");

/// Opens the model with these weights on a device of its own.
pub async fn open(
    weights: &'static [u8],
    profile: Profile,
    precision: Precision,
) -> (Model, Tokenizer) {
    let gpu = Gpu::open(&GpuOptions::with_profile(profile)).await.unwrap();
    let source = |(name, bytes)| Rc::new(MemorySource::new(name, bytes)) as Rc<dyn ByteSource>;
    let files = [("config.json", CONFIG), ("model.safetensors", weights)];
    let checkpoint = Checkpoint::open(files.map(source).to_vec()).await.unwrap();
    let model = Model::load(&gpu, &checkpoint, precision, |_| true).await.unwrap();
    (model, Tokenizer::from_json(TOKENIZER).unwrap())
}
