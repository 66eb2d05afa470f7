//! `y = gelu(gate) · up`, elementwise, with the tanh form of GELU.
//!
//! Source: Shazeer 2020, "GLU Variants Improve Transformer"; Hendrycks and Gimpel 2016 for GELU.
//! Gemma uses `approximate="tanh"` (google/gemma_pytorch, `model.py`).

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{grid::grid, shader::kernel};

kernel!("geglu", ["shared/gelu"], [Params, Read, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    count4: u32,
}

/// Operands of [`record`].
pub struct Geglu<'a> {
    /// `(T, F)`.
    pub gate: &'a Slice,
    /// `(T, F)`.
    pub up: &'a Slice,
    /// Output, `(T, F)`.
    pub y: &'a Slice,
    /// T · F, a multiple of 4.
    pub count: u32,
}

/// Records `y =`.
pub fn record(commands: &mut Commands, op: &Geglu) {
    let count4 = op.count / 4;
    commands.dispatch(
        &KERNEL,
        &[("WG", 64)],
        &Params { count4 },
        &[op.gate.clone(), op.up.clone(), op.y.clone()],
        grid(count4.div_ceil(64)),
        20 * u64::from(op.count),
    );
}

/// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))` in f64.
pub fn gelu(x: f64) -> f64 {
    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
    0.5 * x * (1.0 + u.tanh())
}

/// The same on the CPU in f64; both arguments are `(T, F)`.
pub fn reference(gate: &[f64], up: &[f64]) -> Vec<f64> {
    gate.iter().zip(up).map(|(&g, u)| gelu(g) * u).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, for_each_profile, gpu_test, wide};

    async fn check(gate: Vec<f32>) {
        for_each_profile(async |gpu| {
            let up = Numbers::new(1).repeating(gate.len());
            let [gate_, up_] = [&gate, &up].map(|v| gpu.buffer_from("test", v).unwrap().all());
            let y = gpu.buffer("test", 4 * gate.len() as u64).unwrap().all();
            let mut commands = Commands::new();
            let op = Geglu { gate: &gate_, up: &up_, y: &y, count: gate.len() as u32 };
            record(&mut commands, &op);
            gpu.run(&commands).await.unwrap();
            assert_close(&gpu.read(y).await.unwrap(), &reference(&wide(&gate), &wide(&up)), 1e-5);
        })
        .await;
    }

    gpu_test! {
        async fn geglu_of_awkward_shapes() {
            for count in [4, 252, 2052] {
                check(Numbers::new(count).normal(count as usize, 1.0)).await;
            }
        }

        async fn geglu_keeps_its_digits_where_every_gate_is_negative() {
            check(Numbers::new(2).normal(400, 1.0).iter().map(|v| -4.0 - v.abs()).collect()).await;
        }

        async fn geglu_of_large_and_small_magnitudes() {
            check(Numbers::new(3).normal(400, 1e4)).await;
            check(Numbers::new(3).normal(400, 1e-6)).await;
        }

        async fn geglu_of_more_workgroups_than_one_dimension_holds() {
            check(Numbers::new(4).repeating(256 * 65_536 + 4)).await;
        }
    }
}
