//! The frozen weights on the device, streamed from a checkpoint.

use hearth_formats::{checkpoint::Checkpoint, layout::WeightLayout};
use hearth_gpu::{Gpu, Slice};
use hearth_kernels::matrix::Matrix;

use crate::{
    Config, ModelError,
    table::{Embedding, Table, TableRows},
};

/// Bytes of packed rows that are on the host at once.
const PIECE: u64 = 4 << 20;
/// Bytes handed to the device between two waits: what the driver's staging memory holds.
const IN_FLIGHT: u64 = 64 << 20;

/// One layer.
pub struct Layer {
    /// `(H·D, C)`
    pub q: Matrix,
    /// `(G·D, C)`
    pub k: Matrix,
    /// `(G·D, C)`
    pub v: Matrix,
    /// `(C, H·D)`
    pub o: Matrix,
    /// `(F, C)`
    pub gate: Matrix,
    /// `(F, C)`
    pub up: Matrix,
    /// `(C, F)`
    pub down: Matrix,
    /// Before attention, `(C)`.
    pub input_norm: Slice,
    /// On attention's output, `(C)`: Gemma 2 and 3.
    pub post_attention_norm: Option<Slice>,
    /// Before the MLP, `(C)`.
    pub mlp_norm: Slice,
    /// On the MLP's output, `(C)`: Gemma 2 and 3.
    pub post_mlp_norm: Option<Slice>,
    /// On every head of q, `(D)`: Gemma 3.
    pub q_norm: Option<Slice>,
    /// On every head of k, `(D)`: Gemma 3.
    pub k_norm: Option<Slice>,
}

impl Layer {
    /// Its seven matrices, in the order of [`crate::Projection::ALL`].
    pub fn matrices(&self) -> [&Matrix; 7] {
        [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down]
    }
}

/// All weights. Norms are gains, `1 + w`.
pub struct Weights {
    /// Embedding table and, when tied, output head, `(V, C)`.
    pub embedding: Table,
    /// Output head of its own, `(V, C)`.
    pub head: Option<Table>,
    /// The layers, in order.
    pub layers: Vec<Layer>,
    /// Before the output head, `(C)`.
    pub final_norm: Slice,
}

/// How loading comes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of the file's tensors that are on the device.
    pub done: u64,
    /// All bytes that will be read.
    pub total: u64,
}

/// What layout to hold matrices in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// The layout that holds the file's numbers without loss; bf16 becomes f32.
    #[default]
    Exact,
    /// 32-bit floats are rounded to 16 bits while they stream in; what is smaller stays.
    F16,
    /// Floats are quantized to 8 bits while they stream in; quantized files stay as they are.
    Q8,
    /// Floats are quantized to 4 bits while they stream in; quantized files stay as they are.
    Q4,
}

/// How a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// What layout matrices are held in.
    pub precision: Precision,
    /// Where the tables of the vocabulary are kept.
    pub embedding: Embedding,
}

impl From<Precision> for LoadOptions {
    fn from(precision: Precision) -> Self {
        Self { precision, ..Self::default() }
    }
}

/// Streams tensors onto the device, counting bytes.
pub(crate) struct Loader<'a, F> {
    gpu: &'a Gpu,
    checkpoint: &'a Checkpoint,
    options: LoadOptions,
    progress: F,
    state: LoadProgress,
    unflushed: u64,
}

impl Weights {
    /// Loads a model. `progress` is told after every few MB and stops the loading by `false`.
    ///
    /// # Errors
    /// Missing or misshapen tensors, unreadable files, a device that is too small.
    pub async fn load(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        config: &Config,
        options: LoadOptions,
        progress: impl FnMut(LoadProgress) -> bool,
    ) -> Result<Self, ModelError> {
        let read = |name: &str| !stays_in_file(name, options);
        let mut loader = Loader::new(gpu, checkpoint, options, progress, read);
        let (c, f) = (config.hidden, config.intermediate);
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);

