//! Guesses a table's dialect from its first text: format, delimiter, quotes, header.

use serde::{Deserialize, Serialize};

use super::decode::EncodingChoice;
use super::records::{FieldParser, Records};
use super::{TableError, TableOptions};

/// CSV and its relatives, or JSON lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Fields separated by a delimiter.
    Delimited,
    /// One JSON object a line.
    JsonLines,
}

/// How the file was read; shown to the user, who can override each part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialect {
    /// CSV or JSON lines.
    pub format: Format,
    /// The delimiter; none for a file of one column and for JSON lines.
    pub delimiter: Option<char>,
    /// The quote character; none where quotes are ordinary characters.
    pub quote: Option<char>,
    /// Is the first line a header?
    pub header: bool,
    /// The encoding, and whether it was guessed.
    pub encoding: EncodingChoice,
}

impl Dialect {
    /// The delimiter in words.
    pub fn delimiter_name(&self) -> &'static str {
        match self.delimiter {
            Some(',') => "comma",
            Some(';') => "semicolon",
            Some('\t') => "tab",
            Some('|') => "vertical bar",
            Some(_) => "as given",
            None => "none",
        }
    }
}

/// In the order in which they win a tie.
const DELIMITERS: [u8; 4] = [b'\t', b',', b';', b'|'];
/// Rows looked at.
const SAMPLE_ROWS: usize = 200;
/// Column names that are a header wherever they stand.
const KNOWN_NAMES: [&str; 20] = [
    "text",
    "label",
    "comment",
    "class",
    "category",
    "sentence",
    "review",
    "message",
    "id",
    "split",
    "target",
    "content",
    "body",
    "title",
    "tweet",
    "labels",
    "sentiment",
    "ishate",
    "document",
    "query",
];

/// The dialect of a file that starts with `sample`; `complete` says that the sample is the whole file.
pub(super) fn detect(
    sample: &str,
    complete: bool,
    options: &TableOptions,
    encoding: EncodingChoice,
) -> Result<Dialect, TableError> {
    let first = sample.trim_start().chars().next().ok_or(TableError::Empty)?;
    let looks_json =
        options.delimiter.is_none() && first == '{' && !sample.trim_start().starts_with("{{");
    if options.format.is_none()
        && options.delimiter.is_none()
        && first == '['
        && is_json_array(sample)
    {
        return Err(TableError::JsonArray);
    }
    if options.format == Some(Format::JsonLines) || (options.format.is_none() && looks_json) {
        return Ok(Dialect {
            format: Format::JsonLines,
            delimiter: None,
            quote: None,
            header: false,
            encoding,
        });
    }
    let quote = options.quote.unwrap_or(Some(b'"'));
    let (delimiter, quote) = match options.delimiter {
        Some(delimiter) => (Some(delimiter), quote),
        None => choose_delimiter(sample, complete, quote, options.quote.is_some()),
    };
    let rows = sample_rows(sample, complete, delimiter, quote).unwrap_or_default();
    let header = options.header.unwrap_or_else(|| has_header(&rows));
    let [delimiter, quote] = [delimiter, quote].map(|b| b.map(char::from));
    Ok(Dialect { format: Format::Delimited, delimiter, quote, header, encoding })
}

fn is_json_array(sample: &str) -> bool {
    let inside = sample.trim_start().trim_start_matches('[').trim_start();
    inside.starts_with('{')
}

/// The delimiter under which most rows have as many fields as the first; none for one column.
fn choose_delimiter(
    sample: &str,
    complete: bool,
    quote: Option<u8>,
    quote_given: bool,
) -> (Option<u8>, Option<u8>) {
    let mut best = (0.0, None, quote);
    for delimiter in DELIMITERS {
        // tab-separated files often write quotes as they are
        let quotes =
            if delimiter == b'\t' && !quote_given { vec![quote, None] } else { vec![quote] };
        let rows = quotes
            .into_iter()
            .find_map(|q| Some((q, sample_rows(sample, complete, Some(delimiter), q)?)));
        let Some((quote, rows)) = rows else { continue };
        let width = rows.first().map_or(0, Vec::len);
        if width < 2 {
            continue;
        }
        let score = rows.iter().filter(|r| r.len() == width).count() as f64 / rows.len() as f64;
        if score > best.0 {
            best = (score, Some(delimiter), quote);
        }
    }
    if best.0 > 0.5 { (best.1, best.2) } else { choose_by_header(sample, quote) }
}

