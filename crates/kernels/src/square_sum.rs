//! Partial sums of squares: the first half of the gradients' global norm. The second is
//! [`grad_norm`](crate::grad_norm).

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::shader::kernel;

/// Number of partial sums, a constant, so that the sum always has the same order.
pub const PARTS: u32 = 64;

kernel!("square_sum", [], [Params, Read, Write]);

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
    commands
        .dispatch(
            &KERNEL,
            &[("WG", 64)],
            &Params { count4: op.count / 4 },
            &[op.x, op.parts].map(Slice::clone),
            [PARTS, 1, 1],
            2 * u64::from(op.count),
        )
        .serial(op.count.div_ceil(4 * 64 * PARTS));
}

/// The same on the CPU in f64, `(PARTS)`: blocks of 64 vec4s go to the parts round-robin.
pub fn reference(x: &[f64]) -> Vec<f64> {
    let mut parts = vec![0.0; PARTS as usize];
    for (block, values) in x.chunks(4 * 64).enumerate() {
        parts[block % PARTS as usize] += values.iter().map(|v| v * v).sum::<f64>();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, for_each_profile, gpu_test, wide};

    gpu_test! {
        async fn square_sum_of_awkward_shapes() {
            for (count, scale) in [(4, 1.0), (260, 1e-6), (256 * 64, 1.0), (256 * 130 + 12, 1e4)] {
                for_each_profile(async |gpu| {
                    let x = Numbers::new(count).normal(count as usize, scale);
                    let x_ = gpu.buffer_from("x", &x).unwrap().all();
                    let parts = gpu.buffer("parts", 4 * u64::from(PARTS)).unwrap().all();
                    let mut commands = Commands::new();
                    record(&mut commands, &SquareSum { x: &x_, parts: &parts, count });
                    gpu.run(&commands).await.unwrap();
                    assert_close(&gpu.read(parts).await.unwrap(), &reference(&wide(&x)), 1e-6);
                })
                .await;
            }
        }
    }
}
