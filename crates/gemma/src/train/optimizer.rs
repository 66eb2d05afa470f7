//! AdamW over an adapter's flat buffers; everything it decides, it decides on the device.

use std::collections::BTreeMap;

use hearth_gpu::{Buffer, Commands, Gpu, Slice};
use hearth_kernels::{
    adamw::{self, AdamW},
    grad_norm::{self, GradNorm, Step},
    square_sum::{self, PARTS, SquareSum},
};
use serde::{Deserialize, Serialize};

use crate::{LoraLayout, ModelError};

/// What a step keeps on the device, read back a step later.
pub type Numbers = Step;

/// Settings of the optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Gradients are scaled down to this global norm; 0: never.
    pub max_norm: f32,
    /// Learning rate of B over that of A (LoRA+); 1: equal.
    pub b_ratio: f32,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, max_norm: 1.0, b_ratio: 1.0 }
    }
}

/// Moments and bookkeeping on the device.
pub(super) struct State {
    m: Buffer,
    v: Buffer,
    rate_scale: Buffer,
    parts: Buffer,
    step: Buffer,
    count: u32,
}

impl State {
    pub(super) fn new(gpu: &Gpu, layout: &LoraLayout, adam: &Adam) -> Result<Self, ModelError> {
        let rank = layout.config.padded_rank() as usize;
        let mut scale = vec![1.0f32; layout.len / 4];
        for (_, _, slot) in layout.slots() {
            scale[slot.b / 4..(slot.b + slot.outputs * rank) / 4].fill(adam.b_ratio);
        }
        let bytes = 4 * layout.len as u64;
        Ok(Self {
            m: gpu.buffer("first moment", bytes)?,
            v: gpu.buffer("second moment", bytes)?,
            rate_scale: gpu.buffer_from("rate scale", &scale)?,
            parts: gpu.buffer("norm parts", 4 * u64::from(PARTS))?,
            step: gpu.buffer_from("step", &[Step::start()])?,
            count: layout.len as u32,
        })
    }

    /// Records the start of a step: loss and hits from zero.
    pub(super) fn begin(&self, c: &mut Commands) {
        c.clear(self.step.slice(0, 8));
    }

    /// Where the loss and the number of right predictions are added up.
    pub(super) fn loss(&self) -> &Buffer {
        &self.step
    }

    /// The step's numbers.
    pub(super) fn numbers(&self) -> Slice {
        self.step.all()
    }

    /// Records norm, clipping and the update.
    pub(super) fn update(
        &self,
        c: &mut Commands,
        adam: &Adam,
        param: &Buffer,
        grad: &Buffer,
        rate: f64,
    ) {
        let (grad, parts, step) = (&grad.all(), &self.parts.all(), &self.step.all());
        square_sum::record(c, &SquareSum { x: grad, parts, count: self.count });
        let Adam { beta1, beta2, eps, weight_decay, max_norm, .. } = *adam;
        grad_norm::record(c, &GradNorm { parts, step, max_norm, beta1, beta2 });
        adamw::record(
            c,
            &AdamW {
                grad,
                rate_scale: &self.rate_scale.all(),
                step,
                param: &param.all(),
                m: &self.m.all(),
                v: &self.v.all(),
                count: self.count,
                rate: rate as f32,
                beta1,
                beta2,
                eps,
                decay: weight_decay,
            },
        );
    }

    /// Moments and bookkeeping (as bits) by name.
    pub(super) async fn buffers(
        &self,
        gpu: &Gpu,
    ) -> Result<BTreeMap<String, Vec<f32>>, ModelError> {
        Ok(BTreeMap::from([
            ("m".to_owned(), gpu.read(&self.m).await?),
            ("v".to_owned(), gpu.read(&self.v).await?),
            ("step".to_owned(), gpu.read(&self.step).await?),
        ]))
    }

    pub(super) fn restore(
        &self,
        gpu: &Gpu,
        from: &BTreeMap<String, Vec<f32>>,
    ) -> Result<(), ModelError> {
        for (name, buffer) in [("m", &self.m), ("v", &self.v), ("step", &self.step)] {
            let data = from.get(name).filter(|data| 4 * data.len() as u64 == buffer.bytes());
            let data =
                data.ok_or(ModelError::Empty("the snapshot's optimizer has another size"))?;
            gpu.write(buffer, 0, data);
        }
        Ok(())
    }
}
