//! Row statistics of a cross-entropy over the vocabulary, chunk by chunk: the largest logit, the
//! sum of exponentials relative to it, and the target's logit.
//!
//! Source: `torch.nn.functional.cross_entropy`; the merging is that of online softmax (Milakov and
//! Gimelshein 2018). M predictions, each with its own row of logits.

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{grid::grid, shader::kernel};

kernel!("cross_entropy", [], [Params, Read, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    columns: u32,
    stride: u32,
    first: u32,
}

/// Operands of [`record`].
pub struct CrossEntropy<'a> {
    /// Logits of a chunk of the vocabulary, `(M, stride)`.
    pub logits: &'a Slice,
    /// Target tokens, u32 `(M)`.
    pub targets: &'a Slice,
    /// Statistics, four f32 per row, `(M)`.
    pub stats: &'a Slice,
    /// M.
    pub rows: u32,
    /// Tokens in the chunk.
    pub columns: u32,
    /// Elements from one row of logits to the next.
    pub stride: u32,
    /// The chunk's first token; 0 resets the statistics.
    pub first: u32,
}

/// Records `stats =` for the first chunk, merges for later ones.
pub fn record(commands: &mut Commands, op: &CrossEntropy) {
    commands
        .dispatch(
            &KERNEL,
            &[("WG", 64), ("MERGE", (op.first > 0).into())],
            &Params { rows: op.rows, columns: op.columns, stride: op.stride, first: op.first },
            &[op.logits, op.targets, op.stats].map(Slice::clone),
            grid(op.rows),
            8 * u64::from(op.rows) * u64::from(op.columns),
        )
        .serial(2 * op.columns.div_ceil(64));
}

/// Loss of each row on the CPU in f64; `logits` is `(M, columns)`.
pub fn reference(logits: &[f64], targets: &[u32]) -> Vec<f64> {
    let columns = logits.len() / targets.len();
    let rows = logits.chunks_exact(columns).zip(targets);
    rows.map(|(row, &target)| {
        let max = row.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = row.iter().map(|v| (v - max).exp()).sum();
        max + sum.ln() - row[target as usize]
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cross_entropy_backward::{self, CrossEntropyBackward},
        loss_sum::{self, LossSum},
        testing::{Numbers, assert_close, for_each_profile, gpu_test, wide},
    };

    /// Compares statistics, loss and gradient in chunks with those of the whole vocabulary at once.
    async fn check(rows: usize, vocabulary: usize, chunk: usize, scale: f32, offset: f32) {
        for_each_profile(async |gpu| {
            let mut numbers = Numbers::new((rows + vocabulary) as u32);
            let mut logits = numbers.normal(rows * vocabulary, scale);
            logits.iter_mut().for_each(|v| *v += offset);
            let targets: Vec<u32> = (0..rows).map(|_| numbers.below(vocabulary as u32)).collect();
            let weights: Vec<f32> = (0..rows).map(|i| (1 + i % 3) as f32 / rows as f32).collect();
            let stride = chunk.next_multiple_of(4);
            let [targets_, stats] =
                [&targets, &vec![0; 4 * rows]].map(|v| gpu.buffer_from("u32", v).unwrap().all());
            let weights_ = gpu.buffer_from("f32", &weights).unwrap().all();
            let loss = gpu.buffer_from("loss", &[0.5f32, 0.0]).unwrap().all();
            let parts: Vec<_> = (0..vocabulary)
                .step_by(chunk)
                .map(|first| {
                    let columns = chunk.min(vocabulary - first);
                    // The padding holds values that must have no effect.
                    let mut part = vec![f32::MAX; rows * stride];
                    for row in 0..rows {
                        part[row * stride..][..columns]
                            .copy_from_slice(&logits[row * vocabulary + first..][..columns]);
                    }
                    (first as u32, columns as u32, gpu.buffer_from("logits", &part).unwrap().all())
                })
                .collect();
            let mut commands = Commands::new();
            let (m, stride_) = (rows as u32, stride as u32);
            for (first, columns, logits) in &parts {
                record(
                    &mut commands,
                    &CrossEntropy {
                        logits,
                        targets: &targets_,
                        stats: &stats,
                        rows: m,
                        columns: *columns,
                        stride: stride_,
                        first: *first,
                    },
                );
            }
            loss_sum::record(
                &mut commands,
                &LossSum { weights: &weights_, stats: &stats, loss: &loss, rows: m },
            );
            for (first, columns, logits) in &parts {
                cross_entropy_backward::record(
                    &mut commands,
                    &CrossEntropyBackward {
                        targets: &targets_,
                        weights: &weights_,
                        stats: &stats,
                        logits,
                        rows: m,
                        columns: *columns,
                        stride: stride_,
                        first: *first,
                        softcap: 0.0,
                    },
                );
            }
            gpu.run(&commands).await.unwrap();

            let each = reference(&wide(&logits), &targets);
            let want: f64 = each.iter().zip(&weights).map(|(l, w)| l * f64::from(*w)).sum();
            let right = logits
                .chunks_exact(vocabulary)
                .zip(&targets)
                .filter(|(row, t)| row.iter().all(|v| *v <= row[**t as usize]));
            let got: Vec<f32> = gpu.read(loss).await.unwrap();
            assert_close(&[got[0]], &[0.5 + want], 1e-5);
            assert_eq!(got[1], right.count() as f32);
            let gradient =
                cross_entropy_backward::reference(&wide(&logits), &targets, &wide(&weights));
            for (first, columns, logits) in parts {
                let got: Vec<f32> = gpu.read(logits).await.unwrap();
                let (first, columns) = (first as usize, columns as usize);
                let mut want = vec![0.0; rows * stride];
                for row in 0..rows {
                    want[row * stride..][..columns]
                        .copy_from_slice(&gradient[row * vocabulary + first..][..columns]);
                }
                let limit = if offset == 0.0 { 1e-5 } else { 1e-4 };
                // A chunk without a target has only gradients near 1e-12, which are not compared.
                if want.iter().any(|v| v.abs() > 1e-6) {
                    assert_close(&got, &want, limit);
                }
                for row in got.chunks_exact(stride) {
                    assert!(row[columns..].iter().all(|&v| v == 0.0));
                }
            }
        })
        .await;
    }

    gpu_test! {
        async fn cross_entropy_of_awkward_shapes_and_chunks() {
            check(1, 2, 2, 1.0, 0.0).await;
            check(8, 2, 2, 3.0, 0.0).await;
            check(5, 3, 3, 1.0, 0.0).await;
            check(3, 515, 128, 2.0, 0.0).await;
            check(7, 700, 700, 2.0, 0.0).await;
            check(33, 65, 64, 1.0, 0.0).await;
        }

        async fn cross_entropy_of_large_and_all_negative_logits() {
            check(4, 130, 64, 30.0, 0.0).await;
            check(4, 130, 64, 1.0, -1000.0).await;
        }
    }
}
