//! Predictions as CSV: the input's columns, followed by the class and the probabilities.
//!
//! Texts are written byte for byte. A spreadsheet evaluates a cell that starts like a formula: for spreadsheets
//! such cells are prefixed with an apostrophe (OWASP, "CSV Injection"), which readers do not remove. Plain
//! numbers such as -3.5 are not formulas and are not changed.

use std::borrow::Cow;
use std::io::Write;

use thiserror::Error;

/// Predictions that cannot be written.
#[derive(Debug, Error)]
pub enum PredictionsError {
    /// A row whose width differs from the header's.
    #[error(
        "row {row}: {found} cells and {probabilities} probabilities; expected {expected} and {classes}"
    )]
    Width {
        /// Row, from 1.
        row: usize,
        /// Cells found.
        found: usize,
        /// Cells expected.
        expected: usize,
        /// Probabilities found.
        probabilities: usize,
        /// Classes.
        classes: usize,
    },
    /// A predicted class that does not exist.
    #[error("row {row}: class {found} of {classes}")]
    Class {
        /// Row, from 1.
        row: usize,
        /// The class's index.
        found: usize,
        /// Classes.
        classes: usize,
    },
    /// The output failed.
    #[error("cannot write the predictions: {0}")]
    Write(#[from] csv::Error),
}

/// Writes predictions row by row.
pub struct PredictionsWriter<W: Write> {
    csv: csv::Writer<W>,
    columns: usize,
    classes: Vec<String>,
    for_spreadsheets: bool,
    row: usize,
}

impl<W: Write> PredictionsWriter<W> {
    /// Writes the header: `columns`, `prediction`, and a `p(class)` for every class. `for_spreadsheets` guards
    /// cells that a spreadsheet would run.
    pub fn new(
        out: W,
        columns: &[String],
        classes: &[String],
        for_spreadsheets: bool,
    ) -> Result<Self, PredictionsError> {
        let mut writer = Self::continued(out, columns, classes, for_spreadsheets);
        writer.header(columns)?;
        Ok(writer)
    }

    /// As [`new`](Self::new), without the header: for rows behind others of the same file.
    pub fn continued(
        out: W,
        columns: &[String],
        classes: &[String],
        for_spreadsheets: bool,
    ) -> Self {
        // a byte-order mark would help one spreadsheet and break many scripts: none is written
        let csv =
            csv::WriterBuilder::new().quote_style(csv::QuoteStyle::NonNumeric).from_writer(out);
        Self { csv, columns: columns.len(), classes: classes.to_vec(), for_spreadsheets, row: 0 }
    }

    fn header(&mut self, columns: &[String]) -> Result<(), PredictionsError> {
        let (classes, for_spreadsheets) = (&self.classes, self.for_spreadsheets);
        let mut header: Vec<Cow<'_, str>> =
            columns.iter().map(|c| guarded(c, for_spreadsheets)).collect();
        for added in std::iter::once("prediction".to_string())
            .chain(classes.iter().map(|c| format!("p({c})")))
        {
            header.push(unused(&header, guarded(&added, for_spreadsheets).into_owned()).into());
        }
        Ok(self.csv.write_record(header.iter().map(|c| c.as_bytes()))?)
    }

    /// Writes a row: its cells, the predicted class (none for a row without text) and the probabilities `[C]`.
    pub fn write(
        &mut self,
        cells: &[String],
        prediction: Option<usize>,
        probabilities: &[f64],
    ) -> Result<(), PredictionsError> {
        self.row += 1;
        let classes = self.classes.len();
        let expected = if prediction.is_some() { classes } else { 0 };
        if cells.len() != self.columns || probabilities.len() != expected {
            return Err(PredictionsError::Width {
                row: self.row,
                found: cells.len(),
                expected: self.columns,
                probabilities: probabilities.len(),
                classes,
            });
        }
        if let Some(found) = prediction.filter(|&p| p >= classes) {
            return Err(PredictionsError::Class { row: self.row, found, classes });
        }
        let class = prediction.map_or("", |p| &self.classes[p]);
        let mut record: Vec<Cow<'_, str>> =
            cells.iter().map(|c| guarded(c, self.for_spreadsheets)).collect();
        record.push(guarded(class, self.for_spreadsheets));
        record.extend(probabilities.iter().map(|p| Cow::from(format!("{p:.6}"))));
        record.resize(self.columns + 1 + classes, Cow::from(""));
        self.csv.write_record(record.iter().map(|c| c.as_bytes()))?;
        Ok(())
    }

    /// Flushes the output.
    pub fn flush(&mut self) -> Result<(), PredictionsError> {
        self.csv.flush().map_err(|e| PredictionsError::Write(e.into()))
    }
}

/// A column name that is not in use.
pub fn unused(taken: &[impl AsRef<str>], name: String) -> String {
    let free = |candidate: &String| !taken.iter().any(|t| t.as_ref() == candidate);
    if free(&name) {
        return name;
    }
    (2..).map(|n| format!("{name} ({n})")).find(free).unwrap_or(name)
}

fn guarded(cell: &str, for_spreadsheets: bool) -> Cow<'_, str> {
    if for_spreadsheets { safe_cell(cell) } else { Cow::from(cell) }
}

