//! From hidden states to the loss and back: the part of the head that the loss needs.

use hearth_gpu::{Commands, Gpu, Slice};
use hearth_kernels::{
    cross_entropy::{self, CrossEntropy},
    cross_entropy_backward::{self, CrossEntropyBackward},
    loss_sum::{self, LossSum},
    matmul_backward::{self, MatmulBackward},
    matrix::Matrix,
};

use super::TrainConfig;
use crate::{
    Model, ModelError,
    targets::{Loss, PackedTargets},
    workspace::Workspace,
};

/// Numbers of a chunk of logits, M × columns: 32 MB.
const CHUNK: usize = 8 << 20;

/// The output head of a loss: the classes' rows only, or the whole vocabulary in chunks.
pub struct Head {
    /// The classes' rows, `(classes, C)`; `None`: the model's whole head.
    classes: Option<Matrix>,
    /// Tokens in a chunk.
    columns: u32,
    logits: Slice,
    targets: Slice,
    weights: Slice,
    stats: Slice,
}

impl Head {
    /// Allocates for at most `targets` predictions at once.
    ///
    /// # Errors
    /// Class tokens beyond the vocabulary, device memory.
    pub(crate) async fn new(
        model: &Model,
        config: &TrainConfig,
        targets: usize,
    ) -> Result<Self, ModelError> {
        let gpu = &model.gpu;
        let classes = match config.loss {
            Loss::Choice => Some(class_rows(model, &config.classes).await?),
            Loss::Label | Loss::Sequence => {
                model.weights.output_head()?;
                None
            }
        };
        let columns = logit_columns(config, model.config.vocab, targets);
        let stride = columns.next_multiple_of(4);
        let buffer =
            |label, count: usize| Ok::<_, ModelError>(gpu.buffer(label, 4 * count as u64)?.all());
        Ok(Self {
            classes,
            columns: columns as u32,
            logits: buffer("logits", targets * stride)?,
            targets: buffer("targets", targets)?,
            weights: buffer("target weights", targets)?,
            stats: buffer("row statistics", 4 * targets)?,
        })
    }

    /// Uploads the predictions of a micro-batch; `scale` is one over the batch's weight.
    pub(crate) fn set_targets(
        &self,
        gpu: &Gpu,
        targets: &PackedTargets,
        scale: f32,
    ) -> Result<(), ModelError> {
        let weights: Vec<f32> = targets.weights.iter().map(|w| w * scale).collect();
        gpu.write(&self.targets, 0, &targets.tokens);
        gpu.write(&self.weights, 0, &weights);
        Ok(())
    }

    /// Records the loss of the chosen positions (`+=` into `loss`) and the gradient of their
    /// hidden states (`=`, into `ws.gradients.d_c`).
    pub(crate) fn record(
        &self,
        c: &mut Commands,
        model: &Model,
        ws: &Workspace,
        loss: &Slice,
    ) -> Result<(), ModelError> {
        let head = match &self.classes {
            Some(rows) => rows,
            None => model.weights.output_head()?,
        };
        let chunks: Vec<_> = (0..head.rows).step_by(self.columns as usize).collect();
        for &first in &chunks {
            self.logits(c, model, ws, head, first);
            let (rows, columns) = (ws.chosen_count(), self.columns.min(head.rows - first));
            let (logits, targets, stats) = (&self.logits, &self.targets, &self.stats);
            let stride = self.stride();
            cross_entropy::record(
                c,
                &CrossEntropy { logits, targets, stats, rows, columns, stride, first },
            );
            c.boundary();
        }
        let rows = ws.chosen_count();
        loss_sum::record(c, &LossSum { weights: &self.weights, stats: &self.stats, loss, rows });
        for &first in &chunks {
            // The last chunk's logits are still there when it is the only one.
            if chunks.len() > 1 {
                self.logits(c, model, ws, head, first);
            }
            self.backward(c, model, ws, head, first)?;
            c.boundary();
        }
        Ok(())
    }

    fn logits(&self, c: &mut Commands, model: &Model, ws: &Workspace, head: &Matrix, first: u32) {
        let end = (first + self.columns).min(head.rows);
        model.logits(c, ws, head, first..end, &self.logits, self.stride());
    }

    fn backward(
        &self,
        c: &mut Commands,
        model: &Model,
        ws: &Workspace,
        head: &Matrix,
        first: u32,
    ) -> Result<(), ModelError> {
        let (rows, columns) = (ws.chosen_count(), self.columns.min(head.rows - first));
        let op = CrossEntropyBackward {
            targets: &self.targets,
            weights: &self.weights,
            stats: &self.stats,
            logits: &self.logits,
            rows,
            columns,
            stride: self.stride(),
            first,
            softcap: model.config.final_softcap.unwrap_or(0.0),
        };
        cross_entropy_backward::record(c, &op);
        let op = MatmulBackward {
            d_y: &self.logits,
            w: head,
            d_x: &ws.gradients()?.d_c,
            tokens: rows,
            rows: first..first + columns,
            y_stride: self.stride(),
            scale: 1.0,
            low_rank: None,
            add: first > 0,
        };
        matmul_backward::record(c, &op);
        Ok(())
    }

    fn stride(&self) -> u32 {
        self.columns.next_multiple_of(4)
    }
}

/// Columns of logits that are held at once; the memory plan needs to know.
pub fn logit_columns(config: &TrainConfig, vocab: usize, targets: usize) -> usize {
    match config.loss {
        Loss::Choice => config.classes.len().max(1),
        Loss::Label | Loss::Sequence => {
            (CHUNK / targets.max(1) / 64 * 64).clamp(64, vocab.max(64)).min(vocab)
        }
    }
}

/// The classes' rows of the output head in f32, `(classes, C)`.
///
/// # Errors
/// Fewer than two classes, tokens beyond the vocabulary, device memory.
async fn class_rows(model: &Model, classes: &[u32]) -> Result<Matrix, ModelError> {
    if classes.len() < 2 {
        return Err(ModelError::Options("choosing takes at least two class tokens".to_owned()));
    }
    model.head_rows(classes).await
}
