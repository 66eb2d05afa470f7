//! From a table to labelled examples: which column is what, what is wrong with the rows.

mod error;
mod guess;
mod known;
mod labels;
mod repeats;
mod structured;
mod summary;
mod template;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use error::ColumnsError;
use error::bad_rows;
pub use guess::{Guessed, Roles, guess_roles, guess_roles_told};
use labels::is_word;
pub use labels::{LabelChoices, LabelFindings, labels_in_list, number, plain_form, unite_counts};
pub use repeats::{Contradiction, Repeats};
pub use structured::check_texts;
pub use summary::{
    ClassCount, Duplicate, TokenHistogram, class_counts, duplicates, part_warnings, warnings,
};
pub use template::{Piece, TextSource, parse_template};

use crate::table::{Format, Table};

/// Data rows (from 1) that cannot be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct BadRows {
    /// Rows with an empty text.
    pub empty_text: Vec<usize>,
    /// Rows with an empty label.
    pub empty_label: Vec<usize>,
}

impl BadRows {
    /// Is every row fine?
    pub fn is_empty(&self) -> bool {
        self.empty_text.is_empty() && self.empty_label.is_empty()
    }

    /// What was left out, in words; none where nothing was.
    pub fn words(&self, table: &Table) -> Option<String> {
        (!self.is_empty()).then(|| format!("{} left out", bad_rows(&BadLines::of(self, table))))
    }
}

/// Rows that cannot be used, by their lines in the file (from 1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadLines {
    /// Lines of rows with an empty text.
    pub empty_text: Vec<u64>,
    /// Lines of rows with an empty label.
    pub empty_label: Vec<u64>,
}

impl BadLines {
    fn of(bad: &BadRows, table: &Table) -> Self {
        let lines = |rows: &[usize]| rows.iter().map(|&row| table.rows[row - 1].line).collect();
        Self { empty_text: lines(&bad.empty_text), empty_label: lines(&bad.empty_label) }
    }
}

/// How a label cell becomes a class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum LabelRule {
    /// The cell is the class.
    #[default]
    AsIs,
    /// A number at or above `threshold` is `above`, any other is `below`.
    Threshold {
        /// The limit.
        threshold: f64,
        /// Class at or above it.
        above: String,
        /// Class below it.
        below: String,
    },
    /// As `Threshold`, at the median of the column (the codelab's rule for `isHate`).
    Median {
        /// Class at or above the median.
        above: String,
        /// Class below it.
        below: String,
    },
}

/// A row with text and class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Data row in the file, from 1 (the header does not count).
    pub row: usize,
    /// Its first line in the file, from 1.
    pub line: u64,
    /// The text.
    pub text: String,
    /// Index into the data set's classes.
    pub label: usize,
    /// The cell of the split column.
    pub split: Option<String>,
    /// The cell of the id column.
    pub id: Option<String>,
}

/// Labelled examples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Class names. Two classes: the positive one is last. More: in natural order.
    pub classes: Vec<String>,
    /// Index of the positive class.
    pub positive: Option<usize>,
    /// The examples, in the file's order.
    pub examples: Vec<Example>,
    /// Rows that were dropped.
    pub dropped: BadRows,
    /// What stands out among the labels.
    pub findings: LabelFindings,
    /// What was left out and why, in words.
    pub notes: Vec<String>,
}

/// More different labels than this are no classes.
pub const MAX_CLASSES: usize = 1000;

/// What to make of a table.
#[derive(Debug, Clone, Default)]
pub struct DatasetOptions {
    /// How a label cell becomes a class.
    pub rule: LabelRule,
    /// The positive class, by name.
    pub positive: Option<String>,
    /// Drop rows without text or label instead of refusing.
    pub drop_bad: bool,
    /// Labels to unite or to leave out.
    pub labels: LabelChoices,
}

