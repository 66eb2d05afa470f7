//! The forward pass, one dispatch per line.
//!
//! Source: google/gemma_pytorch `model.py` (`GemmaDecoderLayer`, `Gemma2DecoderLayer`), and
//! `modeling_gemma3.py` of huggingface/transformers for the norms of q and k.

use hearth_gpu::{Commands, Slice};
use hearth_kernels::{
    attention::{self, Attention, Shape, visible_pairs},
    embed::{self, Embed},
    gather_rows::{self, GatherRows},
    geglu::{self, Geglu},
    matmul::{self, LowRank, Matmul},
    matrix::Matrix,
    qk_norm_rope::{self, HeadNorm, QkNormRope},
    residual_norm::{self, ResidualNorm},
    rms_norm::{self, RmsNorm},
    soft_cap::{self, SoftCap},
};

use crate::{
    KvCache, Lora, Model, ModelError, dropout,
    lora::Projection,
    workspace::{LayerActivations, Workspace},
};

/// Inputs of a forward pass.
#[derive(Clone, Copy, Default)]
pub struct Pass<'a> {
    /// The adapter, if any.
    pub lora: Option<&'a Lora>,
    /// Dropout of this step, in training.
    pub dropout: Option<dropout::Step>,
}

impl Model {
    /// Records the whole forward pass over the uploaded batch: final hidden states of the chosen
    /// positions go to `ws.hidden`. With a cache, the batch's keys are appended to it.
    ///
    /// # Errors
    /// A full cache, one that another adapter filled, or one that does not hold the tokens that the
    /// batch continues; no batch.
    pub fn forward(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        pass: Pass,
        mut cache: Option<&mut KvCache>,
    ) -> Result<(), ModelError> {
        match &cache {
            Some(cache) => cache.check(&ws.batch, pass.lora)?,
            None if ws.batch.cached > 0 => {
                return Err(ModelError::Cache(format!(
                    "the batch was packed after {} cached tokens, and no cache was given",
                    ws.batch.cached
                )));
            }
            None => {}
        }
        self.embed(c, ws)?;
        self.first_norm(c, ws, 0);
        for layer in 0..self.config.layers.len() {
            self.forward_layer(c, ws, layer, pass, cache.as_deref(), true);
            c.boundary();
        }
        if let Some(cache) = &mut cache {
            cache.extend(ws.batch.len(), pass.lora);
        }
        Ok(())
    }

    /// Records the scaled embedding of the batch into `ws.x(0)`.
    ///
    /// # Errors
    /// No batch was set.
    pub fn embed(&self, c: &mut Commands, ws: &Workspace) -> Result<(), ModelError> {
        let scale = self.config.embedding_scale();
        let table = self.input_table(ws).ok_or(ModelError::Empty("no batch was set"))?;
        let tokens = &ws.tokens;
        embed::record(c, &Embed { tokens, table, y: ws.x(0), count: ws.token_count(), scale });
        Ok(())
    }

    /// Records the norm before a layer; otherwise the previous layer computes its result.
    pub fn first_norm(&self, c: &mut Commands, ws: &Workspace, index: usize) {
        let (x, h) = (ws.x(index), &ws.layer(index).h);
        self.norm(c, x, &self.weights.layers[index].input_norm, h, ws.token_count(), false);
    }

    /// Records one layer: from `ws.x(index)`, normalized in `h`, to `ws.x(index + 1)`, and, if
    /// something follows (`next`), the norm before it: that of the next layer or of the head. The
    /// last layer's MLP runs on the chosen positions only.
    pub fn forward_layer(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        index: usize,
        pass: Pass,
        cache: Option<&KvCache>,
        next: bool,
    ) {
        self.forward_attention(c, ws, index, pass, cache);
        let a = ws.layer(index);
        let last = index + 1 == self.config.layers.len();
        match &ws.chosen {
            Some(chosen) if last => {
                let (rows, columns) = (chosen.len() as u32, self.config.hidden as u32);
                let (index_, x, y) = (&ws.index, &a.mid, &a.mid_chosen);
                gather_rows::record(c, &GatherRows { index: index_, x, y, rows, columns });
                self.norm(c, y, &self.weights.layers[index].mlp_norm, &a.h_mlp, rows, false);
                self.forward_mlp(c, ws, index, pass, &a.mid_chosen, rows, next);
            }
            _ => self.forward_mlp(c, ws, index, pass, &a.mid, ws.token_count(), next),
        }
    }

