//! The global norm of the gradients, the factor that clips it, and whether the step is applied at all.
//!
//! Source: `torch.nn.utils.clip_grad_norm_` (without its 1e-6). A step whose loss or gradient is not
//! finite is skipped on the device, without a round trip to the host.

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{shader::kernel, square_sum::PARTS};

/// `Step` of shaders/shared/step.wgsl: what an optimizer step keeps on the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Step {
    /// Weighted mean loss of the batch.
    pub loss: f32,
    /// Number of correct predictions.
    pub correct: f32,
    /// Norm of the gradients before clipping; 0 in a skipped step.
    pub grad_norm: f32,
    /// Factor on the gradients; 0: this step is skipped.
    pub clip: f32,
    /// beta1 to the power of `updates`.
    pub beta1_power: f32,
    /// beta2 to the power of `updates`.
    pub beta2_power: f32,
    /// Updates made.
    pub updates: u32,
    /// Total number of skipped steps.
    pub skipped: u32,
    /// Consecutive steps skipped up to now.
    pub skipped_in_a_row: u32,
}

impl Step {
    /// The state before the first step.
    pub fn start() -> Self {
        Self { beta1_power: 1.0, beta2_power: 1.0, ..Self::zeroed() }
    }
}

kernel!("grad_norm", ["shared/step"], [Params, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    parts: u32,
    max_norm: f32,
    beta1: f32,
    beta2: f32,
}

/// Operands of [`record`].
pub struct GradNorm<'a> {
    /// From [`square_sum`](crate::square_sum), a multiple of [`PARTS`] of them: gradients may be in several slabs.
    pub parts: &'a Slice,
    /// One [`Step`] whose loss is already set.
    pub step: &'a Slice,
    /// Largest norm; 0: no clipping.
    pub max_norm: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
}

/// Records the step's `grad_norm`, `clip` and counters.
pub fn record(commands: &mut Commands, op: &GradNorm) {
    commands.dispatch(
        &KERNEL,
        &[("WG", PARTS)],
        &Params {
            parts: (op.parts.bytes() / 4) as u32,
            max_norm: op.max_norm,
            beta1: op.beta1,
            beta2: op.beta2,
        },
        &[op.parts, op.step].map(Slice::clone),
        [1, 1, 1],
        128,
    );
}

/// The same on the CPU; the norm is in f64, but whether it is finite is decided in f32. `parts` is `(PARTS)`.
pub fn reference(parts: &[f64], before: &Step, max_norm: f64, beta1: f32, beta2: f32) -> Step {
    let squares = parts.iter().sum::<f64>();
    if !(squares as f32).is_finite() || !before.loss.is_finite() {
        return Step {
            grad_norm: 0.0,
            clip: 0.0,
            skipped: before.skipped + 1,
            skipped_in_a_row: before.skipped_in_a_row + 1,
            ..*before
        };
    }
    let norm = squares.sqrt();
    let clip = if max_norm > 0.0 { (max_norm / norm).min(1.0) } else { 1.0 };
    Step {
        grad_norm: norm as f32,
        clip: clip as f32,
        beta1_power: before.beta1_power * beta1,
        beta2_power: before.beta2_power * beta2,
        updates: before.updates + 1,
        skipped_in_a_row: 0,
        ..*before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        square_sum::{self, SquareSum},
        testing::{Numbers, for_each_profile, gpu_test, wide},
    };

    async fn run(gpu: &hearth_gpu::Gpu, x: &[f32], before: Step, max_norm: f32) -> Step {
        let x_ = gpu.buffer_from("x", x).unwrap().all();
        let parts = gpu.buffer("parts", 4 * u64::from(PARTS)).unwrap().all();
        let step = gpu.buffer_from("step", &[before]).unwrap().all();
        let mut commands = Commands::new();
        square_sum::record(
            &mut commands,
            &SquareSum { x: &x_, parts: &parts, count: x.len() as u32 },
        );
        record(
            &mut commands,
            &GradNorm { parts: &parts, step: &step, max_norm, beta1: 0.5, beta2: 0.25 },
        );
        gpu.run(&commands).await.unwrap();
        gpu.read::<Step>(step).await.unwrap()[0]
    }

    /// Runs both halves, compares with the reference, and returns the step.
    async fn check(gpu: &hearth_gpu::Gpu, x: &[f32], before: Step, max_norm: f32) -> Step {
        let step = run(gpu, x, before, max_norm).await;
        let parts = square_sum::reference(&wide(x));
        let want = reference(&parts, &before, max_norm.into(), 0.5, 0.25);
        let close = |got: f32, want: f32| (got - want).abs() <= 1e-5 * want.abs();
        assert!(close(step.grad_norm, want.grad_norm), "{step:?} instead of {want:?}");
        assert!(close(step.clip, want.clip), "{step:?} instead of {want:?}");
        // All else is bit-identical, NaN included.
        let rest = |step: Step| {
            bytemuck::cast::<Step, [u32; 9]>(Step { grad_norm: 0.0, clip: 0.0, ..step })
        };
        assert_eq!(rest(step), rest(want));
        step
    }

    gpu_test! {
        async fn the_norm_is_that_of_all_numbers_and_clips() {
            for_each_profile(async |gpu| {
                for len in [4, 260, 40_000] {
                    let x = Numbers::new(len as u32).normal(len, 2.0);
                    let norm = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                    let step = check(&gpu, &x, Step::start(), 1.0).await;
                    assert!((f64::from(step.grad_norm) / norm - 1.0).abs() < 1e-5);
                    assert!((f64::from(step.clip) * norm - 1.0).abs() < 1e-5);
                    assert_eq!((step.updates, step.beta1_power, step.beta2_power), (1, 0.5, 0.25));
                    let again = run(&gpu, &x, Step::start(), 1.0).await;
                    assert_eq!(again.grad_norm.to_bits(), step.grad_norm.to_bits());
                    assert_eq!(check(&gpu, &x, Step::start(), 0.0).await.clip, 1.0);
                    assert_eq!(check(&gpu, &x, Step::start(), 1e9).await.clip, 1.0);
                }
            })
            .await;
        }

        async fn a_step_that_is_not_finite_is_skipped_and_counted() {
            for_each_profile(async |gpu| {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38] {
                    let mut x = vec![1.0; 64];
                    x[37] = bad;
                    let step = check(&gpu, &x, Step { skipped: 2, skipped_in_a_row: 1, ..Step::start() }, 1.0).await;
                    assert_eq!((step.clip, step.updates, step.skipped, step.skipped_in_a_row), (0.0, 0, 3, 2));
                    assert_eq!(step.beta1_power, 1.0);
                }
                let lost = Step { loss: f32::NAN, ..Step::start() };
                assert_eq!(check(&gpu, &[1.0; 4], lost, 1.0).await.clip, 0.0);
                let recovered = Step { skipped: 2, skipped_in_a_row: 2, ..Step::start() };
                let step = check(&gpu, &[1.0; 4], recovered, 0.0).await;
                assert_eq!((step.skipped, step.skipped_in_a_row, step.updates), (2, 0, 1));
            })
            .await;
        }
    }
}