        let embedding = loader.table(EMBEDDING, config.vocab, c).await?;
        let head =
            if config.tied_head { None } else { Some(loader.table(HEAD, config.vocab, c).await?) };
        let mut layers = Vec::with_capacity(config.layers.len());
        for index in 0..config.layers.len() {
            let name = |part: &str| format!("model.layers.{index}.{part}.weight");
            // In Gemma 1 `post_attention_layernorm` is the norm before the MLP; in Gemma 2 and 3
            // it is applied to attention's output.
            let (post_attention, mlp, post_mlp) = if config.has_post_norms() {
                let post_attention = loader.norm(&name("post_attention_layernorm"), c).await?;
                let post_mlp = loader.norm(&name("post_feedforward_layernorm"), c).await?;
                (Some(post_attention), "pre_feedforward_layernorm", Some(post_mlp))
            } else {
                (None, "post_attention_layernorm", None)
            };
            let (q_norm, k_norm) = if config.has_qk_norm() {
                let q_norm = loader.norm(&name("self_attn.q_norm"), config.head_dim).await?;
                (Some(q_norm), Some(loader.norm(&name("self_attn.k_norm"), config.head_dim).await?))
            } else {
                (None, None)
            };
            layers.push(Layer {
                q: loader.matrix(&name("self_attn.q_proj"), q, c).await?,
                k: loader.matrix(&name("self_attn.k_proj"), kv, c).await?,
                v: loader.matrix(&name("self_attn.v_proj"), kv, c).await?,
                o: loader.matrix(&name("self_attn.o_proj"), c, q).await?,
                gate: loader.matrix(&name("mlp.gate_proj"), f, c).await?,
                up: loader.matrix(&name("mlp.up_proj"), f, c).await?,
                down: loader.matrix(&name("mlp.down_proj"), c, f).await?,
                input_norm: loader.norm(&name("input_layernorm"), c).await?,
                post_attention_norm: post_attention,
                mlp_norm: loader.norm(&name(mlp), c).await?,
                post_mlp_norm: post_mlp,
                q_norm,
                k_norm,
            });
        }
        let final_norm = loader.norm("model.norm.weight", c).await?;
        gpu.finish().await?;
        Ok(Self { embedding, head, layers, final_norm })
    }

    /// The layouts that the matrices are held in, most common first: `q4-g32-f16-min ×126, q8-g32-f16 ×1`. Part of
    /// what a training run is: another layout has other numbers.
    pub fn layouts(&self) -> String {
        let tables = std::iter::once(&self.embedding).chain(&self.head).map(Table::layout);
        let layers = self.layers.iter().flat_map(Layer::matrices).map(|matrix| matrix.layout);
        let mut counts = std::collections::BTreeMap::new();
        for layout in tables.chain(layers) {
            *counts.entry(layout).or_insert(0) += 1;
        }
        let mut counts: Vec<(WeightLayout, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|&(layout, count)| (std::cmp::Reverse(count), layout));
        match counts[..] {
            [(layout, _)] => layout.to_string(),
            _ => counts.iter().map(|(l, n)| format!("{l} ×{n}")).collect::<Vec<_>>().join(", "),
        }
    }

    /// The output head: the embedding table unless the model has one of its own.
    ///
    /// # Errors
    /// When it was left in the file.
    pub fn output_head(&self) -> Result<&Matrix, ModelError> {
        self.head.as_ref().unwrap_or(&self.embedding).on_device()
    }
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// Whether a tensor is read row by row later.
pub(crate) fn stays_in_file(name: &str, options: LoadOptions) -> bool {
    options.embedding == Embedding::FromSource && (name == EMBEDDING || name == HEAD)
}