/// A cell that no spreadsheet evaluates as a formula.
pub fn safe_cell(cell: &str) -> Cow<'_, str> {
    // the wide forms are formulas in East Asian spreadsheets
    let starts = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];
    // some spreadsheets drop spaces before they look
    let risky = cell.starts_with(['\t', '\r', '\n']) || cell.trim_start().starts_with(starts);
    if risky && !is_plain_number(cell) { Cow::from(format!("'{cell}")) } else { Cow::from(cell) }
}

/// A sign, digits, perhaps a fraction and an exponent.
fn is_plain_number(cell: &str) -> bool {
    let digits = cell.strip_prefix(['+', '-']).unwrap_or(cell);
    let allowed = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(allowed)
        && cell.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(
        columns: &[&str],
        rows: &[(&[&str], Option<usize>, &[f64])],
    ) -> Result<String, PredictionsError> {
        write_for(columns, rows, true)
    }

    fn write_for(
        columns: &[&str],
        rows: &[(&[&str], Option<usize>, &[f64])],
        for_spreadsheets: bool,
    ) -> Result<String, PredictionsError> {
        let strings = |cells: &[&str]| cells.iter().map(|c| c.to_string()).collect::<Vec<_>>();
        let mut out = Vec::new();
        let mut writer = PredictionsWriter::new(
            &mut out,
            &strings(columns),
            &strings(&["=no", "yes"]),
            for_spreadsheets,
        )?;
        for (cells, prediction, probabilities) in rows {
            writer.write(&strings(cells), *prediction, probabilities)?;
        }
        writer.flush()?;
        drop(writer);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn columns_are_added_behind_the_input() {
        let rows: &[(&[&str], _, &[f64])] =
            &[(&["a \"b\"\n;c", "-3.5"], Some(0), &[0.75, 0.25]), (&["", "7"], None, &[])];
        let expected = "\"text\",\"prediction\",\"prediction (2)\",\"p(=no)\",\"p(yes)\"\n\
             \"a \"\"b\"\"\n;c\",-3.5,\"'=no\",0.750000,0.250000\n\"\",7,\"\",\"\",\"\"\n";
        assert_eq!(write(&["text", "prediction"], rows).unwrap(), expected);
    }

    #[test]
    fn formulas_become_text() {
        let formulas = [
            "=1+1",
            "+1+1",
            "-1+1",
            "@SUM(1)",
            "\tx",
            "\rx",
            "\nx",
            " =1",
            "＝1",
            "-",
            "+",
            "-inf",
            "-1e5|cmd",
            "=cmd|' /C calc'!A0",
        ];
        for cell in formulas {
            assert_eq!(safe_cell(cell), format!("'{cell}"), "{cell:?}");
        }
        for cell in ["", "a=1", "-3.5", "+49", "-1e-5", "'=1", "1-2", "é", "…-"] {
            assert_eq!(safe_cell(cell), cell);
        }
        assert!(write(&["=text"], &[]).unwrap().starts_with("\"'=text\""));
    }

    #[test]
    fn texts_come_back_as_they_were() {
        let texts = [
            "@you", "=1+1", "'=1", "-", "\tx", "a\r\nb", "\r", " lead", "\"q\"", "+49 1", "007",
            "", "x,y;z",
        ];
        let rows: Vec<[&str; 2]> = texts.iter().map(|t| [*t, "k"]).collect();
        let rows: Vec<(&[&str], Option<usize>, &[f64])> =
            rows.iter().map(|r| (&r[..], Some(0), &[0.75, 0.25][..])).collect();
        let csv = write_for(&["text", "=key"], &rows, false).unwrap();
        let table = crate::table::read(csv.as_bytes(), Default::default(), &mut |_| {}).unwrap();
        assert_eq!(table.columns, ["text", "=key", "prediction", "p(=no)", "p(yes)"]);
        let back: Vec<&str> = table.rows.iter().map(|r| r.fields[0].as_str()).collect();
        assert_eq!(back, texts);
        assert!(table.rows.iter().all(|r| r.fields[2] == "=no"));
    }

    #[test]
    fn a_continued_file_is_the_same_file() {
        let (columns, classes) = (["text".to_owned()], ["no", "yes"].map(str::to_owned));
        let row = ["a".to_owned()];
        let (mut whole, mut parts) = (Vec::new(), Vec::new());
        let mut writer = PredictionsWriter::new(&mut whole, &columns, &classes, false).unwrap();
        writer.write(&row, Some(0), &[0.75, 0.25]).unwrap();
        writer.write(&row, None, &[]).unwrap();
        writer.flush().unwrap();
        drop(writer);
        let mut writer = PredictionsWriter::new(&mut parts, &columns, &classes, false).unwrap();
        writer.write(&row, Some(0), &[0.75, 0.25]).unwrap();
        writer.flush().unwrap();
        drop(writer);
        let mut writer = PredictionsWriter::continued(&mut parts, &columns, &classes, false);
        writer.write(&row, None, &[]).unwrap();
        writer.flush().unwrap();
        drop(writer);
        assert_eq!(parts, whole);
    }

    #[test]
    fn wrong_rows_are_refused() {
        let message = |row: (&[&str], Option<usize>, &[f64])| {
            write(&["text"], &[row]).unwrap_err().to_string()
        };
        assert!(message((&[], Some(0), &[0.5, 0.5])).starts_with("row 1: 0 cells"));
        assert!(message((&["a"], Some(0), &[0.5])).contains("1 probabilities"));
        assert!(message((&["a"], Some(2), &[0.5, 0.5])).contains("class 2 of 2"));
    }
}
