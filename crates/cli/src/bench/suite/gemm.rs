//! Every tile and layout of the matmul: first that it is right, then how fast it is.

use anyhow::Result;
use hearth_formats::layout::{ScaleForm, WeightLayout};
use hearth_gpu::{Commands, Gpu, Slice};
use hearth_kernels::{
    matmul::{self, Matmul},
    matmul_backward::{self, MatmulBackward},
    matrix::Matrix,
    variants::{TILES, Tile, Variants},
};
use serde::Serialize;

use super::{Until, ceilings::Ceilings};
use crate::{
    bench::{Gemm, GemmShape, tile_name},
    synthetic,
};

const LAYOUTS: [WeightLayout; 4] =
    [WeightLayout::F32, WeightLayout::F16, WeightLayout::Q8, WeightLayout::Q4];
/// What holds for f32 sums over a few hundred products.
const RIGHT: f64 = 1e-5;
const REPEAT: u32 = 5;

const fn shape(tokens: u32, outputs: u32, inputs: u32) -> GemmShape {
    GemmShape { tokens, outputs, inputs }
}

/// Training batches and single tokens on the matrices of Gemma 2B, then of Gemma 3 270M.
pub const SHAPES: [GemmShape; 14] = [
    shape(512, 16_384, 2048),
    shape(512, 2048, 16_384),
    shape(512, 2048, 2048),
    shape(512, 256, 2048),
    shape(512, 2048, 640),
    shape(512, 640, 2048),
    shape(512, 1024, 640),
    shape(512, 640, 1024),
    shape(512, 256, 640),
    shape(2048, 16_384, 2048),
    shape(2048, 2048, 640),
    shape(8, 16_384, 2048),
    shape(1, 16_384, 2048),
    shape(1, 2048, 640),
];
/// For tests.
pub const TOY: [GemmShape; 2] = [shape(33, 64, 64), shape(1, 64, 64)];

/// A variant against the reference.
#[derive(Serialize)]
pub struct Checked {
    variant: String,
    /// ‖difference‖ / ‖reference‖.
    error: f64,
    right: bool,
}

/// Compares every tile and layout, forward and backward, with the reference in f64, on a shape that
/// fits no tile.
pub async fn check_variants(gpu: &Gpu, until: Until) -> Result<Vec<Checked>> {
    let (tokens, outputs, inputs) = (37_u32, 76_u32, 256_u32);
    let all = [
        WeightLayout::F32,
        WeightLayout::F16,
        WeightLayout::Q8,
        WeightLayout::Q4,
        WeightLayout::Quant { bits: 4, group: 32, scale: ScaleForm::TwoLevel, minimum: true },
    ];
    let mut checked = vec![];
    for layout in all {
        let rows = synthetic::rows(layout, outputs as usize, inputs as usize)?;
        let weights: Vec<f64> = rows.decode().into_iter().map(f64::from).collect();
        let w = Matrix::new(gpu, "checked", outputs, inputs, layout)?;
        w.write_rows(gpu, 0, &rows);
        let numbers = |count: u32| -> Vec<f32> {
            (0..count).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()
        };
        let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|v| f64::from(*v)).collect() };
        let (x, d_y) = (numbers(tokens * inputs), numbers(tokens * outputs));
        let y_reference = matmul::reference(&wide(&x), &weights, inputs as usize);
        let d_x_reference =
            matmul_backward::reference(&wide(&d_y), &weights, outputs as usize, inputs as usize);
        let [x, d_y] = [gpu.buffer_from("x", &x)?.all(), gpu.buffer_from("dy", &d_y)?.all()];
        let name = |tile| format!("forward, {layout}, {}", tile_name(tile));
        for &tile in TILES {
            if until.is_over() {
                return Ok(checked);
            }
            let variants = Variants { forced: Some(tile), ..Variants::of(gpu) };
            let y = gpu.buffer("y", 4 * u64::from(tokens * outputs))?.all();
            let mut c = Commands::new();
            let op = Matmul {
                x: &x,
                w: &w,
                y: &y,
                tokens,
                rows: 0..outputs,
                y_stride: outputs,
                y_first: 0,
                low_rank: None,
                add: false,
                geglu: None,
                parts: None,
            };
            matmul::record(&mut c, &variants, &op);
            gpu.run(&c).await?;
            checked.push(Checked::new(name(tile), &gpu.read(y).await?, &y_reference));
        }
        for &tile in TILES {
            if until.is_over() {
                return Ok(checked);
            }
            let variants = Variants { forced: Some(tile), ..Variants::of(gpu) };
            let d_x = gpu.buffer("dx", 4 * u64::from(tokens * inputs))?.all();
            gpu.run(&backward(&variants, &d_y, &w, &d_x, tokens)).await?;
            let name = format!("backward, {layout}, {}", tile_name(tile));
            checked.push(Checked::new(name, &gpu.read(d_x).await?, &d_x_reference));
        }
    }
    Ok(checked)
}

