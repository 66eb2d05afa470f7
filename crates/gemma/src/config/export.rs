//! The configuration for other programs: `config.json` for transformers, metadata for GGUF.

use hearth_formats::checkpoint::Checkpoint;
use hearth_formats::gguf::header::Header;
use hearth_formats::gguf::write::{Metadata, plan_file};
use hearth_formats::source::MemorySource;
use serde_json::{Map, Value, json};

use super::{
    Config, Family, GLOBAL_THETA, LOCAL_THETA, check_complete, has_window, is_multimodal, write,
};
use crate::{ModelError, config_of};

/// What other programs made of the model's own weights, which a file with plain weights no longer has.
const QUANTIZATION: [&str; 3] = ["quantization", "quantization_config", "torch_dtype"];

/// A `config.json` that transformers 5 loads the text model with: the model's own where it has one, without its vision
/// part and its quantization. `dtype` is the name of the weights' number type: `float16`, `float32`.
///
/// # Errors
/// A model without a configuration, or with one that `config.json` cannot express; a model that lacks weights.
pub fn transformers_config(checkpoint: &Checkpoint, dtype: &str) -> Result<String, ModelError> {
    let config = config_of(checkpoint)?;
    check_complete(checkpoint, &config)?;
    let text = match checkpoint.config_json().filter(|json| !is_multimodal(json)) {
        Some(own) => own.to_owned(),
        None => write::write(&config)?,
    };
    let mut map: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|error| ModelError::Options(format!("config.json: {error}")))?;
    map.retain(|key, _| !QUANTIZATION.contains(&key.as_str()));
    let class = match config.family {
        Family::Gemma1 => "GemmaForCausalLM",
        Family::Gemma2 => "Gemma2ForCausalLM",
        Family::Gemma3 => "Gemma3ForCausalLM",
    };
    map.insert("architectures".to_owned(), json!([class]));
    map.insert("dtype".to_owned(), json!(dtype));
    // transformers refuses a float here
    const SCALAR: &str = "query_pre_attn_scalar";
    if let Some(scalar) = map.get(SCALAR).and_then(Value::as_f64).filter(|s| s.fract() == 0.0) {
        map.insert(SCALAR.to_owned(), json!(scalar as i64));
    }
    // the tensors decide
    map.insert("tie_word_embeddings".to_owned(), json!(config.tied_head));
    Ok(format!("{:#}\n", Value::Object(map)))
}

