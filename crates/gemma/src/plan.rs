//! Memory, before anything is allocated: bytes per part, what training keeps, how rows are cut
//! into micro-batches.

use std::collections::BTreeSet;

use hearth_formats::{checkpoint::Checkpoint, layout::WeightLayout};
use serde::{Deserialize, Serialize};

use crate::{
    Config, Embedding, KvCache, LoadOptions, LoraConfig, LoraLayout, Model, ModelError, Projection,
    config_of,
    model::angle_bytes,
    table::input_bytes,
    weights::{layout_of, stays_in_file},
    workspace::{Activations, Sizes, Widths},
};

/// Bytes on the device, part by part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// Name and bytes of every part.
    pub parts: Vec<(String, u64)>,
    /// What training keeps.
    pub activations: Option<Activations>,
    /// Most tokens of one micro-batch.
    pub tokens: usize,
}

impl MemoryPlan {
    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }

    /// A part a line, in MB.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, bytes) in &self.parts {
            text.push_str(&format!("{name:<24} {:>10.1} MB\n", *bytes as f64 / 1e6));
        }
        text + &format!("{:<24} {:>10.1} MB", "total", self.total() as f64 / 1e6)
    }
}

/// What a training step needs beside the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingNeed<'a> {
    /// The adapter.
    pub lora: &'a LoraConfig,
    /// Tokens of the largest row, shared prefix included.
    pub longest_row: usize,
    /// Tokens of a typical batch, prefix once.
    pub batch_tokens: usize,
    /// Most predictions of a batch.
    pub targets: usize,
    /// Columns of logits held at once.
    pub logit_columns: usize,
    /// Whether averaged weights are kept.
    pub averaging: bool,
    /// Bytes of a token's input row where those come from the file: [`input_row_bytes`].
    pub input_row_bytes: u64,
}

/// Bytes that a token's input row takes in a workspace; 0 where the whole table is on the device.
pub fn input_row_bytes(model: &Model) -> u64 {
    input_bytes(&model.weights.embedding, 1)
}

/// Bytes of a model's weights on the device.
///
/// # Errors
/// Unreadable files, missing tensors.
pub fn weight_bytes(
    checkpoint: &Checkpoint,
    options: impl Into<LoadOptions>,
) -> Result<u64, ModelError> {
    let (config, options) = (config_of(checkpoint)?, options.into());
    let mut bytes = 0;
    for tensor in checkpoint.tensors().filter(|t| !stays_in_file(&t.name, options)) {
        if tensor.shape.len() < 2 || tensor.name.contains("norm") {
            bytes += 4 * tensor.rows() * tensor.columns();
        } else {
            let layout = layout_of(checkpoint, &tensor.name, options.precision)?;
            bytes += tensor.rows() * layout.row_bytes(tensor.columns() as usize) as u64;
        }
    }
    Ok(bytes + rotation_bytes(&config))
}

/// One table of rotations a base.
fn rotation_bytes(config: &Config) -> u64 {
    let bases: BTreeSet<u64> = config.layers.iter().map(|l| l.rope.theta.to_bits()).collect();
    bases.len() as u64 * angle_bytes(config)
}

/// What [`weight_bytes`] will be of a file that is not here yet, by the shape and the layout of every
/// layer's matrices; the tables of the vocabulary stay in the file.
pub fn layer_bytes(config: &Config, layout: impl Fn(usize, Projection) -> WeightLayout) -> u64 {
    let mut bytes = rotation_bytes(config) + 4 * config.hidden as u64;
    let mut norms = if config.has_post_norms() { 4 } else { 2 } * config.hidden;
    norms += if config.has_qk_norm() { 2 * config.head_dim } else { 0 };
    for layer in 0..config.layers.len() {
        bytes += 4 * norms as u64;
        for projection in Projection::ALL {
            let (inputs, outputs) = projection.shape(config);
            bytes += (outputs * layout(layer, projection).row_bytes(inputs)) as u64;
        }
    }
    bytes
}

/// Refuses a model whose weights alone exceed `available` bytes of device memory; gives their bytes
/// otherwise. Only the file's header has been read by then.
///
/// # Errors
/// [`ModelError::Memory`] with the numbers; missing tensors.
pub fn check_fits(
    checkpoint: &Checkpoint,
    options: impl Into<LoadOptions>,
    available: u64,
) -> Result<u64, ModelError> {
    let options = options.into();
    let bytes = weight_bytes(checkpoint, options)?;
    if bytes <= available {
        return Ok(bytes);
    }
    let tables = LoadOptions { embedding: Embedding::FromSource, ..options };
    let layers = weight_bytes(checkpoint, tables)?;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    Err(ModelError::Memory(format!(
        "{}: the weights take {:.1} MB on the device (embedding {:.1} MB, layers {:.1} MB), and {:.1} MB are \
         available. Take a smaller model or one in fewer bits (`hearth quantize`, or --weights q4 for floats).",
        checkpoint.name(),
        mb(bytes),
        mb(bytes - layers),
        mb(layers),
        mb(available)
    )))
}

