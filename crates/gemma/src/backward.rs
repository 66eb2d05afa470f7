//! The backward pass: forward.rs in reverse order, with the prefix `d_`.
//!
//! The gradient of the residual stream, `d_x`, is passed down in place: the gradient through a
//! block's norm is added to it. Weights are frozen, so the only parameter gradients are those of
//! LoRA's factors, which are `+=`: they accumulate over micro-batches.

use hearth_gpu::{Commands, Slice};
use hearth_kernels::{
    attention_backward_dkv,
    attention_backward_dkv::{AttentionBackwardDkv, RowParts},
    attention_backward_dq,
    attention_backward_dq::AttentionBackwardDq,
    lora_dz::{self, LoraDz},
    lora_grad::{self, Group, LoraGrad},
    matmul::Parts,
    matmul_backward::{self, LowRankBackward, MatmulBackward},
    qk_norm_rope::Direction,
    residual_norm_backward::{self, ResidualNormBackward},
    rms_norm_backward::{self, RmsNormBackward},
    scatter_rows::{self, ScatterRows},
};

use crate::{
    Lora, Model, ModelError, dropout,
    flat::Flat,
    forward::Pass,
    lora::Projection,
    workspace::{Activations, Gradients, Workspace},
};

/// Inputs of a backward pass.
#[derive(Clone, Copy)]
pub struct BackwardPass<'a> {
    /// The adapter being trained.
    pub lora: &'a Lora,
    /// Its gradients, laid out like its parameters.
    pub d_params: &'a Flat,
    /// The dropout that forward used.
    pub dropout: Option<dropout::Step>,
}

impl<'a> BackwardPass<'a> {
    fn forward(self) -> Pass<'a> {
        Pass { lora: Some(self.lora), dropout: self.dropout }
    }
}

/// The projections of one input, with the gradient of their outputs.
#[derive(Clone, Copy)]
struct Outputs<'a> {
    /// The first of them.
    projection: Projection,
    /// Their input, `(T, in)`.
    x: &'a Slice,
    /// The gradient, side by side as the stacked weights have them, `(T, sum of out)`.
    d_y: &'a Slice,
}

/// Where a gradient is computed: what most of a layer's functions need.
#[derive(Clone, Copy)]
struct Step<'a> {
    ws: &'a Workspace,
    g: &'a Gradients,
    pass: BackwardPass<'a>,
    layer: usize,
    tokens: u32,
}

impl Model {
    /// Records the backward pass. `d_hidden`, the gradient of `ws.hidden`, `(M, C)`, is in
    /// `ws.gradients.d_c`. If activations were not kept, every layer runs forward once more.
    ///
    /// # Errors
    /// A workspace made for forward only.
    pub fn backward(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        pass: BackwardPass,
    ) -> Result<(), ModelError> {
        let g = ws.gradients()?;
        let layers = self.config.layers.len();
        let lowest = pass.lora.layout.lowest_layer();
        // With chosen rows, the residual stream has only those rows from the head down to the last
        // layer's attention.
        let d_x = if ws.chosen.is_some() { &g.d_x_chosen } else { &g.d_x };
        let x = ws.x(layers);
        let gain = &self.weights.final_norm;
        self.d_norm(c, x, gain, (&g.d_c, None), d_x, ws.chosen_count(), false);
        for layer in (lowest..layers).rev() {
            let kept = ws.sizes.training == Some(Activations::Keep);
            // The last layer's activations are still available from the forward pass.
            if !kept && layer + 1 < layers {
                self.first_norm(c, ws, layer);
                self.forward_layer(c, ws, layer, pass.forward(), None, false);
                c.boundary();
            }
            let below = (kept && layer > lowest).then(|| layer - 1);
            self.backward_layer(c, ws, g, layer, pass, (below, layer == lowest));
            c.boundary();
        }
        Ok(())
    }

    fn backward_layer(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        g: &Gradients,
        index: usize,
        pass: BackwardPass,
        (below, lowest): (Option<usize>, bool),
    ) {
        let a = ws.layer(index);
        let last = index + 1 == self.config.layers.len();
        match &ws.chosen {
            Some(chosen) if last => {
                let rows = chosen.len() as u32;
                let parts = self.backward_mlp(c, ws, g, index, pass, &g.d_x_chosen, rows);
                let (mlp_norm, d_h) = (&self.weights.layers[index].mlp_norm, (&g.d_h, parts));
                self.d_norm(c, &a.mid_chosen, mlp_norm, d_h, &g.d_x_chosen, rows, true);
                let (tokens, columns) = (ws.token_count(), self.config.hidden as u32);
                let (lists, d_y, d_x) = (&ws.lists, &g.d_x_chosen, &g.d_x);
                scatter_rows::record(
                    c,
                    &ScatterRows { lists, d_y, d_x, rows: tokens, columns, add: false },
                );
                self.d_post_attention(c, ws, g, index);
            }
            _ => {
                let parts = self.backward_mlp(c, ws, g, index, pass, &g.d_x, ws.token_count());
                self.d_between(c, ws, g, index, parts);
            }
        }
        self.backward_attention(c, ws, g, index, pass, (below, lowest));
    }

