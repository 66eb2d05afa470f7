//! `hearth quantize`

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use hearth_formats::{
    checkpoint::{Checkpoint, PIECE},
    convert::{ByteSink, Conversion, TensorError, WriteFuture, losing},
    hearth::Origin,
    layout::WeightLayout,
    source::read_vec,
};
use hearth_gemma::config::config_json;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    Outcome,
    files::ModelFiles,
    heap::Meter,
    interrupt,
    options::Options,
    output::{self, Bar},
    run_folder::{PART, beside, keep_whole},
};

/// Write a model as one safetensors file in a layout of the GPU
#[derive(Args)]
pub struct Quantize {
    /// A .gguf or .safetensors file, an index, or the model's folder
    #[arg(value_name = "IN")]
    model: PathBuf,
    /// Bits per weight
    #[arg(long, value_enum)]
    to: To,
    /// The file to write
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Matrices to keep at 8 bits, by parts of their names: embed_tokens,down_proj
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    keep_q8: Vec<String>,
    /// Matrices whose relative error would exceed this get 8 bits too; 0.08 is a tenth above the usual error
    #[arg(long, value_name = "SHARE", value_parser = share)]
    q8_above: Option<f64>,
    /// Replace OUT if it exists
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum To {
    /// 4-bit integers, an f16 scale and minimum for 32 of them
    Q4,
    /// 8-bit integers, an f16 scale for 32 of them
    Q8,
}

#[derive(Serialize)]
struct Report {
    out: String,
    bytes: u64,
    source_sha256: String,
    tensors: Vec<Error>,
    /// Tensors that no text model of Gemma's has: left out.
    left_out: Vec<String>,
    heap_peak_bytes: u64,
}

/// What quantizing cost a matrix, against the numbers of the source.
#[derive(Serialize)]
struct Error {
    name: String,
    layout: String,
    /// Root of the mean square of the differences.
    rms: f64,
    /// Against the root mean square of the weights.
    relative: f64,
    max: f64,
}

impl From<TensorError> for Error {
    fn from(error: TensorError) -> Self {
        let TensorError { name, layout, rms, relative, max } = error;
        Self { name, layout: layout.to_string(), rms, relative, max }
    }
}

pub async fn run(options: &Options, args: &Quantize) -> Result<Outcome> {
    if args.out.exists() && !args.force {
        bail!("{}: the file exists already; replace it with --force", args.out.display());
    }
    let heap = Meter::start();
    let files = ModelFiles::find(&args.model)?;
    let checkpoint = Checkpoint::open(files.sources()?).await?;
    let config = config_json(&checkpoint)?;
    let source_sha256 = sha256(options, &checkpoint).await?;
    let names: Vec<&str> = checkpoint.sources().iter().map(|s| file_name(s.name())).collect();
    let origin = Origin { source: names.join(", "), source_sha256: source_sha256.clone(), config };
    let layout = match args.to {
        To::Q4 => WeightLayout::Q4,
        To::Q8 => WeightLayout::Q8,
    };
    let out = args.out.display().to_string();
    let mut keep_q8 = args.keep_q8.clone();
    if let Some(limit) = args.q8_above {
        keep_q8.extend(losing(&checkpoint, layout, limit).await?);
    }
    let conversion = Conversion::plan(&checkpoint, layout, &keep_q8, &origin, &out)?;
    let part = beside(&args.out, PART);
    let written = write(options, &conversion, &part).await;
    let errors = keep_whole(&part, &args.out, written)?;
    let report = Report {
        out,
        bytes: conversion.bytes(),
        source_sha256,
        tensors: errors,
        left_out: conversion.left_out,
        heap_peak_bytes: heap.peak(),
    };
    if options.json {
        output::json(&report)?;
    } else {
        print(&report, checkpoint.gguf().is_some())?;
    }
    Ok(Outcome::Done)
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("a number from 0 to below 1 was expected: 0.08, say".to_owned()),
    }
}

/// sha256 of all files, one behind the other.
async fn sha256(options: &Options, checkpoint: &Checkpoint) -> Result<String> {
    let total = checkpoint.sources().iter().map(|source| source.len()).sum();
    let bar = Bar::of_bytes(options, "hashing", total);
    let (mut hash, mut done) = (Sha256::new(), 0);
    for source in checkpoint.sources() {
        let mut offset = 0;
        while offset < source.len() {
            let piece = read_vec(&**source, offset, PIECE.min(source.len() - offset)).await?;
            offset += piece.len() as u64;
            done += piece.len() as u64;
            hash.update(piece);
            bar.at(done);
            if interrupt::asked() {
                bail!("stopped");
            }
        }
    }
    Ok(hex::encode(hash.finalize()))
}

/// The file that is written.
pub struct Out<'a> {
    pub file: File,
    pub path: &'a Path,
}

impl ByteSink for Out<'_> {
    fn write_at<'a>(&'a mut self, offset: u64, bytes: &'a [u8]) -> WriteFuture<'a> {
        let written =
            self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.write_all(bytes));
        let written = written.map_err(|error| format!("{}: {error}", self.path.display()));
        Box::pin(async move { written })
    }
}

async fn write(options: &Options, conversion: &Conversion<'_>, path: &Path) -> Result<Vec<Error>> {
    let file = File::create(path).with_context(|| format!("{}: creating", path.display()))?;
    let mut out = Out { file, path };
    let bar = Bar::of_bytes(options, "quantizing", conversion.source_bytes());
    let progress = |read| {
        bar.at(read);
        !interrupt::asked()
    };
    let errors = conversion.run(&mut out, progress).await?;
    out.file.sync_all().with_context(|| format!("{}: writing", path.display()))?;
    Ok(errors.into_iter().map(Error::from).collect())
}

fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

fn print(report: &Report, from_gguf: bool) -> Result<()> {
    let width = report.tensors.iter().map(|t| t.name.len()).max().unwrap_or(0);
    for Error { name, layout, rms, relative, max } in &report.tensors {
        let relative = 100.0 * relative;
        output::line(&format!(
            "{name:width$}  {layout:<15} rms {rms:9.2e}  {relative:6.3} %  max {max:9.2e}"
        ))?;
    }
    for name in &report.left_out {
        output::note(&format!("left out: {name}"));
    }
    output::line(&format!("{}: {}", report.out, output::bytes(report.bytes)))?;
    if from_gguf {
        output::note("the tokenizer stays in the GGUF: give that file with --tokenizer");
    }
    Ok(())
}