/// Plans scoring or generation: a workspace and a cache.
pub fn plan_forward(config: &Config, weights: u64, sizes: &Sizes, cached: usize) -> MemoryPlan {
    let widths = Widths::new(config, sizes);
    let parts = vec![
        ("weights".to_owned(), weights),
        ("activations".to_owned(), widths.layer_bytes() + widths.other_bytes(2)),
        ("key/value cache".to_owned(), KvCache::bytes(config, cached)),
    ];
    MemoryPlan { parts, activations: None, tokens: sizes.tokens }
}

/// Plans training within `available` bytes: the whole batch at once and everything kept, if that
/// fits; else activations are computed again; else the batch is cut into micro-batches.
///
/// # Errors
/// When not even one row fits, with the numbers.
pub fn plan_training(
    config: &Config,
    weights: u64,
    need: &TrainingNeed,
    available: u64,
) -> Result<MemoryPlan, ModelError> {
    let smallest = need.longest_row.max(1);
    let mut tokens = need.batch_tokens.max(smallest);
    loop {
        for activations in [Activations::Keep, Activations::Recompute] {
            let plan = training(config, weights, need, tokens, activations)?;
            if plan.total() <= available {
                return Ok(plan);
            }
        }
        if tokens == smallest {
            let plan = training(config, weights, need, tokens, Activations::Recompute)?;
            return Err(ModelError::Memory(format!(
                "training needs {:.0} MB even for one row of {smallest} tokens, and {:.0} MB are allowed:\n{}\n\
                 Use a smaller model, a lower rank or shorter texts (max_tokens).",
                plan.total() as f64 / 1e6,
                available as f64 / 1e6,
                plan.table()
            )));
        }
        tokens = (tokens * 3 / 4).max(smallest);
    }
}

/// The plan of one choice.
///
/// # Errors
/// An adapter configuration out of range.
pub fn training(
    config: &Config,
    weights: u64,
    need: &TrainingNeed,
    tokens: usize,
    activations: Activations,
) -> Result<MemoryPlan, ModelError> {
    let layout = LoraLayout::new(need.lora, config)?;
    let chosen = need.targets.min(tokens * 2);
    let lora = Some(need.lora.clone());
    let widths = Widths::new(config, &Sizes { tokens, chosen, lora, training: Some(activations) });
    let layers = config.layers.len() as u64;
    let sets = if activations == Activations::Keep { layers } else { 1 };
    let flat = 4 * layout.len as u64;
    let copies = if need.averaging { 6 } else { 5 };
    let parts = vec![
        ("weights".to_owned(), weights),
        ("adapter and optimizer".to_owned(), copies * flat),
        ("activations".to_owned(), sets * widths.layer_bytes()),
        ("layer inputs".to_owned(), widths.other_bytes(config.layers.len() + 1)),
        ("input rows".to_owned(), need.input_row_bytes * tokens as u64),
        ("gradients".to_owned(), widths.gradient_bytes()),
        ("logits".to_owned(), 4 * (chosen * (need.logit_columns + 8)) as u64),
    ];
    Ok(MemoryPlan { parts, activations: Some(activations), tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let json = include_str!("../tests/golden/tiny_gemma3/model/config.json");
        Config::from_json(json).unwrap()
    }

    fn need(lora: &LoraConfig) -> TrainingNeed<'_> {
        TrainingNeed {
            lora,
            longest_row: 32,
            batch_tokens: 256,
            targets: 8,
            logit_columns: 4,
            averaging: false,
            input_row_bytes: 0,
        }
    }

    #[test]
    fn less_memory_means_recomputation_then_smaller_batches_then_a_refusal() {
        let (config, lora) = (config(), LoraConfig::all_seven());
        let need = need(&lora);
        let plan = |available| plan_training(&config, 1000, &need, available);
        let all = plan(u64::MAX).unwrap();
        assert_eq!((all.activations, all.tokens), (Some(Activations::Keep), 256));
        let less = plan(all.total() - 1).unwrap();
        assert_eq!((less.activations, less.tokens), (Some(Activations::Recompute), 256));
        let small = plan(less.total() - 1).unwrap();
        assert!(small.tokens < 256);
        let refusal = plan(1000).unwrap_err().to_string();
        assert!(
            refusal.contains("one row of 32 tokens") && refusal.contains("weights"),
            "{refusal}"
        );
    }
}
