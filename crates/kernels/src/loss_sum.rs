//! The batch's loss out of the row statistics of [`cross_entropy`](crate::cross_entropy), and how
//! many predictions were right. Tested there.

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Access, Commands, Kernel, Slice};

use crate::shader::wgsl;

/// The kernel.
pub static LOSS_SUM: Kernel = Kernel {
    name: "loss_sum",
    label: "loss_sum",
    pieces: &[],
    source: wgsl!("loss_sum"),
    bindings: &[Access::Params, Access::Read, Access::Read, Access::Write],
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
}

/// Operands of [`record`].
pub struct LossSum<'a> {
    /// Weights over the whole batch's weight, f32 `(M)`.
    pub weights: &'a Slice,
    /// Four f32 a row, `(M)`.
    pub stats: &'a Slice,
    /// Loss and number of right predictions, f32 `(2)`.
    pub loss: &'a Slice,
    /// M.
    pub rows: u32,
}

/// Records `loss +=`.
pub fn record(commands: &mut Commands, op: &LossSum) {
    commands.dispatch(
        &LOSS_SUM,
        &[("WG", 64)],
        &Params { rows: op.rows },
        &[op.weights, op.stats, op.loss].map(Slice::clone),
        [1, 1, 1],
        8 * u64::from(op.rows),
    );
}
