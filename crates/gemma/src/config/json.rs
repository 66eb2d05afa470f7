//! Reads the configuration from `config.json`.

use hearth_formats::gguf::architecture_in_words;
use hearth_formats::recognize::check_json;
use serde_json::{Map, Value};

use super::{
    Config, ConfigError, DEFAULT_WINDOW, Family, GLOBAL_THETA, Keys, LOCAL_THETA, LayerAttention,
    Rope, has_window,
};

const FILE: &str = "config.json";

const KEYS: Keys = Keys {
    vocab: "vocab_size",
    hidden: "hidden_size",
    heads: "num_attention_heads",
    kv_heads: "num_key_value_heads",
    head_dim: "head_dim",
    intermediate: "intermediate_size",
    max_positions: "max_position_embeddings",
    norm_eps: "rms_norm_eps",
    layers: "num_hidden_layers",
    window: "sliding_window",
    rope: "rope_parameters",
    attention_scale: "query_pre_attn_scalar",
    attention_softcap: "attn_logit_softcapping",
    final_softcap: "final_logit_softcapping",
    bos: "bos_token_id",
    eos: "eos_token_id",
};

/// The reference's defaults, for keys that files omit.
struct Defaults {
    vocab: usize,
    heads: usize,
    kv_heads: usize,
    max_positions: usize,
    softcaps: [Option<f32>; 2],
}

impl Defaults {
    fn of(family: Family) -> Self {
        match family {
            // GemmaConfig
            Family::Gemma1 => Self {
                vocab: 256_000,
                heads: 16,
                kv_heads: 16,
                max_positions: 8192,
                softcaps: [None, None],
            },
            // Gemma2Config
            Family::Gemma2 => Self {
                vocab: 256_000,
                heads: 8,
                kv_heads: 4,
                max_positions: 8192,
                softcaps: [Some(50.0), Some(30.0)],
            },
            // Gemma3TextConfig
            Family::Gemma3 => Self {
                vocab: 262_208,
                heads: 8,
                kv_heads: 4,
                max_positions: 131_072,
                softcaps: [None, None],
            },
        }
    }
}

pub(super) fn read(text: &str) -> Result<Config, ConfigError> {
    check_json(FILE, text.as_bytes())?;
    let not_an_object = |found: String| ConfigError::Json { file: FILE.to_owned(), found };
    let root: Value =
        serde_json::from_str(text).map_err(|error| not_an_object(error.to_string()))?;
    let Value::Object(root) = &root else {
        return Err(not_an_object(shown(&root)));
    };
    let outer = Fields { map: root };
    let kind = outer.text("model_type")?;
    let (family, fields) = match kind {
        Some("gemma") => (Family::Gemma1, outer),
        Some("gemma2") => (Family::Gemma2, outer),
        Some("gemma3_text") => (Family::Gemma3, outer),
        Some("gemma3") => match outer.object("text_config")? {
            Some(map) => (Family::Gemma3, Fields { map }),
            None => return Err(missing("text_config", "the text model's configuration")),
        },
        None => {
            let expected = "'gemma', 'gemma2', 'gemma3_text' or 'gemma3'";
            return Err(bad("model_type", expected, "no such key"));
        }
        Some(found) => {
            return Err(ConfigError::OtherModel {
                file: FILE.to_owned(),
                what: architecture_in_words(found),
                key: "model_type",
                found: found.chars().take(60).collect(),
            });
        }
    };
    refuse_other_models(family, &fields)?;

    let defaults = Defaults::of(family);
    let size = |key, default| fields.size(key).map(|size| size.unwrap_or(default));
    let head_dim = size(KEYS.head_dim, 256)?;
    // Gemma 1 has no such key: its scale is given by the head width.
    let scalar = match family {
        Family::Gemma1 => head_dim as f64,
        _ => fields.number(KEYS.attention_scale)?.unwrap_or(256.0),
    };
    let softcap = |key, default| match (family, fields.is_null(key)) {
        (Family::Gemma1, _) => Ok(None),
        (_, true) => Ok(None),
        _ => fields.number(key).map(|c| c.map(|c| c as f32).or(default)),
    };
    // The ids of a multimodal file are outside its text_config.
    let ids = |key, default| -> Result<Vec<u32>, ConfigError> {
        match fields.ids(key)? {
            Some(ids) => Ok(ids),
            None => Ok(outer.ids(key)?.unwrap_or(vec![default])),
        }
    };
    let eos = ids(KEYS.eos, 1)?;
    let bos = ids(KEYS.bos, 2)?;
    let config = Config {
        family,
        vocab: size(KEYS.vocab, defaults.vocab)?,
        hidden: fields.required_size(KEYS.hidden)?,
        heads: size(KEYS.heads, defaults.heads)?,
        kv_heads: size(KEYS.kv_heads, defaults.kv_heads)?,
        head_dim,
        intermediate: fields.required_size(KEYS.intermediate)?,
        max_positions: size(KEYS.max_positions, defaults.max_positions)?,
        norm_eps: fields.number(KEYS.norm_eps)?.unwrap_or(1e-6) as f32,
        layers: layers(family, &fields)?,
        attention_scale: scalar.powf(-0.5) as f32,
        attention_softcap: softcap(KEYS.attention_softcap, defaults.softcaps[0])?,
        final_softcap: softcap(KEYS.final_softcap, defaults.softcaps[1])?,
        bos: *bos.first().ok_or_else(|| bad(KEYS.bos, "a token id", "[]"))?,
        eos,
        tied_head: match fields.boolean("tie_word_embeddings")? {
            Some(tied) => tied,
            None => outer.boolean("tie_word_embeddings")?.unwrap_or(true),
        },
    };
    config.check(FILE, "", &KEYS)
}

