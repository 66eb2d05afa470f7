//! The head of a GGUF file, as llama.cpp's converter writes it for Gemma.

use hearth_formats::{
    gguf::{
        header::TensorType,
        write::{Metadata, plan_file},
    },
    names::to_gguf,
};
use hearth_gemma::Config;

use super::{Tensor, vocabulary::Vocabulary};

/// What the tensors of a synthesized Gemma are called.
const ARCHITECTURE: &str = "gemma";

/// Everything in front of the tensors' data, padded.
pub fn header(
    config: &Config,
    tensors: &[Tensor],
    kind: impl Fn(&Tensor) -> TensorType,
    vocabulary: &Vocabulary,
    file_type: u32,
) -> Vec<u8> {
    let mut m = Metadata::default();
    m.text("general.architecture", ARCHITECTURE);
    m.text("general.name", "synthesized by hearth synth");
    config.add_gguf_sizes(&mut m);
    m.number("general.file_type", file_type);
    m.number("general.quantization_version", 2);
    m.text("tokenizer.ggml.model", "llama");
    let Vocabulary(pieces) = vocabulary;
    m.texts("tokenizer.ggml.tokens", pieces.iter().map(|(piece, _)| piece.as_str()));
    m.floats("tokenizer.ggml.scores", (0..pieces.len()).map(|id| -(id as f32)));
    m.integers("tokenizer.ggml.token_type", pieces.iter().map(|(_, kind)| *kind as i32));
    for (key, value) in [("bos", 2), ("eos", 1), ("unknown", 3), ("padding", 0)] {
        m.number(&format!("tokenizer.ggml.{key}_token_id"), value);
    }
    m.flag("tokenizer.ggml.add_space_prefix", false);
    let entries = tensors.iter().map(|tensor| {
        let shape =
            if tensor.is_norm() { vec![tensor.columns] } else { vec![tensor.rows, tensor.columns] };
        let name = to_gguf(&tensor.name, ARCHITECTURE).unwrap_or_else(|| tensor.name.clone());
        (name, kind(tensor), shape)
    });
    // the shapes are Gemma's, so they fit
    plan_file(&m, entries).map(|planned| planned.bytes).unwrap_or_default()
}
