//! One text out of one column or several.

use serde::{Deserialize, Serialize};

use super::{ColumnsError, column};
use crate::table::{Row, Table};

/// Where a row's text comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum TextSource {
    /// One column.
    Column(usize),
    /// Columns and what stands between them.
    Template(Vec<Piece>),
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum Piece {
    /// Fixed text.
    Text(String),
    /// The cell of a column.
    Column(usize),
}

impl TextSource {
    /// The text of a row; empty where all of its columns are.
    pub fn of(&self, row: &Row) -> String {
        let cell = |c: usize| row.fields.get(c).map_or("", String::as_str);
        match self {
            Self::Column(c) => cell(*c).to_string(),
            Self::Template(pieces) => {
                let columns = pieces
                    .iter()
                    .filter_map(|p| if let Piece::Column(c) = p { Some(*c) } else { None });
                if columns.clone().all(|c| cell(c).trim().is_empty()) {
                    return String::new();
                }
                let text = |p: &Piece| match p {
                    Piece::Text(text) => text.clone(),
                    Piece::Column(c) => cell(*c).to_string(),
                };
                pieces.iter().map(text).collect()
            }
        }
    }

    /// The same with other columns: `place` gives the new index of each.
    pub fn with_columns(&self, place: impl Fn(usize) -> usize) -> Self {
        match self {
            Self::Column(c) => Self::Column(place(*c)),
            Self::Template(pieces) => Self::Template(
                pieces
                    .iter()
                    .map(|piece| match piece {
                        Piece::Column(c) => Piece::Column(place(*c)),
                        Piece::Text(text) => Piece::Text(text.clone()),
                    })
                    .collect(),
            ),
        }
    }

    /// Its fixed texts; none for one column.
    pub fn fixed_texts(&self) -> impl Iterator<Item = &str> {
        let pieces = match self {
            Self::Column(_) => &[][..],
            Self::Template(pieces) => pieces,
        };
        pieces
            .iter()
            .filter_map(|p| if let Piece::Text(text) = p { Some(text.as_str()) } else { None })
    }

    /// The columns used.
    pub fn columns(&self) -> Vec<usize> {
        match self {
            Self::Column(c) => vec![*c],
            Self::Template(pieces) => pieces
                .iter()
                .filter_map(|p| if let Piece::Column(c) = p { Some(*c) } else { None })
                .collect(),
        }
    }
}

/// Reads a template such as `{title}: {body}`; `{{` and `}}` stand for braces.
pub fn parse_template(template: &str, table: &Table) -> Result<TextSource, ColumnsError> {
    let wrong =
        |why| ColumnsError::Template { template: template.chars().take(200).collect(), why };
    let (mut pieces, mut text) = (Vec::new(), String::new());
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' | '}' if chars.peek() == Some(&c) => {
                chars.next();
                text.push(c);
            }
            '}' => return Err(wrong("a '}' without a '{'")),
            '{' => {
                let name: String = chars.by_ref().take_while(|&c| c != '}').collect();
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Column(column(table, &name)?));
            }
            _ => text.push(c),
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    if !pieces.iter().any(|p| matches!(p, Piece::Column(_))) {
        return Err(wrong("it names no column"));
    }
    Ok(TextSource::Template(pieces))
}
