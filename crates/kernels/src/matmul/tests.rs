use hearth_formats::layout::WeightLayout;
use hearth_gpu::{Commands, Gpu};

use super::{LowRank, Matmul, record, reference};
use crate::{
    testing::{
        Numbers, assert_close, for_each_profile, gpu_test, layouts, quantized, split_f32, wide,
    },
    variants::{TILES, Tile, Variants},
};

/// Compares with the reference, with and without everything optional.
async fn check(gpu: &Gpu, tile: Tile, shape: [u32; 3], layout: WeightLayout, rank: u32, add: bool) {
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
    let low_rank = (rank > 0).then_some(LowRank {
        z: &z_,
        z_stride: rank + 4,
        z_first: 4,
        b: &b_,
        rank,
        scale: 0.5,
    });
    let variants = Variants { forced: Some(tile), ..Variants::of(gpu) };
    let mut commands = Commands::new();
    let y_stride = stride as u32;
    record(
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
        },
    );
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
    assert_close(&gpu.read(y_).await.unwrap(), &want, 1e-4);
}

gpu_test! {
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
                    x: &x_, w: &w, y: &y_, tokens: t as u32, rows: 0..n as u32, y_stride: n as u32, y_first: 0, low_rank: None, add: false,
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
            let op = Matmul { x: &x_, w: &w, y: &y_, tokens: t as u32, rows: 64..156, y_stride: 92, y_first: 0, low_rank: None, add: false };
            record(&mut commands, &Variants::of(&gpu), &op);
            gpu.run(&commands).await.unwrap();
            let want = reference(&wide(&x), &wide(&weights[64 * k..156 * k]), k);
            assert_close(&gpu.read(y_).await.unwrap(), &want, 1e-5);
        })
        .await;
    }
}
