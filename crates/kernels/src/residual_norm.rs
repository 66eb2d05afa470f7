//! `out = residual + norm(x) · post` and `h = norm(out) · gain`: the end of one block and the beginning of the next.
//!
//! Source: `Gemma2DecoderLayer` of google/gemma_pytorch, `model.py`: the norm on attention's output, the residual
//! stream, and the norm before the MLP.

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{grid::grid, matmul::Parts, shader::kernel};

kernel!("residual_norm", [], [Params, Write, Read, Read, Read, Write, Write, Read]);

/// Parameters of the norms and of their gradient.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Params {
    pub(crate) rows: u32,
    pub(crate) columns4: u32,
    pub(crate) eps: f32,
}

/// Operands of [`record`].
pub struct ResidualNorm<'a> {
    /// The block's output, `(n, C)`.
    pub x: &'a Slice,
    /// What has to be added to it first, if it comes in parts: it becomes their sum.
    pub parts: Option<Parts<'a>>,
    /// The residual stream before the block, `(n, C)`.
    pub residual: &'a Slice,
    /// `1 + w` of the norm on the block's output, `(C)`.
    pub post: &'a Slice,
    /// `1 + w` of the next block's norm, `(C)`.
    pub gain: &'a Slice,
    /// The residual stream after the block, `(n, C)`.
    pub out: &'a Slice,
    /// The next block's input, `(n, C)`.
    pub h: &'a Slice,
    /// Number of rows, n.
    pub rows: u32,
    /// C, a multiple of 4.
    pub columns: u32,
    /// Added to the mean of squares.
    pub eps: f32,
}

/// Records `out =` and `h =`.
pub fn record(commands: &mut Commands, op: &ResidualNorm) {
    let params = Params { rows: op.rows, columns4: op.columns / 4, eps: op.eps };
    let wg = workgroup(op.columns);
    // Without parts their binding still needs some buffer.
    let others = op.parts.map_or(op.gain, |parts| parts.others);
    commands
        .dispatch(
            &KERNEL,
            &[("WG", wg), ("PARTS", Parts::count(op.parts))],
            &params,
            &[op.x, op.residual, op.post, op.gain, op.out, op.h, others].map(Slice::clone),
            grid(op.rows),
            8 * u64::from(op.rows) * u64::from(op.columns),
        )
        .serial(turns(op.columns, wg));
}

/// Invocations per row.
pub(crate) fn workgroup(columns: u32) -> u32 {
    (columns / 4).next_power_of_two().clamp(4, 64)
}

/// Loop iterations of an invocation.
pub(crate) fn turns(columns: u32, wg: u32) -> u32 {
    3 * (columns / 4).div_ceil(wg) + 2 * wg.ilog2()
}

/// The same on the CPU in f64: out and h, `(n, C)`.
pub fn reference(
    x: &[f64],
    residual: &[f64],
    post: &[f64],
    gain: &[f64],
    eps: f64,
) -> (Vec<f64>, Vec<f64>) {
    let normed = crate::rms_norm::reference(x, post, eps);
    let out: Vec<f64> = normed.iter().zip(residual).map(|(y, r)| y + r).collect();
    let h = crate::rms_norm::reference(&out, gain, eps);
    (out, h)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rms_norm::{self, RmsNorm},
        testing::{Numbers, assert_close, for_each_profile, gpu_test, in_parts, wide},
    };

    gpu_test! {
        async fn residual_norm_of_awkward_shapes() {
            for (rows, columns, count) in [(1, 4, 1), (3, 36, 4), (7, 640, 1), (5, 640, 2), (33, 2052, 1)] {
                for_each_profile(async |gpu| {
                    let mut numbers = Numbers::new(rows + columns);
                    let [x, residual] = [3.0, 1.0].map(|s| numbers.normal((rows * columns) as usize, s));
                    let [post, gain] = [0, 1].map(|_| numbers.normal(columns as usize, 1.0));
                    let zeros = vec![0f32; x.len()];
                    let (others, sum) = in_parts(&mut numbers, &x, count);
                    let [x_, residual_, post_, gain_, out, h, others_] = [&x, &residual, &post, &gain, &zeros, &zeros, &others]
                        .map(|v| gpu.buffer_from("test", v).unwrap().all());
                    let op = ResidualNorm {
                        x: &x_, parts: (count > 1).then_some(Parts { others: &others_, count }), residual: &residual_, post: &post_, gain: &gain_, out: &out, h: &h, rows, columns,
                        eps: 1e-6,
                    };
                    let mut commands = Commands::new();
                    record(&mut commands, &op);
                    gpu.run(&commands).await.unwrap();
                    assert_close(&gpu.read(&x_).await.unwrap(), &sum, 1e-6);
                    let [residual, post, gain] = [&residual, &post, &gain].map(|v| wide(v));
                    let x = sum;
                    let (want, want_h) = reference(&x, &residual, &post, &gain, 1e-6);
                    assert_close(&gpu.read(&out).await.unwrap(), &want, 1e-5);
                    assert_close(&gpu.read(&h).await.unwrap(), &want_h, 1e-5);
                })
                .await;
            }
        }

        /// Where a layer is recomputed, its first norm is not fused.
        async fn residual_norm_gives_the_bits_of_the_norm_alone() {
            for_each_profile(async |gpu| {
                let (rows, columns) = (5, 640);
                let mut numbers = Numbers::new(3);
                let [x, residual] = [0, 1].map(|_| numbers.normal((rows * columns) as usize, 1.0));
                let [post, gain] = [0, 1].map(|_| numbers.normal(columns as usize, 1.0));
                let [x, residual, post, gain, out, h, alone] =
                    [&x, &residual, &post, &gain, &x, &x, &x].map(|v| gpu.buffer_from("test", v).unwrap().all());
                let mut commands = Commands::new();
                let (x, residual, post, gain_, out_, h_) = (&x, &residual, &post, &gain, &out, &h);
                let op = ResidualNorm { x, parts: None, residual, post, gain: gain_, out: out_, h: h_, rows, columns, eps: 1e-6 };
                record(&mut commands, &op);
                let op = RmsNorm { x: &out, gain: &gain, y: &alone, rows, columns, eps: 1e-6, add: false };
                rms_norm::record(&mut commands, &op);
                gpu.run(&commands).await.unwrap();
                assert_eq!(gpu.read::<u32>(&h).await.unwrap(), gpu.read::<u32>(&alone).await.unwrap());
            })
            .await;
        }
    }
}
