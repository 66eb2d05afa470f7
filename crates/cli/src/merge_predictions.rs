//! `hearth merge-predictions`

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    Outcome,
    options::Options,
    output,
    predict::{Progress, record_of},
    run_folder::{PART, beside, keep_whole},
};

/// Join the parts that `hearth predict --shard` wrote
///
/// The parts may be given in any order. Each is checked by the record beside it (PART.progress): all parts have to be
/// there, complete, and of the same classifier, model and tables.
#[derive(Args)]
pub struct MergePredictions {
    /// The files that `hearth predict --shard I/N` wrote, for all I
    #[arg(value_name = "PART", required = true)]
    parts: Vec<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Overwrite --out
    #[arg(long)]
    force: bool,
}

pub fn run(options: &Options, args: &MergePredictions) -> Result<Outcome> {
    let out = &args.out;
    if args.parts.contains(out) {
        bail!("{}: --out is one of the parts; give another name", out.display());
    }
    if out.exists() && !args.force {
        bail!("{}: the file exists already; overwrite it with --force", out.display());
    }
    let parts = in_order(&args.parts)?;
    let part = beside(out, PART);
    let bytes = keep_whole(&part, out, join(&parts, &part))?;
    let rows: u64 = parts.iter().map(|(_, progress)| progress.rows).sum();
    if options.json {
        let path = out.display().to_string();
        output::json(&serde_json::json!({ "out": path, "parts": parts.len(), "rows": rows }))?;
    } else {
        let (count, size) = (parts.len(), output::bytes(bytes));
        output::line(&format!("{}: {rows} rows of {count} parts, {size}", out.display()))?;
    }
    Ok(Outcome::Done)
}

/// The parts with their records, in order of their numbers, each there once.
fn in_order(paths: &[PathBuf]) -> Result<Vec<(&Path, Progress)>> {
    let mut parts: Vec<(&Path, Progress)> = Vec::new();
    for path in paths {
        let name = path.display();
        if !record_of(path).exists() {
            bail!(
                "{name}: there is no record {} beside it; copy it along with the part, or write the part again",
                record_of(path).display()
            );
        }
        let progress = Progress::read(path)?;
        if progress.task.shard.is_none() {
            bail!(
                "{name}: these predictions are not a part of a whole: they were made without --shard"
            );
        }
        if !progress.complete {
            bail!(
                "{name}: this part is not complete, {} rows are written; continue it with --resume",
                progress.rows
            );
        }
        let length = std::fs::metadata(path).with_context(|| format!("{name}: reading"))?.len();
        if length != progress.bytes {
            bail!(
                "{name}: the part has {length} bytes, but its record says {}: copy both again",
                progress.bytes
            );
        }
        parts.push((path, progress));
    }
    parts.sort_by_key(|(_, progress)| progress.task.shard);
    let Some((first_path, first)) = parts.first() else { bail!("no parts were given") };
    let count = first.task.shard.map_or(0, |(_, n)| n);
    for (path, progress) in &parts {
        let (mut one, mut other) = (first.task.clone(), progress.task.clone());
        (one.shard, other.shard) = (None, None);
        let mut differences = one.differences(&other);
        if progress.task.shard.map(|(_, n)| n) != Some(count) {
            differences.push("the number of parts");
        }
        if !differences.is_empty() {
            bail!(
                "{} and {} are not parts of one whole: {} differ",
                first_path.display(),
                path.display(),
                differences.join(", ")
            );
        }
    }
    let numbers: Vec<u64> = parts.iter().filter_map(|(_, p)| Some(p.task.shard?.0)).collect();
    if let Some(pair) = parts.windows(2).find(|pair| pair[0].1.task.shard == pair[1].1.task.shard) {
        bail!(
            "{} and {} are the same part; give one of them",
            pair[0].0.display(),
            pair[1].0.display()
        );
    }
    let missing: Vec<String> =
        (1..=count).filter(|i| !numbers.contains(i)).take(9).map(|i| i.to_string()).collect();
    if !missing.is_empty() {
        bail!("of {count} parts, these are missing: {}", missing.join(", "));
    }
    Ok(parts)
}

/// Writes the first part, and the others without their headers.
fn join(parts: &[(&Path, Progress)], out: &Path) -> Result<u64> {
    let at = || format!("{}: writing", out.display());
    let mut to = BufWriter::new(File::create(out).with_context(at)?);
    let mut header = None;
    let mut bytes = 0;
    for (path, _) in parts {
        let name = || format!("{}: reading", path.display());
        let mut file = File::open(path).with_context(name)?;
        let (own, end) = header_of(&file).with_context(name)?;
        match &header {
            None => {
                header = Some(own);
                file.seek(SeekFrom::Start(0)).with_context(name)?;
            }
            Some(header) if *header == own => {
                file.seek(SeekFrom::Start(end)).with_context(name)?;
            }
            Some(_) => bail!("{}: its columns differ from those of the first part", path.display()),
        }
        bytes += io::copy(&mut file, &mut to).with_context(at)?;
    }
    to.flush().with_context(at)?;
    to.get_ref().sync_all().with_context(at)?;
    Ok(bytes)
}

/// The first record of a CSV file, and the offset of the second in bytes.
fn header_of(file: &File) -> Result<(csv::ByteRecord, u64)> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file);
    let mut record = csv::ByteRecord::new();
    reader.read_byte_record(&mut record)?;
    Ok((record, reader.position().byte()))
}
