//! `hearth export`: a trained classifier for other programs, or a training task for a cluster.

mod adapter;
mod merged;
mod trainer;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use hearth_formats::gguf::header::TensorType;

use crate::{
    Outcome,
    data::{ColumnArgs, LabelArgs, SplitArgs},
    options::Options,
    train_args::{PromptArgs, RecipeArgs},
};

/// Export a trained classifier for other programs, or a training task for a cluster
///
/// Without --merged the adapter alone is written: --as peft for PEFT, with a model card, or --as gguf for llama.cpp's
/// --lora. With --merged it is added to the model's weights: --as safetensors for transformers, or --as gguf for
/// llama.cpp. With --trainer, DATA and the options of `hearth train` become a folder that torch, PEFT and Accelerate
/// train from.
#[derive(Args)]
pub struct Export {
    /// A classifier's file, or the folder of the run that made it
    #[arg(long, value_name = "FILE", conflicts_with = "trainer")]
    classifier: Option<PathBuf>,
    /// The format to write
    #[arg(long = "as", value_enum, value_name = "FORMAT", conflicts_with = "trainer", requires_all = ["classifier", "out"])]
    form: Option<Form>,
    /// Write the whole model with the adapter added to its weights
    #[arg(long, requires_all = ["form", "model"])]
    merged: bool,
    /// With --merged: the number type of the matrices [default: f16]
    #[arg(long, value_enum, value_name = "TYPE", requires = "merged")]
    to: Option<Number>,
    /// The file or folder to write
    #[arg(long, value_name = "PATH", requires = "form")]
    out: Option<PathBuf>,
    /// The base model's name on a hub, for the adapter's configuration and model card
    #[arg(long, value_name = "NAME", requires = "form", conflicts_with = "merged")]
    base_model: Option<String>,
    /// Write the task of `hearth train` into this folder, for torch, PEFT and Accelerate
    #[arg(long, value_name = "DIR", requires_all = ["data", "model"])]
    trainer: Option<PathBuf>,
    /// The base model: a .gguf or .safetensors file, an index, or the model's folder
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// tokenizer.json or a .gguf file [default: beside the model, or in it]
    #[arg(long, value_name = "FILE", requires = "model")]
    tokenizer: Option<PathBuf>,
    /// Overwrite what is there
    #[arg(long)]
    force: bool,
    /// With --trainer: a CSV, TSV, JSON Lines or JSON file of labeled texts; - reads standard input
    #[arg(value_name = "DATA", requires = "trainer")]
    data: Option<PathBuf>,
    #[command(flatten)]
    columns: ColumnArgs,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    split: SplitArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    recipe: RecipeArgs,
}

/// The formats.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// The adapter for PEFT: a folder with a model card
    Peft,
    /// A folder for transformers; with --merged
    Safetensors,
    /// A file for llama.cpp: the adapter, or with --merged the whole model
    Gguf,
}

/// Number types of merged weights.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Number {
    /// 32-bit floats
    F32,
    /// 16-bit floats
    F16,
    /// 8-bit integers, a scale for 32 of them; GGUF only
    #[value(name = "q8_0")]
    Q8_0,
    /// 4-bit integers, a scale for 32 of them; GGUF only, with the vocabulary in q8_0
    #[value(name = "q4_0")]
    Q4_0,
}

impl From<Number> for TensorType {
    fn from(number: Number) -> Self {
        match number {
            Number::F32 => Self::F32,
            Number::F16 => Self::F16,
            Number::Q8_0 => Self::Q8_0,
            Number::Q4_0 => Self::Q4_0,
        }
    }
}

pub async fn run(options: &Options, args: &Export) -> Result<Outcome> {
    let Export { classifier, form, merged, out, model, .. } = args;
    match (&args.trainer, &args.data, classifier, form, out, model) {
        (Some(folder), Some(data), .., Some(model)) => {
            trainer::run(options, args, folder, data, model).await
        }
        (None, _, Some(classifier), Some(form), Some(out), model) => match (form, merged, model) {
            (Form::Peft, true, _) => bail!(
                "--as peft writes the adapter alone; leave --merged out, or choose --as safetensors or --as gguf"
            ),
            (Form::Safetensors, false, _) => bail!(
                "--as safetensors writes the whole model: add --merged; --as peft writes the adapter alone"
            ),
            (form, true, Some(model)) => {
                let number = args.to.unwrap_or(Number::F16).into();
                merged::run(
                    options,
                    args,
                    merged::Job { classifier, form: *form, out, model, number },
                )
                .await
            }
            (Form::Peft, ..) => {
                let name = args.base_model.as_deref().unwrap_or_default();
                adapter::peft(options, classifier, out, name, args.force).await
            }
            (Form::Gguf, ..) => adapter::gguf(options, classifier, out, args.force).await,
            (Form::Safetensors, true, None) => {
                bail!("--merged needs the base model: give it with --model")
            }
        },
        _ => bail!(
            "nothing to export: give --classifier, --as and --out for a trained classifier, or DATA, --model and --trainer \
             for a training task"
        ),
    }
}

/// Refuses a file that exists, unless it may be overwritten.
fn check_free(path: &Path, force: bool) -> Result<()> {
    if path.exists() && !force {
        bail!("{}: it exists already; overwrite it with --force", path.display());
    }
    Ok(())
}

/// A folder to write into; one that holds any of `names` is refused unless it may be overwritten.
fn open_folder(folder: &Path, names: &[&str], force: bool) -> Result<()> {
    names.iter().try_for_each(|name| check_free(&folder.join(name), force))?;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: making the folder", folder.display()))
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let at = || format!("{}: writing", path.display());
    crate::run_folder::write_whole(path, bytes).with_context(at)
}
