use std::ops::Range;

use hearth_formats::layout::WeightLayout;
use hearth_gpu::{Commands, Gpu};

use super::{LowRank, Matmul, Parts, record, reference};
use crate::{
    geglu,
    matrix::{Matrix, Slab},
    testing::{
        Numbers, assert_close, for_each_profile, gpu_test, layouts, quantized, split_f32, wide,
    },
    variants::{TILES, Tile, Variants},
};

/// Compares with the reference, with and without everything optional.
async fn check(gpu: &Gpu, tile: Tile, shape: [u32; 3], layout: WeightLayout, rank: u32, add: bool) {
    check_parts(gpu, tile, shape, layout, (rank, add), 1).await;
}

/// The same with a sum that comes in so many parts.
async fn check_parts(
    gpu: &Gpu,
    tile: Tile,
    shape: [u32; 3],
    layout: WeightLayout,
    (rank, add): (u32, bool),
    count: u32,
) {
    let [tokens, rows, columns] = shape;
    let mut numbers = Numbers::new(tokens * 7 + rows);
    let (t, n, k, r) = (tokens as usize, rows as usize, columns as usize, rank as usize);
    let (w, weights) = quantized(gpu, &mut numbers, rows, columns, layout);
    // Columns next to those that are written.
    let first = 5;
    let stride = first + n + 3;
    let [x, z, b, before] =
        [t * k, t * (r + 4), n * r, t * stride].map(|len| numbers.normal(len, 1.0));
    let [x_, z_, b_, y_] = [&x, &z, &b, &before].map(|v| gpu.buffer_from("test", v).unwrap().all());
    let all = 0..rows;
    let low_rank = (rank > 0).then_some(LowRank {
        z: &z_,
        z_stride: rank + 4,
        z_first: 4,
        b: &b_,
        rank,
        targets: std::slice::from_ref(&all),
        scale: 0.5,
    });
    let variants = Variants { forced: Some(tile), ..Variants::of(gpu) };
    let mut commands = Commands::new();
    let y_stride = stride as u32;
    let others = numbers.normal((count as usize - 1).max(1) * t * stride, 1.0);
    let others = gpu.buffer_from("test", &others).unwrap().all();
    let parts = (count > 1).then_some(Parts { others: &others, count });
    let got = record(
        &mut commands,
        &variants,
        &Matmul {
            x: &x_,
            w: &w,
            y: &y_,
            tokens,
            rows: 0..rows,
            y_stride,
            y_first: 5,
            low_rank,
            add,
            geglu: None,
            parts,
        },
    );
    assert_eq!(got, count);
    gpu.run(&commands).await.unwrap();

    let product = reference(&wide(&x), &weights, k);
    let z: Vec<f32> = z.chunks(r + 4).flat_map(|row| row[4..].iter().copied()).collect();
    let low = if rank > 0 { reference(&wide(&z), &wide(&b), r) } else { vec![0.0; t * n] };
    let mut want = wide(&before);
    for (i, value) in want.iter_mut().enumerate() {
        let (token, row) = (i / stride, (i % stride).wrapping_sub(first));
        if row < n {
            let sum = product[token * n + row] + 0.5 * low[token * n + row];
            *value = if add { *value + sum } else { sum };
        }
    }
    let mut y: Vec<f32> = gpu.read(y_).await.unwrap();
    let others: Vec<f32> = gpu.read(others).await.unwrap();
    for part in others.chunks_exact(y.len()).take(count as usize - 1) {
        for (i, (sum, part)) in y.iter_mut().zip(part).enumerate() {
            if (i % stride).wrapping_sub(first) < n {
                *sum += part;
            }
        }
    }
    assert_close(&y, &want, 1e-4);
}

