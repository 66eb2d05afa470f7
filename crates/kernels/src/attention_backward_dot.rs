//! The two numbers that attention's backward needs of each row (a token and a head): its
//! log-sum-exp and `Σ dO · O`, side by side.
//!
//! Source: Dao 2023, "FlashAttention-2", algorithm 2 (D).

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Access, Commands, Kernel, Slice};

use crate::{attention::Shape, grid::grid, shader::wgsl};

/// The kernel.
pub static ATTENTION_BACKWARD_DOT: Kernel = Kernel {
    name: "attention_backward_dot",
    label: "attention_backward_dot",
    pieces: &[],
    source: wgsl!("attention_backward_dot"),
    bindings: &[Access::Params, Access::Read, Access::Read, Access::Read, Access::Write],
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    width4: u32,
}

/// Operands of [`record`].
pub struct AttentionBackwardDot<'a> {
    /// Sizes and constants.
    pub shape: Shape,
    /// Attention's output, `(T, H, D)`.
    pub o: &'a Slice,
    /// Its gradient, `(T, H, D)`.
    pub d_o: &'a Slice,
    /// From forward, `(T, H)`.
    pub lse: &'a Slice,
    /// Output, pairs `(T, H)`.
    pub rows: &'a Slice,
}

/// Records `rows =`.
pub fn record(commands: &mut Commands, op: &AttentionBackwardDot) {
    let rows = op.shape.tokens * op.shape.heads;
    commands.dispatch(
        &ATTENTION_BACKWARD_DOT,
        &[("WG", 64)],
        &Params { rows, width4: op.shape.head_dim / 4 },
        &[op.o, op.d_o, op.lse, op.rows].map(Slice::clone),
        grid(rows.div_ceil(64)),
        2 * u64::from(rows) * u64::from(op.shape.head_dim),
    );
}
