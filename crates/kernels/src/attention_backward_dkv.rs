//! Gradients of attention's keys and values: `dV = Pᵀ · dO`, `dK = dSᵀ · Q`. A prefix key sums over every row of the
//! batch. On a GPU, the rows of these keys are divided into parts that do not depend on the device, and
//! [`crate::qk_norm_rope`] adds the parts' sums in order.
//!
//! Source: Dao 2023, "FlashAttention-2", algorithm 2, with the derivative of the soft-cap.

use hearth_gpu::{Commands, Slice};

use crate::{
    attention::{Params, Shape, TokenMeta},
    attention_backward_dq::pairs,
    grid::grid,
    shader::kernel,
    variants::Variants,
};

kernel!(
    "attention_backward_dkv",
    ["shared/attention"],
    [Params, Read, Read, Read, Read, Read, Read, Write, Write]
);

/// Operands of [`record`]. Nothing is cached in training, so the keys are those of the T tokens.
pub struct AttentionBackwardDkv<'a> {
    /// Sizes and constants.
    pub shape: Shape,
    /// Queries, `(T, H, D)`.
    pub q: &'a Slice,
    /// Keys, `(T, G, D)`.
    pub k: &'a Slice,
    /// Values, `(T, G, D)`.
    pub v: &'a Slice,
    /// As in forward, `(T)`.
    pub tokens_meta: &'a Slice,
    /// Gradient of the output, `(T, H, D)`.
    pub d_o: &'a Slice,
    /// From [`attention_backward_dq`](crate::attention_backward_dq), pairs `(T, H)`.
    pub rows: &'a Slice,
    /// Output, `(T, G, D)`, and behind it what [`RowParts`] says.
    pub d_k: &'a Slice,
    /// How the rows of the first keys are divided.
    pub parts: RowParts,
    /// Output, the last G·D columns of `(T, (H + 2G)·D)`: as the matmul that computes queries, keys and values lays
    /// them out.
    pub d_qkv: &'a Slice,
}

/// Keys per workgroup.
const KEYS: u32 = 4;
/// Rows of a part, at least: what a workgroup visits in one tile.
const PART_ROWS: u32 = 256;

/// How the rows of the prefix' keys are divided, each part with sums of its own. Those of the first go where other keys'
/// sums go, those of the others behind the T rows of `d_k`: `(count - 1, keys, 2, G, D)`, keys' gradients and values'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowParts {
    /// How many; 1: they are not divided.
    pub count: u32,
    /// The keys at the beginning whose rows are divided: the prefix, and what shares a workgroup with it.
    pub keys: u32,
    /// Rows (a token and one of the heads that share a key head) of a part.
    rows: u32,
}

impl RowParts {
    /// Not divided.
    pub const WHOLE: Self = Self { count: 1, keys: 0, rows: 0 };

    #[cfg(test)]
    pub(crate) fn new(count: u32, keys: u32) -> Self {
        Self { count, keys, rows: 0 }
    }

    /// Rows of `d_k` behind those of the tokens.
    #[cfg(test)]
    pub(crate) fn others(self) -> usize {
        (2 * (self.count - 1) * self.keys) as usize
    }