/// Whether a `config.json` is that of a vision model that contains the text model.
pub fn is_multimodal(text: &str) -> bool {
    let root: Result<Value, _> = serde_json::from_str(text);
    root.is_ok_and(|root| root.get("model_type").and_then(Value::as_str) == Some("gemma3"))
}

/// Rejects variants of the architecture that would compute something else.
fn refuse_other_models(family: Family, fields: &Fields) -> Result<(), ConfigError> {
    let activation = match fields.text("hidden_activation")? {
        Some(activation) => Some(("hidden_activation", activation)),
        None => fields.text("hidden_act")?.map(|act| ("hidden_act", act)),
    };
    match activation {
        None | Some((_, "gelu_pytorch_tanh")) => {}
        // The first files of Gemma 1 say 'gelu' and mean tanh (reference 4.38 to 4.57,
        // `GemmaMLP`: "`hidden_activation` ... will be set to `gelu_pytorch_tanh`").
        Some((_, "gelu")) if family == Family::Gemma1 => {}
        Some((key, found)) => return Err(bad(key, "'gelu_pytorch_tanh'", found)),
    }
    let set = |key: &str| {
        let found = fields.map.get(key);
        found.filter(|found| !matches!(found, Value::Null | Value::Bool(false)))
    };
    if let Some(found) = set("attention_bias") {
        let words = "false (Gemma's projections have no bias)";
        return Err(bad("attention_bias", words, &shown(found)));
    }
    // Newer files may contain "all" or "vision".
    let bidirectional = "use_bidirectional_attention";
    match set(bidirectional) {
        None => Ok(()),
        Some(Value::Bool(true)) => Err(ConfigError::Embedding {
            file: "config.json".to_owned(),
            what: "an embedding model",
            reason: format!("'{bidirectional}' is true"),
        }),
        Some(found) if *found == "all" => Err(ConfigError::Embedding {
            file: "config.json".to_owned(),
            what: "an embedding model",
            reason: format!("'{bidirectional}' is 'all'"),
        }),
        Some(found) => Err(bad(bidirectional, "false", &shown(found))),
    }
}

/// The attention of each layer, from either form.
fn layers(family: Family, fields: &Fields) -> Result<Vec<LayerAttention>, ConfigError> {
    let count = fields.required_size(KEYS.layers)?;
    if !(1..=super::MOST_LAYERS).contains(&count) {
        let expected = format!("1 to {}", super::MOST_LAYERS);
        return Err(bad(KEYS.layers, &expected, &count.to_string()));
    }
    let window = fields.size(KEYS.window)?.unwrap_or(DEFAULT_WINDOW as usize);
    let Ok(window) = u32::try_from(window) else {
        return Err(bad(KEYS.window, "1 to 2^32 - 1", &window.to_string()));
    };
    let (global, local) = ropes(family, fields)?;
    let windowed = match fields.map.get("layer_types") {
        Some(Value::Array(types)) if family != Family::Gemma1 => {
            if types.len() != count {
                let expected = format!("{count} layers, as {} says", KEYS.layers);
                return Err(bad("layer_types", &expected, &types.len().to_string()));
            }
            types.iter().map(is_windowed).collect::<Result<_, _>>()?
        }
        _ => {
            let period = match fields.size("sliding_window_pattern")? {
                Some(period) => Some(period),
                None => fields.size("_sliding_window_pattern")?,
            };
            let period = period.map(|period| u32::try_from(period).unwrap_or(u32::MAX));
            let layer = |index| has_window(family, period, index);
            (0..count).map(layer).collect::<Vec<bool>>()
        }
    };
    Ok(windowed
        .into_iter()
        .map(|windowed| LayerAttention {
            window: windowed.then_some(window),
            rope: if windowed { local } else { global },
        })
        .collect())
}

