//! Which rows train, which choose (validation) and which are only measured (test).

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::rng::Rng;

/// A split that cannot be made.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum SplitError {
    /// A value of the split column that means nothing.
    #[error("row {row}: split {found:?}; expected train, validation (or val, valid, dev) or test")]
    UnknownPart {
        /// Data row, from 1.
        row: usize,
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
        "class {class} has {rows} rows; {needed} are needed for this split: add rows or leave the class out"
    )]
    FewRows {
        /// Index of the class.
        class: usize,
        /// Its rows.
        rows: usize,
        /// Rows needed.
        needed: usize,
    },
    /// Too few or too many folds.
    #[error("{0} folds; expected at least 2")]
    Folds(usize),
    /// Not the file that the codelab split.
    #[error(
        "the codelab's split belongs to Ethos_Dataset_Binary.csv (998 rows, isHate at or above its median is 'Negative'); this data has {rows} rows{}",
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
    /// By the cells of a split column, in the file's order. `rows[i]` is the data row number of cell i.
    pub fn by_column<'a>(
        cells: impl IntoIterator<Item = (usize, &'a str)>,
    ) -> Result<Self, SplitError> {
        let mut split = Self::default();
        for (index, (row, cell)) in cells.into_iter().enumerate() {
            match Part::parse(cell) {
                Some(Part::Train) => split.train.push(index),
                Some(Part::Validation) => split.validation.push(index),
                Some(Part::Test) => split.test.push(index),
                None => {
                    return Err(SplitError::UnknownPart {
                        row,
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

    /// At random: `test_share` of each class is tested, the rest trains, both in random order.
    pub fn stratified(labels: &[usize], test_share: f64, seed: u64) -> Result<Self, SplitError> {
        let all: Vec<usize> = (0..labels.len()).collect();
        let (train, test) = hold_out(&all, labels, test_share, seed)?;
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

    /// Takes `share` of the training rows, class by class, for validation, unless there is one already.
    pub fn hold_out_validation(
        &mut self,
        labels: &[usize],
        share: f64,
        seed: u64,
    ) -> Result<(), SplitError> {
        if self.validation.is_empty() && share > 0.0 {
            (self.train, self.validation) = hold_out(&self.train, labels, share, seed)?;
        }
        Ok(())
    }
}

const CODELAB_ROWS: usize = 998;
const CODELAB_TRAIN: usize = 800;

/// Takes `share` of `rows`, class by class: (kept, taken), each in random order. Every class with two
/// rows or more keeps one on either side. `labels` is indexed by the entries of `rows`.
pub fn hold_out(
    rows: &[usize],
    labels: &[usize],
    share: f64,
    seed: u64,
) -> Result<(Vec<usize>, Vec<usize>), SplitError> {
    if !(share > 0.0 && share < 1.0) {
        return Err(SplitError::Share(share));
    }
    let mut rng = Rng::new(seed);
    let groups = shuffled_by_class(rows, labels, &mut rng);
    if let Some((class, group)) = groups.iter().enumerate().find(|(_, g)| g.len() == 1) {
        return Err(SplitError::FewRows { class, rows: group.len(), needed: 2 });
    }
    let wanted = quotas(&groups.iter().map(Vec::len).collect::<Vec<_>>(), share);
    let (mut kept, mut taken) = (Vec::new(), Vec::new());
    for (group, n) in groups.iter().zip(wanted) {
        taken.extend(&group[..n]);
        kept.extend(&group[n..]);
    }
    rng.shuffle(&mut kept);
    rng.shuffle(&mut taken);
    Ok((kept, taken))
}

/// `folds` pairs of (train, test), stratified; every row is tested exactly once.
pub fn k_fold(labels: &[usize], folds: usize, seed: u64) -> Result<Vec<Split>, SplitError> {
    if folds < 2 {
        return Err(SplitError::Folds(folds));
    }
    let mut rng = Rng::new(seed);
    let all: Vec<usize> = (0..labels.len()).collect();
    let groups = shuffled_by_class(&all, labels, &mut rng);
    if let Some((class, group)) =
        groups.iter().enumerate().find(|(_, g)| !g.is_empty() && g.len() < folds)
    {
        return Err(SplitError::FewRows { class, rows: group.len(), needed: folds });
    }
    let mut fold_of = vec![0; labels.len()];
    // dealing like cards, on from where the last class ended, keeps the folds' sizes within one
    for (place, &row) in groups.iter().flatten().enumerate() {
        fold_of[row] = place % folds;
    }
    let mut order = all;
    rng.shuffle(&mut order);
    let split = |fold| {
        let (test, train) = order.iter().partition(|&&row| fold_of[row] == fold);
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
    let exact: Vec<f64> = sizes.iter().map(|&n| n as f64 * share).collect();
    let mut quotas: Vec<usize> = exact.iter().map(|x| x.floor() as usize).collect();
    let total = (sizes.iter().sum::<usize>() as f64 * share).round() as usize;
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()).then(a.cmp(&b)));
    let missing = total.saturating_sub(quotas.iter().sum());
    order.iter().take(missing).for_each(|&class| quotas[class] += 1);
    quotas.iter().zip(sizes).map(|(&q, &n)| if n < 2 { 0 } else { q.clamp(1, n - 1) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<usize> {
        (0..100).map(|i| usize::from(i >= 70) + usize::from(i >= 95)).collect()
    }

    fn count(rows: &[usize], labels: &[usize]) -> [usize; 3] {
        rows.iter().fold([0; 3], |mut n, &r| {
            n[labels[r]] += 1;
            n
        })
    }

    #[test]
    fn stratified_keeps_proportions() {
        let labels = labels();
        let split = Split::stratified(&labels, 0.2, 7).unwrap();
        assert_eq!(count(&split.test, &labels), [14, 5, 1]);
        assert_eq!(count(&split.train, &labels), [56, 20, 4]);
        let mut all = [split.train.clone(), split.test.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert_eq!(split, Split::stratified(&labels, 0.2, 7).unwrap());
        assert_ne!(split, Split::stratified(&labels, 0.2, 8).unwrap());
        // random order, so that the first rows are a fair sample
        assert!(count(&split.train[..40], &labels)[1] > 3);
    }

    #[test]
    fn bad_shares_and_lonely_rows() {
        assert_eq!(Split::stratified(&labels(), 1.0, 0).unwrap_err(), SplitError::Share(1.0));
        assert!(Split::stratified(&labels(), f64::NAN, 0).is_err());
        let lonely = SplitError::FewRows { class: 1, rows: 1, needed: 2 };
        assert_eq!(Split::stratified(&[0, 0, 1], 0.5, 0).unwrap_err(), lonely);
    }

    #[test]
    fn validation_comes_out_of_the_training_rows() {
        let labels = labels();
        let mut split = Split::stratified(&labels, 0.2, 7).unwrap();
        let before = split.clone();
        split.hold_out_validation(&labels, 0.25, 1).unwrap();
        assert_eq!((split.train.len(), split.validation.len(), split.test.len()), (60, 20, 20));
        assert!(
            split.validation.iter().all(|r| before.train.contains(r) && !split.train.contains(r))
        );
        let again = split.clone();
        split.hold_out_validation(&labels, 0.25, 2).unwrap();
        assert_eq!(split, again);
    }

    #[test]
    fn folds_test_every_row_once() {
        let labels = labels();
        let folds = k_fold(&labels, 5, 3).unwrap();
        let mut tested: Vec<usize> = folds.iter().flat_map(|f| f.test.clone()).collect();
        tested.sort_unstable();
        assert_eq!(tested, (0..100).collect::<Vec<_>>());
        for fold in &folds {
            assert_eq!(count(&fold.test, &labels), [14, 5, 1]);
            assert_eq!(fold.train.len(), 80);
            assert!(fold.test.iter().all(|r| !fold.train.contains(r)));
        }
        assert_eq!(k_fold(&labels, 1, 3).unwrap_err(), SplitError::Folds(1));
        assert!(matches!(k_fold(&labels, 6, 3), Err(SplitError::FewRows { class: 2, .. })));
    }

    #[test]
    fn a_split_column() {
        let cells = ["train", "Test", " val ", "train"];
        let split = Split::by_column(cells.iter().enumerate().map(|(i, &c)| (i + 1, c))).unwrap();
        assert_eq!((split.train, split.validation, split.test), (vec![0, 3], vec![2], vec![1]));
        let message = |cells: &[&'static str]| {
            Split::by_column(cells.iter().enumerate().map(|(i, &c)| (i + 1, c)))
                .unwrap_err()
                .to_string()
        };
        assert!(message(&["train", "exam"]).starts_with("row 2: split \"exam\""));
        assert!(message(&["train"]).contains("no test rows"));
        assert!(message(&["test"]).contains("no train rows"));
    }

    #[test]
    fn the_codelab_split() {
        // a stand-in with the true file's class counts: its first 402 training and 113 test rows are class 1
        let probe = Split::codelab(&[0; 998]).unwrap_err();
        assert_eq!(probe, SplitError::NotEthos { rows: 998 });
        assert_eq!(Split::codelab(&[0; 12]).unwrap_err(), SplitError::NotEthos { rows: 12 });
        let rows: Vec<usize> = include_str!("ethos_codelab_rows.txt")
            .lines()
            .skip(2)
            .flat_map(|l| l.split(' ').map(|n| n.parse::<usize>().unwrap() - 1))
            .collect();
        let mut labels = [0; 998];
        rows[..402].iter().chain(&rows[800..913]).for_each(|&r| labels[r] = 1);
        let split = Split::codelab(&labels).unwrap();
        assert_eq!((split.train.len(), split.test.len()), (800, 198));
        assert_eq!((split.train[0], split.train[1]), (517, 685));
        let mut all = [split.train, split.test].concat();
        all.sort_unstable();
        assert_eq!(all, (0..998).collect::<Vec<_>>());
    }
}
