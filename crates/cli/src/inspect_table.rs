//! `hearth inspect` of a table: how it would be read.

use std::path::Path;

use anyhow::{Context, Result};
use hearth_classifier::table;

use crate::{
    data::{ColumnArgs, TableArgs},
    options::Options,
    output,
    reading::Reading,
    reading_args::ReadingArgs,
};

/// Endings of tables.
const TABLES: [&str; 7] = ["csv", "tsv", "tab", "txt", "jsonl", "ndjson", "json"];
/// JSON files that belong to models.
const OF_MODELS: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
];

/// Whether a file is a table by its name.
pub fn is_table(path: &Path) -> bool {
    let text = |part: Option<&std::ffi::OsStr>| {
        part.map(|p| p.to_string_lossy().to_lowercase()).unwrap_or_default()
    };
    let (name, ending) = (text(path.file_name()), text(path.extension()));
    TABLES.contains(&ending.as_str())
        && !OF_MODELS.contains(&name.as_str())
        && !name.ends_with(".index.json")
        && path.is_file()
}

/// Reads a table and prints how it was read.
pub fn run(options: &Options, path: &Path, reading: &ReadingArgs) -> Result<Reading> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).with_context(|| name.clone())?;
    let table =
        table::read(file, reading.options(false)?, &mut |_| {}).with_context(|| name.clone())?;
    let columns = ColumnArgs { text: None, reading: reading.clone(), drop_bad: false };
    let args = TableArgs { data: path.to_owned(), columns };
    let (_, reading) = args.roles(&table, None)?;
    if !options.json {
        output::line(&format!("{:<10} {name}", "table"))?;
        reading.print()?;
    }
    Ok(reading)
}