impl Dataset {
    /// Reads the examples out of a table.
    pub fn from_table(
        table: &Table,
        roles: &Roles,
        options: &DatasetOptions,
    ) -> Result<Self, ColumnsError> {
        let Usable { rows, texts, cells, dropped, mut notes } = usable(table, roles, options)?;
        let mut names = class_names(&cells, &options.rule)?;
        let mut findings = LabelFindings::default();
        if options.rule == LabelRule::AsIs {
            findings = LabelFindings::of(names.iter().map(String::as_str));
            if options.labels.merge {
                names = labels::united(&names);
                findings.merged = true;
            }
        }
        let all: BTreeSet<String> = names.iter().cloned().collect();
        options.labels.check_dropped(&all.into_iter().collect::<Vec<_>>())?;
        let drop = &options.labels.drop;
        let kept: Vec<(usize, String)> =
            rows.into_iter().zip(names).filter(|(_, name)| !drop.contains(name)).collect();
        for class in drop {
            notes.push(dropped_class(class));
        }
        let names: Vec<String> = kept.iter().map(|(_, name)| name.clone()).collect();
        let (classes, positive) = order_classes(&names, options.positive.as_deref())?;
        let index: BTreeMap<&str, usize> =
            classes.iter().enumerate().map(|(i, c)| (c.as_str(), i)).collect();
        let examples =
            kept.iter().map(|(i, name)| example(table, roles, &texts, *i, index[name.as_str()]));
        Ok(Self {
            examples: examples.collect(),
            classes: classes.clone(),
            positive,
            dropped,
            findings,
            notes,
        })
    }

    /// The label of every example.
    pub fn labels(&self) -> Vec<usize> {
        self.examples.iter().map(|e| e.label).collect()
    }
}

fn dropped_class(class: &str) -> String {
    format!("the rows of the class {class:?} are left out")
}

fn example(table: &Table, roles: &Roles, texts: &[String], i: usize, label: usize) -> Example {
    let row = &table.rows[i];
    let cell = |column: Option<usize>| column.map(|c| row.fields[c].clone());
    Example {
        row: i + 1,
        line: row.line,
        text: texts[i].clone(),
        label,
        split: cell(roles.split),
        id: cell(roles.id),
    }
}

/// Rows with a text and a label.
struct Usable<'t> {
    /// Their indices.
    rows: Vec<usize>,
    /// The text of every row of the table.
    texts: Vec<String>,
    /// Line and label of each.
    cells: Vec<(u64, &'t str)>,
    dropped: BadRows,
    notes: Vec<String>,
}

/// Leaves out empty rows, rows whose label stands for none, and, where asked, rows without text or label.
fn usable<'t>(
    table: &'t Table,
    roles: &Roles,
    options: &DatasetOptions,
) -> Result<Usable<'t>, ColumnsError> {
    let label = roles.label.ok_or_else(|| no_label(table))?;
    check_texts(table, roles)?;
    let (texts, _) = texts(table, roles);
    let cell = |i: usize| table.rows[i].fields[label].trim();
    let all: Vec<usize> = (0..table.rows.len()).filter(|&i| !table.rows[i].is_empty()).collect();
    let mut notes = Vec::new();
    let empty = table.rows.len() - all.len();
    if empty > 0 {
        let rows = if empty == 1 { "row is" } else { "rows are" };
        notes.push(format!("{empty} empty {rows} skipped"));
    }
    let (missing, all): (Vec<usize>, Vec<usize>) =
        all.into_iter().partition(|&i| options.labels.is_missing(cell(i)));
    if !missing.is_empty() {
        let rows = if missing.len() == 1 { "row is" } else { "rows are" };
        let words = options.labels.missing.join(", ");
        notes.push(format!("{} {rows} left out, as their label is one of {words}", missing.len()));
    }
    for word in &options.labels.missing {
        if !missing.iter().any(|&i| is_word(word, cell(i))) {
            notes.push(format!("no row has the label {word:?}, which was to be left out"));
        }
    }
    let where_empty = |test: &dyn Fn(usize) -> bool| -> Vec<usize> {
        all.iter().filter(|&&i| test(i)).map(|i| i + 1).collect()
    };
    let dropped = BadRows {
        empty_text: where_empty(&|i| texts[i].trim().is_empty()),
        empty_label: where_empty(&|i| cell(i).is_empty()),
    };
    if !dropped.is_empty() && !options.drop_bad {
        return Err(ColumnsError::BadRows(BadLines::of(&dropped, table)));
    }
    let is_usable = |i: &usize| !texts[*i].trim().is_empty() && !cell(*i).is_empty();
    let rows: Vec<usize> = all.iter().copied().filter(is_usable).collect();
    let cells: Vec<(u64, &str)> = rows.iter().map(|&i| (table.rows[i].line, cell(i))).collect();
    structured::check_labels(table, &cells)?;
    notes.extend(labels::missing_texts(rows.iter().map(|&i| texts[i].as_str())));
    Ok(Usable { rows, texts, cells, dropped, notes })
}

