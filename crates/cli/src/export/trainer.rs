//! The task of `hearth train` for torch, PEFT and Accelerate: rows with their exact tokens, the batch and learning rate
//! of every step, the adapter to start from, and a script. Nothing is trained and no GPU is opened.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use hearth_classifier::{
    error::ClassifierError,
    estimator::Labelled,
    fit::{Outline, Row, Task, outline},
    prompt::Prompter,
    recipe::Recipe,
    split::Part,
};
use hearth_formats::{
    checkpoint::Checkpoint,
    peft::{CONFIG_FILE, WEIGHTS_FILE},
    tokenizer::Tokenizer,
};
use hearth_gemma::{adapter_file::adapter_base, config_of};
use serde_json::{Value, json};

use super::{Export, open_folder, write};
use crate::{
    Outcome,
    data::{Prepared, TableArgs, prepare},
    files::ModelFiles,
    options::Options,
    output,
    session::tokenizer_of,
    train::command,
    train_args::settings,
};

const SCRIPT: &str = include_str!("trainer/train.py");
const REQUIREMENTS: &str = include_str!("trainer/requirements.txt");
const README: &str = include_str!("trainer/README.md");

/// Format of `task.json`; the script refuses another.
const VERSION: u32 = 1;

/// The files of the folder; `start` holds an adapter.
const FILES: [&str; 6] =
    ["task.json", "rows.jsonl", "start", "train.py", "requirements.txt", "README.md"];

pub async fn run(
    options: &Options,
    args: &Export,
    folder: &Path,
    data: &Path,
    model: &Path,
) -> Result<Outcome> {
    let (recipe, spec) = settings(&args.recipe, &args.prompt)?;
    let table = TableArgs { data: data.to_owned(), columns: args.columns.clone() };
    let mut prepared = prepare(&table, &args.labels, &args.split)?;
    prepared.hold_out(recipe.validation_share, recipe.seed)?;
    prepared.note();
    note_left_out(&recipe);
    let files = ModelFiles::find(model)?;
    let checkpoint = Checkpoint::open(files.sources()?).await?;
    let config = config_of(&checkpoint)?;
    let tokenizer = tokenizer_of(&files, &checkpoint, args.tokenizer.as_deref()).await?;
    let Some(tokenizer) = tokenizer else {
        anyhow::bail!(
            "{}: there is no tokenizer.json beside the model; give one with --tokenizer FILE",
            model.display()
        );
    };
    let classes = prepared.data.classes.clone();
    let (positions, codelab) = (config.max_positions, args.recipe.is_codelab());
    let spec = args.prompt.fit(spec, &classes, &tokenizer, positions, codelab)?;
    spec.check_limit(positions).map_err(ClassifierError::from)?;
    let prompter = Prompter::new(&spec, &classes, &tokenizer, Some(tokenizer.bos()))?;
    let parts = [Part::Train, Part::Validation, Part::Test].map(|part| prepared.rows(part));
    let rows = |part: &[Labelled<'_>]| -> Vec<Row> {
        let row = |&(text, class): &Labelled<'_>| Row { ids: prompter.row(text).ids, class };
        part.iter().map(row).collect()
    };
    let (train, validation) = (rows(&parts[0]), rows(&parts[1]));
    let task = Task {
        train: &train,
        validation: &validation,
        class_tokens: prompter.class_tokens(),
        positive: prepared.data.positive,
        end_token: Some(tokenizer.eos()),
        prompt: "",
    };
    let outline = outline(&config, &adapter_base(&checkpoint, &config), &task, &recipe)?;
    open_folder(folder, &FILES, args.force)?;
    let at = |name: &str| folder.join(name);
    write(&at("rows.jsonl"), lines(&prepared, &prompter, &tokenizer, &outline).as_bytes())?;
    std::fs::create_dir_all(at("start"))?;
    write(&at("start").join(WEIGHTS_FILE), &outline.start.to_safetensors()?)?;
    write(&at("start").join(CONFIG_FILE), outline.start.config_json().as_bytes())?;
    for (name, text) in
        [("train.py", SCRIPT), ("requirements.txt", REQUIREMENTS), ("README.md", README)]
    {
        write(&at(name), text.as_bytes())?;
    }
    let file = model.file_name().map_or("model".into(), |name| name.to_string_lossy());
    let json = json!({
        "format": VERSION,
        "command": command(),
        "model": {
            "file": file, "sha256": checkpoint.identity().await?, "vocabulary": config.vocab,
            "query_pre_attn_scalar": f64::from(config.attention_scale).powi(-2),
        },
        "classes": classes,
        "class_tokens": prompter.class_tokens(),
        "answers": prompter.answers(),
        "positive": prepared.data.positive,
        "prompt": spec,
        "recipe": recipe,
        "keep": if outline.keeps_best { "best" } else { "last" },
        "steps_per_epoch": outline.steps_per_epoch,
        "rates": outline.rates,
        "batches": outline.batches,
    });
    write(&at("task.json"), serde_json::to_string_pretty(&json)?.as_bytes())?;
    let counts = parts.map(|part| part.len());
    let steps = outline.batches.len();
    let path = folder.display();
    if options.json {
        output::json(&json!({
            "out": path.to_string(), "rows": counts[0], "validation_rows": counts[1],
            "test_rows": counts[2], "steps": steps,
        }))?;
    } else {
        output::line(&format!(
            "written to {path}: {steps} steps over {} training rows",
            counts[0]
        ))?;
        output::line(&format!(
            "pip install -r {path}/requirements.txt && accelerate launch {path}/train.py --model MODEL"
        ))?;
    }
    Ok(Outcome::Done)
}

