//! Quantizations that Hearth does not read, by name, and what to use instead.

use serde_json::Value;

use super::safetensors::Found;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::safetensors::Dtype;

/// The last part of a tensor's name, and the method that has such tensors; the first match counts.
const MARKS: [(&str, &str); 16] = [
    ("quant_state.bitsandbytes__nf4", "bitsandbytes (4-bit NF4)"),
    ("quant_state.bitsandbytes__fp4", "bitsandbytes (4-bit FP4)"),
    ("absmax", "bitsandbytes (4-bit)"),
    ("SCB", "bitsandbytes (8-bit)"),
    ("weight_global_scale", "NVFP4"),
    ("weight_packed", "compressed-tensors (packed 4 or 8 bits, as AWQ and GPTQ exports have)"),
    ("g_idx", "GPTQ"),
    ("qzeros", "GPTQ or AWQ"),
    ("qweight", "GPTQ or AWQ"),
    ("W_q", "HQQ"),
    ("codebooks", "AQLM"),
    ("weight_scale_inv", "FP8 (in blocks)"),
    ("_data", "quanto"),
    ("blocks", "MXFP4"),
    ("weight_format", "bitsandbytes (8-bit)"),
    ("weight_scale", ""),
];

/// Refuses weights of a text model that another program has quantized.
pub(super) fn refuse(model: &Checkpoint, found: &Found) -> Result<(), CheckpointError> {
    let text = || {
        found.iter().filter(|(name, _)| name.starts_with("model.") || name.starts_with("lm_head"))
    };
    let unread = |dtype: Dtype| dtype.float().is_none();
    // A matrix of a type that is not read: unquantized models have none.
    let Some((name, (source, info))) =
        text().find(|(_, (_, info))| unread(info.dtype) && info.shape.len() > 1)
    else {
        return Ok(());
    };
    let last = |name: &str, mark: &str| {
        name.strip_suffix(mark).is_some_and(|front| front.ends_with(['.', '_']))
    };
    let has = |mark: &str| text().any(|(name, _)| last(name, mark));
    let marked = MARKS
        .iter()
        .find(|(mark, method)| !method.is_empty() && has(mark))
        .map(|(_, method)| *method);
    let by_type = match info.dtype {
        Dtype::F4 | Dtype::F8_E8M0 => Some("MXFP4"),
        Dtype::F6_E2M3 | Dtype::F6_E3M2 => Some("MXFP6"),
        Dtype::F8_E4M3 | Dtype::F8_E5M2 | Dtype::F8_E4M3FNUZ | Dtype::F8_E5M2FNUZ => Some("FP8"),
        Dtype::I8 if has("weight_scale") => Some("compressed-tensors (8-bit integers)"),
        _ => None,
    };
    let said = model.config.as_deref().and_then(method_in);
    let method = match (marked, by_type, said) {
        (Some("GPTQ or AWQ"), _, Some(said)) => said,
        (Some(marked), _, _) => marked.to_owned(),
        (None, Some(kind), Some(said)) if !said.to_lowercase().contains(&kind.to_lowercase()) => {
            format!("{kind} ({said})")
        }
        (None, Some(kind), _) => kind.to_owned(),
        (None, None, Some(said)) => said,
        (None, None, None) => format!("a method that stores {}", info.dtype),
    };
    Err(CheckpointError::ForeignQuantization {
        file: model.sources[*source].name().to_owned(),
        tensor: name.clone(),
        found: info.dtype.to_string(),
        method,
    })
}

/// What `config.json` says about the method.
fn method_in(config: &str) -> Option<String> {
    let config: Value = serde_json::from_str(config).ok()?;
    let quantization = ["quantization_config", "compression_config"]
        .into_iter()
        .find_map(|key| config.get(key).or_else(|| config.get("text_config")?.get(key)))?;
    let text = |key: &str| quantization.get(key).and_then(Value::as_str);
    let method = match text("quant_method")? {
        "gptq" => "GPTQ",
        "awq" => "AWQ",
        "fp8" | "fbgemm_fp8" => "FP8",
        "mxfp4" => "MXFP4",
        "bitsandbytes" => "bitsandbytes",
        "hqq" => "HQQ",
        "aqlm" => "AQLM",
        other => other,
    };
    let short = |text: &str| text.chars().take(40).collect::<String>();
    Some(match text("format").or_else(|| text("quant_type")) {
        Some(format) => format!("{}, {}", short(method), short(format)),
        None => short(method),
    })
}