fn is_windowed(kind: &Value) -> Result<bool, ConfigError> {
    match kind.as_str() {
        Some("sliding_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => {
            let expected = "'sliding_attention' or 'full_attention'";
            Err(bad("layer_types", expected, &shown(kind)))
        }
    }
}

/// RoPE of the global layers and of those with a window. They differ in Gemma 3 only.
fn ropes(family: Family, fields: &Fields) -> Result<(Rope, Rope), ConfigError> {
    let global_theta = match family {
        Family::Gemma3 => GLOBAL_THETA,
        _ => LOCAL_THETA,
    };
    // Older form; in Gemma 3, rope_scaling applies to the global layers (reference 4.57,
    // `Gemma3TextModel.__init__`: the local embedding is built with "default").
    let mut global = Rope {
        theta: fields.number("rope_theta")?.unwrap_or(global_theta),
        factor: match fields.object("rope_scaling")? {
            Some(map) => factor(&Fields { map })?,
            None => 1.0,
        },
    };
    let mut local =
        Rope { theta: fields.number("rope_local_base_freq")?.unwrap_or(LOCAL_THETA), factor: 1.0 };
    // Newer form: one object, or in Gemma 3, one for each kind of layer.
    if let Some(map) = fields.object("rope_parameters")? {
        let parameters = Fields { map };
        let full = parameters.object("full_attention")?;
        let update = |rope: &mut Rope, map| -> Result<(), ConfigError> {
            let fields = Fields { map };
            rope.theta = fields.number("rope_theta")?.unwrap_or(rope.theta);
            rope.factor = factor(&fields)?;
            Ok(())
        };
        let older = global.factor;
        update(&mut global, full.unwrap_or(map))?;
        if fields.object("rope_scaling")?.is_some() && older != global.factor {
            return Err(bad(
                "rope_scaling",
                &format!("the factor {} of 'rope_parameters', or no such key", global.factor),
                &older.to_string(),
            ));
        }
        if let Some(sliding) = parameters.object("sliding_attention")? {
            update(&mut local, sliding)?;
        }
    }
    match family {
        Family::Gemma3 => Ok((global, local)),
        _ => Ok((global, global)),
    }
}

/// The linear factor of a `rope_scaling` or of `rope_parameters`.
fn factor(fields: &Fields) -> Result<f64, ConfigError> {
    let kind = match fields.text("rope_type")? {
        Some(kind) => Some(kind),
        None => fields.text("type")?,
    };
    let factor = fields.number("factor")?.filter(|factor| *factor != 1.0);
    match kind {
        None if factor.is_some() => {
            Err(missing("rope_type", "'linear', as there is a factor, or 'default' and no factor"))
        }
        Some("default") if factor.is_some() => {
            Err(bad("rope_type", "'linear', as there is a factor, or no factor", "default"))
        }
        None | Some("default") => Ok(1.0),
        Some("linear") => fields
            .number("factor")?
            .ok_or_else(|| missing("factor", "a number, for rope_type 'linear'")),
        Some(found) => Err(bad("rope_type", "'default' or 'linear'", found)),
    }
}

/// Typed access to a JSON object; null counts as missing.
#[derive(Clone, Copy)]
struct Fields<'a> {
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn get<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(bad(key, expected, &shown(value))),
            },
        }
    }

    fn is_null(&self, key: &str) -> bool {
        matches!(self.map.get(key), Some(Value::Null))
    }

    fn size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        self.get(key, "a whole number", |value| usize::try_from(value.as_u64()?).ok())
    }

    fn required_size(&self, key: &str) -> Result<usize, ConfigError> {
        self.size(key)?.ok_or_else(|| missing(key, "a whole number"))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        self.get(key, "a number", Value::as_f64)
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.get(key, "true or false", Value::as_bool)
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        self.get(key, "a string", Value::as_str)
    }

    fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, ConfigError> {
        self.get(key, "an object", Value::as_object)
    }

    /// A token id, or a list of them.
    fn ids(&self, key: &str) -> Result<Option<Vec<u32>>, ConfigError> {
        let id = |value: &Value| u32::try_from(value.as_u64()?).ok();
        self.get(key, "a token id or a list of them", |value| match value {
            Value::Array(values) => values.iter().map(id).collect(),
            value => Some(vec![id(value)?]),
        })
    }
}

/// A value as shown in an error: short, whatever the file contains.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn missing(key: &str, expected: &str) -> ConfigError {
    ConfigError::Missing {
        file: FILE.to_owned(),
        key: key.to_owned(),
        expected: expected.to_owned(),
    }
}

fn bad(key: &str, expected: &str, found: &str) -> ConfigError {
    ConfigError::Value {
        file: FILE.to_owned(),
        key: key.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}
