//! From a file of labelled texts to what trains, chooses and measures.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use hearth_classifier::{
    columns::{
        self, Guessed, LabelChoices, LabelRule, Roles, TextSource, guess_roles_told,
        labels_in_list, parse_template,
    },
    origin::TextReading,
    prepare::{self, Preparing, SplitChoice},
    split::Part,
    table::{self, Table, TableOptions},
};

use crate::{output, reading::Reading, reading_args::ReadingArgs};

/// The file and its columns.
#[derive(Args)]
pub struct TableArgs {
    /// A CSV, TSV, JSON Lines or JSON file; - reads standard input
    #[arg(value_name = "DATA")]
    pub data: PathBuf,
    #[command(flatten)]
    pub columns: ColumnArgs,
}

/// How a file is read, and which of its columns is the text.
#[derive(Args, Clone)]
pub struct ColumnArgs {
    /// The text column, or a template such as '{title}: {body}' [default: guessed]
    #[arg(long, value_name = "COL")]
    pub text: Option<String>,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Leave out rows without text or label instead of refusing the file
    #[arg(long)]
    pub drop_bad: bool,
}

/// How labels become classes.
#[derive(Args)]
pub struct LabelArgs {
    /// The label column [default: guessed]
    #[arg(long, value_name = "COL")]
    pub label: Option<String>,
    /// The positive class: F1, ROC-AUC and the threshold are about it
    #[arg(long, value_name = "LABEL")]
    pub positive: Option<String>,
    #[command(flatten)]
    set: LabelSetArgs,
    /// Turns numeric labels into two classes at their median: ABOVE for the median and more, BELOW for less; a name
    /// with a comma needs double quotes
    #[arg(long, value_name = "ABOVE,BELOW")]
    median: Option<String>,
    /// Turns numeric labels into two classes at a number; put double quotes around a name with a comma
    #[arg(long, value_name = "NUMBER,ABOVE,BELOW", conflicts_with = "median")]
    cut: Option<String>,
}

/// Labels to merge or to leave out, which happens only on request.
#[derive(Args)]
pub struct LabelSetArgs {
    /// Merge labels that look alike (letter case, invisible characters) or have the same value (1 and 1.0)
    #[arg(long)]
    merge_labels: bool,
    /// Leave out rows with these labels, which stand for a missing one; a label with commas counts as one, and
    /// the option may be given several times
    #[arg(long, value_name = "LABEL,…")]
    missing: Vec<String>,
    /// Leave out the rows of a class; may be given several times
    #[arg(long, value_name = "LABEL")]
    drop_class: Vec<String>,
}

impl LabelSetArgs {
    /// As the reader takes them, for a table whose labels are in a column.
    pub fn choices(&self, table: &Table, label: Option<usize>) -> LabelChoices {
        let labels: BTreeSet<&str> = label
            .into_iter()
            .flat_map(|c| table.rows.iter().map(move |r| r.fields[c].trim()))
            .collect();
        LabelChoices {
            merge: self.merge_labels,
            missing: self.missing.iter().flat_map(|list| labels_in_list(list, &labels)).collect(),
            drop: self.drop_class.clone(),
        }
    }
}

/// Which rows do what.
#[derive(Args)]
pub struct SplitArgs {
    /// A column that says train, validation or test; 'codelab' for the public ETHOS file; or the share of test
    /// rows [default: the file's split column, or 0.2]
    #[arg(long, value_name = "COL|codelab|SHARE")]
    pub split: Option<String>,
    /// Use only this many training rows, with the classes in the same proportions
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Seed of the random split into training and test rows; it stays the same where --seed changes, so that
    /// runs are evaluated on the same rows
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub split_seed: u64,
}

impl TableArgs {
    /// Reads the file.
    pub fn read(&self) -> Result<Table> {
        self.read_as(self.columns.reading.options(false)?)
    }

    /// Reads the file as the options say.
    pub fn read_as(&self, options: TableOptions) -> Result<Table> {
        let name = self.name();
        let table = if name == "-" {
            table::read(&mut std::io::stdin().lock(), options, &mut |_| {})
        } else {
            let file = std::fs::File::open(&self.data).with_context(|| name.clone())?;
            table::read(file, options, &mut |_| {})
        };
        table.with_context(|| name)
    }

