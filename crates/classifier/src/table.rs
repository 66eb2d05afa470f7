//! Tables of texts: delimited text, JSON and plain lines, read as a stream.
//!
//! [`Survey`] takes all bytes of a file in pieces of any size (the browser's way) and says how it is
//! written; the [`TableStream`] that comes of it takes the same pieces once more and gives rows.
//! [`read`] runs both over a [`std::io::Read`]. Encoding, delimiter, quotes and header are guessed, can be
//! set by [`TableOptions`], and are told by [`Dialect`]; what is unusual is told in words.

mod before;
mod damaged;
mod decode;
mod detect;
mod encoding;
mod error;
mod header;
mod json;
mod ragged;
mod reading;
mod records;
mod refuse;
mod row_reader;
mod survey;
mod words;

use std::collections::HashSet;
use std::io::Read;

use serde::{Deserialize, Deserializer, Serialize};

pub use detect::{Dialect, Format, Why};
pub use encoding::{ENCODINGS, EncodingChoice, EncodingKnown, TextEncoding};
pub use error::TableError;
pub use row_reader::RowReader;
pub use survey::Survey;

use decode::Decoder;
use json::JsonRows;
use ragged::{hint, is_rule};
use reading::KnownValues;
use records::{Record, Records, Rules};

/// What the caller knows better than the guess.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(default)]
pub struct TableOptions {
    /// What the file consists of.
    pub format: Option<Format>,
    /// The delimiter.
    #[serde(deserialize_with = "text_or_byte")]
    pub delimiter: Option<String>,
    /// An ASCII character; `Some(None)` reads quotes as ordinary characters.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub quote: Option<Option<u8>>,
    /// The ASCII character that takes the next one as it is.
    pub escape: Option<u8>,
    /// Is the first line a header?
    pub header: Option<bool>,
    /// Lines to pass over at the start.
    pub skip_lines: Option<usize>,
    /// The encoding.
    pub encoding: Option<TextEncoding>,
}

/// A field that is there, be it null: JSON's null means no quotes, an absent field means a guess.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<u8>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// Runs kept by earlier versions have the delimiter as a byte.
fn text_or_byte<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Byte(u8),
    }
    let given = Option::<Either>::deserialize(value)?;
    Ok(given.map(|given| match given {
        Either::Text(text) => text,
        Either::Byte(byte) => char::from(byte).to_string(),
    }))
}

/// A row as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its first line in the file, from 1.
    pub line: u64,
    /// One field a column; a JSON lines row may have fewer than the table got columns later.
    pub fields: Vec<String>,
}

impl Row {
    /// Whether every cell is empty, as in the rows that spreadsheets leave at the end.
    pub fn is_empty(&self) -> bool {
        self.fields.iter().all(|cell| cell.trim().is_empty())
    }
}

/// A whole table in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Column names: unique, never empty.
    pub columns: Vec<String>,
    /// The rows, each with a field for every column.
    pub rows: Vec<Row>,
    /// How it was read.
    pub dialect: Dialect,
    /// What is unusual or could be read otherwise, in words.
    pub warnings: Vec<String>,
}

/// How far reading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableProgress {
    /// Bytes read.
    pub bytes: u64,
    /// Rows read.
    pub rows: u64,
}

/// Nobody has more columns in a table of texts; JSON lines with running keys would.
const MAX_COLUMNS: usize = 4096;
/// A column with more different values than this has no list of them.
const FEW_VALUES: usize = 50;

/// Reads a table piece by piece, as a [`Survey`] found it to be written.
pub struct TableStream {
    decoder: Decoder,
    dialect: Dialect,
    warnings: Vec<String>,
    /// Lines still to be passed over, and the text until then.
    before: Option<String>,
    rows: Rows,
    progress: TableProgress,
}

/// Rows in the making.
enum Rows {
    Delimited(Records, Delimited),
    JsonLines(Records, JsonRows),
    /// Whole at the end.
    Json(String, JsonRows),
}

/// What rows of delimited text are checked by.
struct Delimited {
    rules: Rules,
    delimiter: String,
    header: bool,
    known: Option<KnownValues>,
    columns: Vec<String>,
    first: Vec<String>,
    /// Count and first line of what is told.
    returns: Noted,
    headers: Noted,
    longer: Noted,
    rules_drawn: Noted,
}

/// Rows with something to tell.
#[derive(Default)]
struct Noted {
    count: u64,
    first: u64,
}

