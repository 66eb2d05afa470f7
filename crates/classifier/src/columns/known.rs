//! Labelled rows for a classifier that already knows its classes.

use std::collections::HashMap;

use super::labels::resembling;
use super::{
    ColumnsError, Dataset, DatasetOptions, Example, Roles, Usable, class_names, dropped_class,
    example, usable,
};
use crate::table::Table;

impl Dataset {
    /// Reads the examples of a table whose labels must be among `classes`, in that order. Not every class has
    /// to occur. With them what was left out or united, in words.
    ///
    /// # Errors
    /// No label column, rows without text or label (unless they are dropped), a label that is no class.
    pub fn labelled_as(
        table: &Table,
        roles: &Roles,
        options: &DatasetOptions,
        classes: &[String],
    ) -> Result<(Vec<Example>, Vec<String>), ColumnsError> {
        let Usable { rows, texts, cells, dropped, mut notes } = usable(table, roles, options)?;
        notes.extend(dropped.words(table));
        if rows.is_empty() {
            return Err(ColumnsError::NoRows { labelled: true });
        }
        let names = class_names(&cells, &options.rule)?;
        let drop = &options.labels.drop;
        notes.extend(drop.iter().map(|class| match names.contains(class) {
            true => dropped_class(class),
            false => format!("no row has the class {class:?}, which was to be left out"),
        }));
        let left_in = rows.into_iter().zip(cells).zip(names).filter(|(_, n)| !drop.contains(n));
        let mut known: HashMap<String, usize> = HashMap::new();
        let examples: Result<Vec<Example>, ColumnsError> = left_in
            .map(|((i, (line, _)), name)| {
                let label = match known.get(&name) {
                    Some(&label) => label,
                    None => {
                        let label = class_of(line, &name, options.labels.merge, classes)?;
                        if classes[label] != name {
                            notes
                                .push(format!("the label {name:?} counts as {:?}", classes[label]));
                        }
                        *known.entry(name).or_insert(label)
                    }
                };
                Ok(example(table, roles, &texts, i, label))
            })
            .collect();
        Ok((examples?, notes))
    }
}

/// The class of a label: the one of that name or, where labels are united, the one that it resembles.
fn class_of(line: u64, name: &str, merge: bool, classes: &[String]) -> Result<usize, ColumnsError> {
    let place = |name: &str| classes.iter().position(|c| c == name);
    if let Some(label) = place(name) {
        return Ok(label);
    }
    let like = resembling(name, classes).cloned();
    let found = name.chars().take(60).collect();
    let unknown =
        |like| ColumnsError::UnknownClass { line, found, classes: classes.to_vec(), like };
    match like {
        Some(class) if merge => place(&class).ok_or_else(|| unknown(None)),
        like => Err(unknown(like)),
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
        let (examples, _) = Dataset::labelled_as(&table, &guess_roles(&table), &options, &classes)?;
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
            "line 3: the label \"nasty\" is none of the classifier's classes \"rude\", \"polite\"; correct the \
             label, or leave the row out"
        );
        assert!(matches!(
            labels("text,label\nhello,polite\nno,\n", false),
            Err(ColumnsError::BadRows(_))
        ));
        assert_eq!(labels("text,label\nhello,polite\nno,\n", true).unwrap(), [1]);
    }

    #[test]
    fn labels_that_resemble_a_class() {
        let csv = "text,label\nhello,Polite\nno,rude\n";
        let error = labels(csv, false).unwrap_err().to_string();
        assert!(
            error.contains("resembles \"polite\": merge similar labels (--merge-labels)"),
            "{error}"
        );
        let table = table::read(csv.as_bytes(), Default::default(), &mut |_| {}).unwrap();
        let united = super::super::LabelChoices { merge: true, ..Default::default() };
        let options = DatasetOptions { labels: united, ..DatasetOptions::default() };
        let classes = ["rude", "polite"].map(String::from);
        let (examples, notes) =
            Dataset::labelled_as(&table, &guess_roles(&table), &options, &classes).unwrap();
        assert_eq!(examples.iter().map(|e| e.label).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(notes, ["the label \"Polite\" counts as \"polite\""]);
    }

    #[test]
    fn what_is_left_out_is_told() {
        let csv = "text,label\nhello,polite\nno,rude\nhm,n/a\n,rude\nso,odd\n";
        let table = table::read(csv.as_bytes(), Default::default(), &mut |_| {}).unwrap();
        let labels = super::super::LabelChoices {
            missing: vec!["N/A".into(), "nil".into()],
            drop: vec!["odd".into()],
            ..Default::default()
        };
        let options = DatasetOptions { labels, drop_bad: true, ..DatasetOptions::default() };
        let classes = ["rude", "polite"].map(String::from);
        let (examples, notes) =
            Dataset::labelled_as(&table, &guess_roles(&table), &options, &classes).unwrap();
        assert_eq!(examples.len(), 2);
        assert_eq!(
            notes,
            [
                "1 row is left out, as their label is one of N/A, nil",
                "no row has the label \"nil\", which was to be left out",
                "1 row without text (line 5) left out",
                "the rows of the class \"odd\" are left out"
            ]
        );
    }
}
