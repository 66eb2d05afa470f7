//! `hearth verify`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use hearth_formats::{checkpoint::Checkpoint, tokenizer::Special};
use hearth_gemma::{
    Model, Precision,
    generate::{Generator, Sampling},
    verify::{self, Row},
    workspace::Activations,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Outcome,
    files::ModelFiles,
    heap::Meter,
    options::Options,
    output::{self, Bar},
    session,
};

/// Compare with the reference numbers in a golden folder
#[derive(Args)]
pub struct Verify {
    /// A golden folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The model, if it is not in the folder
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Only one part
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Weight precision: as in the file (f32 arithmetic throughout), or rounded to fewer
    /// bits while loading; then the probabilities after the last token count, within 0.01
    #[arg(long, value_enum, default_value = "f32")]
    precision: Arithmetic,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    Forward,
    Lora,
    Trajectory,
    Tokenizer,
}

/// The kernels always compute in f32; less precise are only the weights.
#[derive(Clone, Copy, PartialEq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Arithmetic {
    F32,
    F16,
    Q8,
    Q4,
}

impl Arithmetic {
    fn weights(self) -> Precision {
        match self {
            Self::F32 => Precision::Exact,
            Self::F16 => Precision::F16,
            Self::Q8 => Precision::Q8,
            Self::Q4 => Precision::Q4,
        }
    }
}

/// `golden.json`
#[derive(Deserialize)]
struct Golden {
    model: Option<String>,
    model_sha256: Option<String>,
    greedy16_from_short: Option<Greedy>,
}

/// A greedy text: the prompt and 16 tokens.
#[derive(Deserialize)]
struct Greedy {
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct TokenizerCases {
    cases: Vec<TokenizerCase>,
}

#[derive(Deserialize)]
struct TokenizerCase {
    text: String,
    ids: Vec<u32>,
}

#[derive(Serialize)]
struct Report {
    adapter: String,
    profile: &'static str,
    precision: Arithmetic,
    rows: Vec<Row>,
    /// The budgets of f32, beside those that count, where `precision` is less.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    strict: Vec<Row>,
    heap_peak_bytes: u64,
}

pub async fn run(options: &Options, args: &Verify) -> Result<Outcome> {
    let folder = &args.folder;
    let mut parts = Files::of(folder, args.only)?;
    let reduced = args.precision != Arithmetic::F32;
    if reduced {
        parts.keep_forward(folder)?;
    }
    let golden: Golden = json(&folder.join("golden.json"))?;
    let path = model_path(folder, &golden, args.model.as_deref())?;
    if let Some(sha256) = &golden.model_sha256 {
        check_sha256(options, &path, sha256)?;
    }
    let gpu = options.gpu().await?;
    let files = ModelFiles::find(&path)?;
    let heap = Meter::start();
    let checkpoint = Checkpoint::open(files.sources()?).await?;
    let (mut rows, mut strict) = (vec![], vec![]);
    let mut peak = heap.peak();
    if parts.needs_model() {
        let model = session::load(options, &gpu, &checkpoint, args.precision.weights()).await?;
        peak = heap.peak();
        if reduced {
            let path = parts.forward.as_deref().unwrap_or(folder);
            let (bytes, at) = (read(path)?, || path.display().to_string());
            rows = verify::probabilities(&model, &bytes).await.with_context(at)?;
            strict = verify::forward(&model, &bytes).await.with_context(at)?;
        } else {
            compare(options, &parts, &golden, &model, &mut rows).await?;
        }
    }
    if let Some(cases) = &parts.tokenizer {
        rows.push(tokenizer(cases, &files, &checkpoint).await?);
    }
    let kept = rows.iter().filter(|row| row.ok).count();
    let all = kept == rows.len();
    if options.json {
        let (adapter, profile, precision) =
            (gpu.adapter().to_string(), options.profile(), args.precision);
        output::json(&Report { adapter, profile, precision, rows, strict, heap_peak_bytes: peak })?;
    } else {
        if !strict.is_empty() {
            output::line("budgets of f32, for comparison only:")?;
            print(&strict)?;
            output::line("budget of rounded weights:")?;
        }
        print(&rows)?;
        output::line(&format!(
            "{kept} of {} within their limits; {}, {} limits",
            rows.len(),
            gpu.adapter(),
            options.profile()
        ))?;
        if options.verbose {
            output::note(&format!("heap       {} at most while loading", output::bytes(peak)));
        }
    }
    Ok(if all { Outcome::Done } else { Outcome::CheckFailed })
}

/// What a golden folder holds of what was asked for.
struct Files {
    forward: Option<PathBuf>,
    lora: Vec<PathBuf>,
    trajectory: Vec<PathBuf>,
    tokenizer: Option<PathBuf>,
}

impl Files {
    fn of(folder: &Path, only: Option<Part>) -> Result<Self> {
        let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .with_context(|| format!("{}: reading the golden folder", folder.display()))?;
        all.sort();
        let wanted = |part| only.is_none_or(|only| only == part);
        let find = |part, start: &str, end: &str| -> Vec<PathBuf> {
            let fits = |path: &&PathBuf| {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                name.is_some_and(|name| {
                    wanted(part) && name.starts_with(start) && name.ends_with(end)
                })
            };
            all.iter().filter(fits).cloned().collect()
        };
        let files = Self {
            forward: find(Part::Forward, "forward.", "safetensors").pop(),
            lora: find(Part::Lora, "lora_", ".safetensors"),
            trajectory: find(Part::Trajectory, "trajectory_", ".safetensors"),
            tokenizer: find(Part::Tokenizer, "tokenizer_cases.", "json").pop(),
        };
        if !files.needs_model() && files.tokenizer.is_none() {
            bail!("{}: the folder has nothing of that to compare with", folder.display());
        }
        Ok(files)
    }

