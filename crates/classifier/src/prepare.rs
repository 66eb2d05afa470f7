//! From a table and the user's settings to training, validation and test rows.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    columns::{
        self, ColumnsError, Dataset, DatasetOptions, Duplicate, LabelChoices, LabelRule, Repeats,
        Roles, TextSource, duplicates,
    },
    estimator::Labelled,
    origin::{Origin, SeenTexts, TextReading, ThresholdFrom},
    recipe::CHOOSING_ROWS,
    report::DataSummary,
    split::{Part, Split, SplitError},
    table::Table,
};

/// Which rows are for training and which for testing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum SplitChoice {
    /// The file's split column where the roles name one, else a fifth of the rows at random.
    #[default]
    Auto,
    /// By the roles' split column.
    Column,
    /// This share of the rows tests, at random within every class.
    Share(f64),
    /// The codelab's 800 and 198 rows of the public ETHOS file.
    Codelab,
}

/// Default share of test rows.
pub const TEST_SHARE: f64 = 0.2;

/// How to prepare a table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Preparing {
    /// How cells become classes.
    pub rule: LabelRule,
    /// The class to find, of two.
    pub positive: Option<String>,
    /// Leave out rows without text or label.
    pub drop_bad: bool,
    /// Labels to merge or to drop.
    #[serde(default)]
    pub labels: LabelChoices,
    /// Parts.
    pub split: SplitChoice,
    /// Use only this many training rows, with the classes in proportion.
    pub limit: Option<usize>,
    /// Of the random split.
    pub seed: u64,
}

/// Data that cannot be prepared.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum PrepareError {
    /// The columns.
    #[error(transparent)]
    Columns(#[from] ColumnsError),
    /// The split.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// A split column was asked for, and the roles name none.
    #[error("which column says train, validation and test? None is named as the split column")]
    NoSplitColumn,
    /// A class without training rows.
    #[error(
        "no training row has the class {}, so it cannot be learned: use more training rows or another split, or leave its \
         rows out (--drop-class)",
        .0.iter().map(|class| format!("{class:?}")).collect::<Vec<_>>().join(", ")
    )]
    NothingToLearn(Vec<String>),
}

/// Labelled rows and their parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// The rows.
    pub data: Dataset,
    /// The part of each row.
    pub split: Split,
    /// Test rows whose text is also in the training or validation rows, by their indices in the parts.
    pub duplicates: Vec<Duplicate>,
    /// Texts that occur several times among all rows.
    pub repeats: Repeats,
    /// For the report.
    pub summary: DataSummary,
    /// The group of each example: equal texts are in one.
    groups: Vec<usize>,
    /// The order of the training rows is the codelab's, whose first rows are its smaller sets.
    in_order: bool,
}

impl Origin {
    /// Of a classifier that was trained on these rows.
    pub fn of(table: &Table, text: &TextSource, prepared: &Prepared) -> Self {
        let texts = |part| prepared.rows(part).into_iter().map(|row| row.0);
        let validation = prepared.part(Part::Validation).len();
        // as `fit::Choice::on` chooses
        let chosen = prepared.data.classes.len() == 2 && validation >= CHOOSING_ROWS;
        Self {
            reading: Some(TextReading::of(table, text)),
            seen: Some(SeenTexts::of(texts(Part::Train), texts(Part::Validation))),
            threshold: Some(if chosen {
                ThresholdFrom::Validation(validation)
            } else {
                ThresholdFrom::Default
            }),
        }
    }
}

