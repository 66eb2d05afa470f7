//! The head of a GGUF file, as llama.cpp's converter writes it for Gemma.

use hearth_formats::{gguf::header::TensorType, names::matrix_to_gguf};
use hearth_gemma::Config;

use super::{Tensor, vocabulary::Vocabulary};

/// Tensors begin at multiples of this.
pub const ALIGNMENT: u64 = 32;

const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Metadata, written.
#[derive(Default)]
struct Metadata {
    count: u64,
    bytes: Vec<u8>,
}

impl Metadata {
    fn key(&mut self, key: &str, kind: u32) {
        self.count += 1;
        text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key, TEXT);
        text(&mut self.bytes, value);
    }

    fn number(&mut self, key: &str, value: usize) {
        self.key(key, U32);
        self.bytes.extend((value as u32).to_le_bytes());
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.key(key, BOOL);
        self.bytes.push(value.into());
    }

    fn array(&mut self, key: &str, kind: u32, len: usize) {
        self.key(key, ARRAY);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((len as u64).to_le_bytes());
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Everything in front of the tensors' data, padded.
pub fn header(
    config: &Config,
    tensors: &[Tensor],
    kind: impl Fn(&Tensor) -> TensorType,
    vocabulary: &Vocabulary,
    file_type: usize,
) -> Vec<u8> {
    let mut m = Metadata::default();
    m.text("general.architecture", "gemma");
    m.text("general.name", "synthesized by hearth synth");
    for (key, value) in [
        ("context_length", config.max_positions),
        ("embedding_length", config.hidden),
        ("block_count", config.layers.len()),
        ("feed_forward_length", config.intermediate),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
    ] {
        m.number(&format!("gemma.{key}"), value);
    }
    m.key("gemma.attention.layer_norm_rms_epsilon", F32);
    m.bytes.extend(config.norm_eps.to_le_bytes());
    m.number("general.file_type", file_type);
    m.number("general.quantization_version", 2);
    m.text("tokenizer.ggml.model", "llama");
    let Vocabulary(pieces) = vocabulary;
    m.array("tokenizer.ggml.tokens", TEXT, pieces.len());
    pieces.iter().for_each(|(piece, _)| text(&mut m.bytes, piece));
    m.array("tokenizer.ggml.scores", F32, pieces.len());
    (0..pieces.len()).for_each(|id| m.bytes.extend((-(id as f32)).to_le_bytes()));
    m.array("tokenizer.ggml.token_type", I32, pieces.len());
    pieces.iter().for_each(|(_, kind)| m.bytes.extend(kind.to_le_bytes()));
    for (key, value) in [("bos", 2), ("eos", 1), ("unknown", 3), ("padding", 0)] {
        m.number(&format!("tokenizer.ggml.{key}_token_id"), value);
    }
    m.flag("tokenizer.ggml.add_space_prefix", false);

    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(m.count.to_le_bytes());
    out.extend(m.bytes);
    let mut offset = 0;
    for tensor in tensors {
        let kind = kind(tensor);
        text(&mut out, &name(&tensor.name));
        let sizes =
            if tensor.is_norm() { vec![tensor.columns] } else { vec![tensor.columns, tensor.rows] };
        out.extend((sizes.len() as u32).to_le_bytes());
        // Fastest first.
        sizes.iter().for_each(|size| out.extend(size.to_le_bytes()));
        out.extend(kind.id().to_le_bytes());
        out.extend(u64::to_le_bytes(offset));
        let bytes = tensor.weights() / kind.block_weights() * kind.block_bytes();
        offset += bytes.next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    out
}

/// llama.cpp's name of a tensor of Gemma 1.
fn name(uniform: &str) -> String {
    let plain = uniform.trim_end_matches(".weight");
    let mapped = match plain {
        "model.embed_tokens" => "token_embd".to_owned(),
        "model.norm" => "output_norm".to_owned(),
        _ => matrix_to_gguf(plain).unwrap_or_else(|| {
            let layer = plain.split('.').nth(2).unwrap_or_default();
            let norm = if plain.ends_with("input_layernorm") { "attn_norm" } else { "ffn_norm" };
            format!("blk.{layer}.{norm}")
        }),
    };
    format!("{mapped}.weight")
}
