//! Converts adapters between their file and the device: PEFT's named factors and the flat
//! parameters of [`LoraLayout`].
//!
//! A file may hold fewer matrices than targets × layers. The missing ones become zero: a pair of
//! zero factors adds nothing, and its gradients stay zero in training.

use std::collections::BTreeMap;

use hearth_formats::{
    checkpoint::Checkpoint,
    peft::{Adapter, Base, LoraPair},
};

use crate::{
    Config, LoraConfig, LoraLayout, ModelError, Projection,
    config::{Family, is_multimodal},
};

/// The names that transformers and PEFT use for the modules of a checkpoint's model. A Gemma 3
/// whose configuration has a vision part is loaded as `Gemma3ForConditionalGeneration`, which keeps
/// the text model under `language_model`; among GGUF files, these are the models with 34, 48 and 62
/// layers (4B, 12B and 27B), which exist in no other form.
///
/// The name is left empty: a local file has no name that PEFT could find.
pub fn adapter_base(checkpoint: &Checkpoint, config: &Config) -> Base {
    let sees = match checkpoint.config_json() {
        Some(json) => is_multimodal(json),
        None => config.family == Family::Gemma3 && matches!(config.layers.len(), 34 | 48 | 62),
    };
    let class = match (config.family, sees) {
        (Family::Gemma1, _) => "GemmaForCausalLM",
        (Family::Gemma2, _) => "Gemma2ForCausalLM",
        (Family::Gemma3, false) => "Gemma3ForCausalLM",
        (Family::Gemma3, true) => "Gemma3ForConditionalGeneration",
    };
    let prefix = if sees { "model.language_model." } else { "model." };
    Base { name: String::new(), class: class.to_owned(), prefix: prefix.to_owned() }
}

/// Converts flat parameters to an adapter, for writing; `base` is the model that it belongs to.
pub fn to_adapter(layout: &LoraLayout, flat: &[f32], base: &Base) -> Adapter {
    let tensors = layout.slots().map(|(layer, projection, slot)| {
        let (a, b) = layout.factors(flat, slot);
        let pair = LoraPair { inputs: slot.inputs, outputs: slot.outputs, a, b };
        (format!("model.layers.{layer}.{}", projection.module()), pair)
    });
    let config = &layout.config;
    Adapter {
        rank: config.rank as usize,
        alpha: config.alpha,
        rslora: config.rslora,
        dropout: config.dropout,
        base: base.clone(),
        targets: config.targets.iter().map(|&projection| name(projection).to_owned()).collect(),
        tensors: tensors.collect(),
    }
}

/// Layout and flat parameters of an adapter that was read. The seed of its initial values is not in
/// the file, so it becomes 0.
///
/// # Errors
/// A module that the model does not have, factors whose sizes do not match its matrices, settings
/// out of range.
pub fn from_adapter(
    adapter: &Adapter,
    model: &Config,
) -> Result<(LoraLayout, Vec<f32>), ModelError> {
    let family = adapter.base.class.split_once("For").map_or("", |(family, _)| family);
    let expected = match model.family {
        Family::Gemma1 => "Gemma",
        Family::Gemma2 => "Gemma2",
        Family::Gemma3 => "Gemma3",
    };
    if !family.is_empty() && family != expected {
        return Err(ModelError::Options(format!(
            "adapter: it belongs to a {}, but the model is a {}",
            adapter.base.class, model.family
        )));
    }
    let mut pairs = BTreeMap::new();
    for (module, pair) in &adapter.tensors {
        let (layer, projection) = site(module).ok_or_else(|| {
            ModelError::Options(format!(
                "adapter: '{module}' is no projection of a Gemma layer; Hearth adapts {}",
                Projection::ALL.map(name).join(", ")
            ))
        })?;
        if layer >= model.layers.len() {
            return Err(ModelError::Options(format!(
                "adapter: '{module}' is in layer {layer}, but the model has {} layers, counted \
                 from 0: the adapter belongs to another model",
                model.layers.len()
            )));
        }
        check_shape(module, pair, adapter.rank, projection.shape(model))?;
        pairs.insert((layer, projection), pair);
    }
    let targets = Projection::ALL.into_iter().filter(|p| pairs.keys().any(|(_, q)| p == q));
    let config = LoraConfig {
        // A rank beyond u32 is out of range, like any other rank that is too large.
        rank: u32::try_from(adapter.rank).unwrap_or(u32::MAX),
        alpha: adapter.alpha,
        rslora: adapter.rslora,
        dropout: adapter.dropout,
        targets: targets.collect(),
        seed: 0,
    };
    let layout = LoraLayout::new(&config, model)?;
    let mut flat = vec![0.0; layout.len];
    for (layer, projection, slot) in layout.slots() {
        if let Some(pair) = pairs.get(&(layer, projection)) {
            layout.set_factors(&mut flat, slot, &pair.a, &pair.b);
        }
    }
    Ok((layout, flat))
}

