//! `dX[T,K] = c · dY[T,N] · W[N,K] + dZ[T,R] · A[R,K]`, the twin of [`crate::matmul`] over the same
//! weight buffers. dZ = s · dY·B is the same kernel with B as f32 weights and c = s; elsewhere c = 1.

use std::{mem::offset_of, ops::Range};

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Kernel, Slice, Split};

use crate::{
    matrix::Matrix,
    shader::{KernelByLayout, kernel_by_layout},
    variants::{direct_tokens, direct_workgroup},
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Params {
    tokens: u32,
    k4: u32,
    row_start: u32,
    row_end: u32,
    y_stride4: u32,
    first_column4: u32,
    rank4: u32,
    scale: f32,
    first_group_x: u32,
    first_group_y: u32,
}

static KERNEL: KernelByLayout =
    kernel_by_layout!("matmul_backward", [], [Params, Read, Read, Read, Read, Read, Write]);

pub(crate) fn kernels() -> Vec<&'static Kernel> {
    KERNEL.all().iter().collect()
}

/// The low-rank term of a backward matmul.
#[derive(Clone, Copy)]
pub struct LowRankBackward<'a> {
    /// dZ, `(T, R)`.
    pub d_z: &'a Slice,
    /// A, `(R, K)`.
    pub a: &'a Slice,
    /// R, a multiple of 4.
    pub rank: u32,
}

/// Operands of [`record`].
pub struct MatmulBackward<'a> {
    /// dY, `(T, y_stride)`; columns from N up to a multiple of 4 are zero.
    pub d_y: &'a Slice,
    /// W, `(N, K)`.
    pub w: &'a Matrix,
    /// dX, `(T, K)`.
    pub d_x: &'a Slice,
    /// T.
    pub tokens: u32,
    /// The rows of W that count, usually all; dY's column 0 belongs to the first. Its start is a
    /// multiple of 4.
    pub rows: Range<u32>,
    /// Numbers from one token of dY to the next, a multiple of 4.
    pub y_stride: u32,
    /// Factor on dY·W: 1, or LoRA's s where W is B and dX is dZ.
    pub scale: f32,
    /// The low-rank term.
    pub low_rank: Option<LowRankBackward<'a>>,
    /// `dX +=` instead of `dX =`.
    pub add: bool,
}

/// Records the gradient of a matmul's input: `dX =`, or `dX +=` with `add`. One dispatch per slab.
pub fn record(commands: &mut Commands, op: &MatmulBackward) {
    let k4 = op.w.columns / 4;
    let tokens = direct_tokens(op.tokens);
    let (across, down) = (k4, op.tokens.div_ceil(tokens));
    let (wk, wt) = direct_workgroup(across);
    let mut first = true;
    for (slab, rows) in op.w.slabs_in(&op.rows) {
        // The low-rank term belongs to the whole matrix: once, with the first slab.
        let low_rank = op.low_rank.filter(|_| first);
        let low = low_rank.unwrap_or(LowRankBackward { d_z: op.d_y, a: op.d_y, rank: 0 });
        let mut constants = op.w.constants();
        constants.extend([
            ("WK", wk),
            ("WT", wt),
            ("TM", tokens),
            ("LORA", low_rank.is_some().into()),
            ("ADD", (op.add || !first).into()),
        ]);
        let params = Params {
            tokens: op.tokens,
            k4,
            row_start: rows.start,
            row_end: rows.end,
            y_stride4: op.y_stride / 4,
            first_column4: (slab.first_row + rows.start - op.rows.start) / 4,
            rank4: low.rank / 4,
            scale: op.scale,
            first_group_x: 0,
            first_group_y: 0,
        };
        let count = rows.end - rows.start;
        commands
            .dispatch(
                KERNEL.of(op.w.layout),
                &constants,
                &params,
                &[
                    op.d_y.clone(),
                    slab.quants.clone(),
                    slab.scales.clone(),
                    low.d_z.clone(),
                    low.a.clone(),
                    op.d_x.clone(),
                ],
                [across.div_ceil(wk), down.div_ceil(wt), 1],
                2 * u64::from(op.tokens) * u64::from(count) * u64::from(op.w.columns),
            )
            .split(Split::Plane { field: offset_of!(Params, first_group_x) });
        first = false;
    }
}

