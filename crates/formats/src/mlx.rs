//! MLX's affine quantization: `weight` u32, `scales` and `biases` in a tensor each.
//!
//! `value = scale · q + bias` with unsigned q of 4 or 8 bits, packed low bits first along a row
//! (`mlx.core.quantize`). Sizes are in `config.json`:
//!
//! ```json
//! "quantization": {"group_size": 64, "bits": 4, "model.embed_tokens": {"group_size": 64, "bits": 8}, "lm_head": false}
//! ```

use std::collections::BTreeMap;

use half::f16;
use serde_json::Value;
use thiserror::Error;

use crate::layout::{PackedRows, ScaleForm, WeightLayout, push_bytes};
use crate::names::from_safetensors;
use crate::row::{FloatType, RowFault};

/// Bits and group size of one matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affine {
    /// 4 or 8.
    pub bits: u8,
    /// 32, 64 or 128.
    pub group: u32,
}

/// What `config.json` says about a model's quantization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantization {
    default: Affine,
    /// By uniform name of the module, without `.weight`.
    overrides: BTreeMap<String, Affine>,
}

/// A `quantization` that Hearth does not read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "quantization of {module}: {found}; Hearth reads MLX's affine mode with 4 or 8 bits in groups of 32, 64 or 128: \
     take such a model, one that is not quantized, or a GGUF in Q4_K_M or Q8_0"
)]
pub struct MlxError {
    /// "the model", or a module's name.
    pub module: String,
    /// What was found there.
    pub found: String,
}

impl Quantization {
    /// Reads a model's `config.json`; `None` if it is not quantized by MLX.
    ///
    /// # Errors
    /// [`MlxError`] for another mode, other bits or groups.
    pub fn from_config(config: &Value) -> Result<Option<Self>, MlxError> {
        // Models with vision may store it with the text model's settings.
        let nested = || config.get("text_config").and_then(|text| text.get("quantization"));
        let Some(quantization) = config.get("quantization").or_else(nested) else {
            return Ok(None);
        };
        let default = affine("the model", quantization)?;
        let mut overrides = BTreeMap::new();
        for (module, value) in quantization.as_object().into_iter().flatten() {
            if value.is_object() {
                // The names may be nested differently from the file's.
                let weight = from_safetensors(&format!("{module}.weight"));
                let uniform = weight.strip_suffix(".weight").unwrap_or(module);
                overrides.insert(uniform.to_owned(), affine(module, value)?);
            }
        }
        Ok(Some(Self { default, overrides }))
    }

    /// Sizes of the matrix `module` (its uniform name, without `.weight`).
    pub fn of(&self, module: &str) -> Affine {
        *self.overrides.get(module).unwrap_or(&self.default)
    }
}

fn affine(module: &str, value: &Value) -> Result<Affine, MlxError> {
    let number = |key| value.get(key).and_then(Value::as_u64);
    let mode = value.get("mode").map_or(Some("affine"), Value::as_str);
    match (mode, number("bits"), number("group_size")) {
        (Some("affine"), Some(bits @ (4 | 8)), Some(group @ (32 | 64 | 128))) => {
            Ok(Affine { bits: bits as u8, group: group as u32 })
        }
        (mode, bits, group) => Err(MlxError {
            module: module.to_owned(),
            found: format!(
                "mode {}, bits {}, group_size {}",
                mode.unwrap_or("?"),
                bits.map_or("?".to_owned(), |bits| bits.to_string()),
                group.map_or("?".to_owned(), |group| group.to_string()),
            ),
        }),
    }
}

impl Affine {
    /// The layout that holds the values. q4 with f16 scales keeps them as they are. Otherwise the
    /// scales become f32: exact for 4 bits; with 8 bits, whose codes are shifted by −128 to be signed,
    /// bias + 128·scale is rounded once to f32.
    pub fn layout(self, scales: FloatType) -> WeightLayout {
        let scale = match (self.bits, scales) {
            (4, FloatType::F16) => ScaleForm::F16,
            _ => ScaleForm::F32,
        };
        WeightLayout::Quant { bits: self.bits, group: self.group, scale, minimum: true }
    }

    /// Appends one row to `packed`, which has [`layout`](Self::layout). `weight` holds its u32
    /// words, `scales` and `biases` one float of `kind` per group, all little-endian.
    ///
    /// # Errors
    /// [`RowFault`] for wrong lengths and for scales or biases that are not finite.
    pub fn pack_row(
        self,
        kind: FloatType,
        weight: &[u8],
        scales: &[u8],
        biases: &[u8],
        packed: &mut PackedRows,
    ) -> Result<(), RowFault> {
        let group = self.group as usize;
        let groups = packed.columns / group;
        let expected = packed.columns * usize::from(self.bits) / 8 + 2 * groups * kind.bytes();
        let found = weight.len() + scales.len() + biases.len();
        if found != expected || scales.len() != biases.len() || packed.layout != self.layout(kind) {
            return Err(RowFault::Length { expected, found });
        }
        let mut numbers = vec![0.0; 2 * groups];
        let (scale, bias) = numbers.split_at_mut(groups);
        kind.widen(scales, scale);
        kind.widen(biases, bias);
        if let Some(g) = (0..groups).find(|&g| !scale[g].is_finite() || !bias[g].is_finite()) {
            let value = if scale[g].is_finite() { bias[g] } else { scale[g] };
            return Err(RowFault::Scale { column: g * group, value });
        }
        let start = packed.quants.len();
        push_bytes(weight, &mut packed.quants);
        if self.bits == 8 {
            for word in &mut packed.quants[start..] {
                // 0..=255 to −128..=127: the top bit of every byte flips.
                *word ^= 0x8080_8080;
            }
        }
        for (&scale, &bias) in scale.iter().zip(bias.iter()) {
            match (self.bits, kind) {
                (4, FloatType::F16) => {
                    // Both came from f16.
                    let half = |value| u32::from(f16::from_f32(value).to_bits());
                    packed.scales.push(half(scale) | half(bias) << 16);
                }
                (4, _) => packed.scales.extend([scale.to_bits(), bias.to_bits()]),
                _ => {
                    let minimum = f64::from(bias) + 128.0 * f64::from(scale);
                    packed.scales.extend([scale.to_bits(), (minimum as f32).to_bits()]);
                }
            }
        }
        packed.rows += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_come_from_the_config_and_its_overrides() {
        let config = json!({"quantization": {"group_size": 64, "bits": 4,
            "lm_head": {"group_size": 32, "bits": 8}, "other": false,
            "language_model.model.layers.1.mlp.up_proj": {"group_size": 32, "bits": 4}}});
        let sizes = Quantization::from_config(&config).unwrap().unwrap();
        assert_eq!(sizes.of("model.layers.0.mlp.up_proj"), Affine { bits: 4, group: 64 });
        assert_eq!(sizes.of("lm_head"), Affine { bits: 8, group: 32 });
        assert_eq!(sizes.of("model.layers.1.mlp.up_proj"), Affine { bits: 4, group: 32 });
        let nested = json!({"text_config": config});
        assert_eq!(Quantization::from_config(&nested), Ok(Some(sizes)));
        assert_eq!(Quantization::from_config(&json!({})), Ok(None));
        for bad in [
            json!({"group_size": 64, "bits": 3}),
            json!({"group_size": 64, "bits": 4, "mode": "mxfp4"}),
            json!({"bits": 4}),
            json!([]),
            json!({"group_size": 64, "bits": 4, "x": {"bits": 2, "group_size": 64}}),
        ] {
            let config = json!({ "quantization": bad });
            assert!(Quantization::from_config(&config).is_err(), "{config}");
        }
    }
}