    /// Records the gradient of the norm on attention's output, from `d_x` to `d_c`, in models that
    /// have this norm.
    fn d_post_attention(&self, c: &mut Commands, ws: &Workspace, g: &Gradients, index: usize) {
        if let Some(post) = &self.weights.layers[index].post_attention_norm {
            let y = &ws.layer(index).attention_out;
            self.d_norm(c, y, post, (&g.d_x, None), &g.d_c, ws.token_count(), false);
        }
    }

    /// Records the gradients of the norm before the MLP (`d_x +=`), and of the one on attention's output.
    fn d_between(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        g: &Gradients,
        index: usize,
        parts: Option<Parts>,
    ) {
        let (w, a, t) = (&self.weights.layers[index], ws.layer(index), ws.token_count());
        match &w.post_attention_norm {
            Some(post) => {
                let gains = [post, &w.mlp_norm];
                self.d_residual_norm(c, g, [&a.attention_out, &a.mid], parts, gains, t);
            }
            None => self.d_norm(c, &a.mid, &w.mlp_norm, (&g.d_h, parts), &g.d_x, t, true),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the rows and their stream depend on the layer")]
    fn backward_mlp<'a>(
        &self,
        c: &mut Commands,
        ws: &'a Workspace,
        g: &Gradients,
        index: usize,
        pass: BackwardPass,
        d_x: &Slice,
        rows: u32,
    ) -> Option<Parts<'a>> {
        let (w, a) = (&self.weights.layers[index], ws.layer(index));
        let step = Step { ws, g, pass, layer: index, tokens: rows };
        let kept = ws.sizes.training == Some(Activations::Keep);
        let d_out = match &w.post_mlp_norm {
            Some(post) => {
                // The layer above has already done this if this layer's activations were kept.
                if !kept || index + 1 == self.config.layers.len() {
                    self.d_norm(c, &a.mlp_out, post, (d_x, None), &g.d_c, rows, false);
                }
                &g.d_c
            }
            None => d_x,
        };
        let down = Outputs { projection: Projection::Down, x: &a.act, d_y: d_out };
        self.d_low_rank(c, step, down);
        // From here on, `gate_up` holds its gradient.
        self.d_inputs(c, step, down, &g.d_act, Some(&a.gate_up), None);
        let gate_up = Outputs { projection: Projection::Gate, x: &a.h_mlp, d_y: &a.gate_up };
        self.d_low_rank(c, step, gate_up);
        self.d_factors(c, step, [gate_up, down]);
        self.d_inputs(c, step, gate_up, &g.d_h, None, self.parts(ws, index))
    }

    fn backward_attention(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        g: &Gradients,
        index: usize,
        pass: BackwardPass,
        (below, lowest): (Option<usize>, bool),
    ) {
        let (w, a, x) = (&self.weights.layers[index], ws.layer(index), ws.x(index));
        let t = ws.token_count();
        let step = Step { ws, g, pass, layer: index, tokens: t };

        let d_out = if w.post_attention_norm.is_some() { &g.d_c } else { &g.d_x };
        let o = Outputs { projection: Projection::O, x: &a.o, d_y: d_out };
        self.d_low_rank(c, step, o);
        self.d_inputs(c, step, o, &g.d_o, None, None);
        let parts = self.d_attend(c, ws, g, index);
        let direction = Direction::Backward { d_qkv: &g.d_qkv, parts };
        self.rotate(c, ws, index, [&g.d_q, &g.d_k], direction);
        let qkv = Outputs { projection: Projection::Q, x: &a.h, d_y: &g.d_qkv };
        self.d_low_rank(c, step, qkv);
        self.d_factors(c, step, [qkv, o]);
        // Below the lowest adapted layer, no gradient is needed.
        if lowest {
            return;
        }
        let parts = self.d_inputs(c, step, qkv, &g.d_h, None, self.parts(ws, index));
        let below = below.map(|below| (&self.weights.layers[below].post_mlp_norm, ws.layer(below)));
        match below {
            Some((Some(post), below)) => {
                self.d_residual_norm(c, g, [&below.mlp_out, x], parts, [post, &w.input_norm], t);
            }
            _ => self.d_norm(c, x, &w.input_norm, (&g.d_h, parts), &g.d_x, t, true),
        }
    }

