//! The backward pass: forward.rs from bottom to top, with `d_` in front.
//!
//! The gradient of the residual stream, `d_x`, is carried down in place: what a block's norm gives
//! back is added to it. Weights are frozen, so the only parameter gradients are those of LoRA's
//! factors, which are `+=`: micro-batches add up.

use hearth_gpu::{Commands, Slice};
use hearth_kernels::{
    attention_backward_dkv,
    attention_backward_dkv::AttentionBackwardDkv,
    attention_backward_dot,
    attention_backward_dot::AttentionBackwardDot,
    attention_backward_dq,
    attention_backward_dq::AttentionBackwardDq,
    geglu_backward::{self, GegluBackward},
    lora_grad::{self, LoraGrad},
    matmul_backward::{self, LowRankBackward, MatmulBackward},
    matrix::Matrix,
    rms_norm_backward::{self, RmsNormBackward},
    rope::{self, Rope},
    scatter_rows::{self, ScatterRows},
};

use crate::{
    Lora, Model, ModelError, dropout,
    flat::Flat,
    forward::Pass,
    lora::Projection,
    workspace::{Activations, Gradients, Workspace},
};

/// What a backward pass runs with.
#[derive(Clone, Copy)]
pub struct BackwardPass<'a> {
    /// The adapter that is trained.
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

impl Model {
    /// Records the backward pass. `d_hidden`, the gradient of `ws.hidden`, `(M, C)`, is in
    /// `ws.gradients.d_c`. Where activations were not kept, every layer runs forward once more.
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
        // With chosen rows the stream is narrow from the head down to the last layer's attention.
        let d_x = if ws.chosen.is_some() { &g.d_x_chosen } else { &g.d_x };
        let x = ws.x(layers);
        self.d_norm(c, x, &self.weights.final_norm, &g.d_c, d_x, ws.chosen_count(), false);
        for layer in (lowest..layers).rev() {
            let kept = ws.sizes.training == Some(Activations::Keep);
            // The last layer's activations are still there from forward.
            if !kept && layer + 1 < layers {
                self.forward_layer(c, ws, layer, pass.forward(), None);
                c.boundary();
            }
            self.backward_layer(c, ws, g, layer, pass, layer == lowest);
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
        lowest: bool,
    ) {
        let a = ws.layer(index);
        let last = index + 1 == self.config.layers.len();
        match &ws.chosen {
            Some(chosen) if last => {
                let rows = chosen.len() as u32;
                self.backward_mlp(c, ws, g, index, pass, &a.mid_chosen, &g.d_x_chosen, rows);
                let (tokens, columns) = (ws.token_count(), self.config.hidden as u32);
                let (lists, d_y, d_x) = (&ws.lists, &g.d_x_chosen, &g.d_x);
                scatter_rows::record(
                    c,
                    &ScatterRows { lists, d_y, d_x, rows: tokens, columns, add: false },
                );
            }
            _ => self.backward_mlp(c, ws, g, index, pass, &a.mid, &g.d_x, ws.token_count()),
        }
        self.backward_attention(c, ws, g, index, pass, lowest);
    }

    #[expect(clippy::too_many_arguments, reason = "the rows and their stream depend on the layer")]
    fn backward_mlp(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        g: &Gradients,
        index: usize,
        pass: BackwardPass,
        mid: &Slice,
        d_x: &Slice,
        rows: u32,
    ) {
        let (w, a) = (&self.weights.layers[index], ws.layer(index));
        let d_project =
            |c: &mut Commands, p, x: &Slice, w: &Matrix, d_y: &Slice, d_x: Option<&Slice>, add| {
                self.d_project(c, ws, g, pass, (index, p), x, w, d_y, d_x, rows, add);
            };
        let d_out = match &w.post_mlp_norm {
            Some(post) => {
                self.d_norm(c, &a.mlp_out, post, d_x, &g.d_c, rows, false);
                &g.d_c
            }
            None => d_x,
        };
        d_project(c, Projection::Down, &a.act, &w.down, d_out, Some(&g.d_act), false);
        let count = rows * self.config.intermediate as u32;
        // From here on `gate` and `up` hold their gradients.
        geglu_backward::record(
            c,
            &GegluBackward { d_y: &g.d_act, gate: &a.gate, up: &a.up, count },
        );
        d_project(c, Projection::Gate, &a.h_mlp, &w.gate, &a.gate, Some(&g.d_h), false);
        d_project(c, Projection::Up, &a.h_mlp, &w.up, &a.up, Some(&g.d_h), true);
        self.d_norm(c, mid, &w.mlp_norm, &g.d_h, d_x, rows, true);
    }

