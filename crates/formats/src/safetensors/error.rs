//! What can be wrong with a safetensors file.

use thiserror::Error;

use super::Dtype;
use crate::source::SourceError;

/// Why a safetensors file or index could not be read.
#[allow(missing_docs)] // The messages say it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SafetensorsError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(
        "{file}: its first 8 bytes announce a header of {found} bytes, {limit} at most can follow; {advice}"
    )]
    HeaderLength { file: String, found: u64, limit: u64, advice: &'static str },
    #[error("{file}: the JSON of the header or index is damaged: {message}; fetch it again")]
    Json { file: String, message: String },
    #[error(
        "{file}: tensor '{tensor}': unknown number type '{found}'; the file is newer than this program: take the model \
         in F32, F16 or BF16, or as a GGUF in Q4_K_M or Q8_0"
    )]
    Dtype { file: String, tensor: String, found: String },
    #[error(
        "{file}: tensor '{tensor}': shape {shape:?} is larger than any file; the file is damaged, fetch it again"
    )]
    Shape { file: String, tensor: String, shape: Vec<u64> },
    #[error(
        "{file}: tensor '{tensor}': {dtype} {shape:?} takes {expected} bytes, \
         but its data is from {begin} to {end}; the file is damaged, fetch it again"
    )]
    Span {
        file: String,
        tensor: String,
        dtype: Dtype,
        shape: Vec<u64>,
        expected: u64,
        begin: u64,
        end: u64,
    },
    #[error(
        "{file}: tensor '{tensor}' ends at byte {end} of the data, but only {available} are \
         there; the file is cut short, fetch it again"
    )]
    Range { file: String, tensor: String, end: u64, available: u64 },
    #[error(
        "{file}: tensor '{tensor}': offset {begin} is not a multiple of {dtype}'s size; the file is damaged, fetch it again"
    )]
    Misaligned { file: String, tensor: String, dtype: Dtype, begin: u64 },
    #[error(
        "{file}: tensors '{first}' and '{second}' overlap at byte {offset} of the data; the file is damaged, fetch it again"
    )]
    Overlap { file: String, first: String, second: String, offset: u64 },
    #[error(
        "{file}: bytes {begin} to {end} of the data belong to no tensor; the file is damaged, fetch it again"
    )]
    Gap { file: String, begin: u64, end: u64 },
    #[error("{file}: there is no tensor '{tensor}'; choose all files of the model")]
    MissingTensor { file: String, tensor: String },
    #[error(
        "{file}: tensor '{tensor}' is said to be in '{shard}', which is not a plain file name; fetch the model's index again"
    )]
    ShardName { file: String, tensor: String, shard: String },
}
