//! What the data looks like: class counts, repeated texts, token lengths, warnings.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::labels::shell_word;

/// Rows of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ClassCount {
    /// The class.
    pub class: String,
    /// Its rows.
    pub rows: usize,
}

/// Rows of each class, classes without rows included.
pub fn class_counts(
    classes: &[String],
    labels: impl IntoIterator<Item = usize>,
) -> Vec<ClassCount> {
    let mut rows = vec![0; classes.len()];
    labels.into_iter().for_each(|label| rows[label] += 1);
    classes
        .iter()
        .zip(rows)
        .map(|(class, rows)| ClassCount { class: class.clone(), rows })
        .collect()
}

/// A class this many times larger than another is worth a warning.
const IMBALANCE: usize = 4;
/// Fewer rows of a class than this teach little.
const FEW: usize = 10;

/// Classes of few rows that are named one by one.
const NAMED: usize = 5;

/// Warnings about the training rows' classes, in words.
pub fn warnings(counts: &[ClassCount]) -> Vec<String> {
    let few: Vec<&ClassCount> = counts.iter().filter(|c| c.rows < FEW).collect();
    let mut found: Vec<String> = few
        .iter()
        .take(NAMED)
        .map(|c| {
            let rows = if c.rows == 1 { "row" } else { "rows" };
            format!("class {:?} has only {} training {rows}", c.class, c.rows)
        })
        .collect();
    if few.len() > NAMED {
        let more = few.len() - NAMED;
        let classes = if more == 1 { "class has" } else { "classes have" };
        found.push(format!("{more} more {classes} fewer than {FEW} training rows"));
    }
    let small = counts.iter().min_by_key(|c| c.rows);
    let large = counts.iter().max_by_key(|c| c.rows);
    if let (Some(small), Some(large)) = (small, large)
        && large.rows > IMBALANCE * small.rows
    {
        found.push(format!(
            "the classes are unbalanced: {} rows of {:?} against {} of {:?}; accuracy says little here: \
             look at F1 and ROC-AUC, and consider class weights",
            large.rows, large.class, small.rows, small.class
        ));
    }
    found
}

/// What the parts cannot show for want of rows, in words: classes with one or two rows in all, and classes
/// that the test part lacks.
pub fn part_warnings(
    train: &[ClassCount],
    validation: &[ClassCount],
    test: &[ClassCount],
) -> Vec<String> {
    let mut found = Vec::new();
    let rows = |part: &[ClassCount], i: usize| part.get(i).map_or(0, |c| c.rows);
    let any = |part: &[ClassCount]| part.iter().any(|c| c.rows > 0);
    for (i, class) in train.iter().enumerate() {
        let parts = [train, validation, test].map(|part| rows(part, i));
        let all = parts.iter().sum::<usize>();
        if all > 2 {
            continue;
        }
        let only = if all == 1 { "row" } else { "rows" };
        let needed = 1 + usize::from(any(validation)) + usize::from(any(test));
        let lacks = match all < needed {
            true => format!(" ({needed} are needed for one in each part)"),
            false => String::new(),
        };
        found.push(format!(
            "class {:?} has only {all} {only} in the file: {} for training, {} for validation, {} for testing{lacks}; \
             add rows, or leave the class out (--drop-class {})",
            class.class,
            parts[0],
            parts[1],
            parts[2],
            shell_word(&class.class)
        ));
    }
    let names = |counts: Vec<&ClassCount>| {
        let shown: Vec<String> =
            counts.iter().take(NAMED).map(|c| format!("{:?}", c.class)).collect();
        shown.join(", ") + if counts.len() > NAMED { ", …" } else { "" }
    };
    let lacking: Vec<&ClassCount> = test.iter().filter(|c| c.rows == 0).collect();
    if !lacking.is_empty() && lacking.len() < test.len() {
        let several = if lacking.len() == 1 { "it" } else { "them" };
        found.push(format!(
            "the test part has no row of {}: F1 and ROC-AUC of {several} cannot be measured, as they need rows \
             of a class and of others",
            names(lacking)
        ));
    }
    found
}

/// The same text on both sides of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicate {
    /// Place among the training texts.
    pub train: usize,
    /// Place among the test texts.
    pub test: usize,
}

/// Test texts that also train, by the groups of equal texts ([`Repeats::among`](super::Repeats::among)); each with its
/// first training twin.
pub fn duplicates(
    train: impl IntoIterator<Item = usize>,
    test: impl IntoIterator<Item = usize>,
) -> Vec<Duplicate> {
    let mut first = HashMap::new();
    for (i, group) in train.into_iter().enumerate() {
        first.entry(group).or_insert(i);
    }
    let twin = |(test, group)| first.get(&group).map(|&train| Duplicate { train, test });
    test.into_iter().enumerate().filter_map(twin).collect()
}

/// How long the prompts are, in tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct TokenHistogram {
    /// Tokens a bar covers; bar i holds lengths from `i * width` to `(i + 1) * width - 1`.
    pub width: usize,
    /// Rows a bar.
    pub bars: Vec<usize>,
    /// Mean length.
    pub mean: f64,
    /// Median length.
    pub median: f64,
    /// 95 of 100 rows are at most this long.
    pub p95: usize,
    /// The longest.
    pub longest: usize,
}

impl TokenHistogram {
    /// Of the rows' lengths, in at most 24 bars; none without rows.
    pub fn new(lengths: &[usize]) -> Option<Self> {
        let longest = *lengths.iter().max()?;
        let steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];
        let width = steps.into_iter().find(|w| longest / w < 24).unwrap_or(longest / 24 + 1);
        let mut bars = vec![0; longest / width + 1];
        lengths.iter().for_each(|n| bars[n / width] += 1);
        let mut sorted = lengths.to_vec();
        sorted.sort_unstable();
        // nearest rank
        let p95 = sorted[(sorted.len() * 95).div_ceil(100) - 1];
        let mut numbers: Vec<f64> = sorted.iter().map(|&n| n as f64).collect();
        let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
        Some(Self { width, bars, mean, median: median(&mut numbers), p95, longest })
    }
}

/// The middle value, or the mean of the two in the middle; 0 of nothing.
pub(super) fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => 0.0,
        n if n % 2 == 1 => numbers[n / 2],
        n => (numbers[n / 2 - 1] + numbers[n / 2]) / 2.0,
    }
}
