//! Where a classifier comes from: how its texts were made from a table, which texts it has seen, and which rows
//! chose its threshold. It is a part of the bundle, so that a classifier is used and measured as it was trained.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    columns::{TextSource, plain_form},
    split::Part,
    table::{Format, Table, TableOptions, TextEncoding},
};

/// What is known of a classifier's origin. Bundles of earlier versions know nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Origin {
    /// How its texts were read.
    pub reading: Option<TextReading>,
    /// The texts that it was trained and validated on, as keyed hashes.
    pub seen: Option<SeenTexts>,
    /// Which rows chose the threshold.
    pub threshold: Option<ThresholdFrom>,
}

impl Origin {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with it, where it cannot be used.
    pub(crate) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        if let Some(reading) = &self.reading {
            let columns = reading.columns.len();
            let used = reading.text.columns();
            let pieces = used.len() + reading.text.fixed_texts().count();
            if columns.max(pieces) > MAX_COLUMNS || used.iter().any(|&c| c >= columns) {
                let expected = "a text made of the columns that it names";
                return Some(("origin.reading", format!("{columns} columns"), expected));
            }
            let names = reading.columns.iter().map(|c| c.name.as_str());
            let longest = names.chain(reading.text.fixed_texts()).map(str::len).max().unwrap_or(0);
            if longest > MAX_NAME {
                let expected = "names and fixed texts of at most 20000 bytes";
                return Some(("origin.reading", format!("{longest} bytes"), expected));
            }
        }
        let hashes = self.seen.as_ref()?;
        let hex = |text: &String| text.bytes().all(|b| b.is_ascii_hexdigit());
        let whole = |text: &String| hex(text) && text.len().is_multiple_of(2 * HASH);
        let sound = hex(&hashes.key)
            && hashes.key.len() == 64
            && whole(&hashes.train)
            && whole(&hashes.validation);
        (!sound).then(|| {
            let found = format!("{} and {} characters", hashes.train.len(), hashes.key.len());
            ("origin.seen", found, "a key of 64 hex digits and hashes of 16 each")
        })
    }
}

const MAX_COLUMNS: usize = 4096;
const MAX_NAME: usize = 20_000;

/// Which rows chose the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum ThresholdFrom {
    /// None: it is one half.
    Default,
    /// So many validation rows.
    Validation(usize),
    /// So many of the rows that the figures are of.
    Test(usize),
    /// So many rows of another table.
    Other(usize),
}

impl ThresholdFrom {
    /// In words.
    pub fn words(self) -> String {
        match self {
            Self::Default => "left at its default: no rows chose it".to_owned(),
            Self::Validation(rows) => format!("chosen on {rows} validation rows"),
            Self::Other(rows) => format!("chosen on {rows} rows of another table"),
            Self::Test(rows) => format!(
                "chosen on the {rows} test rows of these figures, so they look slightly better than they will on other rows"
            ),
        }
    }
}

/// A column that a text is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct UsedColumn {
    /// Its name.
    pub name: String,
    /// Its index in the table, which counts where the table had no header.
    pub index: usize,
}

/// How the texts of a table were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct TextReading {
    /// A column or a template; its columns are indices into [`Self::columns`].
    pub text: TextSource,
    /// The columns it uses.
    pub columns: Vec<UsedColumn>,
    /// What the file consisted of.
    pub format: Format,
    /// The delimiter; none for one column.
    pub delimiter: Option<String>,
    /// The encoding.
    pub encoding: TextEncoding,
    /// Whether the first line was a header.
    pub header: bool,
}

impl TextReading {
    /// Of a table.
    pub fn of(table: &Table, text: &TextSource) -> Self {
        let mut used = text.columns();
        used.sort_unstable();
        used.dedup();
        let place = |c: usize| used.iter().position(|&u| u == c).unwrap_or(0);
        let name = |c: usize| table.columns.get(c).cloned().unwrap_or_default();
        let dialect = &table.dialect;
        Self {
            text: text.with_columns(place),
            columns: used.iter().map(|&c| UsedColumn { name: name(c), index: c }).collect(),
            format: dialect.format,
            delimiter: dialect.delimiter.clone(),
            encoding: dialect.encoding.encoding,
            header: dialect.header || dialect.format != Format::Delimited,
        }
    }

    /// Where the text is in another table: its columns by name, or by index where there was no header.
    ///
    /// # Errors
    /// The names of the columns that are missing.
    pub fn find(&self, table: &Table) -> Result<TextSource, Vec<String>> {
        let places: Vec<Option<usize>> =
            self.columns.iter().map(|c| self.place(c, table)).collect();
        let missing: Vec<String> = self
            .columns
            .iter()
            .zip(&places)
            .filter(|(_, place)| place.is_none())
            .map(|(column, _)| column.name.clone())
            .collect();
        if missing.is_empty() {
            Ok(self.text.with_columns(|c| places.get(c).copied().flatten().unwrap_or(0)))
        } else {
            Err(missing)
        }
    }