impl Noted {
    fn add(&mut self, line: u64) {
        self.first = if self.count == 0 { line } else { self.first };
        self.count += 1;
    }

    fn words(&self, one: &str, many: &str) -> Option<String> {
        let more = if self.count > 1 { format!(" ({} {many})", self.count) } else { String::new() };
        (self.count > 0).then(|| format!("line {}: {one}{more}", self.first))
    }
}

impl TableStream {
    fn new(
        decoder: Decoder,
        dialect: Dialect,
        rules: Rules,
        known: Option<KnownValues>,
        warnings: Vec<String>,
    ) -> Self {
        let mut records = Records::new(rules.clone());
        let rows = match dialect.format {
            Format::Delimited | Format::Lines => {
                records.start_at(dialect.skipped as u64 + 1);
                let lines = dialect.format == Format::Lines;
                let delimited = Delimited {
                    delimiter: dialect.delimiter_name(),
                    header: dialect.header,
                    columns: if lines { vec!["text".to_owned()] } else { Vec::new() },
                    rules,
                    known,
                    first: Vec::new(),
                    returns: Noted::default(),
                    headers: Noted::default(),
                    longer: Noted::default(),
                    rules_drawn: Noted::default(),
                };
                Rows::Delimited(records, delimited)
            }
            Format::JsonLines => Rows::JsonLines(records, JsonRows::new(dialect.header)),
            Format::Json => Rows::Json(String::new(), JsonRows::new(dialect.header)),
        };
        let before = (dialect.skipped > 0).then(String::new);
        let progress = TableProgress { bytes: 0, rows: 0 };
        Self { decoder, dialect, warnings, before, rows, progress }
    }

    /// Takes the next bytes and returns the rows that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Row>, TableError> {
        self.progress.bytes += bytes.len() as u64;
        let mut text = String::new();
        self.decoder.push(bytes, false, &mut text)?;
        self.take(&text, false)
    }

    /// Takes the end of the file and returns the last rows.
    pub fn finish(&mut self) -> Result<Vec<Row>, TableError> {
        let mut text = String::new();
        self.decoder.push(&[], true, &mut text)?;
        let rows = self.take(&text, true)?;
        if self.progress.rows == 0 {
            return Err(if self.columns().is_empty() {
                TableError::Empty
            } else {
                TableError::NoRows
            });
        }
        Ok(rows)
    }

    /// Bytes and rows so far.
    pub fn progress(&self) -> TableProgress {
        self.progress
    }

    /// How the file is read.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// The columns known so far; JSON may add some.
    pub fn columns(&self) -> &[String] {
        match &self.rows {
            Rows::Delimited(_, rows) => &rows.columns,
            Rows::JsonLines(_, rows) | Rows::Json(_, rows) => &rows.columns,
        }
    }

    /// Passes over the lines before the table.
    fn behind_skipped(&mut self, text: &str, last: bool) -> Option<String> {
        let Some(before) = &mut self.before else { return Some(text.to_owned()) };
        before.push_str(text);
        let returns = match &self.rows {
            Rows::Delimited(_, rows) => rows.rules.returns,
            _ => false,
        };
        let rest = detect::after_lines(before, self.dialect.skipped, returns);
        if rest.is_empty() && !last {
            return None;
        }
        let rest = rest.to_owned();
        self.before = None;
        Some(rest)
    }

    fn take(&mut self, text: &str, last: bool) -> Result<Vec<Row>, TableError> {
        let Some(text) = self.behind_skipped(text, last) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        match &mut self.rows {
            Rows::Delimited(records, rows) => {
                let mut each = |record: Record| {
                    found.extend(rows.row(record)?);
                    Ok(())
                };
                records.push(&text, &mut each)?;
                if last {
                    records.finish(&mut each)?;
                }
            }
            Rows::JsonLines(records, rows) => {
                let mut each = |mut record: Record| {
                    let line = record.fields.pop().unwrap_or_default();
                    found.extend(rows.line(record.lines.0, &line)?);
                    Ok(())
                };
                records.push(&text, &mut each)?;
                if last {
                    records.finish(&mut each)?;
                }
            }
            Rows::Json(held, rows) => {
                held.push_str(&text);
                if last {
                    found = rows.document(held)?;
                    held.clear();
                }
            }
        }
        self.drop_zeros(&mut found);
        self.progress.rows += found.len() as u64;
        Ok(found)
    }

    /// JSON can write a NUL character as an escape.
    fn drop_zeros(&mut self, rows: &mut [Row]) {
        for row in rows {
            let line = row.line;
            for cell in row.fields.iter_mut().filter(|cell| cell.contains('\0')) {
                *cell = cell.replace('\0', "");
                self.warnings.push(format!("line {line}: a NUL character is left out of the text"));
            }
        }
    }

    /// The table of all the rows that this finished stream gave.
    pub fn into_table(self, mut rows: Vec<Row>) -> Result<Table, TableError> {
        let mut warnings = self.warnings;
        warnings.extend(self.decoder.warnings());
        let columns = match self.rows {
            Rows::Delimited(_, rows) => {
                warnings.extend(rows.told());
                rows.columns
            }
            Rows::JsonLines(_, rows) | Rows::Json(_, rows) => rows.columns,
        };
        for row in &mut rows {
            row.fields.resize(columns.len(), String::new());
        }
        Ok(Table { columns, rows, dialect: self.dialect, warnings })
    }
}

