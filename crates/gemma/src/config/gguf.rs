//! Reads the configuration from GGUF metadata.

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests;

use hearth_formats::gguf::architecture_in_words;
use hearth_formats::gguf::header::{FromValue, Header, Strings};

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
const FACTOR: &str = "rope.scaling.factor";
const OLD_FACTOR: &str = "rope.scale_linear";

/// Keys of Ollama's converter that have other names in llama.cpp.
const OLLAMA_GLOBAL: &str = "rope.global.freq_base";
const OLLAMA_LOCAL: &str = "rope.local.freq_base";
/// The value of every Gemma; Ollama's files omit it.
const NORM_EPS: f32 = 1e-6;

/// The configuration, and what the user should know about how it was read.
pub(super) fn read(header: &Header) -> Result<(Config, Vec<String>), ConfigError> {
    let name: &str = header.require("general.architecture")?;
    let family = match name {
        "gemma" => Family::Gemma1,
        "gemma2" => Family::Gemma2,
        "gemma3" => Family::Gemma3,
        "gemma-embedding" => {
            return Err(ConfigError::Embedding {
                file: header.file().to_owned(),
                what: "EmbeddingGemma, an embedding model",
                reason: format!("general.architecture is '{name}'"),
            });
        }
        found => {
            return Err(ConfigError::OtherModel {
                file: header.file().to_owned(),
                what: architecture_in_words(found),
                key: "general.architecture",
                found: found.to_owned(),
            });
        }
    };
    let mut file = Architecture { header, prefix: format!("{name}."), notes: vec![] };
    file.refuse_other_models(family)?;
    let config = file.config(family)?;
    Ok((config, file.notes))
}

struct Architecture<'a> {
    header: &'a Header,
    prefix: String,
    notes: Vec<String>,
}

impl<'a> Architecture<'a> {
    /// Rejects variants of the architecture that would compute something else.
    fn refuse_other_models(&self, family: Family) -> Result<(), ConfigError> {
        // Ollama's EmbeddingGemma has the architecture 'gemma3'.
        let mut names = self.header.tensors().iter().map(|tensor| &tensor.name);
        let dense = names.find(|name| family == Family::Gemma3 && name.starts_with("dense"));
        let reason = if let Some(name) = dense {
            format!("it has a tensor '{name}'")
        } else if let Some(kind) = self.find::<u32>("pooling_type")?.filter(|kind| *kind != 0) {
            format!("'{}pooling_type' is {kind}", self.prefix)
        } else if self.find::<bool>("attention.causal")? == Some(false) {
            format!("'{}attention.causal' is false", self.prefix)
        } else {
            return Ok(());
        };
        let (file, what) = (self.header.file().to_owned(), "an embedding model");
        Err(ConfigError::Embedding { file, what, reason })
    }

    fn config(&mut self, family: Family) -> Result<Config, ConfigError> {
        let hidden = self.size(KEYS.hidden)?;
        let heads = self.size(KEYS.heads)?;
        let rows = |name: &str| {
            let tensor = self.header.tensor(name).ok()?;
            usize::try_from(tensor.shape[0]).ok()
        };
        let head_dim = match self.count(KEYS.head_dim)? {
            Some(head_dim) => head_dim,
            // llama.cpp divides C; the matrix is a better source.
            None => rows("blk.0.attn_q.weight").unwrap_or(hidden) / heads.max(1),
        };
        for key in ["attention.value_length", "rope.dimension_count"] {
            if let Some(width) = self.count(key)?
                && width != head_dim
            {
                return Err(self.bad(key, head_dim, width));
            }
        }
        let kv_heads = match self.count(KEYS.kv_heads)? {
            Some(kv_heads) => kv_heads,
            None => heads,
        };
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
        let (attention_softcap, final_softcap) = (
            softcap(KEYS.attention_softcap, attention_softcap)?,
            softcap(KEYS.final_softcap, final_softcap)?,
        );
        let norm_eps = match self.find(KEYS.norm_eps)? {
            Some(eps) => eps,
            None => {
                self.note(format!(
                    "'{}{}' is missing: 1e-6 is taken, as in every Gemma",
                    self.prefix, KEYS.norm_eps
                ));
                NORM_EPS
            }
        };
        let config = Config {
            family,
            vocab: self.vocab()?,
            hidden,
            heads,
            kv_heads,
            head_dim,
            intermediate: self.size(KEYS.intermediate)?,
            max_positions: self.size(KEYS.max_positions)?,
            norm_eps,
            layers,
            attention_scale: (scalar as f64).powf(-0.5) as f32,
            attention_softcap,
            final_softcap,
            bos: self.header.get(KEYS.bos)?.unwrap_or(2),
            eos: self.ends()?,
            tied_head: self.header.tensor("output.weight").is_err(),
        };
        config.check(self.header.file(), &self.prefix, &KEYS)
    }

