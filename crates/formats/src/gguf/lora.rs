//! LoRA adapters as GGUF, for llama.cpp's `--lora` (its `convert_lora_to_gguf.py`).
//!
//! Metadata: `general.architecture` of the base model, `general.type` = adapter, `adapter.type` =
//! lora, `adapter.lora.alpha`. Tensors: `blk.N.attn_q.weight.lora_a` `[r, in]` and `.lora_b`
//! `[out, r]`, f32. llama.cpp scales by alpha / r and does not support rsLoRA, so alpha is
//! chosen such that alpha / r is the adapter's scale.

use super::header::TensorType;
use super::write::{ALIGNMENT, Metadata, plan_file};
use crate::names::matrix_to_gguf;
use crate::peft::{Adapter, PeftError};

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

    let mut metadata = Metadata::default();
    metadata.text("general.architecture", architecture);
    metadata.text("general.type", "adapter");
    metadata.text("adapter.type", "lora");
    let alpha =
        if adapter.rslora { adapter.scaling() * adapter.rank as f32 } else { adapter.alpha };
    metadata.float("adapter.lora.alpha", alpha);
    let entries = tensors.iter().map(|(name, sizes, _)| {
        (name.clone(), TensorType::F32, sizes.map(|size| size as u64).to_vec())
    });
    let too_large = || PeftError::Write("their sizes fit no file".to_owned());
    let planned = plan_file(&metadata, entries).ok_or_else(too_large)?;
    let mut out = planned.bytes;
    for (tensor, (_, _, values)) in planned.tensors.iter().zip(&tensors) {
        out.resize(tensor.offset as usize, 0);
        out.extend(bytemuck::cast_slice::<f32, u8>(values));
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    Ok(out)
}
