//! The configuration that distinguishes one Gemma model from another, read from `config.json` or
//! from GGUF metadata.
//!
//! Sources. *Reference*: `models/gemma`, `gemma2` and `gemma3` of huggingface/transformers,
//! versions 4.57 (older form of `config.json`) and 5.2 (newer form). *llama.cpp*:
//! `load_arch_hparams` of the three models, for GGUF. *gemma_pytorch*: google/gemma_pytorch,
//! `gemma/config.py`.

mod complete;
mod export;
mod gguf;
mod json;
#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests;
mod write;

pub use complete::check_complete;
pub use export::transformers_config;
use hearth_formats::gguf::header::HeaderError;
use hearth_formats::recognize::WrongFile;
pub use json::is_multimodal;
use thiserror::Error;
pub use write::config_json;

/// A generation of Gemma. It determines what the files do not contain:
///
/// | | Gemma 1 | Gemma 2 | Gemma 3 text |
/// | --- | --- | --- | --- |
/// | norm after attention and MLP too (reference, `DecoderLayer.forward`) | no | yes | yes |
/// | norm on each head of q and k, before RoPE (reference, `Gemma3Attention.forward`) | no | no | yes |
/// | layers with a window | none | even ones, from 0 | all but every sixth |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Gemma 1: `model_type` and GGUF architecture `gemma`.
    Gemma1,
    /// Gemma 2: `gemma2`.
    Gemma2,
    /// The text model of Gemma 3: `gemma3_text`, or `gemma3` with a `text_config`; in GGUF `gemma3`.
    Gemma3,
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gemma1 => "Gemma 1",
            Self::Gemma2 => "Gemma 2",
            Self::Gemma3 => "Gemma 3",
        })
    }
}

/// Everything that the forward pass needs to know about a model besides its weights.
///
/// Dimension letters used for shapes elsewhere: V = `vocab`, C = `hidden`, H = `heads`, G =
/// `kv_heads`, D = `head_dim`, F = `intermediate`, L = `layers.len()`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Generation.
    pub family: Family,
    /// V: rows of the embedding table.
    pub vocab: usize,
    /// C: width of the residual stream.
    pub hidden: usize,
    /// H: query heads. H · D need not equal C.
    pub heads: usize,
    /// G: key and value heads; divides H.
    pub kv_heads: usize,
    /// D: width of a head.
    pub head_dim: usize,
    /// F: width of the gate and of the up projection.
    pub intermediate: usize,
    /// Longest text that the model was designed for, in tokens.
    pub max_positions: usize,
    /// ε of every RMS norm: x / √(mean(x²) + ε) · (1 + w) (reference, `GemmaRMSNorm`).
    pub norm_eps: f32,
    /// One entry per layer.
    pub layers: Vec<LayerAttention>,
    /// Factor on q · k before the softmax: `query_pre_attn_scalar`^-½ in Gemma 2 and 3 (reference,
    /// `Gemma2Attention.__init__`), D^-½ in Gemma 1 (`GemmaAttention.__init__`).
    pub attention_scale: f32,
    /// c of c · tanh(x / c) on the scaled scores, before the mask (reference,
    /// `eager_attention_forward` of Gemma 2).
    pub attention_softcap: Option<f32>,
    /// c of c · tanh(x / c) on the logits (reference, `Gemma2ForCausalLM.forward`).
    pub final_softcap: Option<f32>,
    /// The token that begins every text.
    pub bos: u32,
    /// The tokens that end a text; the first is `<eos>`.
    pub eos: Vec<u32>,
    /// Whether the output head is the (unscaled) embedding table and not a separate tensor in the
    /// file.
    pub tied_head: bool,
}

/// Attention settings of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerAttention {
    /// With window w, position i attends to positions i - w + 1 to i; with `None`, to all up to i
    /// (reference, `create_sliding_window_causal_mask`).
    pub window: Option<u32>,
    /// Rotation of q and k.
    pub rope: Rope,
}

/// Rotary position embedding in rotate-half form: the pair (j, j + D/2) of a head is rotated by
/// `position / factor · theta^(-2j/D)` (reference, `ROPE_INIT_FUNCTIONS`, "default" and "linear").
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Base of the angles: 1e4; 1e6 on the global layers of Gemma 3.
    pub theta: f64,
    /// Divisor of positions: 8 on the global layers of Gemma 3 from 4B up, otherwise 1.
    pub factor: f64,
}

