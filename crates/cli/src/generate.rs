//! `hearth generate`

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use hearth_formats::tokenizer::{Special, TextStream};
use hearth_gemma::{
    Embedding, ModelError,
    generate::{End, Generator, Sampling},
};
use serde::Serialize;
use web_time::Instant;

use crate::{
    Outcome, interrupt,
    options::Options,
    output,
    session::{ModelArgs, Session, Stats},
};

/// Continue a text; greedy unless a temperature is given
#[derive(Args)]
pub struct Generate {
    #[command(flatten)]
    model: ModelArgs,
    /// The text to continue
    #[arg(long, required_unless_present = "prompt_file", conflicts_with = "prompt_file")]
    prompt: Option<String>,
    /// A file with the text to continue
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Read <eos>, <start_of_turn> and such in the prompt as plain text
    #[arg(long)]
    plain: bool,
    /// Maximum number of tokens to generate
    #[arg(long, default_value_t = 64, value_name = "N")]
    max_tokens: usize,
    /// Always take the most probable token (the default)
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p"])]
    greedy: bool,
    /// Sample tokens at this temperature; higher is more random [default with --top-k, --top-p: 1]
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Sample from the K most probable tokens only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Sample from the most probable tokens whose probabilities add up to P
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Seed of the sampling: the same seed gives the same text
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Serialize)]
struct Report {
    text: String,
    tokens: Vec<u32>,
    end: &'static str,
    prompt_tokens: usize,
    prefill_seconds: f64,
    prefill_tokens_per_second: f64,
    decode_seconds: f64,
    decode_tokens_per_second: f64,
    #[serde(flatten)]
    stats: Stats,
}

impl Generate {
    fn sampling(&self) -> Sampling {
        let drawn = self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some();
        if self.greedy || !drawn {
            return Sampling::greedy();
        }
        Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(0),
            top_p: self.top_p.unwrap_or(1.0),
            seed: self.seed,
        }
    }

    fn prompt(&self) -> Result<String> {
        match (&self.prompt, &self.prompt_file) {
            (Some(prompt), _) => Ok(prompt.clone()),
            (None, Some(path)) => std::fs::read_to_string(path)
                .with_context(|| format!("{}: reading the prompt", path.display())),
            (None, None) => bail!("a prompt is needed: --prompt TEXT or --prompt-file FILE"),
        }
    }
}

pub async fn run(options: &Options, args: &Generate) -> Result<Outcome> {
    let (sampling, prompt) = (args.sampling(), args.prompt()?);
    sampling.check()?;
    let session = Session::open(options, &args.model, Embedding::OnDevice).await?;
    let (model, tokenizer) = (&session.model, session.tokenizer()?);
    let special = if args.plain { Special::AsText } else { Special::Parse };
    session.note_own_bos(&prompt, special)?;
    let ids = tokenizer.encode_with_bos(&prompt, special);
    let max = model.max_positions();
    if ids.len() > max {
        return Err(ModelError::TooLong { tokens: ids.len(), max }.into());
    }
    let max_tokens = args.max_tokens.min(max - ids.len());
    let mut generator = Generator::new(model, None, ids.len() + max_tokens)?;
    let stats = session.stats(options);
    if options.verbose && !options.json {
        stats.note();
    }

    let (mut tokens, mut text, mut stream) = (vec![], String::new(), TextStream::default());
    let mut failed = None;
    let start = Instant::now();
    let mut first = start;
    let on_token = |token| {
        if tokens.is_empty() {
            first = Instant::now();
        }
        tokens.push(token);
        let piece = stream.push(tokenizer, token);
        text.push_str(&piece);
        if !options.json
            && let Err(error) = output::print(&piece)
        {
            failed = Some(error);
        }
        failed.is_none() && !interrupt::asked()
    };
    let end = generator.generate(model, None, &ids, max_tokens, sampling, on_token).await?;
    let decode_seconds = first.elapsed().as_secs_f64();
    if let Some(error) = failed {
        return Err(error);
    }
    let rest = stream.finish();
    text.push_str(&rest);
    let prefill_seconds = (first - start).as_secs_f64();
    let report = Report {
        end: match end {
            End::Token(_) => "token",
            End::Length => "length",
            End::Stopped => "stopped",
        },
        prompt_tokens: ids.len(),
        prefill_seconds,
        prefill_tokens_per_second: ids.len() as f64 / prefill_seconds.max(1e-9),
        decode_seconds,
        // The first token came out of the prefill.
        decode_tokens_per_second: tokens.len().saturating_sub(1) as f64 / decode_seconds.max(1e-9),
        text,
        tokens,
        stats,
    };
    if options.json {
        output::json(&report)?;
    } else {
        output::line(&rest)?;
    }
    if options.verbose && !options.json {
        output::note(&format!(
            "prefill    {} tokens, {:.1} per second\ndecode     {} tokens, {:.1} per second",
            report.prompt_tokens,
            report.prefill_tokens_per_second,
            report.tokens.len(),
            report.decode_tokens_per_second
        ));
    }
    if end == End::Stopped { bail!("stopped") } else { Ok(Outcome::Done) }
}