/// Where quotes gone wrong spoil every guess, the header alone decides, so that the error names the row.
fn choose_by_header(sample: &str, quote: Option<u8>) -> (Option<u8>, Option<u8>) {
    let header = sample.lines().find(|l| !l.is_empty()).unwrap_or_default();
    let names: Vec<Vec<String>> = DELIMITERS
        .iter()
        .map(|&d| FieldParser::new(Some(d), quote).fields(header.as_bytes()))
        .collect();
    let known = |names: &Vec<String>| names.len() > 1 && names.iter().any(|n| is_known_name(n));
    let delimiter = names.iter().position(known).map(|i| DELIMITERS[i]);
    (delimiter, quote)
}

fn is_known_name(name: &str) -> bool {
    KNOWN_NAMES.contains(&name.trim().to_lowercase().as_str())
}

/// The first rows as fields, without the one that the sample's end cuts; none where the quotes are wrong.
fn sample_rows(
    sample: &str,
    complete: bool,
    delimiter: Option<u8>,
    quote: Option<u8>,
) -> Option<Vec<Vec<String>>> {
    let mut records = Records::new(delimiter, quote);
    let mut parser = FieldParser::new(delimiter, quote);
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut each = |_: u64, record: &[u8]| {
        if rows.len() < SAMPLE_ROWS {
            rows.push(parser.fields(record));
        }
        Ok(())
    };
    records.push(sample, &mut each).ok()?;
    if complete {
        records.finish(&mut each).ok()?;
    }
    Some(rows)
}

/// A header names things: no numbers, no blanks, no repeats, nothing that recurs below it.
fn has_header(rows: &[Vec<String>]) -> bool {
    let Some((first, below)) = rows.split_first() else { return true };
    if first.iter().any(|name| is_known_name(name)) {
        return true;
    }
    let unlike_a_name = |name: &String| {
        name.trim().is_empty() || name.trim().parse::<f64>().is_ok() || name.len() > 80
    };
    let repeats = (1..first.len()).any(|i| first[..i].contains(&first[i]));
    let recurs = |i: usize| below.iter().any(|row| row.get(i) == Some(&first[i]));
    !(first.iter().any(unlike_a_name) || repeats || (0..first.len()).any(recurs))
}

#[cfg(test)]
mod tests {
    use super::super::TextEncoding;
    use super::*;

    fn check(sample: &str) -> (Option<char>, Option<char>, bool) {
        let encoding = EncodingChoice { encoding: TextEncoding::Utf8, guessed: true };
        let d = detect(sample, true, &TableOptions::default(), encoding).unwrap();
        (d.delimiter, d.quote, d.header)
    }

    #[test]
    fn delimiters() {
        assert_eq!(check("comment;isHate\nyes, but, no;1.0\nmaybe;0.0\n").0, Some(';'));
        assert_eq!(check("text,label\n\"a; b\nc\",x\nd,y\n").0, Some(','));
        assert_eq!(check("a\tb\n1,5\tx\n2,5\ty\n").0, Some('\t'));
        assert_eq!(check("a|b\nx|y\n").0, Some('|'));
        assert_eq!(check("text\none, two\nthree\n").0, None);
        // one bad row does not change the guess
        assert_eq!(check("text,label\na,b\nc,d,e\nf,g\n").0, Some(','));
        assert_eq!(check("text,label\n\"a\"b,c\n").0, Some(','));
    }

    #[test]
    fn tab_files_with_bare_quotes() {
        assert_eq!(check("text\tlabel\n\"so\" he said\tx\n"), (Some('\t'), None, true));
        assert_eq!(check("text\tlabel\n\"a\nb\"\tx\n"), (Some('\t'), Some('"'), true));
    }

    #[test]
    fn headers() {
        assert!(check("text,label\na,b\n").2);
        assert!(check("Beitrag,Art\nHallo,gut\nTag,böse\n").2);
        assert!(!check("you are nice,good\nyou are bad,bad\nwell done,good\n").2);
        assert!(!check("hello,1\nbye,0\n").2);
        assert!(!check("a,\nb,c\n").2);
    }

    #[test]
    fn json() {
        let encoding = EncodingChoice { encoding: TextEncoding::Utf8, guessed: true };
        let run = |s: &str| detect(s, true, &TableOptions::default(), encoding);
        assert_eq!(run("{\"text\": \"a\"}\n").unwrap().format, Format::JsonLines);
        assert_eq!(run(" [\n {\"text\": 1}]").unwrap_err(), TableError::JsonArray);
        assert_eq!(run("[tag],x\n[b],y\n").unwrap().format, Format::Delimited);
        assert_eq!(run(" \n\n").unwrap_err(), TableError::Empty);
    }
}
