//! `hearth score`

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use hearth_formats::tokenizer::{Special, Tokenizer};
use hearth_gemma::{score, shared_prefix};
use serde::Serialize;

use crate::{
    Outcome, interrupt,
    options::Options,
    output::{self, Bar},
    session::{ModelArgs, Session, Stats},
};

/// Probabilities of given continuations of given texts
#[derive(Args)]
pub struct Score {
    #[command(flatten)]
    model: ModelArgs,
    /// A text; may be given several times
    #[arg(long, required_unless_present = "file")]
    text: Vec<String>,
    /// A file with a text a line
    #[arg(long)]
    file: Option<PathBuf>,
    /// What may follow, with its leading space if it has one; may be given several times
    #[arg(long, required = true, value_name = "TEXT")]
    continuation: Vec<String>,
    /// Read <eos>, <start_of_turn> and such as plain text
    #[arg(long)]
    plain: bool,
}

#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
    #[serde(flatten)]
    stats: Stats,
}

#[derive(Serialize)]
struct Row {
    text: String,
    continuations: Vec<Continuation>,
}

#[derive(Serialize)]
struct Continuation {
    text: String,
    /// The tokens that were scored.
    tokens: Vec<u32>,
    log_probability: f64,
    probability: f64,
    /// Among the given continuations.
    share: f64,
}

impl Score {
    fn texts(&self) -> Result<Vec<String>> {
        let mut texts = self.text.clone();
        if let Some(path) = &self.file {
            let file = std::fs::read_to_string(path)
                .with_context(|| format!("{}: reading texts", path.display()))?;
            texts.extend(file.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
            if texts.is_empty() {
                bail!("{}: the file holds no text", path.display());
            }
        }
        if self.continuation.iter().any(String::is_empty) {
            bail!("a continuation is empty: its probability is 1");
        }
        Ok(texts)
    }
}

/// Ids that all rows share, and what follows in each. A text may merge with its continuation, so
/// whole rows are tokenized and compared.
fn split(
    tokenizer: &Tokenizer,
    text: &str,
    continuations: &[String],
    special: Special,
) -> (Vec<u32>, Vec<Vec<u32>>) {
    let alone = tokenizer.encode_with_bos(text, special);
    let whole = |c: &String| tokenizer.encode_with_bos(&format!("{text}{c}"), special);
    let rows: Vec<Vec<u32>> = continuations.iter().map(whole).collect();
    // What the continuations have in common beyond the text is part of what is scored.
    let shared = shared_prefix(rows.iter().map(Vec::as_slice)).min(alone.len());
    (rows[0][..shared].to_vec(), rows.iter().map(|row| row[shared..].to_vec()).collect())
}

pub async fn run(options: &Options, args: &Score) -> Result<Outcome> {
    let texts = args.texts()?;
    let session = Session::open(options, &args.model).await?;
    let tokenizer = session.tokenizer()?;
    let special = if args.plain { Special::AsText } else { Special::Parse };
    let stats = session.stats(options);
    if options.verbose && !options.json {
        stats.note();
    }
    let bar = Bar::of_items(options, "scoring", texts.len() as u64);
    let mut rows = vec![];
    for (number, text) in texts.into_iter().enumerate() {
        let (prefix, tails) = split(tokenizer, &text, &args.continuation, special);
        let logs = score::continuations(&session.model, None, &prefix, &tails)
            .await
            .with_context(|| format!("text {}", number + 1))?;
        let total: f64 = logs.iter().map(|log| log.exp()).sum();
        let continuations =
            args.continuation.iter().zip(tails).zip(&logs).map(|((text, tokens), &log)| {
                let probability = log.exp();
                let share = if total > 0.0 { probability / total } else { 0.0 };
                Continuation {
                    text: text.clone(),
                    tokens,
                    log_probability: log,
                    probability,
                    share,
                }
            });
        rows.push(Row { text, continuations: continuations.collect() });
        bar.at(number as u64 + 1);
        if interrupt::asked() {
            bail!("stopped");
        }
    }
    drop(bar);
    if options.json {
        output::json(&Report { rows, stats })?;
        return Ok(Outcome::Done);
    }
    for row in &rows {
        output::line(&row.text)?;
        for c in &row.continuations {
            let (text, log, share) = (format!("{:?}", c.text), c.log_probability, 100.0 * c.share);
            let p = c.probability;
            let p = if p < 1e-4 { format!("{p:.3e}") } else { format!("{p:.6}") };
            output::line(&format!("  {text:<24} p {p:<10} log p {log:<10.4} share {share:.1} %"))?;
        }
    }
    Ok(Outcome::Done)
}
