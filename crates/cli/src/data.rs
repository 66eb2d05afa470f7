//! From a file of labelled texts to what trains, chooses and measures.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use hearth_classifier::{
    columns::{self, LabelRule, Roles, TextSource, guess_roles, parse_template},
    prepare::{self, Preparing, SplitChoice},
    split::Part,
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
    fn rule(&self) -> Result<LabelRule> {
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
        Ok(LabelRule::AsIs)
    }
}

/// A file, and its rows with their parts.
pub struct Prepared {
    /// The file.
    pub table: Table,
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
pub fn prepare(
    file: &TableArgs,
    labels: &LabelArgs,
    split: &SplitArgs,
    seed: u64,
) -> Result<Prepared> {
    let table = file.read()?;
    let mut roles = file.roles(&table, labels.label.as_deref())?;
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
        drop_bad: file.drop_bad,
        split: choice,
        limit: split.limit,
        seed,
    };
    let name = file.data.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let rows = prepare::Prepared::new(&name, &table, &roles, &how).with_context(|| file.name())?;
    Ok(Prepared { table, rows })
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
