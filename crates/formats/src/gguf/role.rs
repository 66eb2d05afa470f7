//! What a GGUF file holds: a model, a piece of one, or something that goes with a model.

use super::header::{Header, HeaderError};
use crate::recognize::WrongFile;

/// What a GGUF file is, judging by its metadata and tensor names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A language model of any architecture.
    Model,
    /// A piece of a model that was split (`llama-gguf-split`): index from 0, number of pieces.
    Piece {
        /// From 0.
        index: u32,
        /// Number of pieces.
        count: u32,
    },
    /// The part of a multimodal model that turns images or sound into tokens.
    Projector,
    /// An adapter, a vocabulary, statistics: nothing that works as a model by itself.
    Other(WrongFile),
}

/// What the file is.
///
/// # Errors
/// [`HeaderError`] for metadata of other types than they should have.
pub fn role(header: &Header) -> Result<Role, HeaderError> {
    let text = |key: &str| header.get::<&str>(key).map(Option::unwrap_or_default);
    let (kind, architecture) = (text("general.type")?, text("general.architecture")?);
    let wrong =
        |what: &str, advice: &str| Ok(Role::Other(WrongFile::new(header.file(), what, advice)));
    let some = |test: fn(&str) -> bool| header.tensors().iter().any(|tensor| test(&tensor.name));
    if kind == "mmproj"
        || architecture == "clip"
        || header.metadata().contains_key("clip.has_vision_encoder")
    {
        return Ok(Role::Projector);
    }
    let lora = |name: &str| name.ends_with(".lora_a") || name.ends_with(".lora_b");
    if text("adapter.type")? == "lora" || some(lora) {
        return wrong(
            "a LoRA adapter",
            "give its base model; Hearth uses adapters that are in a classifier (--classifier)",
        );
    }
    if kind == "adapter" || architecture == "controlvector" {
        return wrong("an adapter or control vector", "give the model that it belongs to");
    }
    if kind == "imatrix" || architecture == "imatrix" || some(|name| name.ends_with(".in_sum2")) {
        return wrong("an importance matrix, made for quantizing a model", "give the model itself");
    }
    if let Some(count) = header.get::<u32>("split.count")?
        && count > 1
    {
        let index = header.get::<u32>("split.no")?.unwrap_or(0);
        return Ok(Role::Piece { index, count });
    }
    if kind == "vocab" || header.tensors().is_empty() {
        return wrong("a vocabulary without weights", "give the whole model");
    }
    Ok(Role::Model)
}

/// The error for a projector without its model.
pub fn projector(file: &str) -> WrongFile {
    WrongFile::new(
        file,
        "a vision or audio projector (mmproj)",
        "give the text model that it was published with, the other .gguf file",
    )
}

/// The display name of an architecture: `gemma4` is Gemma 4.
pub fn architecture_in_words(name: &str) -> String {
    let known = match name {
        "gemma3n" | "gemma3n_text" => "Gemma 3n",
        "gemma4" | "gemma4_text" => "Gemma 4",
        "t5gemma" | "t5gemma2" | "t5gemma_module" => "T5Gemma",
        "recurrent_gemma" | "recurrentgemma" => "RecurrentGemma",
        "paligemma" => "PaliGemma",
        "shieldgemma2" => "ShieldGemma 2",
        "siglip" | "siglip_vision_model" => "SigLIP, a vision model",
        _ => return format!("a model of the architecture '{name}'"),
    };
    known.to_owned()
}
