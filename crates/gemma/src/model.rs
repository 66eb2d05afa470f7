//! A loaded model.

use hearth_formats::{
    checkpoint::{Checkpoint, Format},
    peft::Base,
};
use hearth_gpu::{Gpu, Slice};
use hearth_kernels::{matrix::Matrix, qk_norm_rope, variants::Variants};

use crate::{
    Config, ModelError, Packed,
    adapter_file::adapter_base,
    config::check_complete,
    load::{LoadOptions, LoadProgress},
    table::Table,
    weights::Weights,
    workspace::Workspace,
};

/// Rotations of one base: `(positions, D/2)` pairs of cosine and sine.
struct Angles {
    theta: f64,
    factor: f64,
    table: Slice,
}

/// A Gemma on a device: weights, rotation tables, and the kernel variants chosen for it.
pub struct Model {
    /// The device.
    pub gpu: Gpu,
    /// The model's configuration.
    pub config: Config,
    /// Its weights.
    pub weights: Weights,
    /// Kernel variants.
    pub variants: Variants,
    /// Distinguishes models in snapshots: see [`Checkpoint::identity`].
    pub identity: String,
    /// The names that PEFT uses for this model's modules, for adapters.
    pub adapter_base: Base,
    /// What the user should know about how its files were read.
    pub notes: Vec<String>,
    angles: Vec<Angles>,
    max_positions: usize,
}

/// Positions that the rotation tables hold: 2 MB per table at head width 256. Longer texts are
/// rejected; classification needs far fewer positions.
const MAX_POSITIONS: usize = 2048;

/// Bytes of one rotation table.
pub(crate) fn angle_bytes(config: &Config) -> u64 {
    4 * (config.max_positions.min(MAX_POSITIONS) * config.head_dim) as u64
}

impl Model {
    /// Loads a model from its files; `options` may be a [`Precision`](crate::Precision) alone.
    ///
    /// # Errors
    /// Unreadable or contradictory files, a device that is too small, or a stop requested by
    /// `progress`.
    pub async fn load(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        options: impl Into<LoadOptions>,
        progress: impl FnMut(LoadProgress) -> bool,
    ) -> Result<Self, ModelError> {
        let (config, mut notes) = config_and_notes(checkpoint)?;
        notes.extend(check_complete(checkpoint, &config)?);
        let adapter_base = adapter_base(checkpoint, &config);
        let weights = Weights::load(gpu, checkpoint, &config, options.into(), progress).await?;
        let identity = checkpoint
            .identity()
            .await
            .map_err(hearth_formats::checkpoint::CheckpointError::from)?;
        let max_positions = config.max_positions.min(MAX_POSITIONS);
        let mut angles: Vec<Angles> = Vec::new();
        for layer in &config.layers {
            let (theta, factor) = (layer.rope.theta, layer.rope.factor);
            if angles.iter().all(|a| (a.theta, a.factor) != (theta, factor)) {
                let table = qk_norm_rope::table(
                    theta,
                    factor,
                    config.head_dim as u32,
                    max_positions as u32,
                );
                let table = gpu.buffer_from("angles", table.as_flattened())?.all();
                angles.push(Angles { theta, factor, table });
            }
        }
        let variants = Variants::of(gpu);
        let gpu = gpu.clone();
        Ok(Self {
            gpu,
            config,
            weights,
            variants,
            identity,
            adapter_base,
            notes,
            angles,
            max_positions,
        })
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        [Some(&self.weights.embedding), self.weights.head.as_ref()].into_iter().flatten()
    }

    /// Bytes on the device that [`Model::load_tables`] would still allocate.
    pub fn missing_table_bytes(&self) -> u64 {
        self.tables().map(Table::missing_bytes).sum()
    }

    /// Loads the tables of the vocabulary that were left in the file, for generation and for losses
    /// over the vocabulary. Does nothing if they are already on the device. `progress` is as in
    /// [`Model::load`].
    ///
    /// # Errors
    /// A file that can no longer be read, out of device memory, a stop requested by `progress`: the
    /// tables then stay in the file.
    pub async fn load_tables(
        &self,
        mut progress: impl FnMut(LoadProgress) -> bool,
    ) -> Result<(), ModelError> {
        for table in self.tables() {
            table.load_rest(&self.gpu, &mut progress).await?;
        }
        Ok(())
    }

