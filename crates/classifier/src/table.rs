//! Tables of texts: CSV, TSV and JSON lines, read as a stream.
//!
//! [`TableStream`] takes the file in pieces of any size (the browser's way) and gives rows;
//! [`read`] runs it over a [`std::io::Read`]. Delimiter, encoding, quotes and header are guessed from
//! the first 64 KiB, can be set by [`TableOptions`], and are told by [`Dialect`].

mod decode;
mod detect;
mod error;
mod records;

use std::io::Read;

use serde::{Deserialize, Serialize};

pub use decode::{EncodingChoice, TextEncoding};
pub use detect::{Dialect, Format};
pub use error::TableError;

use decode::Decoder;
use records::{FieldParser, Records};

/// What the caller knows better than the guess.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableOptions {
    /// CSV or JSON lines.
    pub format: Option<Format>,
    /// The delimiter, an ASCII character.
    pub delimiter: Option<u8>,
    /// `Some(None)` reads quotes as ordinary characters.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub quote: Option<Option<u8>>,
    /// Is the first line a header?
    pub header: Option<bool>,
    /// The encoding.
    pub encoding: Option<TextEncoding>,
}

/// A field that is there, be it null: JSON's null means no quotes, an absent field means a guess.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<u8>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// A row as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its first line in the file, from 1.
    pub line: u64,
    /// One field a column; a JSON lines row may have fewer than the table got columns later.
    pub fields: Vec<String>,
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
}

/// How far reading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableProgress {
    /// Bytes read.
    pub bytes: u64,
    /// Rows read.
    pub rows: u64,
}

/// Text looked at before the dialect is settled, in bytes.
const SAMPLE: usize = 64 << 10;
/// Nobody has more columns in a table of texts; JSON lines with running keys would.
const MAX_COLUMNS: usize = 4096;

/// Reads a table piece by piece.
pub struct TableStream {
    options: TableOptions,
    decoder: Decoder,
    /// Decoded text that is not yet cut into rows.
    text: String,
    parser: Option<Parser>,
    progress: TableProgress,
}

struct Parser {
    dialect: Dialect,
    records: Records,
    fields: FieldParser,
    columns: Vec<String>,
    header_read: bool,
}

impl TableStream {
    /// A stream at its beginning.
    pub fn new(options: TableOptions) -> Self {
        Self {
            decoder: Decoder::new(options.encoding),
            options,
            text: String::new(),
            parser: None,
            progress: TableProgress { bytes: 0, rows: 0 },
        }
    }

    /// Takes the next bytes and returns the rows that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Row>, TableError> {
        self.progress.bytes += bytes.len() as u64;
        self.decoder.push(bytes, false, &mut self.text)?;
        if self.parser.is_none() && self.text.len() < SAMPLE {
            Ok(Vec::new())
        } else {
            self.parse(false)
        }
    }

    /// Takes the end of the file and returns the last rows.
    pub fn finish(&mut self) -> Result<Vec<Row>, TableError> {
        self.decoder.push(&[], true, &mut self.text)?;
        let rows = self.parse(true)?;
        if self.progress.rows == 0 {
            let header = self.parser.as_ref().is_some_and(|p| p.header_read);
            return Err(if header { TableError::NoRows } else { TableError::Empty });
        }
        Ok(rows)
    }

    /// Bytes and rows so far.
    pub fn progress(&self) -> TableProgress {
        self.progress
    }

    /// How the file is read, once known (after 64 KiB or at the end).
    pub fn dialect(&self) -> Option<Dialect> {
        // the encoding may settle after the rest, at the first character beyond ASCII
        self.parser
            .as_ref()
            .map(|p| Dialect { encoding: self.decoder.choice(), ..p.dialect.clone() })
    }

    /// The columns known so far; JSON lines may add some.
    pub fn columns(&self) -> &[String] {
        self.parser.as_ref().map_or(&[], |p| &p.columns)
    }

    fn parse(&mut self, last: bool) -> Result<Vec<Row>, TableError> {
        let parser = match &mut self.parser {
            Some(parser) => parser,
            None => {
                let dialect =
                    detect::detect(&self.text, last, &self.options, self.decoder.choice())?;
                self.parser.insert(Parser::new(dialect))
            }
        };
        let mut rows = Vec::new();
        let mut records = std::mem::replace(&mut parser.records, Records::new(None, None));
        let mut each = |line: u64, record: &[u8]| {
            rows.extend(parser.row(line, record)?);
            Ok(())
        };
        records.push(&self.text, &mut each)?;
        if last {
            records.finish(&mut each)?;
        }
        parser.records = records;
        self.text.clear();
        self.progress.rows += rows.len() as u64;
        Ok(rows)
    }
}

