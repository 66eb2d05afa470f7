//! Which variant of a kernel runs on which device and shape. A new tile shape is one line of
//! [`TILES`]; the tests run every line.

use hearth_gpu::Gpu;

/// How a matmul is divided among invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tile {
    /// Every invocation loads its own operands: `tokens` (1, 2, 4 or 8) by 4 outputs.
    Direct {
        /// Tokens per invocation.
        tokens: u32,
    },
    /// A workgroup computes `tokens` (1 or 4) by 4 outputs and shares the sum among its invocations. Forward only: see
    /// [`Variants::tile_backward`].
    Split {
        /// Tokens per workgroup.
        tokens: u32,
    },
    /// A workgroup of `gm × gn` invocations shares operands, and each computes 8 × 8.
    Tiled {
        /// Invocations along the tokens.
        gm: u32,
        /// Invocations along the outputs.
        gn: u32,
        /// Groups of four columns per step: 1, 2 or 4.
        bk: u32,
    },
}

/// All tile shapes. Each fits WebGPU's default limits: 256 invocations, 16 KiB.
pub const TILES: &[Tile] = &[
    Tile::Direct { tokens: 1 },
    Tile::Direct { tokens: 2 },
    Tile::Direct { tokens: 4 },
    Tile::Direct { tokens: 8 },
    Tile::Split { tokens: 1 },
    Tile::Split { tokens: 4 },
    Tile::Tiled { gm: 4, gn: 8, bk: 4 },
    Tile::Tiled { gm: 8, gn: 8, bk: 4 },
    Tile::Tiled { gm: 8, gn: 16, bk: 2 },
    Tile::Tiled { gm: 16, gn: 16, bk: 2 },
];

/// For few columns: a GPU needs many workgroups to be full.
const SMALLEST: Tile = Tile::Tiled { gm: 4, gn: 8, bk: 4 };

/// The choices made for one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variants {
    /// A CPU rasterizer: only direct loads are fast there.
    pub software: bool,
    /// Overrides the choice of [`Variants::tile`]; `hearth bench` and the tests set it.
    pub forced: Option<Tile>,
    /// Terms that a part of a sum has at least, where a tile's sum is divided: see [`crate::matmul::Parts`].
    pub part_terms: u32,
}

/// Fewer terms are not worth another result.
const PART_TERMS: u32 = 512;

impl Variants {
    /// The choices for a device, without measuring.
    pub fn of(gpu: &Gpu) -> Self {
        Self::of_kind(gpu.capabilities().software)
    }

    /// The choices for a CPU rasterizer or for a GPU.
    pub const fn of_kind(software: bool) -> Self {
        Self { software, forced: None, part_terms: PART_TERMS }
    }

    /// The tile for a matmul of this many tokens and columns of the result.
    pub fn tile(&self, tokens: u32, rows: u32) -> Tile {
        if let Some(tile) = self.forced {
            return tile;
        }
        if self.software {
            return Tile::Direct { tokens: direct_tokens(tokens) };
        }
        // A LoRA factor has few outputs, and generation has few tokens: a tile would be mostly empty.
        if tokens < 16 || rows < 32 {
            return Tile::Split { tokens: if tokens == 1 { 1 } else { 4 } };
        }
        // Few columns need many workgroups to fill a GPU, and many columns need fewer operands per output.
        match rows {
            ..=1024 => SMALLEST,
            1025..8192 => Tile::Tiled { gm: 8, gn: 8, bk: 4 },
            8192.. => Tile::Tiled { gm: 16, gn: 16, bk: 2 },
        }
    }
}

impl Variants {
    /// The tile for the gradient of a matmul, of this many tokens and columns. Few tokens take the smallest tile: most of
    /// it is empty, but where every invocation loads directly, each runs over all rows of the weights.
    pub fn tile_backward(&self, tokens: u32, columns: u32) -> Tile {
        match self.tile(tokens, columns) {
            Tile::Split { .. } => SMALLEST,
            tile => tile,
        }
    }

    /// Invocations that share a result of attention or of its gradient: on a GPU, four times as many of them are busy; a
    /// CPU rasterizer has no use for that.
    pub(crate) fn attention_slices(&self) -> u32 {
        if self.software { 1 } else { 4 }
    }

    /// Invocations that share a sum of [`crate::lora_dz`]: a CPU rasterizer pays for sharing, and has no idle ones.
    pub(crate) fn lora_dz_workgroup(&self) -> u32 {
        if self.software { 4 } else { 64 }
    }

    /// The workgroup of [`crate::lora_grad`] and the number of invocations that share a sum.
    pub(crate) fn lora_grad_workgroup(&self) -> (u32, u32) {
        if self.software { (16, 1) } else { (64, 8) }
    }
}

/// The number of tokens per invocation that wastes the least work for a batch of `tokens`.
pub(crate) fn direct_tokens(tokens: u32) -> u32 {
    match tokens {
        0 | 1 => 1,
        2 => 2,
        3 | 4 => 4,
        _ => 8,
    }
}

/// Workgroup of direct kernels: 64 invocations, first along the outputs (`across`), the rest along the
/// tokens. It does not depend on the number of tokens: another batch needs no new pipeline.
pub(crate) fn direct_workgroup(across: u32) -> (u32, u32) {
    let x = across.next_power_of_two().clamp(1, 64);
    (x, 64 / x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_follow_the_shape_and_not_the_length_of_a_batch() {
        let gpu = Variants::of_kind(false);
        let tiled = |tokens, rows| match gpu.tile(tokens, rows) {
            Tile::Tiled { gm, gn, bk } => [gm, gn, bk],
            other => panic!("{other:?}"),
        };
        // 270M's hidden width, its gate and up, those of 2B; a batch of another length compiles nothing.
        for tokens in [16, 358, 4096] {
            let tiles = [640, 4096, 32_768].map(|rows| tiled(tokens, rows));
            assert_eq!(tiles, [[4, 8, 4], [8, 8, 4], [16, 16, 2]]);
        }
        assert_eq!(gpu.tile(15, 640), Tile::Split { tokens: 4 });
        assert_eq!(gpu.tile(358, 24), Tile::Split { tokens: 4 });
        let software = Variants { software: true, ..gpu };
        assert_eq!(software.tile(358, 640), Tile::Direct { tokens: 8 });
    }
}