impl Config {
    /// The name of the architecture in GGUF.
    pub fn gguf_architecture(&self) -> &'static str {
        match self.family {
            Family::Gemma1 => "gemma",
            Family::Gemma2 => "gemma2",
            Family::Gemma3 => "gemma3",
        }
    }

    /// Metadata for a GGUF file, as llama.cpp's converter writes them; the vocabulary is not among them.
    ///
    /// # Errors
    /// A configuration that GGUF cannot express, such as an attention scale of its own.
    pub async fn gguf_metadata(&self, name: &str) -> Result<Metadata, ModelError> {
        let architecture = self.gguf_architecture();
        let mut out = Metadata::default();
        out.text("general.architecture", architecture);
        out.text("general.type", "model");
        out.text("general.name", name);
        let key = |key: &str| format!("{architecture}.{key}");
        self.add_gguf_sizes(&mut out);
        let softcaps = [
            ("attn_logit_softcapping", self.attention_softcap),
            ("final_logit_softcapping", self.final_softcap),
        ];
        for (name, cap) in softcaps {
            if let Some(cap) = cap {
                out.float(&key(name), cap);
            }
        }
        self.add_layers(&key, &mut out);
        self.check_expressed(&out).await?;
        Ok(out)
    }

    /// The keys that every Gemma has: sizes, and the epsilon of its norms.
    pub fn add_gguf_sizes(&self, out: &mut Metadata) {
        let key = |key: &str| format!("{}.{key}", self.gguf_architecture());
        for (name, value) in [
            ("context_length", self.max_positions),
            ("embedding_length", self.hidden),
            ("block_count", self.layers.len()),
            ("feed_forward_length", self.intermediate),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
        ] {
            out.number(&key(name), u32::try_from(value).unwrap_or(u32::MAX));
        }
        out.float(&key("attention.layer_norm_rms_epsilon"), self.norm_eps);
    }

    /// Windows and rotations.
    fn add_layers(&self, key: &dyn Fn(&str) -> String, out: &mut Metadata) {
        let windowed: Vec<bool> = self.layers.iter().map(|layer| layer.window.is_some()).collect();
        if let Some(window) = self.layers.iter().find_map(|layer| layer.window) {
            out.number(&key("attention.sliding_window"), window);
            let usual = |(index, windowed): (usize, &bool)| {
                *windowed == has_window(self.family, None, index)
            };
            if !windowed.iter().enumerate().all(usual) {
                out.flags(&key("attention.sliding_window_pattern"), &windowed);
            }
        }
        let default = if self.family == Family::Gemma3 { GLOBAL_THETA } else { LOCAL_THETA };
        let global = self.layers.iter().find(|layer| layer.window.is_none());
        let global = global.or(self.layers.first());
        out.float(&key("rope.freq_base"), global.map_or(default, |layer| layer.rope.theta) as f32);
        if let Some(factor) = global.map(|layer| layer.rope.factor).filter(|&factor| factor != 1.0)
        {
            out.text(&key("rope.scaling.type"), "linear");
            out.float(&key("rope.scaling.factor"), factor as f32);
        }
        let local = self.layers.iter().find(|layer| layer.window.is_some());
        if let Some(theta) = local.map(|layer| layer.rope.theta)
            && self.family == Family::Gemma3
            && theta != LOCAL_THETA
        {
            out.float(&key("rope.freq_base_swa"), theta as f32);
        }
    }

    /// Reads the metadata back: what a reader would compute with has to be this configuration.
    async fn check_expressed(&self, metadata: &Metadata) -> Result<(), ModelError> {
        let mut metadata = metadata.clone();
        metadata.number(&format!("{}.vocab_size", self.gguf_architecture()), self.vocab as u32);
        let bytes = plan_file(&metadata, []).map(|planned| planned.bytes).unwrap_or_default();
        let header = Header::read(&MemorySource::new("GGUF", bytes)).await;
        let header = header.map_err(|error| ModelError::Options(error.to_string()))?;
        let read = Self::from_gguf(&header)?;
        // tokens are the vocabulary's, and tensors say whether the head is tied
        let read = Self { bos: self.bos, eos: self.eos.clone(), tied_head: self.tied_head, ..read };
        if read == *self {
            return Ok(());
        }
        let what = if read.attention_scale != self.attention_scale {
            format!(
                "its attention scale is {}, and GGUF readers take {}",
                self.attention_scale, read.attention_scale
            )
        } else {
            "its layers or soft caps are of a kind that GGUF has no keys for".to_owned()
        };
        Err(ModelError::Options(format!(
            "this model's configuration cannot be written as GGUF: {what}; write safetensors instead"
        )))
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use pollster::block_on;

    fn configs() -> Vec<(String, Config)> {
        let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        let folder = std::path::Path::new(&here).join("tests/fixtures/configs");
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let json = paths.filter(|path| path.extension().is_some_and(|e| e == "json"));
        json.map(|path| {
            let config = Config::from_json(&std::fs::read_to_string(&path).unwrap()).unwrap();
            (path.display().to_string(), config)
        })
        .collect()
    }

    #[test]
    fn every_published_configuration_is_read_back_from_gguf() {
        let (mut written, mut refused) = (0, 0);
        for (name, config) in configs() {
            match block_on(config.gguf_metadata("test")) {
                Ok(_) => written += 1,
                // the tiny twins have a scale of their own
                Err(error) => {
                    let words = error.to_string();
                    assert!(words.contains("attention scale") && name.contains("tiny"), "{words}");
                    refused += 1;
                }
            }
        }
        assert!(written >= 5 && refused >= 1, "{written} {refused}");
    }

    #[test]
    fn a_pattern_of_windows_of_its_own_is_kept() {
        let (_, mut config) =
            configs().into_iter().find(|(n, _)| n.contains("tiny_gemma3")).unwrap();
        config.attention_scale = (config.head_dim as f64).powf(-0.5) as f32;
        assert!(block_on(config.gguf_metadata("test")).is_ok());
        config.layers[0].window = Some(7);
        let error = block_on(config.gguf_metadata("test")).unwrap_err().to_string();
        assert!(error.contains("layers"), "{error}");
    }
}
