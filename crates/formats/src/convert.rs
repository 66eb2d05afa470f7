//! A whole model as one of Hearth's own files: every row is read once, quantized, and handed to a sink. Neither the
//! files nor the result are ever held in memory, and nothing here depends on a file system: a page writes into the
//! browser's private one.

use std::future::Future;
use std::pin::Pin;

use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError, PIECE, Tensor};
use crate::hearth::{HearthFileError, NewTensor, Origin, plan};
use crate::layout::{PackedRows, WeightLayout};
use crate::names::is_not_text;
use crate::safetensors::PlannedFile;

/// What [`ByteSink::write_at`] returns; the error is a message that names the location.
pub type WriteFuture<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

/// Where bytes go: a file, memory, or what a browser offers.
pub trait ByteSink {
    /// Writes bytes at an offset. Every byte of a file is written once, but not in the order of the file: pieces of a
    /// matrix's two parts alternate.
    fn write_at<'a>(&'a mut self, offset: u64, bytes: &'a [u8]) -> WriteFuture<'a>;
}

/// Why a model could not be converted.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// The source.
    #[error(transparent)]
    Source(#[from] CheckpointError),
    /// The result's header.
    #[error(transparent)]
    Plan(#[from] HearthFileError),
    /// The sink, in its own words.
    #[error("{0}")]
    Sink(String),
    /// No tensor has this part in its name.
    #[error("{0}: no tensor has that in its name; give a part of one")]
    Unknown(String),
    /// A tensor that the copy would not contain.
    #[error(
        "{file}: tensor '{tensor}' ({found}) would be left out of the copy: it is of a type or a kind that Hearth does \
         not read; take a plain Gemma text model, as a GGUF in Q4_K_M or Q8_0 or unquantized in safetensors"
    )]
    LeftOut {
        /// The model's first file.
        file: String,
        /// Its name.
        tensor: String,
        /// What it is stored as.
        found: String,
    },
    /// `progress` asked to stop.
    #[error("stopped")]
    Stopped,
}

/// The error of a matrix after quantizing, against the numbers of the source.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorError {
    /// Uniform name.
    pub name: String,
    /// The layout that it is stored in.
    pub layout: WeightLayout,
    /// Root mean square of the differences.
    pub rms: f64,
    /// Relative to the root mean square of the weights.
    pub relative: f64,
    /// The largest difference.
    pub max: f64,
}

/// Rows of a matrix that are sampled to measure its loss: the relative error of a mean over this many is a percent or
/// two.
const SAMPLE: u64 = 256;

/// The matrices that lose more than `limit` in a layout, as ‖a − b‖₂ / ‖b‖₂ of rows evenly spread over each:
/// what [`Conversion::plan`] can be told to keep in 8 bits.
///
/// # Errors
/// Unreadable files, weights that are not finite.
pub async fn losing(
    checkpoint: &Checkpoint,
    layout: WeightLayout,
    limit: f64,
) -> Result<Vec<String>, ConvertError> {
    let mut all = vec![];
    let fits = |t: &&Tensor| is_kept(t) && t.shape.len() > 1 && layout.check(t.columns()).is_ok();
    for tensor in checkpoint.tensors().filter(fits) {
        let (mut square, mut norm) = (0.0, 0.0);
        for row in (0..tensor.rows()).step_by(tensor.rows().div_ceil(SAMPLE).max(1) as usize) {
            let (packed, source) =
                rows_and_source(checkpoint, &tensor.name, layout, row..row + 1).await?;
            for (got, want) in packed.decode().iter().zip(&source) {
                square += (f64::from(*got) - f64::from(*want)).powi(2);
                norm += f64::from(*want).powi(2);
            }
        }
        if square > limit * limit * norm {
            all.push(tensor.name.clone());
        }
    }
    Ok(all)
}

