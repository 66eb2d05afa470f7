//! Gradients of attention's keys and values: `dV = Pᵀ · dO`, `dK = dSᵀ · Q`. A prefix key collects
//! from every row of the batch.
//!
//! Source: Dao 2023, "FlashAttention-2", algorithm 2, with the derivative of the soft-cap.

use hearth_gpu::{Access, Commands, Kernel, Slice};

use crate::{attention::Shape, grid::grid, shader::wgsl};

/// The kernel.
pub static ATTENTION_BACKWARD_DKV: Kernel = Kernel {
    name: "attention_backward_dkv",
    label: "attention_backward_dkv",
    pieces: &[wgsl!("shared/attention")],
    source: wgsl!("attention_backward_dkv"),
    bindings: &[
        Access::Params,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
    ],
};

/// Operands of [`record`]. Nothing is cached in training: keys and tokens are the same.
pub struct AttentionBackwardDkv<'a> {
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
    /// Output, `(T, G, D)`.
    pub d_k: &'a Slice,
    /// Output, `(T, G, D)`.
    pub d_v: &'a Slice,
}

/// Keys that a workgroup takes together.
const KEYS: u32 = 4;

/// Records `d_k =` and `d_v =`.
pub fn record(commands: &mut Commands, op: &AttentionBackwardDkv) {
    let shape = &op.shape;
    commands.dispatch(
        &ATTENTION_BACKWARD_DKV,
        &[("WG", shape.workgroup()), ("KEYS", KEYS)],
        &shape.params(),
        &[op.q, op.k, op.v, op.tokens_meta, op.d_o, op.rows, op.d_k, op.d_v].map(Slice::clone),
        grid(shape.tokens.div_ceil(KEYS) * shape.kv_heads),
        shape.cost(4),
    );
}