    /// Reads the file for a classifier: as its training table was written, where its columns are found so, else by
    /// the file's own look. What the user says counts more; standard input is read once, by its own look.
    pub fn read_for(&self, trained: Option<&TextReading>) -> Result<Table> {
        self.find_for(trained, |options| self.read_as(options), |table| table)
    }

    /// As [`Self::read_for`], with any way to read the file; `table` gives the columns of what was read.
    pub fn find_for<T>(
        &self,
        trained: Option<&TextReading>,
        mut read: impl FnMut(TableOptions) -> Result<T>,
        table: impl Fn(&T) -> &Table,
    ) -> Result<T> {
        let given = self.columns.reading.options(false)?;
        let Some(trained) = trained.filter(|_| self.columns.text.is_none() && self.name() != "-")
        else {
            return read(given);
        };
        for attempt in trained.attempts() {
            let options = TableOptions {
                format: given.format.or(attempt.format),
                delimiter: given.delimiter.clone().or(attempt.delimiter),
                header: given.header.or(attempt.header),
                ..given.clone()
            };
            let Ok(found) = read(options.clone()) else { continue };
            if trained.find(table(&found)).is_ok() {
                return match trained.encoding_for(table(&found)) {
                    Some(encoding) => read(TableOptions { encoding: Some(encoding), ..options }),
                    None => Ok(found),
                };
            }
        }
        read(given)
    }

    /// As [`Self::roles`], with the text where a classifier's was, unless the user says otherwise.
    pub fn roles_of(
        &self,
        table: &Table,
        label: Option<&str>,
        trained: Option<&TextReading>,
    ) -> Result<(Roles, Reading)> {
        let Some(trained) = trained.filter(|_| self.columns.text.is_none()) else {
            return self.roles(table, label);
        };
        let text = trained.find(table).map_err(|missing| {
            anyhow::anyhow!(
                "{}: the classifier reads the text from the column {}, and there is no column {} among {}; set the text column with --text",
                self.name(),
                trained.words(),
                missing.join(", "),
                table.columns.join(", ")
            )
        })?;
        self.roles_with(table, label, Some((text, "as in training")))
    }

    /// The file as people know it.
    pub fn name(&self) -> String {
        self.data.display().to_string()
    }

    /// The columns that matter, and what was read; `label` may be guessed.
    pub fn roles(&self, table: &Table, label: Option<&str>) -> Result<(Roles, Reading)> {
        let text = match &self.columns.text {
            Some(text) if text.contains('{') && !table.columns.contains(text) => {
                Some(parse_template(text, table)?)
            }
            Some(text) => Some(TextSource::Column(columns::column(table, text)?)),
            None => None,
        };
        self.roles_with(table, label, text.map(|text| (text, "as given")))
    }

    fn roles_with(
        &self,
        table: &Table,
        label: Option<&str>,
        text: Option<(TextSource, &'static str)>,
    ) -> Result<(Roles, Reading)> {
        let Guessed { mut roles, text: mut how_text, label: mut how_label, mut warnings } =
            guess_roles_told(table);
        if let Some((text, how)) = text {
            (roles.text, how_text) = (text, how);
            warnings.retain(|w| !w.starts_with("the text"));
            // the label is not the column that is now the text
            if roles.label.is_some_and(|l| roles.text.columns().contains(&l)) {
                roles.label = None;
            }
        }
        if let Some(label) = label {
            roles.label = Some(columns::column(table, label)?);
            how_label = "as given";
            warnings.retain(|w| !w.starts_with("the label"));
        }
        let reading = Reading::of(table, &roles, how_text, how_label, warnings);
        Ok((roles, reading))
    }
}

impl LabelArgs {
    fn rule(&self) -> Result<LabelRule> {
        if let Some(text) = &self.median {
            let [above, below] = in_list("--median", "two names: ABOVE,BELOW", text)?;
            return Ok(LabelRule::Median { above, below });
        }
        if let Some(text) = &self.cut {
            let wanted = "a number and two names: NUMBER,ABOVE,BELOW";
            let [number, above, below] = in_list("--cut", wanted, text)?;
            let threshold = columns::number(&number).ok_or_else(|| {
                anyhow!("--cut {text:?}: {number:?} is not a number; expected {wanted}")
            })?;
            return Ok(LabelRule::Threshold { threshold, above, below });
        }
        Ok(LabelRule::AsIs)
    }
}

/// The entries of a list whose number is known. An entry with a comma stands in double quotes, as in CSV.
fn in_list<const N: usize>(option: &str, wanted: &str, text: &str) -> Result<[String; N]> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    let record = reader.records().next().and_then(Result::ok).unwrap_or_default();
    let all: Vec<String> = record.iter().map(|entry| entry.trim().to_owned()).collect();
    let found = all.len();
    let all = <[String; N]>::try_from(all).map_err(|_| {
        anyhow!(
            "{option} {text:?}: {found} entries; expected {wanted}; put double quotes around an entry with a \
             comma in it, such as '\"so, so\",bad'"
        )
    })?;
    if all.iter().any(String::is_empty) || (N > 1 && all[N - 1] == all[N - 2]) {
        bail!("{option} {text:?}: expected {wanted}, with two different names that are not empty");
    }
    Ok(all)
}

