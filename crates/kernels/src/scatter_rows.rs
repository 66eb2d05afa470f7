//! Backward of [`gather_rows`](crate::gather_rows): `dX[t] = Σ dY[i]` over all i with
//! `index[i] = t`, or `dX[t] +=` with `add`.
//!
//! The index is inverted on the host ([`lists`]): then every row of dX has one workgroup that adds
//! its sources in order, so a row gathered several times (the last prefix token has a target for
//! every row of the batch) gets the same bits every time, without atomics.

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{grid::grid, shader::kernel};

kernel!("scatter_rows", [], [Params, Read, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    columns4: u32,
}

/// Operands of [`record`].
pub struct ScatterRows<'a> {
    /// From [`lists`], u32 `(T + 1 + n)`.
    pub lists: &'a Slice,
    /// Gradients of the gathered rows, `(n, C)`.
    pub d_y: &'a Slice,
    /// Gradients of all rows, `(T, C)`.
    pub d_x: &'a Slice,
    /// Number of rows of dX, T.
    pub rows: u32,
    /// Width of a row, C, a multiple of 4.
    pub columns: u32,
    /// `dX +=` instead of `dX =`.
    pub add: bool,
}

/// The inverse of the index `(n)`: for each of `rows` rows the start of its list, then the end of
/// the last one, then the lists of indices into `index`.
pub fn lists(index: &[u32], rows: u32) -> Vec<u32> {
    let mut next = vec![0; rows as usize + 1];
    for &row in index {
        next[row as usize + 1] += 1;
    }
    next[0] = rows + 1;
    for row in 1..next.len() {
        next[row] += next[row - 1];
    }
    let mut lists = next.clone();
    lists.resize(next.len() + index.len(), 0);
    for (i, &row) in (0..).zip(index) {
        lists[next[row as usize] as usize] = i;
        next[row as usize] += 1;
    }
    lists
}

/// Records the scatter: `d_x =`, or `d_x +=` with `add`.
pub fn record(commands: &mut Commands, op: &ScatterRows) {
    commands.dispatch(
        &KERNEL,
        &[("ADD", op.add.into())],
        &Params { rows: op.rows, columns4: op.columns / 4 },
        &[op.lists.clone(), op.d_y.clone(), op.d_x.clone()],
        grid(op.rows),
        2 * u64::from(op.rows) * u64::from(op.columns),
    );
}

/// The same on the CPU in f64, directly from the index: adds `d_y` `(n, C)` to `d_x` `(T, C)`.
pub fn reference(index: &[u32], d_y: &[f64], columns: usize, d_x: &mut [f64]) {
    for (&row, d_row) in index.iter().zip(d_y.chunks_exact(columns)) {
        let target = &mut d_x[row as usize * columns..][..columns];
        target.iter_mut().zip(d_row).for_each(|(d, v)| *d += v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gather_rows,
        testing::{Numbers, assert_close, finite_difference, for_each_profile, gpu_test, wide},
    };

    async fn check(index: &[u32], rows: u32, columns: u32, add: bool) {
        for_each_profile(async |gpu| {
            let mut numbers = Numbers::new(rows + columns);
            let d_y = numbers.normal(index.len() * columns as usize, 1.0);
            let before = numbers.normal((rows * columns) as usize, 1.0);
            let lists_ = gpu.buffer_from("lists", &lists(index, rows)).unwrap().all();
            let [d_y_, d_x_] = [&d_y, &before].map(|v| gpu.buffer_from("test", v).unwrap().all());
            let op = ScatterRows { lists: &lists_, d_y: &d_y_, d_x: &d_x_, rows, columns, add };
            let mut commands = Commands::new();
            record(&mut commands, &op);
            gpu.run(&commands).await.unwrap();
            let mut want = if add { wide(&before) } else { vec![0.0; before.len()] };
            reference(index, &wide(&d_y), columns as usize, &mut want);
            assert_close(&gpu.read(d_x_).await.unwrap(), &want, 1e-6);
        })
        .await;
    }

    #[test]
    fn lists_name_the_sources_of_every_row_in_order() {
        assert_eq!(lists(&[2, 0, 2], 4), [5, 6, 6, 8, 8, 1, 0, 2]);
        assert_eq!(lists(&[], 1), [2, 2]);
    }

    #[test]
    fn scatter_rows_is_the_gradient_of_gather_rows() {
        let (index, columns) = ([2, 0, 2], 2);
        let d_y = [0.5, -1.0, 2.0, 0.25, 3.0, -0.5];
        let x: Vec<f64> = (0..8).map(f64::from).collect();
        let mut d_x = vec![0.0; x.len()];
        reference(&index, &d_y, columns, &mut d_x);
        let numeric = finite_difference(&x, |x| {
            gather_rows::reference(&index, x, columns).iter().zip(&d_y).map(|(y, d)| y * d).sum()
        });
        // The function is linear: only the rounding of the difference is left.
        d_x.iter().zip(&numeric).for_each(|(a, n)| assert!((a - n).abs() < 1e-9, "{a} {n}"));
    }

    gpu_test! {
        async fn scatter_rows_adds_duplicates_and_zeroes_the_rest() {
            check(&[0], 1, 4, false).await;
            check(&[4, 4, 0, 2, 4], 6, 260, false).await;
            check(&[4, 4, 0, 2, 4], 6, 260, true).await;
            check(&[3; 100], 5, 8, false).await;
        }

        async fn scatter_rows_to_more_rows_than_one_dimension_holds() {
            check(&[70_000, 3, 70_000, 65_536], 70_001, 4, false).await;
        }
    }
}