    /// Records `d_x += d_norm(out, gain, d_h)` and `d_c = d_norm(y, post, d_x)`.
    fn d_residual_norm(
        &self,
        c: &mut Commands,
        g: &Gradients,
        [x, out]: [&Slice; 2],
        parts: Option<Parts>,
        [post, gain]: [&Slice; 2],
        rows: u32,
    ) {
        let (columns, eps) = (self.config.hidden as u32, self.config.norm_eps);
        let (d_h, d_x, d_y) = (&g.d_h, &g.d_x, &g.d_c);
        let op =
            ResidualNormBackward { x, out, post, gain, d_h, parts, d_x, d_y, rows, columns, eps };
        residual_norm_backward::record(c, &op);
    }

    /// Records the gradients of attention's inputs, and says in which parts those of keys and values come.
    fn d_attend(&self, c: &mut Commands, ws: &Workspace, g: &Gradients, index: usize) -> RowParts {
        let a = ws.layer(index);
        let shape = self.attention_shape(ws, index);
        let tokens_meta = &ws.meta;
        let (q, k, v, d_o, rows) = (&a.q, &a.k, &a.v, &g.d_o, &a.attention_rows);
        attention_backward_dq::record(
            c,
            &self.variants,
            &AttentionBackwardDq { shape, q, k, v, tokens_meta, d_o, o: &a.o, rows, d_q: &g.d_q },
        );
        let parts = RowParts::of(&self.variants, &shape);
        let (d_k, d_qkv) = (&g.d_k, &g.d_qkv);
        attention_backward_dkv::record(
            c,
            &self.variants,
            &AttentionBackwardDkv { shape, q, k, v, tokens_meta, d_o, rows, d_k, parts, d_qkv },
        );
        parts
    }