    /// Reduced precision is about what forward computes; gradients are compared in f32 only.
    fn keep_forward(&mut self, folder: &Path) -> Result<()> {
        if self.forward.is_none() {
            bail!(
                "{}: --precision needs the folder's forward.safetensors: gradients, trajectories and \
                 tokenizers are compared in f32 only",
                folder.display()
            );
        }
        (self.lora, self.trajectory, self.tokenizer) = (vec![], vec![], None);
        Ok(())
    }

    fn needs_model(&self) -> bool {
        self.forward.is_some() || !self.lora.is_empty() || !self.trajectory.is_empty()
    }
}

async fn compare(
    options: &Options,
    parts: &Files,
    golden: &Golden,
    model: &Model,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let bar =
        Bar::of_items(options, "comparing", (1 + parts.lora.len() + parts.trajectory.len()) as u64);
    let mut done = 0;
    let mut step = || {
        done += 1;
        bar.at(done);
    };
    if let Some(path) = &parts.forward {
        rows.extend(
            verify::forward(model, &read(path)?)
                .await
                .with_context(|| path.display().to_string())?,
        );
        if let Some(text) = &golden.greedy16_from_short {
            rows.push(greedy(model, text).await?);
        }
    }
    step();
    for path in &parts.lora {
        let bytes = read(path)?;
        for activations in [Activations::Keep, Activations::Recompute] {
            let found = verify::lora(model, &bytes, activations).await;
            let found = found.with_context(|| path.display().to_string())?;
            let recomputed = |row: Row| match activations {
                Activations::Keep => row,
                Activations::Recompute => Row { name: format!("{} (recomputed)", row.name), ..row },
            };
            rows.extend(named(path, found).map(recomputed));
        }
        step();
    }
    for path in &parts.trajectory {
        let found =
            verify::trajectory(model, &read(path)?, &read(&path.with_extension("json"))?).await;
        rows.extend(named(path, found.with_context(|| path.display().to_string())?));
        step();
    }
    Ok(())
}

/// Rows of one of several files get its name in front.
fn named(path: &Path, rows: Vec<Row>) -> impl Iterator<Item = Row> {
    let stem =
        path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    rows.into_iter().map(move |row| match row.name.starts_with(&stem) {
        true => row,
        false => Row { name: format!("{stem}: {}", row.name), ..row },
    })
}

async fn greedy(model: &Model, text: &Greedy) -> Result<Row> {
    let Some(at) = text.ids.len().checked_sub(16).filter(|at| *at > 0) else {
        bail!("golden.json: greedy16_from_short: a prompt and 16 tokens were expected");
    };
    let (prompt, wanted) = text.ids.split_at(at);
    let mut generator = Generator::new(model, None, text.ids.len())?;
    let mut got = vec![];
    let on_token = |token| {
        got.push(token);
        true
    };
    generator.generate(model, None, prompt, 16, Sampling::greedy(), on_token).await?;
    Ok(Row::check("greedy16_from_short", got == wanted))
}

async fn tokenizer(path: &Path, files: &ModelFiles, checkpoint: &Checkpoint) -> Result<Row> {
    let TokenizerCases { cases } = json(path)?;
    let Some(tokenizer) = session::tokenizer_of(files, checkpoint, None).await? else {
        bail!("{}: the model has no tokenizer to compare", path.display());
    };
    let differs =
        |case: &&TokenizerCase| tokenizer.encode_with_bos(&case.text, Special::Parse) != case.ids;
    let wrong = cases.iter().filter(differs).count();
    if let Some(case) = cases.iter().find(differs) {
        output::note(&format!("first text with other ids: {:?}", case.text));
    }
    let (max_abs, relative) = (wrong as f64, wrong as f64 / cases.len().max(1) as f64);
    let name = format!("tokenizer_cases ({} texts)", cases.len());
    Ok(Row { name, max_abs, relative, limit: 0.0, ok: wrong == 0 && !cases.is_empty() })
}

fn model_path(folder: &Path, golden: &Golden, given: Option<&Path>) -> Result<PathBuf> {
    match (given, &golden.model, &golden.model_sha256) {
        (Some(path), ..) => Ok(path.to_owned()),
        (None, Some(model), _) => Ok(folder.join(model)),
        (None, None, Some(sha256)) => bail!(
            "{}: its numbers are of the model file with sha256 {sha256}; give that file with --model FILE",
            folder.display()
        ),
        (None, None, None) => bail!("{}: golden.json names no model", folder.display()),
    }
}

/// Makes sure that the numbers are of this very file.
fn check_sha256(options: &Options, path: &Path, wanted: &str) -> Result<()> {
    use std::io::Read;
    let at = || format!("{}: reading", path.display());
    let mut file = std::fs::File::open(path).with_context(at)?;
    let bar = Bar::of_bytes(options, "checking", file.metadata().with_context(at)?.len());
    let (mut hash, mut piece, mut done) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        let count = file.read(&mut piece).with_context(at)?;
        if count == 0 {
            break;
        }
        hash.update(&piece[..count]);
        done += count as u64;
        bar.at(done);
    }
    let found = hex::encode(hash.finalize());
    if found != wanted {
        bail!(
            "{}: sha256 {found}, but the golden numbers are of the file with {wanted}",
            path.display()
        );
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{}: reading", path.display()))
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&read(path)?)
        .with_context(|| format!("{}: not of the expected form", path.display()))
}

fn print(rows: &[Row]) -> Result<()> {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in rows {
        let verdict = if row.ok { "ok  " } else { "OVER" };
        let Row { name, max_abs, relative, limit, .. } = row;
        output::line(&format!(
            "{verdict}  {name:width$}  max abs {max_abs:9.2e}  relative {relative:9.2e}  limit {limit:7.0e}"
        ))?;
    }
    Ok(())
}
