//! Low-rank adapters: where their numbers lie, how they start, how they come and go.
//!
//! All factors of an adapter live in one flat f32 buffer, and so do their gradients and Adam's
//! moments: norm, update and clearing are one dispatch each. Source: Hu et al. 2021 (LoRA);
//! Kalajdzievski 2023 (rsLoRA: s = alpha / √r).

use std::collections::BTreeMap;

use hearth_formats::layout::WeightLayout;
use hearth_gpu::{Buffer, Gpu, Slice};
use hearth_kernels::matrix::{Matrix, Slab};
use serde::{Deserialize, Serialize};

use crate::{Config, ModelError, rng::Rng};

/// Factors start at multiples of this many numbers: bindings are aligned to 256 bytes.
const ALIGN: usize = 64;
/// Largest rank.
pub const MAX_RANK: u32 = 256;

/// A projection that an adapter may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Projection {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention's output.
    O,
    /// The MLP's gate.
    Gate,
    /// The MLP's up projection.
    Up,
    /// The MLP's down projection.
    Down,
}

impl Projection {
    /// All seven, in the order of a layer.
    pub const ALL: [Self; 7] =
        [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// The module's name in Hugging Face checkpoints, `self_attn.q_proj`.
    pub fn module(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }

    /// Whether it belongs to attention, and not to the MLP.
    pub fn in_attention(self) -> bool {
        matches!(self, Self::Q | Self::K | Self::V | Self::O)
    }

    /// Inputs and outputs.
    pub fn shape(self, config: &Config) -> (usize, usize) {
        let (c, f) = (config.hidden, config.intermediate);
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        match self {
            Self::Q => (c, q),
            Self::K | Self::V => (c, kv),
            Self::O => (q, c),
            Self::Gate | Self::Up => (c, f),
            Self::Down => (f, c),
        }
    }
}

/// What an adapter consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// r, 1 to 256.
    pub rank: u32,
    /// The scale is alpha / r, or alpha / √r with `rslora`.
    pub alpha: f32,
    /// Scale by √r.
    #[serde(default)]
    pub rslora: bool,
    /// Probability of dropping an input of A while training.
    #[serde(default)]
    pub dropout: f32,
    /// Which projections have factors.
    pub targets: Vec<Projection>,
    /// Of A's initial numbers.
    #[serde(default)]
    pub seed: u64,
}

impl LoraConfig {
    /// All seven projections, rank 8, alpha 16.
    pub fn all_seven() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            rslora: false,
            dropout: 0.0,
            targets: Projection::ALL.to_vec(),
            seed: 0,
        }
    }

    /// s.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        if self.rslora { self.alpha / rank.sqrt() } else { self.alpha / rank }
    }

    /// The rank that the device computes with: padded by zeros to a multiple of 4.
    pub fn padded_rank(&self) -> u32 {
        self.rank.next_multiple_of(4)
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// In words, what is out of range.
    pub fn check(&self) -> Result<(), ModelError> {
        let fault = if !(1..=MAX_RANK).contains(&self.rank) {
            format!("LoRA rank {} is not between 1 and {MAX_RANK}", self.rank)
        } else if !self.alpha.is_finite() || self.alpha <= 0.0 {
            format!("LoRA alpha {} is not a positive number", self.alpha)
        } else if !(0.0..1.0).contains(&self.dropout) {
            format!("LoRA dropout {} is not in 0..1", self.dropout)
        } else if self.targets.is_empty() {
            "LoRA has no target: name at least one of q, k, v, o, gate, up, down".to_owned()
        } else {
            return Ok(());
        };
        Err(ModelError::Options(fault))
    }
}

/// Where the two factors of one projection lie, in numbers from the start of the flat buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// A, `(R, in)`.
    pub a: usize,
    /// B, `(out, R)`.
    pub b: usize,
    /// Width of A.
    pub inputs: usize,
    /// Height of B.
    pub outputs: usize,
}

/// The map of the flat buffers: a pure function of configuration and model.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraLayout {
    /// The adapter's configuration.
    pub config: LoraConfig,
    slots: Vec<BTreeMap<Projection, Slot>>,
    /// Numbers in a flat buffer.
    pub len: usize,
}

impl LoraLayout {
    /// Lays out an adapter for a model.
    ///
    /// # Errors
    /// A configuration out of range.
    pub fn new(config: &LoraConfig, model: &Config) -> Result<Self, ModelError> {
        config.check()?;
        let rank = config.padded_rank() as usize;
        let mut len = 0;
        let mut take = |count: usize| {
            let at = len;
            len += count.next_multiple_of(ALIGN);
            at
        };
        let slots = (0..model.layers.len())
            .map(|_| {
                let mut layer = BTreeMap::new();
                for projection in Projection::ALL {
                    if config.targets.contains(&projection) {
                        let (inputs, outputs) = projection.shape(model);
                        let (a, b) = (take(rank * inputs), take(outputs * rank));
                        layer.insert(projection, Slot { a, b, inputs, outputs });
                    }
                }
                layer
            })
            .collect();
        Ok(Self { config: config.clone(), slots, len })
    }

