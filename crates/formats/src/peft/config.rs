//! `adapter_config.json`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Adapter, Base, LARGEST_RANK, PeftError};
use crate::recognize::check_json;
use crate::source::{ByteSource, SourceError, read_vec};

/// Longest file that is read; PEFT writes about a kilobyte.
const LIMIT: u64 = 1 << 20;

/// Settings that change what is computed, and the values that mean plain LoRA. A key that is missing, null, false or
/// empty also means plain LoRA.
const PLAIN: [(&str, &str); 11] = [
    ("bias", "none"),
    ("fan_in_fan_out", ""),
    ("use_dora", ""),
    ("lora_bias", ""),
    ("rank_pattern", ""),
    ("alpha_pattern", ""),
    ("modules_to_save", ""),
    ("layer_replication", ""),
    ("trainable_token_indices", ""),
    ("alora_invocation_tokens", ""),
    ("use_qalora", ""),
];

/// Names in `init_lora_weights` of initializations that leave the model's own weights unchanged. The others (PiSSA,
/// OLoRA, CorDA, LoftQ, LoRA-GA) subtract a part of them, so that such an adapter does not fit the published model.
const HARMLESS_STARTS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

/// An adapter with its settings and no tensors yet, and the projections that `target_modules` lists by name.
pub(super) async fn read(
    source: &dyn ByteSource,
) -> Result<(Adapter, Option<BTreeSet<String>>), PeftError> {
    let file = source.name().to_owned();
    if source.len() > LIMIT {
        return Err(PeftError::Source(SourceError::OutOfMemory {
            name: file,
            offset: 0,
            wanted: source.len(),
        }));
    }
    let text = read_vec(source, 0, source.len()).await?;
    check_json(&file, &text)?;
    let config: Value = serde_json::from_slice(&text)
        .map_err(|error| PeftError::Json { file: file.clone(), message: error.to_string() })?;
    let wrong = |key: &'static str, expected: &'static str| PeftError::Setting {
        file: file.clone(),
        key,
        expected,
        found: config.get(key).map_or("missing".to_owned(), short),
    };
    if config.get("peft_type").and_then(Value::as_str) != Some("LORA") {
        return Err(wrong("peft_type", "LORA"));
    }
    for (key, plain) in PLAIN {
        let found = config.get(key).unwrap_or(&Value::Null);
        if !(is_empty(found) || found.as_str() == Some(plain)) {
            return Err(wrong(key, "none or empty: Hearth reads plain LoRA only"));
        }
    }
    let start = config.get("init_lora_weights").unwrap_or(&Value::Null);
    let is_harmless = match start {
        Value::Null | Value::Bool(_) => true,
        Value::String(name) => HARMLESS_STARTS.contains(&name.to_lowercase().as_str()),
        _ => false,
    };
    if !is_harmless {
        return Err(wrong(
            "init_lora_weights",
            "true, false, gaussian, orthogonal or eva: PiSSA, OLoRA, CorDA, LoftQ and the like change the model's \
             own weights, and Hearth has the unchanged ones. PEFT turns a PiSSA, OLoRA or CorDA adapter into a plain \
             one when it is saved with path_initial_model_for_weight_conversion",
        ));
    }
    let rank = config.get("r").and_then(Value::as_u64);
    let Some(rank) = rank.filter(|rank| (1..=LARGEST_RANK).contains(rank)) else {
        return Err(wrong("r", "an integer from 1 to 4096"));
    };
    let number = |key: &'static str, default: Option<f64>| match config.get(key) {
        None => default,
        Some(value) => value.as_f64(),
    };
    // PEFT's own defaults for missing keys.
    let alpha = number("lora_alpha", Some(8.0)).map(|alpha| alpha as f32);
    let Some(alpha) = alpha.filter(|alpha| alpha.is_finite()) else {
        return Err(wrong("lora_alpha", "a number"));
    };
    let dropout = number("lora_dropout", Some(0.0)).map(|dropout| dropout as f32);
    let Some(dropout) = dropout.filter(|dropout| (0.0..1.0).contains(dropout)) else {
        return Err(wrong("lora_dropout", "a number from 0 to less than 1"));
    };
    let rslora = match config.get("use_rslora") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(rslora)) => *rslora,
        Some(_) => return Err(wrong("use_rslora", "true or false")),
    };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("").to_owned();
    let class = config.get("auto_mapping").and_then(|mapping| mapping.get("base_model_class"));
    let base = Base {
        name: text(config.get("base_model_name_or_path")),
        class: text(class),
        ..Base::text()
    };
    // A string is a pattern, or "all-linear".
    let listed = config.get("target_modules").and_then(Value::as_array).map(|names| {
        let last = |name: &Value| {
            let name = name.as_str()?;
            Some(name.rsplit_once('.').map_or(name, |(_, last)| last).to_owned())
        };
        names.iter().filter_map(last).collect()
    });
    let adapter = Adapter {
        rank: rank as usize,
        alpha,
        rslora,
        dropout,
        base,
        // Taken from the tensors: `target_modules` may be a pattern.
        targets: BTreeSet::new(),
        tensors: BTreeMap::new(),
    };
    Ok((adapter, listed))
}

/// The keys that every PEFT version since 0.6 knows; PEFT fills in its defaults for newer ones.
pub(super) fn write(adapter: &Adapter) -> String {
    let alpha = if adapter.alpha.fract() == 0.0 && adapter.alpha.abs() < 1e9 {
        json!(adapter.alpha as i64)
    } else {
        json!(adapter.alpha)
    };
    let base_model = match adapter.base.name.as_str() {
        "" => Value::Null,
        name => json!(name),
    };
    let auto_mapping = match adapter.base.class.as_str() {
        "" => Value::Null,
        class => json!({ "base_model_class": class, "parent_library": library_of(class) }),
    };
    let config = json!({
        "alpha_pattern": {},
        "auto_mapping": auto_mapping,
        "base_model_name_or_path": base_model,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": alpha,
        "lora_dropout": adapter.dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": adapter.rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": adapter.targets,
        "task_type": "CAUSAL_LM",
        "use_rslora": adapter.rslora,
    });
    format!("{config:#}\n")
}

/// The transformers module that defines a Gemma class: `transformers.models.gemma3.modeling_gemma3`.
fn library_of(class: &str) -> String {
    let family = class.split_once("For").map_or(class, |(family, _)| family).to_lowercase();
    format!("transformers.models.{family}.modeling_{family}")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// A value for an error, shortened to one line.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
