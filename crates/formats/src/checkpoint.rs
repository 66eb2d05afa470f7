//! A model in any of the formats that Hearth reads, under one set of names and shapes.
//!
//! Opening reads headers only. Rows are then read and repacked in pieces of [`PIECE`] bytes, so
//! that the heap does not grow with the file.

mod error;
mod head;
mod open;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::rc::Rc;

use sha2::{Digest, Sha256};

use crate::gguf;
use crate::gguf::header::TensorType;
use crate::layout::WeightLayout;
use crate::mlx::Affine;
use crate::row::FloatType;
use crate::source::{ByteSource, SourceError, read_vec};
pub use error::CheckpointError;
pub use open::{is_model, is_piece};

/// Bytes that are read at once (a longer row is read as a whole).
pub const PIECE: u64 = 2 << 20;

/// The formats of model files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A GGUF file, or the pieces of one.
    Gguf,
    /// Safetensors with floats.
    Safetensors,
    /// Safetensors quantized by MLX.
    Mlx,
    /// Safetensors quantized by Hearth.
    Hearth,
}

/// A model whose headers were read.
pub struct Checkpoint {
    sources: Vec<Rc<dyn ByteSource>>,
    /// Source and length of every header: what the identity covers.
    headers: Vec<(usize, u64)>,
    format: Format,
    tensors: BTreeMap<String, Tensor>,
    gguf: Option<gguf::header::Header>,
    config: Option<String>,
    /// Whether norm weights are stored as 1 + w.
    norms_are_gains: bool,
    notes: Vec<String>,
}

/// A tensor under its uniform name.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// `model.layers.0.self_attn.q_proj.weight`
    pub name: String,
    /// `[N rows, K columns]` of a matrix, `[K]` of a vector.
    pub shape: Vec<u64>,
    /// The layout that holds the stored values as they are; `None` for numbers that Hearth does
    /// not read as weights.
    pub layout: Option<WeightLayout>,
    storage: Storage,
}

impl Tensor {
    /// Index of the source that holds it.
    fn source(&self) -> usize {
        self.storage.parts()[0].source
    }

    /// N: the product of all sizes but the last; 1 for a vector.
    pub fn rows(&self) -> u64 {
        let outer = self.shape.split_last().map_or(&[][..], |(_, outer)| outer);
        // Saturating: with a size of 0 elsewhere, a file can claim any other sizes.
        outer.iter().fold(1, |rows: u64, size| rows.saturating_mul(*size))
    }

    /// K: the last size.
    pub fn columns(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Bytes in the file.
    pub fn stored_bytes(&self) -> u64 {
        let a_row: u64 = self.storage.parts().iter().map(|part| part.row_bytes).sum();
        a_row.saturating_mul(self.rows())
    }

    /// What the file calls the number format: `Q4_K`, `BF16`, `MLX 4-bit`, …
    pub fn stored_as(&self) -> String {
        match &self.storage {
            Storage::Floats(kind, _) => format!("{kind:?}").to_uppercase(),
            Storage::Blocks(kind, _) => kind.to_string(),
            Storage::Mlx { affine, .. } => format!("MLX {}-bit", affine.bits),
            Storage::Packed { .. } => self.layout.map_or("?".to_owned(), |l| l.to_string()),
            Storage::Other(found, _) => found.clone(),
        }
    }
}

/// Where the rows of a tensor are in one source: row i is at `offset + i · row_bytes`.
#[derive(Debug, Clone, Copy)]
struct Part {
    source: usize,
    offset: u64,
    row_bytes: u64,
}

/// How a tensor is stored.
#[derive(Debug, Clone)]
enum Storage {
    Floats(FloatType, Part),
    Blocks(TensorType, Part),
    Mlx {
        affine: Affine,
        /// Type of scales and biases.
        kind: FloatType,
        weight: Part,
        scales: Part,
        biases: Part,
    },
    /// The layout's own words.
    Packed {
        quants: Part,
        scales: Option<Part>,
    },
    /// A number type that Hearth does not read, by name.
    Other(String, Part),
}

impl Storage {
    fn parts(&self) -> Vec<Part> {
        match self {
            Self::Floats(_, part) | Self::Blocks(_, part) | Self::Other(_, part) => vec![*part],
            Self::Mlx { weight, scales, biases, .. } => vec![*weight, *scales, *biases],
            Self::Packed { quants, scales } => {
                [Some(*quants), *scales].into_iter().flatten().collect()
            }
        }
    }
}

impl Checkpoint {
    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.values()
    }

    /// The tensor with this uniform name, if the model has it.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The tensor with this uniform name.
    ///
    /// # Errors
    /// [`CheckpointError::Missing`].
    pub fn tensor(&self, name: &str) -> Result<&Tensor, CheckpointError> {
        self.get(name).ok_or_else(|| CheckpointError::Missing {
            model: self.name().to_owned(),
            tensor: name.to_owned(),
        })
    }

    /// The same files with one tensor only: what is needed to read its rows later, without the header and its
    /// vocabulary.
    ///
    /// # Errors
    /// [`CheckpointError::Missing`].
    pub fn only(&self, name: &str) -> Result<Self, CheckpointError> {
        let tensor = self.tensor(name)?.clone();
        Ok(Self {
            sources: self.sources.clone(),
            headers: vec![],
            format: self.format,
            tensors: BTreeMap::from([(name.to_owned(), tensor)]),
            gguf: None,
            config: None,
            norms_are_gains: self.norms_are_gains,
            notes: vec![],
        })
    }

    /// The header of a GGUF file: metadata and the vocabulary.
    pub fn gguf(&self) -> Option<&gguf::header::Header> {
        self.gguf.as_ref()
    }

    /// The text of `config.json`, for the other formats, if it was given or is in the file.
    pub fn config_json(&self) -> Option<&str> {
        self.config.as_deref()
    }

    /// What the user should know about how the files were read: what was skipped, and which of two readings was
    /// chosen.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Name of the first file.
    pub fn name(&self) -> &str {
        self.sources.first().map_or("model", |source| source.name())
    }

    /// The files that hold tensors.
    pub fn sources(&self) -> &[Rc<dyn ByteSource>] {
        &self.sources
    }

    /// A SHA-256 in hex that identifies a model, for snapshots and caches: over every header, the
    /// files' sizes, `config.json`, and 16 samples of 4 KiB from each file's data (a model and
    /// its instruction-tuned variant have equal headers). It does not prove that a file is whole.
    ///
    /// # Errors
    /// [`SourceError`] if a file cannot be read.
    pub async fn identity(&self) -> Result<String, SourceError> {
        let mut hash = Sha256::new();
        for &(source, header) in &self.headers {
            let source = &*self.sources[source];
            hash.update(source.len().to_le_bytes());
            let mut offset = 0;
            while offset < header {
                let piece = PIECE.min(header - offset);
                hash.update(read_vec(source, offset, piece).await?);
                offset += piece;
            }
            let data = source.len().saturating_sub(header);
            for sample in 0..16 {
                let start = header + data / 16 * sample;
                hash.update(read_vec(source, start, (source.len() - start).min(4096)).await?);
            }
        }
        hash.update(self.config.as_deref().unwrap_or_default());
        Ok(hex::encode(hash.finalize()))
    }
}
