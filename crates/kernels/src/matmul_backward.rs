//! `dX[T,K] = dY[T,N] · W[N,K] + dZ[T,R] · A[R,K]`, the counterpart of [`crate::matmul`] over the same weight buffers
//! and with the same tiles (kernels `matmul_backward`, which loads directly, and `matmul_tiled`).

use std::ops::Range;

use hearth_gpu::{Commands, Kernel, Slice};

use crate::{
    matmul::{Epilogues, Params, Parts, TILED, TILED_PARTS, epilogues},
    matrix::Matrix,
    variants::{Tile, Variants, direct_tokens, direct_workgroup},
};

static DIRECT: Epilogues = epilogues!("matmul_backward");

pub(crate) fn kernels() -> Vec<&'static Kernel> {
    DIRECT.all().collect()
}

/// The low-rank term of a backward matmul.
#[derive(Clone, Copy)]
pub struct LowRankBackward<'a> {
    /// dZ, `(T, z_stride)`, of which R columns are used.
    pub d_z: &'a Slice,
    /// Elements from one token of dZ to the next, a multiple of 4.
    pub z_stride: u32,
    /// The first column of dZ that is used, a multiple of 4.
    pub z_first: u32,
    /// A, `(R, K)`.
    pub a: &'a Slice,
    /// R, a multiple of 4.
    pub rank: u32,
}

/// Operands of [`record`].
pub struct MatmulBackward<'a> {
    /// dY, `(T, y_stride)`; columns from N up to a multiple of 4 are zero.
    pub d_y: &'a Slice,
    /// W, `(N, K)`.
    pub w: &'a Matrix,
    /// dX, `(T, K)`.
    pub d_x: &'a Slice,
    /// T.
    pub tokens: u32,
    /// The rows of W that are used, usually all. Starts at a multiple of 4.
    pub rows: Range<u32>,
    /// Elements from one token of dY to the next, a multiple of 4.
    pub y_stride: u32,
    /// The column of dY that belongs to the first of the rows, a multiple of 4.
    pub y_first: u32,
    /// The low-rank term.
    pub low_rank: Option<LowRankBackward<'a>>,
    /// `dX +=` instead of `dX =`.
    pub add: bool,
    /// gate and up, `(T, 2K)`, if X is `gelu(gate) · up`: they become their gradients. dX is not written then, only
    /// what it holds is added.
    pub geglu: Option<&'a Slice>,
    /// Whether the sum may come in parts. Not with `geglu`.
    pub parts: Option<Parts<'a>>,
}

