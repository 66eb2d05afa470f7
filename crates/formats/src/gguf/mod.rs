//! GGUF: the header, the quantized blocks, and LoRA adapters.

pub mod blocks;
pub mod header;
pub mod lora;
pub mod mixture;
mod role;

pub use role::{Role, architecture_in_words, projector, role};
