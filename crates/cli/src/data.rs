//! From a file of labelled texts to what trains, chooses and measures.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use hearth_classifier::{
    columns::{
        self, Dataset, DatasetOptions, LabelRule, Roles, TextSource, duplicates, guess_roles,
        parse_template,
    },
    estimator::Labelled,
    report::DataSummary,
    split::{Part, Split},
    table::{self, Table, TableOptions},
};

use crate::output;

/// The file and its columns.
#[derive(Args)]
pub struct TableArgs {
    /// A CSV, TSV or JSON lines file; - reads standard input
    #[arg(value_name = "DATA")]
    pub data: PathBuf,
    /// The text's column, or a template such as '{title}: {body}' [default: guessed]
    #[arg(long, value_name = "COL")]
    pub text: Option<String>,
    /// The character between columns [default: guessed]
    #[arg(long, value_name = "CHAR")]
    delimiter: Option<char>,
    /// The first line is data, not column names
    #[arg(long)]
    no_header: bool,
    /// Leave out rows without text or label instead of refusing the file
    #[arg(long)]
    pub drop_bad: bool,
}

/// How labels become classes.
#[derive(Args)]
pub struct LabelArgs {
    /// The label's column [default: guessed]
    #[arg(long, value_name = "COL")]
    pub label: Option<String>,
    /// The class to find; F1, ROC-AUC and the threshold are about it
    #[arg(long, value_name = "LABEL")]
    pub positive: Option<String>,
    /// Makes a numeric label two classes at its median: ABOVE for the median and more, BELOW for less
    #[arg(long, value_name = "ABOVE,BELOW")]
    median: Option<String>,
    /// Makes a numeric label two classes at a number
    #[arg(long, value_name = "NUMBER,ABOVE,BELOW", conflicts_with = "median")]
    cut: Option<String>,
}

/// Which rows do what.
#[derive(Args)]
pub struct SplitArgs {
    /// A column with train, validation and test; 'codelab' for the public ETHOS file; or the share of rows
    /// to test [default: the file's split column, or 0.2]
    #[arg(long, value_name = "COL|codelab|SHARE")]
    pub split: Option<String>,
    /// Use only the first so many training rows
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

impl TableArgs {
    /// Reads the file.
    pub fn read(&self) -> Result<Table> {
        let delimiter = self.delimiter.map(u8::try_from).transpose();
        let options = TableOptions {
            delimiter: delimiter.context("--delimiter takes an ASCII character")?,
            header: self.no_header.then_some(false),
            ..TableOptions::default()
        };
        let name = self.name();
        let read = |source: &mut dyn std::io::Read| table::read(source, options, &mut |_| {});
        let table = if name == "-" {
            read(&mut std::io::stdin().lock())
        } else {
            let file = std::fs::File::open(&self.data).with_context(|| name.clone())?;
            read(&mut std::io::BufReader::new(file))
        };
        table.with_context(|| name)
    }

    /// The file as people know it.
    pub fn name(&self) -> String {
        self.data.display().to_string()
    }

