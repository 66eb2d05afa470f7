//! Norm and rotary position embedding of the heads of Q and K, fused: `y = rotate(x / sqrt(mean(x²) + eps) · gain)`,
//! or the rotation alone; and the gradient of both. The two halves of a head are rotated as pairs. Q, K and V come side by
//! side, as one matmul computes them, and are taken apart here.
//!
//! Source: `RMSNorm` and `apply_rotary_emb` of google/gemma_pytorch, `model.py` (Su et al. 2021, "RoFormer", §3.4, with
//! the two halves instead of adjacent pairs), and `Gemma3Attention` of huggingface/transformers for norms before the
//! rotation. The gradient of a rotation is the rotation by the negative angle.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice, Split};

use crate::{
    attention_backward_dkv::RowParts, grid::grid, rms_norm, rms_norm_backward, shader::kernel,
};

kernel!("qk_norm_rope", [], [Params, Read, Read, Read, Read, Read, Write, Write, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    pairs2: u32,
    eps: f32,
    first_group: u32,
    parts: u32,
    split_keys: u32,
}

/// Norms of the heads.
#[derive(Clone, Copy)]
pub struct HeadNorm<'a> {
    /// `1 + w` of the queries' norm, `(D)`.
    pub q_gain: &'a Slice,
    /// `1 + w` of the keys' norm, `(D)`.
    pub k_gain: &'a Slice,
    /// Added to the mean of squares.
    pub eps: f32,
}

/// Operands of [`record`].
pub struct QkNormRope<'a> {
    /// Norms before the rotation.
    pub norm: Option<HeadNorm<'a>>,
    /// Queries, keys and values before norm and rotation, `(T, H + 2G, D)`. Backward needs it for the norms only.
    pub qkv: &'a Slice,
    /// From [`table`], `(positions, D/2)` pairs; longer than any position in `tokens_meta`.
    pub angles: &'a Slice,
    /// [`TokenMeta`](crate::attention::TokenMeta) of each token, `(T)`; only the position is used here.
    pub tokens_meta: &'a Slice,
    /// Queries, `(T, H, D)`; backward their gradients.
    pub q: &'a Slice,
    /// Keys, `(T, G, D)`, likewise; the gradients of the first may come in parts.
    pub k: &'a Slice,
    /// T.
    pub tokens: u32,
    /// H.
    pub heads: u32,
    /// G.
    pub kv_heads: u32,
    /// D, a multiple of 4.
    pub head_dim: u32,
    /// Which way, and the third result.
    pub direction: Direction<'a>,
}

/// Whether the gradient is computed.
#[derive(Clone, Copy)]
pub enum Direction<'a> {
    /// No.
    Forward {
        /// Values, `(T, G, D)`.
        v: &'a Slice,
    },
    /// Yes.
    Backward {
        /// Gradients before norm and rotation, `(T, H + 2G, D)`. Those of the values are there already, in parts.
        d_qkv: &'a Slice,
        /// How the gradients of keys and values are divided.
        parts: RowParts,
    },
}

/// Records `q =`, `k =` and `v =`, or `d_qkv =`.
pub fn record(commands: &mut Commands, op: &QkNormRope) {
    let pairs2 = op.head_dim / 4;
    let wg = pairs2.next_power_of_two().clamp(4, 64);
    let (tokens, heads, kv_heads) = (op.tokens, op.heads, op.kv_heads);
    let eps = op.norm.map_or(0.0, |norm| norm.eps);
    // Without norms their bindings still need some buffer.
    let [q_gain, k_gain] = op.norm.map_or([op.angles; 2], |norm| [norm.q_gain, norm.k_gain]);
    let (backward, third, parts) = match op.direction {
        Direction::Forward { v } => (false, v, RowParts::WHOLE),
        Direction::Backward { d_qkv, parts } => (true, d_qkv, parts),
    };
    let params = Params {
        tokens,
        heads,
        kv_heads,
        pairs2,
        eps,
        first_group: 0,
        parts: parts.count,
        split_keys: parts.keys,
    };
    // Gradients of values are already where they belong, unless they come in parts.
    let values = if backward && parts.count == 1 { 0 } else { kv_heads };
    let rows = tokens * (heads + kv_heads + values);
    commands
        .dispatch(
            &KERNEL,
            &[("WG", wg), ("NORM", op.norm.is_some().into()), ("BACKWARD", backward.into())],
            &params,
            &[op.qkv, q_gain, k_gain, op.angles, op.tokens_meta, op.q, op.k, third]
                .map(Slice::clone),
            grid(rows),
            16 * u64::from(rows) * u64::from(op.head_dim),
        )
        .split(Split::Line { field: offset_of!(Params, first_group), front: (0, 0) })
        .serial(2 * pairs2.div_ceil(wg) * parts.count + wg.ilog2());
}

