//! The predictions that a training row has to make: a list of (position, token, weight), not one
//! label per token, because a shared prefix has one logit row and many continuations.

use serde::{Deserialize, Serialize};

use crate::{ModelError, Packed, Row};

/// Which predictions the loss covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// The class token at the label position, softmax over the class tokens only.
    Choice,
    /// The label token at the label position and what follows it, softmax over the vocabulary.
    Label,
    /// Every token of the row after the first, softmax over the vocabulary.
    Sequence,
}

/// One prediction of a row: the logits at `position` should give `token`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Position in the row's ids, including the prefix.
    pub position: usize,
    /// Token id; under [`Loss::Choice`], the index of the class.
    pub token: u32,
    /// Weight in the loss.
    pub weight: f32,
}

/// One training row: its ids and its targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Ids, including the shared prefix.
    pub tokens: Vec<u32>,
    /// What to predict.
    pub targets: Vec<Target>,
    /// The row's identity in the data set.
    pub id: u32,
}

impl Example {
    /// A row for a loss. `prompt` ends where the label is predicted; `class` and `label` are the
    /// class's index and token; under `Label` and `Sequence`, the label and `end` (usually the end
    /// token) are appended and also predicted.
    pub fn new(
        loss: Loss,
        prompt: &[u32],
        class: u32,
        label: u32,
        end: Option<u32>,
        weight: f32,
        id: u32,
    ) -> Self {
        let mut tokens = prompt.to_vec();
        let at = prompt.len() - 1;
        let mut targets = Vec::new();
        match loss {
            Loss::Choice => targets.push(Target { position: at, token: class, weight }),
            Loss::Label | Loss::Sequence => {
                tokens.push(label);
                tokens.extend(end);
                let first = if loss == Loss::Label { at } else { 0 };
                for position in first..tokens.len() - 1 {
                    targets.push(Target { position, token: tokens[position + 1], weight });
                }
                // The last token predicts nothing, so nothing needs to be computed for it.
                tokens.pop();
            }
        }
        Self { tokens, targets, id }
    }
}

/// The targets of a packed micro-batch: one entry per prediction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PackedTargets {
    /// Index in the packed list of the token whose logits are used, `(M)`.
    pub indices: Vec<u32>,
    /// Token or class, `(M)`.
    pub tokens: Vec<u32>,
    /// Weight, `(M)`.
    pub weights: Vec<f32>,
}

impl PackedTargets {
    /// Sum of weights.
    pub fn weight(&self) -> f64 {
        self.weights.iter().map(|&w| f64::from(w)).sum()
    }
}

/// The number of predictions that [`pack`] makes from rows that share `prefix` tokens.
pub fn prediction_count(examples: &[Example], prefix: usize) -> usize {
    let mut shared = std::collections::BTreeSet::new();
    let mut own = 0;
    for target in examples.iter().flat_map(|e| &e.targets) {
        if target.position + 1 < prefix {
            shared.insert((target.position, target.token));
        } else {
            own += 1;
        }
    }
    shared.len() + own
}

/// Packs rows and their targets. A prediction inside the shared prefix is the same for all rows and
/// becomes one entry with the sum of the rows' weights; at the branch, every row has its own.
///
/// # Errors
/// As [`Packed::new`]; a row without any target.
pub fn pack(examples: &[&Example], prefix: usize) -> Result<(Packed, PackedTargets), ModelError> {
    let rows: Vec<Row> = examples.iter().map(|e| Row { tokens: &e.tokens, id: e.id }).collect();
    let packed = Packed::new(&rows, prefix)?;
    let mut all = PackedTargets::default();
    for (row, example) in examples.iter().enumerate() {
        if example.targets.is_empty() {
            return Err(ModelError::Empty("every training row needs a target"));
        }
        for target in &example.targets {
            let index = packed.index(row, target.position) as u32;
            let shared = target.position + 1 < prefix;
            let entry = shared
                .then(|| {
                    let same =
                        |i: &usize| all.indices[*i] == index && all.tokens[*i] == target.token;
                    (0..all.indices.len()).find(same)
                })
                .flatten();
            match entry {
                Some(entry) => all.weights[entry] += target.weight,
                None => {
                    all.indices.push(index);
                    all.tokens.push(target.token);
                    all.weights.push(target.weight);
                }
            }
        }
    }
    Ok((packed, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_choose_their_targets() {
        let of = |loss| Example::new(loss, &[2, 5, 6], 1, 9, Some(0), 1.0, 0);
        let flat =
            |e: &Example| e.targets.iter().map(|t| (t.position, t.token)).collect::<Vec<_>>();
        assert_eq!(
            (of(Loss::Choice).tokens, flat(&of(Loss::Choice))),
            (vec![2, 5, 6], vec![(2, 1)])
        );
        assert_eq!(of(Loss::Label).tokens, [2, 5, 6, 9]);
        assert_eq!(flat(&of(Loss::Label)), [(2, 9), (3, 0)]);
        assert_eq!(flat(&of(Loss::Sequence)), [(0, 5), (1, 6), (2, 9), (3, 0)]);
        let no_end = Example::new(Loss::Label, &[2, 5, 6], 1, 9, None, 1.0, 0);
        assert_eq!((no_end.tokens.len(), flat(&no_end)), (3, vec![(2, 9)]));
    }

    #[test]
    fn prefix_targets_count_once_a_row_and_the_branch_has_one_a_row() {
        let one = Example::new(Loss::Sequence, &[2, 5, 6], 0, 9, None, 1.0, 0);
        let two = Example::new(Loss::Sequence, &[2, 5, 7], 0, 8, None, 0.5, 1);
        let (packed, targets) = pack(&[&one, &two], 2).unwrap();
        assert_eq!(packed.tokens, [2, 5, 6, 7]);
        assert_eq!(targets.indices, [0, 1, 2, 1, 3]);
        assert_eq!(targets.tokens, [5, 6, 9, 7, 8]);
        assert_eq!(targets.weights, [1.5, 1.0, 1.0, 0.5, 0.5]);
        assert_eq!(targets.weight(), 4.5);
        assert_eq!(prediction_count(&[one, two], 2), 5);
    }
}
