//! LoRA's dropout on the inputs of A.

use hearth_gpu::{Commands, Slice};
use hearth_kernels::dropout::{self, Dropout};

use crate::{Model, lora::Projection, workspace::Workspace};

/// Dropout of one optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Seed of the run.
    pub seed: u32,
    /// Optimizer step.
    pub step: u32,
    /// Dropout probability.
    pub probability: f32,
}

/// A projection of a layer.
pub(crate) type Site = (usize, Projection);

impl Model {
    /// The inputs of A: x itself, or a copy of it with dropout applied in `ws.dropped`.
    #[expect(clippy::too_many_arguments, reason = "a projection and where it stands")]
    pub(crate) fn drop_inputs(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        step: Option<Step>,
        site: Site,
        x: &Slice,
        columns: usize,
        tokens: u32,
    ) -> Slice {
        let Some(step) = step else { return x.clone() };
        record(c, ws, step, site, x, &ws.dropped, columns, tokens, false);
        ws.dropped.clone()
    }

    /// Records the gradient through A, in `ws.dropped`, through the mask into the gradient of x: `=`, or `+=` with `add`.
    #[expect(clippy::too_many_arguments, reason = "a projection and where it stands")]
    pub(crate) fn d_drop_inputs(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        step: Option<Step>,
        site: Site,
        d_x: &Slice,
        columns: usize,
        tokens: u32,
        add: bool,
    ) {
        if let Some(step) = step {
            record(c, ws, step, site, &ws.dropped, d_x, columns, tokens, add);
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "a kernel's operands and where it stands")]
fn record(
    c: &mut Commands,
    ws: &Workspace,
    step: Step,
    (layer, projection): Site,
    x: &Slice,
    y: &Slice,
    columns: usize,
    tokens: u32,
    add: bool,
) {
    // q, k and v read the same input, but each has its own mask, as in PEFT.
    let site = (layer * Projection::ALL.len() + projection as usize) as u32;
    // The last layer's MLP runs on the chosen rows, which have their own list of keys.
    let last_mlp = layer + 1 == ws.layer_count && !projection.in_attention() && ws.chosen.is_some();
    let keys = if last_mlp { &ws.chosen_dropout_keys } else { &ws.dropout_keys };
    let seed = dropout::seed(step.seed, step.step, site);
    let (columns, probability) = (columns as u32, step.probability);
    dropout::record(c, &Dropout { x, counters: keys, y, tokens, columns, seed, probability, add });
}
