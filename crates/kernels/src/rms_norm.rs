//! RMS normalization, `y = x / sqrt(mean(x²) + eps) · gain`, in f32.
//!
//! Source: Gemma's `RMSNorm` (google/gemma_pytorch, `model.py`), where `gain = 1 + weight`; the
//! host passes the gain. `n` rows are tokens, or tokens times heads for the norms of q
//! and k; `C` is the width of a row.

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{grid::grid, shader::kernel};

kernel!("rms_norm", [], [Params, Read, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    columns4: u32,
    eps: f32,
}

/// Operands of [`record`].
pub struct RmsNorm<'a> {
    /// Input, `(n, C)`.
    pub x: &'a Slice,
    /// `1 + w`, `(C)`.
    pub gain: &'a Slice,
    /// Output, `(n, C)`.
    pub y: &'a Slice,
    /// Number of rows, n.
    pub rows: u32,
    /// Width of a row, C, a multiple of 4.
    pub columns: u32,
    /// Added to the mean of squares.
    pub eps: f32,
    /// `y +=` instead of `y =`: the residual stream.
    pub add: bool,
}

/// Records the norm: `y =`, or `y +=` with `add`.
pub fn record(commands: &mut Commands, op: &RmsNorm) {
    let params = Params { rows: op.rows, columns4: op.columns / 4, eps: op.eps };
    // Short rows (q/k norm of a small head) do not need 64 invocations.
    let wg = (op.columns / 4).next_power_of_two().clamp(4, 64);
    commands
        .dispatch(
            &KERNEL,
            &[("WG", wg), ("ADD", op.add.into())],
            &params,
            &[op.x.clone(), op.gain.clone(), op.y.clone()],
            grid(op.rows),
            4 * u64::from(op.rows) * u64::from(op.columns),
        )
        .serial(2 * (op.columns / 4).div_ceil(wg) + wg.ilog2());
}

/// The same on the CPU in f64. `x` is `(n, C)`, `gain` is `(C)`.
pub fn reference(x: &[f64], gain: &[f64], eps: f64) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(gain.len()) {
        let mean = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
        let scale = 1.0 / (mean + eps).sqrt();
        y.extend(row.iter().zip(gain).map(|(v, g)| v * scale * g));
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, for_each_profile, gpu_test, wide};

    async fn check(rows: u32, columns: u32, scale: f32, add: bool) {
        for_each_profile(async |gpu| {
            let mut numbers = Numbers::new(rows + columns);
            let x = numbers.normal((rows * columns) as usize, scale);
            let gain = numbers.normal(columns as usize, 1.0);
            let before = numbers.normal((rows * columns) as usize, 1.0);
            let [x_, gain_, y_] =
                [&x, &gain, &before].map(|v| gpu.buffer_from("test", v).unwrap().all());
            let mut commands = Commands::new();
            record(
                &mut commands,
                &RmsNorm { x: &x_, gain: &gain_, y: &y_, rows, columns, eps: 1e-6, add },
            );
            gpu.run(&commands).await.unwrap();
            let mut want = reference(&wide(&x), &wide(&gain), 1e-6);
            if add {
                want.iter_mut().zip(&before).for_each(|(w, b)| *w += f64::from(*b));
            }
            assert_close(&gpu.read(y_).await.unwrap(), &want, 1e-5);
        })
        .await;
    }

    gpu_test! {
        async fn rms_norm_of_awkward_shapes() {
            for (rows, columns) in [(1, 4), (3, 12), (7, 640), (5, 260), (2, 2048)] {
                check(rows, columns, 1.0, false).await;
                check(rows, columns, 1.0, true).await;
            }
        }

        async fn rms_norm_of_large_and_small_magnitudes() {
            check(3, 640, 1e4, false).await;
            check(3, 640, 1e-4, false).await;
        }

        async fn rms_norm_of_more_rows_than_one_dimension_holds() {
            check(70_001, 4, 1.0, false).await;
        }
    }
}