/// Cosines and sines of the angles, `(positions, head_dim / 2)`, computed in f64. Pair i at position
/// m is rotated by `m / linear_factor * theta^(-2 i / head_dim)`; `linear_factor` is 1 unless a model
/// stretches its positions (Gemma 3's larger models: 8 on global layers).
pub fn table(theta: f64, linear_factor: f64, head_dim: u32, positions: u32) -> Vec<[f32; 2]> {
    let frequencies: Vec<f64> = (0..head_dim / 2)
        .map(|i| theta.powf(-2.0 * f64::from(i) / f64::from(head_dim)) / linear_factor)
        .collect();
    (0..positions)
        .flat_map(|m| frequencies.iter().map(move |f| f64::from(m) * f))
        .map(|angle| [angle.cos() as f32, angle.sin() as f32])
        .collect()
}

/// The rotation on the CPU in f64. `x` is `(T, heads, D)`, `angles` as [`table`] makes them.
pub fn rotate(
    x: &[f64],
    angles: &[[f32; 2]],
    positions: &[u32],
    heads: usize,
    sign: f64,
) -> Vec<f64> {
    let head_dim = x.len() / (positions.len() * heads);
    let half = head_dim / 2;
    let mut y = x.to_vec();
    for (row, head) in y.chunks_exact_mut(head_dim).enumerate() {
        for i in 0..half {
            let [cos, sin] = angles[positions[row / heads] as usize * half + i].map(f64::from);
            let (low, high) = (head[i], head[i + half]);
            head[i] = low * cos - sign * high * sin;
            head[i + half] = high * cos + sign * low * sin;
        }
    }
    y
}

/// Norm and rotation on the CPU in f64; without a gain the rotation alone. `x` is `(T, heads, D)`.
pub fn reference(
    x: &[f64],
    gain: Option<(&[f64], f64)>,
    angles: &[[f32; 2]],
    positions: &[u32],
    heads: usize,
) -> Vec<f64> {
    let normed = gain.map(|(gain, eps)| rms_norm::reference(x, gain, eps));
    rotate(normed.as_deref().unwrap_or(x), angles, positions, heads, 1.0)
}

