//! What can be wrong with a GGUF header.

use thiserror::Error;

use crate::source::SourceError;

/// Why a GGUF header could not be read, or does not contain what was asked for.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(
        "{file}: not a GGUF file: expected the first bytes 'GGUF', found '{}'; \
         choose a .gguf file, or fetch it again",
        found.escape_ascii()
    )]
    Magic { file: String, found: [u8; 4] },
    #[error(
        "{file}: GGUF version {found}, expected 2 or 3; convert the model again with a current \
         llama.cpp"
    )]
    Version { file: String, found: u32 },
    #[error(
        "{file}: GGUF for big-endian machines, expected little-endian; convert the model again \
         without --bigendian"
    )]
    BigEndian { file: String },
    #[error(
        "{file}: {what}: expected {wanted} more bytes at offset {offset}, found {available}; \
         the file is cut short or damaged, fetch it again"
    )]
    Truncated { file: String, what: String, offset: u64, wanted: u64, available: u64 },
    #[error(
        "{file}: {what}: the header would pass {limit} bytes at offset {offset}; \
         the file is damaged, fetch it again"
    )]
    TooLong { file: String, what: String, offset: u64, limit: u64 },
    #[error("{file}: {what}: no memory for {bytes} bytes; close other tabs or programs")]
    OutOfMemory { file: String, what: String, bytes: u64 },
    #[error(
        "{file}: {what}: expected text in UTF-8, found the bytes '{}' at offset {offset}; \
         the file is damaged, fetch it again",
        found.escape_ascii()
    )]
    NotUtf8 { file: String, what: String, offset: u64, found: Vec<u8> },
    #[error(
        "{file}: key '{key}': expected a value type from 0 to 12, found {found}; \
         the file is damaged or newer than this program: fetch it again, or use Q4_K_M or Q8_0"
    )]
    ValueType { file: String, key: String, found: u32 },
    #[error(
        "{file}: key '{key}': expected an array of plain values, found an array of arrays; convert the model again"
    )]
    NestedArray { file: String, key: String },
    #[error(
        "{file}: key '{key}': expected a bool as 0 or 1, found {found}; the file is damaged, \
         fetch it again"
    )]
    Bool { file: String, key: String, found: u8 },
    #[error("{file}: {what} is there twice; the file is damaged, convert the model again")]
    Duplicate { file: String, what: String },
    #[error(
        "{file}: key 'general.alignment': expected a power of two from 8 to 65536, found {found}; the file is damaged, \
         fetch it again"
    )]
    Alignment { file: String, found: u32 },
    #[error(
        "{file}: tensor '{tensor}': expected 1 to 4 dimensions of 1 or more, found {found}; \
         the file is damaged, fetch it again"
    )]
    Dimensions { file: String, tensor: String, found: String },
    #[error(
        "{file}: tensor '{tensor}': unknown number format {found}; the file is damaged, or made \
         by a program newer than this one: use Q4_K_M or Q8_0"
    )]
    TensorType { file: String, tensor: String, found: u32 },
    #[error(
        "{file}: tensor '{tensor}': {kind} packs {block} weights a block, which does not divide \
         the row length {row}; convert the model again"
    )]
    Blocks { file: String, tensor: String, kind: &'static str, block: u64, row: u64 },
    #[error(
        "{file}: tensor '{tensor}': expected an offset that is a multiple of {alignment}, \
         found {offset}; the file is damaged, fetch it again"
    )]
    TensorOffset { file: String, tensor: String, alignment: u64, offset: u64 },
    #[error(
        "{file}: tensor '{tensor}': expected {bytes} bytes at offset {offset}, but the file has \
         {file_bytes}; it is cut short or damaged, fetch it again"
    )]
    TensorRange { file: String, tensor: String, offset: u64, bytes: u64, file_bytes: u64 },
    #[error(
        "{file}: tensors '{first}' and '{second}' overlap at offset {offset}; the file is \
         damaged, fetch it again"
    )]
    Overlap { file: String, first: String, second: String, offset: u64 },
    #[error(
        "{file}: key '{key}' is missing; expected {expected}: convert the model again with a current llama.cpp"
    )]
    MissingKey { file: String, key: String, expected: &'static str },
    #[error(
        "{file}: key '{key}': expected {expected}, found {found}; convert the model again with a current llama.cpp"
    )]
    WrongValue { file: String, key: String, expected: &'static str, found: String },
    #[error(
        "{file}: tensor '{tensor}' is missing; the file is not a complete model, fetch it again"
    )]
    MissingTensor { file: String, tensor: String },
}
