//! Writes the native half of `tests/suite/browser_native.rs`, which describes how to run it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a tool for developers"
)]

#[cfg(not(target_arch = "wasm32"))]
#[path = "../tests/suite/same_driver/mod.rs"]
mod same_driver;
#[cfg(not(target_arch = "wasm32"))]
#[path = "../tests/suite/twins/mod.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod twins;

/// There are no folders in a browser.
#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    use std::collections::HashMap;

    use safetensors::{Dtype, tensor::TensorView};

    let path = std::env::args().nth(1).expect("which file to write");
    let run = pollster::block_on(same_driver::run());
    let tensors = [("loss", vec![run.loss]), ("gradient", run.gradient), ("losses", run.losses)];
    let bytes: Vec<(&str, Vec<u8>, usize)> = tensors
        .iter()
        .map(|(name, v)| (*name, v.iter().flat_map(|x| x.to_le_bytes()).collect(), v.len()))
        .collect();
    let views = bytes
        .iter()
        .map(|(name, bytes, len)| (*name, TensorView::new(Dtype::F32, vec![*len], bytes).unwrap()));
    let told = HashMap::from([("adapter".to_owned(), run.adapter.clone())]);
    safetensors::serialize_to_file(views, Some(told), std::path::Path::new(&path)).unwrap();
    println!("{path}: {}", run.adapter);
}
