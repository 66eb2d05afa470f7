//! How a table was read, in words for people.

use super::detect::{Dialect, Format, delimiter_name};

impl Dialect {
    /// The delimiter in words.
    pub fn delimiter_name(&self) -> String {
        delimiter_name(self.delimiter.as_deref())
    }

    /// Each part of the reading: its name, what was found, and how sure that is.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("format", self.format.name().to_owned())];
        let (name, known) = (self.encoding.encoding.name(), self.encoding.known.words());
        all.push(("encoding", format!("{name} ({known})")));
        if self.format == Format::Delimited {
            all.push(("delimiter", format!("{} ({})", self.delimiter_name(), self.why.delimiter)));
            let quote = self.quote.map_or("none".to_owned(), String::from);
            let escape = self.escape.map_or(String::new(), |c| format!(", escaped by {c}"));
            all.push(("quotes", format!("{quote}{escape} ({})", self.why.quote)));
        }
        if self.format == Format::Delimited || !self.why.header.is_empty() {
            let line = self.skipped + 1;
            let header = if self.header { format!("line {line}") } else { "none".to_owned() };
            all.push(("header", format!("{header} ({})", self.why.header)));
        }
        if self.skipped > 0 {
            let lines = if self.skipped == 1 { "line" } else { "lines" };
            all.push(("skipped", format!("{} {lines} before the table", self.skipped)));
        }
        all
    }
}