/// Why a configuration could not be read. Every variant names the file.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ConfigError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("{file}: expected a JSON object, found {found}; fetch the file again")]
    Json { file: String, found: String },
    #[error(transparent)]
    Wrong(#[from] WrongFile),
    #[error(
        "{file}: this is {what} ({key} is '{found}'), which is not supported; Hearth reads the text models of Gemma 1, \
         2 and 3: take one of these"
    )]
    OtherModel { file: String, what: String, key: &'static str, found: String },
    #[error(
        "{file}: this is {what} ({reason}): it turns a text into a vector and cannot continue one, so there is no answer \
         to choose; take a text model of Gemma 1, 2 or 3 instead, such as Gemma 3 270M"
    )]
    Embedding { file: String, what: &'static str, reason: String },
    #[error(
        "{file}: key '{key}' is missing; expected {expected}: use the configuration that came with the model"
    )]
    Missing { file: String, key: String, expected: String },
    #[error(
        "{file}: key '{key}': expected {expected}, found {found}; use the configuration that came with the model"
    )]
    Value { file: String, key: String, expected: String, found: String },
}

impl Config {
    /// Reads `config.json`, in its older form (`rope_theta`, `rope_local_base_freq`,
    /// `sliding_window_pattern`) and its newer one (`rope_parameters`, `layer_types`); for a
    /// multimodal Gemma 3, its `text_config`.
    ///
    /// `hidden_size`, `intermediate_size` and `num_hidden_layers` are required. For everything
    /// else, the reference's defaults apply, since files omit values that equal them (Gemma 3 4B
    /// even omits its numbers of heads).
    ///
    /// # Errors
    /// [`ConfigError`] names the key, what was expected and what was found.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        json::read(text)
    }

    /// Reads the metadata of a GGUF file. What GGUF does not contain:
    ///
    /// - Gemma 3: every sixth layer is global, the others have base 1e4 and no factor; Gemma 2:
    ///   even layers have the window (llama.cpp does the same).
    /// - The query scale is D^-½, but (C/H)^-½ in the two 27B models, which llama.cpp recognizes by
    ///   their 46 and 62 layers (gemma_pytorch, `query_pre_attn_scalar`).
    /// - V is the embedding's number of rows; the head is tied unless `output.weight` exists.
    /// - RoPE scaling follows llama.cpp's rules: a factor without a type is linear;
    ///   `rope.scale_linear` is the older key.
    /// - ε is 1e-6 if it is missing, as in Ollama's files, whose names for RoPE's bases are also
    ///   read.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, what was expected and what was found.
    pub fn from_gguf(header: &hearth_formats::gguf::header::Header) -> Result<Self, ConfigError> {
        Ok(gguf::read(header)?.0)
    }

    /// Like [`from_gguf`](Self::from_gguf), and also returns notes on the defaults used that the
    /// user should know about.
    ///
    /// # Errors
    /// As [`from_gguf`](Self::from_gguf).
    pub fn from_gguf_with_notes(
        header: &hearth_formats::gguf::header::Header,
    ) -> Result<(Self, Vec<String>), ConfigError> {
        gguf::read(header)
    }

    /// √C, the factor by which embeddings are multiplied. The reference rounds it to the type of
    /// the hidden states; in f32 it is 25.298 for C = 640 (in bf16 it would be 25.25).
    pub fn embedding_scale(&self) -> f32 {
        (self.hidden as f64).sqrt() as f32
    }

    /// Whether q and k are normalized, per head and before RoPE.
    pub fn has_qk_norm(&self) -> bool {
        self.family == Family::Gemma3
    }

    /// Whether the outputs of attention and of the MLP are normalized before they are added.
    pub fn has_post_norms(&self) -> bool {
        self.family != Family::Gemma1
    }
}

/// No vocabulary in a valid file is larger.
const LARGEST_SIZE: usize = 1 << 21;
/// No row of activations is wider: Gemma 3 27B has 21,504. The product of two widths stays below
/// 2^36, which needs 64 bits everywhere; one width times the bytes of a number and the largest rank
/// fits in 32 bits.
const LARGEST_WIDTH: usize = 1 << 18;
/// Widest head: the most that the attention kernels hold in registers.
const LARGEST_HEAD: usize = 256;
/// Most layers: Gemma 3 27B has 62.
const MOST_LAYERS: usize = 1024;

