//! Cuts delimited text into records and fields, strictly: a quote gone wrong is an error with a line
//! number instead of a thousand rows swallowed into one field.
//!
//! The csv crate's parser knows no escapes outside quotes, no blanks before them, no delimiters of
//! several characters and no line numbers, so it is what this one is tested against.

use super::TableError;

/// A record longer than this is a quote that was never closed.
pub(super) const MAX_RECORD: usize = 16 << 20;

/// How a text is cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// Between fields; empty for one field a line.
    pub delimiter: String,
    pub quote: Option<u8>,
    /// Takes the character behind it as it is.
    pub escape: Option<u8>,
    /// Blanks before an opening quote and behind a closing one are passed over.
    pub blanks: bool,
    /// Lines end at a carriage return too; otherwise only at a line feed, with returns before it.
    pub returns: bool,
    /// An empty line is a record.
    pub keep_empty: bool,
}

/// A record.
pub(super) struct Record {
    /// Its first and its last line, from 1.
    pub lines: (u64, u64),
    pub fields: Vec<String>,
    /// As it stands in the file, where it has several lines.
    pub raw: Option<String>,
    /// A carriage return stands in an unquoted field.
    pub lone_return: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside a quoted field: the field's end, or half of a doubled quote.
    QuoteInQuoted,
}

/// Takes a record.
type Each<'e> = &'e mut dyn FnMut(Record) -> Result<(), TableError>;

/// Cuts a stream of text into records.
pub(super) struct Records {
    rules: Rules,
    at: At,
    /// Text that waits for more: what may be half a delimiter or half a line end.
    held: String,
    field: Vec<u8>,
    fields: Vec<String>,
    raw: Vec<u8>,
    /// Line of the character being read, of the record's start and of the last opening quote.
    line: u64,
    start: u64,
    opened: u64,
    /// Was the field in hand quoted? Its line ends are text.
    quoted: bool,
    lone_return: bool,
    after_return: bool,
    escaped: bool,
}

