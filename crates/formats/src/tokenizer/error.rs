//! What can be wrong with a tokenizer.

use thiserror::Error;

use crate::gguf::header::HeaderError;
use crate::recognize::WrongFile;

/// Why a tokenizer could not be read. Every variant names the file.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenizerError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Wrong(#[from] WrongFile),
    #[error("{file}: not a tokenizer: {found}; fetch the file again")]
    Json { file: String, found: String },
    #[error(
        "{file}: {part}: expected {expected}, as in Gemma's tokenizers, found {found}; \
         use the tokenizer that came with the model"
    )]
    Unsupported { file: String, part: String, expected: String, found: String },
    #[error(
        "{file}: token {token} is missing among {tokens}; the file is incomplete or not of \
         a Gemma model: use the tokenizer that came with the model"
    )]
    MissingToken { file: String, token: String, tokens: usize },
}
