//! Device memory of one forward or training step. Allocated once for a largest size; every step
//! uses the front part of it.

use hearth_gpu::{Buffer, Gpu, Slice};
use hearth_kernels::{matrix::Matrix, scatter_rows};

use crate::{Config, LoraConfig, ModelError, batch::Packed, lora::Projection};

/// What training keeps of the forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// Everything that backward reads, for every layer.
    Keep,
    /// The input of every layer; the rest is computed again, layer by layer.
    Recompute,
}

/// Sizes of a [`Workspace`].
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    /// Most tokens of a packed list, T.
    pub tokens: usize,
    /// Most chosen positions (label positions or logits), M.
    pub chosen: usize,
    /// The adapter's shape, where one is used.
    pub lora: Option<LoraConfig>,
    /// For training: what is kept. `None` for forward only.
    pub training: Option<Activations>,
}

/// What one layer computes on its way, and backward reads again. `T` becomes `M` in the MLP of the
/// last layer.
pub struct LayerActivations {
    /// Normalized input, `(T, C)`.
    pub h: Slice,
    /// Queries before their norm, `(T, H·D)`: Gemma 3.
    pub q_raw: Slice,
    /// Keys before their norm, `(T, G·D)`: Gemma 3.
    pub k_raw: Slice,
    /// Queries, turned, `(T, H·D)`.
    pub q: Slice,
    /// Keys, turned, `(T, G·D)`.
    pub k: Slice,
    /// Values, `(T, G·D)`.
    pub v: Slice,
    /// Log-sum-exp of the scores, `(T, H)`.
    pub lse: Slice,
    /// Attention's output, `(T, H·D)`.
    pub o: Slice,
    /// Output projection before its norm, `(T, C)`.
    pub attention_out: Slice,
    /// Residual stream after attention, `(T, C)`.
    pub mid: Slice,
    /// `mid` on the chosen rows, `(M, C)`: last layer.
    pub mid_chosen: Slice,
    /// Normalized input of the MLP, `(T, C)`.
    pub h_mlp: Slice,
    /// Gate before GELU, `(T, F)`; backward overwrites it by its gradient.
    pub gate: Slice,
    /// Up projection, `(T, F)`; backward overwrites it by its gradient.
    pub up: Slice,
    /// gelu(gate) · up, `(T, F)`.
    pub act: Slice,
    /// Down projection before its norm, `(T, C)`.
    pub mlp_out: Slice,
    /// x · Aᵀ of the seven projections, `(T, R)`, in the order of [`Projection::ALL`].
    pub z: Vec<Slice>,
}

/// Gradients of activations, shared by all layers.
pub struct Gradients {
    /// Of the residual stream, `(T, C)`.
    pub d_x: Slice,
    /// Of the residual stream on the chosen rows, `(M, C)`.
    pub d_x_chosen: Slice,
    /// Of a projection's output or of a norm's output, `(T, C)`.
    pub d_c: Slice,
    /// Of a normalized input, `(T, C)`.
    pub d_h: Slice,
    /// Of `act`, `(T, F)`.
    pub d_act: Slice,
    /// Of attention's output, `(T, H·D)`.
    pub d_o: Slice,
    /// Of the queries, `(T, H·D)`.
    pub d_q: Slice,
    /// Of the keys, `(T, G·D)`.
    pub d_k: Slice,
    /// Of the values, `(T, G·D)`.
    pub d_v: Slice,
    /// Of the keys before their norm, `(T, G·D)`: Gemma 3.
    pub d_k_raw: Slice,
    /// Pairs that attention's backward needs of each row, `(T, H, 2)`.
    pub attention_rows: Slice,
    /// Of z, `(T, R)`.
    pub d_z: Slice,
}