    /// The factors of a projection, if the adapter has any there.
    pub fn slot(&self, layer: usize, projection: Projection) -> Option<Slot> {
        self.slots.get(layer)?.get(&projection).copied()
    }

    /// All slots, layer by layer.
    pub fn slots(&self) -> impl Iterator<Item = (usize, Projection, Slot)> {
        self.slots.iter().enumerate().flat_map(|(l, map)| map.iter().map(move |(&p, &s)| (l, p, s)))
    }

    /// Trainable numbers, padding not counted.
    pub fn parameters(&self) -> usize {
        let rank = self.config.rank as usize;
        self.slots().map(|(_, _, s)| rank * (s.inputs + s.outputs)).sum()
    }

    /// The lowest layer that has a factor: below it no gradient is needed.
    pub fn lowest_layer(&self) -> usize {
        self.slots().next().map_or(0, |(layer, _, _)| layer)
    }

    /// Numbers at the start of training: A uniform in ±1/√in (what
    /// `torch.nn.init.kaiming_uniform_(a=√5)` gives, as PEFT uses it), B zero.
    pub fn initial(&self) -> Vec<f32> {
        let mut flat = vec![0.0; self.len];
        let mut rng = Rng::new(self.config.seed);
        let rank = self.config.rank as usize;
        for (_, _, slot) in self.slots() {
            let bound = 1.0 / (slot.inputs as f64).sqrt();
            for value in &mut flat[slot.a..slot.a + rank * slot.inputs] {
                *value = ((2.0 * rng.uniform() - 1.0) * bound) as f32;
            }
        }
        flat
    }

    /// A factor out of the flat numbers, without padding: A is `(r, in)`, B `(out, r)`.
    pub fn factors(&self, flat: &[f32], slot: Slot) -> (Vec<f32>, Vec<f32>) {
        let (rank, padded) = (self.config.rank as usize, self.config.padded_rank() as usize);
        let a = flat[slot.a..slot.a + rank * slot.inputs].to_vec();
        let b = &flat[slot.b..slot.b + slot.outputs * padded];
        (a, b.chunks_exact(padded).flat_map(|row| row[..rank].iter().copied()).collect())
    }

    /// Puts a factor pair into the flat numbers; the padding stays zero.
    pub fn set_factors(&self, flat: &mut [f32], slot: Slot, a: &[f32], b: &[f32]) {
        let (rank, padded) = (self.config.rank as usize, self.config.padded_rank() as usize);
        flat[slot.a..slot.a + rank * slot.inputs].copy_from_slice(a);
        for (row, values) in b.chunks_exact(rank).enumerate() {
            flat[slot.b + row * padded..][..rank].copy_from_slice(values);
        }
    }
}

/// An adapter on the device.
#[derive(Clone)]
pub struct Lora {
    /// Where things lie.
    pub layout: LoraLayout,
    /// The flat numbers.
    pub params: Buffer,
    /// Tells adapters apart: a cache filled with one is of no use to another.
    pub id: u64,
}

impl Lora {
    /// Uploads an adapter.
    ///
    /// # Errors
    /// Device memory.
    pub fn new(gpu: &Gpu, layout: LoraLayout, flat: &[f32]) -> Result<Self, ModelError> {
        debug_assert_eq!(flat.len(), layout.len);
        let params = gpu.buffer_from("lora", flat)?;
        Ok(Self { layout, params, id: crate::cache::next_id() })
    }

    /// A of a slot as a matrix of weights `(R, in)`, in any flat buffer.
    pub fn a(&self, slot: Slot) -> Matrix {
        let rank = self.layout.config.padded_rank();
        matrix(range(&self.params, slot.a, rank as usize * slot.inputs), rank, slot.inputs as u32)
    }

    /// B of a slot as a matrix of weights `(out, R)`.
    pub fn b(&self, slot: Slot) -> Matrix {
        let rank = self.layout.config.padded_rank();
        matrix(range(&self.params, slot.b, slot.outputs * rank as usize), slot.outputs as u32, rank)
    }
}

/// `len` numbers of a flat buffer.
pub(crate) fn range(flat: &Buffer, at: usize, len: usize) -> Slice {
    flat.slice(4 * at as u64, 4 * len as u64)
}

/// A range of numbers as a matrix of f32 weights.
fn matrix(numbers: Slice, rows: u32, columns: u32) -> Matrix {
    let slab = Slab { first_row: 0, rows, quants: numbers.clone(), scales: numbers };
    Matrix { rows, columns, layout: WeightLayout::F32, slabs: vec![slab] }
}
