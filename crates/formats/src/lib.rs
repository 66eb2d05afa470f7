//! Model files, tokenizers and adapters, read through a streaming byte source. No GPU.

pub mod gguf;
pub mod layout;
pub mod row;
pub mod source;