/// The layout that a matrix of the file gets.
///
/// # Errors
/// When the tensor is missing or is no matrix of weights.
pub fn layout_of(
    checkpoint: &Checkpoint,
    name: &str,
    precision: Precision,
) -> Result<WeightLayout, ModelError> {
    let tensor = checkpoint.tensor(name)?;
    let stored = tensor.layout.unwrap_or(WeightLayout::F32);
    let wanted = match (stored, precision) {
        (WeightLayout::F32, Precision::F16) => WeightLayout::F16,
        (WeightLayout::F32 | WeightLayout::F16, Precision::Q8) => WeightLayout::Q8,
        (WeightLayout::F32 | WeightLayout::F16, Precision::Q4) => WeightLayout::Q4,
        _ => stored,
    };
    // A width that has no room for groups of 32 stays as it is: only toy models have such.
    Ok(if wanted.check(tensor.columns()).is_ok() { wanted } else { stored })
}

impl<'a, F: FnMut(LoadProgress) -> bool> Loader<'a, F> {
    /// Loads of a checkpoint the tensors whose names are `read`.
    pub fn new(
        gpu: &'a Gpu,
        checkpoint: &'a Checkpoint,
        options: LoadOptions,
        progress: F,
        read: impl Fn(&str) -> bool,
    ) -> Self {
        let read = checkpoint.tensors().filter(|t| read(&t.name));
        let state = LoadProgress { done: 0, total: read.map(|t| t.stored_bytes()).sum() };
        Self { gpu, checkpoint, options, progress, state, unflushed: 0 }
    }

    /// A matrix, streamed onto the device.
    pub async fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Matrix, ModelError> {
        self.check_shape(name, rows, columns)?;
        let layout = layout_of(self.checkpoint, name, self.options.precision)?;
        let matrix = Matrix::new(self.gpu, name, rows as u32, columns as u32, layout)?;
        let step = self.checkpoint.rows_within(name, layout, PIECE)?;
        let row_bytes = layout.row_bytes(columns) as u64;
        let stored = self.checkpoint.tensor(name)?.stored_bytes() / rows as u64;
        let mut row = 0;
        while row < rows as u64 {
            let end = (row + step).min(rows as u64);
            let packed = self.checkpoint.read_rows(name, layout, row..end).await?;
            matrix.write_rows(self.gpu, row as u32, &packed);
            self.uploaded((end - row) * row_bytes, (end - row) * stored).await?;
            row = end;
        }
        Ok(matrix)
    }

    async fn table(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Table, ModelError> {
        if !stays_in_file(name, self.options) {
            return Ok(Table::OnDevice(self.matrix(name, rows, columns).await?));
        }
        self.check_shape(name, rows, columns)?;
        let table = TableRows::new(self.checkpoint, name, self.options, [rows, columns])?;
        Ok(Table::FromSource(table))
    }

    async fn norm(&mut self, name: &str, width: usize) -> Result<Slice, ModelError> {
        self.check_shape(name, 1, width)?;
        let gain = self.checkpoint.read_norm_gain(name).await?;
        let stored = self.checkpoint.tensor(name)?.stored_bytes();
        self.uploaded(4 * width as u64, stored).await?;
        Ok(self.gpu.buffer_from(name, &gain)?.all())
    }

    fn check_shape(&self, name: &str, rows: usize, columns: usize) -> Result<(), ModelError> {
        let tensor = self.checkpoint.tensor(name)?;
        let expected = [rows as u64, columns as u64];
        if [tensor.rows(), tensor.columns()] == expected {
            return Ok(());
        }
        Err(ModelError::Shape {
            file: self.checkpoint.name().to_owned(),
            tensor: name.to_owned(),
            expected,
            found: tensor.shape.clone(),
        })
    }

    /// Tells the progress, and lets the device catch up: a queue that only grows would hold the
    /// whole model in staging memory.
    async fn uploaded(&mut self, bytes: u64, stored: u64) -> Result<(), ModelError> {
        self.state.done += stored;
        self.unflushed += bytes;
        if self.unflushed >= IN_FLIGHT {
            self.unflushed = 0;
            self.gpu.flush().await?;
        }
        if (self.progress)(self.state) { Ok(()) } else { Err(ModelError::Stopped) }
    }
}
