//! Probabilities of continuations of a text.
//!
//! [`continuations`] is exact over the whole vocabulary and takes continuations of any length.
//! [`Scorer`] is used for classification: one token per class, a softmax over the classes only, and
//! the keys of the prompt's prefix are kept between calls.

mod scorer;

use std::ops::Range;

use hearth_gpu::Commands;

use crate::{
    Lora, Model, ModelError, Packed, Pass, Row,
    generate::NOT_FINITE,
    workspace::{Sizes, Workspace},
};
pub use scorer::Scorer;

/// Maximum bytes of logits on the device at once, in [`continuations`].
const LOGITS: u64 = 64 << 20;

/// log p(continuation | text) for every continuation: the sum over its tokens. The text is computed
/// once; the continuations are branches of one packed tree.
///
/// # Errors
/// An empty text or continuation, ids beyond the vocabulary, too many tokens, or a device error.
pub async fn continuations(
    model: &Model,
    lora: Option<&Lora>,
    text: &[u32],
    continuations: &[Vec<u32>],
) -> Result<Vec<f64>, ModelError> {
    if text.is_empty() || continuations.iter().any(Vec::is_empty) {
        return Err(ModelError::Empty("a text and its continuations need at least one token each"));
    }
    if continuations.is_empty() {
        return Ok(vec![]);
    }
    let tree = Tree::new(text, continuations)?;
    tree.packed.check(model.config.vocab, model.max_positions())?;
    let vocab = model.config.vocab;
    if let Some(&token) = continuations.iter().flatten().find(|&&t| t as usize >= vocab) {
        return Err(ModelError::Token { token, position: text.len(), vocab });
    }
    let sizes = Sizes {
        tokens: tree.packed.len(),
        chosen: tree.chosen.len(),
        lora: lora.map(|l| l.layout.config.clone()),
        training: None,
    };
    let mut ws = Workspace::new(&model.gpu, &model.config, sizes)?;
    model.set_batch(&mut ws, tree.packed, Some(tree.chosen)).await?;
    let mut c = Commands::new();
    model.forward(&mut c, &ws, Pass { lora, dropout: None }, None)?;
    model.gpu.run(&c).await?;
    let scores = log_probabilities(model, &ws, &tree.targets).await?;
    let mut sums = vec![0.0; continuations.len()];
    for (target, score) in tree.targets.iter().zip(scores) {
        sums[target.continuation] += score;
    }
    Ok(sums)
}

/// The token `token` of continuation `continuation` is predicted at chosen position `chosen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    chosen: usize,
    token: u32,
    continuation: usize,
}

/// A text whose continuations are branches.
struct Tree {
    packed: Packed,
    chosen: Vec<u32>,
    targets: Vec<Target>,
}

impl Tree {
    /// A continuation's last token predicts nothing, so it is not in the list: continuations of one
    /// token add none.
    fn new(text: &[u32], continuations: &[Vec<u32>]) -> Result<Self, ModelError> {
        let long: Vec<usize> =
            (0..continuations.len()).filter(|&i| continuations[i].len() > 1).collect();
        let rows: Vec<Vec<u32>> = long
            .iter()
            .map(|&i| [text, &continuations[i][..continuations[i].len() - 1]].concat())
            .collect();
        let rows: Vec<Row> = rows.iter().map(|tokens| Row { tokens, id: 0 }).collect();
        let packed = if rows.is_empty() {
            Packed::new(&[Row { tokens: text, id: 0 }], 0)?
        } else {
            Packed::new(&rows, text.len())?
        };
        let mut chosen = vec![packed.index(0, text.len() - 1) as u32];
        let first = |(continuation, ids): (usize, &Vec<u32>)| Target {
            chosen: 0,
            token: ids[0],
            continuation,
        };
        let mut targets: Vec<Target> = continuations.iter().enumerate().map(first).collect();
        for (row, &continuation) in long.iter().enumerate() {
            for (i, &token) in continuations[continuation].iter().enumerate().skip(1) {
                targets.push(Target { chosen: chosen.len(), token, continuation });
                chosen.push(packed.index(row, text.len() + i - 1) as u32);
            }
        }
        Ok(Self { packed, chosen, targets })
    }
}

