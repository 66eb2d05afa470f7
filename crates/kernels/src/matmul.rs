//! `Y[T,N] = X[T,K] · W[N,K]ᵀ + s · Z[T,R] · B[N,R]ᵀ`, the only matmul (kernels `matmul_direct`, `matmul_split` and
//! `matmul_tiled`), over every weight layout. Z = X·Aᵀ is a separate matmul, with A as f32 weights. W may be the stacked
//! weights of several projections, each with its own low-rank term; those of a gated MLP may end with its GeGLU.
//!
//! Source: `torch.nn.Linear`, and LoRA (Hu et al. 2021, section 4.1) with `s = alpha / r`; [`crate::geglu`].

use std::{mem::offset_of, ops::Range};

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Kernel, Slice, Split};

use crate::{
    matrix::{Matrix, Slab},
    shader::{KernelByLayout, kernel_by_layout, wgsl},
    variants::{Tile, Variants, direct_workgroup},
};

/// Parameters of the matmul and of its gradient.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Params {
    pub(crate) tokens: u32,
    pub(crate) k4: u32,
    pub(crate) row_start: u32,
    pub(crate) row_end: u32,
    pub(crate) x_stride4: u32,
    pub(crate) x_first4: u32,
    pub(crate) y_stride: u32,
    pub(crate) y_first: u32,
    pub(crate) w_first: u32,
    pub(crate) start0: u32,
    pub(crate) rows0: u32,
    pub(crate) start1: u32,
    pub(crate) rows1: u32,
    pub(crate) start2: u32,
    pub(crate) rows2: u32,
    pub(crate) rank4: u32,
    pub(crate) all_rank4: u32,
    pub(crate) z_stride4: u32,
    pub(crate) z_first4: u32,
    pub(crate) lora_scale: f32,
    pub(crate) part4: u32,
    pub(crate) first_group_x: u32,
    pub(crate) first_group_y: u32,
}

impl Params {
    /// How launches are split.
    pub(crate) fn split() -> Split {
        Split::Plane { field: offset_of!(Self, first_group_x) }
    }
}

/// The kernels of a file: with sums stored as they are, and with [`crate::geglu`] at the end.
pub(crate) struct Epilogues {
    pub(crate) store: KernelByLayout,
    pub(crate) geglu: KernelByLayout,
}

impl Epilogues {
    pub(crate) fn of(&'static self, geglu: bool) -> &'static KernelByLayout {
        if geglu { &self.geglu } else { &self.store }
    }

    pub(crate) fn all(&'static self) -> impl Iterator<Item = &'static Kernel> {
        self.store.all().iter().chain(self.geglu.all())
    }
}

/// Where `shared/matmul_store.wgsl` stores a whole sum; `shared/matmul_parts.wgsl` is its counterpart.
pub(crate) const WHOLE: &str = "
fn store(at: u32, value: f32) {
    put(at, value);
}
";

/// Makes [`Epilogues`] from `shaders/NAME.wgsl`.
macro_rules! epilogues {
    ($name:literal) => {
        $crate::matmul::Epilogues {
            store: $crate::shader::kernel_by_layout!(
                $name,
                [
                    $crate::shader::wgsl!("shared/matmul"),
                    $crate::matmul::WHOLE,
                    $crate::shader::wgsl!("shared/matmul_store")
                ],
                [Params, Read, Read, Read, Read, Read, Write]
            ),
            geglu: $crate::shader::kernel_by_layout!(
                $name,
                "_geglu",
                [
                    $crate::shader::wgsl!("shared/matmul"),
                    $crate::shader::wgsl!("shared/matmul_geglu")
                ],
                [Params, Read, Read, Read, Read, Read, Write, Write]
            ),
        }
    };
}
pub(crate) use epilogues;

static DIRECT: Epilogues = epilogues!("matmul_direct");
static SPLIT: Epilogues = epilogues!("matmul_split");
/// Forward and backward.
pub(crate) static TILED: Epilogues = epilogues!("matmul_tiled");
/// The same with a sum in parts.
pub(crate) static TILED_PARTS: KernelByLayout = kernel_by_layout!(
    "matmul_tiled",
    "_parts",
    [wgsl!("shared/matmul"), wgsl!("shared/matmul_parts"), wgsl!("shared/matmul_store")],
    [Params, Read, Read, Read, Read, Read, Write, Write]
);

/// Where a matmul may put the parts of its sum: where its result has few columns, a GPU would be mostly idle otherwise.
/// The kernel that reads the result adds them in order.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// All parts but the first, `(count - 1, T, C)`.
    pub others: &'a Slice,
    /// The number of parts: at most, for the matmul; what it made of it, for who reads the result.
    pub count: u32,
}

impl Parts<'_> {
    /// What the matmul made of it: so many parts.
    pub fn made(self, count: u32) -> Option<Self> {
        (count > 1).then_some(Self { count, ..self })
    }

