//! `hearth bench`

mod shaders;
mod step;
mod suite;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use hearth_formats::{checkpoint::Checkpoint, layout::WeightLayout};
use hearth_gemma::{Model, Precision, generate::Generator};
use hearth_gpu::{Commands, Gpu};
use hearth_kernels::{
    matmul::{self, Matmul},
    matrix::Matrix,
    variants::{TILES, Tile, Variants},
};
use serde::Serialize;
use web_time::Instant;

use crate::{
    Outcome,
    files::ModelFiles,
    interrupt,
    options::Options,
    output::{self, Bar},
    session::{self, WeightsAs},
    synthetic::{self, Shape},
};

/// Measure prefill and decode on a model, or the matmul by shape, layout and tile
#[derive(Args)]
pub struct Bench {
    /// Measure prefill and decode on this model
    #[arg(long, value_name = "FILE", conflicts_with = "synthetic", group = "shaped")]
    model: Option<PathBuf>,
    /// Measure prefill and decode on synthetic weights of this shape
    #[arg(long, value_enum, group = "shaped")]
    synthetic: Option<Shape>,
    /// Layouts: of the synthetic model, and of the matmuls [default: q4 for a model; all four for matmuls]
    #[arg(long, value_name = "f32|f16|q8|q4", value_delimiter = ',')]
    layout: Vec<String>,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 128)]
    prefill: usize,
    /// Tokens generated after it
    #[arg(long, default_value_t = 16)]
    decode: usize,
    /// Score a text and train a step on rows of so many tokens instead (the first 21 are shared),
    /// and compare the memory with the plan; the embedding stays in the file
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', requires = "shaped")]
    step: Vec<usize>,
    /// Count the launches of the step of --step as on a GPU, without running it: takes no GPU memory
    #[arg(long, requires = "step")]
    outline: bool,
    /// Write every kernel that is ever chosen, with its constants, for compilers of other GPUs
    #[arg(long, value_name = "FILE", conflicts_with_all = ["shaped", "step"], hide = true)]
    list_shaders: Option<PathBuf>,
    /// GPU memory that the step may use, in GB
    #[arg(long, value_name = "GB", default_value_t = 2.5)]
    memory: f64,
    /// Weight precision in --step
    #[arg(long, value_enum, default_value = "exact")]
    weights: WeightsAs,
    /// Measure matmuls as well as a model
    #[arg(long)]
    gemm: bool,
    /// Shapes of matmuls: tokens × outputs × inputs
    #[arg(long, value_name = "TxNxK", value_delimiter = ',', default_value = "256x2048x640", value_parser = shape)]
    shape: Vec<GemmShape>,
    /// How often each matmul runs; the fastest run counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Measure everything: limits, ceilings, every tile, training and scoring on synthetic models of
    /// both sizes. Written to --out after each phase
    #[arg(long, requires = "out", conflicts_with_all = ["model", "step", "gemm"])]
    suite: bool,
    /// Seconds that --suite may take
    #[arg(long, value_name = "SECONDS", default_value_t = 540.0)]
    deadline: f64,
    /// Where --suite writes its JSON
    #[arg(long, value_name = "FILE", requires = "suite")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct GemmShape {
    tokens: u32,
    outputs: u32,
    inputs: u32,
}

fn shape(text: &str) -> Result<GemmShape, String> {
    let numbers: Option<Vec<u32>> =
        text.split('x').map(|n| n.parse().ok().filter(|n| (1..=1 << 20).contains(n))).collect();
    match numbers.as_deref() {
        Some(&[tokens, outputs, inputs]) => Ok(GemmShape { tokens, outputs, inputs }),
        _ => Err("three numbers up to 1048576 were expected, as in 256x2048x640".to_owned()),
    }
}

#[derive(Serialize)]
struct Report {
    adapter: String,
    profile: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<ModelSpeed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<step::StepReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outline: Option<step::Recorded>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gemm: Vec<GemmSpeed>,
}

#[derive(Serialize)]
struct ModelSpeed {
    model: String,
    load_seconds: f64,
    gpu_bytes: u64,
    prefill_tokens: usize,
    prefill_seconds: f64,
    prefill_tokens_per_second: f64,
    decode_tokens: usize,
    decode_seconds: f64,
    decode_tokens_per_second: f64,
}

#[derive(Serialize)]
struct GemmSpeed {
    tokens: u32,
    outputs: u32,
    inputs: u32,
    layout: String,
    tile: String,
    seconds: f64,
    gflops: f64,
}

