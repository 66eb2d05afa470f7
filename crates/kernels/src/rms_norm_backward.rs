//! Backward of [`rms_norm`](crate::rms_norm): `dX = inv · (g·dY − X · inv² · mean(g·dY·X))`.
//!
//! Source: the chain rule on Gemma's `RMSNorm`; the gain g is frozen and gets no gradient.

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{grid::grid, matmul::Parts, shader::kernel};

kernel!("rms_norm_backward", [], [Params, Read, Read, Read, Write, Read]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    columns4: u32,
    eps: f32,
}

/// Operands of [`record`].
pub struct RmsNormBackward<'a> {
    /// Input of forward, `(n, C)`.
    pub x: &'a Slice,
    /// `1 + w`, `(C)`.
    pub gain: &'a Slice,
    /// Gradient of the output, `(n, C)`.
    pub d_y: &'a Slice,
    /// The rest of it, if it comes in parts.
    pub parts: Option<Parts<'a>>,
    /// Gradient of the input, `(n, C)`.
    pub d_x: &'a Slice,
    /// Number of rows, n.
    pub rows: u32,
    /// Width of a row, C, a multiple of 4.
    pub columns: u32,
    /// As in forward.
    pub eps: f32,
    /// `dX +=` instead of `dX =`.
    pub add: bool,
}

/// Records the gradient: `d_x =`, or `d_x +=` with `add`.
pub fn record(commands: &mut Commands, op: &RmsNormBackward) {
    let params = Params { rows: op.rows, columns4: op.columns / 4, eps: op.eps };
    let wg = (op.columns / 4).next_power_of_two().clamp(4, 64);
    let others = op.parts.map_or(op.gain, |parts| parts.others);
    commands
        .dispatch(
            &KERNEL,
            &[("WG", wg), ("ADD", op.add.into()), ("PARTS", Parts::count(op.parts))],
            &params,
            &[op.x, op.gain, op.d_y, op.d_x, others].map(Slice::clone),
            grid(op.rows),
            8 * u64::from(op.rows) * u64::from(op.columns),
        )
        .serial(2 * (op.columns / 4).div_ceil(wg) + wg.ilog2());
}

/// The same on the CPU in f64. `x` and `d_y` are `(n, C)`, `gain` is `(C)`.
pub fn reference(x: &[f64], gain: &[f64], d_y: &[f64], eps: f64) -> Vec<f64> {
    let width = gain.len();
    let mut d_x = Vec::with_capacity(x.len());
    for (row, d_row) in x.chunks_exact(width).zip(d_y.chunks_exact(width)) {
        let mean = row.iter().map(|v| v * v).sum::<f64>() / width as f64;
        let inv = 1.0 / (mean + eps).sqrt();
        let pull: f64 = row.iter().zip(d_row).zip(gain).map(|((x, d), g)| g * d * x).sum::<f64>()
            / width as f64;
        d_x.extend(
            row.iter().zip(d_row).zip(gain).map(|((x, d), g)| inv * (g * d - x * inv * inv * pull)),
        );
    }
    d_x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rms_norm,
        testing::{
            Numbers, assert_close, finite_difference, for_each_profile, gpu_test, in_parts, wide,
        },
    };

    async fn check(rows: u32, columns: u32, scale: f32, add: bool, count: u32) {
        for_each_profile(async |gpu| {
            let mut numbers = Numbers::new(rows + columns);
            let len = (rows * columns) as usize;
            let (x, d_y) = (numbers.normal(len, scale), numbers.normal(len, 1.0));
            let (gain, before) = (numbers.normal(columns as usize, 1.0), numbers.normal(len, 1.0));
            let (others, sum) = in_parts(&mut numbers, &d_y, count);
            let [x_, gain_, dy_, dx_, others_] = [&x, &gain, &d_y, &before, &others]
                .map(|v| gpu.buffer_from("test", v).unwrap().all());
            let op = RmsNormBackward {
                x: &x_,
                gain: &gain_,
                d_y: &dy_,
                parts: (count > 1).then_some(Parts { others: &others_, count }),
                d_x: &dx_,
                rows,
                columns,
                eps: 1e-6,
                add,
            };
            let mut commands = Commands::new();
            record(&mut commands, &op);
            gpu.run(&commands).await.unwrap();
            let mut want = reference(&wide(&x), &wide(&gain), &sum, 1e-6);
            if add {
                want.iter_mut().zip(&before).for_each(|(w, b)| *w += f64::from(*b));
            }
            let got = gpu.read(dx_.clone()).await.unwrap();
            assert_close(&got, &want, 1e-5);
            if !add {
                gpu.run(&commands).await.unwrap();
                assert_eq!(got, gpu.read::<f32>(dx_).await.unwrap(), "not the same bits twice");
            }
        })
        .await;
    }

    gpu_test! {
        async fn rms_norm_backward_of_awkward_shapes() {
            for (rows, columns) in [(1, 4), (3, 12), (7, 640), (5, 260), (2, 2048)] {
                check(rows, columns, 1.0, false, 1).await;
                check(rows, columns, 1.0, true, 1).await;
                check(rows, columns, 1.0, true, 4).await;
            }
            check(3, 640, 1e4, false, 2).await;
            check(70_001, 4, 1.0, false, 1).await;
        }
    }

    // Third derivatives are of order one here, so the difference is accurate to h² = 1e-10.
    #[test]
    fn reference_agrees_with_finite_differences() {
        let mut numbers = Numbers::new(1);
        let [x, d_y] = [24, 24].map(|n| wide(&numbers.normal(n, 1.0)));
        let gain = wide(&numbers.normal(8, 1.0));
        let loss = |x: &[f64]| {
            rms_norm::reference(x, &gain, 1e-6).iter().zip(&d_y).map(|(y, d)| y * d).sum()
        };
        let numeric = finite_difference(&x, loss);
        for (a, b) in reference(&x, &gain, &d_y, 1e-6).iter().zip(numeric) {
            assert!((a - b).abs() < 1e-7, "{a} {b}");
        }
    }
}