    fn place(&self, column: &UsedColumn, table: &Table) -> Option<usize> {
        if !self.header {
            return (column.index < table.columns.len()).then_some(column.index);
        }
        let named = |same: &dyn Fn(&str) -> bool| {
            let mut found = (0..table.columns.len()).filter(|&c| same(&table.columns[c]));
            found.next().filter(|_| found.next().is_none())
        };
        let exact = named(&|name| name == column.name);
        exact.or_else(|| named(&|name| plain_form(name) == plain_form(&column.name)))
    }

    /// How to read another file, in the order to try: as the training table was, then by the file's own look. An
    /// encoding is never forced here: most files tell theirs. See [`Self::encoding_for`].
    pub fn attempts(&self) -> [TableOptions; 2] {
        let delimited = self.format == Format::Delimited;
        if self.format == Format::Lines {
            return [TableOptions::default(), TableOptions::default()];
        }
        let own = TableOptions {
            format: Some(self.format),
            delimiter: delimited.then(|| self.delimiter.clone().unwrap_or_default()),
            header: delimited.then_some(self.header),
            ..TableOptions::default()
        };
        [own, TableOptions::default()]
    }

    /// The training table's encoding, where a table's own had to be guessed and differs.
    pub fn encoding_for(&self, table: &Table) -> Option<TextEncoding> {
        let found = table.dialect.encoding;
        (found.known.is_guess() && found.encoding != self.encoding).then_some(self.encoding)
    }

    /// The text's columns, for people: `answer`, or `title and body`.
    pub fn words(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|c| format!("{:?}", c.name)).collect();
        names.join(" and ")
    }
}

/// Bytes of a text's hash: among 50,000 texts two have the same by chance once in 15 billion tables.
const HASH: usize = 8;

/// The texts of training and validation as keyed hashes. No text can be read from them; whoever has this file and
/// already knows a text can tell whether it is among them, and that is what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenTexts {
    /// The key, in hex. It depends on all texts, so that equal texts of two classifiers do not show.
    key: String,
    /// Hashes of the training texts in order of size, in hex, one after the other.
    train: String,
    /// Hashes of the validation texts.
    validation: String,
}

impl SeenTexts {
    /// Of a training.
    pub fn of<'a>(
        train: impl Iterator<Item = &'a str> + Clone,
        validation: impl Iterator<Item = &'a str> + Clone,
    ) -> Self {
        let mut key = Sha256::new_with_prefix("hearth seen texts 1");
        for text in train.clone().chain(validation.clone()) {
            key.update(Sha256::digest(text));
        }
        let key = key.finalize();
        let hashes = |texts: &mut dyn Iterator<Item = &'a str>| {
            let mut all: Vec<[u8; HASH]> = texts.map(|text| hash(&key, text)).collect();
            all.sort_unstable();
            all.dedup();
            hex::encode(all.concat())
        };
        let (train, validation) = (hashes(&mut { train }), hashes(&mut { validation }));
        Self { key: hex::encode(key), train, validation }
    }

    /// How many different texts were for training, and how many for validation.
    pub fn counts(&self) -> (usize, usize) {
        (self.train.len() / (2 * HASH), self.validation.len() / (2 * HASH))
    }

    /// Ready to be asked.
    pub fn lookup(&self) -> SeenLookup {
        let mut parts = HashMap::new();
        for (text, part) in [(&self.validation, Part::Validation), (&self.train, Part::Train)] {
            let bytes = hex::decode(text).unwrap_or_default();
            parts.extend(bytes.as_chunks::<HASH>().0.iter().map(|&hash| (hash, part)));
        }
        SeenLookup { key: hex::decode(&self.key).unwrap_or_default(), parts }
    }
}

/// Letter case, spacing and normal form do not make another text.
fn hash(key: &[u8], text: &str) -> [u8; HASH] {
    let mut hash = Sha256::new_with_prefix(key);
    hash.update(plain_form(text));
    // outer hash, as in HMAC: the inner one alone could be extended
    let digest = Sha256::new_with_prefix(key).chain_update(hash.finalize()).finalize();
    let mut first = [0; HASH];
    first.copy_from_slice(&digest[..HASH]);
    first
}

/// [`SeenTexts`], ready to be asked.
pub struct SeenLookup {
    key: Vec<u8>,
    parts: HashMap<[u8; HASH], Part>,
}

impl SeenLookup {
    /// The part that a text played in the training, if any.
    pub fn part(&self, text: &str) -> Option<Part> {
        self.parts.get(&hash(&self.key, text)).copied()
    }

    /// Divides rows, by their texts, into those that were not seen and the number of those that were.
    pub fn unseen<'t, T>(
        &self,
        rows: impl IntoIterator<Item = T>,
        text: impl Fn(&T) -> &'t str,
    ) -> (Vec<T>, usize) {
        let (mut fresh, mut left_out) = (Vec::new(), 0);
        for row in rows {
            if self.part(text(&row)).is_some() {
                left_out += 1;
            } else {
                fresh.push(row);
            }
        }
        (fresh, left_out)
    }
}

#[cfg(test)]
#[path = "origin/tests.rs"]
mod tests;