/// All buffers of a step.
pub struct Workspace {
    /// What it was made for.
    pub sizes: Sizes,
    /// Layers of the model.
    pub layer_count: usize,
    /// Token ids, `(T)`.
    pub tokens: Buffer,
    /// [`hearth_kernels::attention::TokenMeta`], `(T)`.
    pub meta: Buffer,
    /// Dropout keys, `(T)`.
    pub keys: Buffer,
    /// Dropout keys of the chosen positions, `(M)`.
    pub chosen_keys: Buffer,
    /// Chosen positions, `(M)`.
    pub index: Buffer,
    /// The chosen positions turned around for backward, `(T + 1 + M)`.
    pub lists: Buffer,
    /// Inputs of the layers, `(T, C)` each, and the output of the last, `(M, C)`: L + 1 for
    /// training, two that take turns otherwise.
    x: Vec<Slice>,
    /// One set, or one a layer where everything is kept.
    layers: Vec<LayerActivations>,
    /// Final hidden states, normalized, `(M, C)`.
    pub hidden: Slice,
    /// An input with dropout applied, `(T, max(F, H·D))`; a dummy without dropout.
    pub dropped: Slice,
    /// Rows of the embedding for the batch's tokens, where the table is not on the device.
    pub(crate) input_rows: Option<Matrix>,
    /// For training.
    pub gradients: Option<Gradients>,
    /// The batch that is uploaded.
    pub batch: Packed,
    /// Chosen positions that are uploaded; `None`: all tokens, in order.
    pub chosen: Option<Vec<u32>>,
}

/// Allocates and counts; with no device it only counts, which is how the memory plan knows.
pub(crate) struct Allocator<'a> {
    gpu: Option<&'a Gpu>,
    pub(crate) bytes: u64,
}

impl<'a> Allocator<'a> {
    pub(crate) fn new(gpu: Option<&'a Gpu>) -> Self {
        Self { gpu, bytes: 0 }
    }

    /// A buffer of `count` 4-byte numbers, at least one.
    fn take(&mut self, label: &str, count: usize) -> Result<Option<Buffer>, ModelError> {
        let bytes = 4 * count.max(1) as u64;
        self.bytes += bytes;
        Ok(self.gpu.map(|gpu| gpu.buffer(label, bytes)).transpose()?)
    }
}