impl Records {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            at: At::FieldStart,
            held: String::new(),
            field: Vec::new(),
            fields: Vec::new(),
            raw: Vec::new(),
            line: 1,
            start: 1,
            opened: 1,
            quoted: false,
            lone_return: false,
            after_return: false,
            escaped: false,
        }
    }

    /// The first line is not the file's first.
    pub fn start_at(&mut self, line: u64) {
        (self.line, self.start) = (line, line);
    }

    /// Gives each record that the text completes; blank lines are passed over.
    pub fn push(&mut self, text: &str, each: Each<'_>) -> Result<(), TableError> {
        self.held.push_str(text);
        // a delimiter of several characters, or "\r\n", may be cut
        let keep = self.rules.delimiter.len().max(2) - 1;
        let end = self.held.floor_char_boundary(self.held.len().saturating_sub(keep));
        self.cut(end, each)
    }

    /// The end of the file.
    pub fn finish(&mut self, each: Each<'_>) -> Result<(), TableError> {
        self.cut(self.held.len(), each)?;
        if self.at == At::Quoted {
            let quote = char::from(self.rules.quote.unwrap_or(b'"'));
            return Err(TableError::QuoteOpen { line: self.opened, quote });
        }
        // what follows the last line end is no record unless something is there
        if self.raw.is_empty() && self.fields.is_empty() && self.field.is_empty() {
            return Ok(());
        }
        self.end_record(each)
    }

    fn cut(&mut self, end: usize, each: Each<'_>) -> Result<(), TableError> {
        let held = std::mem::take(&mut self.held);
        let bytes = held.as_bytes();
        let delimiter = std::mem::take(&mut self.rules.delimiter);
        let mut at = 0;
        let mut done = Ok(());
        while at < end && done.is_ok() {
            let open = self.at != At::Quoted && !self.escaped;
            if open && !delimiter.is_empty() && bytes[at..].starts_with(delimiter.as_bytes()) {
                self.raw.extend_from_slice(delimiter.as_bytes());
                self.after_return = false;
                self.end_field();
                at += delimiter.len();
                continue;
            }
            done = self.take(&bytes[at..], each);
            at += 1;
        }
        self.rules.delimiter = delimiter;
        self.held = held.get(at..).unwrap_or_default().to_owned();
        done
    }

    fn take(&mut self, rest: &[u8], each: Each<'_>) -> Result<(), TableError> {
        let byte = rest[0];
        if std::mem::take(&mut self.after_return) && byte == b'\n' {
            return Ok(());
        }
        let line_end = byte == b'\n' || (byte == b'\r' && self.rules.returns);
        if line_end && self.at != At::Quoted && !self.escaped {
            self.after_return = byte == b'\r';
            self.line += 1;
            let ended = self.end_record(each);
            self.start = self.line;
            return ended;
        }
        if self.raw.len() >= MAX_RECORD {
            return Err(TableError::RowTooLong { line: self.start, limit: MAX_RECORD });
        }
        self.raw.push(byte);
        let result = self.step(rest);
        // "\r\n" is one line end: in a file with line feeds returns are not counted
        self.line += u64::from(byte == b'\n' || (byte == b'\r' && self.rules.returns));
        if byte == b'\r' && self.rules.returns {
            self.after_return_in_quotes(rest);
        }
        result
    }

    /// Inside quotes "\r\n" is one line of an editor.
    fn after_return_in_quotes(&mut self, rest: &[u8]) {
        if rest.get(1) == Some(&b'\n') {
            self.line -= 1;
        }
    }

    /// The state after `byte`, which ends neither a field nor a record.
    fn step(&mut self, rest: &[u8]) -> Result<(), TableError> {
        let byte = rest[0];
        if std::mem::take(&mut self.escaped) {
            self.field.push(byte);
            self.at = if self.at == At::Quoted { At::Quoted } else { At::Plain };
            return Ok(());
        }
        let is_quote = Some(byte) == self.rules.quote;
        let is_escape = Some(byte) == self.rules.escape;
        let blank = self.rules.blanks && (byte == b' ' || byte == b'\t');
        match self.at {
            At::FieldStart if is_quote => {
                self.field.clear();
                (self.opened, self.quoted, self.at) = (self.line, true, At::Quoted);
            }
            At::FieldStart if blank => self.field.push(byte),
            At::Quoted if is_quote => self.at = At::QuoteInQuoted,
            At::QuoteInQuoted if is_quote => {
                self.field.push(byte);
                self.at = At::Quoted;
            }
            At::QuoteInQuoted if blank || byte == b'\r' && ends_line(rest) => {}
            At::QuoteInQuoted => {
                let next = String::from_utf8_lossy(&rest[..rest.len().min(4)]);
                let found = next.chars().next().unwrap_or('\u{FFFD}');
                let (line, opened) = (self.line, self.opened);
                return Err(TableError::QuoteClosed { line, opened, found });
            }
            _ if is_escape => {
                self.escaped = true;
                if self.at == At::FieldStart {
                    self.at = At::Plain;
                }
            }
            At::Quoted => self.field.push(byte),
            At::FieldStart | At::Plain => {
                self.field.push(byte);
                self.at = At::Plain;
            }
        }
        Ok(())
    }

    fn end_field(&mut self) {
        let field = std::mem::take(&mut self.field);
        self.lone_return |= !self.quoted && field.contains(&b'\r');
        // pieces of a text cut at its delimiters, quotes and line ends, which are characters
        self.fields.push(String::from_utf8(field).unwrap_or_default());
        self.quoted = false;
        self.at = At::FieldStart;
    }

    fn end_record(&mut self, each: Each<'_>) -> Result<(), TableError> {
        if !self.quoted {
            while self.field.last() == Some(&b'\r') {
                self.field.pop();
            }
        }
        let empty = self.fields.is_empty() && self.field.is_empty() && !self.quoted;
        let raw = std::mem::take(&mut self.raw);
        if empty && !self.rules.keep_empty {
            self.at = At::FieldStart;
            return Ok(());
        }
        self.end_field();
        let last = self.start + raw.iter().filter(|&&b| b == b'\n').count() as u64;
        each(Record {
            lines: (self.start, last),
            fields: std::mem::take(&mut self.fields),
            raw: (last > self.start).then(|| String::from_utf8_lossy(&raw).into_owned()),
            lone_return: std::mem::take(&mut self.lone_return),
        })
    }
}