impl Parser {
    fn new(dialect: Dialect) -> Self {
        let [delimiter, quote] =
            [dialect.delimiter, dialect.quote].map(|c| c.and_then(|c| u8::try_from(c).ok()));
        let fields = FieldParser::new(delimiter, quote);
        Self {
            records: Records::new(delimiter, quote),
            fields,
            header_read: false,
            columns: Vec::new(),
            dialect,
        }
    }

    /// One record as a row; none for the header.
    fn row(&mut self, line: u64, record: &[u8]) -> Result<Option<Row>, TableError> {
        if self.dialect.format == Format::JsonLines {
            return self.json_row(line, record);
        }
        let fields = self.fields.fields(record);
        if !self.header_read {
            self.header_read = true;
            if fields.len() > MAX_COLUMNS {
                return Err(TableError::TooManyColumns {
                    line,
                    found: fields.len(),
                    limit: MAX_COLUMNS,
                });
            }
            self.columns = column_names(&fields, self.dialect.header);
            if self.dialect.header {
                return Ok(None);
            }
        }
        if fields.len() != self.columns.len() {
            return Err(TableError::Ragged {
                line,
                expected: self.columns.len(),
                found: fields.len(),
                delimiter: self.dialect.delimiter_name(),
            });
        }
        Ok(Some(Row { line, fields }))
    }

    fn json_row(&mut self, line: u64, record: &[u8]) -> Result<Option<Row>, TableError> {
        if record.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(record)
            .map_err(|e| TableError::Json { line, why: e.to_string() })?;
        let mut fields = vec![String::new(); self.columns.len()];
        for (key, value) in object {
            let place = match self.columns.iter().position(|c| *c == key) {
                Some(place) => place,
                None if self.columns.len() == MAX_COLUMNS => {
                    return Err(TableError::TooManyColumns {
                        line,
                        found: MAX_COLUMNS + 1,
                        limit: MAX_COLUMNS,
                    });
                }
                None => {
                    self.columns.push(key);
                    fields.push(String::new());
                    fields.len() - 1
                }
            };
            fields[place] = match value {
                serde_json::Value::String(text) => text,
                serde_json::Value::Null => String::new(),
                other => other.to_string(),
            };
        }
        Ok(Some(Row { line, fields }))
    }
}

/// Unique, non-empty names.
fn column_names(first: &[String], header: bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (i, field) in first.iter().enumerate() {
        let given = field.trim();
        let base = if header && !given.is_empty() {
            given.to_string()
        } else {
            format!("column {}", i + 1)
        };
        let mut name = base.clone();
        let mut n = 2;
        while names.contains(&name) {
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
    let mut stream = TableStream::new(options);
    let mut piece = vec![0; 1 << 20];
    let mut rows = Vec::new();
    loop {
        let n = match source.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(TableError::Io(e.to_string())),
        };
        rows.extend(stream.push(&piece[..n])?);
        progress(stream.progress());
    }
    rows.extend(stream.finish()?);
    progress(stream.progress());
    stream.into_table(rows)
}

impl TableStream {
    /// The table of all the rows that this finished stream gave.
    pub fn into_table(self, mut rows: Vec<Row>) -> Result<Table, TableError> {
        let dialect = self.dialect().ok_or(TableError::Empty)?;
        let columns = self.parser.map(|p| p.columns).unwrap_or_default();
        for row in &mut rows {
            row.fields.resize(columns.len(), String::new());
        }
        Ok(Table { columns, rows, dialect })
    }
}

#[cfg(test)]
#[path = "table/tests.rs"]
mod tests;