/// Matrices one below the other, each in a layout of its own, and their weights.
fn stacked(
    gpu: &Gpu,
    numbers: &mut Numbers,
    parts: &[(u32, WeightLayout)],
    columns: u32,
) -> (Matrix, Vec<f64>) {
    let (mut slabs, mut weights, mut first_row) = (vec![], vec![], 0);
    for &(rows, layout) in parts {
        let (part, values) = quantized(gpu, numbers, rows, columns, layout);
        slabs.extend(
            part.slabs
                .into_iter()
                .map(|slab| Slab { first_row: first_row + slab.first_row, ..slab }),
        );
        weights.extend(values);
        first_row += rows;
    }
    (Matrix { rows: first_row, columns, slabs }, weights)
}

/// The low-rank term of targets, each with its own columns of z, from column 4 on, and rows of b.
fn low_ranks(z: &[f32], b: &[f32], targets: &[Range<u32>], [n, rank]: [usize; 2]) -> Vec<f64> {
    let z_stride = 4 + targets.len() * rank;
    let mut low = vec![0.0; z.len() / z_stride * n];
    let mut b_row = 0;
    for (index, target) in targets.iter().enumerate() {
        for row in target.clone() {
            for (t, z) in z.chunks_exact(z_stride).enumerate() {
                let z = &z[4 + index * rank..][..rank];
                let b = &b[b_row * rank..][..rank];
                low[t * n + row as usize] =
                    z.iter().zip(b).map(|(z, b)| f64::from(*z) * f64::from(*b)).sum();
            }
            b_row += 1;
        }
    }
    low
}

/// gate and up of a gated MLP from one matmul, with their GeGLU; `shape` is T, F and K. Whole, and row range by row
/// range where `whole` is false.
async fn check_geglu(
    gpu: &Gpu,
    tile: Tile,
    shape: [u32; 3],
    layouts: [WeightLayout; 2],
    whole: bool,
    scale: f32,
) {
    let [tokens, f, columns] = shape;
    let mut numbers = Numbers::new(tokens + f);
    let (t, n, k, r) = (tokens as usize, 2 * f as usize, columns as usize, 8);
    let (w, weights) = match layouts {
        [one, other] if one == other => quantized(gpu, &mut numbers, 2 * f, columns, one),
        [gate, up] => stacked(gpu, &mut numbers, &[(f, gate), (f, up)], columns),
    };
    let [x, z, b] = [t * k, t * (4 + 2 * r), n * r].map(|len| numbers.normal(len, scale));
    let [x_, z_, b_, b_gate, b_up] = [&x[..], &z, &b, &b[..n / 2 * r], &b[n / 2 * r..]]
        .map(|v| gpu.buffer_from("test", v).unwrap().all());
    let [y, act] = [t * n, t * n / 2].map(|len| gpu.buffer("test", 4 * len as u64).unwrap().all());
    let targets = [0..f, f..2 * f];
    let mut commands = Commands::new();
    let variants = Variants { forced: Some(tile), ..Variants::of(gpu) };
    let all = 0..2 * f;
    let parts = if whole { std::slice::from_ref(&all) } else { &targets[..] };
    for (index, rows) in parts.iter().cloned().enumerate() {
        let own = 0..f;
        let b_ = if whole { &b_ } else { [&b_gate, &b_up][index] };
        let low_rank = LowRank {
            z: &z_,
            z_stride: 4 + 2 * r as u32,
            z_first: 4 + (index * r) as u32,
            b: b_,
            rank: r as u32,
            targets: if whole { &targets[..] } else { std::slice::from_ref(&own) },
            scale: 0.5,
        };
        let (low_rank, y_first) = (Some(low_rank), rows.start);
        let op = Matmul {
            x: &x_,
            w: &w,
            y: &y,
            tokens,
            rows,
            y_stride: 2 * f,
            y_first,
            low_rank,
            add: false,
            geglu: Some(&act),
            parts: None,
        };
        record(&mut commands, &variants, &op);
    }
    let launches = if whole && layouts[0] == layouts[1] { 1 } else { 2 };
    assert_eq!(commands.dispatches(), launches);
    gpu.run(&commands).await.unwrap();
    let low = low_ranks(&z, &b, &targets, [n, r]);
    let sums: Vec<f64> =
        reference(&wide(&x), &weights, k).iter().zip(low).map(|(y, low)| y + 0.5 * low).collect();
    assert_close(&gpu.read(y).await.unwrap(), &sums, 1e-5);
    let halves = |second: usize| -> Vec<f64> {
        sums.chunks_exact(n).flat_map(|row| row[second * n / 2..][..n / 2].to_vec()).collect()
    };
    assert_close(&gpu.read(act).await.unwrap(), &geglu::reference(&halves(0), &halves(1)), 1e-5);
}