pub async fn run(options: &Options, args: &Bench) -> Result<Outcome> {
    if let (true, Some(out)) = (args.suite, &args.out) {
        return suite::run(options, args, out).await;
    }
    let layouts =
        args.layout.iter().map(|name| synthetic::layout(name)).collect::<Result<Vec<_>>>()?;
    let gpu = options.gpu().await?;
    let mut report = Report {
        adapter: gpu.adapter().to_string(),
        profile: options.profile(),
        model: None,
        step: None,
        outline: None,
        gemm: vec![],
    };
    if let Some(file) = &args.list_shaders {
        shaders::write(&gpu, file).await?;
        return Ok(Outcome::Done);
    }
    let checkpoint = match (&args.model, args.synthetic) {
        (Some(path), _) => Some(Checkpoint::open(ModelFiles::find(path)?.sources()?).await?),
        (None, Some(shape)) => {
            let layout = layouts.first().copied().unwrap_or(WeightLayout::Q4);
            Some(shape.checkpoint(layout).await?)
        }
        (None, None) => None,
    };
    if let (Some(checkpoint), true) = (&checkpoint, args.outline) {
        report.outline = Some(step::outline_of(args, &gpu, checkpoint).await?);
    } else if let (Some(checkpoint), false) = (&checkpoint, args.step.is_empty()) {
        report.step = Some(step::measure(options, args, &gpu, checkpoint).await?);
    } else if let Some(checkpoint) = &checkpoint {
        let made_up = args.synthetic.and_then(|shape| shape.to_possible_value());
        let name = match (&args.model, made_up) {
            (Some(path), _) => path.display().to_string(),
            (None, shape) => {
                format!("synthetic {}", shape.as_ref().map_or("model", |s| s.get_name()))
            }
        };
        report.model = Some(measure_model(options, args, &gpu, checkpoint, name).await?);
    }
    if checkpoint.is_none() || args.gemm {
        let all = vec![WeightLayout::F32, WeightLayout::F16, WeightLayout::Q8, WeightLayout::Q4];
        report.gemm =
            measure_gemm(options, args, &gpu, if layouts.is_empty() { all } else { layouts })
                .await?;
    }
    if options.json {
        output::json(&report)?;
    } else {
        print(&report)?;
    }
    Ok(Outcome::Done)
}

async fn measure_model(
    options: &Options,
    args: &Bench,
    gpu: &Gpu,
    checkpoint: &Checkpoint,
    name: String,
) -> Result<ModelSpeed> {
    if args.prefill == 0 || args.decode == 0 {
        bail!("--prefill and --decode need at least one token");
    }
    let start = Instant::now();
    let model = session::load(options, gpu, checkpoint, Precision::Exact).await?;
    let load_seconds = start.elapsed().as_secs_f64();
    let mut generator = Generator::new(&model, None, args.prefill + args.decode)?;
    let bar = Bar::of_items(options, "measuring", 2);
    // Once for the pipelines, once for the time.
    timed_pass(&model, &mut generator, args.prefill, 1).await?;
    bar.at(1);
    let (prefill_seconds, decode_seconds) =
        timed_pass(&model, &mut generator, args.prefill, args.decode).await?;
    Ok(ModelSpeed {
        model: name,
        load_seconds,
        gpu_bytes: gpu.allocator_report().map_or(gpu.account().in_use(), |r| r.allocated),
        prefill_tokens: args.prefill,
        prefill_seconds,
        prefill_tokens_per_second: args.prefill as f64 / prefill_seconds,
        decode_tokens: args.decode,
        decode_seconds,
        decode_tokens_per_second: args.decode as f64 / decode_seconds,
    })
}

/// Seconds of reading a prompt and of reading tokens one by one, logits included.
async fn timed_pass(
    model: &Model,
    generator: &mut Generator,
    prefill: usize,
    decode: usize,
) -> Result<(f64, f64)> {
    generator.clear();
    let ids: Vec<u32> =
        (0..prefill + decode).map(|i| (i * 7919 % model.config.vocab) as u32).collect();
    let start = Instant::now();
    generator.read(model, None, &ids[..prefill]).await?;
    let middle = Instant::now();
    for id in &ids[prefill..] {
        generator.read(model, None, &[*id]).await?;
        if interrupt::asked() {
            bail!("stopped");
        }
    }
    Ok(((middle - start).as_secs_f64(), middle.elapsed().as_secs_f64()))
}

