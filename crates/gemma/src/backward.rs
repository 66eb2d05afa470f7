//! The backward pass: forward.rs in reverse order, with the prefix `d_`.
//!
//! The gradient of the residual stream, `d_x`, is passed down in place: the gradient through a
//! block's norm is added to it. Weights are frozen, so the only parameter gradients are those of
//! LoRA's factors, which are `+=`: they accumulate over micro-batches.

use hearth_gpu::{Commands, Slice};
use hearth_kernels::{
    attention_backward_dkv,
    attention_backward_dkv::AttentionBackwardDkv,
    attention_backward_dq,
    attention_backward_dq::AttentionBackwardDq,
    geglu_backward::{self, GegluBackward},
    lora_dz::{self, LoraDz, Part},
    lora_grad::{self, LoraGrad},
    matmul_backward::{self, LowRankBackward, MatmulBackward},
    matrix::Matrix,
    residual_norm_backward::{self, ResidualNormBackward},
    rms_norm_backward::{self, RmsNormBackward},
    scatter_rows::{self, ScatterRows},
};

use crate::{
    Lora, Model, ModelError, dropout,
    flat::Flat,
    forward::Pass,
    lora::{Projection, Run},
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

/// A projection with the gradient of its output.
#[derive(Clone, Copy)]
struct Output<'a> {
    projection: Projection,
    w: &'a Matrix,
    d_y: &'a Slice,
}

