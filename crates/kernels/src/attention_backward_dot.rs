//! The two numbers that attention's backward needs for each row (a token and a head): its
//! log-sum-exp and `Σ dO · O`, stored as a pair.
//!
//! Source: Dao 2023, "FlashAttention-2", algorithm 2 (D).

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{
    attention::{Shape, dot},
    grid::grid,
    shader::kernel,
};

kernel!("attention_backward_dot", [], [Params, Read, Read, Read, Write]);

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
    commands
        .dispatch(
            &KERNEL,
            &[("WG", 64)],
            &Params { rows, width4: op.shape.head_dim / 4 },
            &[op.o, op.d_o, op.lse, op.rows].map(Slice::clone),
            grid(rows.div_ceil(64)),
            2 * u64::from(rows) * u64::from(op.shape.head_dim),
        )
        .serial(op.shape.head_dim / 4);
}

/// The same on the CPU in f64, without lse: `(T, H)`. `o` and `d_o` are `(T, H, D)`.
pub fn reference(o: &[f64], d_o: &[f64], head_dim: u32) -> Vec<f64> {
    let heads = |x| <[f64]>::chunks_exact(x, head_dim as usize);
    heads(o).zip(heads(d_o)).map(|(o, d_o)| dot(o, d_o)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, for_each_profile, gpu_test, wide};

    async fn check(tokens: u32, heads: u32, head_dim: u32) {
        let mut numbers = Numbers::new(tokens);
        let [o, d_o] = [(); 2].map(|()| numbers.repeating((tokens * heads * head_dim) as usize));
        let lse = numbers.repeating((tokens * heads) as usize);
        let want = reference(&wide(&o), &wide(&d_o), head_dim);
        let shape = Shape { tokens, heads, head_dim, ..Shape::default() };
        for_each_profile(async |gpu| {
            let [o_, d_o_, lse_] =
                [&o, &d_o, &lse].map(|v| gpu.buffer_from("test", v).unwrap().all());
            let rows = gpu.buffer("test", 2 * lse_.bytes()).unwrap().all();
            let mut commands = Commands::new();
            record(
                &mut commands,
                &AttentionBackwardDot { shape, o: &o_, d_o: &d_o_, lse: &lse_, rows: &rows },
            );
            gpu.run(&commands).await.unwrap();
            let got: Vec<[f32; 2]> = gpu.read(rows).await.unwrap();
            assert_eq!(got.iter().map(|row| row[0]).collect::<Vec<_>>(), lse);
            assert_close(&got.iter().map(|row| row[1]).collect::<Vec<_>>(), &want, 1e-5);
        })
        .await;
    }

    gpu_test! {
        async fn attention_backward_dot_of_awkward_shapes() {
            for (tokens, heads, head_dim) in [(1, 1, 4), (33, 2, 12), (65, 3, 256), (1_050_000, 4, 4)] {
                check(tokens, heads, head_dim).await;
            }
        }
    }
}