    fn forward_attention(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        index: usize,
        pass: Pass,
        cache: Option<&KvCache>,
    ) {
        let (w, a, x) = (&self.weights.layers[index], ws.layer(index), ws.x(index));
        let t = ws.token_count();
        let project = |c: &mut Commands, p, x: &Slice, w: &Matrix, y: &Slice, add| {
            self.project(c, ws, pass, (index, p), x, w, y, t, add);
        };
        self.low_rank_inputs(c, ws, pass, (index, Projection::Q.group()), &a.h, t);
        let norm = self.head_norm(ws, index);
        let (q, k) = norm.map_or((&a.q, &a.k), |norm| (norm.q_raw, norm.k_raw));
        project(c, Projection::Q, &a.h, &w.q, q, false);
        project(c, Projection::K, &a.h, &w.k, k, false);
        project(c, Projection::V, &a.h, &w.v, &a.v, false);
        self.rotate(c, ws, index, [&a.q, &a.k], false);
        self.attend(c, ws, index, cache);
        self.low_rank_inputs(c, ws, pass, (index, Projection::O.group()), &a.o, t);
        if let Some(post) = &w.post_attention_norm {
            let y = &a.attention_out;
            project(c, Projection::O, &a.o, &w.o, y, false);
            self.residual_norm(c, [y, x], [post, &w.mlp_norm], [&a.mid, &a.h_mlp], t);
        } else {
            c.copy(x, &a.mid, 0, 4 * u64::from(t) * self.config.hidden as u64);
            project(c, Projection::O, &a.o, &w.o, &a.mid, true);
            self.norm(c, &a.mid, &w.mlp_norm, &a.h_mlp, t, false);
        }
    }

    fn attend(&self, c: &mut Commands, ws: &Workspace, index: usize, cache: Option<&KvCache>) {
        let a = ws.layer(index);
        let (mut k, mut v) = (a.k.clone(), a.v.clone());
        if let Some(cache) = cache {
            let (keys, values) = &cache.layers[index];
            let row = 4 * (self.config.kv_heads * self.config.head_dim) as u64;
            let bytes = row * u64::from(ws.token_count());
            c.copy(&a.k, keys, row * cache.len() as u64, bytes);
            c.copy(&a.v, values, row * cache.len() as u64, bytes);
            (k, v) = (keys.all(), values.all());
        }
        let (shape, tokens_meta) = (self.attention_shape(ws, index), &ws.meta);
        attention::record(
            c,
            &Attention {
                shape,
                q: &a.q,
                k: &k,
                v: &v,
                tokens_meta,
                o: &a.o,
                rows: &a.attention_rows,
            },
        );
    }

