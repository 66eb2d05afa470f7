//! Labelled rows for a classifier that already knows its classes.

use super::{ColumnsError, Dataset, DatasetOptions, Example, Roles, class_names, texts};
use crate::table::Table;

impl Dataset {
    /// Reads the examples of a table whose labels must be among `classes`, in that order. Not every class has
    /// to occur.
    ///
    /// # Errors
    /// No label column, rows without text or label (unless they are dropped), a label that is no class.
    pub fn labelled_as(
        table: &Table,
        roles: &Roles,
        options: &DatasetOptions,
        classes: &[String],
    ) -> Result<Vec<Example>, ColumnsError> {
        let no_label = || ColumnsError::NoLabel { columns: table.columns.clone() };
        let label = roles.label.ok_or_else(no_label)?;
        let (texts, mut bad) = texts(table, roles);
        let cell = |i: usize| table.rows[i].fields[label].trim();
        bad.empty_label =
            (0..table.rows.len()).filter(|&i| cell(i).is_empty()).map(|i| i + 1).collect();
        if !bad.is_empty() && !options.drop_bad {
            return Err(ColumnsError::BadRows(bad));
        }
        let usable = |i: &usize| !texts[*i].trim().is_empty() && !cell(*i).is_empty();
        let kept: Vec<usize> = (0..table.rows.len()).filter(usable).collect();
        if kept.is_empty() {
            return Err(ColumnsError::NoRows { labelled: true });
        }
        let cells: Vec<(usize, &str)> = kept.iter().map(|&i| (i + 1, cell(i))).collect();
        let names = class_names(&cells, &options.rule)?;
        let example = |(&i, name): (&usize, String)| {
            let label = classes.iter().position(|c| *c == name);
            let unknown = || ColumnsError::UnknownClass {
                row: i + 1,
                found: name.chars().take(60).collect(),
                classes: classes.to_vec(),
            };
            Ok(Example {
                row: i + 1,
                text: texts[i].clone(),
                label: label.ok_or_else(unknown)?,
                split: roles.split.map(|c| table.rows[i].fields[c].clone()),
                id: roles.id.map(|c| table.rows[i].fields[c].clone()),
            })
        };
        kept.iter().zip(names).map(example).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{columns::guess_roles, table};

    fn labels(csv: &str, drop_bad: bool) -> Result<Vec<usize>, ColumnsError> {
        let table = table::read(csv.as_bytes(), Default::default(), &mut |_| {}).unwrap();
        let options = DatasetOptions { drop_bad, ..DatasetOptions::default() };
        let classes = ["rude", "polite"].map(String::from);
        let examples = Dataset::labelled_as(&table, &guess_roles(&table), &options, &classes)?;
        Ok(examples.iter().map(|e| e.label).collect())
    }

    #[test]
    fn the_classifier_says_which_classes_there_are() {
        assert_eq!(
            labels("text,label\nhello,polite\nno,rude\nbye,polite\n", false).unwrap(),
            [1, 0, 1]
        );
        // one class alone can be measured too
        assert_eq!(labels("text,label\nhello,polite\nbye,polite\n", false).unwrap(), [1, 1]);
        let text = labels("text,label\nhello,polite\nno,nasty\n", false).unwrap_err().to_string();
        assert_eq!(
            text,
            "row 2: the label \"nasty\" is none of the classifier's classes \"rude\", \"polite\"; correct the \
             label, or leave the row out"
        );
        assert!(matches!(
            labels("text,label\nhello,polite\nno,\n", false),
            Err(ColumnsError::BadRows(_))
        ));
        assert_eq!(labels("text,label\nhello,polite\nno,\n", true).unwrap(), [1]);
    }
}