/// Whether a Gemma text model has such a tensor.
pub(crate) fn is_kept(tensor: &Tensor) -> bool {
    let known = ["model.layers.", "model.embed_tokens.", "model.norm.", "lm_head."];
    let known = known.iter().any(|start| tensor.name.starts_with(start));
    known && tensor.layout.is_some() && !tensor.name.ends_with("inv_freq")
}

/// Whether a text model gives the same answers without a tensor: parts for vision or audio, and RoPE's frequencies,
/// which older programs saved.
pub(crate) fn may_be_left_out(name: &str) -> bool {
    let buffers = ["rotary_emb.inv_freq", "rope_freqs.weight"];
    is_not_text(name) || buffers.iter().any(|buffer| name.ends_with(buffer))
}

/// Rows in a layout and in f32, read once.
async fn rows_and_source(
    checkpoint: &Checkpoint,
    name: &str,
    layout: WeightLayout,
    rows: std::ops::Range<u64>,
) -> Result<(PackedRows, Vec<f32>), ConvertError> {
    if checkpoint.tensor(name)?.layout == Some(layout) {
        // The file's own codes: exact.
        let packed = checkpoint.read_rows(name, layout, rows).await?;
        let source = packed.decode();
        return Ok((packed, source));
    }
    Ok(checkpoint.read_rows_both(name, layout, rows).await?)
}

/// A planned conversion: what is written where.
pub struct Conversion<'a> {
    checkpoint: &'a Checkpoint,
    tensors: Vec<NewTensor>,
    planned: PlannedFile,
    /// Tensors that no Gemma text model has: left out.
    pub left_out: Vec<String>,
}

impl<'a> Conversion<'a> {
    /// Plans to store matrices in `layout`, and in 8 bits where a part of `keep_q8` is in their name.
    /// A matrix whose width does not fit groups of 32 becomes f32: only toy models have one.
    ///
    /// # Errors
    /// A part that no name contains; a weight that would be left out; sizes that do not fit a file.
    pub fn plan(
        checkpoint: &'a Checkpoint,
        layout: WeightLayout,
        keep_q8: &[String],
        origin: &Origin,
        file: &str,
    ) -> Result<Self, ConvertError> {
        let unknown =
            |part: &&String| !checkpoint.tensors().any(|t| t.name.contains(part.as_str()));
        if let Some(part) = keep_q8.iter().find(unknown) {
            return Err(ConvertError::Unknown(part.clone()));
        }
        let (mut tensors, mut left_out) = (vec![], vec![]);
        for tensor in checkpoint.tensors() {
            let name = tensor.name.clone();
            if !is_kept(tensor) {
                if !may_be_left_out(&name) {
                    return Err(ConvertError::LeftOut {
                        file: checkpoint.name().to_owned(),
                        tensor: name,
                        found: tensor.stored_as(),
                    });
                }
                left_out.push(name);
            } else if tensor.shape.len() == 1 {
                tensors.push(NewTensor::Vector { name, len: tensor.columns() });
            } else {
                let keep = keep_q8.iter().any(|part| name.contains(part.as_str()));
                let wanted = if keep { WeightLayout::Q8 } else { layout };
                let fits = wanted.check(tensor.columns()).is_ok();
                let layout = if fits { wanted } else { WeightLayout::F32 };
                let (rows, columns) = (tensor.rows(), tensor.columns());
                tensors.push(NewTensor::Matrix { name, rows, columns, layout });
            }
        }
        let planned = plan(file, origin, &tensors)?;
        Ok(Self { checkpoint, tensors, planned, left_out })
    }

    /// Bytes of the result.
    pub fn bytes(&self) -> u64 {
        let end = self.planned.tensors.last().map(|t| t.offset + t.bytes);
        end.unwrap_or(self.planned.bytes.len() as u64)
    }

