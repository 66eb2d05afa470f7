//! From a table to labelled examples: which column is what, what is wrong with the rows.

mod guess;
mod known;
mod summary;
mod template;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use guess::{Roles, guess_roles};
pub use summary::{ClassCount, Duplicate, TokenHistogram, class_counts, duplicates, warnings};
pub use template::{Piece, TextSource, parse_template};

use crate::table::Table;

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
    #[error("which column holds the label? The columns are {}", list(.columns))]
    NoLabel {
        /// The names there are.
        columns: Vec<String>,
    },
    /// Rows without text or label.
    #[error("{}; correct them, or choose to drop these rows", bad_rows(.0))]
    BadRows(BadRows),
    /// A label that is no number where a number is needed.
    #[error(
        "row {row}: label {found:?} is not a number; a threshold or the median needs numbers in every row"
    )]
    NotANumber {
        /// Data row, from 1.
        row: usize,
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
        "row {row}: the label {found:?} is none of the classifier's classes {}; correct the label, or leave the row out",
        list(.classes)
    )]
    UnknownClass {
        /// Data row, from 1.
        row: usize,
        /// The label.
        found: String,
        /// The classifier's classes.
        classes: Vec<String>,
    },
    /// The positive class is not among the labels.
    #[error("the positive class {name:?} is not among the labels {}", list(.classes))]
    UnknownPositive {
        /// The name given.
        name: String,
        /// The classes there are.
        classes: Vec<String>,
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

fn bad_rows(bad: &BadRows) -> String {
    let part = |what: &str, rows: &[usize]| {
        let numbers: Vec<String> = rows.iter().take(10).map(usize::to_string).collect();
        let more = if rows.len() > 10 { ", …" } else { "" };
        (!rows.is_empty())
            .then(|| format!("{} rows without {what} ({}{more})", rows.len(), numbers.join(", ")))
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
}

impl Dataset {
    /// Reads the examples out of a table.
    pub fn from_table(
        table: &Table,
        roles: &Roles,
        options: &DatasetOptions,
    ) -> Result<Self, ColumnsError> {
        let no_label = || ColumnsError::NoLabel { columns: table.columns.clone() };
        let label = roles.label.ok_or_else(no_label)?;
        let (texts, mut bad) = texts(table, roles);
        let empty = |i: &usize| table.rows[*i].fields[label].trim().is_empty();
        bad.empty_label = (0..table.rows.len()).filter(empty).map(|i| i + 1).collect();
        if !bad.is_empty() && !options.drop_bad {
            return Err(ColumnsError::BadRows(bad));
        }
        let dropped: BTreeSet<usize> =
            bad.empty_text.iter().chain(&bad.empty_label).copied().collect();
        let kept: Vec<usize> =
            (0..table.rows.len()).filter(|i| !dropped.contains(&(i + 1))).collect();
        let cells: Vec<(usize, &str)> =
            kept.iter().map(|&i| (i + 1, table.rows[i].fields[label].trim())).collect();
        let names = class_names(&cells, &options.rule)?;
        let (classes, positive) = order_classes(&names, options.positive.as_deref())?;
        let index: BTreeMap<&str, usize> =
            classes.iter().enumerate().map(|(i, c)| (c.as_str(), i)).collect();
        let cell =
            |row: usize, column: Option<usize>| column.map(|c| table.rows[row].fields[c].clone());
        let examples = kept
            .iter()
            .zip(&names)
            .map(|(&i, name)| Example {
                row: i + 1,
                text: texts[i].clone(),
                label: index[name.as_str()],
                split: cell(i, roles.split),
                id: cell(i, roles.id),
            })
            .collect();
        Ok(Self { classes, positive, examples, dropped: bad })
    }

    /// The label of every example.
    pub fn labels(&self) -> Vec<usize> {
        self.examples.iter().map(|e| e.label).collect()
    }
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
fn class_names(cells: &[(usize, &str)], rule: &LabelRule) -> Result<Vec<String>, ColumnsError> {
    let number = |&(row, cell): &(usize, &str)| match cell.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(x),
        _ => Err(ColumnsError::NotANumber { row, found: cell.chars().take(60).collect() }),
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
    let numbers: Option<Vec<f64>> = classes.iter().map(|c| c.parse().ok()).collect();
    if numbers.is_some() {
        let value = |c: &String| c.parse::<f64>().unwrap_or(f64::NAN);
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
        return Err(ColumnsError::UnknownPositive { name: name.into(), classes });
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
