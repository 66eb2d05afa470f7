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
    memory::Memory,
    targets::{Loss, PackedTargets},
    workspace::Workspace,
};

/// Number of logits in a chunk, M × columns: 32 MB.
const CHUNK: usize = 8 << 20;

/// What the logits cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    /// This many classes.
    Classes(usize),
    /// A vocabulary of this many tokens, in chunks.
    Vocabulary(usize),
}

impl Logits {
    /// The logits of a loss on a model with `vocab` tokens.
    pub fn of(config: &TrainConfig, vocab: usize) -> Self {
        match config.loss {
            Loss::Choice => Self::Classes(config.classes.len()),
            Loss::Label | Loss::Sequence => Self::Vocabulary(vocab),
        }
    }

    /// Columns that are held at once for `targets` predictions.
    pub fn columns(self, targets: usize, max_binding: u64) -> usize {
        match self {
            Self::Classes(classes) => classes.max(1),
            Self::Vocabulary(vocab) => {
                let fitting = usize::try_from(max_binding / 4).unwrap_or(usize::MAX);
                let chunk = CHUNK.min(fitting);
                (chunk / targets.max(1) / 64 * 64).clamp(64, vocab.max(64)).min(vocab)
            }
        }
    }
}

/// Buffers of the head on the device.
pub(super) struct HeadBuffers<B = Slice> {
    /// The classes' rows of the output head, `(classes, C)`.
    class_rows: Option<B>,
    /// Tokens in a chunk.
    columns: u32,
    logits: B,
    targets: B,
    weights: B,
    stats: B,
}

impl<B> HeadBuffers<B> {
    /// Allocates for at most `targets` predictions at once.
    pub(super) fn allocate<M: Memory<Buffer = B>>(
        memory: &mut M,
        of: Logits,
        hidden: usize,
        targets: usize,
    ) -> Result<Self, ModelError> {
        let columns = of.columns(targets, memory.max_binding());
        let class_rows = match of {
            Logits::Classes(classes) => Some(memory.numbers("class rows", classes, hidden)?),
            Logits::Vocabulary(_) => None,
        };
        Ok(Self {
            class_rows,
            columns: columns as u32,
            logits: memory.numbers("logits", targets, columns.next_multiple_of(4))?,
            targets: memory.numbers("targets", targets, 1)?,
            weights: memory.numbers("target weights", targets, 1)?,
            stats: memory.numbers("row statistics", targets, 4)?,
        })
    }
}

/// The output head of a loss: the classes' rows only, or the whole vocabulary in chunks.
pub struct Head {
    /// The classes' rows, `(classes, C)`; `None`: the model's whole head.
    classes: Option<Matrix>,
    buffers: HeadBuffers,
}

impl Head {
    /// Checks that the loss can be computed on the model.
    pub(super) fn check(model: &Model, config: &TrainConfig) -> Result<(), ModelError> {
        match config.loss {
            Loss::Choice if config.classes.len() < 2 => {
                Err(ModelError::Options("choosing takes at least two class tokens".to_owned()))
            }
            Loss::Choice => Ok(()),
            Loss::Label | Loss::Sequence => model.weights.output_head().map(|_| ()),
        }
    }

    /// Fills the classes' rows.
    ///
    /// # Errors
    /// Class tokens beyond the vocabulary, a device error.
    pub(super) async fn new(
        model: &Model,
        config: &TrainConfig,
        buffers: HeadBuffers,
    ) -> Result<Self, ModelError> {
        let classes = match &buffers.class_rows {
            Some(rows) => Some(model.head_rows(&config.classes, rows).await?),
            None => None,
        };
        Ok(Self { classes, buffers })
    }

    /// Uploads the predictions of a micro-batch; `scale` is the reciprocal of the batch's weight.
    pub(crate) fn set_targets(
        &self,
        gpu: &Gpu,
        targets: &PackedTargets,
        scale: f32,
    ) -> Result<(), ModelError> {
        let weights: Vec<f32> = targets.weights.iter().map(|w| w * scale).collect();
        gpu.write(&self.buffers.targets, 0, &targets.tokens);
        gpu.write(&self.buffers.weights, 0, &weights);
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
        let chunks: Vec<_> = (0..head.rows).step_by(self.buffers.columns as usize).collect();
        for &first in &chunks {
            self.logits(c, model, ws, head, first);
            let (rows, columns) = (ws.chosen_count(), self.buffers.columns.min(head.rows - first));
            let (logits, targets, stats) =
                (&self.buffers.logits, &self.buffers.targets, &self.buffers.stats);
            let stride = self.stride();
            cross_entropy::record(
                c,
                &CrossEntropy { logits, targets, stats, rows, columns, stride, first },
            );
            c.boundary();
        }
        let rows = ws.chosen_count();
        loss_sum::record(
            c,
            &LossSum { weights: &self.buffers.weights, stats: &self.buffers.stats, loss, rows },
        );
        for &first in &chunks {
            // The last chunk's logits are still available if it is the only chunk.
            if chunks.len() > 1 {
                self.logits(c, model, ws, head, first);
            }
            self.backward(c, model, ws, head, first)?;
            c.boundary();
        }
        Ok(())
    }

    fn logits(&self, c: &mut Commands, model: &Model, ws: &Workspace, head: &Matrix, first: u32) {
        let end = (first + self.buffers.columns).min(head.rows);
        model.logits(c, ws, head, first..end, &self.buffers.logits, self.stride());
    }

    fn backward(
        &self,
        c: &mut Commands,
        model: &Model,
        ws: &Workspace,
        head: &Matrix,
        first: u32,
    ) -> Result<(), ModelError> {
        let (rows, columns) = (ws.chosen_count(), self.buffers.columns.min(head.rows - first));
        let op = CrossEntropyBackward {
            targets: &self.buffers.targets,
            weights: &self.buffers.weights,
            stats: &self.buffers.stats,
            logits: &self.buffers.logits,
            rows,
            columns,
            stride: self.stride(),
            first,
            softcap: model.config.final_softcap.unwrap_or(0.0),
        };
        cross_entropy_backward::record(c, &op);
        let op = MatmulBackward {
            d_y: &self.buffers.logits,
            w: head,
            d_x: &ws.gradients()?.d_c,
            tokens: rows,
            rows: first..first + columns,
            y_stride: self.stride(),
            y_first: 0,
            low_rank: None,
            add: first > 0,
            geglu: None,
            parts: None,
        };
        matmul_backward::record(c, &model.variants, &op);
        Ok(())
    }

    fn stride(&self) -> u32 {
        self.buffers.columns.next_multiple_of(4)
    }
}
