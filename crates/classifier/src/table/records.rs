//! Finds where the records of a delimited file end, strictly: a quote gone wrong is an error with a
//! line number instead of a thousand rows swallowed into one field.

use super::TableError;

/// A record longer than this is a quote that was never closed.
pub(super) const MAX_RECORD: usize = 16 << 20;

#[derive(Clone, Copy, PartialEq)]
enum At {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside a quoted field: the field's end, or half of a doubled quote.
    QuoteInQuoted,
}

/// Takes a record: its first line, and its bytes without the line end.
type Each<'e> = &'e mut dyn FnMut(u64, &[u8]) -> Result<(), TableError>;

/// Cuts a stream of text into records.
pub(super) struct Records {
    delimiter: Option<u8>,
    quote: Option<u8>,
    at: At,
    record: Vec<u8>,
    /// Line of the character being read, of the record's start and of the last opening quote.
    line: u64,
    start: u64,
    opened: u64,
    after_return: bool,
}

impl Records {
    pub fn new(delimiter: Option<u8>, quote: Option<u8>) -> Self {
        Self {
            delimiter,
            quote,
            at: At::FieldStart,
            record: Vec::new(),
            line: 1,
            start: 1,
            opened: 1,
            after_return: false,
        }
    }

    /// Gives each record that the text completes; blank lines are passed over.
    pub fn push(&mut self, text: &str, each: Each<'_>) -> Result<(), TableError> {
        for &byte in text.as_bytes() {
            if std::mem::take(&mut self.after_return) && byte == b'\n' {
                continue;
            }
            let line_end = byte == b'\n' || byte == b'\r';
            if self.at != At::Quoted && line_end {
                self.after_return = byte == b'\r';
                self.end_record(each)?;
                self.line += 1;
                self.start = self.line;
                continue;
            }
            self.at = self.step(byte, text)?;
            self.line += u64::from(byte == b'\n');
            self.record.push(byte);
            if self.record.len() > MAX_RECORD {
                return Err(TableError::RowTooLong { line: self.start, limit: MAX_RECORD });
            }
        }
        Ok(())
    }

    /// The state after `byte`, which is not a line end outside quotes.
    fn step(&mut self, byte: u8, text: &str) -> Result<At, TableError> {
        let (is_quote, is_delimiter) = (Some(byte) == self.quote, Some(byte) == self.delimiter);
        Ok(match self.at {
            At::FieldStart if is_quote => {
                self.opened = self.line;
                At::Quoted
            }
            At::Quoted if is_quote => At::QuoteInQuoted,
            At::Quoted => At::Quoted,
            At::QuoteInQuoted if is_quote => At::Quoted,
            _ if is_delimiter => At::FieldStart,
            At::QuoteInQuoted => {
                let found = if byte.is_ascii() { char::from(byte) } else { first_foreign(text) };
                return Err(TableError::QuoteClosed {
                    line: self.line,
                    opened: self.opened,
                    found,
                });
            }
            At::FieldStart | At::Plain => At::Plain,
        })
    }

    /// The end of the file.
    pub fn finish(&mut self, each: Each<'_>) -> Result<(), TableError> {
        if self.at == At::Quoted {
            let quote = char::from(self.quote.unwrap_or(b'"'));
            return Err(TableError::QuoteOpen { line: self.opened, quote });
        }
        self.end_record(each)
    }

    fn end_record(&mut self, each: Each<'_>) -> Result<(), TableError> {
        self.at = At::FieldStart;
        let blank = self.record.is_empty();
        let result = if blank { Ok(()) } else { each(self.start, &self.record) };
        self.record.clear();
        result
    }
}

/// Some character beyond ASCII for the message: the exact one is not worth keeping track of.
fn first_foreign(text: &str) -> char {
    text.chars().find(|c| !c.is_ascii()).unwrap_or('\u{FFFD}')
}

/// Splits records into fields with the `csv` crate's parser.
pub(super) struct FieldParser {
    parser: csv_core::Reader,
    text: Vec<u8>,
}

