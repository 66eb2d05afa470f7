//! Which rows train, which choose (validation) and which are only measured (test).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use hearth_rng::Rng;

/// A split that cannot be made.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum SplitError {
    /// A value of the split column that means nothing.
    #[error(
        "line {line}: split {found:?}; expected train, validation (or val, valid, dev) or test"
    )]
    UnknownPart {
        /// Line in the file, from 1.
        line: u64,
        /// The value.
        found: String,
    },
    /// A part is missing.
    #[error("the split has no {part} rows; {hint}")]
    EmptyPart {
        /// The part.
        part: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A share outside 0 … 1.
    #[error("a test share of {0}; expected a number between 0 and 1, for example 0.2")]
    Share(f64),
    /// A class with too few rows.
    #[error(
        "class {class} has {rows} rows with different texts; {needed} are needed for this split: add rows or leave the class out"
    )]
    FewRows {
        /// Index of the class.
        class: usize,
        /// Its rows, equal texts counted once.
        rows: usize,
        /// Rows needed.
        needed: usize,
    },
    /// No rows left to test.
    #[error(
        "{rows} rows are too few to hold out test rows: no class has two rows with different texts; add rows, or name the test rows in a split column"
    )]
    NothingToTest {
        /// Rows in all.
        rows: usize,
    },
    /// A limit below the number of classes.
    #[error(
        "the limit on training rows is {limit}, but {classes} classes need at least {classes}, one of each: raise it"
    )]
    Limit {
        /// The limit.
        limit: usize,
        /// Classes among the training rows.
        classes: usize,
    },
    /// Too few or too many folds.
    #[error("{0} folds; expected at least 2")]
    Folds(usize),
    /// Not the file that the codelab split.
    #[error(
        "the codelab's split belongs to Ethos_Dataset_Binary.csv (998 rows, isHate at or above its median is 'Negative'); this data has {rows} rows{}: choose another split",
        if *.rows == 998 { ", but other labels" } else { "" }
    )]
    NotEthos {
        /// Rows found.
        rows: usize,
    },
}

/// The part a row plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Learned from.
    Train,
    /// Chooses the epoch, the threshold and the temperature.
    Validation,
    /// Measured once, at the end.
    Test,
}

impl Part {
    /// Reads a cell of a split column.
    pub fn parse(cell: &str) -> Option<Self> {
        match cell.trim().to_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "validation" | "val" | "valid" | "dev" => Some(Self::Validation),
            "test" | "testing" => Some(Self::Test),
            _ => None,
        }
    }
}

/// Indices of the rows of each part, in the order in which they are used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Rows to learn from.
    pub train: Vec<usize>,
    /// Rows that choose.
    pub validation: Vec<usize>,
    /// Rows that measure.
    pub test: Vec<usize>,
}

impl Split {
    /// By the cells of a split column, each with its line, in the file's order.
    pub fn by_column<'a>(
        cells: impl IntoIterator<Item = (u64, &'a str)>,
    ) -> Result<Self, SplitError> {
        let mut split = Self::default();
        for (index, (line, cell)) in cells.into_iter().enumerate() {
            match Part::parse(cell) {
                Some(Part::Train) => split.train.push(index),
                Some(Part::Validation) => split.validation.push(index),
                Some(Part::Test) => split.test.push(index),
                None => {
                    return Err(SplitError::UnknownPart {
                        line,
                        found: cell.chars().take(60).collect(),
                    });
                }
            }
        }
        let hint = "choose another column, or split at random by a share such as 0.2";
        let empty = |part| SplitError::EmptyPart { part, hint };
        match (split.train.is_empty(), split.test.is_empty()) {
            (true, _) => Err(empty("train")),
            (_, true) => Err(empty("test")),
            _ => Ok(split),
        }
    }

    /// At random: `test_share` of each class is tested, the rest trains, both in random order. Rows of one
    /// group are never divided; `groups` has the group of every row.
    pub fn stratified(
        labels: &[usize],
        groups: &[usize],
        test_share: f64,
        seed: u64,
    ) -> Result<Self, SplitError> {
        let all: Vec<usize> = (0..labels.len()).collect();
        let (train, test) = hold_out_together(&all, labels, groups, test_share, seed)?;
        if test.is_empty() {
            return Err(SplitError::NothingToTest { rows: labels.len() });
        }
        Ok(Self { train, test, validation: Vec::new() })
    }

