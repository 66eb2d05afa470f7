//! Checks that a model's files hold the tensors that its configuration requires, and no others that
//! would change its output.

use std::collections::BTreeSet;

use hearth_formats::{
    checkpoint::{Checkpoint, CheckpointError},
    names::is_not_text,
};

use super::Config;
use crate::{ModelError, Projection};

/// Tensors of layers that do not change the output: RoPE's frequencies, which older programs saved.
const BUFFERS: [&str; 2] = ["rotary_emb.inv_freq", "rope_freqs.weight"];

/// The names of all tensors of a model.
fn names(config: &Config) -> Vec<String> {
    let mut parts: Vec<String> = Projection::ALL.iter().map(|p| p.module().to_owned()).collect();
    parts.extend(["input_layernorm", "post_attention_layernorm"].map(str::to_owned));
    if config.has_post_norms() {
        parts
            .extend(["pre_feedforward_layernorm", "post_feedforward_layernorm"].map(str::to_owned));
    }
    if config.has_qk_norm() {
        parts.extend(["self_attn.q_norm", "self_attn.k_norm"].map(str::to_owned));
    }
    let mut all = vec!["model.embed_tokens.weight".to_owned(), "model.norm.weight".to_owned()];
    if !config.tied_head {
        all.push("lm_head.weight".to_owned());
    }
    for layer in 0..config.layers.len() {
        all.extend(parts.iter().map(|part| format!("model.layers.{layer}.{part}.weight")));
    }
    all
}

/// Checks that all tensors are present and readable and that no others belong to the text model: a
/// bias or an additional layer would be ignored silently. The notes report tensors that are not
/// used.
///
/// # Errors
/// Missing tensors, tensors of an unsupported type, tensors that no such model has.
pub fn check_complete(checkpoint: &Checkpoint, config: &Config) -> Result<Vec<String>, ModelError> {
    let expected = names(config);
    let missing: Vec<&String> =
        expected.iter().filter(|name| checkpoint.get(name).is_none()).collect();
    let known: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    let others: Vec<&str> = checkpoint
        .tensors()
        .map(|tensor| tensor.name.as_str())
        .filter(|name| !known.contains(name) && !is_not_text(name))
        .filter(|name| !BUFFERS.iter().any(|buffer| name.ends_with(buffer)))
        .collect();
    if let Some(first) = missing.first() {
        return Err(ModelError::Incomplete {
            file: checkpoint.name().to_owned(),
            model: format!("{} of {} layers", config.family, config.layers.len()),
            missing: missing.len(),
            expected: expected.len(),
            first: (*first).clone(),
            others: match others.first() {
                Some(other) => format!(", but tensors like '{other}' instead"),
                None => String::new(),
            },
        });
    }
    for name in &expected {
        let tensor = checkpoint.tensor(name)?;
        if tensor.layout.is_none() {
            return Err(CheckpointError::NotWeights {
                file: checkpoint.name().to_owned(),
                tensor: name.clone(),
                found: tensor.stored_as(),
            }
            .into());
        }
    }
    let of_text = |name: &&str| name.starts_with("model.layers.") || name.starts_with("blk.");
    if let Some(tensor) = others.iter().find(|name| of_text(name)) {
        return Err(ModelError::Unexpected {
            file: checkpoint.name().to_owned(),
            model: format!("{} of {} layers", config.family, config.layers.len()),
            tensor: (*tensor).to_owned(),
        });
    }
    Ok(match others[..] {
        [] => vec![],
        [one] => vec![format!("{}: tensor '{one}' is not used", checkpoint.name())],
        [first, ..] => vec![format!(
            "{}: {} tensors are not used, '{first}' first",
            checkpoint.name(),
            others.len()
        )],
    })
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use std::rc::Rc;

    use hearth_formats::source::{ByteSource, MemorySource};
    use pollster::block_on;
    use serde_json::{Value, json};

    use super::*;
    use crate::{config::config_json, config_and_notes};

    const MODEL: &[u8] = include_bytes!("../../tests/golden/tiny_gemma3/model/model.safetensors");
    const CONFIG: &str = include_str!("../../tests/golden/tiny_gemma3/model/config.json");

    /// The tiny Gemma 3 with its tensor `from` renamed to `to` (of the same length) and its
    /// configuration changed.
    fn checkpoint([from, to]: [&str; 2], change: impl Fn(&mut Value)) -> Checkpoint {
        assert_eq!(from.len(), to.len());
        let mut bytes = MODEL.to_vec();
        if !from.is_empty() {
            let at =
                bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        let mut config: Value = serde_json::from_str(CONFIG).unwrap();
        change(&mut config);
        let sources: Vec<Rc<dyn ByteSource>> = vec![
            Rc::new(MemorySource::new("m.safetensors", bytes)),
            Rc::new(MemorySource::new("config.json", config.to_string().into_bytes())),
        ];
        block_on(Checkpoint::open(sources)).unwrap()
    }

    fn problem(checkpoint: &Checkpoint) -> String {
        let (config, _) = config_and_notes(checkpoint).unwrap();
        let error = check_complete(checkpoint, &config).unwrap_err().to_string();
        // A copy would lose missing and unexpected tensors.
        assert_eq!(config_json(checkpoint).unwrap_err().to_string(), error);
        error
    }

    #[test]
    fn a_complete_model_has_nothing_to_be_told() {
        let model = checkpoint(["", ""], |_| ());
        let (config, notes) = config_and_notes(&model).unwrap();
        assert_eq!(notes, Vec::<String>::new());
        assert_eq!(check_complete(&model, &config).unwrap(), Vec::<String>::new());
        assert!(config_json(&model).is_ok());
    }

    #[test]
    fn missing_and_unexpected_tensors_are_named() {
        let q = "model.layers.1.self_attn.q_proj.weight";
        let error = problem(&checkpoint([q, "model.layers.1.self_attn.q_xroj.weight"], |_| ()));
        for words in [
            "1 of the ",
            "tensors of a Gemma 3 of 3 layers are missing",
            q,
            "q_xroj.weight' instead",
        ] {
            assert!(error.contains(words), "{error}");
        }
        let fewer = checkpoint(["", ""], |config| {
            config["num_hidden_layers"] = json!(2);
            config["layer_types"].as_array_mut().unwrap().truncate(2);
        });
        let error = problem(&fewer);
        assert!(error.contains("'model.layers.2."), "{error}");
        assert!(error.contains("a Gemma 3 of 2 layers does not have"), "{error}");
    }

    #[test]
    fn a_flag_that_the_tensors_contradict_is_told() {
        let model = checkpoint(["", ""], |config| config["tie_word_embeddings"] = json!(false));
        let (config, notes) = config_and_notes(&model).unwrap();
        assert!(config.tied_head);
        assert!(notes.len() == 1 && notes[0].contains("the embedding is used"), "{notes:?}");
    }
}
