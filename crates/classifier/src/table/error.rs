//! What can be wrong with a data file, said so that a person can correct it.

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
    #[error(
        "{}this file is binary{}, not text: choose a table as CSV, TSV or JSON Lines",
        line.map(|l| format!("line {l}: NUL characters: ")).unwrap_or_default(),
        kind.map(|k| format!(" ({k})")).unwrap_or_default()
    )]
    Binary {
        /// What the first bytes say it is, where they do.
        kind: Option<&'static str>,
        /// Line of the first NUL character, where that is the reason.
        line: Option<u64>,
    },
    /// Text of another kind.
    #[error("this is {kind}, not a table: {todo}")]
    Other {
        /// What it is.
        kind: &'static str,
        /// What to do.
        todo: &'static str,
    },
    /// Nothing but blank lines.
    #[error("the file is empty: choose one with a header line and at least one row")]
    Empty,
    /// A header and nothing below.
    #[error(
        "the file has a header line but no rows; add some, or read its first line as a row (--no-header)"
    )]
    NoRows,
    /// Bytes that the encoding does not allow.
    #[error(
        "line {line}: bytes that are not {encoding}; save the file as UTF-8, or set its encoding (--encoding NAME, or \"Encoding\" on the page; windows-1252 accepts every byte)"
    )]
    Encoding {
        /// Line of the first bad byte, from 1.
        line: u64,
        /// The encoding in use.
        encoding: &'static str,
    },
    /// Letters that are none in the encoding that looks likeliest.
    #[error(
        "line {line}: the encoding of the characters beyond ASCII is unclear; save the file as UTF-8, or set its encoding (--encoding NAME, or \"Encoding\" on the page)"
    )]
    UnknownEncoding {
        /// Line of the first strange letter, from 1.
        line: u64,
    },
    /// Some lines in UTF-8, some in another encoding.
    #[error(
        "line {line}: the file mixes encodings: {utf8} lines have characters in UTF-8, {other} have characters that are not UTF-8 (perhaps {guess}), so some would be wrong; save all of it as UTF-8, or set one encoding (--encoding {guess}, or \"Encoding\" on the page)"
    )]
    MixedEncodings {
        /// First line of the rarer kind, from 1.
        line: u64,
        /// Lines that are valid UTF-8 beyond ASCII.
        utf8: u64,
        /// Lines that are not.
        other: u64,
        /// What the others look like.
        guess: &'static str,
    },
    /// A quoted field that never ends.
    #[error(
        "line {line}: the quote {quote:?} that opens a field here is never closed; close it, write a quote inside a field twice, or read quotes as plain characters (--quote none, or \"Quote character\" on the page)"
    )]
    QuoteOpen {
        /// Line of the opening quote, from 1.
        line: u64,
        /// The quote character.
        quote: char,
    },
    /// Text after a closing quote.
    #[error(
        "line {line}: {found:?} follows a closing quote (the field was opened in line {opened}); expected a delimiter or the end of the line; write a quote inside a quoted field twice, set the escape character (--escape '\\'), or read quotes as plain characters (--quote none, or \"Quote character\" on the page)"
    )]
    QuoteClosed {
        /// Line of the closing quote, from 1.
        line: u64,
        /// Line in which the field was opened, from 1.
        opened: u64,
        /// The character found.
        found: char,
    },
    /// A quoted field that holds what looks like rows.
    #[error(
        "line {line}: the quote that opens a field here is only closed in line {to}, and the {rows} lines between look like separate rows; close the quote, or say how it is meant: plain characters (--quote none), or quotes around one long text (--quote '{quote}')"
    )]
    RowsInQuotes {
        /// Line of the opening quote, from 1.
        line: u64,
        /// Line of the closing quote.
        to: u64,
        /// Lines that look like rows.
        rows: usize,
        /// The quote character.
        quote: char,
    },
    /// A row with too few or too many fields.
    #[error(
        "line {line}: {found} fields, expected {expected} as in the header (delimiter {delimiter}); {hint}"
    )]
    Ragged {
        /// First line of the row, from 1.
        line: u64,
        /// Number of columns.
        expected: usize,
        /// Number of fields in this row.
        found: usize,
        /// The delimiter in words.
        delimiter: String,
        /// What is probably wrong, and what to do.
        hint: &'static str,
    },
    /// A row that never seems to end.
    #[error(
        "line {line}: a row of more than {limit} bytes starts here: probably a quote that is not closed; close it, or read quotes as plain characters (--quote none, or \"Quote character\" on the page)"
    )]
    RowTooLong {
        /// First line of the row, from 1.
        line: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// More columns than any table of texts has.
    #[error(
        "line {line}: {found} columns; at most {limit} are read: keep only the columns that are needed"
    )]
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
        "line {line}: not a JSON object ({why}); write one object per line, such as {{\"text\": \"…\", \"label\": \"…\"}}"
    )]
    Json {
        /// Line, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// An object with two fields of one name, of which one would be lost.
    #[error(
        "line {line}: the field {field:?} is there twice in one row, with different values, so one of them would be lost; rename or remove one of the two"
    )]
    JsonTwoValues {
        /// Line, from 1.
        line: u64,
        /// The field's name, or its path.
        field: String,
    },
    /// JSON in a form that is not read.
    #[error(
        "{why}; supported are JSON Lines (one object per line), an array of objects, pandas' forms records, columns, list and split, and one list of objects inside an object"
    )]
    JsonShape {
        /// What was found.
        why: String,
    },
    /// The file could not be read.
    #[error("cannot read the file: {0}")]
    Io(String),
}