    /// The codelab's 800 training and 198 test rows, in its order, of the public ETHOS file read whole.
    /// `labels` are the classes (0 or 1) of the 998 rows in the file's order.
    pub fn codelab(labels: &[usize]) -> Result<Self, SplitError> {
        let rows: Vec<usize> = include_str!("ethos_codelab_rows.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .flat_map(|line| line.split(' ').filter_map(|n| n.parse::<usize>().ok()))
            .collect();
        let (train, test) = rows.split_at(CODELAB_TRAIN);
        let [train, test] =
            [train, test].map(|part| part.iter().map(|row| row - 1).collect::<Vec<_>>());
        if labels.len() != CODELAB_ROWS {
            return Err(SplitError::NotEthos { rows: labels.len() });
        }
        let ones = |part: &[usize]| part.iter().filter(|&&i| labels[i] == 1).count();
        // (rows of the hateful class, of the other) in training and in test, whichever class is 1
        match (ones(&train), ones(&test)) {
            (402, 113) | (398, 85) => Ok(Self { train, test, validation: Vec::new() }),
            _ => Err(SplitError::NotEthos { rows: labels.len() }),
        }
    }

    /// Keeps the first `rows` training rows.
    pub fn limit_train(&mut self, rows: usize) {
        self.train.truncate(rows);
    }

    /// Keeps `rows` training rows, of each class the first ones and as many as its share of all.
    pub fn limit_train_by_class(
        &mut self,
        labels: &[usize],
        rows: usize,
    ) -> Result<(), SplitError> {
        if rows >= self.train.len() {
            return Ok(());
        }
        let classes = self.train.iter().map(|&r| labels[r] + 1).max().unwrap_or(0);
        let mut sizes = vec![0; classes];
        self.train.iter().for_each(|&r| sizes[labels[r]] += 1);
        let present = sizes.iter().filter(|&&n| n > 0).count();
        if rows < present {
            return Err(SplitError::Limit { limit: rows, classes: present });
        }
        let mut left = shares(&sizes, rows);
        self.train.retain(|&r| {
            let keep = left[labels[r]] > 0;
            left[labels[r]] -= usize::from(keep);
            keep
        });
        Ok(())
    }

    /// Takes `share` of the training rows, class by class, for validation, unless there is one already.
    /// Rows of one group are never divided.
    pub fn hold_out_validation(
        &mut self,
        labels: &[usize],
        groups: &[usize],
        share: f64,
        seed: u64,
    ) -> Result<(), SplitError> {
        if self.validation.is_empty() && share > 0.0 {
            (self.train, self.validation) =
                hold_out_together(&self.train, labels, groups, share, seed)?;
        }
        Ok(())
    }
}

const CODELAB_ROWS: usize = 998;
const CODELAB_TRAIN: usize = 800;

/// Takes `share` of `rows`, class by class: (kept, taken), each in random order. Every class with two
/// rows or more keeps one on either side, a single row is kept. `labels` is indexed by the entries of `rows`.
pub fn hold_out(
    rows: &[usize],
    labels: &[usize],
    share: f64,
    seed: u64,
) -> Result<(Vec<usize>, Vec<usize>), SplitError> {
    let each_alone: Vec<usize> = (0..labels.len()).collect();
    hold_out_together(rows, labels, &each_alone, share, seed)
}

/// As [`hold_out`], but rows of one group stay together: where a group does not fit what is still to be
/// taken of its classes, another is.
pub fn hold_out_together(
    rows: &[usize],
    labels: &[usize],
    groups: &[usize],
    share: f64,
    seed: u64,
) -> Result<(Vec<usize>, Vec<usize>), SplitError> {
    if !(share > 0.0 && share < 1.0) {
        return Err(SplitError::Share(share));
    }
    let mut rng = Rng::new(seed);
    let classes = shuffled_by_class(rows, labels, &mut rng);
    let mut left = quotas(&classes.iter().map(Vec::len).collect::<Vec<_>>(), share);
    // rows of each class in each group
    let mut members: HashMap<usize, BTreeMap<usize, usize>> = HashMap::new();
    for &row in rows {
        *members.entry(groups[row]).or_default().entry(labels[row]).or_default() += 1;
    }
    let mut is_taken: HashMap<usize, bool> = HashMap::new();
    for (class, group_rows) in classes.iter().enumerate() {
        for &row in group_rows {
            if left[class] == 0 {
                break;
            }
            let group = groups[row];
            if is_taken.contains_key(&group) {
                continue;
            }
            let fits = members[&group].iter().all(|(&class, &n)| n <= left[class]);
            if fits {
                members[&group].iter().for_each(|(&class, &n)| left[class] -= n);
            }
            is_taken.insert(group, fits);
        }
    }
    let (mut taken, mut kept): (Vec<usize>, Vec<usize>) =
        classes.iter().flatten().partition(|&&row| is_taken.get(&groups[row]) == Some(&true));
    rng.shuffle(&mut kept);
    rng.shuffle(&mut taken);
    Ok((kept, taken))
}

/// `folds` pairs of (train, test), stratified; every row is tested exactly once. Rows of one group are in
/// one fold; `groups` has the group of every row.
pub fn k_fold(
    labels: &[usize],
    groups: &[usize],
    folds: usize,
    seed: u64,
) -> Result<Vec<Split>, SplitError> {
    if folds < 2 {
        return Err(SplitError::Folds(folds));
    }
    let mut rng = Rng::new(seed);
    let all: Vec<usize> = (0..labels.len()).collect();
    let classes = shuffled_by_class(&all, labels, &mut rng);
    for (class, rows) in classes.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
        let different: BTreeSet<usize> = rows.iter().map(|&row| groups[row]).collect();
        if different.len() < folds {
            return Err(SplitError::FewRows { class, rows: different.len(), needed: folds });
        }
    }
    let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
    all.iter().for_each(|&row| members.entry(groups[row]).or_default().push(row));
    let mut fold_of = vec![None; labels.len()];
    let mut held = vec![vec![0; classes.len()]; folds];
    for (class, rows) in classes.iter().enumerate() {
        for &row in rows {
            if fold_of[row].is_some() {
                continue;
            }
            // where the class has the fewest rows yet; of several, where there are the fewest in all
            let fewest = |&fold: &usize| (held[fold][class], held[fold].iter().sum::<usize>());
            let fold = (0..folds).min_by_key(fewest).unwrap_or(0);
            for &member in &members[&groups[row]] {
                fold_of[member] = Some(fold);
                held[fold][labels[member]] += 1;
            }
        }
    }
    let mut order = all;
    rng.shuffle(&mut order);
    let split = |fold| {
        let (test, train) = order.iter().partition(|&&row| fold_of[row] == Some(fold));
        Split { train, test, validation: Vec::new() }
    };
    Ok((0..folds).map(split).collect())
}