    /// Bytes that will be read.
    pub fn source_bytes(&self) -> u64 {
        self.names().filter_map(|n| self.checkpoint.get(n)).map(|t| t.stored_bytes()).sum()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|tensor| match tensor {
            NewTensor::Vector { name, .. } | NewTensor::Matrix { name, .. } => name.as_str(),
        })
    }

    /// Reads, quantizes and writes everything. `progress` gets the bytes read and stops the conversion by returning
    /// `false`.
    ///
    /// # Errors
    /// Unreadable files, weights that are not finite, a sink that fails, a stop. What is in the sink then is not a
    /// model.
    pub async fn run(
        &self,
        sink: &mut dyn ByteSink,
        mut progress: impl FnMut(u64) -> bool,
    ) -> Result<Vec<TensorError>, ConvertError> {
        sink.write_at(0, &self.planned.bytes).await.map_err(ConvertError::Sink)?;
        let (mut done, mut errors) = (0, vec![]);
        for tensor in &self.tensors {
            let name = match tensor {
                NewTensor::Vector { name, .. } => {
                    let gain = self.checkpoint.read_norm_gain(name).await?;
                    let words: Vec<u32> = gain.iter().map(|value| value.to_bits()).collect();
                    put(sink, self.offset(name), &words).await?;
                    name
                }
                NewTensor::Matrix { name, layout, .. } => {
                    let told = |read| progress(done + read);
                    errors.push(self.matrix(name, *layout, sink, told).await?);
                    name
                }
            };
            done += self.checkpoint.tensor(name)?.stored_bytes();
            if !progress(done) {
                return Err(ConvertError::Stopped);
            }
        }
        Ok(errors)
    }

    /// Offset of a tensor that the plan has.
    fn offset(&self, name: &str) -> u64 {
        self.planned.tensors.iter().find(|t| t.name == name).map_or(0, |t| t.offset)
    }

    async fn matrix(
        &self,
        name: &str,
        layout: WeightLayout,
        sink: &mut dyn ByteSink,
        mut progress: impl FnMut(u64) -> bool,
    ) -> Result<TensorError, ConvertError> {
        let tensor = self.checkpoint.tensor(name)?;
        let (rows, columns) = (tensor.rows(), tensor.columns() as usize);
        let places = ["quants", "scales"].map(|part| self.offset(&format!("{name}.{part}")));
        let step = self.checkpoint.rows_within(name, WeightLayout::F32, PIECE)?;
        let (mut square, mut norm, mut max) = (0.0, 0.0, 0f64);
        let mut row = 0;
        while row < rows {
            let end = (row + step).min(rows);
            let (packed, source) = rows_and_source(self.checkpoint, name, layout, row..end).await?;
            let words = [layout.quant_words(columns), layout.scale_words(columns)];
            for ((place, words), data) in
                places.iter().zip(words).zip([&packed.quants, &packed.scales])
            {
                put(sink, place + row * 4 * words as u64, data).await?;
            }
            for (got, want) in packed.decode().iter().zip(&source) {
                let (off, want) = (f64::from(*got) - f64::from(*want), f64::from(*want));
                square += off * off;
                norm += want * want;
                max = max.max(off.abs());
            }
            row = end;
            if !progress(tensor.stored_bytes() / rows * row) {
                return Err(ConvertError::Stopped);
            }
        }
        let count = (rows * columns as u64) as f64;
        Ok(TensorError {
            name: name.to_owned(),
            layout,
            rms: (square / count).sqrt(),
            relative: if norm > 0.0 { (square / norm).sqrt() } else { 0.0 },
            max,
        })
    }
}

async fn put(sink: &mut dyn ByteSink, offset: u64, words: &[u32]) -> Result<(), ConvertError> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    if bytes.is_empty() {
        return Ok(());
    }
    sink.write_at(offset, &bytes).await.map_err(ConvertError::Sink)
}

/// Bytes in memory: for tests and small models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemorySink(pub Vec<u8>);

impl ByteSink for MemorySink {
    fn write_at<'a>(&'a mut self, offset: u64, bytes: &'a [u8]) -> WriteFuture<'a> {
        Box::pin(async move {
            let start = usize::try_from(offset).map_err(|error| error.to_string())?;
            if self.0.len() < start + bytes.len() {
                self.0.resize(start + bytes.len(), 0);
            }
            self.0[start..start + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
