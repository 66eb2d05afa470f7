//! The record beside predictions that are being written: what they are of, and how far they are. `--resume` continues
//! from it, and `hearth merge-predictions` knows the parts by it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hearth_classifier::bundle::Bundle;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::input::{Input, Scanned};
use crate::run_folder::{beside, write_whole};

/// Version of the record.
const VERSION: u32 = 1;

/// What predictions are of. Two parts of a whole differ in nothing but the shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Of the classifier's content.
    pub classifier: String,
    /// The model's identity.
    pub model: String,
    /// The tables, in order.
    pub inputs: Vec<Table>,
    /// The columns of the result before the predictions.
    pub columns: Vec<String>,
    /// Whether cells are guarded against spreadsheets.
    pub for_spreadsheets: bool,
    /// I and N of --shard I/N.
    pub shard: Option<(u64, u64)>,
}

/// A table that predictions are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// As it was given.
    pub name: String,
    /// Of its bytes.
    pub sha256: String,
    /// Its rows.
    pub rows: u64,
}

impl Task {
    pub fn new(
        bundle: &Bundle,
        model: &str,
        inputs: &[Input],
        scanned: &[Scanned],
        shard: Option<(u64, u64)>,
        columns: &[String],
    ) -> Self {
        let mut hash = Sha256::new();
        // texts and numbers only, so serialization cannot fail
        hash.update(serde_json::to_vec(&bundle.classifier).unwrap_or_default());
        hash.update(&bundle.adapter);
        let table = |(input, scanned): (&Input, &Scanned)| Table {
            name: input.name.clone(),
            sha256: scanned.sha256.clone(),
            rows: scanned.rows,
        };
        Self {
            classifier: hex::encode(hash.finalize()),
            model: model.to_owned(),
            inputs: inputs.iter().zip(scanned).map(table).collect(),
            columns: columns.to_vec(),
            for_spreadsheets: false,
            shard,
        }
    }

    pub fn for_spreadsheets(mut self, guarded: bool) -> Self {
        self.for_spreadsheets = guarded;
        self
    }

    /// What is not the same in another task, in words; nothing if they are one.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        // a file may have moved: its content counts
        let content = |task: &Self| -> Vec<String> {
            task.inputs.iter().map(|table| table.sha256.clone()).collect()
        };
        [
            ("the classifier", self.classifier != other.classifier),
            ("the model", self.model != other.model),
            ("the tables", content(self) != content(other)),
            ("the columns", self.columns != other.columns),
            ("--for-spreadsheets", self.for_spreadsheets != other.for_spreadsheets),
            ("--shard", self.shard != other.shard),
        ]
        .into_iter()
        .filter_map(|(what, differs)| differs.then_some(what))
        .collect()
    }
}

/// How far predictions are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    version: u32,
    /// What they are of.
    pub task: Task,
    /// Rows that are in the file.
    pub rows: u64,
    /// The file's length with these rows, in bytes.
    pub bytes: u64,
    /// Whether these are all.
    pub complete: bool,
}

/// The record's path beside a file of predictions.
pub fn record_of(path: &Path) -> PathBuf {
    beside(path, ".progress")
}

impl Progress {
    pub fn new(task: Task) -> Self {
        Self { version: VERSION, task, rows: 0, bytes: 0, complete: false }
    }

    /// Reads the record beside a file of predictions.
    pub fn read(path: &Path) -> Result<Self> {
        let record = record_of(path);
        let at = || format!("{}: reading the record of the predictions", record.display());
        let read: Self =
            serde_json::from_slice(&std::fs::read(&record).with_context(at)?).with_context(at)?;
        if read.version != VERSION {
            bail!(
                "{}: this record has version {}, and {VERSION} is read",
                record.display(),
                read.version
            );
        }
        Ok(read)
    }

    /// The record of a run that is to be continued.
    pub fn resume(path: &Path, task: &Task) -> Result<Self> {
        if !record_of(path).exists() {
            bail!(
                "{}: there is no record {} beside it, so it is complete or of another program; start over with --force",
                path.display(),
                record_of(path).display()
            );
        }
        let read = Self::read(path)?;
        let differences = read.task.differences(task);
        if !differences.is_empty() {
            bail!(
                "{}: these predictions were begun with something else: {} differ; restore what changed, or start over with \
                 --force",
                path.display(),
                differences.join(", ")
            );
        }
        Ok(read)
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let record = record_of(path);
        let at = || format!("{}: writing", record.display());
        write_whole(&record, &serde_json::to_vec_pretty(self).with_context(at)?).with_context(at)
    }
}