/// Returns up to a line feed or the end of the text.
fn ends_line(rest: &[u8]) -> bool {
    rest.iter().find(|&&b| b != b'\r').is_none_or(|&b| b == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rows = Vec<(u64, Vec<String>)>;

    fn cut(text: &str, rules: &Rules) -> Result<Rows, TableError> {
        let run = |size: usize| {
            let (mut records, mut out) = (Records::new(rules.clone()), Vec::new());
            let mut each = |record: Record| {
                out.push((record.lines.0, record.fields));
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
            assert_eq!(run(size), whole, "pieces of {size}");
        }
        whole
    }

    fn comma() -> Rules {
        Rules { delimiter: ",".into(), quote: Some(b'"'), ..Rules::default() }
    }

    fn check(text: &str) -> Result<Rows, TableError> {
        cut(text, &comma())
    }

    fn fields(text: &str, rules: &Rules) -> Vec<Vec<String>> {
        cut(text, rules).unwrap().into_iter().map(|(_, fields)| fields).collect()
    }

    #[test]
    fn equals_the_csv_crate() {
        for (text, returns) in [
            ("a,b\n1,2\n", false),
            ("a,b\r\n1,2\r\n\r\n3,4", false),
            ("a,b\r1,2\r", true),
            ("\"x, y\",\"he said \"\"no\"\"\"\n\"two\nlines\",\"\"\n,\n", false),
            ("mid\"quote,b\n\"\"\"\",é漢\n", false),
            ("\"a\r\nb\",c", false),
        ] {
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .from_reader(text.as_bytes());
            let expected: Vec<Vec<String>> =
                reader.records().map(|r| r.unwrap().iter().map(String::from).collect()).collect();
            assert_eq!(fields(text, &Rules { returns, ..comma() }), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_are_counted_as_editors_do() {
        let rows = check("a,b\n\n\"1\n2\n3\",x\r\ny,z").unwrap();
        assert_eq!(rows.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 3, 6]);
        let rows = check("a,b\r\r\nc,d\r\r\ne,f").unwrap();
        assert_eq!(rows.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(rows[1].1, ["c", "d"]);
        let old_mac = cut("a,b\r\"1\r2\",c\rd,e", &Rules { returns: true, ..comma() }).unwrap();
        assert_eq!(old_mac.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 2, 4]);
    }

    #[test]
    fn a_carriage_return_in_a_field_is_text() {
        assert_eq!(fields("a\rb,c\r\nd,\"e\r\"\r\n", &comma()), [["a\rb", "c"], ["d", "e\r"]]);
    }

    #[test]
    fn quotes_gone_wrong() {
        let open = TableError::QuoteOpen { line: 3, quote: '"' };
        assert_eq!(check("a\nb\n\"c\nd\n").unwrap_err(), open);
        let closed = TableError::QuoteClosed { line: 3, opened: 2, found: 'd' };
        assert_eq!(check("a\n\"b\nc\"d\n").unwrap_err(), closed);
        assert!(matches!(check("\"a\"é").unwrap_err(), TableError::QuoteClosed { found: 'é', .. }));
    }

    #[test]
    fn dialects() {
        let escape = Rules { escape: Some(b'\\'), ..comma() };
        assert_eq!(
            fields("\"a\\\"b\",c\\,d\nx\\\ny,\\\\", &escape),
            [["a\"b", "c,d"], ["x\ny", "\\"]]
        );
        let blanks = Rules { blanks: true, ..comma() };
        assert_eq!(
            fields("a, \"b, c\" ,  d\n \"e\", f,g", &blanks),
            [["a", "b, c", "  d"], ["e", " f", "g"]]
        );
        let bars = Rules { delimiter: "||".into(), ..comma() };
        assert_eq!(fields("a|b||c\n\"d||e\"||f", &bars), [["a|b", "c"], ["d||e", "f"]]);
        let lines = Rules { keep_empty: true, ..Rules::default() };
        assert_eq!(fields("a,\"b\r\n\r\n\nc", &lines), [["a,\"b"], [""], [""], ["c"]]);
        let plain = Rules { quote: None, ..comma() };
        assert_eq!(fields("\"a,b\"", &plain), [["\"a", "b\""]]);
    }

    #[test]
    fn a_record_has_a_limit() {
        let mut records = Records::new(comma());
        let piece = "x".repeat(1 << 20);
        let result = (0..17).try_for_each(|_| records.push(&piece, &mut |_| Ok(())));
        assert_eq!(result.unwrap_err(), TableError::RowTooLong { line: 1, limit: MAX_RECORD });
    }
}
