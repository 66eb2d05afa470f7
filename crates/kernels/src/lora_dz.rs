//! `dZ_i[T,R] = s · dY_i[T,N_i] · B_i[N_i,R]`: the gradient through B, for the projections of one input together.
//!
//! Source: the chain rule on `y = x Wᵀ + s z Bᵀ`.

use std::{mem::offset_of, ops::Range};

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice, Split};

use crate::{matmul::MOST_PARTS, shader::kernel, variants::Variants};

kernel!("lora_dz", [], [Params, Read, Read, Write]);

/// Tokens per workgroup.
const TOKENS: u32 = 4;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    tokens: u32,
    rank4: u32,
    z_stride4: u32,
    z_first4: u32,
    y_stride4: u32,
    first0: u32,
    first1: u32,
    first2: u32,
    rows0: u32,
    rows1: u32,
    rows2: u32,
    scale: f32,
    first_group_x: u32,
    first_group_y: u32,
}

/// First column and number of columns of each part, over 4; 0 where there is none.
pub(crate) fn columns(parts: &[Range<u32>]) -> ([u32; MOST_PARTS], [u32; MOST_PARTS]) {
    debug_assert!((1..=MOST_PARTS).contains(&parts.len()));
    debug_assert!(parts.iter().all(|p| p.start.is_multiple_of(4) && p.end.is_multiple_of(4)));
    let of = |each: fn(&Range<u32>) -> u32| {
        std::array::from_fn(|i| parts.get(i).map_or(0, |part| each(part) / 4))
    };
    (of(|part| part.start), of(|part| part.end - part.start))
}

/// Operands of [`record`].
pub struct LoraDz<'a> {
    /// Gradient of the outputs of all projections of one input, `(T, y_stride)`.
    pub d_y: &'a Slice,
    /// Elements from one token of dY to the next, a multiple of 4.
    pub y_stride: u32,
    /// One to [`MOST_PARTS`] projections: their columns of dY, multiples of 4.
    pub parts: &'a [Range<u32>],
    /// Their B, stored one after another, `(N_0 + N_1 + N_2, R)`.
    pub b: &'a Slice,
    /// dZ, `(T, z_stride)`: R columns per projection.
    pub d_z: &'a Slice,
    /// Elements from one token of dZ to the next, a multiple of 4.
    pub z_stride: u32,
    /// The first column of dZ that is written, a multiple of 4.
    pub z_first: u32,
    /// T.
    pub tokens: u32,
    /// R, a multiple of 4.
    pub rank: u32,
    /// s.
    pub scale: f32,
}

/// Records `dZ =`.
pub fn record(commands: &mut Commands, variants: &Variants, op: &LoraDz) {
    let workgroup = variants.lora_dz_workgroup();
    let ([first0, first1, first2], rows @ [rows0, rows1, rows2]) = columns(op.parts);
    let params = Params {
        tokens: op.tokens,
        rank4: op.rank / 4,
        z_stride4: op.z_stride / 4,
        z_first4: op.z_first / 4,
        y_stride4: op.y_stride / 4,
        first0,
        first1,
        first2,
        rows0,
        rows1,
        rows2,
        scale: op.scale,
        first_group_x: 0,
        first_group_y: 0,
    };
    let longest = rows.into_iter().max().unwrap_or(0);
    let outputs: u64 = rows.iter().map(|rows| 4 * u64::from(*rows)).sum();
    commands
        .dispatch(
            &KERNEL,
            &[("WG", workgroup)],
            &params,
            &[op.d_y, op.b, op.d_z].map(Slice::clone),
            [op.parts.len() as u32 * op.rank / 4, op.tokens.div_ceil(TOKENS), 1],
            2 * u64::from(op.tokens) * u64::from(op.rank) * outputs,
        )
        .split(Split::Plane { field: offset_of!(Params, first_group_x) })
        .serial(longest.div_ceil(workgroup) + TOKENS * workgroup.ilog2());
}

/// One projection's dZ on the CPU in f64, `(T, R)`; `d_y` is `(T, N)`, `b` `(N, R)`.
pub fn reference(d_y: &[f64], b: &[f64], outputs: usize, rank: usize, scale: f64) -> Vec<f64> {
    let mut d_z = crate::matmul_backward::reference(d_y, b, outputs, rank);
    d_z.iter_mut().for_each(|value| *value *= scale);
    d_z
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, for_each_profile, gpu_test, wide};

    /// Parts `(T, N_i)` in the columns of one matrix, with four columns of other numbers before each; the columns of
    /// each and the width of all.
    pub(crate) fn side_by_side(
        parts: &[Vec<f32>],
        outputs: &[u32],
        tokens: u32,
    ) -> (Vec<f32>, Vec<Range<u32>>, u32) {
        let (mut stacked, mut columns) = (Vec::new(), Vec::new());
        let mut width = 0;
        for n in outputs {
            columns.push(width + 4..width + 4 + n);
            width += 4 + n;
        }
        for t in 0..tokens as usize {
            for (part, &n) in parts.iter().zip(outputs) {
                stacked.extend([1e3; 4]);
                stacked.extend(&part[t * n as usize..][..n as usize]);
            }
        }
        (stacked, columns, width)
    }

    gpu_test! {
        async fn lora_dz_of_awkward_shapes() {
            for (t, outputs, rank) in
                [(1, &[4][..], 4), (7, &[1024, 256, 260], 8), (33, &[12, 2048], 12), (274, &[36], 4)]
            {
                for_each_profile(async |gpu| for software in [false, true] {
                    let mut numbers = Numbers::new(t + rank);
                    let (columns, first) = (outputs.len() as u32 * rank, 4);
                    let stride = first + columns + 4;
                    let d_y: Vec<_> = outputs.iter().map(|n| numbers.normal((t * n) as usize, 1.0)).collect();
                    let b: Vec<_> = outputs.iter().map(|n| numbers.normal((n * rank) as usize, 1.0)).collect();
                    let before = numbers.normal((t * stride) as usize, 1.0);
                    let (stacked, parts, y_stride) = side_by_side(&d_y, outputs, t);
                    let [y_, b_, z_] =
                        [&stacked, &b.concat(), &before].map(|v| gpu.buffer_from("test", v).unwrap().all());
                    let op = LoraDz {
                        d_y: &y_, y_stride, parts: &parts, b: &b_, d_z: &z_, z_stride: stride, z_first: first, tokens: t, rank, scale: 0.5,
                    };
                    let mut commands = Commands::new();
                    record(&mut commands, &Variants { software, ..Variants::of(&gpu) }, &op);
                    gpu.run(&commands).await.unwrap();
                    let mut want = wide(&before);
                    for (part, &n) in outputs.iter().enumerate() {
                        let d_z = reference(&wide(&d_y[part]), &wide(&b[part]), n as usize, rank as usize, 0.5);
                        for (i, value) in (0..).zip(d_z) {
                            let (token, column) = (i / rank, first + part as u32 * rank + i % rank);
                            want[(token * stride + column) as usize] = value;
                        }
                    }
                    assert_close(&gpu.read(z_).await.unwrap(), &want, 1e-5);
                })
                .await;
            }
        }
    }
}
