//! Writes a `config.json` for models that have none: a GGUF file has the same values in its
//! metadata.

use hearth_formats::checkpoint::Checkpoint;
use serde_json::{Value, json};

use super::{Config, Family, LayerAttention, Rope, check_complete};
use crate::{ModelError, config_of};

/// A model's `config.json`: its own, or one that is read as the same configuration. A quantized
/// copy of a model keeps it.
///
/// # Errors
/// A model without a configuration, or with one that `config.json` cannot express; a model that
/// lacks weights, or has some that a copy would lose.
pub fn config_json(checkpoint: &Checkpoint) -> Result<String, ModelError> {
    let config = config_of(checkpoint)?;
    check_complete(checkpoint, &config)?;
    match checkpoint.config_json() {
        Some(json) => Ok(json.to_owned()),
        None => write(&config),
    }
}

pub(super) fn write(config: &Config) -> Result<String, ModelError> {
    let windowed = |layer: &&LayerAttention| layer.window.is_some();
    let local = config.layers.iter().find(windowed);
    let global = config.layers.iter().find(|layer| layer.window.is_none()).or(local);
    let rope = |rope: Rope| match rope.factor {
        1.0 => json!({ "rope_type": "default", "rope_theta": rope.theta }),
        factor => json!({ "rope_type": "linear", "rope_theta": rope.theta, "factor": factor }),
    };
    let ropes = match (config.family, local, global) {
        (Family::Gemma3, Some(local), Some(global)) => {
            json!({ "full_attention": rope(global.rope), "sliding_attention": rope(local.rope) })
        }
        (.., global) => global.map_or(Value::Null, |layer| rope(layer.rope)),
    };
    let kind = |layer| if windowed(&layer) { "sliding_attention" } else { "full_attention" };
    let kinds: Vec<&str> = config.layers.iter().map(kind).collect();
    let scalar = f64::from(config.attention_scale).powi(-2);
    // The f32 value holds the inverse root: 24 is recovered as 23.9999995.
    let scalar = if (scalar - scalar.round()).abs() < 1e-4 { scalar.round() } else { scalar };
    let text = json!({
        "model_type": match config.family {
            Family::Gemma1 => "gemma",
            Family::Gemma2 => "gemma2",
            Family::Gemma3 => "gemma3_text",
        },
        "vocab_size": config.vocab,
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers.len(),
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "query_pre_attn_scalar": scalar,
        "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.final_softcap,
        "sliding_window": local.and_then(|layer| layer.window),
        "layer_types": kinds,
        "rope_parameters": ropes,
        "bos_token_id": config.bos,
        "eos_token_id": config.eos,
        "tie_word_embeddings": config.tied_head,
    })
    .to_string();
    if Config::from_json(&text)? != *config {
        return Err(ModelError::Options(
            "this model's configuration cannot be written as config.json: its layers differ among \
             themselves"
                .to_owned(),
        ));
    }
    Ok(text)
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    #[test]
    fn every_family_comes_back_as_it_was() {
        let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        let configs = std::path::Path::new(&here).join("tests/fixtures/configs");
        let mut count = 0;
        for entry in std::fs::read_dir(configs).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "json") {
                let config = Config::from_json(&std::fs::read_to_string(&path).unwrap()).unwrap();
                assert_eq!(
                    Config::from_json(&write(&config).unwrap()).unwrap(),
                    config,
                    "{}",
                    path.display()
                );
                count += 1;
            }
        }
        assert!(count >= 8, "{count}");
    }
}