    /// Sizes and constants of a layer's attention.
    pub(crate) fn attention_shape(&self, ws: &Workspace, index: usize) -> Shape {
        let config = &self.config;
        let (cached, window) = (ws.batch.cached as u32, config.layers[index].window.unwrap_or(0));
        Shape {
            tokens: ws.token_count(),
            heads: config.heads as u32,
            kv_heads: config.kv_heads as u32,
            head_dim: config.head_dim as u32,
            cached,
            window,
            scale: config.attention_scale,
            softcap: config.attention_softcap.unwrap_or(0.0),
            pairs: visible_pairs(&ws.batch.meta, cached, window),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the rows and what follows depend on the layer")]
    fn forward_mlp(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        index: usize,
        pass: Pass,
        mid: &Slice,
        rows: u32,
        next: bool,
    ) {
        let (w, a, out) = (&self.weights.layers[index], ws.layer(index), ws.x(index + 1));
        let project = |c: &mut Commands, p, x: &Slice, w: &Matrix, y: &Slice, add| {
            self.project(c, ws, pass, (index, p), x, w, y, rows, add);
        };
        let LayerActivations { h_mlp, gate, up, act, mlp_out, .. } = a;

        self.low_rank_inputs(c, ws, pass, (index, Projection::Gate.group()), h_mlp, rows);
        project(c, Projection::Gate, h_mlp, &w.gate, gate, false);
        project(c, Projection::Up, h_mlp, &w.up, up, false);
        geglu::record(
            c,
            &Geglu { gate, up, y: act, count: rows * self.config.intermediate as u32 },
        );
        self.low_rank_inputs(c, ws, pass, (index, Projection::Down.group()), act, rows);
        let follows = next.then(|| match self.weights.layers.get(index + 1) {
            Some(layer) => (&layer.input_norm, &ws.layer(index + 1).h),
            None => (&self.weights.final_norm, &ws.hidden),
        });
        if let Some(post) = &w.post_mlp_norm {
            project(c, Projection::Down, act, &w.down, mlp_out, false);
            if let Some((gain, h)) = follows {
                self.residual_norm(c, [mlp_out, mid], [post, gain], [out, h], rows);
                return;
            }
            c.copy(mid, out, 0, 4 * u64::from(rows) * self.config.hidden as u64);
            self.norm(c, mlp_out, post, out, rows, true);
        } else {
            c.copy(mid, out, 0, 4 * u64::from(rows) * self.config.hidden as u64);
            project(c, Projection::Down, act, &w.down, out, true);
            if let Some((gain, h)) = follows {
                self.norm(c, out, gain, h, rows, false);
            }
        }
    }

    /// The norms on a layer's heads, in models that have them.
    pub(crate) fn head_norm<'a>(&'a self, ws: &'a Workspace, index: usize) -> Option<HeadNorm<'a>> {
        let (w, a) = (&self.weights.layers[index], ws.layer(index));
        let (q_gain, k_gain) = (w.q_norm.as_ref()?, w.k_norm.as_ref()?);
        let (q_raw, k_raw) = (&a.q_raw, &a.k_raw);
        Some(HeadNorm { q_raw, k_raw, q_gain, k_gain, eps: self.config.norm_eps })
    }

    /// Records norm and rotation of a layer's queries and keys, or of their gradients.
    pub(crate) fn rotate(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        index: usize,
        [q, k]: [&Slice; 2],
        backward: bool,
    ) {
        let config = &self.config;
        let op = QkNormRope {
            norm: self.head_norm(ws, index),
            angles: self.angles(index),
            tokens_meta: &ws.meta,
            q,
            k,
            tokens: ws.token_count(),
            heads: config.heads as u32,
            kv_heads: config.kv_heads as u32,
            head_dim: config.head_dim as u32,
            backward,
        };
        qk_norm_rope::record(c, &op);
    }

    /// Records `out = residual + norm(x) · post` and `h = norm(out) · gain`.
    fn residual_norm(
        &self,
        c: &mut Commands,
        [x, residual]: [&Slice; 2],
        [post, gain]: [&Slice; 2],
        [out, h]: [&Slice; 2],
        rows: u32,
    ) {
        let (columns, eps) = (self.config.hidden as u32, self.config.norm_eps);
        let op = ResidualNorm { x, residual, post, gain, out, h, rows, columns, eps };
        residual_norm::record(c, &op);
    }

    /// Records logits of the chosen positions for a range of the vocabulary, soft-capped if the
    /// model does that: `y` is `(M, y_stride)`, its column 0 is the first token of the range.
    pub fn logits(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        head: &Matrix,
        rows: std::ops::Range<u32>,
        y: &Slice,
        y_stride: u32,
    ) {
        let tokens = ws.chosen_count();
        let op = Matmul {
            x: &ws.hidden,
            w: head,
            y,
            tokens,
            rows,
            y_stride,
            y_first: 0,
            low_rank: None,
            add: false,
        };
        matmul::record(c, &self.variants, &op);
        if let Some(softcap) = self.config.final_softcap {
            soft_cap::record(c, &SoftCap { y, count: tokens * y_stride, softcap });
        }
    }

    /// Records z = x Aᵀ of the adapter's targets among the projections of one input, if there are any.
    fn low_rank_inputs(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        pass: Pass,
        (layer, group): (usize, usize),
        x: &Slice,
        tokens: u32,
    ) {
        let Some(lora) = pass.lora else { return };
        // With dropout, each projection has its own inputs.
        for run in lora.runs(layer, group, pass.dropout.is_none()) {
            let (projection, slot) = run.targets[0];
            let site = (layer, projection);
            let input = self.drop_inputs(c, ws, pass.dropout, site, x, slot.inputs, tokens);
            let a = lora.a(&run);
            let op = Matmul {
                x: &input,
                w: &a,
                y: &ws.layer(layer).z[group],
                tokens,
                rows: 0..a.rows,
                y_stride: lora.layout.z_stride(group),
                y_first: run.z_first,
                low_rank: None,
                add: false,
            };
            matmul::record(c, &self.variants, &op);
        }
    }

    /// Records `y = x Wᵀ` with the adapter's term, if it has one here; [`Model::low_rank_inputs`]
    /// has already recorded its z.
    #[expect(clippy::too_many_arguments, reason = "one line a projection reads best")]
    fn project(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        pass: Pass,
        (layer, projection): (usize, Projection),
        x: &Slice,
        w: &Matrix,
        y: &Slice,
        tokens: u32,
        add: bool,
    ) {
        let slot = pass.lora.and_then(|l| Some((l, l.layout.slot(layer, projection)?)));
        let b = slot.map(|(lora, slot)| lora.b_of(slot));
        let low_rank = pass.lora.zip(b.as_ref()).map(|(lora, b)| LowRank {
            z: &ws.layer(layer).z[projection.group()],
            z_stride: lora.layout.z_stride(projection.group()),
            z_first: lora.layout.z_first(projection),
            b,
            rank: lora.layout.config.padded_rank(),
            scale: lora.layout.config.scale(),
        });
        let (rows, y_stride) = (0..w.rows, w.rows);
        let op = Matmul { x, w, y, tokens, rows, y_stride, y_first: 0, low_rank, add };
        matmul::record(c, &self.variants, &op);
    }

    fn norm(&self, c: &mut Commands, x: &Slice, gain: &Slice, y: &Slice, rows: u32, add: bool) {
        let (columns, eps) = (self.config.hidden as u32, self.config.norm_eps);
        rms_norm::record(c, &RmsNorm { x, gain, y, rows, columns, eps, add });
    }
}
