//! Backward of [`cross_entropy`](crate::cross_entropy), written over a chunk of logits:
//! `d = weight · (softmax − onehot)`, through the final soft-cap if there is one.

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{grid::grid, shader::kernel};

kernel!("cross_entropy_backward", [], [Params, Read, Read, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    columns: u32,
    stride: u32,
    first: u32,
    softcap: f32,
}

/// Operands of [`record`].
pub struct CrossEntropyBackward<'a> {
    /// Target tokens, u32 `(M)`.
    pub targets: &'a Slice,
    /// Weights divided by the weight of the whole batch, f32 `(M)`.
    pub weights: &'a Slice,
    /// From [`cross_entropy`](crate::cross_entropy), over all chunks, `(M)`.
    pub stats: &'a Slice,
    /// Logits of this chunk, `(M, stride)`, then their gradients; zero from `columns` on.
    pub logits: &'a Slice,
    /// M.
    pub rows: u32,
    /// Tokens in the chunk.
    pub columns: u32,
    /// Elements from one row to the next.
    pub stride: u32,
    /// The chunk's first token.
    pub first: u32,
    /// The model's final soft-cap, already applied to the logits; 0: none.
    pub softcap: f32,
}

/// Records `logits =`, their gradient.
pub fn record(commands: &mut Commands, op: &CrossEntropyBackward) {
    let count = op.rows * op.stride;
    let params = Params {
        rows: op.rows,
        columns: op.columns,
        stride: op.stride,
        first: op.first,
        softcap: op.softcap,
    };
    commands.dispatch(
        &KERNEL,
        &[("WG", 64)],
        &params,
        &[op.targets, op.weights, op.stats, op.logits].map(Slice::clone),
        grid(count.div_ceil(64)),
        10 * u64::from(count),
    );
}

/// The same on the CPU in f64, without soft-cap; `logits` is `(M, columns)`.
pub fn reference(logits: &[f64], targets: &[u32], weights: &[f64]) -> Vec<f64> {
    let columns = logits.len() / targets.len();
    let mut d = Vec::with_capacity(logits.len());
    for ((row, &target), weight) in logits.chunks_exact(columns).zip(targets).zip(weights) {
        let max = row.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = row.iter().map(|v| (v - max).exp()).sum();
        d.extend(
            (0..).zip(row).map(|(i, v)| {
                weight * ((v - max).exp() / sum - if i == target { 1.0 } else { 0.0 })
            }),
        );
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cross_entropy, soft_cap,
        testing::{Numbers, assert_close, finite_difference, for_each_profile, gpu_test, wide},
    };

    // Softmax has third derivatives below one: the difference is accurate to h² = 1e-10.
    #[test]
    fn reference_agrees_with_finite_differences() {
        let mut numbers = Numbers::new(1);
        let logits = wide(&numbers.normal(12, 2.0));
        let (targets, weights) = ([1, 0, 3], [0.5, 1.0, 2.0]);
        let loss = |l: &[f64]| {
            cross_entropy::reference(l, &targets).iter().zip(&weights).map(|(l, w)| l * w).sum()
        };
        let numeric = finite_difference(&logits, loss);
        for (a, b) in reference(&logits, &targets, &weights).iter().zip(numeric) {
            assert!((a - b).abs() < 1e-8, "{a} {b}");
        }
    }

    gpu_test! {
        // The gradient with respect to the logits before the cap, by finite differences in f64.
        async fn the_gradient_goes_through_the_soft_cap() {
            for_each_profile(async |gpu| {
                let mut numbers = Numbers::new(2);
                let (cap, targets, weights) = (3.0f32, [2u32, 0], [0.5f32, 1.5]);
                let raw = numbers.normal(8, 4.0);
                let bend = |l: &[f64]| soft_cap::reference(l, 3.0);
                let loss = |l: &[f64]| {
                    let each = cross_entropy::reference(&bend(l), &targets);
                    each.iter().zip(&weights).map(|(l, w)| l * f64::from(*w)).sum()
                };
                let want = finite_difference(&wide(&raw), loss);
                let logits = gpu.buffer_from("logits", &raw).unwrap().all();
                let targets_ = gpu.buffer_from("targets", &targets).unwrap().all();
                let weights_ = gpu.buffer_from("weights", &weights).unwrap().all();
                let stats = gpu.buffer("stats", 32).unwrap().all();
                let mut commands = Commands::new();
                soft_cap::record(&mut commands, &soft_cap::SoftCap { y: &logits, count: 8, softcap: cap });
                cross_entropy::record(&mut commands, &cross_entropy::CrossEntropy {
                    logits: &logits, targets: &targets_, stats: &stats, rows: 2, columns: 4, stride: 4, first: 0,
                });
                record(&mut commands, &CrossEntropyBackward {
                    targets: &targets_, weights: &weights_, stats: &stats, logits: &logits,
                    rows: 2, columns: 4, stride: 4, first: 0, softcap: cap,
                });
                gpu.run(&commands).await.unwrap();
                assert_close(&gpu.read(logits).await.unwrap(), &want, 1e-5);
            })
            .await;
        }
    }
}