/// Its gradient; `d_y` is `(T, heads, D)`.
pub fn reference_backward(
    x: &[f64],
    d_y: &[f64],
    gain: Option<(&[f64], f64)>,
    angles: &[[f32; 2]],
    positions: &[u32],
    heads: usize,
) -> Vec<f64> {
    let d = rotate(d_y, angles, positions, heads, -1.0);
    match gain {
        Some((gain, eps)) => rms_norm_backward::reference(x, gain, &d, eps),
        None => d,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        Numbers, assert_close, finite_difference, for_each_profile, gpu_test, wide,
    };

    const POSITIONS: u32 = 50;

    async fn check(tokens: u32, dims: [u32; 3], norm: bool, backward: bool) {
        check_parts(tokens, dims, norm, backward, RowParts::WHOLE).await;
    }

    async fn check_parts(
        tokens: u32,
        [heads, kv_heads, head_dim]: [u32; 3],
        norm: bool,
        backward: bool,
        parts: RowParts,
    ) {
        for_each_profile(async |gpu| {
            let mut numbers = Numbers::new(tokens + head_dim);
            // Positions in arbitrary order, as in a packed tree.
            let positions: Vec<u32> = (0..tokens).map(|_| numbers.below(POSITIONS)).collect();
            let meta: Vec<[u32; 4]> = positions.iter().map(|&m| [m, 9, 9, 9]).collect();
            let angles = table(10_000.0, 1.0, head_dim, POSITIONS);
            let [angles_, meta_] = [
                gpu.buffer_from("test", &angles).unwrap().all(),
                gpu.buffer_from("test", &meta).unwrap().all(),
            ];
            let kinds = [heads, kv_heads, kv_heads];
            let [raw, held] =
                [0, 1].map(|_| kinds.map(|n| numbers.repeating((tokens * n * head_dim) as usize)));
            let gains = [0, 1].map(|_| numbers.normal(head_dim as usize, 1.0));
            let widths = kinds.map(|n| (n * head_dim) as usize);
            let stacked = |parts: &[Vec<f32>; 3]| -> Vec<f32> {
                let row = |t| {
                    let of_part = move |(part, w): (&Vec<f32>, usize)| part[t * w..][..w].to_vec();
                    parts.iter().zip(widths).flat_map(of_part).collect::<Vec<_>>()
                };
                (0..tokens as usize).flat_map(row).collect()
            };
            let buffer = |v: &[f32]| gpu.buffer_from("test", v).unwrap().all();
            let [qkv, q_gain, k_gain, q, k, v] =
                [&stacked(&raw), &gains[0], &gains[1], &held[0], &held[1], &held[2]]
                    .map(|v| buffer(v));
            // The gradients of the values, beside others that are overwritten.
            let d_qkv = buffer(&stacked(&held));
            // What is behind the gradients of the keys: the other parts of theirs and of the values'.
            let width = (kv_heads * head_dim) as usize;
            let others = numbers.normal(parts.others() * width, 1.0);
            let k = if others.is_empty() { k } else { buffer(&[&held[1][..], &others].concat()) };
            let mut whole = held.clone();
            let [_, d_k, d_v] = &mut whole;
            parts.add(&others, width, [d_k, d_v]);
            let direction = match backward {
                true => Direction::Backward { d_qkv: &d_qkv, parts },
                false => Direction::Forward { v: &v },
            };
            let op = QkNormRope {
                norm: norm.then_some(HeadNorm { q_gain: &q_gain, k_gain: &k_gain, eps: 1e-6 }),
                qkv: &qkv,
                angles: &angles_,
                tokens_meta: &meta_,
                q: &q,
                k: &k,
                tokens,
                heads,
                kv_heads,
                head_dim,
                direction,
            };
            let mut commands = Commands::new();
            record(&mut commands, &op);
            gpu.run(&commands).await.unwrap();
            let want = [0, 1].map(|i| {
                let gain = wide(&gains[i]);
                let gain = norm.then_some((&gain[..], 1e-6));
                let (x, n) = (wide(&raw[i]), kinds[i] as usize);
                match backward {
                    true => reference_backward(&x, &wide(&whole[i]), gain, &angles, &positions, n),
                    false => reference(&x, gain, &angles, &positions, n),
                }
            });
            let got: [Vec<f32>; 3] = match backward {
                true => {
                    let all: Vec<f32> = gpu.read(d_qkv).await.unwrap();
                    let firsts = [0, widths[0], widths[0] + widths[1]];
                    let width = widths.iter().sum();
                    std::array::from_fn(|i| {
                        let rows = all.chunks_exact(width);
                        rows.flat_map(|row| row[firsts[i]..][..widths[i]].to_vec()).collect()
                    })
                }
                false => [
                    gpu.read(q).await.unwrap(),
                    gpu.read(k).await.unwrap(),
                    gpu.read(v).await.unwrap(),
                ],
            };
            assert_close(&got[0], &want[0], 1e-5);
            assert_close(&got[1], &want[1], 1e-5);
            assert_eq!(got[2], if backward { &whole[2] } else { &raw[2] }[..]);
        })
        .await;
    }

    gpu_test! {
        async fn qk_norm_rope_of_awkward_shapes() {
            for (tokens, shape) in [(1, [1, 1, 4]), (3, [2, 1, 12]), (7, [4, 1, 256]), (65, [3, 3, 20])] {
                for (norm, backward) in [(true, true), (true, false), (false, true), (false, false)] {
                    check(tokens, shape, norm, backward).await;
                }
            }
        }

        async fn gradients_in_parts_are_added_before_the_norm() {
            for (tokens, dims, count, keys) in [(9, [4, 2, 12], 2, 4), (70, [4, 1, 256], 5, 12), (7, [3, 3, 20], 2, 8)] {
                for norm in [true, false] {
                    check_parts(tokens, dims, norm, true, RowParts::new(count, keys)).await;
                }
            }
        }

        async fn qk_norm_rope_of_more_workgroups_than_one_dimension_holds() {
            check(70_000, [1, 1, 8], true, false).await;
        }
    }

    // The error is h² = 1e-10 times the third derivative.
    #[test]
    fn reference_agrees_with_finite_differences() {
        let mut numbers = Numbers::new(4);
        let angles = table(10_000.0, 1.0, 8, POSITIONS);
        let [x, gain, d_y] = [2 * 8, 8, 2 * 8].map(|n| wide(&numbers.normal(n, 1.0)));
        let gain = Some((&gain[..], 1e-6));
        let loss = |x: &[f64]| {
            reference(x, gain, &angles, &[3, 17], 1).iter().zip(&d_y).map(|(y, d)| y * d).sum()
        };
        let got = reference_backward(&x, &d_y, gain, &angles, &[3, 17], 1);
        for (a, b) in got.iter().zip(finite_difference(&x, loss)) {
            assert!((a - b).abs() < 1e-7, "{a} {b}");
        }
    }

    #[test]
    fn backward_undoes_forward() {
        let angles = table(1e6, 8.0, 12, POSITIONS);
        let x = wide(&Numbers::new(1).normal(2 * 3 * 12, 1.0));
        let there = rotate(&x, &angles, &[3, 49], 3, 1.0);
        let back = rotate(&there, &angles, &[3, 49], 3, -1.0);
        assert!(x.iter().zip(&there).any(|(a, b)| (a - b).abs() > 0.1));
        // The table is in f32, so that cos² + sin² is 1 to 1e-7 only.
        assert!(x.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn angles_of_known_positions() {
        let angles = table(10_000.0, 1.0, 4, 3);
        let near = |got: [f32; 2], angle: f64| {
            (f64::from(got[0]) - angle.cos()).abs() < 1e-7
                && (f64::from(got[1]) - angle.sin()).abs() < 1e-7
        };
        assert_eq!(angles.len(), 6);
        assert_eq!(angles[0], [1.0, 0.0]);
        // Pair 0 is rotated by 1 per position, pair 1 by 10000^(-2/4) = 0.01.
        assert!(near(angles[4], 2.0) && near(angles[5], 0.02));
        assert!(near(table(10_000.0, 8.0, 4, 3)[4], 0.25));
    }
}