gpu_test! {
    async fn stacked_projections_have_their_own_low_rank_terms() {
        let (q4, q8) = (WeightLayout::Q4, WeightLayout::Q8);
        for_each_profile(async |gpu| {
            for &tile in TILES {
                // Of three projections all, two that are apart, one; in one layout and in two.
                for (layouts, targets) in [
                    ([q8, q8, q8], &[0..68, 68..84, 84..100][..]), ([q4, q4, q8], &[0..68, 68..84, 84..100]),
                    ([q4, q8, q4], &[0..68, 84..100]), ([q8, q8, q8], std::slice::from_ref(&(68..84))),
                ] {
                    let mut numbers = Numbers::new(9);
                    let (t, n, k, r) = (19, 100, 64, 8);
                    let parts: Vec<_> = [68, 16, 16].into_iter().zip(layouts).collect();
                    let (w, weights) = stacked(&gpu, &mut numbers, &parts, k as u32);
                    let b_rows: usize = targets.iter().map(|t| t.len()).sum();
                    let z_stride = 4 + targets.len() * r;
                    let [x, z, b] = [t * k, t * z_stride, b_rows * r].map(|len| numbers.normal(len, 1.0));
                    let [x_, z_, b_] = [&x, &z, &b].map(|v| gpu.buffer_from("test", v).unwrap().all());
                    let y = gpu.buffer("test", 4 * (t * n) as u64).unwrap().all();
                    let low_rank =
                        Some(LowRank { z: &z_, z_stride: z_stride as u32, z_first: 4, b: &b_, rank: r as u32, targets, scale: 0.5 });
                    let op = Matmul {
                        x: &x_, w: &w, y: &y, tokens: t as u32, rows: 0..n as u32, y_stride: n as u32, y_first: 0,
                        low_rank, add: false, geglu: None, parts: None,
                    };
                    let mut commands = Commands::new();
                    record(&mut commands, &Variants { forced: Some(tile), ..Variants::of(&gpu) }, &op);
                    gpu.run(&commands).await.unwrap();
                    let low = low_ranks(&z, &b, targets, [n, r]);
                    let sums = reference(&wide(&x), &weights, k);
                    let want: Vec<f64> = sums.iter().zip(low).map(|(y, low)| y + 0.5 * low).collect();
                    assert_close(&gpu.read(y).await.unwrap(), &want, 1e-5);
                }
            }
        })
        .await;
    }

    async fn geglu_is_the_end_of_gate_and_up() {
        let (f32, q4, q8) = (WeightLayout::F32, WeightLayout::Q4, WeightLayout::Q8);
        for_each_profile(async |gpu| {
            for &tile in TILES {
                for shape in [[1, 4, 4], [9, 36, 100], [67, 132, 36]] {
                    check_geglu(&gpu, tile, shape, [f32, f32], true, 1.0).await;
                    check_geglu(&gpu, tile, shape, [f32, f32], false, 1.0).await;
                }
                check_geglu(&gpu, tile, [5, 68, 256], [q4, q8], true, 1.0).await;
                check_geglu(&gpu, tile, [5, 68, 256], [q8, q8], true, 1.0).await;
                // Gates so large that a sigmoid is 0 or 1, and so small that it is one half.
                for scale in [1e3, 1e-5] {
                    check_geglu(&gpu, tile, [5, 68, 64], [f32, f32], true, scale).await;
                }
            }
        })
        .await;
    }

    async fn every_tile_on_awkward_shapes() {
        for_each_profile(async |gpu| {
            for &tile in TILES {
                for shape in [[1, 1, 4], [1, 5, 64], [3, 4, 36], [8, 64, 32], [9, 67, 100], [65, 70, 36]] {
                    check(&gpu, tile, shape, WeightLayout::F32, 0, false).await;
                }
                check(&gpu, tile, [67, 130, 256], WeightLayout::F32, 12, true).await;
            }
        })
        .await;
    }

    async fn every_layout_in_every_kind_of_tile() {
        for_each_profile(async |gpu| {
            for tile in [Tile::Direct { tokens: 8 }, Tile::Direct { tokens: 1 }, Tile::Split { tokens: 4 }, Tile::Tiled { gm: 8, gn: 8, bk: 4 }] {
                for layout in layouts() {
                    check(&gpu, tile, [9, 37, 512], layout, 4, false).await;
                }
                for group_tail in [32, 96] {
                    check(&gpu, tile, [5, 9, group_tail], WeightLayout::Q8, 0, false).await;
                }
            }
        })
        .await;
    }

    async fn the_parts_of_a_sum_add_up() {
        for_each_profile(async |gpu| {
            for tile in TILES.iter().copied().filter(|tile| matches!(tile, Tile::Tiled { .. })) {
                check_parts(&gpu, tile, [9, 37, 1100], WeightLayout::F32, (12, true), 2).await;
                check_parts(&gpu, tile, [67, 24, 2048], WeightLayout::Q4, (4, false), 4).await;
            }
            let tile = Tile::Tiled { gm: 4, gn: 8, bk: 4 };
            for layout in layouts() {
                check_parts(&gpu, tile, [3, 9, 1536], layout, (4, false), 3).await;
            }
        })
        .await;
    }

    async fn slabs_and_parts_give_the_same_bits() {
        for_each_profile(async |gpu| {
            let mut numbers = Numbers::new(11);
            let (t, n, k) = (5, 200, 64);
            let (x, weights) = (numbers.normal(t * k, 1.0), numbers.normal(n * k, 1.0));
            let x_ = gpu.buffer_from("test", &x).unwrap().all();
            let mut results = vec![];
            for (step, operations) in [(200, u64::MAX), (72, u64::MAX), (200, 1)] {
                let w = split_f32(&gpu, &weights, k as u32, step);
                let y_ = gpu.buffer("test", (4 * t * n) as u64).unwrap().all();
                let variants = Variants::of(&gpu);
                let mut commands = Commands::new();
                let op = Matmul {
                    x: &x_, w: &w, y: &y_, tokens: t as u32, rows: 0..n as u32, y_stride: n as u32, y_first: 0, low_rank: None, add: false, geglu: None, parts: None,
                };
                record(&mut commands, &variants, &op);
                gpu.run_in_parts(&commands, operations).await.unwrap();
                results.push((commands.dispatches(), gpu.read::<f32>(y_).await.unwrap()));
            }
            assert_eq!(results.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 3, 1]);
            assert_close(&results[0].1, &reference(&wide(&x), &wide(&weights), k), 1e-5);
            assert_eq!(results[0].1, results[1].1);
            assert_eq!(results[0].1, results[2].1);
        })
        .await;
    }

    async fn a_range_of_rows_crosses_slabs() {
        for_each_profile(async |gpu| {
            let mut numbers = Numbers::new(12);
            let (t, n, k) = (3, 200, 64);
            let (x, weights) = (numbers.normal(t * k, 1.0), numbers.normal(n * k, 1.0));
            let x_ = gpu.buffer_from("test", &x).unwrap().all();
            let w = split_f32(&gpu, &weights, k as u32, 72);
            let y_ = gpu.buffer("test", (4 * t * 92) as u64).unwrap().all();
            let mut commands = Commands::new();
            let op = Matmul { x: &x_, w: &w, y: &y_, tokens: t as u32, rows: 64..156, y_stride: 92, y_first: 0, low_rank: None, add: false, geglu: None, parts: None };
            record(&mut commands, &Variants::of(&gpu), &op);
            gpu.run(&commands).await.unwrap();
            let want = reference(&wide(&x), &wide(&weights[64 * k..156 * k]), k);
            assert_close(&gpu.read(y_).await.unwrap(), &want, 1e-5);
        })
        .await;
    }
}
