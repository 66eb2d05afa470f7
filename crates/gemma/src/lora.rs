//! Low-rank adapters: where their parameters are stored, how they are initialized, how they are
//! read and written.
//!
//! All factors of an adapter are stored in one list of f32 values ([`Flat`]), and so are their
//! gradients and Adam's moments. Source: Hu et al. 2021 (LoRA); Kalajdzievski 2023 (rsLoRA: s =
//! alpha / √r).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use hearth_gpu::{Gpu, Slice};
use hearth_kernels::matrix::Matrix;
use hearth_rng::Rng;
use serde::{Deserialize, Serialize};

use crate::{
    Config, ModelError,
    flat::{Flat, matrix},
};

/// Factors start at multiples of this many values: bindings are aligned to 256 bytes.
const ALIGN: usize = 64;
/// Maximum rank.
pub const MAX_RANK: u32 = 256;

/// A projection that an adapter may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
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

    /// Projections that share one input, in order: the products with their A are computed as one,
    /// and so are the gradients through their B.
    pub const GROUPS: [&[Self]; 4] =
        [&[Self::Q, Self::K, Self::V], &[Self::O], &[Self::Gate, Self::Up], &[Self::Down]];

    /// Index of its group in [`Projection::GROUPS`].
    pub fn group(self) -> usize {
        match self {
            Self::Q | Self::K | Self::V => 0,
            Self::O => 1,
            Self::Gate | Self::Up => 2,
            Self::Down => 3,
        }
    }

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

    /// Whether it belongs to attention and not to the MLP.
    pub fn in_attention(self) -> bool {
        matches!(self, Self::Q | Self::K | Self::V | Self::O)
    }

    /// Its rows in the stacked weights of its group.
    pub fn rows(self, config: &Config) -> Range<u32> {
        let outputs = |p: &Self| p.shape(config).1 as u32;
        let group = Self::GROUPS[self.group()].iter();
        let first = group.take_while(|p| **p != self).map(outputs).sum();
        first..first + outputs(&self)
    }

    /// Number of inputs and of outputs.
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

/// Configuration of an adapter.
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
    /// Seed of A's initial values.
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

    /// s, the scale.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        if self.rslora { self.alpha / rank.sqrt() } else { self.alpha / rank }
    }

    /// The rank that the device computes with: padded with zeros to a multiple of 4.
    pub fn padded_rank(&self) -> u32 {
        self.rank.next_multiple_of(4)
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// A description of what is out of range.
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

/// Offsets of the two factors of one projection, in values from the start of the flat buffer.
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

/// Targets that share one input and whose factors are adjacent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// The targets, in order.
    pub targets: Vec<(Projection, Slot)>,
    /// Their first column in z.
    pub z_first: u32,
    /// Range of all A, `(targets · R, in)`.
    pub a: Range<usize>,
    /// Range of all B, `(sum of out, R)`.
    pub b: Range<usize>,
}

