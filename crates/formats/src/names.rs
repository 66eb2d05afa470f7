//! One set of tensor names for all formats: those of Hugging Face's Gemma for text.

/// What GGUF calls the tensors of a block, and their uniform names. `ffn_norm` is handled separately.
const BLOCK: [(&str, &str); 13] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_norm", "pre_feedforward_layernorm"),
];

/// The uniform name of a GGUF tensor (llama.cpp's `gguf-py/gguf/tensor_mapping.py`); other tensors keep their names.
/// The norm before the MLP is `post_attention_layernorm` in Gemma 1, which has none after attention.
pub fn from_gguf(name: &str, architecture: &str) -> String {
    let mapped = match name {
        "token_embd.weight" => Some("model.embed_tokens.weight".to_owned()),
        "output_norm.weight" => Some("model.norm.weight".to_owned()),
        "output.weight" => Some("lm_head.weight".to_owned()),
        _ => block(name, architecture),
    };
    mapped.unwrap_or_else(|| name.to_owned())
}

fn block(name: &str, architecture: &str) -> Option<String> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let part = rest.strip_suffix(".weight")?;
    let (_, uniform) = BLOCK.iter().find(|(gguf, _)| *gguf == part)?;
    let uniform = match (part, architecture) {
        ("ffn_norm", "gemma") => "post_attention_layernorm",
        _ => uniform,
    };
    Some(format!("model.layers.{layer}.{uniform}.weight"))
}

/// The GGUF name of a uniform tensor name without `.weight`: `blk.0.attn_q` for
/// `model.layers.0.self_attn.q_proj`. Only for the seven matrices that LoRA adapts.
pub fn matrix_to_gguf(name: &str) -> Option<String> {
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let (gguf, _) =
        BLOCK.iter().find(|(_, uniform)| *uniform == part && uniform.ends_with("_proj"))?;
    Some(format!("blk.{layer}.{gguf}"))
}