    /// The columns that matter; `label` may be guessed.
    pub fn roles(&self, table: &Table, label: Option<&str>) -> Result<Roles> {
        let mut roles = guess_roles(table);
        if let Some(text) = &self.text {
            roles.text = if text.contains('{') && !table.columns.contains(text) {
                parse_template(text, table)?
            } else {
                TextSource::Column(columns::column(table, text)?)
            };
        }
        if let Some(label) = label {
            roles.label = Some(columns::column(table, label)?);
        }
        Ok(roles)
    }
}

impl LabelArgs {
    fn rule(&self, split: Option<&str>, table: &Table, roles: &Roles) -> Result<LabelRule> {
        let parts = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        if let Some(text) = &self.median {
            let [above, below] = <[String; 2]>::try_from(parts(text))
                .map_err(|_| anyhow::anyhow!("--median takes two names: ABOVE,BELOW"))?;
            return Ok(LabelRule::Median { above, below });
        }
        if let Some(text) = &self.cut {
            let wrong =
                || anyhow::anyhow!("--cut takes a number and two names: NUMBER,ABOVE,BELOW");
            let [number, above, below] =
                <[String; 3]>::try_from(parts(text)).map_err(|_| wrong())?;
            let threshold = number.parse().map_err(|_| wrong())?;
            return Ok(LabelRule::Threshold { threshold, above, below });
        }
        // the public file has votes; the codelab calls those at or above the median 'Negative'
        let numeric = roles.label.is_some_and(|c| {
            table.rows.iter().all(|row| row.fields[c].trim().parse::<f64>().is_ok())
        });
        if split == Some("codelab") && numeric {
            return Ok(LabelRule::Median { above: "Negative".into(), below: "Positive".into() });
        }
        Ok(LabelRule::AsIs)
    }
}

/// Labelled rows and their parts.
pub struct Prepared {
    /// The file.
    pub table: Table,
    /// The rows.
    pub data: Dataset,
    /// Who does what.
    pub split: Split,
    /// For the report.
    pub summary: DataSummary,
}

/// Reads, labels and splits.
pub fn prepare(
    file: &TableArgs,
    labels: &LabelArgs,
    split: &SplitArgs,
    seed: u64,
) -> Result<Prepared> {
    let table = file.read()?;
    let mut roles = file.roles(&table, labels.label.as_deref())?;
    let rule = labels.rule(split.split.as_deref(), &table, &roles)?;
    let wanted = split.split.as_deref();
    if let Some(name) = wanted.filter(|w| *w != "codelab" && w.parse::<f64>().is_err()) {
        roles.split = Some(columns::column(&table, name)?);
    }
    let options =
        DatasetOptions { rule, positive: labels.positive.clone(), drop_bad: file.drop_bad };
    let data = Dataset::from_table(&table, &roles, &options).with_context(|| file.name())?;
    let classes = data.labels();
    let by_column = || {
        let cells = data.examples.iter().map(|e| (e.row, e.split.as_deref().unwrap_or_default()));
        Split::by_column(cells)
    };
    let column = roles.split.map(|c| table.columns[c].clone()).unwrap_or_default();
    let (mut parts, words) = match wanted.map(|w| (w, w.parse::<f64>())) {
        Some(("codelab", _)) => (Split::codelab(&classes)?, "the codelab's 800 and 198".to_owned()),
        Some((_, Ok(share))) => random(&classes, share, seed)?,
        Some(_) => (by_column()?, format!("by the column {column:?}")),
        None if roles.split.is_some() => (by_column()?, format!("by the column {column:?}")),
        None => random(&classes, 0.2, seed)?,
    };
    if let Some(limit) = split.limit {
        parts.limit_train(limit);
    }
    let mut summary = DataSummary {
        file: file.data.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
        read_as: format!(
            "{}, {} between columns",
            table.dialect.encoding.encoding.name(),
            table.dialect.delimiter_name()
        ),
        split: words,
        dropped: data.dropped.clone(),
        ..DataSummary::default()
    };
    summary.duplicates = duplicates(
        parts.train.iter().chain(&parts.validation).map(|&i| data.examples[i].text.as_str()),
        parts.test.iter().map(|&i| data.examples[i].text.as_str()),
    )
    .len();
    Ok(Prepared { table, data, split: parts, summary })
}

fn random(classes: &[usize], share: f64, seed: u64) -> Result<(Split, String)> {
    let words = format!("at random, class by class: {share} of the rows test, seed {seed}");
    Ok((Split::stratified(classes, share, seed)?, words))
}

impl Prepared {
    /// Takes validation rows out of the training rows, and counts everything.
    pub fn hold_out(&mut self, share: f64, seed: u64) -> Result<()> {
        let labels = self.data.labels();
        self.split.hold_out_validation(&labels, share, seed)?;
        let counts = |part: &[usize]| {
            columns::class_counts(&self.data.classes, part.iter().map(|&i| labels[i]))
        };
        let [train, validation, test] =
            [&self.split.train, &self.split.validation, &self.split.test].map(|p| counts(p));
        if train.iter().any(|c| c.rows == 0) {
            let missing: Vec<&str> =
                train.iter().filter(|c| c.rows == 0).map(|c| c.class.as_str()).collect();
            bail!(
                "no training row has the class {}: raise --limit or change --split",
                missing.join(", ")
            );
        }
        self.summary.warnings = columns::warnings(&train);
        (self.summary.train, self.summary.validation, self.summary.test) =
            (train, validation, test);
        Ok(())
    }

    /// Text and class of a part's rows.
    pub fn rows(&self, part: Part) -> Vec<Labelled<'_>> {
        let of = |&i: &usize| (self.data.examples[i].text.as_str(), self.data.examples[i].label);
        self.part(part).iter().map(of).collect()
    }

    /// Indices of a part's rows.
    pub fn part(&self, part: Part) -> &[usize] {
        match part {
            Part::Train => &self.split.train,
            Part::Validation => &self.split.validation,
            Part::Test => &self.split.test,
        }
    }

    /// What a person should know before the run, on stderr.
    pub fn note(&self) {
        let rows = |part| self.part(part).len();
        output::note(&format!(
            "data       {} train, {} validation, {} test rows of {}",
            rows(Part::Train),
            rows(Part::Validation),
            rows(Part::Test),
            self.data.classes.join(", ")
        ));
        let duplicates = self.summary.duplicates;
        if duplicates > 0 {
            output::note(&format!(
                "warning: {duplicates} test rows have the same text as a training row: the figures flatter"
            ));
        }
        self.summary.warnings.iter().for_each(|w| output::note(&format!("warning: {w}")));
    }
}