/// The layout of the flat buffers: a pure function of configuration and model.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraLayout {
    /// The adapter's configuration.
    pub config: LoraConfig,
    slots: Vec<BTreeMap<Projection, Slot>>,
    /// Number of values in a flat buffer.
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
        let mut len = 0usize;
        // Sizes come from a file, and `usize` may have 32 bits.
        let mut take = |width: usize| {
            let at = len;
            let count = rank.checked_mul(width)?.checked_next_multiple_of(ALIGN)?;
            len = at.checked_add(count).filter(|len| len.checked_mul(4).is_some())?;
            Some(at)
        };
        let mut slots = Vec::with_capacity(model.layers.len());
        for _ in &model.layers {
            let mut layer = BTreeMap::new();
            for group in Projection::GROUPS {
                let targets: Vec<_> = group.iter().filter(|p| config.targets.contains(p)).collect();
                let shapes = targets.iter().map(|p| p.shape(model));
                let a: Option<Vec<_>> = shapes.clone().map(|(inputs, _)| take(inputs)).collect();
                let b: Option<Vec<_>> = shapes.clone().map(|(_, outputs)| take(outputs)).collect();
                let (Some(a), Some(b)) = (a, b) else {
                    return Err(ModelError::Memory(format!(
                        "a LoRA adapter of rank {} on this model has more numbers than this machine can \
                         address: lower the rank or adapt fewer projections",
                        config.rank
                    )));
                };
                for (i, ((inputs, outputs), projection)) in shapes.zip(&targets).enumerate() {
                    layer.insert(**projection, Slot { a: a[i], b: b[i], inputs, outputs });
                }
            }
            slots.push(layer);
        }
        Ok(Self { config: config.clone(), slots, len })
    }

    /// Splits the values into slabs of at most `max_binding` bytes, at the boundary of a factor. A
    /// factor that is larger than that gets its own slab, which no device will allocate.
    pub(crate) fn slabs(&self, max_binding: u64) -> Vec<Range<usize>> {
        let most = usize::try_from(max_binding / 4).unwrap_or(usize::MAX);
        let starts = self.slots().flat_map(|(_, _, slot)| [slot.a, slot.b]);
        let mut ends: Vec<usize> = starts.filter(|start| *start > 0).collect();
        ends.sort_unstable();
        ends.push(self.len);
        let (mut slabs, mut start, mut end) = (Vec::new(), 0, 0);
        for factor_end in ends {
            if end > start && factor_end - start > most {
                slabs.push(start..end);
                start = end;
            }
            end = factor_end;
        }
        slabs.push(start..end);
        slabs
    }

    /// The factors of a projection, if the adapter has any for it.
    pub fn slot(&self, layer: usize, projection: Projection) -> Option<Slot> {
        self.slots.get(layer)?.get(&projection).copied()
    }

    /// All slots, layer by layer.
    pub fn slots(&self) -> impl Iterator<Item = (usize, Projection, Slot)> {
        self.slots.iter().enumerate().flat_map(|(l, map)| map.iter().map(move |(&p, &s)| (l, p, s)))
    }

    /// Columns of z: R for each target.
    pub(crate) fn z_stride(&self) -> u32 {
        let targets = Projection::ALL.iter().filter(|p| self.config.targets.contains(p));
        targets.count() as u32 * self.config.padded_rank()
    }

    /// First column of a projection in z.
    fn z_first(&self, projection: Projection) -> u32 {
        let before = Projection::ALL.iter().take_while(|p| **p != projection);
        before.filter(|p| self.config.targets.contains(p)).count() as u32
            * self.config.padded_rank()
    }

    /// Ranges of A and of B of a target.
    fn ranges(&self, slot: Slot) -> [Range<usize>; 2] {
        let rank = self.config.padded_rank() as usize;
        [slot.a..slot.a + rank * slot.inputs, slot.b..slot.b + rank * slot.outputs]
    }

    /// The targets of a group, as runs whose factors are adjacent and may be bound together, which
    /// `bound` decides for a range of values; one target per run unless `together`.
    pub(crate) fn runs(
        &self,
        layer: usize,
        group: usize,
        together: bool,
        bound: impl Fn(&Range<usize>) -> bool,
    ) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let targets =
            Projection::GROUPS[group].iter().filter_map(|&p| Some((p, self.slot(layer, p)?)));
        for (projection, slot) in targets {
            let [a, b] = self.ranges(slot);
            if let Some(run) = runs.last_mut().filter(|_| together) {
                let (longer_a, longer_b) = (run.a.start..a.end, run.b.start..b.end);
                let adjacent = run.a.end == a.start && run.b.end == b.start;
                if adjacent && bound(&longer_a) && bound(&longer_b) {
                    run.targets.push((projection, slot));
                    (run.a, run.b) = (longer_a, longer_b);
                    continue;
                }
            }
            let z_first = self.z_first(projection);
            runs.push(Run { targets: vec![(projection, slot)], z_first, a, b });
        }
        runs
    }

    /// Number of trainable parameters, without padding.
    pub fn parameters(&self) -> usize {
        let rank = self.config.rank as usize;
        self.slots().map(|(_, _, s)| rank * (s.inputs + s.outputs)).sum()
    }

    /// The lowest layer that has a factor: below it no gradient is needed.
    pub fn lowest_layer(&self) -> usize {
        self.slots().next().map_or(0, |(layer, _, _)| layer)
    }

    /// Values at the start of training: A uniform in ±1/√in (what
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

    /// The factors of a projection from the flat values, without padding: A is `(r, in)`, B
    /// `(out, r)`.
    pub fn factors(&self, flat: &[f32], slot: Slot) -> (Vec<f32>, Vec<f32>) {
        let (rank, padded) = (self.config.rank as usize, self.config.padded_rank() as usize);
        let a = flat[slot.a..slot.a + rank * slot.inputs].to_vec();
        let b = &flat[slot.b..slot.b + slot.outputs * padded];
        (a, b.chunks_exact(padded).flat_map(|row| row[..rank].iter().copied()).collect())
    }

    /// Writes a factor pair into the flat values; the padding stays zero.
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
    /// Where the factors are stored.
    pub layout: LoraLayout,
    /// The flat parameters.
    pub params: Flat,
    /// Distinguishes adapters: a cache filled with one cannot be used with another. 0 is the model
    /// without an adapter.
    pub id: u64,
}

