//! `hearth quantize`

mod config_json;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use hearth_formats::{
    checkpoint::{Checkpoint, PIECE, Tensor},
    hearth::{NewTensor, Origin, plan},
    layout::WeightLayout,
    safetensors::PlannedFile,
    source::read_vec,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    Outcome,
    files::ModelFiles,
    heap::Meter,
    interrupt,
    options::Options,
    output::{self, Bar},
};

/// Write a model as one safetensors file in a layout of the GPU
#[derive(Args)]
pub struct Quantize {
    /// A .gguf or .safetensors file, an index, or the model's folder
    #[arg(value_name = "IN")]
    model: PathBuf,
    /// Bits of a weight
    #[arg(long, value_enum)]
    to: To,
    /// The file to write
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Matrices that get 8 bits all the same, by parts of their names: embed_tokens,down_proj
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    keep_q8: Vec<String>,
    /// Replace OUT if it is there
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

pub async fn run(options: &Options, args: &Quantize) -> Result<Outcome> {
    if args.out.exists() && !args.force {
        bail!("{}: the file is there already; --force replaces it", args.out.display());
    }
    let heap = Meter::start();
    let files = ModelFiles::find(&args.model)?;
    let checkpoint = Checkpoint::open(files.sources()?).await?;
    let config = config_json::of(&checkpoint)?;
    let source_sha256 = sha256(options, &checkpoint).await?;
    let (tensors, left_out) = choose(&checkpoint, args)?;
    let names: Vec<&str> = checkpoint.sources().iter().map(|s| file_name(s.name())).collect();
    let origin = Origin { source: names.join(", "), source_sha256: source_sha256.clone(), config };
    let planned = plan(&args.out.display().to_string(), &origin, &tensors)?;
    // Whoever sees OUT sees all of it: it gets its name at the end.
    let part = with_ending(&args.out, ".part");
    let written = write(options, &checkpoint, &tensors, &planned, &part).await;
    let errors = match written {
        Ok(errors) => errors,
        Err(error) => {
            let _ = std::fs::remove_file(&part);
            return Err(error);
        }
    };
    std::fs::rename(&part, &args.out)
        .with_context(|| format!("{}: renaming to it", args.out.display()))?;
    let bytes = planned.tensors.last().map_or(0, |t| t.offset + t.bytes);
    let out = args.out.display().to_string();
    let report = Report {
        out,
        bytes,
        source_sha256,
        tensors: errors,
        left_out,
        heap_peak_bytes: heap.peak(),
    };
    if options.json {
        output::json(&report)?;
    } else {
        print(&report, checkpoint.gguf().is_some())?;
    }
    Ok(Outcome::Done)
}

/// What is written, in what layout, and the names of what is not.
fn choose(checkpoint: &Checkpoint, args: &Quantize) -> Result<(Vec<NewTensor>, Vec<String>)> {
    let (mut chosen, mut left_out) = (vec![], vec![]);
    for tensor in checkpoint.tensors() {
        let name = tensor.name.clone();
        if !(name.starts_with("model.") || name.starts_with("lm_head.")) || tensor.layout.is_none()
        {
            left_out.push(name);
        } else if tensor.shape.len() == 1 {
            chosen.push(NewTensor::Vector { name, len: tensor.columns() });
        } else {
            let keep = args.keep_q8.iter().any(|part| name.contains(part.as_str()));
            let wanted = match args.to {
                To::Q4 if !keep => WeightLayout::Q4,
                _ => WeightLayout::Q8,
            };
            // A width without room for groups of 32 stays as it is: only toy models have such.
            let fits = wanted.check(tensor.columns()).is_ok();
            let layout = if fits { wanted } else { WeightLayout::F32 };
            chosen.push(NewTensor::Matrix {
                name,
                rows: tensor.rows(),
                columns: tensor.columns(),
                layout,
            });
        }
    }
    let unknown = |part: &&String| !checkpoint.tensors().any(|t| t.name.contains(part.as_str()));
    if let Some(part) = args.keep_q8.iter().find(unknown) {
        bail!("--keep-q8 {part}: no tensor has that in its name");
    }
    Ok((chosen, left_out))
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
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

async fn write(
    options: &Options,
    checkpoint: &Checkpoint,
    tensors: &[NewTensor],
    planned: &PlannedFile,
    path: &Path,
) -> Result<Vec<Error>> {
    let file = File::create(path).with_context(|| format!("{}: creating", path.display()))?;
    let mut out = Out { file, path };
    out.put(0, &planned.bytes)?;
    let total = checkpoint.tensors().map(Tensor::stored_bytes).sum();
    let bar = Bar::of_bytes(options, "quantizing", total);
    let mut done = 0;
    let offset = |name: &str| planned.tensors.iter().find(|t| t.name == name).map(|t| t.offset);
    let mut errors = vec![];
    for tensor in tensors {
        let name = match tensor {
            NewTensor::Vector { name, .. } => {
                let gain = checkpoint.read_norm_gain(name).await?;
                let bytes: Vec<u8> = gain.iter().flat_map(|value| value.to_le_bytes()).collect();
                out.put(offset(name).unwrap_or(0), &bytes)?;
                name
            }
            NewTensor::Matrix { name, layout, .. } => {
                let [quants, scales] =
                    ["quants", "scales"].map(|part| offset(&format!("{name}.{part}")));
                let places = [quants.unwrap_or(0), scales.unwrap_or(0)];
                let progress = |read| {
                    bar.at(done + read);
                    !interrupt::asked()
                };
                errors.push(matrix(checkpoint, name, *layout, places, &mut out, progress).await?);
                name
            }
        };
        done += checkpoint.tensor(name)?.stored_bytes();
        bar.at(done);
    }
    out.file.sync_all().with_context(|| format!("{}: writing", path.display()))?;
    Ok(errors)
}

/// Writes a matrix, piece by piece; `places` are the offsets of its quants and scales.
async fn matrix(
    checkpoint: &Checkpoint,
    name: &str,
    layout: WeightLayout,
    places: [u64; 2],
    out: &mut Out<'_>,
    mut progress: impl FnMut(u64) -> bool,
) -> Result<Error> {
    let tensor = checkpoint.tensor(name)?;
    let (rows, columns) = (tensor.rows(), tensor.columns() as usize);
    let words = [layout.quant_words(columns), layout.scale_words(columns)];
    let step = checkpoint.rows_within(name, WeightLayout::F32, PIECE)?;
    let (mut square, mut norm, mut max) = (0.0, 0.0, 0f64);
    let mut row = 0;
    while row < rows {
        let end = (row + step).min(rows);
        let packed = checkpoint.read_rows(name, layout, row..end).await?;
        let source = checkpoint.read_rows_f32(name, row..end).await?;
        for (place, (words, data)) in
            places.iter().zip(words.iter().zip([&packed.quants, &packed.scales]))
        {
            let bytes: Vec<u8> = data.iter().flat_map(|word| word.to_le_bytes()).collect();
            out.put(place + row * 4 * *words as u64, &bytes)?;
        }
        for (got, want) in packed.decode().iter().zip(&source) {
            let (off, want) = (f64::from(*got) - f64::from(*want), f64::from(*want));
            square += off * off;
            norm += want * want;
            max = max.max(off.abs());
        }
        row = end;
        if !progress(tensor.stored_bytes() / rows * row) {
            bail!("stopped");
        }
    }
    let count = (rows * columns as u64) as f64;
    let relative = if norm > 0.0 { (square / norm).sqrt() } else { 0.0 };
    Ok(Error {
        name: name.to_owned(),
        layout: layout.to_string(),
        rms: (square / count).sqrt(),
        relative,
        max,
    })
}

/// The file that is written.
struct Out<'a> {
    file: File,
    path: &'a Path,
}

impl Out<'_> {
    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.write_all(bytes))
            .with_context(|| format!("{}: writing", self.path.display()))
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
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
