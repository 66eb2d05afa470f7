//! The loss of the batch from the row statistics of [`cross_entropy`](crate::cross_entropy), and how
//! many predictions were correct.

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::shader::kernel;

kernel!("loss_sum", [], [Params, Read, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
}

/// Operands of [`record`].
pub struct LossSum<'a> {
    /// Weights divided by the weight of the whole batch, f32 `(M)`.
    pub weights: &'a Slice,
    /// Four f32 per row, `(M)`.
    pub stats: &'a Slice,
    /// Loss and number of correct predictions, f32 `(2)`.
    pub loss: &'a Slice,
    /// M.
    pub rows: u32,
}

/// Records `loss +=`.
pub fn record(commands: &mut Commands, op: &LossSum) {
    commands.dispatch(
        &KERNEL,
        &[("WG", 64)],
        &Params { rows: op.rows },
        &[op.weights, op.stats, op.loss].map(Slice::clone),
        [1, 1, 1],
        8 * u64::from(op.rows),
    );
}

/// The same on the CPU in f64: what is added to `loss`. `weights` and `stats` are `(M)`; a row's
/// statistics are its largest logit, its sum of exponentials and its target's logit.
pub fn reference(weights: &[f64], stats: &[[f64; 3]]) -> [f64; 2] {
    let mut loss = [0.0; 2];
    for (weight, [max, sum, target]) in weights.iter().zip(stats) {
        loss[0] += weight * (max + sum.ln() - target);
        loss[1] += if target >= max { 1.0 } else { 0.0 };
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, for_each_profile, gpu_test, wide};

    gpu_test! {
        async fn loss_sum_of_awkward_shapes_adds_to_what_is_there() {
            for (rows, scale) in [(1, 1.0), (63, 1.0), (64, 100.0), (70_001, 1.0)] {
                for_each_profile(async |gpu| {
                    let mut numbers = Numbers::new(rows);
                    let weights = numbers.repeating(rows as usize);
                    let stats: Vec<[f32; 4]> = (0..rows)
                        .map(|row| {
                            let max = numbers.normal(1, scale)[0];
                            let sum = 1.0 + 1000.0 * numbers.uniform() as f32;
                            // Every third prediction is correct.
                            let below = if row % 3 == 0 { 0.0 } else { 0.5 + numbers.uniform() as f32 };
                            [max, sum, max - below, f32::NAN]
                        })
                        .collect();
                    let weights_ = gpu.buffer_from("weights", &weights).unwrap().all();
                    let stats_ = gpu.buffer_from("stats", &stats).unwrap().all();
                    let loss = gpu.buffer_from("loss", &[2.5f32, 7.0]).unwrap().all();
                    let mut commands = Commands::new();
                    record(&mut commands, &LossSum { weights: &weights_, stats: &stats_, loss: &loss, rows });
                    gpu.run(&commands).await.unwrap();
                    let three: Vec<_> = stats.iter().map(|s| [s[0], s[1], s[2]].map(f64::from)).collect();
                    let [sum, right] = reference(&wide(&weights), &three);
                    let got: Vec<f32> = gpu.read(loss).await.unwrap();
                    assert_eq!(f64::from(got[1]), 7.0 + right);
                    // Weights have both signs: the sum is small compared with its terms.
                    let terms: f64 = weights.iter().zip(&three).map(|(&w, s)| {
                        f64::from(w).abs() * (s[0].abs() + s[1].ln() + s[2].abs())
                    }).sum();
                    let error = (f64::from(got[0]) - 2.5 - sum).abs();
                    assert!(error <= 1e-6 * (terms + 2.5), "{error} of {terms}");
                })
                .await;
            }
        }
    }
}
