//! Plans memory before anything is allocated: bytes per part, what training keeps, how rows are
//! split into micro-batches.

use std::collections::BTreeSet;

use hearth_formats::{
    checkpoint::{Checkpoint, Tensor},
    layout::WeightLayout,
    names::is_not_text,
};
use serde::{Deserialize, Serialize};

use crate::{
    Config, Embedding, KvCache, LoadOptions, LoraConfig, LoraLayout, Model, ModelError, Projection,
    config_of,
    flat::Flat,
    load::{layout_of, stays_in_file},
    memory::{Counted, Memory, TooLarge},
    model::angle_bytes,
    train::{Buffers, Logits, StepPlan},
    workspace::{Activations, Sizes, Workspace},
};

/// Bytes on the device, part by part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct MemoryPlan {
    /// Name and bytes of every part.
    pub parts: Vec<(String, u64)>,
    /// What training keeps.
    pub activations: Option<Activations>,
    /// Maximum tokens of one micro-batch.
    pub tokens: usize,
}

impl MemoryPlan {
    /// Total bytes.
    pub fn total(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }

    /// One line per part, in MB.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, bytes) in &self.parts {
            text.push_str(&format!("{name:<24} {:>10.1} MB\n", *bytes as f64 / 1e6));
        }
        text + &format!("{:<24} {:>10.1} MB", "total", self.total() as f64 / 1e6)
    }
}

/// What a training step needs besides the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingNeed<'a> {
    /// The adapter.
    pub lora: &'a LoraConfig,
    /// Tokens of the longest row, including the shared prefix.
    pub longest_row: usize,
    /// Tokens of a typical batch, with the prefix counted once.
    pub batch_tokens: usize,
    /// Maximum predictions of a batch.
    pub targets: usize,
    /// What the logits cover.
    pub logits: Logits,
    /// Whether averaged weights are kept.
    pub averaging: bool,
    /// Bytes of a token's input row if the rows come from the file: see [`input_row_bytes`].
    pub input_row_bytes: u64,
}

/// Bytes that a token's input row takes in a workspace; 0 if the whole table is on the device.
pub fn input_row_bytes(model: &Model) -> u64 {
    model.weights.embedding.input_bytes(1)
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
    let used = |t: &&Tensor| !stays_in_file(&t.name, options) && !is_not_text(&t.name);
    for tensor in checkpoint.tensors().filter(used) {
        if tensor.shape.len() < 2 || tensor.name.contains("norm") {
            bytes += 4 * tensor.rows() * tensor.columns();
        } else {
            let layout = layout_of(checkpoint, &tensor.name, options.precision)?;
            bytes += tensor.rows() * layout.row_bytes(tensor.columns() as usize) as u64;
        }
    }
    Ok(bytes + rotation_bytes(&config))
}

/// Bytes of the rotation tables, one per base.
fn rotation_bytes(config: &Config) -> u64 {
    let bases: BTreeSet<u64> = config.layers.iter().map(|l| l.rope.theta.to_bits()).collect();
    bases.len() as u64 * angle_bytes(config)
}

/// What [`weight_bytes`] will be for a file that is not available yet, from the shape and the
/// layout of every layer's matrices; the tables of the vocabulary stay in the file.
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

/// Rejects a model whose weights alone exceed `available` bytes of device memory; otherwise returns
/// their bytes. At that point, only the file's header has been read.
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
         available. Take a smaller model or one in fewer bits (--weights q4 for floats, or `hearth quantize`).",
        checkpoint.name(),
        mb(bytes),
        mb(bytes - layers),
        mb(layers),
        mb(available)
    )))
}

/// Plans scoring or generation: a workspace and a cache.
///
/// # Errors
/// Sizes that overflow.
pub fn plan_forward(
    config: &Config,
    weights: u64,
    sizes: &Sizes,
    cached: usize,
) -> Result<MemoryPlan, ModelError> {
    let mut counted = Counted::new(u64::MAX);
    counted.add("weights", weights);
    Workspace::allocate(&mut counted, config, sizes.clone())?;
    counted.add("key/value cache", KvCache::bytes(config, cached));
    Ok(plan_of(&counted, None, sizes.tokens))
}

fn plan_of(counted: &Counted, activations: Option<Activations>, tokens: usize) -> MemoryPlan {
    let parts = counted.parts.iter().map(|&(name, bytes)| (name.to_owned(), bytes)).collect();
    MemoryPlan { parts, activations, tokens }
}

/// Plans training within `available` bytes on a device whose buffers have at most `max_binding`
/// bytes: the whole batch at once with all activations kept, if that fits; otherwise activations
/// are recomputed; otherwise the batch is split into micro-batches.
///
/// # Errors
/// If not even one row fits, with the numbers.
pub fn plan_training(
    config: &Config,
    weights: u64,
    need: &TrainingNeed,
    available: u64,
    max_binding: u64,
) -> Result<MemoryPlan, ModelError> {
    let smallest = need.longest_row.max(1);
    let mut tokens = need.batch_tokens.max(smallest);
    loop {
        for activations in [Activations::Keep, Activations::Recompute] {
            let counted = count(config, weights, need, tokens, activations, max_binding)?;
            if counted.total() <= available && counted.too_large.is_none() {
                return Ok(plan_of(&counted, Some(activations), tokens));
            }
        }
        if tokens == smallest {
            let activations = Activations::Recompute;
            let counted = count(config, weights, need, tokens, activations, max_binding)?;
            return Err(refusal(&counted, smallest, available, max_binding));
        }
        tokens = (tokens * 3 / 4).max(smallest);
    }
}

