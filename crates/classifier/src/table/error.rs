//! What can be wrong with a data file, said so that a person can mend it.

use thiserror::Error;

/// A data file that cannot be read as a table.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum TableError {
    /// A workbook instead of a text table.
    #[error(
        "this is a {kind} file, not text: open it in its program and save it as CSV (UTF-8), then choose that file"
    )]
    Spreadsheet {
        /// What the first bytes say it is.
        kind: &'static str,
    },
    /// Bytes that are no text.
    #[error("this file is binary{}, not text: expected CSV, TSV or JSON lines", kind.map(|k| format!(" ({k})")).unwrap_or_default())]
    Binary {
        /// What the first bytes say it is, where they do.
        kind: Option<&'static str>,
    },
    /// Nothing but blank lines.
    #[error("the file is empty: expected a header line and at least one row")]
    Empty,
    /// A header and nothing below.
    #[error("the file has a header line but no rows")]
    NoRows,
    /// Bytes that the encoding does not allow.
    #[error(
        "line {line}: bytes that are not {encoding}; save the file as UTF-8, or name its encoding (Windows-1252 accepts every byte)"
    )]
    Encoding {
        /// Line of the first bad byte, from 1.
        line: u64,
        /// The encoding in use.
        encoding: &'static str,
    },
    /// A quoted field that never ends.
    #[error(
        "line {line}: the quote {quote:?} that opens a field here is never closed; close it, write a quote inside a field twice, or read the file without quoting"
    )]
    QuoteOpen {
        /// Line of the opening quote, from 1.
        line: u64,
        /// The quote character.
        quote: char,
    },
    /// Text after a closing quote.
    #[error(
        "line {line}: {found:?} follows a closing quote (the field was opened in line {opened}); expected a delimiter or the end of the line; write a quote inside a quoted field twice, or read the file without quoting"
    )]
    QuoteClosed {
        /// Line of the closing quote, from 1.
        line: u64,
        /// Line in which the field was opened, from 1.
        opened: u64,
        /// The character found.
        found: char,
    },
    /// A row with too few or too many fields.
    #[error(
        "line {line}: {found} fields, expected {expected} as in the header (delimiter {delimiter}); check the quotes near this line, or choose another delimiter"
    )]
    Ragged {
        /// First line of the row, from 1.
        line: u64,
        /// Number of columns.
        expected: usize,
        /// Number of fields in this row.
        found: usize,
        /// The delimiter in words.
        delimiter: &'static str,
    },
    /// A row that never seems to end.
    #[error(
        "line {line}: a row of more than {limit} bytes starts here: probably a quote that is not closed"
    )]
    RowTooLong {
        /// First line of the row, from 1.
        line: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// More columns than any table of texts has.
    #[error("line {line}: {found} columns; at most {limit} are read")]
    TooManyColumns {
        /// Line, from 1.
        line: u64,
        /// Columns found.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A line of a JSON lines file that is no JSON object.
    #[error(
        "line {line}: not a JSON object ({why}); JSON lines has one object a line, such as {{\"text\": \"…\", \"label\": \"…\"}}"
    )]
    Json {
        /// Line, from 1.
        line: u64,
        /// What the JSON reader said.
        why: String,
    },
    /// A JSON array instead of JSON lines.
    #[error("this is one JSON array; save it as JSON lines (one object a line) or as CSV")]
    JsonArray,
    /// The file could not be read.
    #[error("cannot read the file: {0}")]
    Io(String),
}