    /// The parts of a sum of `terms` terms for `columns` columns of the result, computed with this tile.
    pub(crate) fn of(
        most: Option<Self>,
        variants: &Variants,
        tile: Tile,
        columns: u32,
        terms: u32,
    ) -> Option<Self> {
        let most = most.filter(|_| matches!(tile, Tile::Tiled { .. }) && columns <= FEW_COLUMNS)?;
        most.made((terms / variants.part_terms).min(most.count))
    }

    /// Fours in each part of a sum of `fours`, a multiple of `unit` and of what a step loads.
    pub(crate) fn fours(of: Option<Self>, fours: u32, unit: u32) -> u32 {
        of.map_or(fours, |parts| fours.div_ceil(parts.count).next_multiple_of(unit.max(4)))
    }

    pub(crate) fn count(of: Option<Self>) -> u32 {
        of.map_or(1, |parts| parts.count)
    }
}

/// Columns of a result that fill a GPU by themselves.
const FEW_COLUMNS: u32 = 1024;

pub(crate) fn kernels() -> Vec<&'static Kernel> {
    let whole = [&DIRECT, &SPLIT, &TILED].into_iter().flat_map(|kernel| kernel.all());
    whole.chain(TILED_PARTS.all()).collect()
}

/// The largest number of projections of one input.
pub const MOST_PARTS: usize = 3;

/// The low-rank term of a forward matmul.
#[derive(Clone, Copy)]
pub struct LowRank<'a> {
    /// Z = X·Aᵀ, `(T, z_stride)`, of which R columns are used for each target.
    pub z: &'a Slice,
    /// Elements from one token of Z to the next, a multiple of 4.
    pub z_stride: u32,
    /// The first column of Z that is used, a multiple of 4.
    pub z_first: u32,
    /// B of all targets, one after the other, `(rows, R)`.
    pub b: &'a Slice,
    /// R, a multiple of 4 (padded with zeros).
    pub rank: u32,
    /// The targets, at most [`MOST_PARTS`], in order: which of the computed rows have R columns of Z and rows of B. Counted
    /// from the first row that is computed.
    pub targets: &'a [Range<u32>],
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
    /// The rows of W to compute, usually all. Chunks of the vocabulary are such ranges.
    pub rows: Range<u32>,
    /// Elements from one token of Y to the next.
    pub y_stride: u32,
    /// The column of Y that the first row goes to. As many columns as rows are written.
    pub y_first: u32,
    /// The low-rank term.
    pub low_rank: Option<LowRank<'a>>,
    /// `Y +=` instead of `Y =`.
    pub add: bool,
    /// act, `(T, N / 2)`: `act = gelu(gate) · up`, if W's rows are those of gate and then those of up, and Y `(T, N)` is
    /// both. Computed with up's rows, after gate's, if not all of them are computed. Not with `add`.
    pub geglu: Option<&'a Slice>,
    /// Whether the sum may come in parts. Not with `geglu`.
    pub parts: Option<Parts<'a>>,
}

/// Records the matmul: `Y =`, or `Y +=` with `add`; and act, if wanted. One dispatch per slab. Returns the number of
/// parts in which Y comes.
pub fn record(commands: &mut Commands, variants: &Variants, op: &Matmul) -> u32 {
    let columns = op.rows.end - op.rows.start;
    let tile = variants.tile(op.tokens, columns);
    let parts = op.parts.filter(|_| op.geglu.is_none());
    let parts = Parts::of(parts, variants, tile, columns, op.w.columns);
    for (slab, rows) in op.w.slabs_in(&op.rows) {
        record_rows(commands, tile, parts, op, slab, rows.start, rows.end);
    }
    Parts::count(parts)
}