    fn backward_attention(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        g: &Gradients,
        index: usize,
        pass: BackwardPass,
        lowest: bool,
    ) {
        let (w, a, x) = (&self.weights.layers[index], ws.layer(index), ws.x(index));
        let config = &self.config;
        let (t, width) = (ws.token_count(), config.head_dim as u32);
        let (heads, kv_heads) = (config.heads as u32, config.kv_heads as u32);
        let d_project =
            |c: &mut Commands, p, x: &Slice, w: &Matrix, d_y: &Slice, d_x: Option<&Slice>, add| {
                self.d_project(c, ws, g, pass, (index, p), x, w, d_y, d_x, t, add);
            };
        let rotate_back = |c: &mut Commands, x: &Slice, heads| {
            let (angles, tokens_meta) = (self.angles(index), &ws.meta);
            rope::record(
                c,
                &Rope { angles, tokens_meta, x, tokens: t, heads, head_dim: width, backward: true },
            );
        };

        let d_out = match &w.post_attention_norm {
            Some(post) => {
                self.d_norm(c, &a.attention_out, post, &g.d_x, &g.d_c, t, false);
                &g.d_c
            }
            None => &g.d_x,
        };
        d_project(c, Projection::O, &a.o, &w.o, d_out, Some(&g.d_o), false);
        self.d_attend(c, ws, g, index);
        rotate_back(c, &g.d_q, heads);
        rotate_back(c, &g.d_k, kv_heads);
        let (mut d_q, mut d_k) = (&g.d_q, &g.d_k);
        if let (Some(q_norm), Some(k_norm)) = (&w.q_norm, &w.k_norm) {
            // Attention is done with d_o, so it takes the gradient before the norm.
            self.d_head_norm(c, &a.q_raw, q_norm, &g.d_q, &g.d_o, t * heads);
            self.d_head_norm(c, &a.k_raw, k_norm, &g.d_k, &g.d_k_raw, t * kv_heads);
            (d_q, d_k) = (&g.d_o, &g.d_k_raw);
        }
        // Below the lowest adapted layer nothing wants a gradient.
        let d_h = (!lowest).then_some(&g.d_h);
        d_project(c, Projection::Q, &a.h, &w.q, d_q, d_h, false);
        d_project(c, Projection::K, &a.h, &w.k, d_k, d_h, true);
        d_project(c, Projection::V, &a.h, &w.v, &g.d_v, d_h, true);
        if !lowest {
            self.d_norm(c, x, &w.input_norm, &g.d_h, &g.d_x, t, true);
        }
    }

    fn d_attend(&self, c: &mut Commands, ws: &Workspace, g: &Gradients, index: usize) {
        let a = ws.layer(index);
        let shape = self.attention_shape(ws, index);
        let tokens_meta = &ws.meta;
        let (q, k, v, d_o, rows) = (&a.q, &a.k, &a.v, &g.d_o, &g.attention_rows);
        attention_backward_dot::record(
            c,
            &AttentionBackwardDot { shape, o: &a.o, d_o, lse: &a.lse, rows },
        );
        attention_backward_dq::record(
            c,
            &AttentionBackwardDq { shape, q, k, v, tokens_meta, d_o, rows, d_q: &g.d_q },
        );
        let (d_k, d_v) = (&g.d_k, &g.d_v);
        attention_backward_dkv::record(
            c,
            &AttentionBackwardDkv { shape, q, k, v, tokens_meta, d_o, rows, d_k, d_v },
        );
    }