/// Settings that the script does not follow are said, not dropped in silence.
fn note_left_out(recipe: &Recipe) {
    let mut left_out = vec![];
    if recipe.average > 0.0 {
        left_out.push("average: the script keeps an epoch's adapter and averages none");
    }
    if recipe.patience > 0 {
        left_out.push("patience: the script trains all epochs and keeps the best");
    }
    if recipe.dropout > 0.0 {
        left_out
            .push("dropout: torch draws other random numbers, so its losses differ from Hearth's");
    }
    left_out.iter().for_each(|note| output::note(&format!("warning: {note}")));
}

/// One row per line: training rows first, in the order that the batches count them in.
fn lines(
    prepared: &Prepared,
    prompter: &Prompter<'_>,
    tokenizer: &Tokenizer,
    outline: &Outline,
) -> String {
    let mut out = String::new();
    for part in [Part::Train, Part::Validation, Part::Test] {
        for (index, &i) in prepared.part(part).iter().enumerate() {
            let example = &prepared.data.examples[i];
            let row = prompter.row(&example.text);
            // the prompt as a text: its tokens', where the text was truncated
            let prompt = match row.cut {
                true => tokenizer.decode(&row.ids[1.min(row.ids.len())..]),
                false => prompter.fill(&example.text),
            };
            let mut line = json!({
                "part": part_name(part),
                "row": example.row,
                "text": example.text,
                "label": prepared.data.classes[example.label],
                "class": example.label,
                "prompt": prompt,
                "answer": prompter.answers()[example.label],
                "truncated": row.cut,
                "ids": row.ids,
            });
            let trained = outline.examples.get(index).filter(|_| part == Part::Train);
            if let (Some(trained), Value::Object(map)) = (trained, &mut line) {
                let targets: Vec<_> =
                    trained.targets.iter().map(|t| (t.position, t.token)).collect();
                let weight = trained.targets.first().map_or(1.0, |target| target.weight);
                map.insert("ids".to_owned(), json!(trained.tokens));
                map.insert("targets".to_owned(), json!(targets));
                map.insert("weight".to_owned(), json!(weight));
            }
            // writing into a string cannot fail
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

fn part_name(part: Part) -> &'static str {
    match part {
        Part::Train => "train",
        Part::Validation => "validation",
        Part::Test => "test",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_classifier::recipe::Loss;

    #[test]
    fn the_script_knows_every_loss_and_the_format() {
        for loss in [Loss::Choice, Loss::Label, Loss::Sequence] {
            let name = serde_json::to_value(loss).unwrap();
            assert!(SCRIPT.contains(&format!("\"{}\"", name.as_str().unwrap())), "{name}");
        }
        assert!(SCRIPT.contains(&format!("FORMAT = {VERSION}\n")));
    }

    #[test]
    fn requirements_are_pinned() {
        let lines: Vec<&str> = REQUIREMENTS.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines.len() >= 4 && lines.iter().all(|line| line.contains("==")), "{lines:?}");
        for package in ["torch", "transformers", "peft", "accelerate"] {
            assert!(
                lines.iter().any(|line| line.starts_with(&format!("{package}=="))),
                "{package}"
            );
        }
    }
}
