//! Device memory of one forward or training step. Allocated once for a maximum size; every step
//! uses the first part of it.

use hearth_gpu::{Gpu, Slice};
use hearth_kernels::{attention_backward_dkv, matrix::Matrix, scatter_rows};

use crate::{
    Config, LoraConfig, ModelError,
    batch::Packed,
    lora::Projection,
    memory::{Memory, OnDevice},
};

/// What training keeps of the forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// Everything that the backward pass reads, for every layer.
    Keep,
    /// The input of every layer; the rest is recomputed, layer by layer.
    Recompute,
}

/// Sizes of a [`Workspace`].
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    /// Maximum tokens of a packed list, T.
    pub tokens: usize,
    /// Maximum chosen positions (label positions or logits), M.
    pub chosen: usize,
    /// The adapter's shape, if one is used.
    pub lora: Option<LoraConfig>,
    /// For training: what is kept. `None` for forward only.
    pub training: Option<Activations>,
}

/// Intermediate results of one layer, which the backward pass reads again. `T` becomes `M` in the
/// MLP of the last layer.
pub struct LayerActivations<B = Slice> {
    /// Normalized input, `(T, C)`.
    pub h: B,
    /// Queries, keys and values before norm and rotation, `(T, (H + 2G)·D)`: Gemma 3, whose backward reads them again.
    pub qkv: B,
    /// Queries, rotated, `(T, H·D)`.
    pub q: B,
    /// Keys, rotated, `(T, G·D)`.
    pub k: B,
    /// Values, `(T, G·D)`.
    pub v: B,
    /// Two numbers of attention's backward for each row, `(T, H, 2)`: the log-sum-exp of the scores, from forward, and
    /// `Σ dO · O`.
    pub attention_rows: B,
    /// Attention's output, `(T, H·D)`.
    pub o: B,
    /// Output projection before its norm, `(T, C)`.
    pub attention_out: B,
    /// Residual stream after attention, `(T, C)`.
    pub mid: B,
    /// `mid` on the chosen rows, `(M, C)`: last layer.
    pub mid_chosen: B,
    /// Normalized input of the MLP, `(T, C)`.
    pub h_mlp: B,
    /// Gate before GELU and up projection, `(T, 2F)`; backward overwrites them with their gradients.
    pub gate_up: B,
    /// gelu(gate) · up, `(T, F)`.
    pub act: B,
    /// Down projection before its norm, `(T, C)`.
    pub mlp_out: B,
    /// x · Aᵀ of all projections, side by side, `(T, 7R)`.
    pub z: B,
}

/// Gradients of activations, shared by all layers.
pub struct Gradients<B = Slice> {
    /// Of the residual stream, `(T, C)`.
    pub d_x: B,
    /// Of the residual stream on the chosen rows, `(M, C)`.
    pub d_x_chosen: B,
    /// Of a projection's output or of a norm's output, `(T, C)`.
    pub d_c: B,
    /// Of a normalized input, `(T, C)`.
    pub d_h: B,
    /// Of `act`, `(T, F)`: parts of it, where several products add up to it.
    pub d_act: B,
    /// Of attention's output, `(T, H·D)`.
    pub d_o: B,
    /// Of the queries, `(T, H·D)`.
    pub d_q: B,
    /// Of the keys, `(T, G·D)`, and behind them those of the first keys and values that come in parts, `(2T, G·D)`.
    pub d_k: B,
    /// Of queries, keys and values before norm and rotation, `(T, (H + 2G)·D)`.
    pub d_qkv: B,
    /// Of the z of all projections, `(T, 7R)`.
    pub d_z: B,
}

/// All buffers of a step.
pub struct Workspace<B = Slice> {
    /// The sizes for which it was allocated.
    pub sizes: Sizes,
    /// Number of layers of the model.
    pub layer_count: usize,
    /// Token ids, `(T)`.
    pub tokens: B,
    /// [`hearth_kernels::attention::TokenMeta`], `(T)`.
    pub meta: B,
    /// Counters of the dropout hash, `(T)`.
    pub dropout_keys: B,
    /// Counters of the dropout hash for the chosen positions, `(M)`.
    pub chosen_dropout_keys: B,
    /// Chosen positions, `(M)`.
    pub index: B,
    /// The chosen positions inverted for backward, `(T + 1 + M)`.
    pub lists: B,
    /// Inputs of the layers, `(T, C)` each, and the output of the last, `(M, C)`: L + 1 for
    /// training, two that alternate otherwise.
    x: Vec<B>,
    /// One set, or one per layer if everything is kept.
    layers: Vec<LayerActivations<B>>,
    /// Queries, keys and values before rotation, `(T, (H + 2G)·D)`, if layers do not keep them.
    qkv: B,
    /// Final hidden states, normalized, `(M, C)`.
    pub hidden: B,
    /// An input with dropout applied, `(T, max(F, H·D))`; a dummy without dropout.
    pub dropped: B,
    /// Rows of the embedding for the batch's tokens, if the table is not on the device.
    pub(crate) input_rows: Option<Matrix>,
    /// For training.
    pub gradients: Option<Gradients<B>>,
    /// The uploaded batch.
    pub batch: Packed,
    /// The uploaded chosen positions; `None`: all tokens, in order.
    pub chosen: Option<Vec<u32>>,
}

