//! The list of kernels: one line an op, in alphabetical order.

use hearth_gpu::Kernel;

use crate::{
    adamw, attention, attention_backward_dkv, attention_backward_dot, attention_backward_dq,
    cross_entropy, cross_entropy_backward, dropout, embed, gather_rows, geglu, geglu_backward,
    grad_norm, lora_grad, loss_sum, matmul, matmul_backward, rms_norm, rms_norm_backward, rope,
    scatter_rows, soft_cap, square_sum,
};

/// Every kernel in all its variants. `tests/shaders.rs` checks each of them without a GPU, and
/// that none of `shaders/` is missing here.
pub fn all() -> Vec<&'static Kernel> {
    use {matmul as m, matmul_backward as mb};
    let ops: &[&[&'static Kernel]] = &[
        &[&adamw::ADAMW],
        &[&attention::ATTENTION],
        &[&attention_backward_dkv::ATTENTION_BACKWARD_DKV],
        &[&attention_backward_dot::ATTENTION_BACKWARD_DOT],
        &[&attention_backward_dq::ATTENTION_BACKWARD_DQ],
        &[&cross_entropy::CROSS_ENTROPY],
        &[&cross_entropy_backward::CROSS_ENTROPY_BACKWARD],
        &[&dropout::DROPOUT],
        embed::KERNELS,
        &[&gather_rows::GATHER_ROWS],
        &[&geglu::GEGLU],
        &[&geglu_backward::GEGLU_BACKWARD],
        &[&grad_norm::GRAD_NORM],
        &[&lora_grad::LORA_GRAD],
        &[&loss_sum::LOSS_SUM],
        &[&m::DIRECT_F32, &m::DIRECT_F16, &m::DIRECT_Q8, &m::DIRECT_Q4],
        &[&m::TILED_F32, &m::TILED_F16, &m::TILED_Q8, &m::TILED_Q4],
        &[&mb::BACKWARD_F32, &mb::BACKWARD_F16, &mb::BACKWARD_Q8, &mb::BACKWARD_Q4],
        &[&rms_norm::RMS_NORM],
        &[&rms_norm_backward::RMS_NORM_BACKWARD],
        &[&rope::ROPE],
        &[&scatter_rows::SCATTER_ROWS],
        &[&soft_cap::SOFT_CAP],
        &[&square_sum::SQUARE_SUM],
    ];
    ops.concat()
}
