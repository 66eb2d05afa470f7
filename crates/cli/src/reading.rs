//! What was read and how, for people and for machines.

use anyhow::Result;
use hearth_classifier::{
    columns::{Roles, TextSource},
    table::{Dialect, Table},
};
use serde::Serialize;

use crate::output;

/// How a table was read.
#[derive(Serialize)]
pub struct Reading {
    rows: usize,
    columns: Vec<String>,
    dialect: Dialect,
    text: Column,
    label: Option<Column>,
    warnings: Vec<String>,
}

/// A column in use.
#[derive(Serialize)]
struct Column {
    /// Its name, or the names of those that make a text.
    name: String,
    /// How it is known.
    known: &'static str,
}

impl Reading {
    /// Of a table and what its columns are taken for.
    pub fn of(
        table: &Table,
        roles: &Roles,
        text: &'static str,
        label: &'static str,
        more: Vec<String>,
    ) -> Self {
        let name = |c: usize| table.columns.get(c).cloned().unwrap_or_default();
        let texts: Vec<String> = roles.text.columns().into_iter().map(name).collect();
        let known = if matches!(roles.text, TextSource::Template(_)) { "as given" } else { text };
        let mut warnings = table.warnings.clone();
        warnings.extend(more);
        Self {
            rows: table.rows.len(),
            columns: table.columns.clone(),
            dialect: table.dialect.clone(),
            text: Column { name: texts.join(" and "), known },
            label: roles.label.map(|c| Column { name: name(c), known: label }),
            warnings,
        }
    }

    /// Of a table of which only the first rows are held.
    pub fn with_rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }

    /// Where labels are not looked at.
    pub fn without_label(mut self) -> Self {
        self.label = None;
        self.warnings.retain(|w| !w.starts_with("the label is guessed"));
        self
    }

    /// A line for each part.
    fn lines(&self) -> Vec<String> {
        let mut all = self.dialect.lines();
        all[0].1 = format!("{}, {} rows", all[0].1, self.rows);
        if let Some((_, words)) = all.iter_mut().find(|(name, _)| *name == "header") {
            let names: Vec<&str> = self.columns.iter().take(8).map(String::as_str).collect();
            let more = if self.columns.len() > 8 { ", …" } else { "" };
            *words = format!("{words}; columns {}{more}", names.join(", "));
        }
        let column = |c: &Column| format!("column {:?} ({})", c.name, c.known);
        all.push(("text", column(&self.text)));
        all.extend(self.label.as_ref().map(|c| ("label", column(c))));
        all.into_iter().map(|(name, words)| format!("{name:<10} {words}")).collect()
    }

    /// On stderr, with the warnings.
    pub fn note(&self) {
        self.lines().iter().for_each(|line| output::note(line));
        self.note_warnings();
    }

    /// The warnings alone.
    fn note_warnings(&self) {
        self.warnings.iter().for_each(|w| output::note(&format!("warning: {w}")));
    }

    /// On stdout, as a result; warnings stay on stderr.
    pub fn print(&self) -> Result<()> {
        self.lines().iter().try_for_each(|line| output::line(line))?;
        self.note_warnings();
        Ok(())
    }
}