    /// Uploads a batch, and the positions on which the last layer's MLP and the head run (`None`:
    /// all of them). Input rows that are not on the device are read from the file.
    ///
    /// # Errors
    /// A batch that is larger than the workspace, or a file that can no longer be read.
    pub async fn set_batch(
        &self,
        ws: &mut Workspace,
        batch: Packed,
        chosen: Option<Vec<u32>>,
    ) -> Result<(), ModelError> {
        ws.set_batch(&self.gpu, batch, chosen)?;
        let Workspace { batch, sizes, input_rows, tokens, .. } = ws;
        let embedding = &self.weights.embedding;
        let rows =
            embedding.upload_rows(&self.gpu, &batch.tokens, sizes.tokens, input_rows).await?;
        if let Some(rows) = rows {
            self.gpu.write(&*tokens, 0, &rows);
        }
        Ok(())
    }

    /// The table that the batch's ids in `ws.tokens` index.
    pub(crate) fn input_table<'a>(&'a self, ws: &'a Workspace) -> Option<&'a Matrix> {
        self.weights.embedding.input_matrix(ws.input_rows.as_ref())
    }

    /// Rows of the output head in f32, `(tokens, C)`, computed into a buffer: the part of it that a
    /// softmax over classes needs.
    ///
    /// # Errors
    /// Tokens beyond the vocabulary, an unreadable file, out of device memory.
    pub(crate) async fn head_rows(
        &self,
        tokens: &[u32],
        into: &Slice,
    ) -> Result<Matrix, ModelError> {
        let vocab = self.config.vocab;
        if let Some(&token) = tokens.iter().find(|&&t| t as usize >= vocab) {
            return Err(ModelError::Token { token, position: 0, vocab });
        }
        let head = self.weights.head.as_ref().unwrap_or(&self.weights.embedding);
        head.rows_into(&self.gpu, tokens, self.config.hidden as u32, into).await
    }

    /// The rotation table of a layer.
    pub(crate) fn angles(&self, layer: usize) -> &Slice {
        let rope = self.config.layers[layer].rope;
        let of_layer =
            self.angles.iter().position(|a| (a.theta, a.factor) == (rope.theta, rope.factor));
        &self.angles[of_layer.unwrap_or(0)].table
    }

    /// Longest text, in tokens.
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }
}

/// The configuration of a checkpoint's files. The tensors determine whether the head is the
/// embedding.
///
/// # Errors
/// If there is none, or it cannot be read.
pub fn config_of(checkpoint: &Checkpoint) -> Result<Config, ModelError> {
    Ok(config_and_notes(checkpoint)?.0)
}

/// Like [`config_of`], and also returns what the user should know about how the files were read:
/// what was ignored, which defaults were used and which of two interpretations was chosen.
///
/// # Errors
/// As [`config_of`].
pub fn config_and_notes(checkpoint: &Checkpoint) -> Result<(Config, Vec<String>), ModelError> {
    let mut notes = checkpoint.notes().to_vec();
    let mut config = match (checkpoint.gguf(), checkpoint.config_json()) {
        (Some(header), _) => {
            let (config, of_config) = Config::from_gguf_with_notes(header)?;
            notes.extend(of_config);
            config
        }
        (None, Some(json)) => Config::from_json(json)?,
        (None, None) => {
            return Err(ModelError::Options(format!(
                "{}: safetensors files need the model's config.json beside them",
                checkpoint.name()
            )));
        }
    };
    let own_head = checkpoint.has_own_head();
    if config.tied_head == own_head && checkpoint.format() != Format::Hearth {
        notes.push(match own_head {
            true => format!(
                "{}: config.json says that the head is the embedding, but the file has an lm_head.weight of its own \
                 with other numbers: it is used",
                checkpoint.name()
            ),
            false => format!(
                "{}: the configuration says that the head is no copy of the embedding, but there is no other \
                 lm_head.weight: the embedding is used",
                checkpoint.name()
            ),
        });
    }
    config.tied_head = !own_head;
    Ok((config, notes))
}