    /// The tokens that end a text: `<eos>`, and `<end_of_turn>` if the file names it. Ollama's
    /// files have a list.
    fn ends(&self) -> Result<Vec<u32>, ConfigError> {
        let mut all = vec![self.header.get::<u32>(KEYS.eos)?.unwrap_or(1)];
        all.extend(self.header.get::<u32>("tokenizer.ggml.eot_token_id")?);
        let list = self.header.get::<Vec<i64>>("tokenizer.ggml.eos_token_ids")?.unwrap_or_default();
        all.extend(list.into_iter().filter_map(|id| u32::try_from(id).ok()));
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|id| seen.insert(*id));
        Ok(all)
    }

    /// V: the embedding's number of rows; in a file without tensors, the vocabulary's length.
    fn vocab(&self) -> Result<usize, ConfigError> {
        if let Ok(embedding) = self.header.tensor("token_embd.weight") {
            return Ok(usize::try_from(embedding.shape[0]).unwrap_or(usize::MAX));
        }
        match self.header.get::<&Strings>("tokenizer.ggml.tokens")? {
            Some(tokens) => Ok(tokens.len()),
            None => self.size(KEYS.vocab),
        }
    }

    fn layers(&mut self, family: Family) -> Result<Vec<LayerAttention>, ConfigError> {
        let count = self.size(KEYS.layers)?;
        if count > MOST_LAYERS {
            return Err(self.bad(KEYS.layers, format!("1 to {MOST_LAYERS}"), count));
        }
        let (global, local) = self.ropes(family)?;
        let window =
            self.count(KEYS.window)?.map(|window| u32::try_from(window).unwrap_or(u32::MAX));
        let window = match (window, family) {
            // As in llama.cpp: without this key, no layer of Gemma 3 has a window.
            (None | Some(0), Family::Gemma3) => {
                self.note(format!(
                    "'{}{}' is missing or 0: every layer sees the whole text, as in llama.cpp",
                    self.prefix, KEYS.window
                ));
                return Ok(vec![LayerAttention { window: None, rope: global }; count]);
            }
            (window, _) => window.unwrap_or(DEFAULT_WINDOW),
        };
        // Newer files may contain the pattern: a period, or a bool for each layer.
        let pattern = format!("{}{WINDOW_PATTERN}", self.prefix);
        let is_list = self.header.get::<Vec<i64>>(&pattern).ok().flatten();
        let windowed: Vec<bool> = match is_list {
            Some(windowed) if windowed.len() == count => {
                windowed.iter().map(|windowed| *windowed != 0).collect()
            }
            Some(windowed) => {
                let expected = format!("{count} layers, as {} says", KEYS.layers);
                return Err(self.bad(WINDOW_PATTERN, expected, windowed.len()));
            }
            None => {
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
    fn ropes(&mut self, family: Family) -> Result<(Rope, Rope), ConfigError> {
        let default = match family {
            Family::Gemma3 => GLOBAL_THETA,
            _ => LOCAL_THETA,
        };
        let either = |key, other| match self.find::<f32>(key) {
            Ok(None) => self.find::<f32>(other),
            found => found,
        };
        let theta = either(KEYS.rope, OLLAMA_GLOBAL)?.map_or(default, f64::from);
        let swa = either("rope.freq_base_swa", OLLAMA_LOCAL)?.map_or(LOCAL_THETA, f64::from);
        let global = Rope { theta, factor: self.factor(family)? };
        let local = match family {
            Family::Gemma3 => Rope { theta: swa, factor: 1.0 },
            _ => global,
        };
        Ok((global, local))
    }

    /// Divisor of positions, by llama.cpp's rules (`load_hparams`): a factor without a type is
    /// linear, the older key applies if the newer one is missing, 0 means no factor, and type
    /// 'none' ignores it.
    fn factor(&mut self, family: Family) -> Result<f64, ConfigError> {
        let factor = match self.find::<f32>(FACTOR)? {
            None => self.find::<f32>(OLD_FACTOR)?,
            found => found,
        };
        if let Some(scale) = self.find::<f32>("rope.scaling.attn_factor")?
            && scale != 1.0
        {
            return Err(self.bad("rope.scaling.attn_factor", "1, or no such key", scale));
        }
        match (self.find::<&str>(SCALING)?, factor) {
            (Some("none"), _) | (None, Some(0.0)) => Ok(1.0),
            (Some("linear"), None) => Ok(self.require::<f32>(FACTOR)?.into()),
            (Some("linear"), Some(factor)) => Ok(if factor == 0.0 { 1.0 } else { factor.into() }),
            (None, Some(factor)) => Ok(factor.into()),
            (None, None) if family == Family::Gemma3 && self.is_long_of_ollama()? => {
                self.note(
                    "an Ollama file of a Gemma 3 for 131072 tokens without RoPE scaling: the factor 8 of the original \
                     is taken"
                        .to_owned(),
                );
                Ok(8.0)
            }
            (None, None) => Ok(1.0),
            (Some(found), _) => Err(self.bad(SCALING, "'none' or 'linear'", found)),
        }
    }

    /// Whether this is a Gemma 3 from 4B up as converted by Ollama: with its vision part in the
    /// file, and without the scaling that its `config.json` has.
    fn is_long_of_ollama(&self) -> Result<bool, ConfigError> {
        let vision = |name: &str| name.starts_with("v.") || name.starts_with("mm.");
        let converted = self.find::<f32>(KEYS.norm_eps)?.is_none()
            || self.header.tensors().iter().any(|tensor| vision(&tensor.name));
        Ok(converted && self.count(KEYS.max_positions)?.is_some_and(|most| most >= 131_072))
    }

    fn note(&mut self, words: String) {
        self.notes.push(format!("{}: {words}", self.header.file()));
    }

    fn find<T: FromValue<'a>>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        Ok(self.header.get(&format!("{}{key}", self.prefix))?)
    }

    fn require<T: FromValue<'a>>(&self, key: &str) -> Result<T, ConfigError> {
        Ok(self.header.require(&format!("{}{key}", self.prefix))?)
    }

    fn size(&self, key: &str) -> Result<usize, ConfigError> {
        match self.count(key)? {
            Some(count) => Ok(count),
            None => Ok(self.require::<u32>(key)? as usize),
        }
    }

    /// A whole number; it may also be a list with one entry per layer, and all entries must then be
    /// equal.
    fn count(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        let full = format!("{}{key}", self.prefix);
        let Ok(Some(all)) = self.header.get::<Vec<i64>>(&full) else {
            return Ok(self.find::<u32>(key)?.map(|count| count as usize));
        };
        let expected = "one whole number, or the same for every layer";
        match all.split_first() {
            Some((first, rest)) if rest.iter().all(|other| other == first) => {
                let count = usize::try_from(*first).ok();
                count.map(Some).ok_or_else(|| self.bad(key, expected, first))
            }
            Some((first, rest)) => {
                let other = rest.iter().find(|other| *other != first).unwrap_or(first);
                Err(self.bad(key, expected, format!("{first} and {other}")))
            }
            None => Err(self.bad(key, expected, "none")),
        }
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
