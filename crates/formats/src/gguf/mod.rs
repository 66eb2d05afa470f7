//! GGUF: the header, the quantized blocks, LoRA adapters, and what is written.

pub mod blocks;
pub mod encode;
pub mod header;
pub mod lora;
pub mod mixture;
mod role;
pub mod write;

pub use role::{Role, architecture_in_words, projector, role};
