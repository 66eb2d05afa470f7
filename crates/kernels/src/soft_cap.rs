//! `y = cap · tanh(y / cap)` in place: Gemma 2's final logits.
//!
//! Source: `Gemma2ForCausalLM.forward` of huggingface/transformers. Its gradient is part of
//! [`cross_entropy_backward`](crate::cross_entropy_backward).

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{grid::grid, shader::kernel};

kernel!("soft_cap", [], [Params, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    count: u32,
    softcap: f32,
}

/// Operands of [`record`].
pub struct SoftCap<'a> {
    /// Soft-capped in place, `(count)`.
    pub y: &'a Slice,
    /// Number of elements.
    pub count: u32,
    /// The bound, positive.
    pub softcap: f32,
}

/// Records `y =`.
pub fn record(commands: &mut Commands, op: &SoftCap) {
    commands.dispatch(
        &KERNEL,
        &[("WG", 64)],
        &Params { count: op.count, softcap: op.softcap },
        std::slice::from_ref(op.y),
        grid(op.count.div_ceil(64)),
        10 * u64::from(op.count),
    );
}

/// The same on the CPU in f64.
pub fn reference(y: &[f64], cap: f64) -> Vec<f64> {
    y.iter().map(|v| cap * (v / cap).tanh()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, for_each_profile, gpu_test, wide};

    gpu_test! {
        async fn soft_cap_bends_small_and_huge_numbers() {
            for (count, scale) in [(1, 1.0), (5, 30.0), (1000, 1e4), (64 * 65_536 + 3, 10.0)] {
                for_each_profile(async |gpu| {
                    let y = Numbers::new(count).normal(count as usize, scale);
                    let y_ = gpu.buffer_from("y", &y).unwrap().all();
                    let mut commands = Commands::new();
                    record(&mut commands, &SoftCap { y: &y_, count, softcap: 30.0 });
                    gpu.run(&commands).await.unwrap();
                    assert_close(&gpu.read(y_).await.unwrap(), &reference(&wide(&y), 30.0), 1e-5);
                })
                .await;
            }
        }
    }
}
