//! The user's table.

use std::{collections::HashMap, rc::Rc};

use hearth_classifier::{
    columns::{TokenHistogram, class_counts, guess_roles_told},
    prepare::{Prepared, Preparing},
    prompt::{PromptSpec, Prompter},
    split::Part,
    table::{Survey, Table, TableError, TableOptions},
};
use hearth_formats::tokenizer::Tokenizer;
use web_sys::Blob;

use super::{
    model::Loaded,
    problem::{Problem, first},
    request::Request,
};
use crate::{
    protocol::{DataChoices, DataPreview, DataReport, FilledPrompt, FromEngine, on_page},
    storage::read_blob,
};

/// Bytes read at once.
const PIECE: u64 = 1 << 20;
/// A table lies in memory, which a page has 4 GB of.
const LARGEST: u64 = 1 << 30;
/// Rows of a preview.
const FIRST: usize = 20;
/// Characters of a preview's cell.
const CELL: usize = 400;
/// Columns with more different values have no list of them.
const VALUES: usize = 50;

/// A table that was read.
pub struct Data {
    pub name: String,
    pub blob: Blob,
    pub options: TableOptions,
    pub table: Table,
    pub choices: Option<DataChoices>,
    pub prepared: Option<Rc<Prepared>>,
}

/// Reads a table piece by piece.
pub async fn read_table(
    request: &Request,
    name: &str,
    blob: &Blob,
    options: TableOptions,
) -> Result<Table, Problem> {
    let total = blob.size() as u64;
    if total > LARGEST {
        return Err(Problem::new(
            format!("The file has {} MB; the limit is {} MB.", total >> 20, LARGEST >> 20),
            "Split it, or keep only the text and label columns.",
        ));
    }
    let in_file = |error: TableError| Problem::new(format!("{name}: {error}"), "");
    let unreadable = |e| {
        let said = crate::wire::words(&e);
        Problem::new(
            format!("The file can no longer be read: {said}."),
            "It was moved or changed; choose it again.",
        )
    };
    // the file is read twice: first to see how it is written
    let mut survey = Survey::new(options);
    let mut at = 0;
    while at < total {
        let end = (at + PIECE).min(total);
        let piece = read_blob(blob, at, end).await.map_err(unreadable)?;
        survey.push(&piece.to_vec()).map_err(in_file)?;
        at = end;
        request.tell_now_and_then(|| FromEngine::Reading { bytes: at / 2, total, rows: 0 });
        request.poll().await?;
    }
    let mut stream = survey.finish().map_err(in_file)?;
    let mut rows = Vec::new();
    at = 0;
    while at < total {
        let end = (at + PIECE).min(total);
        let piece = read_blob(blob, at, end).await.map_err(unreadable)?;
        rows.extend(stream.push(&piece.to_vec()).map_err(in_file)?);
        at = end;
        request.tell_now_and_then(|| FromEngine::Reading {
            bytes: (total + at) / 2,
            total,
            rows: stream.progress().rows,
        });
        request.poll().await?;
    }
    rows.extend(stream.finish().map_err(in_file)?);
    stream.into_table(rows).map_err(in_file)
}

/// The first rows of a table, long cells cut.
pub fn first_rows(table: &Table, rows: usize) -> Vec<Vec<String>> {
    let cut = |cell: &String| match cell.char_indices().nth(CELL) {
        Some((end, _)) => format!("{}…", &cell[..end]),
        None => cell.clone(),
    };
    table.rows.iter().take(rows).map(|row| row.fields.iter().map(cut).collect()).collect()
}

impl Data {
    /// Reads a file.
    pub async fn read(
        request: &Request,
        name: String,
        blob: Blob,
        options: TableOptions,
    ) -> Result<Self, Problem> {
        let table = read_table(request, &name, &blob, options.clone()).await?;
        Ok(Self { name, blob, options, table, choices: None, prepared: None })
    }