    /// Records the gradients of `y = x Wᵀ + s z Bᵀ, z = x Aᵀ`: of the factors, if there are any
    /// (`+=`), and of x where somebody wants it (`=`, or `+=` with `add`).
    #[expect(clippy::too_many_arguments, reason = "one line a projection reads best")]
    fn d_project(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        g: &Gradients,
        pass: BackwardPass,
        (layer, projection): (usize, Projection),
        x: &Slice,
        w: &Matrix,
        d_y: &Slice,
        d_x: Option<&Slice>,
        tokens: u32,
        add: bool,
    ) {
        let lora = pass.lora;
        let Some(slot) = lora.layout.slot(layer, projection) else {
            if let Some(d_x) = d_x {
                let (rows, y_stride) = (0..w.rows, w.rows);
                matmul_backward::record(
                    c,
                    &MatmulBackward {
                        d_y,
                        w,
                        d_x,
                        tokens,
                        rows,
                        y_stride,
                        scale: 1.0,
                        low_rank: None,
                        add,
                    },
                );
            }
            return;
        };
        let (rank, scale) = (lora.layout.config.padded_rank(), lora.layout.config.scale());
        let (inputs, outputs) = (slot.inputs as u32, slot.outputs as u32);
        let z = &ws.layer(layer).z[projection as usize];
        let d_b = &pass.d_params.slice(slot.b, slot.outputs * rank as usize);
        let d_a = &pass.d_params.slice(slot.a, slot.inputs * rank as usize);

        // dB += s dYᵀ Z
        lora_grad::record(
            c,
            &LoraGrad {
                p: d_y,
                q: z,
                d_g: d_b,
                tokens,
                m: outputs,
                n: rank,
                p_stride: outputs,
                scale,
            },
        );
        // dZ = s dY B
        matmul_backward::record(
            c,
            &MatmulBackward {
                d_y,
                w: &lora.b(slot),
                d_x: &g.d_z,
                tokens,
                rows: 0..outputs,
                y_stride: outputs,
                scale,
                low_rank: None,
                add: false,
            },
        );
        // dA += dZᵀ X, on the inputs that dropout left
        let input =
            self.drop_inputs(c, ws, pass.dropout, (layer, projection), x, slot.inputs, tokens);
        lora_grad::record(
            c,
            &LoraGrad {
                p: &g.d_z,
                q: &input,
                d_g: d_a,
                tokens,
                m: rank,
                n: inputs,
                p_stride: rank,
                scale: 1.0,
            },
        );
        let Some(d_x) = d_x else { return };
        // dX = dY W + dZ A; with dropout the second term passes through the mask.
        let a = lora.a(slot);
        let low_rank = pass.dropout.is_none().then_some(LowRankBackward {
            d_z: &g.d_z,
            a: &a.slabs[0].quants,
            rank,
        });
        let (rows, y_stride) = (0..w.rows, w.rows);
        matmul_backward::record(
            c,
            &MatmulBackward { d_y, w, d_x, tokens, rows, y_stride, scale: 1.0, low_rank, add },
        );
        if pass.dropout.is_some() {
            matmul_backward::record(
                c,
                &MatmulBackward {
                    d_y: &g.d_z,
                    w: &a,
                    d_x: &ws.dropped,
                    tokens,
                    rows: 0..rank,
                    y_stride: rank,
                    scale: 1.0,
                    low_rank: None,
                    add: false,
                },
            );
            self.d_drop_inputs(c, ws, pass.dropout, (layer, projection), d_x, slot.inputs, tokens);
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

    fn d_head_norm(
        &self,
        c: &mut Commands,
        x: &Slice,
        gain: &Slice,
        d_y: &Slice,
        d_x: &Slice,
        rows: u32,
    ) {
        let (columns, eps) = (self.config.head_dim as u32, self.config.norm_eps);
        rms_norm_backward::record(
            c,
            &RmsNormBackward { x, gain, d_y, d_x, rows, columns, eps, add: false },
        );
    }
}
