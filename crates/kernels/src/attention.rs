//! `o = softmax(score(q · kᵀ)) · v` over the keys that each token attends to, without a `T × S` matrix.
//!
//! Source: Dao et al. 2022, "FlashAttention", for the sums rescaled tile by tile; Gemma's attention
//! (google/gemma_pytorch, `model.py`) for the scale, soft-capping `cap · tanh(s / cap)` and windows.
//!
//! A batch is a packed tree: the keys before it are a prefix that its rows share. `tokens_meta[t]` says
//! which keys token t attends to: see [`TokenMeta`].

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice, Split};

use crate::{grid::grid, shader::kernel, variants::Variants};

kernel!("attention", ["shared/attention"], [Params, Read, Read, Read, Read, Write, Write]);

/// What the kernels know about token t. Its own key has index `cached + t`. It attends to key j if `j < prefix_end` or
/// `own_start <= j <= cached + t`, and if the key is within the window.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TokenMeta {
    /// For RoPE and windows. Key j of the prefix is at position j.
    pub position: u32,
    /// Keys of the prefix; 0 for the prefix's own tokens.
    pub prefix_end: u32,
    /// Key index at which the token's own row (or the prefix it is part of) starts.
    pub own_start: u32,
    /// Key index after the last token that attends to this token's key: the end of its row, or of the
    /// whole batch for the prefix. Used by backward only.
    pub seen_until: u32,
}

/// Sizes and constants of one attention layer, forward and backward.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    /// T.
    pub tokens: u32,
    /// H, a multiple of G.
    pub heads: u32,
    /// G.
    pub kv_heads: u32,
    /// D, a multiple of 4, at most 256.
    pub head_dim: u32,
    /// Keys before the first token's own key; 0 in training.
    pub cached: u32,
    /// A token attends to keys less than this many positions back; 0: all.
    pub window: u32,
    /// Factor on q · k.
    pub scale: f32,
    /// Bound of the scores; 0: none.
    pub softcap: f32,
    /// What [`visible_pairs`] counts; submissions are sized by it.
    pub pairs: Pairs,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Params {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    width4: u32,
    cached: u32,
    window: u32,
    scale: f32,
    softcap: f32,
    first_group: u32,
    parts: u32,
    split_keys: u32,
    part_rows: u32,
}

impl Params {
    /// With the rows of the first keys divided into parts: see [`crate::attention_backward_dkv`].
    pub(crate) fn in_parts(self, parts: u32, split_keys: u32, part_rows: u32) -> Self {
        Self { parts, split_keys, part_rows, ..self }
    }

    /// How launches are split; the first workgroups may take more than their share.
    pub(crate) fn split(front: (u32, u64)) -> Split {
        Split::Line { field: offset_of!(Self, first_group), front }
    }
}

impl Shape {
    pub(crate) fn params(&self) -> Params {
        Params {
            tokens: self.tokens,
            heads: self.heads,
            kv_heads: self.kv_heads,
            width4: self.head_dim / 4,
            cached: self.cached,
            window: self.window,
            scale: self.scale,
            softcap: self.softcap,
            first_group: 0,
            parts: 1,
            split_keys: 0,
            part_rows: 0,
        }
    }

    /// Invocations that own four of the D results each.
    fn owners(&self) -> u32 {
        (self.head_dim / 4).next_power_of_two().clamp(16, 64)
    }

    /// Invocations per workgroup: all owners, once per slice.
    pub(crate) fn workgroup(&self, slices: u32) -> u32 {
        self.owners() * slices
    }

    /// Heads per workgroup: those that share a key head read each key once.
    pub(crate) fn heads_together(&self) -> u32 {
        match self.heads / self.kv_heads {
            n if n.is_multiple_of(4) => 4,
            n if n.is_multiple_of(2) => 2,
            _ => 1,
        }
    }

    /// Loop iterations of an invocation of a workgroup that visits this many keys or rows: it computes one score per
    /// tile, then visits one of `slices` scores. At the end, `sums` results are added over the slices.
    pub(crate) fn turns(&self, visited: u32, slices: u32, sums: u32) -> u32 {
        let tiles = visited.div_ceil(self.workgroup(slices));
        let added = if slices > 1 { sums * slices } else { 0 };
        tiles * (self.head_dim / 4) + visited.div_ceil(slices) + added
    }

    /// Operations of a kernel that computes `dots` products of length D for each pair and head.
    pub(crate) fn cost(&self, dots: u64) -> u64 {
        self.cost_of(self.pairs.all, dots)
    }

    /// The same for some of the pairs.
    pub(crate) fn cost_of(&self, pairs: u64, dots: u64) -> u64 {
        2 * dots * pairs * u64::from(self.heads) * u64::from(self.head_dim)
    }

    /// Whether token `t` sees key `j`.
    fn sees(&self, meta: &[TokenMeta], t: usize, j: usize) -> bool {
        let (m, own) = (meta[t], self.cached as usize + t);
        let in_prefix = j < m.prefix_end as usize;
        let back = if in_prefix { m.position as usize - j } else { own.wrapping_sub(j) };
        let within = self.window == 0 || back < self.window as usize;
        (in_prefix || (m.own_start as usize <= j && j <= own)) && within
    }
}