impl Lora {
    /// Uploads an adapter.
    ///
    /// # Errors
    /// Out of device memory.
    pub fn new(gpu: &Gpu, layout: LoraLayout, flat: &[f32]) -> Result<Self, ModelError> {
        let params = Flat::new(gpu, "lora", &layout)?;
        params.write(gpu, flat);
        Ok(Self::from_params(layout, params))
    }

    /// An adapter whose parameters are already on the device.
    pub(crate) fn from_params(layout: LoraLayout, params: Flat) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { layout, params, id: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// The targets of a group, combined into few products: see [`LoraLayout::runs`].
    pub(crate) fn runs(&self, layer: usize, group: usize, together: bool) -> Vec<Run> {
        self.layout.runs(layer, group, together, |range| self.params.holds(range))
    }

    /// All A of a run as a weight matrix, `(targets · R, in)`.
    pub(crate) fn a(&self, run: &Run) -> Matrix {
        let inputs = run.targets[0].1.inputs;
        let rows = run.a.len() / inputs;
        matrix(self.params.slice(run.a.start, run.a.len()), rows as u32, inputs as u32)
    }

    /// All B of a run, `(sum of out, R)`.
    pub(crate) fn b(&self, run: &Run) -> Slice {
        self.params.slice(run.b.start, run.b.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_hold_whole_factors_and_fit() {
        let model =
            Config::from_json(include_str!("../tests/fixtures/configs/tiny_gemma3.json")).unwrap();
        for rank in [1, 8, 32] {
            let config = LoraConfig { rank, ..LoraConfig::all_seven() };
            let layout = LoraLayout::new(&config, &model).unwrap();
            assert_eq!(layout.slabs(u64::MAX).len(), 1);
            let largest = 4 * (config.padded_rank() as usize * 128) as u64;
            for limit in [largest, largest + 256, 3 * largest, 4 * layout.len as u64 - 4] {
                let slabs = layout.slabs(limit);
                assert!(slabs.len() > 1 && slabs[0].start == 0);
                assert!(slabs.iter().all(|s| !s.is_empty() && 4 * s.len() as u64 <= limit));
                assert!(slabs.windows(2).all(|w| w[0].end == w[1].start));
                assert_eq!(slabs.last().unwrap().end, layout.len);
                for (_, _, slot) in layout.slots() {
                    let padded = config.padded_rank() as usize;
                    for (at, len) in
                        [(slot.a, padded * slot.inputs), (slot.b, padded * slot.outputs)]
                    {
                        assert!(slabs.iter().any(|s| s.start <= at && at + len <= s.end));
                    }
                }
            }
        }
    }

    #[test]
    fn sizes_that_no_machine_can_count_are_refused() {
        let json = include_str!("../tests/fixtures/configs/tiny_gemma3.json");
        let mut model = Config::from_json(json).unwrap();
        model.intermediate = usize::MAX / 16;
        let config = LoraConfig { rank: 256, ..LoraConfig::all_seven() };
        let refused = LoraLayout::new(&config, &model).unwrap_err().to_string();
        assert!(refused.contains("rank 256") && refused.contains("lower the rank"), "{refused}");
    }
}