fn no_label(table: &Table) -> ColumnsError {
    let columns = table.columns.clone();
    let json = matches!(table.dialect.format, Format::Json | Format::JsonLines);
    let has = |name: &str| columns.iter().any(|c| c == name || c.starts_with(&format!("{name}.")));
    let hint = if has("annotations") && has("data") {
        "; this looks like Label Studio's export: export it as CSV or JSON-MIN, which have a column for the label"
    } else if json && columns.len() == 1 {
        "; there is only one: write text and label as two fields"
    } else if columns.len() == 1 {
        "; there is only one: is there a delimiter that was not found (--delimiter)?"
    } else {
        " (--label)"
    };
    ColumnsError::NoLabel { columns, hint }
}

/// The text of every row, and the rows where it is empty. Enough to predict; labels are not looked at.
pub fn texts(table: &Table, roles: &Roles) -> (Vec<String>, BadRows) {
    let texts: Vec<String> = table.rows.iter().map(|row| roles.text.of(row)).collect();
    let empty_text =
        (0..texts.len()).filter(|&i| texts[i].trim().is_empty()).map(|i| i + 1).collect();
    (texts, BadRows { empty_text, empty_label: Vec::new() })
}

/// The place of a column.
pub fn column(table: &Table, name: &str) -> Result<usize, ColumnsError> {
    let found = table.columns.iter().position(|c| c == name);
    found
        .ok_or_else(|| ColumnsError::NoColumn { name: name.into(), columns: table.columns.clone() })
}

/// The class of each cell.
fn class_names(cells: &[(u64, &str)], rule: &LabelRule) -> Result<Vec<String>, ColumnsError> {
    let number = |&(line, cell): &(u64, &str)| {
        let not = || ColumnsError::NotANumber { line, found: cell.chars().take(60).collect() };
        number(cell).ok_or_else(not)
    };
    let cut = |threshold: f64, above: &str, below: &str| {
        let class = |x: f64| String::from(if x >= threshold { above } else { below });
        cells.iter().map(|cell| number(cell).map(class)).collect()
    };
    match rule {
        LabelRule::AsIs => Ok(cells.iter().map(|(_, cell)| (*cell).to_string()).collect()),
        LabelRule::Threshold { threshold, above, below } => cut(*threshold, above, below),
        LabelRule::Median { above, below } => {
            let mut numbers = cells.iter().map(number).collect::<Result<Vec<f64>, _>>()?;
            cut(summary::median(&mut numbers), above, below)
        }
    }
}

/// The classes in order, and the positive one.
fn order_classes(
    names: &[String],
    positive: Option<&str>,
) -> Result<(Vec<String>, Option<usize>), ColumnsError> {
    let mut classes: Vec<String> =
        names.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect();
    match classes.len() {
        0 => return Err(ColumnsError::NoRows { labelled: true }),
        1 => return Err(ColumnsError::OneClass { rows: names.len(), class: classes.remove(0) }),
        n if n > MAX_CLASSES => {
            return Err(ColumnsError::ManyClasses { found: n, limit: MAX_CLASSES });
        }
        _ => {}
    }
    if classes.iter().all(|c| number(c).is_some()) {
        let value = |c: &String| number(c).unwrap_or(f64::NAN);
        classes.sort_by(|a, b| value(a).total_cmp(&value(b)));
    }
    let Some(name) = positive else {
        return if classes.len() == 2 {
            Err(ColumnsError::PositiveNeeded { classes })
        } else {
            Ok((classes, None))
        };
    };
    let Some(place) = classes.iter().position(|c| c == name) else {
        let like = labels::resembling(name, &classes).cloned();
        return Err(ColumnsError::UnknownPositive { name: name.into(), classes, like });
    };
    if classes.len() == 2 {
        // as everywhere: class 1 is the positive one
        classes.swap(place, 1);
        return Ok((classes, Some(1)));
    }
    Ok((classes, Some(place)))
}

#[cfg(test)]
#[path = "columns/tests.rs"]
mod tests;