impl Prepared {
    /// Labels and splits. Validation rows are taken by [`Self::hold_out`].
    ///
    /// # Errors
    /// [`PrepareError`] in words for the user.
    pub fn new(
        file: &str,
        table: &Table,
        roles: &Roles,
        how: &Preparing,
    ) -> Result<Self, PrepareError> {
        let rule = rule(table, roles, how);
        let options = DatasetOptions {
            rule,
            positive: how.positive.clone(),
            drop_bad: how.drop_bad,
            labels: how.labels.clone(),
        };
        let data = Dataset::from_table(table, roles, &options)?;
        let (repeats, groups) = Repeats::among(&data.examples, &data.classes);
        let (mut split, words) = split(table, roles, how, &data, &groups)?;
        let in_order = how.split == SplitChoice::Codelab;
        if let Some(limit) = how.limit {
            limit_rows(&mut split, &data.labels(), limit, in_order)?;
        }
        let group = |&i: &usize| groups[i];
        let duplicates = duplicates(
            split.train.iter().chain(&split.validation).map(group),
            split.test.iter().map(group),
        );
        let summary = DataSummary {
            file: file.to_owned(),
            read_as: format!(
                "{}, delimiter {}",
                table.dialect.encoding.encoding.name(),
                table.dialect.delimiter_name()
            ),
            split: words,
            dropped: data.dropped.clone(),
            duplicates: duplicates.len(),
            ..DataSummary::default()
        };
        Ok(Self { data, split, duplicates, repeats, summary, groups, in_order })
    }

    /// Limits the training rows.
    ///
    /// # Errors
    /// Fewer rows than classes.
    pub fn limit_train(&mut self, rows: usize) -> Result<(), PrepareError> {
        limit_rows(&mut self.split, &self.data.labels(), rows, self.in_order)
    }

    /// Takes validation rows out of the training rows, unless the file names some, and counts everything.
    ///
    /// # Errors
    /// A share out of range, or a class without a training row.
    pub fn hold_out(&mut self, share: f64, seed: u64) -> Result<(), PrepareError> {
        let labels = self.data.labels();
        self.split.hold_out_validation(&labels, &self.groups, share, seed)?;
        let counts = |part: &[usize]| {
            columns::class_counts(&self.data.classes, part.iter().map(|&i| labels[i]))
        };
        let [train, validation, test] =
            [&self.split.train, &self.split.validation, &self.split.test].map(|p| counts(p));
        let missing: Vec<String> =
            train.iter().filter(|c| c.rows == 0).map(|c| c.class.clone()).collect();
        if !missing.is_empty() {
            return Err(PrepareError::NothingToLearn(missing));
        }
        let all: [usize; 3] = [&train, &validation, &test].map(|p| p.iter().map(|c| c.rows).sum());
        let whole = all.iter().sum::<usize>() == labels.len();
        let mut warnings = self.data.notes.clone();
        warnings.extend(self.data.findings.words());
        // with a limit, few rows are no property of the file
        warnings.extend(if whole {
            columns::part_warnings(&train, &validation, &test)
        } else {
            columns::part_warnings(&[], &[], &test)
        });
        warnings.extend(columns::warnings(&train));
        warnings.extend(self.repeats.words(self.duplicates.is_empty()));
        self.summary.warnings = warnings;
        (self.summary.train, self.summary.validation, self.summary.test) =
            (train, validation, test);
        Ok(())
    }

    /// Text and class of a part's rows.
    pub fn rows(&self, part: Part) -> Vec<Labelled<'_>> {
        let of = |&i: &usize| (self.data.examples[i].text.as_str(), self.data.examples[i].label);
        self.part(part).iter().map(of).collect()
    }

    /// Indices of a part's rows among the examples.
    pub fn part(&self, part: Part) -> &[usize] {
        match part {
            Part::Train => &self.split.train,
            Part::Validation => &self.split.validation,
            Part::Test => &self.split.test,
        }
    }
}

/// The public ETHOS file has votes; the codelab calls those at or above the median 'Negative'.
fn rule(table: &Table, roles: &Roles, how: &Preparing) -> LabelRule {
    let number = |c: usize| table.rows.iter().all(|r| r.fields[c].trim().parse::<f64>().is_ok());
    let votes = how.split == SplitChoice::Codelab && roles.label.is_some_and(number);
    if votes && how.rule == LabelRule::AsIs {
        return LabelRule::Median { above: "Negative".into(), below: "Positive".into() };
    }
    how.rule.clone()
}

