//! Kernels that can outlast a submission give the same bits whole and in parts.

use hearth_formats::layout::WeightLayout;
use hearth_gpu::{Command, Commands, Gpu, Slice};

use crate::{
    attention::tests::{Case, tree},
    lora_dz::{self, LoraDz},
    lora_grad,
    matmul::{self, LowRank, Matmul},
    matmul_backward::{self, LowRankBackward, MatmulBackward},
    testing::{Numbers, for_each_profile, gpu_test, quantized},
    variants::{TILES, Tile, Variants},
};

/// Budgets as shares of the launch: one workgroup at a time for most kernels, and a few parts.
const SHARES: [u64; 2] = [20, 3];
/// The kernels of a GPU, and those of a CPU rasterizer.
const BOTH: [Variants; 2] = [Variants::of_kind(false), Variants::of_kind(true)];

/// Runs one launch whole and in parts, from the same values in `out`.
async fn check(gpu: &Gpu, commands: &Commands, out: &Slice, before: &[f32], what: &str) {
    let [Command::Dispatch(dispatch)] = commands.items() else { panic!("one launch: {what}") };
    assert!(dispatch.split.is_some(), "{what} cannot be cut");
    let run = async |operations| {
        gpu.write(out, 0, before);
        gpu.run_in_parts(commands, operations).await.unwrap();
        gpu.read::<u32>(out).await.unwrap()
    };
    let whole = run(u64::MAX).await;
    for share in SHARES {
        assert_eq!(run(dispatch.cost / share).await, whole, "{what}, in parts of 1/{share}");
    }
}

gpu_test! {
    async fn matmuls_in_parts_give_the_same_bits() {
        for_each_profile(async |gpu| {
            let mut numbers = Numbers::new(3);
            let (t, n, k, r) = (37, 136, 256, 4);
            let mut buffer = |len: u32| gpu.buffer_from("test", &numbers.normal(len as usize, 1.0)).unwrap().all();
            let [x, y, z, b, a] = [t * k, t * n, t * 2 * r, n * r, r * k].map(&mut buffer);
            let before = Numbers::new(4).normal((t * n) as usize, 1.0);
            let before_x = Numbers::new(5).normal((t * k) as usize, 1.0);
            let d_y = gpu.buffer_from("test", &before).unwrap().all();
            for layout in [WeightLayout::F32, WeightLayout::Q4] {
                let (w, _) = quantized(&gpu, &mut Numbers::new(6), n, k, layout);
                for &tile in TILES {
                    let low_rank = Some(LowRank { z: &z, z_stride: 2 * r, z_first: 0, b: &b, rank: r, targets: &[0..n / 2, n / 2..n], scale: 0.5 });
                    let op = Matmul { x: &x, w: &w, y: &y, tokens: t, rows: 0..n, y_stride: n, y_first: 0, low_rank, add: true, geglu: None, parts: None };
                    let variants = Variants { forced: Some(tile), ..Variants::of(&gpu) };
                    let mut commands = Commands::new();
                    matmul::record(&mut commands, &variants, &op);
                    check(&gpu, &commands, &y, &before, &format!("{tile:?}, {layout:?}")).await;
                }
                for tile in [None].into_iter().chain(TILES.iter().copied().map(Some)) {
                    let low_rank = Some(LowRankBackward { d_z: &z, z_stride: r, z_first: 0, a: &a, rank: r });
                    let op = MatmulBackward {
                        d_y: &d_y, w: &w, d_x: &x, tokens: t, rows: 0..n, y_stride: n, y_first: 0, low_rank, add: true, geglu: None, parts: None,
                    };
                    let mut commands = Commands::new();
                    let variants = Variants { forced: tile, ..Variants::of(&gpu) };
                    matmul_backward::record(&mut commands, &variants, &op);
                    check(&gpu, &commands, &x, &before_x, "matmul_backward").await;
                }
            }
        })
        .await;
    }

    async fn sums_in_parts_give_the_same_bits() {
        for_each_profile(async |gpu| {
            let mut numbers = Numbers::new(3);
            let (t, n, k) = (37, 72, 1024);
            let (w, _) = quantized(&gpu, &mut Numbers::new(6), n, k, WeightLayout::Q4);
            let mut buffer = |len: u32| gpu.buffer_from("test", &numbers.normal(len as usize, 1.0)).unwrap().all();
            let [x, y, others] = [t * k, t * n, t * n].map(&mut buffer);
            let parts = Some(matmul::Parts { others: &others, count: 2 });
            let op = Matmul { x: &x, w: &w, y: &y, tokens: t, rows: 0..n, y_stride: n, y_first: 0, low_rank: None, add: false, geglu: None, parts };
            let tile = Some(Tile::Tiled { gm: 4, gn: 8, bk: 4 });
            let mut commands = Commands::new();
            matmul::record(&mut commands, &Variants { forced: tile, ..Variants::of(&gpu) }, &op);
            let before = Numbers::new(4).normal((t * n) as usize, 1.0);
            for out in [&y, &others] {
                check(&gpu, &commands, out, &before, "a sum in parts").await;
            }
        })
        .await;
    }

    async fn lora_grad_in_parts_gives_the_same_bits() {
        for_each_profile(async |gpu| {
            for variants in &BOTH {
                let inputs = [&[(640, &[256, 64][..])][..], &[(16, &[272])], &[(640, &[256, 64]), (256, &[640])]];
                for (shape, inputs) in [[33, 8], [5, 4], [33, 8]].into_iter().zip(inputs) {
                    let case = lora_grad::tests::Case::new(&gpu, shape, inputs, true);
                    let mut commands = Commands::new();
                    case.record(&mut commands, variants);
                    let (all, before) = case.in_one();
                    check(&gpu, &commands, &all, &before, "lora_grad").await;
                }
                let (t, n, r) = (21, 256, 8);
                let mut numbers = Numbers::new(8);
                let mut buffer = |len: u32| gpu.buffer_from("test", &numbers.normal(len as usize, 1.0)).unwrap().all();
                let [d_y, b, d_z] = [t * 2 * n, 2 * n * r, t * 2 * r].map(&mut buffer);
                let op = LoraDz {
                    d_y: &d_y, y_stride: 2 * n, parts: &[0..n, n..2 * n], b: &b, d_z: &d_z, z_stride: 2 * r, z_first: 0,
                    tokens: t, rank: r, scale: 0.5,
                };
                let mut commands = Commands::new();
                lora_dz::record(&mut commands, variants, &op);
                let before = Numbers::new(9).normal((t * 2 * r) as usize, 1.0);
                check(&gpu, &commands, &d_z, &before, "lora_dz").await;
            }
        })
        .await;
    }

    async fn attention_in_parts_gives_the_same_bits() {
        for_each_profile(async |gpu| {
            for dims in [[4, 1, 32], [4, 2, 16], [3, 3, 4]] {
                let case = Case::new(tree(21, &[8, 1, 40, 3], false), 0, dims).window(16);
                let (o, lse) = case.run(&gpu).await;
                let gradients = case.gradients(&gpu).await;
                for share in SHARES {
                    let operations = case.shape.cost(2) / share;
                    let parts = Case { operations, ..case.clone() };
                    assert_eq!(parts.run(&gpu).await, (o.clone(), lse.clone()), "{dims:?}, 1/{share}");
                    assert_eq!(parts.gradients(&gpu).await, gradients, "{dims:?}, 1/{share}");
                }
            }
        })
        .await;
    }
}
