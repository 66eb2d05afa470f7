//! One way to read a text, and how plausible it is.

use std::collections::{HashMap, HashSet};

use super::header::is_known_name;
use super::records::{Record, Records, Rules};
use super::{FEW_VALUES, TableError};

/// Lines within which a text in single quotes is taken to end.
const TORN_LINES: usize = 5;

/// Columns of few values, with those values: what tells rows from lines of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KnownValues {
    /// Fields of a row.
    pub width: usize,
    columns: Vec<(usize, HashSet<String>)>,
    /// Columns of numbers.
    numeric: Vec<usize>,
}

impl KnownValues {
    fn of(rows: &[Vec<String>], width: usize) -> Self {
        let rows: Vec<&Vec<String>> = rows.iter().filter(|r| r.len() == width).collect();
        let values = |column: usize| -> HashMap<&str, usize> {
            let mut counts = HashMap::new();
            rows.iter().for_each(|row| *counts.entry(row[column].trim()).or_default() += 1);
            counts
        };
        // a value that occurs once may itself come from a row gone wrong
        let columns = (0..width).filter_map(|column| {
            let all = values(column);
            let usual: HashSet<String> =
                all.iter().filter(|(_, n)| **n > 1).map(|(v, _)| (*v).to_owned()).collect();
            let few = !usual.is_empty() && all.len() <= FEW_VALUES && all.len() * 3 <= rows.len();
            few.then_some((column, usual))
        });
        let number = |row: &&Vec<String>, c: usize| row[c].trim().parse::<f64>().is_ok();
        let numeric = |c: &usize| {
            // the first row may be a header
            rows.len() > 2 && rows.iter().skip(1).all(|row| number(row, *c))
        };
        Self { width, columns: columns.collect(), numeric: (0..width).filter(numeric).collect() }
    }

    /// Whether a line has the fields of a row, with values that rows have.
    fn is_row(&self, fields: &[String]) -> bool {
        let fits = |(column, values): &(usize, HashSet<String>)| {
            values.contains(fields[*column].trim().trim_matches('"'))
        };
        let number = |c: &usize| fields[*c].trim().parse::<f64>().is_ok();
        fields.len() == self.width
            && self.columns.iter().all(fits)
            && self.numeric.iter().all(number)
    }

    /// How many lines of a record look like rows of their own: all between its first and its last, where the
    /// quotes stand, or both of two. None where any does not.
    pub fn rows_in(&self, raw: &str, rules: &Rules) -> Option<usize> {
        if self.width < 2 {
            return None;
        }
        let rules = Rules { quote: None, ..rules.clone() };
        let lines: Vec<&str> = raw.split('\n').map(|l| l.trim_end_matches('\r')).collect();
        let inner = match lines.len() {
            0 | 1 => return None,
            2 => &lines[..],
            n => &lines[1..n - 1],
        };
        // where the number of fields is all that tells a row, one line proves nothing
        let unknown = self.columns.is_empty() && self.numeric.is_empty();
        if unknown && lines.len() < 5 {
            return None;
        }
        let is_row = |line: &&str| {
            let (mut records, mut row) = (Records::new(rules.clone()), false);
            let mut each = |record: Record| {
                row = self.is_row(&record.fields);
                Ok(())
            };
            let read = records.push(line, &mut each).and_then(|()| records.finish(&mut each));
            read.is_ok() && row
        };
        inner.iter().all(is_row).then_some(lines.len())
    }
}

/// A text read by some rules.
pub(super) struct Reading {
    pub rules: Rules,
    pub rows: Vec<Vec<String>>,
    pub lines: Vec<u64>,
    pub error: Option<TableError>,
    /// Most rows have so many fields.
    pub width: usize,
    /// Share of the rows that have.
    pub fit: f64,
    /// Quoted fields that hold rows.
    pub swallowed: usize,
    /// Share of the rows with a field that still has its quotes.
    pub left_quotes: f64,
    pub known: KnownValues,
}