/// `dY · W` on the CPU in f64; `d_y` is `(T, N)`, `w` `(N, K)`, the result `(T, K)`.
pub fn reference(d_y: &[f64], w: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    let mut d_x = vec![0.0; d_y.len() / rows * columns];
    for (d_token, token) in d_x.chunks_exact_mut(columns).zip(d_y.chunks_exact(rows)) {
        for (dy, row) in token.iter().zip(w.chunks_exact(columns)) {
            for (d, weight) in d_token.iter_mut().zip(row) {
                *d += dy * weight;
            }
        }
    }
    d_x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        matmul,
        testing::{
            Numbers, assert_close, finite_difference, for_each_profile, gpu_test, quantized, wide,
        },
    };
    use hearth_formats::layout::WeightLayout;

    async fn check(
        tokens: u32,
        rows: u32,
        columns: u32,
        layout: WeightLayout,
        rank: u32,
        add: bool,
    ) {
        for_each_profile(async |gpu| {
            let mut numbers = Numbers::new(tokens * 31 + rows);
            let (t, n, k, r) = (tokens as usize, rows as usize, columns as usize, rank as usize);
            let stride = n.next_multiple_of(4);
            let (w, weights) = quantized(&gpu, &mut numbers, rows, columns, layout);
            let d_y = numbers.normal(t * n, 1.0);
            let padded: Vec<f32> = d_y
                .chunks_exact(n)
                .flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, stride - n)))
                .collect();
            let before = numbers.normal(t * k, 1.0);
            let (d_z, a) = (numbers.normal(t * r, 1.0), numbers.normal(r * k, 1.0));
            let [dy_, dx_, dz_, a_] =
                [&padded, &before, &d_z, &a].map(|v| gpu.buffer_from("test", v).unwrap().all());
            let low_rank = (rank > 0).then_some(LowRankBackward { d_z: &dz_, a: &a_, rank });
            let (scale, y_stride) = (0.5, stride as u32);
            let op = MatmulBackward {
                d_y: &dy_,
                w: &w,
                d_x: &dx_,
                tokens,
                rows: 0..rows,
                y_stride,
                scale,
                low_rank,
                add,
            };
            let mut commands = Commands::new();
            record(&mut commands, &op);
            gpu.run(&commands).await.unwrap();

            let mut want = reference(&wide(&d_y), &weights, n, k);
            want.iter_mut().for_each(|v| *v *= 0.5);
            if rank > 0 {
                let low = reference(&wide(&d_z), &wide(&a), r, k);
                want.iter_mut().zip(low).for_each(|(v, l)| *v += l);
            }
            if add {
                want.iter_mut().zip(&before).for_each(|(v, b)| *v += f64::from(*b));
            }
            assert_close(&gpu.read(dx_).await.unwrap(), &want, 1e-4);
        })
        .await;
    }

    gpu_test! {
        async fn backward_of_awkward_shapes_in_every_layout() {
            for (t, n, k) in [(1, 1, 256), (3, 2, 256), (7, 33, 512), (9, 130, 256)] {
                for layout in crate::testing::layouts() {
                    check(t, n, k, layout, 0, false).await;
                }
                check(t, n, k, WeightLayout::Q4, 8, true).await;
            }
        }

        async fn backward_over_slabs_adds_up() {
            for_each_profile(async |gpu| {
                let mut numbers = Numbers::new(5);
                let (t, n, k) = (3, 24, 64);
                let weights = numbers.normal(n * k, 1.0);
                let d_y = numbers.normal(t * n, 1.0);
                let split = crate::testing::split_f32(&gpu, &weights, k as u32, 8);
                let dy_ = gpu.buffer_from("test", &d_y).unwrap().all();
                let dx_ = gpu.buffer("test", (4 * t * k) as u64).unwrap().all();
                let op = MatmulBackward {
                    d_y: &dy_, w: &split, d_x: &dx_, tokens: t as u32, rows: 0..n as u32, y_stride: n as u32,
                    scale: 1.0, low_rank: None, add: false,
                };
                let mut commands = Commands::new();
                record(&mut commands, &op);
                gpu.run(&commands).await.unwrap();
                let want = reference(&wide(&d_y), &wide(&weights), n, k);
                assert_close(&gpu.read(dx_).await.unwrap(), &want, 1e-5);
            })
            .await;
        }
    }

    // The loss is linear in x, so the difference is exact but for rounding: 1e-16 / 1e-5.
    #[test]
    fn reference_agrees_with_finite_differences() {
        let mut numbers = Numbers::new(1);
        let (n, k) = (3, 4);
        let (x, w, d_y) = (
            wide(&numbers.normal(2 * k, 1.0)),
            wide(&numbers.normal(n * k, 1.0)),
            wide(&numbers.normal(2 * n, 1.0)),
        );
        let loss =
            |x: &[f64]| matmul::reference(x, &w, k).iter().zip(&d_y).map(|(y, d)| y * d).sum();
        let numeric = finite_difference(&x, loss);
        for (a, b) in reference(&d_y, &w, n, k).iter().zip(numeric) {
            assert!((a - b).abs() < 1e-8, "{a} {b}");
        }
    }
}
