//! Backward of [`geglu`](crate::geglu), in place: `gate` and `up` become their gradients.
//!
//! Source: the derivative of the tanh form of GELU, written with `gelu(x) = x · σ(2u(x))`.

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{grid::grid, shader::kernel};

kernel!("geglu_backward", ["shared/gelu"], [Params, Read, Write, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    count4: u32,
}

/// Operands of [`record`].
pub struct GegluBackward<'a> {
    /// Gradient of the output, `(T, F)`.
    pub d_y: &'a Slice,
    /// Gate, then its gradient, `(T, F)`.
    pub gate: &'a Slice,
    /// Up, then its gradient, `(T, F)`.
    pub up: &'a Slice,
    /// T · F, a multiple of 4.
    pub count: u32,
}

/// Records `gate =` and `up =`, the gradients.
pub fn record(commands: &mut Commands, op: &GegluBackward) {
    let count4 = op.count / 4;
    commands.dispatch(
        &KERNEL,
        &[("WG", 64)],
        &Params { count4 },
        &[op.d_y, op.gate, op.up].map(Slice::clone),
        grid(count4.div_ceil(64)),
        30 * u64::from(op.count),
    );
}

/// The same on the CPU in f64: gradients of gate and up, `(T, F)` each. The derivative is taken
/// from the tanh form itself.
pub fn reference(d_y: &[f64], gate: &[f64], up: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let k = (2.0 / std::f64::consts::PI).sqrt();
    let d_gelu = |x: f64| {
        let t = (k * (x + 0.044715 * x.powi(3))).tanh();
        0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * k * (1.0 + 3.0 * 0.044715 * x * x)
    };
    let d_gate = d_y.iter().zip(gate).zip(up).map(|((d, g), u)| d * u * d_gelu(*g)).collect();
    let d_up = d_y.iter().zip(gate).map(|(d, g)| d * crate::geglu::gelu(*g)).collect();
    (d_gate, d_up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        geglu,
        testing::{Numbers, assert_close, finite_difference, for_each_profile, gpu_test, wide},
    };

    gpu_test! {
        async fn geglu_backward_of_awkward_sizes_and_large_gates() {
            // The third needs more workgroups than one dimension of the grid holds.
            for (count, scale) in [(4, 1.0), (260, 3.0), (256 * 65_536 + 4, 1.0), (1024, 40.0)] {
                for_each_profile(async |gpu| {
                    let mut numbers = Numbers::new(count);
                    let [d_y, up] = [(); 2].map(|()| numbers.repeating(count as usize));
                    let gate: Vec<f32> =
                        numbers.repeating(count as usize).iter().map(|g| scale * g).collect();
                    let [dy_, gate_, up_] = [&d_y, &gate, &up].map(|v| gpu.buffer_from("test", v).unwrap().all());
                    let mut commands = Commands::new();
                    record(&mut commands, &GegluBackward { d_y: &dy_, gate: &gate_, up: &up_, count });
                    gpu.run(&commands).await.unwrap();
                    let (d_gate, d_up) = reference(&wide(&d_y), &wide(&gate), &wide(&up));
                    assert_close(&gpu.read(gate_).await.unwrap(), &d_gate, 1e-5);
                    assert_close(&gpu.read(up_).await.unwrap(), &d_up, 1e-5);
                })
                .await;
            }
        }
    }

    // Third derivatives of GELU stay below 3, so the difference is accurate to 3 h² = 3e-10.
    #[test]
    fn reference_agrees_with_finite_differences() {
        let mut numbers = Numbers::new(2);
        let [d_y, gate, up] = [16, 16, 16].map(|n| wide(&numbers.normal(n, 1.5)));
        let loss = |g: &[f64], u: &[f64]| {
            geglu::reference(g, u).iter().zip(&d_y).map(|(y, d)| y * d).sum::<f64>()
        };
        let (d_gate, d_up) = reference(&d_y, &gate, &up);
        let pairs = [
            (d_gate, finite_difference(&gate, |g| loss(g, &up))),
            (d_up, finite_difference(&up, |u| loss(&gate, u))),
        ];
        for (a, b) in pairs.iter().flat_map(|(a, b)| a.iter().zip(b)) {
            assert!((a - b).abs() < 1e-7, "{a} {b}");
        }
    }
}
