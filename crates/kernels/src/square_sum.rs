//! Partial sums of squares: the first half of the gradients' global norm; the second is
//! [`grad_norm`](crate::grad_norm), where both are tested.

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Access, Commands, Kernel, Slice};

use crate::shader::wgsl;

/// Partial sums that are always made, so that the order of the sum depends on nothing.
pub const PARTS: u32 = 64;

/// The kernel.
pub static SQUARE_SUM: Kernel = Kernel {
    name: "square_sum",
    label: "square_sum",
    pieces: &[],
    source: wgsl!("square_sum"),
    bindings: &[Access::Params, Access::Read, Access::Write],
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    count4: u32,
}

/// Operands of [`record`].
pub struct SquareSum<'a> {
    /// Numbers, `(count)`.
    pub x: &'a Slice,
    /// Output, f32 `(PARTS)`.
    pub parts: &'a Slice,
    /// A multiple of 4.
    pub count: u32,
}

/// Records `parts =`.
pub fn record(commands: &mut Commands, op: &SquareSum) {
    commands.dispatch(
        &SQUARE_SUM,
        &[("WG", 64)],
        &Params { count4: op.count / 4 },
        &[op.x, op.parts].map(Slice::clone),
        [PARTS, 1, 1],
        2 * u64::from(op.count),
    );
}
