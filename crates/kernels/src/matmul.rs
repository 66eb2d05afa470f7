//! `Y[T,N] = X[T,K] · W[N,K]ᵀ + s · Z[T,R] · B[N,R]ᵀ`, the one matmul (kernels `matmul_direct` and
//! `matmul_tiled`), over every weight layout. Z = X·Aᵀ is a matmul of its own, with A as f32 weights.
//!
//! Source: `torch.nn.Linear`, and LoRA (Hu et al. 2021, section 4.1) with `s = alpha / r`.

use std::{mem::offset_of, ops::Range};

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Kernel, Slice, Split};

use crate::{
    matrix::{Matrix, Slab},
    shader::{KernelByLayout, kernel_by_layout},
    variants::{Tile, Variants, direct_workgroup},
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Params {
    tokens: u32,
    k4: u32,
    row_start: u32,
    row_end: u32,
    y_stride: u32,
    first_row: u32,
    rank4: u32,
    lora_scale: f32,
    first_group_x: u32,
    first_group_y: u32,
}

static DIRECT: KernelByLayout = kernel_by_layout!(
    "matmul_direct",
    ["shared/matmul"],
    [Params, Read, Read, Read, Read, Read, Write]
);
static TILED: KernelByLayout = kernel_by_layout!(
    "matmul_tiled",
    ["shared/matmul"],
    [Params, Read, Read, Read, Read, Read, Write]
);

pub(crate) fn kernels() -> Vec<&'static Kernel> {
    [&DIRECT, &TILED].into_iter().flat_map(|kernel| kernel.all()).collect()
}

/// The low-rank term of a forward matmul.
#[derive(Clone, Copy)]
pub struct LowRank<'a> {
    /// Z = X·Aᵀ, `(T, R)`.
    pub z: &'a Slice,
    /// B, `(N, R)`.
    pub b: &'a Slice,
    /// R, a multiple of 4 (padded with zeros).
    pub rank: u32,
    /// s.
    pub scale: f32,
}

/// Operands of [`record`].
pub struct Matmul<'a> {
    /// X, `(T, K)`.
    pub x: &'a Slice,
    /// W, `(N, K)`.
    pub w: &'a Matrix,
    /// Y, `(T, y_stride)`.
    pub y: &'a Slice,
    /// T.
    pub tokens: u32,
    /// The rows of W to compute, usually all: the first goes to column 0 of Y. Chunks of the
    /// vocabulary are such ranges.
    pub rows: Range<u32>,
    /// Stride between tokens of Y in numbers, at least the number of rows. The rest is not written.
    pub y_stride: u32,
    /// The low-rank term; only where all rows are computed.
    pub low_rank: Option<LowRank<'a>>,
    /// `Y +=` instead of `Y =`.
    pub add: bool,
}

/// Records the matmul: `Y =`, or `Y +=` with `add`. One dispatch per slab.
pub fn record(commands: &mut Commands, variants: &Variants, op: &Matmul) {
    for (slab, rows) in op.w.slabs_in(&op.rows) {
        record_rows(commands, variants, op, slab, rows.start, rows.end);
    }
}

fn record_rows(
    commands: &mut Commands,
    variants: &Variants,
    op: &Matmul,
    slab: &Slab,
    start: u32,
    end: u32,
) {
    let tile = variants.tile(op.tokens, op.rows.end - op.rows.start);
    let rows = end - start;
    let mut constants = op.w.constants();
    let (kernel, workgroups) = match tile {
        Tile::Direct { tokens } => {
            let (across, down) = (rows.div_ceil(4), op.tokens.div_ceil(tokens));
            let (wn, wt) = direct_workgroup(across);
            constants.extend([("WN", wn), ("WT", wt), ("TM", tokens)]);
            (&DIRECT, [across.div_ceil(wn), down.div_ceil(wt), 1])
        }
        Tile::Tiled { gm, gn, bk } => {
            constants.extend([("GM", gm), ("GN", gn), ("BK", bk)]);
            (&TILED, [rows.div_ceil(8 * gn), op.tokens.div_ceil(8 * gm), 1])
        }
    };
    constants.extend([("LORA", op.low_rank.is_some().into()), ("ADD", op.add.into())]);
    // Without a low-rank term its bindings still need some buffer.
    let low = op.low_rank.unwrap_or(LowRank { z: op.x, b: op.x, rank: 0, scale: 0.0 });
    let params = Params {
        tokens: op.tokens,
        k4: op.w.columns / 4,
        row_start: start,
        row_end: end,
        y_stride: op.y_stride,
        first_row: slab.first_row.wrapping_sub(op.rows.start),
        rank4: low.rank / 4,
        lora_scale: low.scale,
        first_group_x: 0,
        first_group_y: 0,
    };
    commands
        .dispatch(
            kernel.of(op.w.layout),
            &constants,
            &params,
            &[
                op.x.clone(),
                slab.quants.clone(),
                slab.scales.clone(),
                low.z.clone(),
                low.b.clone(),
                op.y.clone(),
            ],
            workgroups,
            2 * u64::from(op.tokens) * u64::from(rows) * u64::from(op.w.columns),
        )
        .split(Split::Plane { field: offset_of!(Params, first_group_x) });
}

/// `X · Wᵀ` on the CPU in f64; `x` is `(T, K)`, `w` `(N, K)`, the result `(T, N)`.
pub fn reference(x: &[f64], w: &[f64], columns: usize) -> Vec<f64> {
    let mut y = Vec::new();
    for token in x.chunks_exact(columns) {
        for row in w.chunks_exact(columns) {
            y.push(token.iter().zip(row).map(|(a, b)| a * b).sum());
        }
    }
    y
}

#[cfg(test)]
mod tests;
