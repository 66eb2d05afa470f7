//! The page's two workers and what is said between them and the page.
//!
//! ```text
//! page  <-- protocol -->  engine worker: GPU, user's data, runs; no foreign host
//!   \---- protocol -->    loader worker: model files from the network; no user data
//! ```

pub mod protocol;

#[cfg(target_arch = "wasm32")]
pub mod wire;