    /// Adds what lies behind the tokens' rows of `d_k` to the gradients of the keys and values, in order; a row has `width`
    /// elements.
    #[cfg(test)]
    pub(crate) fn add(self, others: &[f32], width: usize, [d_k, d_v]: [&mut [f32]; 2]) {
        for (i, pair) in others.chunks_exact(2 * width).take(self.others() / 2).enumerate() {
            let key = i % self.keys as usize;
            for (sums, part) in [&mut *d_k, &mut *d_v].into_iter().zip(pair.chunks_exact(width)) {
                // the workgroup of the last key may reach beyond the tokens
                let sums = sums.chunks_exact_mut(width).nth(key).into_iter().flatten();
                sums.zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
    }

    /// On a GPU, one workgroup per key would visit all rows of the batch while others have nothing left to do.
    pub fn of(variants: &Variants, shape: &Shape) -> Self {
        let keys = shape.pairs.prefix_keys.next_multiple_of(KEYS);
        let rows = shape.tokens * (shape.heads / shape.kv_heads);
        if variants.software || keys == 0 {
            return Self::WHOLE;
        }
        // No more than `MOST_ROWS` allows.
        let count = rows.div_ceil(PART_ROWS).min(1 + shape.tokens / keys);
        match count {
            0 | 1 => Self::WHOLE,
            _ => {
                let of_part = rows.div_ceil(count).next_multiple_of(PART_ROWS);
                Self { count: rows.div_ceil(of_part), keys, rows: of_part }
            }
        }
    }
}

/// Rows of `d_k` for each token, with those of the parts: the keys of all parts but one, twice, are at most twice the
/// tokens.
pub const MOST_ROWS: usize = 3;

/// Records `d_k =` and the values' columns of `d_qkv =`.
pub fn record(commands: &mut Commands, variants: &Variants, op: &AttentionBackwardDkv) {
    let shape = &op.shape;
    let slices = variants.attention_slices();
    let RowParts { count: parts, keys, rows } = op.parts;
    let front = shape.pairs.prefix_keys.div_ceil(KEYS) * shape.kv_heads;
    let params = shape.params().in_parts(parts, keys, rows);
    let heads = shape.heads / shape.kv_heads;
    // A key of a row is seen by the tokens of that row at most.
    let visited = match parts {
        1 => shape.tokens * heads,
        _ => rows.max((shape.pairs.longest_row + KEYS) * heads),
    };
    commands
        .dispatch(
            &KERNEL,
            &[("WG", shape.workgroup(slices)), ("SLICES", slices), ("KEYS", KEYS)],
            &params,
            &[op.q, op.k, op.v, op.tokens_meta, op.d_o, op.rows, op.d_k, op.d_qkv]
                .map(Slice::clone),
            grid(shape.tokens.div_ceil(KEYS) * shape.kv_heads + (parts - 1) * front),
            shape.cost(4),
        )
        .split(Params::split((parts * front, shape.cost_of(shape.pairs.of_prefix, 4))))
        .serial(shape.turns(visited, slices, 2 * KEYS));
}

/// The same on the CPU in f64, from q, k, v and d_o alone: d_k and d_v, `(T, G, D)`.
pub fn reference(
    shape: &Shape,
    meta: &[TokenMeta],
    q: &[f64],
    k: &[f64],
    v: &[f64],
    d_o: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let d = shape.head_dim as usize;
    let (mut d_k, mut d_v) = (vec![0.0; k.len()], vec![0.0; v.len()]);
    for pair in pairs(shape, meta, q, k, v, d_o) {
        for i in 0..d {
            d_k[pair.key + i] += pair.d_score * q[pair.query + i];
            d_v[pair.key + i] += pair.weight * d_o[pair.query + i];
        }
    }
    (d_k, d_v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attention::{
            self, dot,
            tests::{Case, gradient_cases, small_cases, tree},
        },
        testing::{assert_close, finite_difference, for_each_profile, gpu_test, wide},
    };

    gpu_test! {
        async fn attention_backward_dkv_of_awkward_shapes() {
            for case in gradient_cases() {
                let [q, k, v, d_o] = case.wide();
                let (want_k, want_v) = reference(&case.shape, &case.meta, &q, &k, &v, &d_o);
                for_each_profile(async |gpu| {
                    let [_, d_k, d_v] = case.gradients(&gpu).await;
                    assert_close(&d_k, &want_k, 1e-5);
                    assert_close(&d_v, &want_v, 1e-5);
                    let [_, again_k, again_v] = case.gradients(&gpu).await;
                    assert!(d_k == again_k && d_v == again_v);
                })
                .await;
            }
        }

        /// The gradients of a row's keys equal those of the row alone; the prefix gets the sum over rows.
        async fn attention_backward_dkv_equals_its_rows_one_by_one() {
            let (prefix, rows) = (21, [8, 1, 40, 3]);
            for window in [0, 16] {
                let case = Case::new(tree(prefix, &rows, false), 0, [4, 1, 32]).window(window);
                let width = (case.shape.kv_heads * case.shape.head_dim) as usize;
                let split = prefix as usize * width;
                for_each_profile(async |gpu| {
                    let [_, packed @ ..] = case.gradients(&gpu).await;
                    let mut sums = [(); 2].map(|()| vec![0.0; split]);
                    let mut start = prefix;
                    for (n, row) in rows.into_iter().enumerate() {
                        let mut one = case.alone(prefix, start..start + row);
                        if n > 0 {
                            // The prefix's own outputs count once, not once per row.
                            one.d_o[..(prefix * case.shape.heads * case.shape.head_dim) as usize].fill(0.0);
                        }
                        let [_, alone @ ..] = one.gradients(&gpu).await;
                        for i in 0..2 {
                            let want = wide(&alone[i][split..]);
                            assert_close(&packed[i][start as usize * width..][..want.len()], &want, 1e-6);
                            sums[i].iter_mut().zip(&alone[i]).for_each(|(s, a)| *s += f64::from(*a));
                        }
                        start += row;
                    }
                    for i in 0..2 {
                        assert_close(&packed[i][..split], &sums[i], 1e-6);
                    }
                })
                .await;
            }
        }

        /// A token that attends only to itself does so with weight 1, whatever the score. The first case has more
        /// workgroups than one dimension of the grid holds.
        async fn attention_backward_of_tokens_that_see_only_themselves() {
            for case in [
                Case { software: true, ..Case::new(tree(0, &vec![1; 66_000], false), 0, [4, 4, 4]) },
                Case::new(tree(5, &[2], false), 0, [3, 3, 16]).window(1),
                Case::new(tree(0, &[1], false), 0, [1, 1, 4]),
            ] {
                for_each_profile(async |gpu| {
                    let [d_q, d_k, d_v] = case.gradients(&gpu).await;
                    assert_close(&d_v, &wide(&case.d_o), 1e-6);
                    assert!(d_q.iter().chain(&d_k).all(|d| d.abs() < 1e-5));
                })
                .await;
            }
        }
    }

    // As for attention_backward_dq.
    #[test]
    fn reference_agrees_with_finite_differences() {
        for case in small_cases() {
            let [q, k, v, d_o] = case.wide();
            let (d_k, d_v) = reference(&case.shape, &case.meta, &q, &k, &v, &d_o);
            let loss = |k: &[f64], v: &[f64]| {
                dot(&attention::reference(&case.shape, &case.meta, &q, k, v).0, &d_o)
            };
            let numeric_k = finite_difference(&k, |k| loss(k, &v));
            let numeric_v = finite_difference(&v, |v| loss(&k, v));
            for (a, b) in d_k.iter().chain(&d_v).zip(numeric_k.iter().chain(&numeric_v)) {
                assert!((a - b).abs() < 1e-7, "{a} {b}");
            }
        }
    }
}
