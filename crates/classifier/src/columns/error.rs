//! What can be wrong with columns and labels, said so that a person can correct it.

use thiserror::Error;

use super::BadLines;

/// Columns that do not make examples.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum ColumnsError {
    /// No such column.
    #[error("there is no column {name:?}; choose one: the columns are {}", list(.columns))]
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
    #[error("which column is the label column? The columns are {}{}", list(.columns), .hint)]
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
    /// Texts that are lists or objects.
    #[error(
        "line {line}: the text {found:?} in the column {column:?} is a list or an object of JSON, not one text, as most are there; name the field with the text by its path (--text meta.text), or write the text as one string"
    )]
    StructuredText {
        /// Line in the file, from 1.
        line: u64,
        /// The column.
        column: String,
        /// The cell.
        found: String,
    },
    /// Rows without text or label.
    #[error("{}; correct them, or drop these rows (--drop-bad)", bad_rows(.0))]
    BadRows(BadLines),
    /// A label that is no number where a number is needed.
    #[error(
        "line {line}: label {found:?} is not a number; a threshold or the median needs numbers in every row: correct it, or leave the threshold and the median out"
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
    #[error("no row has a text{}; choose other columns", if *.labelled { " and a label" } else { "" })]
    NoRows {
        /// Were labels asked for?
        labelled: bool,
    },
    /// Too many classes to be classes.
    #[error(
        "the label column has {found} different values; at most {limit} classes are possible: check the label column, or make a number binary by a threshold (--cut) or its median (--median)"
    )]
    ManyClasses {
        /// Values found.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Two classes, and nobody said which one is looked for.
    #[error("which class is the positive one (the one to find): {}? F1, ROC-AUC and the threshold are about it (--positive)", list(.classes))]
    PositiveNeeded {
        /// The two classes.
        classes: Vec<String>,
    },
    /// A label that a trained classifier does not know.
    #[error(
        "line {line}: the label {found:?} is none of the classifier's classes {}{}; correct the label, or leave the row out",
        list(.classes),
        like.as_ref().map(|c| format!(", though it resembles {c:?}: merge similar labels (--merge-labels)")).unwrap_or_default()
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
    #[error("the class {name:?} to leave out is not among the labels; choose one of {}", list(.classes))]
    UnknownDropped {
        /// The name given.
        name: String,
        /// The classes there are.
        classes: Vec<String>,
    },
    /// The positive class is not among the labels.
    #[error(
        "the positive class {name:?} is not among the labels; choose one of {}{}",
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

pub(super) fn bad_rows(bad: &BadLines) -> String {
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