/// The sizes whose products are the buffer sizes of a workspace.
struct Widths {
    /// Tokens, or predictions if there are more of them.
    t: usize,
    /// Chosen positions.
    m: usize,
    c: usize,
    f: usize,
    q: usize,
    kv: usize,
    heads: usize,
    rank: usize,
    qk_norm: bool,
    post_norm: bool,
    dropout: bool,
}

impl Widths {
    fn new(config: &Config, sizes: &Sizes) -> Self {
        Self {
            // At a branch, every row has its own prediction, so there can be more predictions than
            // tokens, and the last MLP runs on them.
            t: sizes.tokens.max(sizes.chosen),
            m: sizes.chosen,
            c: config.hidden,
            f: config.intermediate,
            q: config.heads * config.head_dim,
            kv: config.kv_heads * config.head_dim,
            heads: config.heads,
            rank: sizes.lora.as_ref().map_or(0, |l| l.padded_rank() as usize),
            qk_norm: config.has_qk_norm(),
            post_norm: config.has_post_norms(),
            dropout: sizes.lora.as_ref().is_some_and(|l| l.dropout > 0.0),
        }
    }

    /// Rows of a buffer that only some models need.
    fn if_needed(&self, needed: bool) -> usize {
        if needed { self.t } else { 0 }
    }
}

impl<B> LayerActivations<B> {
    fn new<M: Memory<Buffer = B>>(memory: &mut M, widths: &Widths) -> Result<Self, ModelError> {
        let &Widths { t, m, c, f, q, kv, heads, rank, .. } = widths;
        let (qk_norm, post_norm) =
            (widths.if_needed(widths.qk_norm), widths.if_needed(widths.post_norm));
        Ok(Self {
            h: memory.numbers("h", t, c)?,
            qkv: memory.numbers("qkv", qk_norm, q + 2 * kv)?,
            q: memory.numbers("q", t, q)?,
            k: memory.numbers("k", t, kv)?,
            v: memory.numbers("v", t, kv)?,
            attention_rows: memory.numbers("attention_rows", t, 2 * heads)?,
            o: memory.numbers("o", t, q)?,
            attention_out: memory.numbers("attention_out", post_norm, c)?,
            mid: memory.numbers("mid", t, c)?,
            mid_chosen: memory.numbers("mid_chosen", m, c)?,
            h_mlp: memory.numbers("h_mlp", t, c)?,
            gate_up: memory.numbers("gate_up", t, 2 * f)?,
            act: memory.numbers("act", t, f)?,
            mlp_out: memory.numbers("mlp_out", post_norm, c)?,
            z: memory.numbers("z", t, Projection::ALL.len() * rank)?,
        })
    }
}

impl<B> Gradients<B> {
    fn new<M: Memory<Buffer = B>>(memory: &mut M, widths: &Widths) -> Result<Self, ModelError> {
        let &Widths { t, m, c, f, q, kv, rank, .. } = widths;
        Ok(Self {
            d_x: memory.numbers("d_x", t, c)?,
            d_x_chosen: memory.numbers("d_x_chosen", m, c)?,
            d_c: memory.numbers("d_c", t, c)?,
            d_h: memory.numbers("d_h", t, c)?,
            d_act: memory.numbers("d_act", t, f)?,
            d_o: memory.numbers("d_o", t, q)?,
            d_q: memory.numbers("d_q", t, q)?,
            d_k: memory.numbers("d_k", t, attention_backward_dkv::MOST_ROWS * kv)?,
            d_qkv: memory.numbers("d_qkv", t, q + 2 * kv)?,
            d_z: memory.numbers("d_z", t, Projection::ALL.len() * rank)?,
        })
    }
}