/// Records the gradient of a matmul's input: `dX =`, or `dX +=` with `add`; or the gradients of gate and up, if wanted.
/// One dispatch per slab. Returns the number of parts in which dX comes.
pub fn record(commands: &mut Commands, variants: &Variants, op: &MatmulBackward) -> u32 {
    debug_assert!([op.rows.start, op.y_stride, op.y_first].iter().all(|n| n.is_multiple_of(4)));
    let k4 = op.w.columns / 4;
    let slabs: Vec<_> = op.w.slabs_in(&op.rows).collect();
    let tile = variants.tile_backward(op.tokens, op.w.columns);
    let parts = op.parts.filter(|_| op.geglu.is_none());
    let parts = Parts::of(parts, variants, tile, op.w.columns, op.rows.end - op.rows.start);
    for (index, (slab, rows)) in slabs.iter().enumerate() {
        let first = index == 0;
        let gate_up = op.geglu.filter(|_| index + 1 == slabs.len());
        // The low-rank term belongs to the whole matrix: it is added once, with the first slab.
        let low_rank = op.low_rank.filter(|_| first);
        let rank4 = low_rank.map_or(0, |low| low.rank / 4);
        let (z, b) = low_rank.map_or((op.d_y, op.d_y), |low| (low.d_z, low.a));
        let count = rows.end - rows.start;
        let mut constants = slab.constants();
        let part4 = Parts::fours(parts, count.div_ceil(4), 1);
        let (kernels, workgroups, serial) = match tile {
            Tile::Tiled { gm, gn, bk } => {
                constants.extend([("GM", gm), ("GN", gn), ("BK", bk), ("BACKWARD", 1)]);
                let turns = part4.div_ceil(bk) + rank4.div_ceil(bk);
                let down = op.tokens.div_ceil(8 * gm) * Parts::count(parts);
                (&TILED, [k4.div_ceil(2 * gn), down, 1], turns)
            }
            Tile::Direct { .. } | Tile::Split { .. } => {
                let tokens = direct_tokens(op.tokens);
                let (wk, wt) = direct_workgroup(k4);
                constants.extend([("WK", wk), ("WT", wt), ("TM", tokens)]);
                let groups = [k4.div_ceil(wk), op.tokens.div_ceil(tokens).div_ceil(wt), 1];
                (&DIRECT, groups, count.div_ceil(4) + rank4)
            }
        };
        constants.extend([("LORA", low_rank.is_some().into()), ("ADD", (op.add || !first).into())]);
        let params = Params {
            tokens: op.tokens,
            k4,
            row_start: rows.start,
            row_end: rows.end,
            x_stride4: op.y_stride / 4,
            x_first4: (op.y_first + slab.first_row + rows.start - op.rows.start) / 4,
            y_stride: op.w.columns,
            y_first: 0,
            w_first: 0,
            start0: 0,
            rows0: 0,
            start1: 0,
            rows1: 0,
            start2: 0,
            rows2: 0,
            rank4,
            all_rank4: rank4,
            z_stride4: low_rank.map_or(0, |low| low.z_stride / 4),
            z_first4: low_rank.map_or(0, |low| low.z_first / 4),
            lora_scale: 1.0,
            part4,
            first_group_x: 0,
            first_group_y: 0,
        };
        let mut bindings =
            [op.d_y, &slab.quants, &slab.scales, z, b, op.d_x].map(Slice::clone).to_vec();
        if let Some(gate_up) = gate_up {
            constants.push(("PAIRED", 0));
            bindings.push(gate_up.clone());
        }
        let mut kernel = kernels.of(gate_up.is_some());
        if let Some(parts) = parts {
            kernel = &TILED_PARTS;
            constants.extend([("PARTS", parts.count), ("ADD_PARTS", (!first).into())]);
            bindings.push(parts.others.clone());
        }
        let cost = 2 * u64::from(op.tokens) * u64::from(count) * u64::from(op.w.columns);
        commands
            .dispatch(kernel.of(slab.layout), &constants, &params, &bindings, workgroups, cost)
            .split(Params::split())
            .serial(serial);
    }
    Parts::count(parts)
}