fn output<'a>(projection: Projection, w: &'a Matrix, d_y: &'a Slice) -> Output<'a> {
    Output { projection, w, d_y }
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
        self.d_norm(c, x, &self.weights.final_norm, &g.d_c, d_x, ws.chosen_count(), false);
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
                self.backward_mlp(c, ws, g, index, pass, &g.d_x_chosen, rows);
                let mlp_norm = &self.weights.layers[index].mlp_norm;
                self.d_norm(c, &a.mid_chosen, mlp_norm, &g.d_h, &g.d_x_chosen, rows, true);
                let (tokens, columns) = (ws.token_count(), self.config.hidden as u32);
                let (lists, d_y, d_x) = (&ws.lists, &g.d_x_chosen, &g.d_x);
                scatter_rows::record(
                    c,
                    &ScatterRows { lists, d_y, d_x, rows: tokens, columns, add: false },
                );
                self.d_post_attention(c, ws, g, index);
            }
            _ => {
                self.backward_mlp(c, ws, g, index, pass, &g.d_x, ws.token_count());
                self.d_between(c, ws, g, index);
            }
        }
        self.backward_attention(c, ws, g, index, pass, (below, lowest));
    }

    /// Records the gradient of the norm on attention's output, from `d_x` to `d_c`, in models that
    /// have this norm.
    fn d_post_attention(&self, c: &mut Commands, ws: &Workspace, g: &Gradients, index: usize) {
        if let Some(post) = &self.weights.layers[index].post_attention_norm {
            let y = &ws.layer(index).attention_out;
            self.d_norm(c, y, post, &g.d_x, &g.d_c, ws.token_count(), false);
        }
    }

    /// Records the gradients of the norm before the MLP (`d_x +=`), and of the one on attention's output.
    fn d_between(&self, c: &mut Commands, ws: &Workspace, g: &Gradients, index: usize) {
        let (w, a, t) = (&self.weights.layers[index], ws.layer(index), ws.token_count());
        match &w.post_attention_norm {
            Some(post) => {
                self.d_residual_norm(c, g, [&a.attention_out, &a.mid], [post, &w.mlp_norm], t);
            }
            None => self.d_norm(c, &a.mid, &w.mlp_norm, &g.d_h, &g.d_x, t, true),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the rows and their stream depend on the layer")]
    fn backward_mlp(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        g: &Gradients,
        index: usize,
        pass: BackwardPass,
        d_x: &Slice,
        rows: u32,
    ) {
        let (w, a) = (&self.weights.layers[index], ws.layer(index));
        let d_project = |c: &mut Commands, x: &Slice, outputs: &[Output], d_x: Option<&Slice>| {
            self.d_project(c, ws, g, pass, index, x, outputs, d_x, rows);
        };
        let kept = ws.sizes.training == Some(Activations::Keep);
        let d_out = match &w.post_mlp_norm {
            Some(post) => {
                // The layer above has already done this if this layer's activations were kept.
                if !kept || index + 1 == self.config.layers.len() {
                    self.d_norm(c, &a.mlp_out, post, d_x, &g.d_c, rows, false);
                }
                &g.d_c
            }
            None => d_x,
        };
        let down = output(Projection::Down, &w.down, d_out);
        d_project(c, &a.act, &[down], Some(&g.d_act));
        let count = rows * self.config.intermediate as u32;
        // From here on, `gate` and `up` hold their gradients.
        geglu_backward::record(
            c,
            &GegluBackward { d_y: &g.d_act, gate: &a.gate, up: &a.up, count },
        );
        let gate = output(Projection::Gate, &w.gate, &a.gate);
        let up = output(Projection::Up, &w.up, &a.up);
        d_project(c, &a.h_mlp, &[gate, up], Some(&g.d_h));
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
        let d_project = |c: &mut Commands, x: &Slice, outputs: &[Output], d_x: Option<&Slice>| {
            self.d_project(c, ws, g, pass, index, x, outputs, d_x, t);
        };

        let d_out = if w.post_attention_norm.is_some() { &g.d_c } else { &g.d_x };
        d_project(c, &a.o, &[output(Projection::O, &w.o, d_out)], Some(&g.d_o));
        self.d_attend(c, ws, g, index);
        self.rotate(c, ws, index, [&g.d_q, &g.d_k], true);
        // Below the lowest adapted layer, no gradient is needed.
        let d_h = (!lowest).then_some(&g.d_h);
        let q = output(Projection::Q, &w.q, &g.d_q);
        let k = output(Projection::K, &w.k, &g.d_k);
        let v = output(Projection::V, &w.v, &g.d_v);
        d_project(c, &a.h, &[q, k, v], d_h);
        if lowest {
            return;
        }
        let below = below.map(|below| (&self.weights.layers[below].post_mlp_norm, ws.layer(below)));
        match below {
            Some((Some(post), below)) => {
                self.d_residual_norm(c, g, [&below.mlp_out, x], [post, &w.input_norm], t);
            }
            _ => self.d_norm(c, x, &w.input_norm, &g.d_h, &g.d_x, t, true),
        }
    }

    /// Records `d_x += d_norm(out, gain, d_h)` and `d_c = d_norm(y, post, d_x)`.
    fn d_residual_norm(
        &self,
        c: &mut Commands,
        g: &Gradients,
        [x, out]: [&Slice; 2],
        [post, gain]: [&Slice; 2],
        rows: u32,
    ) {
        let (columns, eps) = (self.config.hidden as u32, self.config.norm_eps);
        let (d_h, d_x, d_y) = (&g.d_h, &g.d_x, &g.d_c);
        let op = ResidualNormBackward { x, out, post, gain, d_h, d_x, d_y, rows, columns, eps };
        residual_norm_backward::record(c, &op);
    }

    fn d_attend(&self, c: &mut Commands, ws: &Workspace, g: &Gradients, index: usize) {
        let a = ws.layer(index);
        let shape = self.attention_shape(ws, index);
        let tokens_meta = &ws.meta;
        let (q, k, v, d_o, rows) = (&a.q, &a.k, &a.v, &g.d_o, &a.attention_rows);
        attention_backward_dq::record(
            c,
            &AttentionBackwardDq { shape, q, k, v, tokens_meta, d_o, o: &a.o, rows, d_q: &g.d_q },
        );
        let (d_k, d_v) = (&g.d_k, &g.d_v);
        attention_backward_dkv::record(
            c,
            &AttentionBackwardDkv { shape, q, k, v, tokens_meta, d_o, rows, d_k, d_v },
        );
    }

    /// Records the gradients of `y = x Wᵀ + s z Bᵀ, z = x Aᵀ` for the projections of one input: of
    /// the factors, if there are any (`+=`), and of x if it is needed (`=`).
    #[expect(clippy::too_many_arguments, reason = "one line a group reads best")]
    fn d_project(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        g: &Gradients,
        pass: BackwardPass,
        layer: usize,
        x: &Slice,
        outputs: &[Output],
        d_x: Option<&Slice>,
        tokens: u32,
    ) {
        let (lora, group) = (pass.lora, outputs[0].projection.group());
        self.d_factors(c, ws, g, pass, layer, x, outputs, tokens);
        let Some(d_x) = d_x else { return };
        let runs = lora.runs(layer, group, pass.dropout.is_none());
        for (index, output) in outputs.iter().enumerate() {
            let &Output { projection, w, d_y } = output;
            // dX = dY W + dZ A: the low-rank term of a run is computed with its first projection.
            // With dropout, it passes through the mask.
            let run = runs.iter().find(|run| run.targets[0].0 == projection);
            let a = run.map(|run| (lora.a(run), run.z_first));
            let z_stride = lora.layout.z_stride(group);
            let low_rank = a.as_ref().filter(|_| pass.dropout.is_none()).map(|(a, z_first)| {
                let (a, rank) = (&a.slabs[0].quants, a.rows);
                LowRankBackward { d_z: &g.d_z, z_stride, z_first: *z_first, a, rank }
            });
            let op = MatmulBackward {
                d_y,
                w,
                d_x,
                tokens,
                rows: 0..w.rows,
                y_stride: w.rows,
                y_first: 0,
                low_rank,
                add: index > 0,
            };
            matmul_backward::record(c, &self.variants, &op);
            if let (Some((a, z_first)), Some(_)) = (&a, pass.dropout) {
                let op = MatmulBackward {
                    d_y: &g.d_z,
                    w: a,
                    d_x: &ws.dropped,
                    tokens,
                    rows: 0..a.rows,
                    y_stride: z_stride,
                    y_first: *z_first,
                    low_rank: None,
                    add: false,
                };
                matmul_backward::record(c, &self.variants, &op);
                let (site, columns) = ((layer, projection), a.columns as usize);
                self.d_drop_inputs(c, ws, pass.dropout, site, d_x, columns, tokens);
            }
        }
    }

    /// Records dZ = s dY B (`=`), dB += s dYᵀ Z and dA += dZᵀ X for the targets among the projections of one input.
    #[expect(clippy::too_many_arguments, reason = "one line a group reads best")]
    fn d_factors(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        g: &Gradients,
        pass: BackwardPass,
        layer: usize,
        x: &Slice,
        outputs: &[Output],
        tokens: u32,
    ) {
        let (lora, group) = (pass.lora, outputs[0].projection.group());
        let (rank, scale) = (lora.layout.config.padded_rank(), lora.layout.config.scale());
        let (z, d_z, z_stride) = (&ws.layer(layer).z[group], &g.d_z, lora.layout.z_stride(group));
        let parts = |run: &Run| -> Vec<Part> {
            let of_run = |o: &&Output| run.targets.iter().any(|(p, _)| *p == o.projection);
            let chosen = outputs.iter().filter(of_run);
            chosen.map(|o| Part { d_y: o.d_y, outputs: o.w.rows }).collect()
        };
        for run in lora.runs(layer, group, true) {
            let (b, z_first) = (&lora.b(&run), run.z_first);
            let parts = &parts(&run);
            let op = LoraDz { parts, b, d_z, z_stride, z_first, tokens, rank, scale };
            lora_dz::record(c, &self.variants, &op);
        }
        // With dropout, each projection has its own inputs.
        for run in lora.runs(layer, group, pass.dropout.is_none()) {
            let (projection, slot) = run.targets[0];
            let (site, inputs, z_first) = ((layer, projection), slot.inputs as u32, run.z_first);
            let x = &self.drop_inputs(c, ws, pass.dropout, site, x, slot.inputs, tokens);
            let d_a = &pass.d_params.slice(run.a.start, run.a.len());
            let d_b = &pass.d_params.slice(run.b.start, run.b.len());
            let parts = &parts(&run);
            let op = LoraGrad {
                parts,
                z,
                d_z,
                z_stride,
                z_first,
                x,
                inputs,
                d_a,
                d_b,
                tokens,
                rank,
                scale,
            };
            lora_grad::record(c, &self.variants, &op);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a norm's operands and its rows")]
    fn d_norm(
        &self,
        c: &mut Commands,
        x: &Slice,
        gain: &Slice,
        d_y: &Slice,
        d_x: &Slice,
        rows: u32,
        add: bool,
    ) {
        let (columns, eps) = (self.config.hidden as u32, self.config.norm_eps);
        rms_norm_backward::record(
            c,
            &RmsNormBackward { x, gain, d_y, d_x, rows, columns, eps, add },
        );
    }
}
