//! GGUF metadata.

use hearth_formats::gguf::header::{FromValue, Header, Strings, Value};

use super::{
    Config, ConfigError, DEFAULT_WINDOW, Family, GLOBAL_THETA, Keys, LOCAL_THETA, LayerAttention,
    MOST_LAYERS, Rope, has_window,
};

/// Keys after the architecture's name, as in the `gguf` package's `constants.py`.
const KEYS: Keys = Keys {
    vocab: "vocab_size",
    hidden: "embedding_length",
    heads: "attention.head_count",
    kv_heads: "attention.head_count_kv",
    head_dim: "attention.key_length",
    intermediate: "feed_forward_length",
    max_positions: "context_length",
    norm_eps: "attention.layer_norm_rms_epsilon",
    layers: "block_count",
    window: "attention.sliding_window",
    rope: "rope.freq_base",
    attention_scale: "attention.key_length",
    attention_softcap: "attn_logit_softcapping",
    final_softcap: "final_logit_softcapping",
    bos: "tokenizer.ggml.bos_token_id",
    eos: "tokenizer.ggml.eos_token_id",
};

const WINDOW_PATTERN: &str = "attention.sliding_window_pattern";
const SCALING: &str = "rope.scaling.type";

pub(super) fn read(header: &Header) -> Result<Config, ConfigError> {
    let name: &str = header.require("general.architecture")?;
    let family = match name {
        "gemma" => Family::Gemma1,
        "gemma2" => Family::Gemma2,
        "gemma3" => Family::Gemma3,
        found => {
            return Err(ConfigError::Value {
                file: header.file().to_owned(),
                key: "general.architecture".to_owned(),
                expected: "'gemma', 'gemma2' or 'gemma3'".to_owned(),
                found: format!("'{found}'"),
            });
        }
    };
    let file = Architecture { header, prefix: format!("{name}.") };
    file.config(family)
}

struct Architecture<'a> {
    header: &'a Header,
    prefix: String,
}

impl<'a> Architecture<'a> {
    fn config(&self, family: Family) -> Result<Config, ConfigError> {
        let hidden = self.size(KEYS.hidden)?;
        let heads = self.size(KEYS.heads)?;
        let head_dim = match self.find::<u32>(KEYS.head_dim)? {
            Some(head_dim) => head_dim as usize,
            // llama.cpp's default.
            None => hidden / heads.max(1),
        };
        if let Some(width) = self.find::<u32>("attention.value_length")?
            && width as usize != head_dim
        {
            return Err(self.bad("attention.value_length", head_dim, width));
        }
        let layers = self.layers(family)?;
        let scalar = match (family, layers.len()) {
            (Family::Gemma2, 46) | (Family::Gemma3, 62) => hidden / heads.max(1),
            _ => head_dim,
        };
        let softcap = |key, default| match family {
            Family::Gemma1 => Ok(None),
            // 0 means none.
            _ => self.find::<f32>(key).map(|c| c.or(default).filter(|c| *c != 0.0)),
        };
        let [attention_softcap, final_softcap] = match family {
            Family::Gemma2 => [Some(50.0), Some(30.0)],
            _ => [None, None],
        };
        let mut eos = vec![self.header.get::<u32>(KEYS.eos)?.unwrap_or(1)];
        if let Some(end_of_turn) = self.header.get("tokenizer.ggml.eot_token_id")?
            && !eos.contains(&end_of_turn)
        {
            eos.push(end_of_turn);
        }
        let config = Config {
            family,
            vocab: self.vocab()?,
            hidden,
            heads,
            kv_heads: match self.find::<u32>(KEYS.kv_heads)? {
                Some(kv_heads) => kv_heads as usize,
                None => heads,
            },
            head_dim,
            intermediate: self.size(KEYS.intermediate)?,
            max_positions: self.size(KEYS.max_positions)?,
            norm_eps: self.require(KEYS.norm_eps)?,
            layers,
            attention_scale: (scalar as f64).powf(-0.5) as f32,
            attention_softcap: softcap(KEYS.attention_softcap, attention_softcap)?,
            final_softcap: softcap(KEYS.final_softcap, final_softcap)?,
            bos: self.header.get(KEYS.bos)?.unwrap_or(2),
            eos,
            tied_head: self.header.tensor("output.weight").is_err(),
        };
        config.check(self.header.file(), &self.prefix, &KEYS)
    }

    /// V: the embedding's rows; in a file without tensors the vocabulary's length.
    fn vocab(&self) -> Result<usize, ConfigError> {
        if let Ok(embedding) = self.header.tensor("token_embd.weight") {
            return Ok(usize::try_from(embedding.shape[0]).unwrap_or(usize::MAX));
        }
        match self.header.get::<&Strings>("tokenizer.ggml.tokens")? {
            Some(tokens) => Ok(tokens.len()),
            None => self.size(KEYS.vocab),
        }
    }

    fn layers(&self, family: Family) -> Result<Vec<LayerAttention>, ConfigError> {
        let count = self.size(KEYS.layers)?;
        if count > MOST_LAYERS {
            return Err(self.bad(KEYS.layers, format!("1 to {MOST_LAYERS}"), count));
        }
        let window = self.find(KEYS.window)?.unwrap_or(DEFAULT_WINDOW);
        let (global, local) = self.ropes(family)?;
        // Newer files may hold the pattern: a period, or a bool for each layer.
        let pattern = format!("{}{WINDOW_PATTERN}", self.prefix);
        let windowed: Vec<bool> = match self.header.metadata().get(&pattern) {
            Some(Value::U32s(windowed)) if windowed.len() == count => {
                windowed.iter().map(|windowed| *windowed != 0).collect()
            }
            Some(Value::U32s(windowed)) => {
                let expected = format!("{count} layers, as {} says", KEYS.layers);
                return Err(self.bad(WINDOW_PATTERN, expected, windowed.len()));
            }
            _ => {
                let period = self.find(WINDOW_PATTERN)?;
                let layer = |index| has_window(family, period, index);
                (0..count).map(layer).collect()
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

    /// RoPE of the global layers and of those with a window.
    fn ropes(&self, family: Family) -> Result<(Rope, Rope), ConfigError> {
        let default = match family {
            Family::Gemma3 => GLOBAL_THETA,
            _ => LOCAL_THETA,
        };
        let theta = self.find::<f32>(KEYS.rope)?.map_or(default, f64::from);
        let factor = match self.find::<&str>(SCALING)? {
            None | Some("none") => 1.0,
            Some("linear") => self.require::<f32>("rope.scaling.factor")?.into(),
            Some(found) => return Err(self.bad(SCALING, "'none' or 'linear'", found)),
        };
        let global = Rope { theta, factor };
        let local = match family {
            Family::Gemma3 => Rope {
                theta: self.find::<f32>("rope.freq_base_swa")?.map_or(LOCAL_THETA, f64::from),
                factor: 1.0,
            },
            _ => global,
        };
        Ok((global, local))
    }

    fn find<T: FromValue<'a>>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        Ok(self.header.get(&format!("{}{key}", self.prefix))?)
    }

    fn require<T: FromValue<'a>>(&self, key: &str) -> Result<T, ConfigError> {
        Ok(self.header.require(&format!("{}{key}", self.prefix))?)
    }

    fn size(&self, key: &str) -> Result<usize, ConfigError> {
        Ok(self.require::<u32>(key)? as usize)
    }

    fn bad(&self, key: &str, expected: impl ToString, found: impl ToString) -> ConfigError {
        ConfigError::Value {
            file: self.header.file().to_owned(),
            key: format!("{}{key}", self.prefix),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}