impl<B> Workspace<B> {
    /// Allocates all buffers from `memory`: a device, or a count for the plan.
    pub(crate) fn allocate<M: Memory<Buffer = B>>(
        memory: &mut M,
        config: &Config,
        sizes: Sizes,
    ) -> Result<Self, ModelError> {
        let widths = Widths::new(config, &sizes);
        let &Widths { t, m, c, f, q, kv, qk_norm, dropout, .. } = &widths;
        let layer_count = config.layers.len();
        let inputs = if sizes.training.is_some() { layer_count + 1 } else { 2 };
        let sets = if sizes.training == Some(Activations::Keep) { layer_count } else { 1 };
        memory.part("activations");
        let layers = (0..sets)
            .map(|_| LayerActivations::new(memory, &widths))
            .collect::<Result<_, ModelError>>()?;
        memory.part("layer inputs");
        let x =
            (0..inputs).map(|_| memory.numbers("x", t, c)).collect::<Result<_, ModelError>>()?;
        let (tokens, meta) = (memory.numbers("tokens", t, 1)?, memory.numbers("meta", t, 4)?);
        let dropout_keys = memory.numbers("dropout keys", t, 1)?;
        let chosen_dropout_keys = memory.numbers("chosen dropout keys", m, 1)?;
        let index = memory.numbers("index", m, 1)?;
        let lists = memory.numbers("lists", t + 1 + m, 1)?;
        let qkv = memory.numbers("qkv", widths.if_needed(!qk_norm), q + 2 * kv)?;
        let hidden = memory.numbers("hidden", m, c)?;
        let dropped = memory.numbers("dropped", if dropout { t } else { 0 }, f.max(q))?;
        let mut gradients = None;
        if sizes.training.is_some() {
            memory.part("gradients");
            gradients = Some(Gradients::new(memory, &widths)?);
        }
        Ok(Self {
            tokens,
            meta,
            dropout_keys,
            chosen_dropout_keys,
            index,
            lists,
            x,
            layers,
            qkv,
            hidden,
            dropped,
            input_rows: None,
            gradients,
            batch: Packed::default(),
            chosen: None,
            sizes,
            layer_count,
        })
    }
}

/// Tokens of one pass for which every buffer fits a binding, at most `wanted`; at least one.
pub(crate) fn tokens_that_fit(
    config: &Config,
    lora: Option<&LoraConfig>,
    max_binding: u64,
    wanted: usize,
) -> usize {
    let sizes = Sizes { tokens: 1, chosen: 1, lora: lora.cloned(), training: None };
    let w = Widths::new(config, &sizes);
    let d_k = attention_backward_dkv::MOST_ROWS;
    let widest = [w.c, 2 * w.f, w.q + 2 * w.kv, d_k * w.kv, 2 * w.heads, 7 * w.rank]
        .into_iter()
        .max()
        .unwrap_or(1);
    let fitting = max_binding / (4 * widest.max(1) as u64);
    wanted.min(usize::try_from(fitting).unwrap_or(usize::MAX)).max(1)
}

impl Workspace {
    /// Allocates on a device.
    ///
    /// # Errors
    /// Out of device memory.
    pub fn new(gpu: &Gpu, config: &Config, sizes: Sizes) -> Result<Self, ModelError> {
        Self::allocate(&mut OnDevice(gpu), config, sizes)
    }

    /// Uploads a batch except for its input rows: [`crate::Model::set_batch`] uploads all of it.
    ///
    /// # Errors
    /// A batch that is larger than the workspace.
    pub(crate) fn set_batch(
        &mut self,
        gpu: &Gpu,
        batch: Packed,
        chosen: Option<Vec<u32>>,
    ) -> Result<(), ModelError> {
        let count = chosen.as_ref().map_or(batch.len(), Vec::len);
        if batch.len() > self.sizes.tokens || count > self.sizes.chosen {
            return Err(ModelError::Memory(format!(
                "a batch of {} tokens and {count} chosen positions exceeds the workspace of {} and {}",
                batch.len(),
                self.sizes.tokens,
                self.sizes.chosen
            )));
        }
        gpu.write(&self.tokens, 0, &batch.tokens);
        gpu.write(&self.meta, 0, &batch.meta);
        gpu.write(&self.dropout_keys, 0, &batch.dropout_keys);
        if let Some(chosen) = &chosen {
            let of_chosen = |&index: &u32| batch.dropout_keys[index as usize];
            let keys: Vec<u32> = chosen.iter().map(of_chosen).collect();
            gpu.write(&self.chosen_dropout_keys, 0, &keys);
            gpu.write(&self.index, 0, chosen);
            gpu.write(&self.lists, 0, &scatter_rows::lists(chosen, batch.len() as u32));
        }
        self.batch = batch;
        self.chosen = chosen;
        Ok(())
    }

    /// Input of layer `index`; if `index` is the number of layers, the output of the last.
    pub fn x(&self, index: usize) -> &Slice {
        &self.x[index % self.x.len()]
    }

    /// Activations of a layer.
    pub fn layer(&self, index: usize) -> &LayerActivations {
        &self.layers[index % self.layers.len()]
    }

    /// Queries, keys and values of a layer before norm and rotation.
    pub(crate) fn qkv(&self, index: usize) -> &Slice {
        let own = &self.layer(index).qkv;
        if own.bytes() < self.qkv.bytes() { &self.qkv } else { own }
    }

    /// T of the uploaded batch.
    pub fn token_count(&self) -> u32 {
        self.batch.len() as u32
    }

    /// M of the uploaded batch.
    pub fn chosen_count(&self) -> u32 {
        self.chosen.as_ref().map_or(self.batch.len(), Vec::len) as u32
    }

    /// For training.
    ///
    /// # Errors
    /// In a workspace made for forward only.
    pub fn gradients(&self) -> Result<&Gradients, ModelError> {
        self.gradients.as_ref().ok_or(ModelError::Empty("this workspace was made for forward only"))
    }
}
