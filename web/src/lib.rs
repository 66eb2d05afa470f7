//! The page's two workers and what is said between them and the page.
//!
//! ```text
//! page  <-- protocol -->  engine worker: GPU, user's data, runs; no foreign host
//!   \---- protocol -->    loader worker: model files from the network; no user data
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod cards;
pub mod protocol;
pub mod weights;

#[cfg(target_arch = "wasm32")]
pub mod engine;
#[cfg(target_arch = "wasm32")]
pub mod loader;
#[cfg(target_arch = "wasm32")]
pub mod page;
#[cfg(target_arch = "wasm32")]
pub mod storage;
#[cfg(target_arch = "wasm32")]
pub mod traffic;
#[cfg(target_arch = "wasm32")]
pub mod wire;

#[cfg(all(test, target_arch = "wasm32"))]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);
