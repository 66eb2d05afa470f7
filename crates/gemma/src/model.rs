//! A loaded model.

use hearth_formats::checkpoint::Checkpoint;
use hearth_gpu::{Gpu, Slice};
use hearth_kernels::{rope, variants::Variants};

use crate::{
    Config, ModelError,
    weights::{LoadOptions, LoadProgress, Weights},
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
    /// What the model is.
    pub config: Config,
    /// Its weights.
    pub weights: Weights,
    /// Kernel variants.
    pub variants: Variants,
    /// Tells models apart in snapshots: see [`Checkpoint::identity`].
    pub identity: String,
    angles: Vec<Angles>,
    max_positions: usize,
}

/// Positions that the rotation tables hold: 2 MB a table at head width 256. Longer texts are
/// refused; classification needs far less.
const MAX_POSITIONS: usize = 2048;

/// Bytes of one rotation table.
pub(crate) fn angle_bytes(config: &Config) -> u64 {
    4 * (config.max_positions.min(MAX_POSITIONS) * config.head_dim) as u64
}

impl Model {
    /// Loads a model from its files; `options` may be a [`Precision`](crate::Precision) alone.
    ///
    /// # Errors
    /// Unreadable or contradictory files, a device that is too small, or a stop by `progress`.
    pub async fn load(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        options: impl Into<LoadOptions>,
        progress: impl FnMut(LoadProgress) -> bool,
    ) -> Result<Self, ModelError> {
        let config = config_of(checkpoint)?;
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
                let table =
                    rope::table(theta, factor, config.head_dim as u32, max_positions as u32);
                let table = gpu.buffer_from("angles", table.as_flattened())?.all();
                angles.push(Angles { theta, factor, table });
            }
        }
        let variants = Variants::of(gpu);
        Ok(Self { gpu: gpu.clone(), config, weights, variants, identity, angles, max_positions })
    }

    /// The rotation table of a layer.
    pub(crate) fn angles(&self, layer: usize) -> &Slice {
        let rope = self.config.layers[layer].rope;
        let of_layer =
            self.angles.iter().position(|a| (a.theta, a.factor) == (rope.theta, rope.factor));
        &self.angles[of_layer.unwrap_or(0)].table
    }

    /// Longest text in tokens.
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }
}

/// The configuration that goes with a checkpoint's files.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn config_of(checkpoint: &Checkpoint) -> Result<Config, ModelError> {
    match (checkpoint.gguf(), checkpoint.config_json()) {
        (Some(header), _) => Ok(Config::from_gguf(header)?),
        (None, Some(json)) => Ok(Config::from_json(json)?),
        (None, None) => Err(ModelError::Options(format!(
            "{}: safetensors files need the model's config.json beside them",
            checkpoint.name()
        ))),
    }
}
