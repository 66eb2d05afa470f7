//! Gathers rows, `Y[n, C] = X[index[n], C]`: the output head runs only on the positions that have a
//! target. A row may be chosen more than once. Backward is [`scatter_rows`](crate::scatter_rows).

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{grid::grid, shader::kernel};

kernel!("gather_rows", [], [Params, Read, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    columns4: u32,
}

/// Operands of [`record`].
pub struct GatherRows<'a> {
    /// Rows to take, u32 `(n)`, all below T.
    pub index: &'a Slice,
    /// Input, `(T, C)`.
    pub x: &'a Slice,
    /// Output, `(n, C)`.
    pub y: &'a Slice,
    /// Number of rows taken, n.
    pub rows: u32,
    /// Width of a row, C, a multiple of 4.
    pub columns: u32,
}

/// Records the gather: `y =`.
pub fn record(commands: &mut Commands, op: &GatherRows) {
    commands.dispatch(
        &KERNEL,
        &[],
        &Params { rows: op.rows, columns4: op.columns / 4 },
        &[op.index.clone(), op.x.clone(), op.y.clone()],
        grid(op.rows),
        u64::from(op.rows) * u64::from(op.columns),
    );
}

/// The same on the CPU in f64. `x` is `(T, C)` of width `columns`, `index` is `(n)`.
pub fn reference(index: &[u32], x: &[f64], columns: usize) -> Vec<f64> {
    index.iter().flat_map(|&i| &x[i as usize * columns..][..columns]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, for_each_profile, gpu_test, wide};

    async fn check(index: &[u32], tokens: u32, columns: u32) {
        for_each_profile(async |gpu| {
            let rows = index.len() as u32;
            let x = Numbers::new(rows + columns).normal((tokens * columns) as usize, 1.0);
            let index_ = gpu.buffer_from("index", index).unwrap().all();
            let x_ = gpu.buffer_from("x", &x).unwrap().all();
            let y = gpu.buffer("y", u64::from(4 * rows * columns)).unwrap().all();
            let mut commands = Commands::new();
            record(&mut commands, &GatherRows { index: &index_, x: &x_, y: &y, rows, columns });
            gpu.run(&commands).await.unwrap();
            let got: Vec<f32> = gpu.read(y).await.unwrap();
            assert_eq!(wide(&got), reference(index, &wide(&x), columns as usize));
        })
        .await;
    }

    gpu_test! {
        async fn gather_rows_of_awkward_shapes() {
            check(&[0], 1, 4).await;
            check(&[4, 4, 0, 2], 5, 260).await;
            check(&[1, 0], 2, 640).await;
        }

        async fn gather_rows_of_more_rows_than_one_dimension_holds() {
            let index: Vec<u32> = (0..70_001).map(|i| i * 7 % 11).collect();
            check(&index, 11, 4).await;
        }
    }
}
