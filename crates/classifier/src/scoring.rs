//! Class probabilities of prompts that share a cached prefix.

use hearth_gemma::{Lora, Model, ModelError, score::Scorer};

use crate::error::ClassifierError;

/// Tokens per pass: enough to keep a GPU busy, few enough to stay responsive.
const PASS: usize = 512;

/// Scores prompts with one adapter. The keys and values of `prefix` are computed once and cached.
pub struct Scoring {
    class_tokens: Vec<u32>,
    prefix: Vec<u32>,
    kept: Option<(usize, Scorer)>,
}

impl Scoring {
    /// Prompts that start with `prefix` (which may be empty) use its cached keys; others are computed in full.
    pub fn new(class_tokens: &[u32], prefix: &[u32]) -> Self {
        Self { class_tokens: class_tokens.to_vec(), prefix: prefix.to_vec(), kept: None }
    }

    /// ln p of every class, `[N, C]`, the softmax being over the classes alone. `rows` are whole prompts.
    /// `progress` gets the number of rows scored, and returns `false` to stop.
    ///
    /// The adapter's weights must not have changed since the last call: make a new `Scoring` after training.
    ///
    /// # Errors
    /// Prompts that are too long for the model, stopped by `progress`, or a device error.
    pub async fn log_probabilities(
        &mut self,
        model: &Model,
        lora: Option<&Lora>,
        rows: &[&[u32]],
        mut progress: impl FnMut(usize) -> bool,
    ) -> Result<Vec<f64>, ClassifierError> {
        let starts = |row: &[u32]| row.len() > self.prefix.len() && row.starts_with(&self.prefix);
        let (usual, others): (Vec<usize>, Vec<usize>) =
            (0..rows.len()).partition(|&i| starts(rows[i]));
        let mut scores = vec![Vec::new(); rows.len()];
        let tails: Vec<Vec<u32>> =
            usual.iter().map(|&i| rows[i][self.prefix.len()..].to_vec()).collect();
        let budget = longest(&tails);
        if !tails.is_empty() && self.kept.as_ref().is_none_or(|(room, _)| *room < budget) {
            let scorer = Scorer::new(model, lora, &self.class_tokens, &self.prefix, budget).await?;
            self.kept = Some((budget, scorer));
        }
        if let Some((_, scorer)) = &mut self.kept {
            let found = scorer.score(model, lora, &tails, &mut progress).await?;
            usual.iter().zip(found).for_each(|(&i, row)| scores[i] = row);
        }
        if !others.is_empty() {
            let whole: Vec<Vec<u32>> = others.iter().map(|&i| rows[i].to_vec()).collect();
            let mut scorer =
                Scorer::new(model, lora, &self.class_tokens, &[], longest(&whole)).await?;
            let found =
                scorer.score(model, lora, &whole, |done| progress(usual.len() + done)).await?;
            others.iter().zip(found).for_each(|(&i, row)| scores[i] = row);
        }
        if scores.iter().any(|row| row.len() != self.class_tokens.len()) {
            return Err(ModelError::Empty("a row was not scored").into());
        }
        Ok(logs(&scores.concat()))
    }
}

/// Room for the longest row, and for a good many of the others.
fn longest(rows: &[Vec<u32>]) -> usize {
    let total: usize = rows.iter().map(Vec::len).sum();
    // by powers of two, so that sentences of like length find a scorer that is ready
    let longest = rows.iter().map(Vec::len).max().unwrap_or(1);
    total.next_power_of_two().clamp(32, PASS).max(longest)
}

/// ln p, kept finite: a class whose probability underflows gets the smallest positive f32.
pub(crate) fn logs(probabilities: &[f32]) -> Vec<f64> {
    probabilities.iter().map(|&p| f64::from(p.max(f32::MIN_POSITIVE)).ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_finite() {
        assert_eq!(logs(&[1.0, 0.0])[0], 0.0);
        assert!(logs(&[0.0])[0] < -87.0 && logs(&[0.0])[0].is_finite());
    }

    #[test]
    fn there_is_room_for_the_longest_row() {
        let room =
            |lengths: &[usize]| longest(&lengths.iter().map(|&n| vec![0; n]).collect::<Vec<_>>());
        assert_eq!(
            (room(&[3]), room(&[40, 60]), room(&[300; 9]), room(&[9, 700])),
            (32, 128, 512, 700)
        );
    }
}
