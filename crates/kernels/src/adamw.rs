//! One AdamW update of all parameters at once, with decoupled weight decay.
//!
//! Source: Loshchilov and Hutter 2019, algorithm 2, in the form of `torch.optim.AdamW`; LoRA+
//! (Hayou et al. 2024) scales the learning rate of the B factors.

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{grid::grid, shader::kernel};

kernel!("adamw", ["shared/step"], [Params, Read, Read, Read, Write, Write, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    count4: u32,
    rate: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    decay: f32,
}

/// Operands of [`record`]. All buffers but `rate_scale` and `step` hold `(count)` numbers.
pub struct AdamW<'a> {
    /// Gradients.
    pub grad: &'a Slice,
    /// Factor on the learning rate, one for every four parameters, `(count / 4)`.
    pub rate_scale: &'a Slice,
    /// One [`Step`](crate::grad_norm::Step).
    pub step: &'a Slice,
    /// Parameters.
    pub param: &'a Slice,
    /// First moment.
    pub m: &'a Slice,
    /// Second moment.
    pub v: &'a Slice,
    /// A multiple of 4.
    pub count: u32,
    /// Learning rate.
    pub rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Weight decay.
    pub decay: f32,
}

/// Records `param =`, `m =`, `v =`; a skipped step changes nothing.
pub fn record(commands: &mut Commands, op: &AdamW) {
    let count4 = op.count / 4;
    let params = Params {
        count4,
        rate: op.rate,
        beta1: op.beta1,
        beta2: op.beta2,
        eps: op.eps,
        decay: op.decay,
    };
    commands.dispatch(
        &KERNEL,
        &[("WG", 64)],
        &params,
        &[op.grad, op.rate_scale, op.step, op.param, op.m, op.v].map(Slice::clone),
        grid(count4.div_ceil(64)),
        15 * u64::from(op.count),
    );
}

/// What [`reference`] updates, `(count)` each.
#[derive(Clone, Debug)]
pub struct State {
    /// Parameters.
    pub param: Vec<f64>,
    /// First moment.
    pub m: Vec<f64>,
    /// Second moment.
    pub v: Vec<f64>,
}

/// The numbers of one update in [`reference`].
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// Learning rate.
    pub rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay.
    pub decay: f64,
    /// Factor on the gradients; 0: the step is skipped.
    pub clip: f64,
    /// Number of the update, from 1.
    pub t: i32,
}

/// The same on the CPU in f64. `grad` is `(count)`, `rate_scale` `(count / 4)`.
pub fn reference(update: &Update, grad: &[f64], rate_scale: &[f64], state: &mut State) {
    let Update { rate, beta1, beta2, eps, decay, clip, t } = *update;
    if clip == 0.0 {
        return;
    }
    for (i, grad) in grad.iter().enumerate() {
        let g = clip * grad;
        state.m[i] = beta1 * state.m[i] + (1.0 - beta1) * g;
        state.v[i] = beta2 * state.v[i] + (1.0 - beta2) * g * g;
        let m = state.m[i] / (1.0 - beta1.powi(t));
        let v = state.v[i] / (1.0 - beta2.powi(t));
        let step = decay * state.param[i] + m / (v.sqrt() + eps);
        state.param[i] -= rate * rate_scale[i / 4] * step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        grad_norm::Step,
        testing::{Numbers, assert_close, for_each_profile, gpu_test, wide},
    };

    gpu_test! {
        async fn three_updates_equal_the_textbook() {
            for_each_profile(async |gpu| {
                // Rounding 0.999 to f32 changes the fifth digit of 1 - beta2, so the reference gets
                // the rounded numbers.
                let (beta1, beta2) = (f64::from(0.9f32), f64::from(0.999f32));
                let count = 260;
                let mut numbers = Numbers::new(3);
                let start = numbers.normal(count, 1.0);
                let scale: Vec<f32> = (0..count / 4).map(|i| if i % 2 == 0 { 1.0 } else { 16.0 }).collect();
                let param = gpu.buffer_from("p", &start).unwrap().all();
                let scale_ = gpu.buffer_from("scale", &scale).unwrap().all();
                let [m, v] = [(); 2].map(|()| gpu.buffer("mv", 4 * count as u64).unwrap().all());
                let mut want = State { param: wide(&start), m: vec![0.0; count], v: vec![0.0; count] };
                for t in 1..=3 {
                    let grad = numbers.normal(count, 1.0);
                    // A different one each time: a constant factor cancels in Adam's update.
                    let clip = [0.5, 1.0, 0.25][t as usize - 1];
                    let step = Step {
                        clip,
                        beta1_power: beta1.powi(t) as f32,
                        beta2_power: beta2.powi(t) as f32,
                        ..Step::start()
                    };
                    let grad_ = gpu.buffer_from("g", &grad).unwrap().all();
                    let step_ = gpu.buffer_from("step", &[step]).unwrap().all();
                    let mut commands = Commands::new();
                    record(&mut commands, &AdamW {
                        grad: &grad_, rate_scale: &scale_, step: &step_, param: &param, m: &m, v: &v,
                        count: count as u32, rate: 5e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.01,
                    });
                    gpu.run(&commands).await.unwrap();
                    let clip = clip.into();
                    let update = Update { rate: 5e-4, beta1, beta2, eps: 1e-8, decay: 0.01, clip, t };
                    reference(&update, &wide(&grad), &wide(&scale), &mut want);
                }
                // Compares the change, not the value: the update is a thousandth of the parameters.
                let got: Vec<f32> = gpu.read(param).await.unwrap();
                let moved: Vec<f32> = got.iter().zip(&start).map(|(a, b)| a - b).collect();
                let updates: Vec<f64> = want.param.iter().zip(&start).map(|(a, b)| a - f64::from(*b)).collect();
                assert_close(&moved, &updates, 1e-4);
                assert_close(&gpu.read(m).await.unwrap(), &want.m, 1e-6);
                assert_close(&gpu.read(v).await.unwrap(), &want.v, 1e-6);
            })
            .await;
        }

        async fn a_skipped_step_changes_nothing() {
            for_each_profile(async |gpu| {
                let nan = gpu.buffer_from("g", &[f32::NAN; 8]).unwrap().all();
                let [param, m, v] = [1.0, 2.0, 3.0].map(|x| gpu.buffer_from("x", &[x as f32; 8]).unwrap().all());
                let scale = gpu.buffer_from("scale", &[1.0f32; 2]).unwrap().all();
                let step = gpu.buffer_from("step", &[Step { clip: 0.0, ..Step::start() }]).unwrap().all();
                let mut commands = Commands::new();
                record(&mut commands, &AdamW {
                    grad: &nan, rate_scale: &scale, step: &step, param: &param, m: &m, v: &v,
                    count: 8, rate: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.1,
                });
                gpu.run(&commands).await.unwrap();
                for (buffer, want) in [(param, 1.0), (m, 2.0), (v, 3.0)] {
                    assert_eq!(gpu.read::<f32>(buffer).await.unwrap(), [want; 8]);
                }
            })
            .await;
        }
    }
}