impl Delimited {
    /// One record as a row; none for the header.
    fn row(&mut self, record: Record) -> Result<Option<Row>, TableError> {
        let Record { lines: (line, to), mut fields, raw, lone_return } = record;
        if self.columns.is_empty() {
            if fields.len() > MAX_COLUMNS {
                let found = fields.len();
                return Err(TableError::TooManyColumns { line, found, limit: MAX_COLUMNS });
            }
            self.columns = column_names(&fields, self.header);
            if self.header {
                self.first = fields;
                return Ok(None);
            }
        }
        if let (Some(known), Some(raw), Some(quote)) = (&self.known, &raw, self.rules.quote)
            && let Some(rows) = known.rows_in(raw, &self.rules)
        {
            let quote = char::from(quote);
            return Err(TableError::RowsInQuotes { line, to, rows, quote });
        }
        if lone_return {
            self.returns.add(line);
        }
        let expected = self.columns.len();
        if fields.len() > expected && fields[expected..].iter().all(|f| f.trim().is_empty()) {
            self.longer.add(line);
            fields.truncate(expected);
        }
        if expected > 1 && self.rules.delimiter == "|" && is_rule(&fields) {
            self.rules_drawn.add(line);
            return Ok(None);
        }
        if fields.len() != expected {
            let hint = hint(&fields, expected, lone_return);
            let (found, delimiter) = (fields.len(), self.delimiter.clone());
            return Err(TableError::Ragged { line, expected, found, delimiter, hint });
        }
        // one column of the same name may be a text
        if expected > 1 && fields == self.first {
            self.headers.add(line);
            return Ok(None);
        }
        Ok(Some(Row { line, fields }))
    }

    fn told(&self) -> impl Iterator<Item = String> {
        let returns = "a carriage return in a field is kept, as lines end with line feeds";
        let header = "the header is repeated and skipped; were several files joined?";
        let longer = "the line ends with an extra delimiter, which is ignored";
        [
            self.returns.words(returns, "such lines"),
            self.headers.words(header, "times"),
            self.longer.words(longer, "such lines"),
            self.rules_drawn.words("the line of dashes is not a row and is skipped", "such lines"),
        ]
        .into_iter()
        .flatten()
    }
}

/// Unique, non-empty names.
fn column_names(first: &[String], header: bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut taken = HashSet::new();
    for (i, field) in first.iter().enumerate() {
        let given = field.trim();
        let base = if header && !given.is_empty() {
            given.to_string()
        } else {
            format!("column {}", i + 1)
        };
        let mut name = base.clone();
        let mut n = 2;
        while !taken.insert(name.clone()) {
            name = format!("{base} ({n})");
            n += 1;
        }
        names.push(name);
    }
    names
}

/// Reads a whole table, telling `progress` after every piece (1 MiB).
pub fn read(
    mut source: impl Read,
    options: TableOptions,
    progress: &mut dyn FnMut(TableProgress),
) -> Result<Table, TableError> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).map_err(|e| TableError::Io(e.to_string()))?;
    let mut survey = Survey::new(options);
    for piece in bytes.chunks(1 << 20) {
        survey.push(piece)?;
    }
    let mut stream = survey.finish()?;
    let mut rows = Vec::new();
    for piece in bytes.chunks(1 << 20) {
        rows.extend(stream.push(piece)?);
        progress(stream.progress());
    }
    rows.extend(stream.finish()?);
    progress(stream.progress());
    stream.into_table(rows)
}

#[cfg(test)]
#[path = "table/tests.rs"]
mod tests;
