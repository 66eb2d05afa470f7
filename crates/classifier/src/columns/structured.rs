//! Cells that are lists or objects of JSON where one text or one class is needed.

use serde_json::Value;

use super::{ColumnsError, Roles};
use crate::table::{Format, Table};

/// Characters of a cell that a message shows.
const SHOWN: usize = 60;

fn is_json(table: &Table) -> bool {
    matches!(table.dialect.format, Format::Json | Format::JsonLines)
}

/// Refuses labels that are lists or objects.
pub(super) fn check_labels(table: &Table, cells: &[(u64, &str)]) -> Result<(), ColumnsError> {
    match cells.iter().find(|(_, cell)| is_json(table) && cell.starts_with(['[', '{'])) {
        Some((line, found)) => {
            let found = found.chars().take(SHOWN).collect();
            Err(ColumnsError::StructuredLabel { line: *line, found })
        }
        None => Ok(()),
    }
}

/// Refuses texts that are lists or objects. A text may look like one: most texts of a column do not.
///
/// # Errors
/// [`ColumnsError::StructuredText`].
pub fn check_texts(table: &Table, roles: &Roles) -> Result<(), ColumnsError> {
    if !is_json(table) {
        return Ok(());
    }
    for column in roles.text.columns() {
        let cells = || table.rows.iter().map(|row| (row.line, row.fields[column].as_str()));
        let full = cells().filter(|(_, cell)| !cell.is_empty()).count();
        let mut structured = cells().filter(|(_, cell)| is_structured(cell));
        let first = structured.next();
        if let Some((line, found)) = first
            && (1 + structured.count()) * 2 > full
        {
            let found = found.chars().take(SHOWN).collect();
            let column = table.columns[column].clone();
            return Err(ColumnsError::StructuredText { line, column, found });
        }
    }
    Ok(())
}

fn is_structured(cell: &str) -> bool {
    cell.starts_with(['[', '{'])
        && serde_json::from_str::<Value>(cell).is_ok_and(|v| v.is_array() || v.is_object())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{columns::guess_roles, table};

    fn check(text: &str) -> Result<(), ColumnsError> {
        let table = table::read(text.as_bytes(), Default::default(), &mut |_| {}).unwrap();
        check_texts(&table, &guess_roles(&table))
    }

    #[test]
    fn lists_of_tokens_are_no_texts() {
        let tokens = r#"{"text": ["a", "train", "was", "late"], "label": "x"}
{"text": ["it", "was", "on", "time"], "label": "y"}"#;
        let error = check(tokens).unwrap_err().to_string();
        assert!(
            error.starts_with("line 1: the text \"[\\\"a\\\",") && error.contains("\"text\""),
            "{error}"
        );
        // texts that begin like a list, one of which is valid JSON
        let texts = r#"{"text": "[removed]", "label": "x"}
{"text": "[1]", "label": "y"}
{"text": "see [1]", "label": "y"}"#;
        assert_eq!(check(texts), Ok(()));
        assert_eq!(check("text,label\n\"[1,2]\",x\n\"[3,4]\",y\n"), Ok(()));
    }
}