impl Reading {
    /// Reads a sample; `complete` says that it is the whole file.
    pub fn of(text: &str, complete: bool, rules: Rules) -> Self {
        let mut records = Records::new(rules.clone());
        let (mut rows, mut lines, mut raws) = (Vec::new(), Vec::new(), Vec::new());
        let mut each = |record: Record| {
            lines.push(record.lines.0);
            rows.push(record.fields);
            raws.extend(record.raw);
            Ok(())
        };
        let mut read = records.push(text, &mut each);
        if complete && read.is_ok() {
            read = records.finish(&mut each);
        }
        let (width, count) = usual_width(&rows);
        let known = KnownValues::of(&rows, width);
        let swallowed = raws.iter().filter(|raw| known.rows_in(raw, &rules).is_some()).count();
        let quotes = |row: &&Vec<String>| row.iter().any(|cell| has_quotes(cell));
        let share = |n: usize| n as f64 / rows.len().max(1) as f64;
        Self {
            fit: share(count),
            left_quotes: share(rows.iter().filter(quotes).count()),
            error: read.err(),
            width,
            swallowed,
            known,
            rules,
            rows,
            lines,
        }
    }

    /// No fault shows.
    pub fn is_good(&self) -> bool {
        self.error.is_none() && self.swallowed == 0 && self.fit >= 0.95
    }

    /// Usual names of columns in the first row.
    pub fn known_names(&self) -> usize {
        self.rows.first().map_or(0, |row| row.iter().filter(|n| is_known_name(n)).count())
    }

    /// Columns that look like a label: few values, each several times.
    pub fn label_like(&self) -> usize {
        self.known.columns.iter().filter(|(_, values)| values.len() > 1).count()
    }

    /// Different values of the column with the fewest, among those.
    pub fn fewest_values(&self) -> usize {
        let several = |n: &usize| *n > 1;
        self.known.columns.iter().map(|(_, v)| v.len()).filter(several).min().unwrap_or(usize::MAX)
    }

    /// The first line with a cell in single quotes that are no quotes here, or with the beginning of one that ends a
    /// few lines below.
    pub fn single_quotes(&self) -> Option<u64> {
        let begins = |cell: &String| cell.trim_start().starts_with('\'') && cell.trim().len() > 1;
        let ends = |cell: &String| cell.trim_end().ends_with('\'');
        let quoted = |row: &[String]| row.iter().any(|cell| begins(cell) && ends(cell));
        let torn = |at: usize| {
            let open = self.rows[at].iter().any(|cell| begins(cell) && !ends(cell));
            let below = self.rows[at + 1..].iter().take(TORN_LINES);
            open && below.filter_map(|row| row.first()).any(|cell| ends(cell) && !begins(cell))
        };
        let row = (0..self.rows.len()).find(|&at| quoted(&self.rows[at]) || torn(at));
        row.filter(|_| self.rules.quote != Some(b'\'')).map(|row| self.lines[row])
    }

    /// How well the text falls into columns: over one half for a table.
    pub fn score(&self) -> f64 {
        match (&self.error, self.width) {
            // where quotes gone wrong spoil the guess the header decides, so that the error names the row
            (Some(_), _) => {
                let names = self.known_names() > 0 && self.rows[0].len() > 1;
                if names { 0.51 } else { 0.0 }
            }
            (None, 0 | 1) => 0.0,
            (None, _) => self.fit,
        }
    }

    /// Rows that are data under the usual guess of a header, for messages.
    pub fn says(&self) -> String {
        match &self.error {
            Some(error) => format!("fails ({error})"),
            None => format!("gives {} lines of {} fields", self.rows.len(), self.width),
        }
    }
}

/// The width of most rows, and how many have it.
fn usual_width(rows: &[Vec<String>]) -> (usize, usize) {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    rows.iter().for_each(|row| *counts.entry(row.len()).or_default() += 1);
    let first = rows.first().map_or(0, Vec::len);
    // a tie goes to the first row's
    let most = counts.into_iter().max_by_key(|(width, n)| (*n, *width == first, *width));
    most.unwrap_or((0, 0))
}

/// A quote still stands around a cell, or before it behind a blank.
fn has_quotes(cell: &str) -> bool {
    let trimmed = cell.trim_matches([' ', '\t']);
    let around =
        |quote: char| trimmed.len() > 1 && trimmed.starts_with(quote) && trimmed.ends_with(quote);
    around('"') || around('\'') || (trimmed.len() < cell.len() && trimmed.starts_with('"'))
}
