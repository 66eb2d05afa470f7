//! Scores classes of one token each, with a cached prefix.

use std::ops::Range;

use hearth_gpu::{Commands, Slice, Staging};
use hearth_kernels::matrix::Matrix;

use super::softmax;
use crate::{
    KvCache, Lora, Model, ModelError, Packed, Pass, Row,
    generate::prefill,
    workspace::{Sizes, Workspace, tokens_that_fit},
};

/// Computes class probabilities of many texts that share a prefix. It keeps the prefix's keys and
/// values, and only the classes' rows of the output head.
pub struct Scorer {
    classes: usize,
    /// The classes' rows, `(classes, C)`.
    head: Matrix,
    prefix: Vec<u32>,
    cache: KvCache,
    /// Adapter that the cache was filled with, 0 for none; `None` before it is filled.
    filled_by: Option<u64>,
    ws: Workspace,
    /// `(M, classes)`
    logits: Slice,
}

impl Scorer {
    /// Prepares for rows of up to `max_tokens` tokens of their own in one pass. `class_tokens` has
    /// one token per class; `prefix` may be empty.
    ///
    /// # Errors
    /// No classes, ids beyond the vocabulary, a prefix that is too long, or out of device memory.
    pub async fn new(
        model: &Model,
        lora: Option<&Lora>,
        class_tokens: &[u32],
        prefix: &[u32],
        max_tokens: usize,
    ) -> Result<Self, ModelError> {
        let (vocab, max) = (model.config.vocab, model.max_positions());
        if class_tokens.is_empty() || max_tokens == 0 {
            return Err(ModelError::Empty(
                "scoring needs at least one class and room for one token",
            ));
        }
        let ids = prefix.iter().chain(class_tokens).enumerate();
        if let Some((position, &token)) = ids.into_iter().find(|(_, t)| **t as usize >= vocab) {
            return Err(ModelError::Token { token, position, vocab });
        }
        if prefix.len() >= max {
            return Err(ModelError::TooLong { tokens: prefix.len() + 1, max });
        }
        // Passes that are longer than the device can bind are split into several.
        let adapter = lora.map(|l| &l.layout.config);
        let limit = model.gpu.max_binding();
        let max_tokens = tokens_that_fit(&model.config, adapter, limit, max_tokens);
        let rows = 4 * (class_tokens.len() * model.config.hidden) as u64;
        let rows = model.gpu.buffer("class rows", rows)?.all();
        let head = model.head_rows(class_tokens, &rows).await?;
        let logits =
            model.gpu.buffer("class logits", 4 * (max_tokens * class_tokens.len()) as u64)?.all();
        Ok(Self {
            classes: class_tokens.len(),
            head,
            prefix: prefix.to_vec(),
            cache: KvCache::new(&model.gpu, &model.config, prefix.len() + max_tokens)?,
            filled_by: None,
            ws: Workspace::new(&model.gpu, &model.config, sizes(lora, max_tokens))?,
            logits,
        })
    }

    /// Discards the prefix's keys: after a training step, the same adapter has different
    /// parameters.
    pub fn forget(&mut self) {
        self.filled_by = None;
    }

    /// Probabilities of the classes, in the order of `class_tokens`, after each row. `rows` are ids
    /// without the prefix. `progress` receives the number of rows submitted so far and returns
    /// `false` to stop.
    ///
    /// If the adapter differs from that of the last call, the prefix is recomputed.
    ///
    /// # Errors
    /// An empty row, one that is too long for a pass or for the model, ids beyond the vocabulary, a
    /// stop, or a device error.
    pub async fn score(
        &mut self,
        model: &Model,
        lora: Option<&Lora>,
        rows: &[Vec<u32>],
        mut progress: impl FnMut(usize) -> bool,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let budget = self.ws.sizes.tokens;
        let batches = batches(rows, budget)?;
        self.fill(model, lora).await?;
        let mut scores = Vec::with_capacity(rows.len());
        // The device works on a batch while the host reads the previous one.
        let mut pending: Option<(Staging, usize)> = None;
        for batch in batches {
            let done = batch.end;
            let next = self.start(model, lora, &rows[batch]).await?;
            if let Some(last) = pending.replace(next) {
                self.collect(model, last, &mut scores).await?;
            }
            if !progress(done) {
                return Err(ModelError::Stopped);
            }
        }
        if let Some(last) = pending {
            self.collect(model, last, &mut scores).await?;
        }
        Ok(scores)
    }