/// Why not even one row fits.
fn refusal(counted: &Counted, tokens: usize, available: u64, max_binding: u64) -> ModelError {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    if let Some(TooLarge { part, label, bytes }) = counted.too_large {
        let advice = match part {
            "adapter and optimizer" => "Use a lower rank",
            "logits" => "Use shorter texts (max_tokens) or fewer classes",
            _ => "Use shorter texts (max_tokens)",
        };
        return ModelError::Memory(format!(
            "one row of {tokens} tokens needs a buffer of {:.1} MB ({part}: {label}), and this GPU binds at most \
             {:.1} MB at once. {advice}, or a smaller model.",
            mb(bytes),
            mb(max_binding)
        ));
    }
    ModelError::Memory(format!(
        "training needs {:.0} MB even for one row of {tokens} tokens, and {:.0} MB are allowed:\n{}\n\
         Use a smaller model, a lower rank or shorter texts (max_tokens).",
        mb(counted.total()),
        mb(available),
        plan_of(counted, None, tokens).table()
    ))
}

/// The plan for one choice of `tokens` and `activations`, on a device that binds any number of
/// bytes.
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
    let counted = count(config, weights, need, tokens, activations, u64::MAX)?;
    Ok(plan_of(&counted, Some(activations), tokens))
}

/// Counts what a trainer allocates.
fn count(
    config: &Config,
    weights: u64,
    need: &TrainingNeed,
    tokens: usize,
    activations: Activations,
    max_binding: u64,
) -> Result<Counted, ModelError> {
    let layout = LoraLayout::new(need.lora, config)?;
    let targets = most_targets(need.targets, tokens);
    let plan = StepPlan { tokens, targets, activations, share_prefix: true };
    let mut counted = Counted::new(max_binding);
    counted.add("weights", weights);
    Buffers::allocate(&mut counted, config, &layout, need.logits, &plan)?;
    if need.averaging {
        counted.part("adapter and optimizer");
        Flat::allocate(&mut counted, "average", &layout, 1)?;
    }
    counted.add("input rows", need.input_row_bytes.saturating_mul(tokens as u64));
    Ok(counted)
}

/// Maximum predictions of a micro-batch of `tokens` tokens if a whole batch has `targets`.
pub fn most_targets(targets: usize, tokens: usize) -> usize {
    targets.min(2 * tokens)
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
            logits: Logits::Classes(4),
            averaging: false,
            input_row_bytes: 0,
        }
    }

    #[test]
    fn less_memory_means_recomputation_then_smaller_batches_then_a_refusal() {
        let (config, lora) = (config(), LoraConfig::all_seven());
        let need = need(&lora);
        let plan = |available| plan_training(&config, 1000, &need, available, u64::MAX);
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

    #[test]
    fn buffers_that_are_too_large_for_a_binding_mean_smaller_batches_then_a_refusal_with_advice() {
        let (config, lora) = (config(), LoraConfig::all_seven());
        let need = need(&lora);
        let plan = |binding| plan_training(&config, 1000, &need, u64::MAX, binding);
        // gate and up: 256 tokens × 2 · 128 × 4 bytes
        let widest = 256 * 256 * 4;
        assert_eq!(plan(widest).unwrap().tokens, 256);
        let cut = plan(widest - 256).unwrap();
        assert!(cut.tokens < 256 && cut.activations == Some(Activations::Keep));
        // the adapter, 0.1 MB, is split into slabs as the limit decreases
        assert!(plan(32 * 256 * 4).unwrap().tokens == 32);
        let refused = plan(32 * 256 * 4 - 256).unwrap_err().to_string();
        for words in ["one row of 32 tokens", "activations: ", "binds at most 0.0 MB", "max_tokens"]
        {
            assert!(refused.contains(words), "{words}: {refused}");
        }
        let large = LoraConfig { rank: 256, ..LoraConfig::all_seven() };
        let need = TrainingNeed { lora: &large, longest_row: 1, batch_tokens: 1, ..need };
        let refused = plan_training(&config, 1000, &need, u64::MAX, 100 << 10).unwrap_err();
        assert!(refused.to_string().contains("Use a lower rank"), "{refused}");
    }

    #[test]
    fn gemma_2b_at_default_limits_is_cut_where_its_gates_exceed_a_binding() {
        let json = include_str!("../tests/fixtures/configs/gemma-2b.json");
        let config = Config::from_json(json).unwrap();
        let binding = 128 << 20;
        for (rank, batch_tokens) in [(8, 1024), (8, 1025), (8, 8192), (28, 600), (256, 600)] {
            let lora = LoraConfig { rank, ..LoraConfig::all_seven() };
            let need = TrainingNeed { batch_tokens, longest_row: 600, ..need(&lora) };
            let plan = plan_training(&config, 1000, &need, u64::MAX, binding).unwrap();
            assert!(plan.tokens <= 1024 && plan.tokens >= batch_tokens.min(600), "{rank}");
            assert_eq!(plan.tokens == batch_tokens, batch_tokens <= 1024);
        }
    }
}
