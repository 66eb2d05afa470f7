//! The report of a run: one HTML file that works offline and loads nothing, and the same data as JSON.
//!
//! Texts, labels and names are hostile: maud escapes everything that is interpolated, plots escape
//! their own, and the page's policy lets nothing run.

mod page;

use serde::{Deserialize, Serialize};

use crate::calibration::CalibrationBin;
use crate::columns::{BadRows, ClassCount, TokenHistogram};
use crate::history::{History, SweepPoint};
use crate::metrics::Evaluation;
use crate::origin::ThresholdFrom;
use crate::plots::PlotError;
use crate::prompt::PromptSpec;
use crate::recipe::Recipe;

/// Everything a report shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The heading.
    pub title: String,
    /// When it was made, as text.
    pub created: String,
    /// The exact command that repeats it.
    pub command: String,
    /// The base model, in words.
    pub model: String,
    /// Device and driver, in words.
    pub adapter: String,
    /// What was learned from.
    pub data: DataSummary,
    /// How it was learned.
    pub recipe: Recipe,
    /// What was asked.
    pub prompt: PromptSpec,
    /// The prompt filled with a text, as the model reads it.
    pub filled_prompt: String,
    /// Losses and epochs.
    pub history: History,
    /// Figures on the test rows.
    pub test: Option<Evaluation>,
    /// Figures on the validation rows.
    pub validation: Option<Evaluation>,
    /// Figures on the test rows before training, from the same prompt.
    pub zero_shot: Option<Evaluation>,
    /// Calibration of the test rows without the temperature.
    pub calibration_before: Option<Vec<CalibrationBin>>,
    /// The temperature in use.
    pub temperature: Option<f64>,
    /// Which rows chose the threshold.
    #[serde(default)]
    pub threshold_from: Option<ThresholdFrom>,
    /// The most confident wrong predictions, most confident first.
    pub mistakes: Vec<Mistake>,
    /// Runs of a sweep.
    #[serde(default)]
    pub sweep: Vec<SweepPoint>,
    /// Time and memory.
    pub speed: Speed,
}

/// Summary of the data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DataSummary {
    /// The file's name.
    pub file: String,
    /// How it was read: encoding, delimiter, columns.
    pub read_as: String,
    /// Training rows of each class.
    pub train: Vec<ClassCount>,
    /// Validation rows of each class.
    pub validation: Vec<ClassCount>,
    /// Test rows of each class.
    pub test: Vec<ClassCount>,
    /// How the rows were split, in words.
    pub split: String,
    /// Rows that were left out.
    pub dropped: BadRows,
    /// Test rows whose text is also a training row's.
    pub duplicates: usize,
    /// Rows whose text was truncated.
    pub cut: usize,
    /// Prompt lengths.
    pub tokens: Option<TokenHistogram>,
    /// Warnings, in words.
    pub warnings: Vec<String>,
}

impl DataSummary {
    /// Rows that train, validate or test.
    pub fn rows_in_use(&self) -> usize {
        [&self.train, &self.validation, &self.test].into_iter().flatten().map(|c| c.rows).sum()
    }
}

/// A wrong prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// Data row in the file, from 1.
    pub row: usize,
    /// The text.
    pub text: String,
    /// The true class.
    pub truth: String,
    /// The predicted class.
    pub predicted: String,
    /// Probability of the predicted class.
    pub probability: f64,
}

/// Time and memory of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Seconds of training.
    pub train_seconds: f64,
    /// Tokens per second while training.
    pub train_tokens_per_second: f64,
    /// Rows per second while scoring.
    pub score_rows_per_second: f64,
    /// Peak GPU memory, in bytes.
    pub gpu_bytes: u64,
    /// Peak memory of the program, in bytes; none if it is unknown.
    pub host_bytes: Option<u64>,
}

/// The most confident wrong predictions: `rows` gives each test row's (data row, text), in the order of `truth`.
pub fn worst_mistakes<'a>(
    scored: &crate::metrics::Scored<'_>,
    classes: &[String],
    rows: impl IntoIterator<Item = (usize, &'a str)>,
    limit: usize,
) -> Vec<Mistake> {
    let predicted = scored.predicted();
    let name = |class: usize| classes.get(class).cloned().unwrap_or_default();
    let mut wrong: Vec<Mistake> = rows
        .into_iter()
        .zip(scored.truth.iter().zip(&predicted))
        .zip(scored.probabilities.chunks_exact(scored.classes.max(1)))
        .filter(|((_, (truth, predicted)), _)| truth != predicted)
        .map(|(((row, text), (&truth, &predicted)), probabilities)| Mistake {
            row,
            text: text.into(),
            truth: name(truth),
            predicted: name(predicted),
            probability: probabilities[predicted],
        })
        .collect();
    wrong.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(a.row.cmp(&b.row)));
    wrong.truncate(limit);
    wrong
}

impl Report {
    /// One HTML file that needs nothing else.
    pub fn to_html(&self) -> Result<String, PlotError> {
        page::page(self)
    }

    /// The same figures for machines.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

#[cfg(test)]
#[path = "report/tests.rs"]
mod tests;