fn limit_rows(
    split: &mut Split,
    labels: &[usize],
    rows: usize,
    in_order: bool,
) -> Result<(), PrepareError> {
    if in_order {
        split.limit_train(rows);
        return Ok(());
    }
    Ok(split.limit_train_by_class(labels, rows)?)
}

fn split(
    table: &Table,
    roles: &Roles,
    how: &Preparing,
    data: &Dataset,
    groups: &[usize],
) -> Result<(Split, String), PrepareError> {
    let labels = data.labels();
    let random = |share: f64| {
        let seed = how.seed;
        let words =
            format!("random, stratified by class: {share} of the rows are test rows, seed {seed}");
        Ok((Split::stratified(&labels, groups, share, seed)?, words))
    };
    let by_column = |column: usize| {
        let cells = data.examples.iter().map(|e| (e.line, e.split.as_deref().unwrap_or_default()));
        Ok((Split::by_column(cells)?, format!("by the column {:?}", table.columns[column])))
    };
    match (&how.split, roles.split) {
        (SplitChoice::Codelab, _) => Ok((
            Split::codelab(&labels)?,
            "the codelab's 800 training and 198 test rows".to_owned(),
        )),
        (SplitChoice::Share(share), _) => random(*share),
        (SplitChoice::Auto | SplitChoice::Column, Some(column)) => by_column(column),
        (SplitChoice::Column, None) => Err(PrepareError::NoSplitColumn),
        (SplitChoice::Auto, None) => random(TEST_SHARE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{columns::guess_roles, table};

    fn prepared(csv: &str, how: &Preparing) -> Result<Prepared, PrepareError> {
        let table =
            table::read(csv.as_bytes(), table::TableOptions::default(), &mut |_| {}).unwrap();
        let how = Preparing { positive: Some("yes".into()), ..how.clone() };
        Prepared::new("a.csv", &table, &guess_roles(&table), &how)
    }

    fn csv(rows: usize) -> String {
        let row = |i| format!("text number {i},{}\n", if i % 2 == 0 { "yes" } else { "no" });
        "text,label\n".to_owned() + &(0..rows).map(row).collect::<String>()
    }

    #[test]
    fn rows_train_choose_and_measure() {
        let mut all = prepared(&csv(100), &Preparing::default()).unwrap();
        assert_eq!((all.rows(Part::Train).len(), all.rows(Part::Test).len()), (80, 20));
        all.hold_out(0.25, 0).unwrap();
        assert_eq!((all.part(Part::Train).len(), all.part(Part::Validation).len()), (60, 20));
        assert!(all.summary.split.contains("0.2 of the rows"), "{}", all.summary.split);
        let limited = Preparing { limit: Some(10), ..Preparing::default() };
        assert_eq!(prepared(&csv(100), &limited).unwrap().part(Part::Train).len(), 10);
    }

    #[test]
    fn a_split_column_counts_where_there_is_one() {
        let text = "text,label,split\na,yes,train\nb,no,train\na,yes,test\nc,no,test\n";
        let all = prepared(text, &Preparing::default()).unwrap();
        assert_eq!((all.split.train.clone(), all.split.test.clone()), (vec![0, 1], vec![2, 3]));
        assert_eq!(all.duplicates, [Duplicate { train: 0, test: 0 }]);
        let by_column = Preparing { split: SplitChoice::Column, ..Preparing::default() };
        assert_eq!(prepared(&csv(10), &by_column), Err(PrepareError::NoSplitColumn));
    }

    #[test]
    fn a_class_that_never_trains_is_refused() {
        let text = "text,label,split\na,yes,train\nb,yes,train\nc,no,test\n";
        let mut all = prepared(text, &Preparing::default()).unwrap();
        let error = all.hold_out(0.0, 0).unwrap_err();
        assert_eq!(error, PrepareError::NothingToLearn(vec!["no".into()]));
    }
}
