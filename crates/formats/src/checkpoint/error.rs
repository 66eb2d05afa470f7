//! What can be wrong with a checkpoint.

use thiserror::Error;

use crate::gguf::header::HeaderError;
use crate::hearth::HearthFileError;
use crate::layout::LayoutError;
use crate::mlx::MlxError;
use crate::recognize::WrongFile;
use crate::row::RowFault;
use crate::safetensors::SafetensorsError;
use crate::source::SourceError;

/// Why a model could not be opened or a tensor could not be read.
#[allow(missing_docs)] // The messages say it.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Gguf(#[from] HeaderError),
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    #[error(transparent)]
    Hearth(#[from] HearthFileError),
    #[error("{file}: {source}")]
    Mlx { file: String, source: MlxError },
    #[error(transparent)]
    Wrong(WrongFile),
    #[error(
        "{file}: the weights are quantized by {method}: tensor '{tensor}' is of type {found}, which Hearth does not \
         read; take the model unquantized in safetensors (Hearth makes it smaller itself), or as a GGUF in Q4_K_M or \
         Q8_0"
    )]
    ForeignQuantization { file: String, tensor: String, found: String, method: String },
    #[error("no model file given; give a .gguf file, or .safetensors files with their config.json")]
    Empty,
    #[error("{file}: {message}")]
    Files { file: String, message: String },
    #[error(
        "{file}: this JSON file is {bytes} bytes long, {limit} at most are read; choose the model's own file"
    )]
    JsonLength { file: String, bytes: u64, limit: u64 },
    #[error("{file}: damaged JSON: {message}; fetch it again")]
    Json { file: String, message: String },
    #[error(
        "{file}: tensor '{tensor}' is there twice (also in {other}); choose the files of one model only"
    )]
    Duplicate { file: String, other: String, tensor: String },
    #[error(
        "{model}: there is no tensor '{tensor}'; the file is not a complete Gemma text model: choose all of its files"
    )]
    Missing { model: String, tensor: String },
    #[error(
        "{file}: tensor '{tensor}' is of type {found}, which Hearth does not read as weights; take the model as a GGUF in Q4_K_M or Q8_0, or unquantized in safetensors"
    )]
    NotWeights { file: String, tensor: String, found: String },
    #[error(
        "{file}: tensor '{tensor}' has shape {found:?}, {expected}; the file is damaged or of another model: fetch it again"
    )]
    Shape { file: String, tensor: String, expected: String, found: Vec<u64> },
    #[error("{file}: tensor '{tensor}': rows {begin} to {end} were asked for, it has {rows}")]
    Rows { file: String, tensor: String, begin: u64, end: u64, rows: u64 },
    #[error("{file}: tensor '{tensor}': {source}")]
    Layout { file: String, tensor: String, source: LayoutError },
    #[error("{file}: tensor '{tensor}', row {row}: {fault}")]
    Row { file: String, tensor: String, row: u64, fault: RowFault },
    #[error("{file}: tensor '{tensor}': no memory for {bytes} bytes; close other tabs or programs")]
    OutOfMemory { file: String, tensor: String, bytes: u64 },
}
