//! Model files, tokenizers and adapters, read through a streaming byte source. No GPU.

pub mod checkpoint;
pub mod convert;
pub mod gguf;
pub mod hearth;
pub mod layout;
pub mod merge;
pub mod mlx;
pub mod names;
pub mod peft;
pub mod quantize;
pub mod recognize;
pub mod row;
pub mod safetensors;
pub mod source;
pub mod tokenizer;