    /// What the page shows of it.
    pub async fn preview(
        &self,
        request: &Request,
        on_the_way: bool,
    ) -> Result<DataPreview, Problem> {
        let table = &self.table;
        let mut values = Vec::new();
        let mut numeric = Vec::new();
        for column in 0..table.columns.len() {
            values.push(self.values(request, column).await?);
            let mut all = true;
            for row in &table.rows {
                let cell = row.fields[column].trim();
                all &= cell.is_empty() || cell.parse::<f64>().is_ok_and(f64::is_finite);
                if !all {
                    break;
                }
                request.poll().await?;
            }
            numeric.push(all && table.rows.iter().any(|r| !r.fields[column].trim().is_empty()));
        }
        let guessed = guess_roles_told(table);
        let lines = table.dialect.lines().into_iter();
        let mut reading: Vec<(String, String)> =
            lines.map(|(name, words)| (name.to_owned(), words)).collect();
        let column = |c: usize| format!("{:?}", table.columns[c]);
        let text = guessed.roles.text.columns().into_iter().map(column).collect::<Vec<_>>();
        let said = |names: String, how: &str| format!("column {names} ({how})");
        reading.push(("text".to_owned(), said(text.join(" and "), guessed.text)));
        if let Some(label) = guessed.roles.label {
            reading.push(("label".to_owned(), said(column(label), guessed.label)));
        }
        let warnings = table.warnings.iter().chain(&guessed.warnings);
        Ok(DataPreview {
            reading,
            warnings: warnings.map(|warning| on_page(warning)).collect(),
            name: self.name.clone(),
            bytes: self.blob.size() as u64,
            dialect: table.dialect.clone(),
            options: self.options.clone(),
            columns: table.columns.clone(),
            rows: table.rows.len(),
            first: first_rows(table, FIRST),
            roles: guessed.roles,
            values,
            numeric,
            choices: self.choices.clone(),
            on_the_way,
        })
    }