/// The window of a family if the file gives none (reference, `Gemma2Config`, `Gemma3TextConfig`).
const DEFAULT_WINDOW: u32 = 4096;
/// Base of RoPE; in Gemma 3, that of the layers with a window (reference, `default_theta`).
const LOCAL_THETA: f64 = 1e4;
/// Base of RoPE on the global layers of Gemma 3.
const GLOBAL_THETA: f64 = 1e6;

/// Whether layer `index` has a window: the family's pattern with its usual or given period, counted
/// from 1 (reference, `layer_types` of `Gemma2Config` and `Gemma3TextConfig`).
fn has_window(family: Family, period: Option<u32>, index: usize) -> bool {
    let period = match (family, period) {
        (Family::Gemma1, _) => return false,
        (_, Some(period)) => period as usize,
        (Family::Gemma2, None) => 2,
        (Family::Gemma3, None) => 6,
    };
    // Period 0 means no period: no layer has a window.
    period != 0 && !(index + 1).is_multiple_of(period)
}

/// The keys of one file format, for errors about inconsistent values.
struct Keys {
    vocab: &'static str,
    hidden: &'static str,
    heads: &'static str,
    kv_heads: &'static str,
    head_dim: &'static str,
    intermediate: &'static str,
    max_positions: &'static str,
    norm_eps: &'static str,
    layers: &'static str,
    window: &'static str,
    rope: &'static str,
    attention_scale: &'static str,
    attention_softcap: &'static str,
    final_softcap: &'static str,
    bos: &'static str,
    eos: &'static str,
}

impl Config {
    /// Rejects values that no Gemma has and that would fail later with a less clear error.
    fn check(self, file: &str, prefix: &str, keys: &Keys) -> Result<Self, ConfigError> {
        let bad = |key: &str, expected: String, found: String| {
            Err(ConfigError::Value {
                file: file.to_owned(),
                // The tokenizer's keys have no prefix.
                key: match key.starts_with("tokenizer.") {
                    true => key.to_owned(),
                    false => format!("{prefix}{key}"),
                },
                expected,
                found,
            })
        };
        for (key, size, most) in [
            (keys.layers, self.layers.len(), MOST_LAYERS),
            (keys.vocab, self.vocab, LARGEST_SIZE),
            (keys.hidden, self.hidden, LARGEST_WIDTH),
            (keys.head_dim, self.head_dim, LARGEST_HEAD),
            (keys.heads, self.heads, LARGEST_WIDTH / self.head_dim.max(1)),
            (keys.kv_heads, self.kv_heads, LARGEST_WIDTH / self.head_dim.max(1)),
            (keys.intermediate, self.intermediate, LARGEST_WIDTH),
            (keys.max_positions, self.max_positions, usize::MAX),
        ] {
            if size == 0 || size > most {
                return bad(key, format!("1 to {most}"), size.to_string());
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let expected = format!("a divisor of the {} query heads", self.heads);
            return bad(keys.kv_heads, expected, self.kv_heads.to_string());
        }
        if !self.head_dim.is_multiple_of(4) {
            let expected = "a multiple of 4 (kernels load four numbers at once)".to_owned();
            return bad(keys.head_dim, expected, self.head_dim.to_string());
        }
        for (key, number) in [
            (keys.norm_eps, Some(self.norm_eps)),
            (keys.attention_scale, Some(self.attention_scale)),
            (keys.attention_softcap, self.attention_softcap),
            (keys.final_softcap, self.final_softcap),
        ] {
            if let Some(number) = number
                && !(number.is_finite() && number > 0.0)
            {
                return bad(key, "a number above 0".to_owned(), number.to_string());
            }
        }
        for layer in &self.layers {
            if layer.window == Some(0) {
                return bad(keys.window, "1 or more".to_owned(), "0".to_owned());
            }
            for number in [layer.rope.theta, layer.rope.factor] {
                if !(number.is_finite() && number > 0.0) {
                    return bad(keys.rope, "a number above 0".to_owned(), number.to_string());
                }
            }
        }
        if self.eos.is_empty() {
            return bad(keys.eos, "a token id".to_owned(), "none".to_owned());
        }
        let ids = std::iter::once((keys.bos, self.bos));
        for (key, id) in ids.chain(self.eos.iter().map(|id| (keys.eos, *id))) {
            if id as usize >= self.vocab {
                let expected = format!("a token id below {}", self.vocab);
                return bad(key, expected, id.to_string());
            }
        }
        Ok(self)
    }
}