/// Classes that are shown one by one.
const SHOWN: usize = 24;

/// Names of classes; quotes stand around one that would look like several.
fn class_list(classes: &[String]) -> String {
    let name = |class: &String| match class.contains([',', '"']) {
        true => format!("{class:?}"),
        false => class.clone(),
    };
    let shown: Vec<String> = classes.iter().take(SHOWN).map(name).collect();
    let more = match classes.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more classes"),
    };
    shown.join(", ") + &more
}

/// A file, and its rows with their parts.
pub struct Prepared {
    /// The file.
    pub table: Table,
    /// How it was read.
    pub reading: Reading,
    /// Where its texts come from.
    pub text: TextSource,
    rows: prepare::Prepared,
}

impl std::ops::Deref for Prepared {
    type Target = prepare::Prepared;

    fn deref(&self) -> &Self::Target {
        &self.rows
    }
}

impl std::ops::DerefMut for Prepared {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.rows
    }
}

/// Reads, labels and splits.
pub fn prepare(file: &TableArgs, labels: &LabelArgs, split: &SplitArgs) -> Result<Prepared> {
    let table = file.read()?;
    let (mut roles, reading) = file.roles(&table, labels.label.as_deref())?;
    let choice = match split.split.as_deref().map(|wanted| (wanted, wanted.parse::<f64>())) {
        None => SplitChoice::Auto,
        Some(("codelab", _)) => SplitChoice::Codelab,
        Some((_, Ok(share))) => SplitChoice::Share(share),
        Some((name, Err(_))) => {
            roles.split = Some(columns::column(&table, name)?);
            SplitChoice::Column
        }
    };
    let how = Preparing {
        rule: labels.rule()?,
        positive: labels.positive.clone(),
        drop_bad: file.columns.drop_bad,
        labels: labels.set.choices(&table, roles.label),
        split: choice,
        limit: split.limit,
        seed: split.split_seed,
    };
    let name = file.data.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    reading.note();
    let rows = prepare::Prepared::new(&name, &table, &roles, &how).with_context(|| file.name())?;
    Ok(Prepared { table, reading, text: roles.text, rows })
}

impl Prepared {
    /// What a person should know before the run, on stderr.
    pub fn note(&self) {
        let rows = |part| self.part(part).len();
        output::note(&format!(
            "data       {} train, {} validation, {} test rows of {}",
            rows(Part::Train),
            rows(Part::Validation),
            rows(Part::Test),
            class_list(&self.data.classes)
        ));
        let duplicates = self.summary.duplicates;
        if duplicates > 0 {
            output::note(&format!(
                "warning: {duplicates} test rows have the same text as a training row: the figures are too optimistic"
            ));
        }
        let dropped = self.data.dropped.words(&self.table);
        let all = dropped.iter().chain(&self.summary.warnings);
        all.for_each(|w| output::note(&format!("warning: {w}")));
    }
}
