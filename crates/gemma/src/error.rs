//! Errors of loading and running a model.

use hearth_formats::checkpoint::CheckpointError;
use hearth_gpu::GpuError;
use thiserror::Error;

use crate::config::ConfigError;

/// Errors of the model layer.
#[derive(Debug, Error)]
pub enum ModelError {
    /// A device error.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// An error in the model's files.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An error in the model's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Tensors are missing.
    #[error(
        "{file}: {missing} of the {expected} tensors of a {model} are missing, '{first}' first{others}: the files are \
         not complete, or the configuration is of another model; choose all files of one model"
    )]
    Incomplete {
        /// The model's first file.
        file: String,
        /// The model that the configuration describes.
        model: String,
        /// Number of missing tensors.
        missing: usize,
        /// Number of expected tensors.
        expected: usize,
        /// The first missing tensor.
        first: String,
        /// What the file contains instead, in words.
        others: String,
    },
    /// A tensor that the model does not use.
    #[error(
        "{file}: there is a tensor '{tensor}', which a {model} does not have: the configuration is of another model, or \
         this is a variant that Hearth does not read; choose all files of one model, or another model"
    )]
    Unexpected {
        /// The model's first file.
        file: String,
        /// The model that the configuration describes.
        model: String,
        /// Tensor name.
        tensor: String,
    },
    /// A tensor's shape differs from the one that the configuration requires.
    #[error(
        "{file}: tensor {tensor} is {found:?}, but the configuration asks for {expected:?}: the files belong to different models; choose all files of one model"
    )]
    Shape {
        /// The model's first file.
        file: String,
        /// Tensor name.
        tensor: String,
        /// Shape according to the configuration, `[rows, columns]`.
        expected: [u64; 2],
        /// Shape in the file.
        found: Vec<u64>,
    },
    /// A token id beyond the vocabulary.
    #[error(
        "token {token} at position {position} is beyond the model's vocabulary of {vocab}: use the tokenizer that came with the model"
    )]
    Token {
        /// The id.
        token: u32,
        /// Its position in the text.
        position: usize,
        /// The vocabulary's size.
        vocab: usize,
    },
    /// More positions than the model supports.
    #[error(
        "a text has {tokens} tokens, the model's longest is {max}: shorten it, or lower the maximum prompt length"
    )]
    TooLong {
        /// Number of tokens of the text.
        tokens: usize,
        /// The model's limit.
        max: usize,
    },
    /// Nothing to compute.
    #[error("{0}")]
    Empty(&'static str),
    /// The plan does not fit the device.
    #[error("{0}")]
    Memory(String),
    /// Options that contradict each other or the model.
    #[error("{0}")]
    Options(String),
    /// A cache was filled with another adapter, or has no room left.
    #[error("{0}")]
    Cache(String),
    /// The caller stopped a long-running call.
    #[error("stopped")]
    Stopped,
}
