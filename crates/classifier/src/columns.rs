//! From a table to labelled examples: which column is what, what is wrong with the rows.

mod guess;
mod known;
mod labels;
mod repeats;
mod summary;
mod template;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use guess::{Guessed, Roles, guess_roles, guess_roles_told};
pub use labels::{LabelChoices, LabelFindings, number, plain_form, unite_counts};
pub use repeats::{Contradiction, Repeats};
pub use summary::{
    ClassCount, Duplicate, TokenHistogram, class_counts, duplicates, part_warnings, warnings,
};
pub use template::{Piece, TextSource, parse_template};

use crate::table::{Format, Table};

/// Columns that do not make examples.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum ColumnsError {
    /// No such column.
    #[error("there is no column {name:?}; the columns are {}", list(.columns))]
    NoColumn {
        /// The name asked for.
        name: String,
        /// The names there are.
        columns: Vec<String>,
    },
    /// A template that cannot be read.
    #[error(
        "text template {template:?}: {why}; write column names in braces, such as '{{title}}: {{body}}', and {{{{ for a brace"
    )]
    Template {
        /// The template.
        template: String,
        /// What is wrong.
        why: &'static str,
    },
    /// No label column.
    #[error("which column holds the label? The columns are {}{}", list(.columns), .hint)]
    NoLabel {
        /// The names there are.
        columns: Vec<String>,
        /// What else may help.
        hint: &'static str,
    },
    /// A label that is a list or an object.
    #[error(
        "line {line}: the label {found:?} is a list or an object of JSON, not one class; name the field inside it by its path (such as label.name), or write one label a row"
    )]
    StructuredLabel {
        /// Line in the file, from 1.
        line: u64,
        /// The cell.
        found: String,
    },
    /// Rows without text or label.
    #[error("{}; correct them, or drop these rows (--drop-bad)", bad_rows(.0))]
    BadRows(BadLines),
    /// A label that is no number where a number is needed.
    #[error(
        "line {line}: label {found:?} is not a number; a threshold or the median needs numbers in every row"
    )]
    NotANumber {
        /// Line in the file, from 1.
        line: u64,
        /// The cell.
        found: String,
    },
    /// Fewer than two classes.
    #[error(
        "all {rows} rows have the label {class:?}; a classifier needs at least two classes: check the label column"
    )]
    OneClass {
        /// Rows.
        rows: usize,
        /// The one label.
        class: String,
    },
    /// No usable row.
    #[error("no row has a text{}", if *.labelled { " and a label" } else { "" })]
    NoRows {
        /// Were labels asked for?
        labelled: bool,
    },
    /// Too many classes to be classes.
    #[error(
        "the label column has {found} different values; at most {limit} classes are possible: check the label column, or make a number binary by a threshold or its median"
    )]
    ManyClasses {
        /// Values found.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Two classes, and nobody said which one is looked for.
    #[error("which class is the positive one (the one to find): {}? F1, ROC-AUC and the threshold are about it", list(.classes))]
    PositiveNeeded {
        /// The two classes.
        classes: Vec<String>,
    },
    /// A label that a trained classifier does not know.
    #[error(
        "line {line}: the label {found:?} is none of the classifier's classes {}{}; correct the label, or leave the row out",
        list(.classes),
        like.as_ref().map(|c| format!(", though it resembles {c:?} (--merge-labels takes it for that)")).unwrap_or_default()
    )]
    UnknownClass {
        /// Line in the file, from 1.
        line: u64,
        /// The label.
        found: String,
        /// The classifier's classes.
        classes: Vec<String>,
        /// The one class that it equals in value or to the eye.
        like: Option<String>,
    },
    /// A class to leave out that there is not.
    #[error("the class {name:?} to leave out is not among the labels {}", list(.classes))]
    UnknownDropped {
        /// The name given.
        name: String,
        /// The classes there are.
        classes: Vec<String>,
    },
    /// The positive class is not among the labels.
    #[error(
        "the positive class {name:?} is not among the labels {}{}",
        list(.classes),
        like.as_ref().map(|c| format!("; is {c:?} meant?")).unwrap_or_default()
    )]
    UnknownPositive {
        /// The name given.
        name: String,
        /// The classes there are.
        classes: Vec<String>,
        /// The one class that it equals in value or to the eye.
        like: Option<String>,
    },
}

/// Data rows (from 1) that cannot be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

fn bad_rows(bad: &BadLines) -> String {
    let part = |what: &str, lines: &[u64]| {
        let numbers: Vec<String> = lines.iter().take(10).map(u64::to_string).collect();
        let more = if lines.len() > 10 { ", …" } else { "" };
        let [rows, line] = if lines.len() == 1 { ["row", "line"] } else { ["rows", "lines"] };
        (!lines.is_empty()).then(|| {
            format!("{} {rows} without {what} ({line} {}{more})", lines.len(), numbers.join(", "))
        })
    };
    let parts = [part("text", &bad.empty_text), part("label", &bad.empty_label)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(30).map(|n| format!("{n:?}")).collect();
    shown.join(", ") + if names.len() > 30 { ", …" } else { "" }
}

/// How a label cell becomes a class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
            notes.push(format!("the rows of the class {class:?} are left out"));
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
    let (texts, _) = texts(table, roles);
    let cell = |i: usize| table.rows[i].fields[label].trim();
    let all: Vec<usize> = (0..table.rows.len()).filter(|&i| !table.rows[i].is_empty()).collect();
    let mut notes = Vec::new();
    let empty = table.rows.len() - all.len();
    if empty > 0 {
        let rows = if empty == 1 { "row is" } else { "rows are" };
        notes.push(format!("{empty} empty {rows} passed over"));
    }
    let (missing, all): (Vec<usize>, Vec<usize>) =
        all.into_iter().partition(|&i| options.labels.is_missing(cell(i)));
    if !missing.is_empty() {
        let rows = if missing.len() == 1 { "row is" } else { "rows are" };
        let words = options.labels.missing.join(", ");
        notes.push(format!("{} {rows} left out, as their label is one of {words}", missing.len()));
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
    let json = matches!(table.dialect.format, Format::Json | Format::JsonLines);
    if let Some((line, found)) = cells.iter().find(|(_, c)| json && c.starts_with(['[', '{'])) {
        let found = found.chars().take(60).collect();
        return Err(ColumnsError::StructuredLabel { line: *line, found });
    }
    Ok(Usable { rows, texts, cells, dropped, notes })
}

fn no_label(table: &Table) -> ColumnsError {
    let columns = table.columns.clone();
    let has = |name: &str| columns.iter().any(|c| c == name || c.starts_with(&format!("{name}.")));
    let hint = if has("annotations") && has("data") {
        "; this looks like Label Studio's export: export it as CSV or JSON-MIN, which have a column for the label"
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
