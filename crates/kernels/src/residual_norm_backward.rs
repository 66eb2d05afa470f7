//! The gradient of [`crate::residual_norm`]: `d_x += d_norm(out, gain, d_h)`, then `d_y = d_norm(x, post, d_x)`.
//!
//! Source: that of [`crate::rms_norm_backward`], twice, with the residual stream in between.

use hearth_gpu::{Commands, Slice};

use crate::{
    grid::grid,
    matmul::Parts,
    residual_norm::{Params, turns, workgroup},
    shader::kernel,
};

kernel!("residual_norm_backward", [], [Params, Read, Read, Read, Read, Read, Write, Write, Read]);

/// Operands of [`record`].
pub struct ResidualNormBackward<'a> {
    /// The block's output, `(n, C)`.
    pub x: &'a Slice,
    /// The residual stream after the block, `(n, C)`.
    pub out: &'a Slice,
    /// `1 + w` of the norm on the block's output, `(C)`.
    pub post: &'a Slice,
    /// `1 + w` of the next block's norm, `(C)`.
    pub gain: &'a Slice,
    /// Gradient of the next block's input, `(n, C)`.
    pub d_h: &'a Slice,
    /// The rest of it, if it comes in parts.
    pub parts: Option<Parts<'a>>,
    /// Gradient of the residual stream, `(n, C)`.
    pub d_x: &'a Slice,
    /// Gradient of the block's output, `(n, C)`.
    pub d_y: &'a Slice,
    /// Number of rows, n.
    pub rows: u32,
    /// C, a multiple of 4.
    pub columns: u32,
    /// Added to the mean of squares.
    pub eps: f32,
}

/// Records `d_x +=` and `d_y =`.
pub fn record(commands: &mut Commands, op: &ResidualNormBackward) {
    let params = Params { rows: op.rows, columns4: op.columns / 4, eps: op.eps };
    let wg = workgroup(op.columns);
    let others = op.parts.map_or(op.gain, |parts| parts.others);
    commands
        .dispatch(
            &KERNEL,
            &[("WG", wg), ("PARTS", Parts::count(op.parts))],
            &params,
            &[op.x, op.out, op.post, op.gain, op.d_h, op.d_x, op.d_y, others].map(Slice::clone),
            grid(op.rows),
            16 * u64::from(op.rows) * u64::from(op.columns),
        )
        .serial(turns(op.columns, wg));
}

/// The same on the CPU in f64: the updated d_x, and d_y, `(n, C)`.
pub fn reference(
    [x, out]: [&[f64]; 2],
    [post, gain]: [&[f64]; 2],
    d_h: &[f64],
    d_x: &[f64],
    eps: f64,
) -> (Vec<f64>, Vec<f64>) {
    let of_norm = crate::rms_norm_backward::reference(out, gain, d_h, eps);
    let d_x: Vec<f64> = of_norm.iter().zip(d_x).map(|(a, b)| a + b).collect();
    let d_y = crate::rms_norm_backward::reference(x, post, &d_x, eps);
    (d_x, d_y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        residual_norm,
        testing::{
            Numbers, assert_close, finite_difference, for_each_profile, gpu_test, in_parts, wide,
        },
    };

    gpu_test! {
        async fn residual_norm_backward_of_awkward_shapes() {
            for (rows, columns, count) in [(1, 4, 1), (3, 36, 4), (7, 640, 1), (5, 640, 2), (33, 2052, 1)] {
                for_each_profile(async |gpu| {
                    let mut numbers = Numbers::new(rows + columns);
                    let [x, out, d_h, d_x] = [0; 4].map(|_| numbers.normal((rows * columns) as usize, 1.0));
                    let [post, gain] = [0, 1].map(|_| numbers.normal(columns as usize, 1.0));
                    let (others, sum) = in_parts(&mut numbers, &d_h, count);
                    let [x_, out_, d_h_, d_x_, d_y_, post_, gain_, others_] = [&x, &out, &d_h, &d_x, &x, &post, &gain, &others]
                        .map(|v| gpu.buffer_from("test", v).unwrap().all());
                    let op = ResidualNormBackward {
                        x: &x_, out: &out_, post: &post_, gain: &gain_, d_h: &d_h_,
                        parts: (count > 1).then_some(Parts { others: &others_, count }), d_x: &d_x_, d_y: &d_y_, rows,
                        columns, eps: 1e-6,
                    };
                    let mut commands = Commands::new();
                    record(&mut commands, &op);
                    gpu.run(&commands).await.unwrap();
                    let [x, out, d_x, post, gain] = [&x, &out, &d_x, &post, &gain].map(|v| wide(v));
                    let d_h = sum;
                    let (want, want_y) = reference([&x, &out], [&post, &gain], &d_h, &d_x, 1e-6);
                    assert_close(&gpu.read(&d_x_).await.unwrap(), &want, 1e-5);
                    assert_close(&gpu.read(&d_y_).await.unwrap(), &want_y, 1e-5);
                })
                .await;
            }
        }
    }

    // The residual stream bypasses the norm, so its own gradient is added. The error is h² = 1e-10 times the third
    // derivative.
    #[test]
    fn reference_agrees_with_finite_differences() {
        let mut numbers = Numbers::new(9);
        let [x, residual, d_h, d_out] = [0; 4].map(|_| wide(&numbers.normal(12, 1.0)));
        let [post, gain] = [0, 1].map(|_| wide(&numbers.normal(6, 1.0)));
        let loss = |x: &[f64], residual: &[f64]| {
            let (out, h) = residual_norm::reference(x, residual, &post, &gain, 1e-6);
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            dot(&out, &d_out) + dot(&h, &d_h)
        };
        let (out, _) = residual_norm::reference(&x, &residual, &post, &gain, 1e-6);
        let (d_x, d_y) = reference([&x, &out], [&post, &gain], &d_h, &d_out, 1e-6);
        for (got, want) in [
            (d_x, finite_difference(&residual, |residual| loss(&x, residual))),
            (d_y, finite_difference(&x, |x| loss(x, &residual))),
        ] {
            for (a, b) in got.iter().zip(want) {
                assert!((a - b).abs() < 1e-7, "{a} {b}");
            }
        }
    }
}
