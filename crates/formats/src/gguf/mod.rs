//! GGUF: the header, the quantized blocks, and LoRA adapters.

pub mod blocks;
pub mod header;
pub mod lora;
pub mod mixture;
