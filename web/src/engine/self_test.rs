//! Known sums on this GPU: drivers exist that compute wrongly, and nobody would notice.

use hearth_gpu::{Commands, Gpu};
use hearth_kernels::{
    matmul::{self, Matmul},
    matrix::Matrix,
    rms_norm::{self, RmsNorm},
    variants::Variants,
};

use super::problem::Problem;
use crate::protocol::SelfTestRow;

/// Numbers between -1 and 1 without any pattern (a multiplicative congruential generator).
fn numbers(count: usize, mut seed: u32) -> Vec<f32> {
    (0..count)
        .map(|_| {
            seed = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            (seed >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn row(name: &str, found: &[f32], wanted: &[f64], limit: f64) -> SelfTestRow {
    let square = |x: f64| x * x;
    let error: f64 = found.iter().zip(wanted).map(|(&f, w)| square(f64::from(f) - w)).sum();
    let norm: f64 = wanted.iter().map(|&w| square(w)).sum();
    let relative = (error / norm.max(1e-300)).sqrt();
    let ok = found.len() == wanted.len() && relative.is_finite() && relative <= limit;
    // JSON has no word for what is not finite
    let relative = if relative.is_finite() { relative } else { f64::MAX };
    SelfTestRow { name: name.to_owned(), relative, limit, ok }
}

/// Computes and compares: matrix products of a few and of many tokens, and the norm.
pub async fn run(gpu: &Gpu) -> Result<Vec<SelfTestRow>, Problem> {
    let mut rows = Vec::new();
    for tokens in [1u32, 67] {
        rows.push(product(gpu, tokens).await?);
    }
    rows.push(norm(gpu).await?);
    Ok(rows)
}

async fn product(gpu: &Gpu, tokens: u32) -> Result<SelfTestRow, Problem> {
    let (n, k) = (130u32, 260u32);
    let x = numbers((tokens * k) as usize, 1);
    let w = numbers((n * k) as usize, 2);
    let matrix = Matrix::from_f32(gpu, "self-test", n, k, &w)?;
    let x_ = gpu.buffer_from("self-test", &x)?.all();
    let y_ = gpu.buffer("self-test", 4 * u64::from(tokens * n))?.all();
    let mut commands = Commands::new();
    let op = Matmul {
        x: &x_,
        w: &matrix,
        y: &y_,
        tokens,
        rows: 0..n,
        y_stride: n,
        y_first: 0,
        low_rank: None,
        add: false,
        geglu: None,
        parts: None,
    };
    matmul::record(&mut commands, &Variants::of(gpu), &op);
    gpu.run(&commands).await?;
    let wanted = matmul::reference(&wide(&x), &wide(&w), k as usize);
    let found = gpu.read::<f32>(y_).await?;
    Ok(row(&format!("matrix product, {tokens} tokens"), &found, &wanted, 1e-4))
}

async fn norm(gpu: &Gpu) -> Result<SelfTestRow, Problem> {
    let (rows, columns) = (7u32, 640u32);
    let x = numbers((rows * columns) as usize, 3);
    let gain = numbers(columns as usize, 4);
    let x_ = gpu.buffer_from("self-test", &x)?.all();
    let gain_ = gpu.buffer_from("self-test", &gain)?.all();
    let y_ = gpu.buffer("self-test", 4 * u64::from(rows * columns))?.all();
    let mut commands = Commands::new();
    let op = RmsNorm { x: &x_, gain: &gain_, y: &y_, rows, columns, eps: 1e-6, add: false };
    rms_norm::record(&mut commands, &op);
    gpu.run(&commands).await?;
    let wanted = rms_norm::reference(&wide(&x), &wide(&gain), 1e-6);
    Ok(row("norm", &gpu.read::<f32>(y_).await?, &wanted, 1e-5))
}
