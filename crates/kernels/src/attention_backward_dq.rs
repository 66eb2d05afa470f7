//! Gradient of attention's queries: `dQ = dS · K`; and `Σ dO · O` of every row (a token and a head), which the
//! gradient of keys and values needs too.
//!
//! Source: Dao 2023, "FlashAttention-2", algorithm 2, with the derivative of the soft-cap.

use hearth_gpu::{Commands, Slice};

use crate::{
    attention::{self, Params, Shape, TokenMeta, dot, scores},
    grid::grid,
    shader::kernel,
    variants::Variants,
};

kernel!(
    "attention_backward_dq",
    ["shared/attention"],
    [Params, Read, Read, Read, Read, Read, Read, Write, Write]
);

/// Operands of [`record`]. Nothing is cached in training, so the keys are those of the T tokens.
pub struct AttentionBackwardDq<'a> {
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
    /// Attention's output, `(T, H, D)`.
    pub o: &'a Slice,
    /// Pairs `(T, H)`: the log-sum-exp, from forward, and `Σ dO · O`, which is written.
    pub rows: &'a Slice,
    /// Output, `(T, H, D)`.
    pub d_q: &'a Slice,
}

/// Records `d_q =`, and the second number of every row.
pub fn record(commands: &mut Commands, variants: &Variants, op: &AttentionBackwardDq) {
    let shape = &op.shape;
    let slices = variants.attention_slices();
    let workgroup = shape.workgroup(slices);
    let heads = shape.heads_together();
    commands
        .dispatch(
            &KERNEL,
            &[("WG", workgroup), ("SLICES", slices), ("HEADS", heads)],
            &shape.params(),
            &[op.q, op.k, op.v, op.tokens_meta, op.d_o, op.o, op.rows, op.d_q].map(Slice::clone),
            grid(shape.tokens * (shape.heads / heads)),
            shape.cost(3) + 2 * u64::from(shape.tokens * shape.heads * shape.head_dim),
        )
        .split(Params::split((0, 0)))
        .serial(shape.turns(shape.pairs.longest, slices, heads) + workgroup.ilog2());
}

/// `Σ dO · O` on the CPU in f64, `(T, H)`; `o` and `d_o` are `(T, H, D)`.
fn row_dots(o: &[f64], d_o: &[f64], head_dim: u32) -> Vec<f64> {
    let heads = |x| <[f64]>::chunks_exact(x, head_dim as usize);
    heads(o).zip(heads(d_o)).map(|(o, d_o)| dot(o, d_o)).collect()
}

/// One token and head with one key that it attends to.
pub(crate) struct Pair {
    /// Where its query (and output) starts.
    pub(crate) query: usize,
    /// Where its key (and value) starts.
    pub(crate) key: usize,
    /// P.
    pub(crate) weight: f64,
    /// dS, scale and soft-cap included: the gradient with respect to q · k.
    pub(crate) d_score: f64,
}

/// All visible pairs on the CPU in f64, in order of tokens, heads and keys. Shapes are those of
/// [`AttentionBackwardDq`].
pub(crate) fn pairs(
    shape: &Shape,
    meta: &[TokenMeta],
    q: &[f64],
    k: &[f64],
    v: &[f64],
    d_o: &[f64],
) -> Vec<Pair> {
    let (o, lse) = attention::reference(shape, meta, q, k, v);
    let d_o_o = row_dots(&o, d_o, shape.head_dim);
    let [heads, kv_heads, d] = [shape.heads, shape.kv_heads, shape.head_dim].map(|n| n as usize);
    let (scale, cap) = (f64::from(shape.scale), f64::from(shape.softcap));
    let mut pairs = Vec::new();
    for row in 0..meta.len() * heads {
        let (t, h) = (row / heads, row % heads);
        for (j, s) in scores(shape, meta, q, k, t, h).into_iter().enumerate() {
            let Some(s) = s else { continue };
            let (query, key) = (row * d, (j * kv_heads + h / (heads / kv_heads)) * d);
            let weight = (s - lse[row]).exp();
            let d_weight = dot(&d_o[query..][..d], &v[key..][..d]);
            let d_cap = if cap > 0.0 { 1.0 - (s / cap).powi(2) } else { 1.0 };
            let d_score = weight * (d_weight - d_o_o[row]) * d_cap * scale;
            pairs.push(Pair { query, key, weight, d_score });
        }
    }
    pairs
}

/// The same on the CPU in f64, from q, k, v and d_o alone: d_q, `(T, H, D)`.
pub fn reference(
    shape: &Shape,
    meta: &[TokenMeta],
    q: &[f64],
    k: &[f64],
    v: &[f64],
    d_o: &[f64],
) -> Vec<f64> {
    let d = shape.head_dim as usize;
    let mut d_q = vec![0.0; q.len()];
    for pair in pairs(shape, meta, q, k, v, d_o) {
        let key = &k[pair.key..][..d];
        d_q[pair.query..][..d].iter_mut().zip(key).for_each(|(d_q, k)| *d_q += pair.d_score * k);
    }
    d_q
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attention::tests::{Case, gradient_cases, small_cases, tree},
        testing::{assert_close, finite_difference, for_each_profile, gpu_test, wide},
    };

    gpu_test! {
        async fn attention_backward_dq_of_awkward_shapes() {
            for case in gradient_cases() {
                let [q, k, v, d_o] = case.wide();
                let want = reference(&case.shape, &case.meta, &q, &k, &v, &d_o);
                for_each_profile(async |gpu| {
                    let [d_q, ..] = case.gradients(&gpu).await;
                    assert_close(&d_q, &want, 1e-5);
                    assert_eq!(d_q, case.gradients(&gpu).await[0]);
                })
                .await;
            }
        }

        async fn attention_backward_dq_equals_its_rows_one_by_one() {
            let (prefix, rows) = (21, [8, 1, 40, 3]);
            let case = Case::new(tree(prefix, &rows, false), 0, [4, 1, 32]).window(16);
            let width = (case.shape.heads * case.shape.head_dim) as usize;
            for_each_profile(async |gpu| {
                let [packed, ..] = case.gradients(&gpu).await;
                let mut start = prefix;
                for row in rows {
                    let [alone, ..] = case.alone(prefix, start..start + row).gradients(&gpu).await;
                    let want = wide(&alone[prefix as usize * width..]);
                    assert_close(&packed[start as usize * width..][..want.len()], &want, 1e-6);
                    start += row;
                }
            })
            .await;
        }
    }

    // Scores and weights are of order one, so third derivatives are at most of order ten and the
    // difference is accurate to 1e-9; 1e-7 leaves room for the sums.
    #[test]
    fn reference_agrees_with_finite_differences() {
        for case in small_cases() {
            let [q, k, v, d_o] = case.wide();
            let d_q = reference(&case.shape, &case.meta, &q, &k, &v, &d_o);
            let loss =
                |q: &[f64]| dot(&attention::reference(&case.shape, &case.meta, q, &k, &v).0, &d_o);
            for (a, b) in d_q.iter().zip(finite_difference(&q, loss)) {
                assert!((a - b).abs() < 1e-7, "{a} {b}");
            }
        }
    }
}