/// `dY · W` on the CPU in f64; `d_y` is `(T, N)`, `w` `(N, K)`, the result `(T, K)`.
pub fn reference(d_y: &[f64], w: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    let mut d_x = vec![0.0; d_y.len() / rows * columns];
    for (d_token, token) in d_x.chunks_exact_mut(columns).zip(d_y.chunks_exact(rows)) {
        for (dy, row) in token.iter().zip(w.chunks_exact(columns)) {
            for (d, weight) in d_token.iter_mut().zip(row) {
                *d += dy * weight;
            }
        }
    }
    d_x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        geglu, matmul,
        testing::{
            Numbers, assert_close, finite_difference, for_each_profile, gpu_test, quantized, wide,
        },
        variants::TILES,
    };
    use hearth_formats::layout::WeightLayout;

    async fn check(
        tile: Option<Tile>,
        tokens: u32,
        rows: u32,
        columns: u32,
        layout: WeightLayout,
        rank: u32,
        add: bool,
    ) {
        for_each_profile(async |gpu| {
            let mut numbers = Numbers::new(tokens * 31 + rows);
            let (t, n, k, r) = (tokens as usize, rows as usize, columns as usize, rank as usize);
            let stride = n.next_multiple_of(4);
            let (w, weights) = quantized(&gpu, &mut numbers, rows, columns, layout);
            let d_y = numbers.normal(t * n, 1.0);
            let padded: Vec<f32> = d_y
                .chunks_exact(n)
                .flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, stride - n)))
                .collect();
            let before = numbers.normal(t * k, 1.0);
            let (d_z, a) = (numbers.normal(t * r, 1.0), numbers.normal(r * k, 1.0));
            let [dy_, dx_, dz_, a_] =
                [&padded, &before, &d_z, &a].map(|v| gpu.buffer_from("test", v).unwrap().all());
            let low_rank = (rank > 0).then_some(LowRankBackward {
                d_z: &dz_,
                z_stride: rank,
                z_first: 0,
                a: &a_,
                rank,
            });
            let y_stride = stride as u32;
            let op = MatmulBackward {
                d_y: &dy_,
                w: &w,
                d_x: &dx_,
                tokens,
                rows: 0..rows,
                y_stride,
                y_first: 0,
                low_rank,
                add,
                geglu: None,
                parts: None,
            };
            let mut commands = Commands::new();
            let variants = Variants { forced: tile, ..Variants::of(&gpu) };
            record(&mut commands, &variants, &op);
            gpu.run(&commands).await.unwrap();

            let mut want = reference(&wide(&d_y), &weights, n, k);
            if rank > 0 {
                let low = reference(&wide(&d_z), &wide(&a), r, k);
                want.iter_mut().zip(low).for_each(|(v, l)| *v += l);
            }
            if add {
                want.iter_mut().zip(&before).for_each(|(v, b)| *v += f64::from(*b));
            }
            assert_close(&gpu.read(dx_).await.unwrap(), &want, 1e-4);
        })
        .await;
    }

    gpu_test! {
        async fn backward_of_awkward_shapes_in_every_layout() {
            for (t, n, k) in [(1, 1, 256), (3, 2, 256), (7, 33, 512), (9, 130, 256)] {
                for layout in crate::testing::layouts() {
                    check(None, t, n, k, layout, 0, false).await;
                }
                check(None, t, n, k, WeightLayout::Q4, 8, true).await;
            }
        }

        async fn backward_in_every_tile() {
            for &tile in TILES {
                for (t, n, k) in [(1, 1, 4), (9, 67, 100), (67, 130, 36), (65, 8, 132)] {
                    check(Some(tile), t, n, k, WeightLayout::F32, 0, false).await;
                }
                check(Some(tile), 67, 130, 256, WeightLayout::F32, 12, true).await;
            }
            let tile = Some(Tile::Tiled { gm: 8, gn: 8, bk: 4 });
            for layout in crate::testing::layouts() {
                check(tile, 9, 37, 512, layout, 4, false).await;
            }
        }

        /// A dY of which only some columns belong to the rows, and a dZ of which only some are used.
        async fn backward_of_a_part_of_the_columns() {
            for_each_profile(async |gpu| {
                for &tile in TILES {
                    let mut numbers = Numbers::new(7);
                    let (t, n, k, r) = (11, 12, 64, 4);
                    let (weights, a) = (numbers.normal(n * k, 1.0), numbers.normal(r * k, 1.0));
                    let (d_y, d_z) = (numbers.normal(t * 24, 1.0), numbers.normal(t * 3 * r, 1.0));
                    let w = crate::testing::split_f32(&gpu, &weights, k as u32, 8);
                    let [dy_, dz_, a_] = [&d_y, &d_z, &a].map(|v| gpu.buffer_from("test", v).unwrap().all());
                    let dx_ = gpu.buffer("test", (4 * t * k) as u64).unwrap().all();
                    let low_rank =
                        Some(LowRankBackward { d_z: &dz_, z_stride: 12, z_first: 4, a: &a_, rank: 4 });
                    let op = MatmulBackward {
                        d_y: &dy_, w: &w, d_x: &dx_, tokens: t as u32, rows: 0..n as u32, y_stride: 24, y_first: 8,
                        low_rank, add: false, geglu: None, parts: None,
                    };
                    let mut commands = Commands::new();
                    record(&mut commands, &Variants { forced: Some(tile), ..Variants::of(&gpu) }, &op);
                    gpu.run(&commands).await.unwrap();
                    let columns = |v: &[f32], all: usize, first: usize, count: usize| -> Vec<f64> {
                        v.chunks(all).flat_map(|row| wide(&row[first..first + count])).collect()
                    };
                    let mut want = reference(&columns(&d_y, 24, 8, n), &wide(&weights), n, k);
                    let low = reference(&columns(&d_z, 12, 4, r), &wide(&a), r, k);
                    want.iter_mut().zip(low).for_each(|(v, l)| *v += l);
                    assert_close(&gpu.read(dx_).await.unwrap(), &want, 1e-5);
                }
            })
            .await;
        }

        async fn geglu_backward_is_the_end_of_the_gradient_of_its_result() {
            for_each_profile(async |gpu| {
                for &tile in TILES {
                    for (t, n, k, step, scale) in [(1, 4, 4, 4, 1.0), (9, 36, 100, 36, 1.0), (67, 24, 132, 8, 3.0), (5, 8, 64, 8, 40.0)] {
                        let mut numbers = Numbers::new(k as u32);
                        let [weights, d_y, before, gate_up] =
                            [n * k, t * n, t * k, 2 * t * k].map(|len| numbers.normal(len, 1.0));
                        let gate_up: Vec<f32> = gate_up.iter().map(|g| scale * g).collect();
                        let w = crate::testing::split_f32(&gpu, &weights, k as u32, step as u32);
                        let [dy_, dx_, pair_] = [&d_y, &before, &gate_up].map(|v| gpu.buffer_from("test", v).unwrap().all());
                        for add in [false, true] {
                            gpu.write(&dx_, 0, &before);
                            gpu.write(&pair_, 0, &gate_up);
                            let op = MatmulBackward {
                                d_y: &dy_, w: &w, d_x: &dx_, tokens: t as u32, rows: 0..n as u32, y_stride: n as u32,
                                y_first: 0, low_rank: None, add, geglu: Some(&pair_), parts: None,
                            };
                            let mut commands = Commands::new();
                            record(&mut commands, &Variants { forced: Some(tile), ..Variants::of(&gpu) }, &op);
                            assert_eq!(commands.dispatches(), n / step);
                            gpu.run(&commands).await.unwrap();
                            let mut d_act = reference(&wide(&d_y), &wide(&weights), n, k);
                            if add {
                                d_act.iter_mut().zip(&before).for_each(|(d, b)| *d += f64::from(*b));
                            }
                            let half = |v: &[f32], second: usize| -> Vec<f64> {
                                v.chunks(2 * k).flat_map(|row| wide(&row[second * k..][..k])).collect()
                            };
                            let (d_gate, d_up) =
                                geglu::reference_backward(&d_act, &half(&gate_up, 0), &half(&gate_up, 1));
                            let got: Vec<f32> = gpu.read(&pair_).await.unwrap();
                            for (second, want) in [(0, d_gate), (1, d_up)] {
                                let got: Vec<f32> =
                                    got.chunks(2 * k).flat_map(|row| row[second * k..][..k].to_vec()).collect();
                                assert_close(&got, &want, 1e-5);
                            }
                        }
                    }
                }
            })
            .await;
        }

        async fn the_parts_of_a_gradient_add_up() {
            for_each_profile(async |gpu| {
                let mut numbers = Numbers::new(5);
                // Slabs of 512, 512 and 77 rows, the last of which are all in the first part; one slab in four parts.
                for (layout, n, k, step, count) in
                    [(WeightLayout::F32, 1101, 36, 512, 2), (WeightLayout::Q4, 2048, 256, 2048, 4)]
                {
                    let (t, r) = (19, 8);
                    let stride = usize::next_multiple_of(n, 4);
                    let (w, weights) = match layout {
                        WeightLayout::F32 => {
                            let weights = numbers.normal(n * k, 1.0);
                            (crate::testing::split_f32(&gpu, &weights, k as u32, step), wide(&weights))
                        }
                        _ => quantized(&gpu, &mut numbers, n as u32, k as u32, layout),
                    };
                    let mut d_y = numbers.normal(t * stride, 1.0);
                    d_y.chunks_exact_mut(stride).for_each(|row| row[n..].fill(0.0));
                    let [before, d_z, a] = [t * k, t * r, r * k].map(|len| numbers.normal(len, 1.0));
                    let others = numbers.normal((count - 1) * t * k, 1.0);
                    let [dy_, dx_, dz_, a_, others_] =
                        [&d_y, &before, &d_z, &a, &others].map(|v| gpu.buffer_from("test", v).unwrap().all());
                    let rank = r as u32;
                    let low_rank = Some(LowRankBackward { d_z: &dz_, z_stride: rank, z_first: 0, a: &a_, rank });
                    // More parts than there are terms for are not made.
                    let parts = Some(Parts { others: &others_, count: if n == 1101 { 9 } else { 4 } });
                    let op = MatmulBackward {
                        d_y: &dy_, w: &w, d_x: &dx_, tokens: t as u32, rows: 0..n as u32, y_stride: stride as u32,
                        y_first: 0, low_rank, add: true, geglu: None, parts,
                    };
                    let tile = Some(Tile::Tiled { gm: 4, gn: 8, bk: 4 });
                    let mut commands = Commands::new();
                    let got = record(&mut commands, &Variants { forced: tile, ..Variants::of(&gpu) }, &op);
                    assert_eq!(got, count as u32);
                    gpu.run(&commands).await.unwrap();
                    let d_y: Vec<f64> = d_y.chunks_exact(stride).flat_map(|row| wide(&row[..n])).collect();
                    let mut want = reference(&d_y, &weights, n, k);
                    let low = reference(&wide(&d_z), &wide(&a), r, k);
                    want.iter_mut().zip(low).zip(&before).for_each(|((v, l), b)| *v += l + f64::from(*b));
                    let mut got: Vec<f32> = gpu.read(dx_).await.unwrap();
                    let others: Vec<f32> = gpu.read(others_).await.unwrap();
                    for part in others.chunks_exact(t * k) {
                        got.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
                    }
                    assert_close(&got, &want, 1e-4);
                }
            })
            .await;
        }

        async fn backward_over_slabs_adds_up() {
            for_each_profile(async |gpu| {
                let mut numbers = Numbers::new(5);
                let (t, n, k) = (3, 24, 64);
                let weights = numbers.normal(n * k, 1.0);
                let d_y = numbers.normal(t * n, 1.0);
                let split = crate::testing::split_f32(&gpu, &weights, k as u32, 8);
                let dy_ = gpu.buffer_from("test", &d_y).unwrap().all();
                let dx_ = gpu.buffer("test", (4 * t * k) as u64).unwrap().all();
                let op = MatmulBackward {
                    d_y: &dy_, w: &split, d_x: &dx_, tokens: t as u32, rows: 0..n as u32, y_stride: n as u32,
                    y_first: 0, low_rank: None, add: false, geglu: None, parts: None,
                };
                let mut commands = Commands::new();
                record(&mut commands, &Variants::of(&gpu), &op);
                gpu.run(&commands).await.unwrap();
                let want = reference(&wide(&d_y), &wide(&weights), n, k);
                assert_close(&gpu.read(dx_).await.unwrap(), &want, 1e-5);
            })
            .await;
        }
    }

    // The loss is linear in x, so the difference is exact except for rounding: 1e-16 / 1e-5.
    #[test]
    fn reference_agrees_with_finite_differences() {
        let mut numbers = Numbers::new(1);
        let (n, k) = (3, 4);
        let (x, w, d_y) = (
            wide(&numbers.normal(2 * k, 1.0)),
            wide(&numbers.normal(n * k, 1.0)),
            wide(&numbers.normal(2 * n, 1.0)),
        );
        let loss =
            |x: &[f64]| matmul::reference(x, &w, k).iter().zip(&d_y).map(|(y, d)| y * d).sum();
        let numeric = finite_difference(&x, loss);
        for (a, b) in reference(&d_y, &w, n, k).iter().zip(numeric) {
            assert!((a - b).abs() < 1e-8, "{a} {b}");
        }
    }
}