impl FieldParser {
    pub fn new(delimiter: Option<u8>, quote: Option<u8>) -> Self {
        let mut builder = csv_core::ReaderBuilder::new();
        builder.delimiter(delimiter.unwrap_or(UNUSED));
        match quote {
            Some(quote) => builder.quote(quote),
            None => builder.quoting(false),
        };
        Self { parser: builder.build(), text: Vec::new() }
    }

    /// The fields of one record, given without its line end.
    pub fn fields(&mut self, record: &[u8]) -> Vec<String> {
        self.parser.reset();
        self.text.resize(record.len() + 1, 0);
        let (mut fields, mut input) = (Vec::new(), record);
        let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        loop {
            let (result, read, written) = self.parser.read_field(input, &mut self.text);
            match result {
                csv_core::ReadFieldResult::End => return fields,
                csv_core::ReadFieldResult::Field { .. } => {
                    fields.push(string(&self.text[..written]));
                    input = &input[read..];
                }
                // `text` holds a whole record, so `OutputFull` cannot come; an empty input means the end
                csv_core::ReadFieldResult::InputEmpty | csv_core::ReadFieldResult::OutputFull => {
                    let (_, _, rest) = self.parser.read_field(&[], &mut self.text[written..]);
                    fields.push(string(&self.text[..written + rest]));
                    return fields;
                }
            }
        }
    }
}

/// A control character that stands for "no delimiter" in the field parser.
const UNUSED: u8 = 0x1F;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Vec<(u64, Vec<String>)>, TableError> {
        let run = |size: usize| {
            let (mut records, mut out) = (Records::new(Some(b','), Some(b'"')), Vec::new());
            let mut parser = FieldParser::new(Some(b','), Some(b'"'));
            let mut each = |line: u64, record: &[u8]| {
                out.push((line, parser.fields(record)));
                Ok(())
            };
            let mut rest = text;
            while !rest.is_empty() {
                let cut = (size.min(rest.len())..=rest.len())
                    .find(|&i| rest.is_char_boundary(i))
                    .unwrap();
                records.push(&rest[..cut], &mut each)?;
                rest = &rest[cut..];
            }
            records.finish(&mut each)?;
            Ok(out)
        };
        let whole = run(text.len().max(1));
        for size in [1, 2, 5] {
            assert_eq!(run(size), whole);
        }
        whole
    }

    #[test]
    fn equals_the_csv_crate() {
        for text in [
            "a,b\n1,2\n",
            "a,b\r\n1,2\r\n\r\n3,4",
            "a,b\r1,2\r",
            "\"x, y\",\"he said \"\"no\"\"\"\n\"two\nlines\",\"\"\n,\n",
            "mid\"quote,b\n\"\"\"\",é漢\n",
            "\"a\r\nb\",c",
        ] {
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .from_reader(text.as_bytes());
            let expected: Vec<Vec<String>> =
                reader.records().map(|r| r.unwrap().iter().map(String::from).collect()).collect();
            let found: Vec<Vec<String>> =
                check(text).unwrap().into_iter().map(|(_, f)| f).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn lines_are_counted_through_quoted_newlines() {
        let rows = check("a,b\n\n\"1\n2\n3\",x\r\ny,z").unwrap();
        assert_eq!(rows.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 3, 6]);
    }

    #[test]
    fn quotes_gone_wrong() {
        assert_eq!(
            check("a\nb\n\"c\nd\n").unwrap_err(),
            TableError::QuoteOpen { line: 3, quote: '"' }
        );
        assert_eq!(
            check("a\n\"b\nc\"d\n").unwrap_err(),
            TableError::QuoteClosed { line: 3, opened: 2, found: 'd' }
        );
        assert!(matches!(check("\"a\"é").unwrap_err(), TableError::QuoteClosed { found: 'é', .. }));
    }

    #[test]
    fn a_record_has_a_limit() {
        let mut records = Records::new(Some(b','), Some(b'"'));
        let piece = "x".repeat(1 << 20);
        let result = (0..17).try_for_each(|_| records.push(&piece, &mut |_, _| Ok(())));
        assert_eq!(result.unwrap_err(), TableError::RowTooLong { line: 1, limit: MAX_RECORD });
    }
}