    /// Ensures that the cache holds the prefix as computed with this adapter.
    async fn fill(&mut self, model: &Model, lora: Option<&Lora>) -> Result<(), ModelError> {
        let id = lora.map_or(0, |l| l.id);
        if self.filled_by == Some(id) {
            self.cache.truncate(self.prefix.len());
            return Ok(());
        }
        let sizes = sizes(lora, self.ws.sizes.tokens);
        if sizes != self.ws.sizes {
            self.ws = Workspace::new(&model.gpu, &model.config, sizes)?;
        }
        self.filled_by = None;
        self.cache.truncate(0);
        prefill(model, lora, &mut self.ws, &mut self.cache, &self.prefix).await?;
        self.filled_by = Some(id);
        Ok(())
    }

    async fn start(
        &mut self,
        model: &Model,
        lora: Option<&Lora>,
        rows: &[Vec<u32>],
    ) -> Result<(Staging, usize), ModelError> {
        let rows: Vec<Row> = rows.iter().map(|tokens| Row { tokens, id: 0 }).collect();
        let packed = Packed::after_cache(&rows, self.prefix.len())?;
        packed.check(model.config.vocab, model.max_positions())?;
        let last = packed.rows.iter().map(|row| row.end as u32 - 1).collect();
        model.set_batch(&mut self.ws, packed, Some(last)).await?;
        let mut c = Commands::new();
        let pass = Pass { lora, dropout: None };
        model.forward(&mut c, &self.ws, pass, Some(&mut self.cache))?;
        self.cache.truncate(self.prefix.len());
        let classes = self.classes as u32;
        model.logits(&mut c, &self.ws, &self.head, 0..classes, &self.logits, classes);
        model.gpu.run(&c).await?;
        Ok((model.gpu.start_read(self.logits.clone()), rows.len()))
    }

    async fn collect(
        &self,
        model: &Model,
        (staging, rows): (Staging, usize),
        scores: &mut Vec<Vec<f32>>,
    ) -> Result<(), ModelError> {
        let logits = model.gpu.finish_read::<f32>(staging).await?;
        for row in logits.chunks_exact(self.classes).take(rows) {
            scores.push(softmax(row)?);
        }
        Ok(())
    }
}

fn sizes(lora: Option<&Lora>, max_tokens: usize) -> Sizes {
    let lora = lora.map(|l| l.layout.config.clone());
    Sizes { tokens: max_tokens, chosen: max_tokens, lora, training: None }
}

/// Splits rows into batches of at most `budget` tokens, in order.
fn batches(rows: &[Vec<u32>], budget: usize) -> Result<Vec<Range<usize>>, ModelError> {
    let mut batches: Vec<Range<usize>> = vec![];
    let mut room = 0;
    for (i, row) in rows.iter().enumerate() {
        if row.is_empty() {
            return Err(ModelError::Empty("every row needs a token after the prompt's prefix"));
        }
        if row.len() > budget {
            return Err(ModelError::TooLong { tokens: row.len(), max: budget });
        }
        match batches.last_mut() {
            Some(batch) if row.len() <= room => batch.end = i + 1,
            _ => {
                batches.push(i..i + 1);
                room = budget;
            }
        }
        room -= row.len();
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_the_order_and_the_budget() {
        let rows = |lengths: &[usize]| lengths.iter().map(|&n| vec![1; n]).collect::<Vec<_>>();
        assert_eq!(batches(&rows(&[3, 4, 5, 10, 1]), 10).unwrap(), [0..2, 2..3, 3..4, 4..5]);
        assert!(batches(&rows(&[]), 10).unwrap().is_empty());
        assert!(matches!(
            batches(&rows(&[11]), 10),
            Err(ModelError::TooLong { tokens: 11, max: 10 })
        ));
        assert!(batches(&rows(&[1, 0]), 10).is_err());
    }
}