    /// The different values of a column with their rows, most frequent first.
    async fn values(
        &self,
        request: &Request,
        column: usize,
    ) -> Result<Option<Vec<(String, usize)>>, Problem> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for row in &self.table.rows {
            *counts.entry(row.fields[column].trim()).or_default() += 1;
            if counts.len() > VALUES {
                return Ok(None);
            }
            request.poll().await?;
        }
        let mut values: Vec<(String, usize)> =
            counts.into_iter().map(|(value, rows)| (value.to_owned(), rows)).collect();
        values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok(Some(values))
    }

    /// Labels and splits by the user's choices.
    pub fn prepare(&mut self, choices: &DataChoices) -> Result<Rc<Prepared>, Problem> {
        let columns = self.table.columns.len();
        let roles = &choices.roles;
        let used =
            roles.text.columns().into_iter().chain(roles.label).chain(roles.split).chain(roles.id);
        if let Some(column) = used.into_iter().find(|&c| c >= columns) {
            return Err(Problem::new(
                format!("The table has {columns} columns; there is no column {}.", column + 1),
                "Choose the columns again.",
            ));
        }
        let how = Preparing {
            rule: choices.rule.clone(),
            positive: choices.positive.clone(),
            drop_bad: choices.drop_bad,
            labels: choices.labels.clone(),
            split: choices.split.clone(),
            limit: choices.limit,
            seed: choices.seed,
        };
        let mut prepared = Prepared::new(&self.name, &self.table, roles, &how)?;
        let seed = choices.validation_seed.unwrap_or(choices.seed);
        prepared.hold_out(choices.validation_share, seed)?;
        let prepared = Rc::new(prepared);
        self.choices = Some(choices.clone());
        self.prepared = Some(prepared.clone());
        Ok(prepared)
    }

    /// The rows as they are prepared.
    pub fn prepared(&self) -> Result<&Rc<Prepared>, Problem> {
        let none =
            || first("The text and label columns are not chosen yet.", "Choose them under Data.");
        self.prepared.as_ref().ok_or_else(none)
    }

    /// What the page shows of the prepared rows.
    pub async fn report(
        &self,
        request: &Request,
        model: Option<&Loaded>,
        spec: &PromptSpec,
        on_the_way: bool,
    ) -> Result<DataReport, Problem> {
        let prepared = self.prepared()?;
        let (data, summary) = (&prepared.data, &prepared.summary);
        let mut warnings: Vec<String> =
            summary.warnings.iter().map(|warning| on_page(warning)).collect();
        let (mut tokens, mut cut, mut max_tokens) = (None, 0, None);
        if let Some(model) = model {
            let usual = PromptSpec::default().max_tokens;
            if spec.max_tokens == usual {
                let tokenizer = &model.tokenizer;
                let bos = Some(tokenizer.bos());
                let positions = model.summary.max_positions;
                let limit = spec.limit_for(&data.classes, tokenizer, bos, positions);
                max_tokens = limit.ok().filter(|limit| *limit != usual);
            }
            // a prompt that cannot be made yet is told where it is written, not here
            if let Ok(prompter) = prompter(&model.tokenizer, spec, &data.classes) {
                let lengths;
                (lengths, cut) = lengths_of(request, &prompter, prepared).await?;
                tokens = TokenHistogram::new(&lengths);
            }
        }
        if cut > 0 {
            warnings.push(format!(
                "{cut} of the {} texts in use exceed the limit of {} tokens and are truncated; the question and the answer are kept in full",
                summary.rows_in_use(),
                spec.max_tokens
            ));
        }
        if !prepared.duplicates.is_empty() {
            warnings.push(format!(
                "{} test rows have the same text as a training row: the figures are too optimistic",
                prepared.duplicates.len()
            ));
        }
        let test = prepared.part(Part::Test);
        Ok(DataReport {
            classes: data.classes.clone(),
            positive: data.positive,
            all: class_counts(&data.classes, data.labels()),
            train: summary.train.clone(),
            validation: summary.validation.clone(),
            test: summary.test.clone(),
            split: summary.split.clone(),
            dropped: data.dropped.clone(),
            duplicates: prepared
                .duplicates
                .iter()
                .map(|d| data.examples[test[d.test]].row)
                .collect(),
            tokens,
            cut,
            findings: data.findings.clone(),
            max_tokens,
            warnings,
            on_the_way,
        })
    }

    /// The prompt of a row.
    pub fn fill(
        &self,
        tokenizer: &Tokenizer,
        spec: &PromptSpec,
        row: usize,
    ) -> Result<FilledPrompt, Problem> {
        let data = &self.prepared()?.data;
        let prompter = prompter(tokenizer, spec, &data.classes)?;
        let none = || {
            Problem::new(
                format!("There are {} rows.", data.examples.len()),
                "Choose a row of these.",
            )
        };
        let example = data.examples.get(row).ok_or_else(none)?;
        let filled = prompter.row(&example.text);
        Ok(FilledPrompt {
            row: example.row,
            text: prompter.fill(&example.text),
            tokens: filled.ids.len(),
            cut: filled.cut,
            answers: prompter.answers().to_vec(),
            class_tokens: prompter.class_tokens().to_vec(),
            label: data.classes[example.label].clone(),
        })
    }
}

/// What makes the prompts.
pub fn prompter<'t>(
    tokenizer: &'t Tokenizer,
    spec: &PromptSpec,
    classes: &[String],
) -> Result<Prompter<'t>, Problem> {
    Ok(Prompter::new(spec, classes, tokenizer, Some(tokenizer.bos()))?)
}

/// Tokens of the prompt of every row in use, and how many are cut.
pub async fn lengths_of(
    request: &Request,
    prompter: &Prompter<'_>,
    prepared: &Prepared,
) -> Result<(Vec<usize>, usize), Problem> {
    let (mut lengths, mut cut) = (Vec::new(), 0);
    let parts = [Part::Train, Part::Validation, Part::Test];
    // rows beyond a limit are not used
    for &place in parts.into_iter().flat_map(|part| prepared.part(part)) {
        let row = prompter.row(&prepared.data.examples[place].text);
        cut += usize::from(row.cut);
        lengths.push(row.ids.len());
        request.poll().await?;
    }
    Ok((lengths, cut))
}
