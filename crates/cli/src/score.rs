//! `hearth score`

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use hearth_formats::tokenizer::{Special, Tokenizer};
use hearth_gemma::{
    Embedding,
    score::{self, Scorer},
    shared_prefix,
};
use serde::Serialize;

use crate::{
    Outcome, interrupt,
    options::Options,
    output::{self, Bar},
    session::{ModelArgs, Session, Stats},
};

/// Print the probabilities of given continuations of given texts
#[derive(Args)]
pub struct Score {
    #[command(flatten)]
    model: ModelArgs,
    /// A text; may be given several times
    #[arg(long, required_unless_present = "file")]
    text: Vec<String>,
    /// A file with one text per line
    #[arg(long)]
    file: Option<PathBuf>,
    /// A continuation, with its leading space if it has one; may be given several times
    #[arg(long, required = true, value_name = "TEXT")]
    continuation: Vec<String>,
    /// Compare the continuations only with each other: each is one token, and the embedding stays
    /// in the file, as when a classifier scores
    #[arg(long)]
    choice: bool,
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
    /// Over the whole vocabulary; not with --choice.
    log_probability: Option<f64>,
    probability: Option<f64>,
    /// Among the given continuations.
    share: f64,
}

impl Score {
    fn embedding(&self) -> Embedding {
        if self.choice { Embedding::FromSource } else { Embedding::OnDevice }
    }

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

/// Shares of continuations of one token each.
async fn choose(session: &Session, prefix: &[u32], tails: &[Vec<u32>]) -> Result<Vec<f64>> {
    let mut classes = Vec::with_capacity(tails.len());
    for tail in tails {
        let &[token] = &tail[..] else {
            bail!(
                "--choice compares single tokens, but a continuation has {} after what they share",
                tail.len()
            );
        };
        classes.push(token);
    }
    let model = &session.model;
    let mut scorer = Scorer::new(model, None, &classes, &[], prefix.len()).await?;
    let found = scorer.score(model, None, &[prefix.to_vec()], |_| true).await?;
    Ok(found.concat().into_iter().map(f64::from).collect())
}

pub async fn run(options: &Options, args: &Score) -> Result<Outcome> {
    let texts = args.texts()?;
    let session = Session::open(options, &args.model, args.embedding()).await?;
    let tokenizer = session.tokenizer()?;
    let special = if args.plain { Special::AsText } else { Special::Parse };
    let stats = session.stats(options);
    if options.verbose && !options.json {
        stats.note();
    }
    // Once is enough for a file of texts.
    if let Some(text) = texts.iter().find(|text| tokenizer.has_own_bos(text, special)) {
        session.note_own_bos(text, special)?;
    }
    let bar = Bar::of_items(options, "scoring", texts.len() as u64);
    let mut rows = vec![];
    for (number, text) in texts.into_iter().enumerate() {
        let (prefix, tails) = split(tokenizer, &text, &args.continuation, special);
        let at = || format!("text {}", number + 1);
        let (logs, shares) = if args.choice {
            (None, choose(&session, &prefix, &tails).await.with_context(at)?)
        } else {
            let logs = score::continuations(&session.model, None, &prefix, &tails);
            let logs = logs.await.with_context(at)?;
            let total: f64 = logs.iter().map(|log| log.exp()).sum();
            let share = |log: &f64| if total > 0.0 { log.exp() / total } else { 0.0 };
            let shares = logs.iter().map(share).collect();
            (Some(logs), shares)
        };
        let scored = args.continuation.iter().zip(tails).zip(shares).enumerate();
        let continuations = scored.map(|(i, ((text, tokens), share))| {
            let log_probability = logs.as_ref().map(|logs| logs[i]);
            let probability = log_probability.map(f64::exp);
            Continuation { text: text.clone(), tokens, log_probability, probability, share }
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
            let (text, share) = (format!("{:?}", c.text), 100.0 * c.share);
            let (Some(p), Some(log)) = (c.probability, c.log_probability) else {
                output::line(&format!("  {text:<24} share {share:.1} %"))?;
                continue;
            };
            let p = if p < 1e-4 { format!("{p:.3e}") } else { format!("{p:.6}") };
            output::line(&format!("  {text:<24} p {p:<10} log p {log:<10.4} share {share:.1} %"))?;
        }
    }
    Ok(Outcome::Done)
}
