//! Whole tables for the classifier in use: read as its own texts were, shown, and classified.

use hearth_classifier::{
    calibration::softmax,
    columns::{Roles, TextSource, check_texts, guess_roles_told, texts},
    metrics::predict,
    origin::TextReading,
    predictions::PredictionsWriter,
    table::{Table, TableOptions},
};
use web_sys::Blob;

use super::{
    active::ActiveClassifier,
    data::{first_rows, read_table},
    outbox::Reply,
    problem::Problem,
    request::Request,
};
use crate::{
    protocol::{FilePreview, FromEngine, on_page},
    storage::join,
    wire::blob,
};

/// Rows of a file that are scored and written before the next are looked at.
const ROWS: usize = 512;
/// Rows of a preview.
const FIRST: usize = 5;

/// Reads a table for a classifier: as its training table was written where its columns are found so, else by the
/// file's own look. Gives the options it was read with.
async fn read_for(
    request: &Request,
    name: &str,
    file: &Blob,
    trained: Option<&TextReading>,
) -> Result<(Table, TableOptions), Problem> {
    let attempts = trained.map_or_else(Vec::new, |trained| trained.attempts().to_vec());
    for options in attempts {
        let read = read_table(request, name, file, options.clone()).await;
        request.check()?;
        let (Ok(table), Some(trained)) = (read, trained) else { continue };
        if trained.find(&table).is_err() {
            continue;
        }
        let Some(encoding) = trained.encoding_for(&table) else { return Ok((table, options)) };
        let options = TableOptions { encoding: Some(encoding), ..options };
        return Ok((read_table(request, name, file, options.clone()).await?, options));
    }
    let options = TableOptions::default();
    Ok((read_table(request, name, file, options.clone()).await?, options))
}

/// A table as it would be classified.
pub async fn preview_file(
    request: &Request,
    using: &ActiveClassifier<'_>,
    name: String,
    file: Blob,
    options: Option<TableOptions>,
) -> Result<FilePreview, Problem> {
    let trained = using.origin.reading.clone();
    let (table, options) = match options {
        Some(options) => (read_table(request, &name, &file, options.clone()).await?, options),
        None => read_for(request, &name, &file, trained.as_ref()).await?,
    };
    let mut warnings = table.warnings.clone();
    let (text, missing) = match &trained {
        Some(trained) => match trained.find(&table) {
            Ok(text) => (Some(text), Vec::new()),
            Err(missing) => (None, missing),
        },
        None => {
            let guessed = guess_roles_told(&table);
            let about_text = guessed.warnings.into_iter().filter(|w| w.starts_with("the text"));
            warnings.extend(about_text);
            (Some(guessed.roles.text), Vec::new())
        }
    };
    Ok(FilePreview {
        name,
        dialect: table.dialect.clone(),
        options,
        rows: table.rows.len(),
        first: first_rows(&table, FIRST),
        columns: table.columns,
        text,
        guessed: trained.is_none(),
        trained,
        missing,
        warnings: warnings.iter().map(|warning| on_page(warning)).collect(),
    })
}

/// Adds predictions to a table. What is written lies in the browser, not in the program's memory.
pub async fn classify_file(
    request: &Request,
    using: &mut ActiveClassifier<'_>,
    name: String,
    file: Blob,
    options: TableOptions,
    text: Option<TextSource>,
    for_spreadsheets: bool,
) -> Result<Reply, Problem> {
    let trained = using.origin.reading.clone();
    let classifier = &mut using.classifier;
    let (table, text) = match text {
        Some(text) => (read_table(request, &name, &file, options).await?, text),
        None => {
            let (table, _) = read_for(request, &name, &file, trained.as_ref()).await?;
            let text = match &trained {
                Some(trained) => trained.find(&table).map_err(|missing| {
                    Problem::new(
                        format!("{name} has no column {}.", missing.join(", ")),
                        "Choose the text column.",
                    )
                })?,
                None => {
                    let guessed = guess_roles_told(&table);
                    for warning in guessed.warnings.iter().filter(|w| w.starts_with("the text")) {
                        request.warn(format!("{name}: {warning}"));
                    }
                    guessed.roles.text
                }
            };
            (table, text)
        }
    };
    if text.columns().into_iter().any(|c| c >= table.columns.len()) {
        return Err(Problem::new("There is no such column.", "Choose the text column again."));
    }
    let roles = Roles { text, label: None, split: None, id: None };
    check_texts(&table, &roles)?;
    for warning in &table.warnings {
        request.warn(format!("{name}: {warning}"));
    }
    let (texts, bad) = texts(&table, &roles);
    if bad.empty_text.len() == texts.len() {
        return Err(Problem::new("No row has any text.", "Choose another text column."));
    }
    let names = classifier.classes().to_vec();
    let mut parts = Vec::new();
    for (rows, texts) in table.rows.chunks(ROWS).zip(texts.chunks(ROWS)) {
        let done = parts.len() * ROWS;
        let of = table.rows.len();
        let tell = |done| {
            request.tell_now_and_then(|| FromEngine::Scoring {
                what: "predicting".to_owned(),
                done,
                of,
            });
        };
        tell(done);
        let full: Vec<usize> = (0..texts.len()).filter(|&i| !texts[i].trim().is_empty()).collect();
        let asked: Vec<&str> = full.iter().map(|&i| texts[i].as_str()).collect();
        let logs = classifier.log_probabilities(&asked, |scored| {
            tell(done + scored);
            !request.is_cancelled()
        });
        let logs = logs.await?;
        let (positive, choice) = (classifier.positive(), classifier.choice());
        let probabilities = softmax(&logs, names.len(), choice.temperature);
        let mut scored = vec![(None, &[][..]); rows.len()];
        for (&i, row) in full.iter().zip(probabilities.chunks_exact(names.len())) {
            scored[i] = (Some(predict(row, positive, choice.threshold)), row);
        }
        let mut bytes = Vec::new();
        let columns = &table.columns;
        let mut writer = match parts.is_empty() {
            true => PredictionsWriter::new(&mut bytes, columns, &names, for_spreadsheets)?,
            false => PredictionsWriter::continued(&mut bytes, columns, &names, for_spreadsheets),
        };
        for (row, (class, probabilities)) in rows.iter().zip(scored) {
            writer.write(&row.fields, class, probabilities)?;
        }
        writer.flush()?;
        drop(writer);
        parts.push(blob(&bytes, "text/csv")?);
        request.poll().await?;
    }
    let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
    let skipped = bad.empty_text.len();
    let note = match skipped {
        0 => format!("{} rows", table.rows.len()),
        n => format!("{} rows; {n} without text have no prediction", table.rows.len()),
    };
    let names = vec![format!("{stem}-classified.csv")];
    Ok((FromEngine::File { names, note }, vec![join(&parts)?]))
}