/// Numbers of (token, key) pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// Pairs in which the token sees the key.
    pub all: u64,
    /// Tokens of the batch that form its shared prefix; 0 if the prefix is cached.
    pub prefix_keys: u32,
    /// The largest number of keys that one token sees.
    pub longest: u32,
    /// Tokens of the longest row, without the prefix.
    pub longest_row: u32,
    /// Pairs whose key is one of `prefix_keys`: every row of the batch sees these, so they are most of the work.
    pub of_prefix: u64,
}

/// Counts the pairs of a batch.
pub fn visible_pairs(meta: &[TokenMeta], cached: u32, window: u32) -> Pairs {
    let window = if window == 0 { u32::MAX } else { window };
    let prefix_keys = match cached {
        0 => meta.iter().map(|m| m.prefix_end).max().unwrap_or(0),
        _ => 0,
    };
    let mut pairs = Pairs { prefix_keys, ..Pairs::default() };
    for (own, m) in (cached..).zip(meta) {
        let prefix = m.prefix_end - m.prefix_end.min((m.position + 1).saturating_sub(window));
        let row = (own + 1 - m.own_start).min(window);
        pairs.all += u64::from(prefix) + u64::from(row);
        if own >= prefix_keys {
            pairs.longest_row = pairs.longest_row.max(own + 1 - m.own_start);
        }
        pairs.longest = pairs.longest.max(prefix + row);
        if cached == 0 {
            pairs.of_prefix += u64::from(if own < prefix_keys { row } else { prefix });
        }
    }
    pairs
}

/// Operands of [`record`]. Buffers may be larger than their shapes.
pub struct Attention<'a> {
    /// Sizes and constants.
    pub shape: Shape,
    /// Queries, `(T, H, D)`.
    pub q: &'a Slice,
    /// Keys, `(S, G, D)`, S = cached + T.
    pub k: &'a Slice,
    /// Values, `(S, G, D)`.
    pub v: &'a Slice,
    /// [`TokenMeta`] of each token, `(T)`.
    pub tokens_meta: &'a Slice,
    /// Output, `(T, H, D)`.
    pub o: &'a Slice,
    /// Output, pairs `(T, H)`: the natural log of the sum of exponentials of the scores, and the place in which
    /// backward keeps a number of its own.
    pub rows: &'a Slice,
}

/// Records `o =` and `rows =`.
pub fn record(commands: &mut Commands, variants: &Variants, op: &Attention) {
    let shape = &op.shape;
    let slices = variants.attention_slices();
    let workgroup = shape.workgroup(slices);
    // The maximum of a tile's scores.
    let maximum = match slices {
        1 => shape.pairs.longest,
        _ => shape.pairs.longest.div_ceil(workgroup) * workgroup.ilog2(),
    };
    let heads = shape.heads_together();
    commands
        .dispatch(
            &KERNEL,
            &[("WG", workgroup), ("SLICES", slices), ("HEADS", heads)],
            &shape.params(),
            &[op.q, op.k, op.v, op.tokens_meta, op.o, op.rows].map(Slice::clone),
            grid(shape.tokens * (shape.heads / heads)),
            shape.cost(2),
        )
        .split(Params::split((0, 0)))
        .serial(shape.turns(shape.pairs.longest, slices, heads + 1) + maximum);
}

/// Scores of one token and head against every key, in f64; `None` where it does not attend to the key.
pub(crate) fn scores(
    shape: &Shape,
    meta: &[TokenMeta],
    q: &[f64],
    k: &[f64],
    t: usize,
    h: usize,
) -> Vec<Option<f64>> {
    let [heads, kv_heads, d] = [shape.heads, shape.kv_heads, shape.head_dim].map(|n| n as usize);
    let g = h / (heads / kv_heads);
    let (scale, cap) = (f64::from(shape.scale), f64::from(shape.softcap));
    let query = &q[(t * heads + h) * d..][..d];
    (0..shape.cached as usize + meta.len())
        .map(|j| {
            let key = &k[(j * kv_heads + g) * d..][..d];
            let s = scale * dot(query, key);
            let s = if cap > 0.0 { cap * (s / cap).tanh() } else { s };
            shape.sees(meta, t, j).then_some(s)
        })
        .collect()
}

/// Σ a · b.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The same on the CPU in f64: o, `(T, H, D)`, and lse, `(T, H)`.
pub fn reference(
    shape: &Shape,
    meta: &[TokenMeta],
    q: &[f64],
    k: &[f64],
    v: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let [heads, kv_heads, d] = [shape.heads, shape.kv_heads, shape.head_dim].map(|n| n as usize);
    let mut o = vec![0.0; q.len()];
    let mut lse = Vec::new();
    for t in 0..meta.len() {
        for h in 0..heads {
            let s = scores(shape, meta, q, k, t, h);
            let maximum = s.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = s.iter().flatten().map(|s| (s - maximum).exp()).sum();
            let total = maximum + sum.ln();
            lse.push(total);
            let out = &mut o[(t * heads + h) * d..][..d];
            for (j, s) in s.iter().enumerate() {
                let Some(s) = s else { continue };
                let value = &v[(j * kv_heads + h / (heads / kv_heads)) * d..][..d];
                out.iter_mut().zip(value).for_each(|(o, v)| *o += (s - total).exp() * v);
            }
        }
    }
    (o, lse)
}

#[cfg(test)]
pub(crate) mod tests;
