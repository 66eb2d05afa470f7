//! Rotary position embedding: the two halves of a head are rotated as pairs, in place.
//!
//! Source: Su et al. 2021, "RoFormer", §3.4; the halves are those of Gemma's `apply_rotary_emb`
//! (google/gemma_pytorch, `model.py`), not adjacent pairs. Its gradient is the rotation by the
//! negative angle.

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{grid::grid, shader::kernel};

kernel!("rope", [], [Params, Read, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    tokens: u32,
    heads: u32,
    pairs2: u32,
    sign: f32,
}

/// Operands of [`record`].
pub struct Rope<'a> {
    /// From [`table`], `(positions, D/2)` pairs; longer than any position in `tokens_meta`.
    pub angles: &'a Slice,
    /// [`TokenMeta`](crate::attention::TokenMeta) of each token, `(T)`; only the position is used here.
    pub tokens_meta: &'a Slice,
    /// Queries or keys, or their gradients, `(T, heads, D)`, rotated in place.
    pub x: &'a Slice,
    /// T.
    pub tokens: u32,
    /// Heads of x: H for queries, G for keys.
    pub heads: u32,
    /// D, a multiple of 4.
    pub head_dim: u32,
    /// Rotate by the negative angle: gradients.
    pub backward: bool,
}

/// Records the rotation, or with `backward` the inverse one.
pub fn record(commands: &mut Commands, op: &Rope) {
    let sign = if op.backward { -1.0 } else { 1.0 };
    let pairs2 = op.head_dim / 4;
    let count = op.tokens * op.heads * pairs2;
    commands.dispatch(
        &KERNEL,
        &[("WG", 64)],
        &Params { tokens: op.tokens, heads: op.heads, pairs2, sign },
        &[op.angles.clone(), op.tokens_meta.clone(), op.x.clone()],
        grid(count.div_ceil(64)),
        12 * u64::from(count),
    );
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

/// The same on the CPU in f64. `x` is `(T, heads, D)`, `angles` as [`table`] makes them.
pub fn reference(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, for_each_profile, gpu_test, wide};

    const POSITIONS: u32 = 50;

    async fn check(tokens: u32, heads: u32, head_dim: u32, backward: bool) {
        for_each_profile(async |gpu| {
            let mut numbers = Numbers::new(tokens + head_dim);
            // Positions in no order, as in a packed tree.
            let positions: Vec<u32> = (0..tokens).map(|_| numbers.below(POSITIONS)).collect();
            let meta: Vec<[u32; 4]> = positions.iter().map(|&m| [m, 9, 9, 9]).collect();
            let angles = table(10_000.0, 1.0, head_dim, POSITIONS);
            let x = numbers.repeating((tokens * heads * head_dim) as usize);
            let x_ = gpu.buffer_from("test", &x).unwrap().all();
            let angles_ = gpu.buffer_from("test", &angles).unwrap().all();
            let meta_ = gpu.buffer_from("test", &meta).unwrap().all();
            let mut commands = Commands::new();
            let op = Rope {
                angles: &angles_,
                tokens_meta: &meta_,
                x: &x_,
                tokens,
                heads,
                head_dim,
                backward,
            };
            record(&mut commands, &op);
            gpu.run(&commands).await.unwrap();
            let sign = if backward { -1.0 } else { 1.0 };
            let want = reference(&wide(&x), &angles, &positions, heads as usize, sign);
            assert_close(&gpu.read(x_).await.unwrap(), &want, 1e-6);
        })
        .await;
    }

    gpu_test! {
        async fn rope_of_awkward_shapes() {
            for (tokens, heads, head_dim) in [(1, 1, 4), (3, 2, 12), (7, 4, 256), (65, 1, 20)] {
                check(tokens, heads, head_dim, false).await;
                check(tokens, heads, head_dim, true).await;
            }
        }

        async fn rope_of_more_workgroups_than_one_dimension_holds() {
            check(1_050_000, 1, 16, false).await;
        }
    }

    #[test]
    fn backward_undoes_forward() {
        let angles = table(1e6, 8.0, 12, POSITIONS);
        let x = wide(&Numbers::new(1).normal(2 * 3 * 12, 1.0));
        let there = reference(&x, &angles, &[3, 49], 3, 1.0);
        let back = reference(&there, &angles, &[3, 49], 3, -1.0);
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
