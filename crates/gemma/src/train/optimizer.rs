//! AdamW over an adapter's flat buffers; all of its decisions are made on the device.

use std::collections::BTreeMap;

use hearth_gpu::{Commands, Gpu, Slice};
use hearth_kernels::{
    adamw::{self, AdamW},
    grad_norm::{self, GradNorm, Step},
    square_sum::{self, PARTS, SquareSum},
};
use serde::{Deserialize, Serialize};

use crate::{LoraLayout, ModelError, flat::Flat, memory::Memory};

/// The numbers that a step keeps on the device, read back one step later.
pub type Numbers = Step;

/// Settings of the optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the square root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Gradients are scaled down to this global norm; 0: never.
    pub max_norm: f32,
    /// Learning rate of B divided by that of A (LoRA+); 1: equal.
    #[serde(alias = "b_ratio")]
    pub lora_plus_ratio: f32,
}

impl Default for Adam {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            max_norm: 1.0,
            lora_plus_ratio: 1.0,
        }
    }
}

/// Moments and bookkeeping on the device.
pub(super) struct State<B = Slice> {
    m: Flat<B>,
    v: Flat<B>,
    /// Factor on the learning rate, one for every four parameters.
    rate_scale: Flat<B>,
    /// Partial sums of squares, `(slabs, PARTS)`.
    parts: B,
    step: B,
}

impl<B> State<B> {
    pub(super) fn allocate<M: Memory<Buffer = B>>(
        memory: &mut M,
        layout: &LoraLayout,
    ) -> Result<Self, ModelError> {
        let slabs = layout.slabs(memory.max_binding()).len();
        Ok(Self {
            m: Flat::allocate(memory, "first moment", layout, 1)?,
            v: Flat::allocate(memory, "second moment", layout, 1)?,
            rate_scale: Flat::allocate(memory, "rate scale", layout, 4)?,
            parts: memory.numbers("norm parts", slabs, PARTS as usize)?,
            step: memory.numbers("step", size_of::<Step>() / 4, 1)?,
        })
    }
}

impl State {
    /// Initializes the state before the first step.
    pub(super) fn start(&self, gpu: &Gpu, layout: &LoraLayout, adam: &Adam) {
        let rank = layout.config.padded_rank() as usize;
        let mut scale = vec![1.0f32; layout.len / 4];
        for (_, _, slot) in layout.slots() {
            scale[slot.b / 4..(slot.b + slot.outputs * rank) / 4].fill(adam.lora_plus_ratio);
        }
        self.rate_scale.write(gpu, &scale);
        gpu.write(&self.step, 0, &[Step::start()]);
    }

    /// Records the start of a step: loss and correct predictions start from zero.
    pub(super) fn begin(&self, c: &mut Commands) {
        c.clear(self.step.slice(0, 8));
    }

    /// The buffer in which the loss and the number of correct predictions are accumulated.
    pub(super) fn loss(&self) -> &Slice {
        &self.step
    }

    /// The step's numbers.
    pub(super) fn numbers(&self) -> Slice {
        self.step.clone()
    }

    /// Records norm, clipping and the update.
    pub(super) fn update(
        &self,
        c: &mut Commands,
        adam: &Adam,
        params: &Flat,
        gradients: &Flat,
        rate: f64,
    ) {
        let (parts, step) = (&self.parts, &self.step);
        let part = 4 * u64::from(PARTS);
        for (x, index) in gradients.slabs().iter().zip(0..) {
            let parts = &parts.slice(index * part, part);
            square_sum::record(c, &SquareSum { x, parts, count: count(x) });
        }
        let Adam { beta1, beta2, eps, weight_decay, max_norm, .. } = *adam;
        grad_norm::record(c, &GradNorm { parts, step, max_norm, beta1, beta2 });
        for (index, grad) in gradients.slabs().iter().enumerate() {
            adamw::record(
                c,
                &AdamW {
                    grad,
                    rate_scale: &self.rate_scale.slabs()[index],
                    step,
                    param: &params.slabs()[index],
                    m: &self.m.slabs()[index],
                    v: &self.v.slabs()[index],
                    count: count(grad),
                    rate: rate as f32,
                    beta1,
                    beta2,
                    eps,
                    decay: weight_decay,
                },
            );
        }
    }

    /// Moments and bookkeeping (as bits) by name.
    pub(super) async fn buffers(
        &self,
        gpu: &Gpu,
    ) -> Result<BTreeMap<String, Vec<f32>>, ModelError> {
        Ok(BTreeMap::from([
            ("m".to_owned(), self.m.read(gpu).await?),
            ("v".to_owned(), self.v.read(gpu).await?),
            ("step".to_owned(), gpu.read(&self.step).await?),
        ]))
    }

    pub(super) fn restore(
        &self,
        gpu: &Gpu,
        from: &BTreeMap<String, Vec<f32>>,
    ) -> Result<(), ModelError> {
        let get = |name: &str, len: usize| {
            let data = from.get(name).filter(|data| data.len() == len);
            data.ok_or(ModelError::Empty("the snapshot's optimizer has another size"))
        };
        self.m.write(gpu, get("m", self.m.len())?);
        self.v.write(gpu, get("v", self.v.len())?);
        gpu.write(&self.step, 0, get("step", size_of::<Step>() / 4)?);
        Ok(())
    }
}

/// Number of values in a slab.
fn count(slab: &Slice) -> u32 {
    (slab.bytes() / 4) as u32
}
