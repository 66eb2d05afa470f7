//! The list of kernels: one line an op, in alphabetical order.

use hearth_gpu::Kernel;

use crate::{
    attention, embed, gather_rows, geglu, lora_grad, matmul, matmul_backward, rms_norm, rope,
    scatter_rows,
};

/// Every kernel in all its variants. `tests/shaders.rs` checks each of them without a GPU, and
/// that none of `shaders/` is missing here.
pub fn all() -> Vec<&'static Kernel> {
    use {matmul as m, matmul_backward as mb};
    let ops: &[&[&'static Kernel]] = &[
        &[&attention::ATTENTION],
        embed::KERNELS,
        &[&gather_rows::GATHER_ROWS],
        &[&geglu::GEGLU],
        &[&lora_grad::LORA_GRAD],
        &[&m::DIRECT_F32, &m::DIRECT_F16, &m::DIRECT_Q8, &m::DIRECT_Q4],
        &[&m::TILED_F32, &m::TILED_F16, &m::TILED_Q8, &m::TILED_Q4],
        &[&mb::BACKWARD_F32, &mb::BACKWARD_F16, &mb::BACKWARD_Q8, &mb::BACKWARD_Q4],
        &[&rms_norm::RMS_NORM],
        &[&rope::ROPE],
        &[&scatter_rows::SCATTER_ROWS],
    ];
    ops.concat()
}
