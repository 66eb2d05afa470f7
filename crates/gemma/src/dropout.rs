//! LoRA's dropout.

use hearth_gpu::{Commands, Slice};

use crate::{Model, lora::Projection, workspace::Workspace};

/// Dropout of one optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Seed of the run.
    pub seed: u32,
    /// Optimizer step.
    pub step: u32,
    /// Probability of dropping.
    pub probability: f32,
}

impl Model {
    pub(crate) fn drop_inputs(
        &self,
        _c: &mut Commands,
        _ws: &Workspace,
        _step: Option<Step>,
        _site: (usize, Projection),
        x: &Slice,
        _inputs: usize,
        _tokens: u32,
    ) -> Slice {
        x.clone()
    }
    pub(crate) fn soft_cap(&self, _c: &mut Commands, _y: &Slice, _count: u32) {}
}