async fn measure_gemm(
    options: &Options,
    args: &Bench,
    gpu: &Gpu,
    layouts: Vec<WeightLayout>,
) -> Result<Vec<GemmSpeed>> {
    let bar = Bar::of_items(
        options,
        "measuring",
        (args.shape.len() * layouts.len() * TILES.len()) as u64,
    );
    let mut speeds = vec![];
    for shape in &args.shape {
        for &layout in &layouts {
            let at = || {
                format!("matmul {}x{}x{} in {layout}", shape.tokens, shape.outputs, shape.inputs)
            };
            let gemm = Gemm::new(gpu, *shape, layout).with_context(at)?;
            for &tile in TILES {
                let seconds = gemm.seconds(gpu, tile, args.repeat).await.with_context(at)?;
                let operations = 2.0
                    * f64::from(shape.tokens)
                    * f64::from(shape.outputs)
                    * f64::from(shape.inputs);
                speeds.push(GemmSpeed {
                    tokens: shape.tokens,
                    outputs: shape.outputs,
                    inputs: shape.inputs,
                    layout: layout.to_string(),
                    tile: tile_name(tile),
                    seconds,
                    gflops: operations / seconds.max(1e-12) / 1e9,
                });
                bar.at(speeds.len() as u64);
                if interrupt::asked() {
                    bail!("stopped");
                }
            }
        }
    }
    Ok(speeds)
}

/// Operands of a matmul.
struct Gemm {
    shape: GemmShape,
    w: Matrix,
    x: hearth_gpu::Slice,
    y: hearth_gpu::Slice,
}

impl Gemm {
    fn new(gpu: &Gpu, shape: GemmShape, layout: WeightLayout) -> Result<Self> {
        let GemmShape { tokens, outputs, inputs } = shape;
        layout.check(u64::from(inputs))?;
        let w = Matrix::new(gpu, "bench", outputs, inputs, layout)?;
        w.write_rows(gpu, 0, &synthetic::rows(layout, outputs as usize, inputs as usize)?);
        let x: Vec<f32> = (0..tokens * inputs).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
        let x = gpu.buffer_from("bench", &x)?.all();
        let y = gpu.buffer("bench", 4 * u64::from(tokens) * u64::from(outputs))?.all();
        Ok(Self { shape, w, x, y })
    }

    /// The best of several runs; the first one, which compiles, does not count.
    async fn seconds(&self, gpu: &Gpu, tile: Tile, repeat: u32) -> Result<f64> {
        let variants = Variants { forced: Some(tile), ..Variants::of(gpu) };
        let Self { shape, w, x, y } = self;
        let mut c = Commands::new();
        let op = Matmul {
            x,
            w,
            y,
            tokens: shape.tokens,
            rows: 0..shape.outputs,
            y_stride: shape.outputs,
            y_first: 0,
            low_rank: None,
            add: false,
            geglu: None,
            parts: None,
        };
        matmul::record(&mut c, &variants, &op);
        gpu.run(&c).await?;
        let mut best = f64::INFINITY;
        for _ in 0..repeat {
            let timings = gpu.time(&c).await?;
            best = best.min(timings.iter().map(|t| t.seconds).sum());
        }
        Ok(best)
    }
}

fn tile_name(tile: Tile) -> String {
    match tile {
        Tile::Direct { tokens } => format!("direct {tokens}"),
        Tile::Split { tokens } => format!("split {tokens}"),
        Tile::Tiled { gm, gn, bk } => format!("tiled {gm}x{gn}x{bk}"),
    }
}

fn print(report: &Report) -> Result<()> {
    output::line(&format!("{}, {} limits", report.adapter, report.profile))?;
    if let Some(m) = &report.model {
        let gpu = output::bytes(m.gpu_bytes);
        output::line(&format!("{}: loaded in {:.2} s, {gpu} on the GPU", m.model, m.load_seconds))?;
        for (what, tokens, rate) in [
            ("prefill", m.prefill_tokens, m.prefill_tokens_per_second),
            ("decode", m.decode_tokens, m.decode_tokens_per_second),
        ] {
            output::line(&format!("{what:<8} {tokens:>5} tokens  {rate:>9.2} tokens/s"))?;
        }
    }
    if let Some(step) = &report.step {
        step::print(step)?;
    }
    if let Some(outline) = &report.outline {
        output::line(&outline.line())?;
    }
    if !report.gemm.is_empty() {
        output::line("tokens × outputs × inputs  layout            tile             GFLOP/s")?;
    }
    for g in &report.gemm {
        let shape = format!("{} × {} × {}", g.tokens, g.outputs, g.inputs);
        output::line(&format!("{shape:<25}  {:<16}  {:<14} {:>9.2}", g.layout, g.tile, g.gflops))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_three_numbers() {
        assert_eq!(
            shape("256x2048x640"),
            Ok(GemmShape { tokens: 256, outputs: 2048, inputs: 640 })
        );
        for bad in ["", "1x2", "1x2x3x4", "0x1x1", "ax1x1", "1x1x9999999"] {
            assert!(shape(bad).is_err(), "{bad}");
        }
    }
}