    /// Records dX = dY W + dZ A for the projections of one input; with `gate_up`, their input is its GeGLU, and
    /// `gate_up` becomes its gradient instead. Returns the parts in which `d_x` comes, where they are allowed and it does.
    fn d_inputs<'a>(
        &self,
        c: &mut Commands,
        step: Step,
        outputs: Outputs,
        d_x: &Slice,
        gate_up: Option<&Slice>,
        parts: Option<Parts<'a>>,
    ) -> Option<Parts<'a>> {
        let Step { g, pass, layer, tokens, .. } = step;
        let (lora, group) = (pass.lora, outputs.projection.group());
        let w = self.weights.layers[layer].group(group);
        // With dropout, the term passes through the mask.
        let add = pass.dropout.is_some() && self.d_dropped(c, step, group, d_x);
        let mut runs = lora.runs(layer, group, true);
        if pass.dropout.is_some() {
            runs.clear();
        }
        let a: Vec<_> = runs.iter().map(|run| (lora.a(run), run.z_first)).collect();
        let terms = a.iter().map(|(a, z_first)| LowRankBackward {
            d_z: &g.d_z,
            z_stride: lora.layout.z_stride(),
            z_first: *z_first,
            a: &a.slabs[0].quants,
            rank: a.rows,
        });
        // One run has all targets. Other runs follow, each with the rows of one projection.
        let mut terms = terms.map(Some).collect::<Vec<_>>();
        let ranges: Vec<_> = match terms.len() {
            0 | 1 => std::iter::once(0..w.rows).collect(),
            _ => Projection::GROUPS[group].iter().map(|p| p.rows(&self.config)).collect(),
        };
        terms.resize(ranges.len(), None);
        let last = ranges.len() - 1;
        let parts = parts.filter(|_| last == 0);
        let mut count = 1;
        for (index, (rows, low_rank)) in ranges.into_iter().zip(terms).enumerate() {
            let (d_y, y_stride, y_first) = (outputs.d_y, w.rows, rows.start);
            let add = add || index > 0;
            let geglu = gate_up.filter(|_| index == last);
            let op = MatmulBackward {
                d_y,
                w,
                d_x,
                tokens,
                rows,
                y_stride,
                y_first,
                low_rank,
                add,
                geglu,
                parts,
            };
            count = matmul_backward::record(c, &self.variants, &op);
        }
        parts.and_then(|parts| parts.made(count))
    }

    /// Records dX = dZ A through the mask of every target of a group. `false` if there is none.
    fn d_dropped(&self, c: &mut Commands, step: Step, group: usize, d_x: &Slice) -> bool {
        let Step { ws, g, pass, layer, tokens } = step;
        let lora = pass.lora;
        let runs = lora.runs(layer, group, false);
        for (index, run) in runs.iter().enumerate() {
            let a = &lora.a(run);
            let op = MatmulBackward {
                d_y: &g.d_z,
                w: a,
                d_x: &ws.dropped,
                tokens,
                rows: 0..a.rows,
                y_stride: lora.layout.z_stride(),
                y_first: run.z_first,
                low_rank: None,
                add: false,
                geglu: None,
                parts: None,
            };
            matmul_backward::record(c, &self.variants, &op);
            let (site, columns) = ((layer, run.targets[0].0), a.columns as usize);
            self.d_drop_inputs(c, ws, pass.dropout, site, d_x, columns, tokens, index > 0);
        }
        !runs.is_empty()
    }

    /// Records dZ = s dY B for the targets among the projections of one input.
    fn d_low_rank(&self, c: &mut Commands, step: Step, outputs: Outputs) {
        let Step { g, pass, layer, tokens, .. } = step;
        let (lora, group, d_y) = (pass.lora, outputs.projection.group(), outputs.d_y);
        let (rank, scale) = (lora.layout.config.padded_rank(), lora.layout.config.scale());
        let y_stride = self.weights.layers[layer].group(group).rows;
        for run in lora.runs(layer, group, true) {
            let (b, z_first) = (&lora.b(&run), run.z_first);
            let (d_z, z_stride, parts) =
                (&g.d_z, lora.layout.z_stride(), &self.target_rows(&run, 0)[..]);
            let op =
                LoraDz { d_y, y_stride, parts, b, d_z, z_stride, z_first, tokens, rank, scale };
            lora_dz::record(c, &self.variants, &op);
        }
    }

    /// Records dB += s dYᵀ Z and dA += dZᵀ X for the targets among the projections of two inputs.
    fn d_factors(&self, c: &mut Commands, step: Step, both: [Outputs; 2]) {
        let Step { ws, g, pass, layer, tokens } = step;
        let lora = pass.lora;
        let together = pass.dropout.is_none();
        let mut groups = Vec::new();
        for outputs in &both {
            let group = outputs.projection.group();
            let y_stride = self.weights.layers[layer].group(group).rows;
            for run in lora.runs(layer, group, together) {
                let d_a = pass.d_params.slice(run.a.start, run.a.len());
                let d_b = pass.d_params.slice(run.b.start, run.b.len());
                groups.push((*outputs, y_stride, self.target_rows(&run, 0), run, d_a, d_b));
            }
        }
        let record = |c: &mut Commands, groups: &[Group]| {
            let op = LoraGrad {
                groups,
                z: &ws.layer(layer).z,
                d_z: &g.d_z,
                z_stride: lora.layout.z_stride(),
                tokens,
                rank: lora.layout.config.padded_rank(),
                scale: lora.layout.config.scale(),
            };
            lora_grad::record(c, &self.variants, &op);
        };
        let mut pending = Vec::new();
        for (outputs, y_stride, parts, run, d_a, d_b) in &groups {
            let (projection, slot) = run.targets[0];
            let site = (layer, projection);
            // With dropout, each projection has its own inputs, in one buffer.
            let x = &self.drop_inputs(c, ws, pass.dropout, site, outputs.x, slot.inputs, tokens);
            let group = Group {
                d_y: outputs.d_y,
                y_stride: *y_stride,
                parts,
                z_first: run.z_first,
                x: outputs.x,
                inputs: slot.inputs as u32,
                d_a,
                d_b,
            };
            if together {
                pending.push(group);
            } else {
                record(c, &[Group { x, ..group }]);
            }
        }
        record(c, &pending);
    }

    #[expect(clippy::too_many_arguments, reason = "a norm's operands and its rows")]
    fn d_norm(
        &self,
        c: &mut Commands,
        x: &Slice,
        gain: &Slice,
        (d_y, parts): (&Slice, Option<Parts>),
        d_x: &Slice,
        rows: u32,
        add: bool,
    ) {
        let (columns, eps) = (self.config.hidden as u32, self.config.norm_eps);
        rms_norm_backward::record(
            c,
            &RmsNormBackward { x, gain, d_y, parts, d_x, rows, columns, eps, add },
        );
    }
}
