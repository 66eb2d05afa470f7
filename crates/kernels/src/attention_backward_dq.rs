//! Gradient of attention's queries: `dQ = dS · K`.
//!
//! Source: Dao 2023, "FlashAttention-2", algorithm 2, with the derivative of the soft-cap.

use hearth_gpu::{Access, Commands, Kernel, Slice};

use crate::{attention::Shape, grid::grid, shader::wgsl};

/// The kernel.
pub static ATTENTION_BACKWARD_DQ: Kernel = Kernel {
    name: "attention_backward_dq",
    label: "attention_backward_dq",
    pieces: &[wgsl!("shared/attention")],
    source: wgsl!("attention_backward_dq"),
    bindings: &[
        Access::Params,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
};

/// Operands of [`record`]. Nothing is cached in training: keys and tokens are the same.
pub struct AttentionBackwardDq<'a> {
    /// Sizes and constants.
    pub shape: Shape,
    /// Queries, `(T, H, D)`.
    pub q: &'a Slice,
    /// Keys, `(T, G, D)`.
    pub k: &'a Slice,
    /// Values, `(T, G, D)`.
    pub v: &'a Slice,
    /// What forward had, `(T)`.
    pub tokens_meta: &'a Slice,
    /// Gradient of the output, `(T, H, D)`.
    pub d_o: &'a Slice,
    /// From [`attention_backward_dot`](crate::attention_backward_dot), `(T, H)`.
    pub rows: &'a Slice,
    /// Output, `(T, H, D)`.
    pub d_q: &'a Slice,
}

/// Records `d_q =`.
pub fn record(commands: &mut Commands, op: &AttentionBackwardDq) {
    let shape = &op.shape;
    let heads = shape.heads_together();
    commands.dispatch(
        &ATTENTION_BACKWARD_DQ,
        &[("WG", shape.workgroup()), ("HEADS", heads)],
        &shape.params(),
        &[op.q, op.k, op.v, op.tokens_meta, op.d_o, op.rows, op.d_q].map(Slice::clone),
        grid(shape.tokens * (shape.heads / heads)),
        shape.cost(3),
    );
}
