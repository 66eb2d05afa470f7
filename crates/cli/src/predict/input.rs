//! The tables to classify: files, and standard input, which is put into a temporary file, as a table is read more than
//! once.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hearth_classifier::{
    columns::{Roles, check_texts},
    origin::TextReading,
    table::{Row, RowReader, Table, TableOptions},
};
use sha2::{Digest, Sha256};

use crate::{
    data::{ColumnArgs, TableArgs},
    reading::Reading,
};

/// Rows from which the columns are guessed where the user and the classifier do not say them.
const HEAD: usize = 10_000;

/// A file.
pub struct Input {
    /// As people know it.
    pub name: String,
    path: PathBuf,
    temporary: bool,
}

impl Drop for Input {
    fn drop(&mut self) {
        if self.temporary {
            // it is in the folder of temporary files, which the system clears
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What a pass over a file found.
pub struct Scanned {
    /// Columns, dialect and warnings, without rows.
    pub head: Table,
    /// All rows.
    pub rows: u64,
    /// Of the file's bytes, in hex.
    pub sha256: String,
    /// For people.
    pub reading: Reading,
    options: TableOptions,
    roles: Roles,
}

impl Scanned {
    /// The text of a row, which may have fewer fields than the table has columns.
    pub fn text_of(&self, row: &Row) -> String {
        if row.fields.len() >= self.head.columns.len() {
            return self.roles.text.of(row);
        }
        let mut row = row.clone();
        row.fields.resize(self.head.columns.len(), String::new());
        self.roles.text.of(&row)
    }
}

/// A file as it is read with some options.
struct Pass {
    head: Table,
    rows: u64,
    sha256: String,
    options: TableOptions,
}

impl Input {
    /// A file, or a copy of standard input.
    pub fn open(data: &Path) -> Result<Self> {
        let name = data.display().to_string();
        if name != "-" {
            return Ok(Self { name, path: data.to_owned(), temporary: false });
        }
        let path = std::env::temp_dir().join(format!("hearth-input-{}", std::process::id()));
        let at = || format!("{}: keeping standard input", path.display());
        let mut file = File::options().write(true).create_new(true).open(&path).with_context(at)?;
        let input = Self { name, path: path.clone(), temporary: true };
        io::copy(&mut io::stdin().lock(), &mut file).with_context(at)?;
        Ok(input)
    }

    /// Whether this is standard input.
    pub fn is_standard(&self) -> bool {
        self.temporary
    }

    /// Reads the file once from start to end: what it is, how many rows it has, and which column is the text.
    pub fn scan(
        &self,
        columns: &ColumnArgs,
        lines: bool,
        trained: Option<&TextReading>,
    ) -> Result<Scanned> {
        let table = TableArgs { data: PathBuf::from(&self.name), columns: columns.clone() };
        let Pass { mut head, rows, sha256, options } = match lines {
            true => self.pass(columns.reading.options(true)?)?,
            false => table.find_for(trained, |options| self.pass(options), |pass| &pass.head)?,
        };
        let (roles, reading) = table.roles_of(&head, None, trained)?;
        let reading = reading.without_label().with_rows(rows as usize);
        reading.note();
        check_texts(&head, &roles).with_context(|| self.name.clone())?;
        let has_text = head.rows.iter().any(|row| !roles.text.of(row).trim().is_empty());
        if !has_text && rows == head.rows.len() as u64 {
            bail!("{}: no row has any text", self.name);
        }
        // of many files only one is held at a time
        head.rows = Vec::new();
        Ok(Scanned { head, rows, sha256, reading, options, roles })
    }

    fn pass(&self, options: TableOptions) -> Result<Pass> {
        let mut hash = Sha256::new();
        let open = || File::open(&self.path);
        let reader = RowReader::new(open, options.clone(), |bytes| hash.update(bytes));
        let mut reader = reader.with_context(|| self.name.clone())?;
        let (mut first, mut rows) = (Vec::new(), 0);
        for row in reader.by_ref() {
            let row = row.with_context(|| self.name.clone())?;
            rows += 1;
            if first.len() < HEAD {
                first.push(row);
            }
        }
        let head = reader.into_table(first).with_context(|| self.name.clone())?;
        Ok(Pass { head, rows, sha256: hex::encode(hash.finalize()), options })
    }

    /// The rows once more.
    pub fn rows(&self, scanned: &Scanned) -> Result<RowReader<File>> {
        let open = || File::open(&self.path);
        let reader = RowReader::new(open, scanned.options.clone(), |_| {});
        reader.with_context(|| self.name.clone())
    }
}
