//! The frozen weights on the device.

use hearth_formats::{checkpoint::Checkpoint, layout::WeightLayout, names::is_not_text};
use hearth_gpu::{Gpu, Slice};
use hearth_kernels::matrix::Matrix;

use crate::{
    Config, ModelError, Projection,
    load::{EMBEDDING, HEAD, LoadOptions, LoadProgress, Loader, layout_of, stays_in_file},
    table::Table,
};

/// One layer.
pub struct Layer {
    /// Queries, keys and values, `((H + 2G)·D, C)`.
    pub qkv: Matrix,
    /// `(C, H·D)`
    pub o: Matrix,
    /// Gate and up, `(2F, C)`.
    pub gate_up: Matrix,
    /// `(C, F)`
    pub down: Matrix,
    /// Of the seven projections, in the order of [`Projection::ALL`].
    pub layouts: [WeightLayout; 7],
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
    /// The stacked weights of a group of [`Projection::GROUPS`].
    pub fn group(&self, group: usize) -> &Matrix {
        [&self.qkv, &self.o, &self.gate_up, &self.down][group]
    }
}

/// All weights. Norms are gains, `1 + w`.
pub struct Weights {
    /// Embedding table and, if tied, output head, `(V, C)`.
    pub embedding: Table,
    /// Separate output head, `(V, C)`.
    pub head: Option<Table>,
    /// The layers, in order.
    pub layers: Vec<Layer>,
    /// Before the output head, `(C)`.
    pub final_norm: Slice,
}

impl Weights {
    /// Loads a model's weights. `progress` is called after every few MB and returns `false` to stop
    /// loading.
    ///
    /// # Errors
    /// Tensors that are missing or have the wrong shape, unreadable files, a device that is too
    /// small.
    pub async fn load(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        config: &Config,
        options: LoadOptions,
        progress: impl FnMut(LoadProgress) -> bool,
    ) -> Result<Self, ModelError> {
        let read = |name: &str| !stays_in_file(name, options) && !is_not_text(name);
        let mut loader = Loader::new(gpu, checkpoint, options, progress, read);
        let (c, f) = (config.hidden, config.intermediate);
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);

        let embedding = Table::load(&mut loader, EMBEDDING, config.vocab, c).await?;
        let mut head = None;
        if !config.tied_head {
            head = Some(Table::load(&mut loader, HEAD, config.vocab, c).await?);
        }
        let mut layers = Vec::with_capacity(config.layers.len());
        for index in 0..config.layers.len() {
            let name = |part: &str| format!("model.layers.{index}.{part}.weight");
            // In Gemma 1, `post_attention_layernorm` is the norm before the MLP; in Gemma 2 and 3,
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
            let names = Projection::ALL.map(|projection| name(projection.module()));
            let mut layouts = [WeightLayout::F32; 7];
            for (layout, name) in layouts.iter_mut().zip(&names) {
                *layout = layout_of(checkpoint, name, options.precision)?;
            }
            let [q_, k_, v_, o_, gate_, up_, down_] = &names;
            layers.push(Layer {
                qkv: loader.stacked(&[(q_, q), (k_, kv), (v_, kv)], c).await?,
                o: loader.matrix(o_, c, q).await?,
                gate_up: loader.stacked(&[(gate_, f), (up_, f)], c).await?,
                down: loader.matrix(down_, c, f).await?,
                layouts,
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

    /// The layouts that the matrices are held in, most common first:
    /// `q4-g32-f16-min ×126, q8-g32-f16 ×1`. Part of the identity of a training run: another layout
    /// has other values.
    pub fn layouts(&self) -> String {
        let tables = std::iter::once(&self.embedding).chain(&self.head).map(Table::layout);
        let layers = self.layers.iter().flat_map(|layer| layer.layouts);
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

    /// The output head: the embedding table unless the model has a separate head.
    ///
    /// # Errors
    /// If it was left in the file.
    pub fn output_head(&self) -> Result<&Matrix, ModelError> {
        self.head.as_ref().unwrap_or(&self.embedding).on_device()
    }
}