fn record_rows(
    commands: &mut Commands,
    tile: Tile,
    parts: Option<Parts>,
    op: &Matmul,
    slab: &Slab,
    start: u32,
    end: u32,
) {
    let rows = end - start;
    let k4 = op.w.columns / 4;
    let rank4 = op.low_rank.map_or(0, |low| low.rank / 4);
    let all_rank4 = op.low_rank.map_or(0, |low| rank4 * low.targets.len() as u32);
    let mut constants = slab.constants();
    let paired = rows == op.w.rows;
    let act = op.geglu.filter(|_| paired || slab.first_row + start >= op.w.rows / 2);
    // Weights that share a scale are in one part.
    let part4 = Parts::fours(parts, k4, slab.group() / 4);
    let (kernels, workgroups, serial) = match tile {
        Tile::Direct { tokens } => {
            let (across, down) = (rows.div_ceil(4), op.tokens.div_ceil(tokens));
            let (wn, wt) = direct_workgroup(across);
            constants.extend([("WN", wn), ("WT", wt), ("TM", tokens)]);
            (&DIRECT, [across.div_ceil(wn), down.div_ceil(wt), 1], k4 + tokens * rank4)
        }
        Tile::Split { tokens } => {
            constants.extend([("WG", SPLIT_WORKGROUP), ("TM", tokens)]);
            let turns = k4.div_ceil(SPLIT_WORKGROUP) + SPLIT_WORKGROUP.ilog2() * tokens;
            (&SPLIT, [rows.div_ceil(4), op.tokens.div_ceil(tokens), 1], turns + rank4)
        }
        Tile::Tiled { gm, gn, bk } => {
            constants.extend([("GM", gm), ("GN", gn), ("BK", bk), ("BACKWARD", 0)]);
            let turns = part4.div_ceil(bk) + all_rank4.div_ceil(bk);
            let down = op.tokens.div_ceil(8 * gm) * Parts::count(parts);
            (&TILED, [rows.div_ceil(8 * gn), down, 1], turns)
        }
    };
    constants.extend([("LORA", op.low_rank.is_some().into()), ("ADD", op.add.into())]);
    // Without a low-rank term its bindings still need some buffer.
    let (z, b, scale) = op.low_rank.map_or((op.x, op.x, 0.0), |low| (low.z, low.b, low.scale));
    let first = slab.first_row.wrapping_sub(op.rows.start);
    let targets = op.low_rank.map_or(&[][..], |low| low.targets);
    let [target0, target1, target2] =
        std::array::from_fn(|i| targets.get(i).map_or((0, 0), |t| (t.start, t.end - t.start)));
    let params = Params {
        tokens: op.tokens,
        k4,
        row_start: start,
        row_end: end,
        x_stride4: k4,
        x_first4: 0,
        y_stride: op.y_stride,
        y_first: first.wrapping_add(op.y_first),
        w_first: first,
        start0: target0.0,
        rows0: target0.1,
        start1: target1.0,
        rows1: target1.1,
        start2: target2.0,
        rows2: target2.1,
        rank4,
        all_rank4,
        z_stride4: op.low_rank.map_or(0, |low| low.z_stride / 4),
        z_first4: op.low_rank.map_or(0, |low| low.z_first / 4),
        lora_scale: scale,
        part4,
        first_group_x: 0,
        first_group_y: 0,
    };
    let mut bindings = [op.x, &slab.quants, &slab.scales, z, b, op.y].map(Slice::clone).to_vec();
    if let Some(act) = act {
        constants.push(("PAIRED", paired.into()));
        bindings.push(act.clone());
    }
    let mut kernel = kernels.of(act.is_some());
    if let Some(parts) = parts {
        kernel = &TILED_PARTS;
        constants.push(("PARTS", parts.count));
        bindings.push(parts.others.clone());
    }
    let cost = 2 * u64::from(op.tokens) * u64::from(rows) * u64::from(op.w.columns);
    commands
        .dispatch(kernel.of(slab.layout), &constants, &params, &bindings, workgroups, cost)
        .split(Params::split())
        .serial(serial);
}

/// Invocations that share a sum of [`Tile::Split`].
const SPLIT_WORKGROUP: u32 = 64;

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
