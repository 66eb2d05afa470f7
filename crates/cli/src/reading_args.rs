//! How a table is read, as far as the user says it.

use anyhow::{Result, bail};
use clap::{ArgAction, Args};
use hearth_classifier::table::{ENCODINGS, Format, TableOptions, TextEncoding};

/// What is known better than the guess.
#[derive(Args, Clone)]
pub struct ReadingArgs {
    /// The encoding, such as utf-8, windows-1252, shift_jis, gbk, utf-16 [default: guessed]
    #[arg(long, value_name = "NAME")]
    encoding: Option<String>,
    /// The delimiter: one or more characters, or tab, comma, semicolon, bar, space, or none
    /// if there is only one column; \t is a tab [default: guessed]
    #[arg(long, value_name = "CHAR")]
    delimiter: Option<String>,
    /// The quote character around fields, or none if quotes are plain characters [default: guessed]
    #[arg(long, value_name = "none|CHAR", allow_hyphen_values = true)]
    quote: Option<String>,
    /// The escape character before a quote inside a field, such as \
    #[arg(long, value_name = "CHAR")]
    escape: Option<String>,
    /// Whether the first line contains column names [default: guessed]
    #[arg(long, value_name = "yes|no", value_parser = yes_or_no, action = ArgAction::Set)]
    header: Option<bool>,
    /// The first line is data, not column names: the same as --header no
    #[arg(long, conflicts_with = "header")]
    no_header: bool,
    /// Lines to skip before the table [default: guessed]
    #[arg(long, value_name = "N")]
    skip_lines: Option<usize>,
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err("expected yes or no".to_owned()),
    }
}

impl ReadingArgs {
    /// As the reader takes them; `lines` reads a text a line.
    pub fn options(&self, lines: bool) -> Result<TableOptions> {
        Ok(TableOptions {
            format: lines.then_some(Format::Lines),
            delimiter: self.delimiter.as_deref().map(delimiter).transpose()?,
            quote: self.quote.as_deref().map(quote).transpose()?,
            escape: self.escape.as_deref().map(|c| ascii("--escape", c)).transpose()?,
            header: if self.no_header { Some(false) } else { self.header },
            skip_lines: self.skip_lines,
            encoding: self.encoding.as_deref().map(encoding).transpose()?,
        })
    }
}

fn delimiter(given: &str) -> Result<String> {
    let named = match given.to_lowercase().as_str() {
        "tab" | "\\t" => "\t",
        "comma" => ",",
        "semicolon" => ";",
        "bar" | "pipe" => "|",
        "space" => " ",
        "none" => return Ok(String::new()),
        _ => given,
    };
    if named.is_empty() {
        bail!(
            "--delimiter is empty; give a character, or tab, comma, semicolon, bar, space or none"
        );
    }
    if named.contains(['\n', '\r', '"']) || named == "\\n" || named == "\\r" {
        bail!("--delimiter {given:?}: a delimiter cannot contain line breaks or quotes");
    }
    Ok(named.to_owned())
}

fn quote(given: &str) -> Result<Option<u8>> {
    match given {
        "none" | "" => Ok(None),
        "double" => Ok(Some(b'"')),
        "single" => Ok(Some(b'\'')),
        _ => ascii("--quote", given).map(Some),
    }
}

fn ascii(option: &str, given: &str) -> Result<u8> {
    match given.as_bytes() {
        [byte] if byte.is_ascii_graphic() => Ok(*byte),
        // typed twice, as many shells ask for
        b"\\\\" => Ok(b'\\'),
        _ => bail!("{option} {given:?}: expected one ASCII character"),
    }
}

fn encoding(given: &str) -> Result<TextEncoding> {
    match TextEncoding::named(given) {
        Some(encoding) => Ok(encoding),
        None => {
            bail!("--encoding {given:?} is not known; expected one of {}", ENCODINGS.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_as_people_type_them() {
        for (given, expected) in [
            ("\\t", "\t"),
            ("tab", "\t"),
            ("\t", "\t"),
            ("TAB", "\t"),
            (";", ";"),
            ("semicolon", ";"),
            ("||", "||"),
            ("§", "§"),
            (" ", " "),
        ] {
            assert_eq!(delimiter(given).unwrap(), expected);
        }
        for wrong in ["", "\n", "\\n", "\""] {
            assert!(delimiter(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn quotes_and_encodings() {
        assert_eq!(quote("none").unwrap(), None);
        assert_eq!(quote("'").unwrap(), Some(b'\''));
        assert!(quote("ab").unwrap_err().to_string().contains("one ASCII character"));
        assert_eq!(ascii("--escape", "\\").unwrap(), b'\\');
        assert!(encoding("klingon").unwrap_err().to_string().contains("KOI8-R"));
    }
}