/// The GGUF name of any uniform tensor name of a Gemma, the inverse of [`from_gguf`]; `None` for other tensors.
pub fn to_gguf(name: &str, architecture: &str) -> Option<String> {
    match name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".to_owned()),
        "model.norm.weight" => return Some("output_norm.weight".to_owned()),
        "lm_head.weight" => return Some("output.weight".to_owned()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (layer, part) = (layer.parse::<u32>().ok()?, part.strip_suffix(".weight")?);
    let (gguf, _) = match (part, architecture) {
        ("post_attention_layernorm", "gemma") => ("ffn_norm", ""),
        _ => *BLOCK.iter().find(|(_, uniform)| *uniform == part)?,
    };
    Some(format!("blk.{layer}.{gguf}.weight"))
}

/// Prefixes that programs put before the text model's own names: `module` (data-parallel training), `base_model`
/// (PEFT), `language_model` and `text_model` (models with vision).
const WRAPPINGS: [&str; 8] = [
    "module",
    "base_model",
    "model",
    "language_model",
    "text_model",
    "transformer",
    "llm",
    "backbone",
];
/// Parts that programs insert anywhere in a name: torch.compile, FSDP, PEFT.
const INNER_WRAPPINGS: [&str; 4] =
    ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer"];

/// The uniform name of a safetensors tensor: `model.layers.…`, `model.embed_tokens.…`, `model.norm.…` or
/// `lm_head.…`, whatever it is wrapped in; names of other tensors are unchanged.
pub fn from_safetensors(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').filter(|part| !INNER_WRAPPINGS.contains(part)).collect();
    let mut rest = &parts[..];
    while let [first, behind @ ..] = rest
        && WRAPPINGS.contains(first)
    {
        rest = behind;
    }
    match rest {
        ["layers", number, ..] if number.parse::<u32>().is_ok() => {}
        ["embed_tokens" | "norm", _, ..] => {}
        ["lm_head", _, ..] => return rest.join("."),
        _ => return name.to_owned(),
    }
    format!("model.{}", rest.join("."))
}

/// Whether a tensor belongs to an adapter: PEFT's `lora_A`, MLX's `lora_a`, and what goes with them.
pub fn is_adapter_tensor(name: &str) -> bool {
    let starts = ["lora_A", "lora_B", "lora_a", "lora_b", "lora_embedding", "lora_magnitude"];
    name.split('.').any(|part| starts.iter().any(|start| part.starts_with(start)))
}

/// Whether a tensor belongs to a model's part for vision or audio, which Hearth skips.
pub fn is_not_text(name: &str) -> bool {
    let starts = [
        "vision",
        "audio",
        "multi_modal_projector.",
        "embed_vision.",
        "embed_audio.",
        "v.",
        "mm.",
        "a.",
    ];
    let name = name.strip_prefix("model.").unwrap_or(name);
    starts.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_gets_the_same_name() {
        for (gguf, uniform) in [
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("blk.17.attn_q.weight", "model.layers.17.self_attn.q_proj.weight"),
            ("blk.0.attn_output.weight", "model.layers.0.self_attn.o_proj.weight"),
            ("blk.0.attn_k_norm.weight", "model.layers.0.self_attn.k_norm.weight"),
            ("blk.0.ffn_norm.weight", "model.layers.0.pre_feedforward_layernorm.weight"),
            ("blk.0.post_ffw_norm.weight", "model.layers.0.post_feedforward_layernorm.weight"),
            ("output_norm.weight", "model.norm.weight"),
            ("rope_freqs.weight", "rope_freqs.weight"),
            ("blk.x.attn_q.weight", "blk.x.attn_q.weight"),
        ] {
            assert_eq!(from_gguf(gguf, "gemma3"), uniform);
            if gguf != uniform {
                assert_eq!(to_gguf(uniform, "gemma3").as_deref(), Some(gguf));
            }
        }
        assert_eq!(
            from_gguf("blk.3.ffn_norm.weight", "gemma"),
            "model.layers.3.post_attention_layernorm.weight"
        );
        let norm = to_gguf("model.layers.3.post_attention_layernorm.weight", "gemma");
        assert_eq!(norm.as_deref(), Some("blk.3.ffn_norm.weight"));
        assert_eq!(to_gguf("rope_freqs.weight", "gemma3"), None);
        for name in [
            "layers.0.mlp.up_proj.weight",
            "_orig_mod.model.layers.0.mlp.up_proj.weight",
            "module.model.layers.0.mlp.up_proj.weight",
            "module._orig_mod.model.layers.0._orig_mod.mlp.up_proj.weight",
            "_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module.mlp.up_proj.weight",
            "base_model.model.model.layers.0.mlp.up_proj.base_layer.weight",
            "text_model.layers.0.mlp.up_proj.weight",
            "model.layers.0.mlp.up_proj.weight",
            "language_model.model.layers.0.mlp.up_proj.weight",
            "model.language_model.layers.0.mlp.up_proj.weight",
        ] {
            assert_eq!(from_safetensors(name), "model.layers.0.mlp.up_proj.weight");
        }
        assert_eq!(from_safetensors("language_model.lm_head.weight"), "lm_head.weight");
        assert_eq!(from_safetensors("norm.weight"), "model.norm.weight");
        assert_eq!(from_safetensors("_orig_mod.embed_tokens.weight"), "model.embed_tokens.weight");
        for other in [
            "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight",
            "model.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight",
            "model.encoder.layers.0.mlp.up_proj.weight",
            "model.layers.x.mlp.up_proj.weight",
            "model.embed_tokens",
        ] {
            assert_eq!(from_safetensors(other), other);
        }
        assert!(is_not_text("model.vision_tower.x") && is_not_text("mm.0.weight"));
        assert!(!is_not_text("model.layers.0.mlp.up_proj.weight"));
        assert_eq!(
            matrix_to_gguf("model.layers.4.self_attn.o_proj").as_deref(),
            Some("blk.4.attn_output")
        );
        assert_eq!(matrix_to_gguf("model.layers.4.input_layernorm"), None);
    }
}
