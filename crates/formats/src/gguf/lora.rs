//! LoRA adapters as GGUF, for llama.cpp's `--lora` (its `convert_lora_to_gguf.py`).
//!
//! Metadata: `general.architecture` of the base model, `general.type` = adapter, `adapter.type` =
//! lora, `adapter.lora.alpha`. Tensors: `blk.N.attn_q.weight.lora_a` `[r, in]` and `.lora_b`
//! `[out, r]`, f32. llama.cpp scales by alpha / r and does not support rsLoRA, so alpha is
//! chosen such that alpha / r is the adapter's scale.

use super::write::push_text;
use crate::names::matrix_to_gguf;
use crate::peft::{Adapter, PeftError};

const ALIGNMENT: usize = 32;
const TYPE_F32: u32 = 6;
const TYPE_TEXT: u32 = 8;

/// The bytes of a GGUF adapter for a base model of `architecture` (`gemma`, `gemma2`, `gemma3`).
///
/// # Errors
/// [`PeftError`] if there is no matrix, or one does not have the size it states.
pub fn write(adapter: &Adapter, architecture: &str) -> Result<Vec<u8>, PeftError> {
    adapter.check()?;
    let mut tensors = Vec::new();
    for (module, pair) in &adapter.tensors {
        let base = matrix_to_gguf(module).unwrap_or_default();
        let (rank, inputs, outputs) = (adapter.rank, pair.inputs, pair.outputs);
        tensors.push((format!("{base}.weight.lora_a"), [rank, inputs], &pair.a));
        tensors.push((format!("{base}.weight.lora_b"), [outputs, rank], &pair.b));
    }

    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(4u64.to_le_bytes());
    for (key, value) in [
        ("general.architecture", architecture),
        ("general.type", "adapter"),
        ("adapter.type", "lora"),
    ] {
        push_text(&mut out, key);
        out.extend(TYPE_TEXT.to_le_bytes());
        push_text(&mut out, value);
    }
    push_text(&mut out, "adapter.lora.alpha");
    out.extend(TYPE_F32.to_le_bytes());
    let alpha =
        if adapter.rslora { adapter.scaling() * adapter.rank as f32 } else { adapter.alpha };
    out.extend(alpha.to_le_bytes());

    let mut offset = 0;
    for (name, [rows, columns], values) in &tensors {
        push_text(&mut out, name);
        out.extend(2u32.to_le_bytes());
        // The fastest dimension first.
        out.extend((*columns as u64).to_le_bytes());
        out.extend((*rows as u64).to_le_bytes());
        // Tensor type F32 has number 0.
        out.extend(0u32.to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += (4 * values.len()).next_multiple_of(ALIGNMENT);
    }
    for (_, _, values) in &tensors {
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out.extend(bytemuck::cast_slice::<f32, u8>(values));
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    Ok(out)
}