/// PEFT's name for a target, `q_proj`.
fn name(projection: Projection) -> &'static str {
    let module = projection.module();
    module.rsplit_once('.').map_or(module, |(_, name)| name)
}

/// Layer and projection of `model.layers.N.self_attn.q_proj`.
fn site(module: &str) -> Option<(usize, Projection)> {
    let (layer, rest) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let projection = Projection::ALL.into_iter().find(|p| p.module() == rest)?;
    Some((layer.parse().ok()?, projection))
}

fn check_shape(
    module: &str,
    pair: &LoraPair,
    rank: usize,
    (inputs, outputs): (usize, usize),
) -> Result<(), ModelError> {
    if (pair.inputs, pair.outputs) != (inputs, outputs) {
        return Err(ModelError::Options(format!(
            "adapter: '{module}' is for a matrix of [{}, {}], but the model's is [{outputs}, \
             {inputs}]: the adapter belongs to another model",
            pair.outputs, pair.inputs
        )));
    }
    for (factor, found, shape) in
        [("lora_A", pair.a.len(), [rank, inputs]), ("lora_B", pair.b.len(), [outputs, rank])]
    {
        if shape[0].checked_mul(shape[1]) != Some(found) {
            return Err(ModelError::Options(format!(
                "adapter: '{module}.{factor}' has {found} numbers, expected {shape:?}: the adapter \
                 is damaged"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;
    use hearth_rng::Rng;

    fn model() -> Config {
        Config::from_json(include_str!("../tests/fixtures/configs/tiny_gemma3.json")).unwrap()
    }

    fn config(rank: u32, rslora: bool, targets: &[Projection]) -> LoraConfig {
        LoraConfig {
            rank,
            rslora,
            dropout: 0.1,
            targets: targets.to_vec(),
            ..LoraConfig::all_seven()
        }
    }

    /// Random factors, zero in the padding.
    fn flat(layout: &LoraLayout) -> Vec<f32> {
        let mut rng = Rng::new(3);
        let mut draw = |count| (0..count).map(|_| rng.uniform() as f32 - 0.5).collect::<Vec<_>>();
        let rank = layout.config.rank as usize;
        let mut flat = vec![0.0; layout.len];
        for (_, _, slot) in layout.slots() {
            let (a, b) = (draw(rank * slot.inputs), draw(slot.outputs * rank));
            layout.set_factors(&mut flat, slot, &a, &b);
        }
        flat
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    fn example() -> Adapter {
        let layout = LoraLayout::new(&config(4, false, &[Projection::Q]), &model()).unwrap();
        to_adapter(&layout, &flat(&layout), &Base::text())
    }

    fn refused(adapter: &Adapter, words: &str) {
        let error = from_adapter(adapter, &model()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn what_becomes_an_adapter_comes_back_to_the_bit() {
        for (rank, rslora, targets) in [
            (8, false, &Projection::ALL[..]),
            (3, false, &Projection::ALL),
            (3, true, &[Projection::Q, Projection::V]),
            (1, true, &[Projection::Down]),
        ] {
            let layout = LoraLayout::new(&config(rank, rslora, targets), &model()).unwrap();
            let flat = flat(&layout);
            let adapter = to_adapter(
                &layout,
                &flat,
                &Base { name: "google/gemma".to_owned(), ..Base::text() },
            );
            assert_eq!(adapter.scaling(), layout.config.scale());
            assert_eq!(adapter.tensors.len(), 3 * targets.len());
            assert_eq!(adapter.base.name, "google/gemma");
            let numbers: usize = adapter.tensors.values().map(|p| p.a.len() + p.b.len()).sum();
            assert_eq!(numbers, layout.parameters());
            let (same, again) = from_adapter(&adapter, &model()).unwrap();
            assert_eq!(same, layout);
            assert_eq!(bits(&again), bits(&flat));
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn factors_keep_their_rows_and_columns() {
        let layout = LoraLayout::new(&config(3, false, &[Projection::V]), &model()).unwrap();
        let mut numbers = vec![0.0; layout.len];
        let slot = layout.slot(1, Projection::V).unwrap();
        // The device pads the rank of 3 to 4: row 2 of A, and column 2 of row 5 of B.
        numbers[slot.a + 2 * slot.inputs + 7] = 1.5;
        numbers[slot.b + 5 * 4 + 2] = -2.5;
        let adapter = to_adapter(&layout, &numbers, &Base::text());
        let pair = &adapter.tensors["model.layers.1.self_attn.v_proj"];
        assert_eq!((pair.inputs, pair.outputs), (64, 32));
        assert_eq!((pair.a[2 * 64 + 7], pair.b[5 * 3 + 2]), (1.5, -2.5));
        assert_eq!(pair.a.iter().chain(&pair.b).filter(|v| **v != 0.0).count(), 2);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_matrix_that_the_file_lacks_adds_nothing() {
        let mut adapter = example();
        adapter.tensors.remove("model.layers.1.self_attn.q_proj").unwrap();
        let (layout, flat) = from_adapter(&adapter, &model()).unwrap();
        let sum = |layer| {
            let (a, b) = layout.factors(&flat, layout.slot(layer, Projection::Q).unwrap());
            a.iter().chain(&b).map(|v| v.abs()).sum::<f32>()
        };
        assert!(sum(0) > 0.0 && sum(2) > 0.0);
        assert_eq!(sum(1), 0.0);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn adapters_of_other_models_are_refused_in_words() {
        let pair = example().tensors.into_values().next().unwrap();
        let with = |module: &str, change: fn(&mut LoraPair)| {
            let (mut adapter, mut pair) = (example(), pair.clone());
            change(&mut pair);
            adapter.tensors.insert(module.to_owned(), pair);
            adapter
        };
        let q = "model.layers.0.self_attn.q_proj";
        refused(&with("model.layers.3.self_attn.q_proj", |_| ()), "has 3 layers");
        refused(&with("model.layers.0.self_attn.qkv_proj", |_| ()), "Hearth adapts q_proj, k_proj");
        refused(&with("model.layers.x.self_attn.q_proj", |_| ()), "no projection of a Gemma layer");
        refused(&with("lm_head", |_| ()), "'lm_head' is no projection");
        refused(
            &with("model.layers.0.self_attn.k_proj", |_| ()),
            "is for a matrix of [128, 64], but the model's is [32, 64]",
        );
        refused(&with(q, |p| p.inputs = 640), "[128, 640], but the model's is [128, 64]");
        refused(
            &with(q, |p| p.a.truncate(255)),
            "q_proj.lora_A' has 255 numbers, expected [4, 64]",
        );
        refused(&with(q, |p| p.b.push(0.0)), "q_proj.lora_B' has 513 numbers, expected [128, 4]");
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn settings_out_of_range_are_refused_in_words() {
        let none = Adapter { tensors: BTreeMap::new(), ..example() };
        refused(&none, "no target");
        refused(&Adapter { alpha: 0.0, ..example() }, "alpha 0 is not a positive number");
        refused(&Adapter { dropout: 1.0, ..example() }, "dropout 1 is not in 0..1");
        let large =
            LoraPair { inputs: 64, outputs: 128, a: vec![0.0; 257 * 64], b: vec![0.0; 128 * 257] };
        let module = "model.layers.0.self_attn.q_proj".to_owned();
        let large = Adapter { rank: 257, tensors: [(module, large)].into(), ..example() };
        refused(&large, "rank 257 is not between 1 and 256");
    }
}