/// The numbers that each part of a workspace holds.
pub(crate) struct Widths {
    t: usize,
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
    pub(crate) fn new(config: &Config, sizes: &Sizes) -> Self {
        Self {
            // At a branch every row has a prediction of its own, so that there can be more of them
            // than tokens, and the last MLP runs on them.
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

    /// Floats of [`LayerActivations`] in the order of its fields, z once.
    fn layer(&self) -> [(&'static str, usize); 17] {
        let t = self.t;
        let norm = |n: usize| if self.qk_norm { n } else { 0 };
        let post = |n: usize| if self.post_norm { n } else { 0 };
        [
            ("h", t * self.c),
            ("q_raw", norm(t * self.q)),
            ("k_raw", norm(t * self.kv)),
            ("q", t * self.q),
            ("k", t * self.kv),
            ("v", t * self.kv),
            ("lse", t * self.heads),
            ("o", t * self.q),
            ("attention_out", post(t * self.c)),
            ("mid", t * self.c),
            ("mid_chosen", self.m * self.c),
            ("h_mlp", t * self.c),
            ("gate", t * self.f),
            ("up", t * self.f),
            ("act", t * self.f),
            ("mlp_out", post(t * self.c)),
            ("z", t * self.rank),
        ]
    }

    fn gradients(&self) -> [(&'static str, usize); 12] {
        let t = self.t;
        [
            ("d_x", t * self.c),
            ("d_x_chosen", self.m * self.c),
            ("d_c", t * self.c),
            ("d_h", t * self.c),
            ("d_act", t * self.f),
            ("d_o", t * self.q),
            ("d_q", t * self.q),
            ("d_k", t * self.kv),
            ("d_v", t * self.kv),
            ("d_k_raw", if self.qk_norm { t * self.kv } else { 0 }),
            ("attention_rows", 2 * t * self.heads),
            ("d_z", t * self.rank),
        ]
    }

    /// Bytes of one layer's activations.
    pub(crate) fn layer_bytes(&self) -> u64 {
        let z = self.t * self.rank;
        let own: usize = self.layer().iter().map(|(_, n)| (*n).max(1)).sum();
        4 * (own + 6 * z.max(1)) as u64
    }

    /// Bytes of the gradients.
    pub(crate) fn gradient_bytes(&self) -> u64 {
        4 * self.gradients().iter().map(|(_, n)| (*n).max(1) as u64).sum::<u64>()
    }

    /// Bytes of everything else: inputs of layers, hidden, lists.
    pub(crate) fn other_bytes(&self, inputs: usize) -> u64 {
        let dropped = if self.dropout { self.t * self.f.max(self.q) } else { 1 };
        4 * (inputs * self.t * self.c
            + self.m * self.c
            + 7 * self.t
            + 1
            + 3 * self.m.max(1)
            + dropped) as u64
    }
}

impl Workspace {
    /// Allocates.
    ///
    /// # Errors
    /// Device memory.
    pub fn new(gpu: &Gpu, config: &Config, sizes: Sizes) -> Result<Self, ModelError> {
        let widths = Widths::new(config, &sizes);
        let mut memory = Allocator::new(Some(gpu));
        let mut buffer = |label: &str, count: usize| {
            // An allocator with a device always gives a buffer.
            memory.take(label, count)?.ok_or(ModelError::Empty("no device"))
        };
        let inputs = if sizes.training.is_some() { config.layers.len() + 1 } else { 2 };
        let sets = if sizes.training == Some(Activations::Keep) { config.layers.len() } else { 1 };
        let x = (0..inputs)
            .map(|_| Ok(buffer("x", widths.t * widths.c)?.all()))
            .collect::<Result<_, ModelError>>()?;
        let layers = (0..sets)
            .map(|_| {
                let mut s = Vec::new();
                for (label, count) in widths.layer() {
                    let copies = if label == "z" { Projection::ALL.len() } else { 1 };
                    for _ in 0..copies {
                        s.push(buffer(label, count)?.all());
                    }
                }
                let z = s.split_off(16);
                let mut s = s.into_iter();
                let mut next = || s.next().ok_or(ModelError::Empty("a layer has 16 buffers"));
                Ok(LayerActivations {
                    h: next()?,
                    q_raw: next()?,
                    k_raw: next()?,
                    q: next()?,
                    k: next()?,
                    v: next()?,
                    lse: next()?,
                    o: next()?,
                    attention_out: next()?,
                    mid: next()?,
                    mid_chosen: next()?,
                    h_mlp: next()?,
                    gate: next()?,
                    up: next()?,
                    act: next()?,
                    mlp_out: next()?,
                    z,
                })
            })
            .collect::<Result<_, ModelError>>()?;
        let gradients = if sizes.training.is_some() {
            let mut s = Vec::new();
            for (label, count) in widths.gradients() {
                s.push(buffer(label, count)?.all());
            }
            let mut s = s.into_iter();
            let mut next = || s.next().ok_or(ModelError::Empty("there are 12 gradients"));
            Some(Gradients {
                d_x: next()?,
                d_x_chosen: next()?,
                d_c: next()?,
                d_h: next()?,
                d_act: next()?,
                d_o: next()?,
                d_q: next()?,
                d_k: next()?,
                d_v: next()?,
                d_k_raw: next()?,
                attention_rows: next()?,
                d_z: next()?,
            })
        } else {
            None
        };
        let dropped = if widths.dropout { widths.t * widths.f.max(widths.q) } else { 1 };
        Ok(Self {
            tokens: buffer("tokens", widths.t)?,
            meta: buffer("meta", 4 * widths.t)?,
            keys: buffer("keys", widths.t)?,
            chosen_keys: buffer("chosen keys", widths.m)?,
            index: buffer("index", widths.m)?,
            lists: buffer("lists", widths.t + 1 + widths.m)?,
            x,
            layers,
            hidden: buffer("hidden", widths.m * widths.c)?.all(),
            dropped: buffer("dropped", dropped)?.all(),
            input_rows: None,
            gradients,
            batch: Packed::default(),
            chosen: None,
            sizes,
            layer_count: config.layers.len(),
        })
    }

    /// Uploads a batch but for its input rows: [`crate::Model::set_batch`] is the whole of it.
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
        gpu.write(&self.keys, 0, &batch.keys);
        if let Some(chosen) = &chosen {
            let keys: Vec<u32> = chosen.iter().map(|&place| batch.keys[place as usize]).collect();
            gpu.write(&self.chosen_keys, 0, &keys);
            gpu.write(&self.index, 0, chosen);
            gpu.write(&self.lists, 0, &scatter_rows::lists(chosen, batch.len() as u32));
        }
        self.batch = batch;
        self.chosen = chosen;
        Ok(())
    }

    /// Input of layer `index`; with the number of layers, the output of the last.
    pub fn x(&self, index: usize) -> &Slice {
        &self.x[index % self.x.len()]
    }

    /// Activations of a layer.
    pub fn layer(&self, index: usize) -> &LayerActivations {
        &self.layers[index % self.layers.len()]
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