/// log p of every target, over vocabulary ranges that fit a binding.
async fn log_probabilities(
    model: &Model,
    ws: &Workspace,
    targets: &[Target],
) -> Result<Vec<f64>, ModelError> {
    let (gpu, vocab, chosen) = (&model.gpu, model.config.vocab, ws.chosen_count() as usize);
    let most = gpu.max_binding().min(LOGITS) / (4 * chosen as u64) / 64 * 64;
    let most = (most as usize).clamp(64, vocab.next_multiple_of(64));
    let mut sums = vec![LogSum::default(); chosen];
    let mut found = vec![0.0; targets.len()];
    let y = gpu.buffer("logits", 4 * (chosen * most.min(vocab)) as u64)?.all();
    for start in (0..vocab).step_by(most) {
        let range = start..(start + most).min(vocab);
        let mut c = Commands::new();
        let rows = range.start as u32..range.end as u32;
        model.logits(&mut c, ws, model.weights.output_head()?, rows, &y, range.len() as u32);
        gpu.run(&c).await?;
        let logits = gpu.read::<f32>(&y).await?;
        take_range(&logits, range, targets, &mut sums, &mut found);
    }
    let scores =
        targets.iter().zip(found).map(|(target, logit)| logit - sums[target.chosen].value());
    let scores: Vec<f64> = scores.collect();
    if scores.iter().all(|s| s.is_finite()) {
        return Ok(scores);
    }
    Err(NOT_FINITE)
}

/// Adds the logits of a vocabulary range, `(M, width)` at the front of `logits`.
fn take_range(
    logits: &[f32],
    range: Range<usize>,
    targets: &[Target],
    sums: &mut [LogSum],
    found: &mut [f64],
) {
    let width = range.len();
    for (sum, row) in sums.iter_mut().zip(logits.chunks_exact(width)) {
        sum.add(row);
    }
    for (target, found) in targets.iter().zip(found) {
        let token = target.token as usize;
        if range.contains(&token) {
            *found = f64::from(logits[target.chosen * width + token - range.start]);
        }
    }
}

/// log Σ exp(x), accumulated in pieces.
#[derive(Debug, Clone, Copy)]
struct LogSum {
    max: f64,
    sum: f64,
}

impl Default for LogSum {
    fn default() -> Self {
        Self { max: f64::MIN, sum: 0.0 }
    }
}

impl LogSum {
    fn add(&mut self, values: &[f32]) {
        let max = values.iter().fold(self.max, |m, &v| m.max(f64::from(v)));
        self.sum *= (self.max - max).exp();
        self.sum += values.iter().map(|&v| (f64::from(v) - max).exp()).sum::<f64>();
        self.max = max;
    }

    fn value(&self) -> f64 {
        self.max + self.sum.ln()
    }
}

/// exp(x) / Σ exp(x), in f64.
fn softmax(logits: &[f32]) -> Result<Vec<f32>, ModelError> {
    let mut sum = LogSum::default();
    sum.add(logits);
    let total = sum.value();
    if !total.is_finite() {
        return Err(NOT_FINITE);
    }
    Ok(logits.iter().map(|&l| (f64::from(l) - total).exp() as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_scores_every_token_where_it_is_predicted() {
        let tree = Tree::new(&[2, 5, 6], &[vec![7], vec![8, 9, 10], vec![7, 8]]).unwrap();
        // The last tokens, 7, 10 and 8, are not in the list.
        assert_eq!(tree.packed.tokens, [2, 5, 6, 8, 9, 7]);
        assert_eq!(tree.chosen, [2, 3, 4, 5]);
        let targets: Vec<_> =
            tree.targets.iter().map(|t| (t.chosen, t.token, t.continuation)).collect();
        assert_eq!(targets, [(0, 7, 0), (0, 8, 1), (0, 7, 2), (1, 9, 1), (2, 10, 1), (3, 8, 2)]);
        let single = Tree::new(&[2, 5], &[vec![7], vec![8]]).unwrap();
        assert_eq!((single.packed.tokens, single.chosen), (vec![2, 5], vec![1]));
    }

    #[test]
    fn log_sums_in_pieces_and_of_large_numbers() {
        let mut sum = LogSum::default();
        sum.add(&[1000.0, 999.0]);
        sum.add(&[1002.0]);
        let want = 1002.0 + (1.0 + (-2.0f64).exp() + (-3.0f64).exp()).ln();
        assert!((sum.value() - want).abs() < 1e-12);
        assert!(softmax(&[f32::NAN, f32::NAN]).is_err() && softmax(&[f32::INFINITY, 0.0]).is_err());
        let even = softmax(&[-3e4, -3e4]).unwrap();
        assert_eq!(even, [0.5, 0.5]);
    }
}
