//! The forward pass, one dispatch per line.
//!
//! Source: google/gemma_pytorch `model.py` (`GemmaDecoderLayer`, `Gemma2DecoderLayer`), and
//! `modeling_gemma3.py` of huggingface/transformers for the norms of q and k.

use std::ops::Range;

use hearth_gpu::{Commands, Slice};
use hearth_kernels::{
    attention::{self, Attention, Shape, visible_pairs},
    embed::{self, Embed},
    gather_rows::{self, GatherRows},
    matmul::{self, LowRank, Matmul, Parts},
    matrix::Matrix,
    qk_norm_rope::{self, Direction, HeadNorm, QkNormRope},
    residual_norm::{self, ResidualNorm},
    rms_norm::{self, RmsNorm},
    soft_cap::{self, SoftCap},
};

use crate::{
    KvCache, Lora, Model, ModelError, dropout,
    lora::{Projection, Run},
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
        let project = |c: &mut Commands, p: Projection, x: &Slice, y: &Slice, end| {
            self.project(c, ws, pass, (index, p.group()), x, y, t, end)
        };
        project(c, Projection::Q, &a.h, ws.qkv(index), End::Store(None));
        self.rotate(c, ws, index, [&a.q, &a.k], Direction::Forward { v: &a.v });
        self.attend(c, ws, index, cache);
        if let Some(post) = &w.post_attention_norm {
            let y = &a.attention_out;
            let end = End::Store(self.parts(ws, index));
            let parts = project(c, Projection::O, &a.o, y, end);
            self.residual_norm(c, [y, x], parts, [post, &w.mlp_norm], [&a.mid, &a.h_mlp], t);
        } else {
            c.copy(x, &a.mid, 0, 4 * u64::from(t) * self.config.hidden as u64);
            project(c, Projection::O, &a.o, &a.mid, End::Add);
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
            &self.variants,
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
        let project = |c: &mut Commands, p: Projection, x: &Slice, y: &Slice, end| {
            self.project(c, ws, pass, (index, p.group()), x, y, rows, end)
        };
        let LayerActivations { h_mlp, gate_up, act, mlp_out, .. } = a;

        project(c, Projection::Gate, h_mlp, gate_up, End::Geglu(act));
        let (gain, h) = match self.weights.layers.get(index + 1) {
            Some(layer) => (&layer.input_norm, &ws.layer(index + 1).h),
            None => (&self.weights.final_norm, &ws.hidden),
        };
        // A layer that is computed again for backward has its own `h` there.
        let h = ws.gradients.as_ref().filter(|_| !next).map_or(h, |g| &g.d_h);
        if let Some(post) = &w.post_mlp_norm {
            let end = End::Store(self.parts(ws, index));
            let parts = project(c, Projection::Down, act, mlp_out, end);
            self.residual_norm(c, [mlp_out, mid], parts, [post, gain], [out, h], rows);
        } else {
            c.copy(mid, out, 0, 4 * u64::from(rows) * self.config.hidden as u64);
            project(c, Projection::Down, act, out, End::Add);
            self.norm(c, out, gain, h, rows, false);
        }
    }

    /// The norms on a layer's heads, in models that have them.
    fn head_norm(&self, index: usize) -> Option<HeadNorm<'_>> {
        let w = &self.weights.layers[index];
        let (q_gain, k_gain) = (w.q_norm.as_ref()?, w.k_norm.as_ref()?);
        Some(HeadNorm { q_gain, k_gain, eps: self.config.norm_eps })
    }

    /// Records norm and rotation of a layer's queries and keys, which are taken apart from its values, or the gradient.
    pub(crate) fn rotate(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        index: usize,
        [q, k]: [&Slice; 2],
        direction: Direction,
    ) {
        let config = &self.config;
        let op = QkNormRope {
            norm: self.head_norm(index),
            qkv: ws.qkv(index),
            angles: self.angles(index),
            tokens_meta: &ws.meta,
            q,
            k,
            tokens: ws.token_count(),
            heads: config.heads as u32,
            kv_heads: config.kv_heads as u32,
            head_dim: config.head_dim as u32,
            direction,
        };
        qk_norm_rope::record(c, &op);
    }

    /// Records `out = residual + norm(x) · post` and `h = norm(out) · gain`.
    fn residual_norm(
        &self,
        c: &mut Commands,
        [x, residual]: [&Slice; 2],
        parts: Option<Parts>,
        [post, gain]: [&Slice; 2],
        [out, h]: [&Slice; 2],
        rows: u32,
    ) {
        let (columns, eps) = (self.config.hidden as u32, self.config.norm_eps);
        let op = ResidualNorm { x, parts, residual, post, gain, out, h, rows, columns, eps };
        residual_norm::record(c, &op);
    }

    /// Records logits of the chosen positions for a range of the vocabulary, soft-capped if the
    /// model does that: `y` is `(M, y_stride)`, its column 0 is the first token of the range.
    pub fn logits(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        head: &Matrix,
        rows: Range<u32>,
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
            geglu: None,
            parts: None,
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
                y: &ws.layer(layer).z,
                tokens,
                rows: 0..a.rows,
                y_stride: lora.layout.z_stride(),
                y_first: run.z_first,
                low_rank: None,
                add: false,
                geglu: None,
                parts: None,
            };
            matmul::record(c, &self.variants, &op);
        }
    }

    /// Where the products that end a block may put the parts of their sums: what no step needs at that time.
    pub(crate) fn parts<'a>(&self, ws: &'a Workspace, layer: usize) -> Option<Parts<'a>> {
        let others = match &ws.gradients {
            Some(g) => &g.d_act,
            None => &ws.layer(layer).gate_up,
        };
        let count = 1 + self.config.intermediate / self.config.hidden;
        Some(Parts { others, count: count as u32 })
    }

    /// Records `y = x Wᵀ` for the projections of one input, side by side in y, with the adapter's terms. Returns the parts in
    /// which y comes, if it does.
    #[expect(clippy::too_many_arguments, reason = "one line a group reads best")]
    fn project<'a>(
        &self,
        c: &mut Commands,
        ws: &Workspace,
        pass: Pass,
        (layer, group): (usize, usize),
        x: &Slice,
        y: &Slice,
        tokens: u32,
        end: End<'a>,
    ) -> Option<Parts<'a>> {
        self.low_rank_inputs(c, ws, pass, (layer, group), x, tokens);
        let w = self.weights.layers[layer].group(group);
        let mut runs = pass.lora.map_or(Vec::new(), |lora| lora.runs(layer, group, true));
        if let Some(lora) = pass.lora.filter(|_| runs.len() > 1) {
            // Not all factors can be bound at once: each projection is computed for itself.
            runs = lora.runs(layer, group, false);
        }
        let ranges: Vec<(Range<u32>, Option<&Run>)> = match &runs[..] {
            [] => vec![(0..w.rows, None)],
            [run] => vec![(0..w.rows, Some(run))],
            runs => self.rows_of_runs(group, runs),
        };
        let whole = ranges.len() == 1;
        let mut made = None;
        for (rows, run) in ranges {
            let targets: Vec<_> = run.map_or(Vec::new(), |run| self.target_rows(run, rows.start));
            let low_rank = pass.lora.zip(run);
            let b = low_rank.map(|(lora, run)| lora.b(run));
            let low_rank = low_rank.zip(b.as_ref()).map(|((lora, run), b)| LowRank {
                z: &ws.layer(layer).z,
                z_stride: lora.layout.z_stride(),
                z_first: run.z_first,
                b,
                rank: lora.layout.config.padded_rank(),
                targets: &targets,
                scale: lora.layout.config.scale(),
            });
            let y_first = rows.start;
            let (add, geglu, parts) = match end {
                End::Store(parts) => (false, None, parts.filter(|_| whole)),
                End::Add => (true, None, None),
                End::Geglu(act) => (false, Some(act), None),
            };
            let y_stride = w.rows;
            let op =
                Matmul { x, w, y, tokens, rows, y_stride, y_first, low_rank, add, geglu, parts };
            let count = matmul::record(c, &self.variants, &op);
            made = parts.and_then(|parts| parts.made(count));
        }
        made
    }

    /// The rows of each projection of a group, with the run that it is the only target of.
    pub(crate) fn rows_of_runs<'a>(
        &self,
        group: usize,
        runs: &'a [Run],
    ) -> Vec<(Range<u32>, Option<&'a Run>)> {
        let run_of = |p: Projection| runs.iter().find(|run| run.targets.iter().any(|t| t.0 == p));
        Projection::GROUPS[group].iter().map(|&p| (p.rows(&self.config), run_of(p))).collect()
    }

    /// The rows of a run's targets in the stacked weights, counted from row `first`.
    pub(crate) fn target_rows(&self, run: &Run, first: u32) -> Vec<Range<u32>> {
        let rows = run.targets.iter().map(|(projection, _)| projection.rows(&self.config));
        rows.map(|rows| rows.start - first..rows.end - first).collect()
    }

    fn norm(&self, c: &mut Commands, x: &Slice, gain: &Slice, y: &Slice, rows: u32, add: bool) {
        let (columns, eps) = (self.config.hidden as u32, self.config.norm_eps);
        rms_norm::record(c, &RmsNorm { x, gain, y, rows, columns, eps, add });
    }
}

/// What a group's products are for.
#[derive(Clone, Copy)]
enum End<'a> {
    /// `y =`, in parts where that is allowed
    Store(Option<Parts<'a>>),
    /// `y +=`
    Add,
    /// `y =`, and `act = gelu(gate) · up`
    Geglu(&'a Slice),
}