impl Checked {
    fn new(variant: String, got: &[f32], want: &[f64]) -> Self {
        let norm = |sum: f64| sum.sqrt();
        let off = norm(got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).powi(2)).sum());
        let error = off / norm(want.iter().map(|w| w * w).sum()).max(1e-300);
        // not a number is wrong, too
        Self { variant, error, right: error < RIGHT }
    }
}

/// The gradient of a matmul's input, over all rows.
fn backward(variants: &Variants, d_y: &Slice, w: &Matrix, d_x: &Slice, tokens: u32) -> Commands {
    let mut c = Commands::new();
    let op = MatmulBackward {
        d_y,
        w,
        d_x,
        tokens,
        rows: 0..w.rows,
        y_stride: w.rows,
        y_first: 0,
        low_rank: None,
        add: false,
        geglu: None,
        parts: None,
    };
    matmul_backward::record(&mut c, variants, &op);
    c
}

/// A shape in a layout: what each tile gave.
#[derive(Serialize)]
pub struct Shape {
    tokens: u32,
    outputs: u32,
    inputs: u32,
    layout: String,
    /// Billions of operations per second by tile, the fastest first.
    tiles: Vec<(String, f64)>,
    best: f64,
    /// The tile that training and scoring take here without having measured.
    chosen: String,
    /// The best against the device's f32 ceiling.
    of_peak: Option<f64>,
    backward: f64,
}

/// Times every tile on every shape and layout, until the time is over.
pub async fn measure(
    gpu: &Gpu,
    shapes: &[GemmShape],
    peak: Option<Ceilings>,
    until: Until,
) -> Result<Vec<Shape>> {
    let mut measured = vec![];
    // 4 bits first: that is what people train on
    for layout in LAYOUTS.into_iter().rev() {
        for &shape in shapes {
            if until.is_over() {
                return Ok(measured);
            }
            let gemm = Gemm::new(gpu, shape, layout)?;
            let gflops = |seconds: f64| {
                let GemmShape { tokens, outputs, inputs } = shape;
                2e-9 * f64::from(tokens) * f64::from(outputs) * f64::from(inputs)
                    / seconds.max(1e-12)
            };
            let mut tiles = vec![];
            for &tile in TILES {
                // one token per invocation over hundreds of tokens would take the time of all others
                if matches!(tile, Tile::Direct { tokens } | Tile::Split { tokens } if 64 * tokens < shape.tokens)
                {
                    continue;
                }
                tiles.push((tile_name(tile), gflops(gemm.seconds(gpu, tile, REPEAT).await?)));
            }
            tiles.sort_by(|a, b| b.1.total_cmp(&a.1));
            let best = tiles.first().map_or(0.0, |tile| tile.1);
            let c = backward(&Variants::of(gpu), &gemm.y, &gemm.w, &gemm.x, shape.tokens);
            gpu.run(&c).await?;
            let mut seconds = f64::INFINITY;
            for _ in 0..REPEAT {
                seconds = seconds.min(gpu.time(&c).await?.iter().map(|t| t.seconds).sum());
            }
            measured.push(Shape {
                tokens: shape.tokens,
                outputs: shape.outputs,
                inputs: shape.inputs,
                layout: layout.to_string(),
                best,
                chosen: tile_name(Variants::of(gpu).tile(shape.tokens, shape.outputs)),
                of_peak: peak.map(|peak| best / peak.f32_gflops),
                backward: gflops(seconds),
                tiles,
            });
        }
    }
    Ok(measured)
}