fn shuffled_by_class(rows: &[usize], labels: &[usize], rng: &mut Rng) -> Vec<Vec<usize>> {
    let classes = rows.iter().map(|&r| labels[r] + 1).max().unwrap_or(0);
    let mut groups = vec![Vec::new(); classes];
    for &row in rows {
        groups[labels[row]].push(row);
    }
    groups.iter_mut().for_each(|group| rng.shuffle(group));
    groups
}

/// How many of each class to take: largest remainders, at least one and not all.
fn quotas(sizes: &[usize], share: f64) -> Vec<usize> {
    let total = (sizes.iter().sum::<usize>() as f64 * share).round() as usize;
    let quotas = largest_remainders(sizes, share, total);
    quotas.iter().zip(sizes).map(|(&q, &n)| if n < 2 { 0 } else { q.clamp(1, n - 1) }).collect()
}

fn largest_remainders(sizes: &[usize], share: f64, total: usize) -> Vec<usize> {
    let exact: Vec<f64> = sizes.iter().map(|&n| n as f64 * share).collect();
    let mut quotas: Vec<usize> = exact.iter().map(|x| x.floor() as usize).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()).then(a.cmp(&b)));
    let missing = total.saturating_sub(quotas.iter().sum());
    order.iter().take(missing).for_each(|&class| quotas[class] += 1);
    quotas
}

/// `total` rows shared out by the classes' sizes, at least one for each that has any.
fn shares(sizes: &[usize], total: usize) -> Vec<usize> {
    let all = sizes.iter().sum::<usize>().max(1);
    let mut shares = largest_remainders(sizes, total as f64 / all as f64, total);
    for class in 0..sizes.len() {
        if sizes[class] > 0 && shares[class] == 0 {
            shares[class] = 1;
            // the class with the most gives one
            if let Some(most) = shares.iter_mut().max() {
                *most -= 1;
            }
        }
    }
    shares
}

#[cfg(test)]
#[path = "split/tests.rs"]
mod tests;
