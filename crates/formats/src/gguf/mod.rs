//! GGUF: the header, the quantized blocks, and LoRA adapters.
