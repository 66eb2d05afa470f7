//! A model with an adapter added to its weights, for programs that read no adapters: W + s·B·A, in plain safetensors or
//! GGUF.
//!
//! Every row is read once, widened to f32, gets its part of the adapter, is rounded to the type that was asked for, and
//! goes to a sink. Neither the model nor the result is ever held in memory. The rounding error of every matrix is
//! measured on the way, against the exact sum.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError, PIECE, Tensor};
use crate::convert::{ByteSink, is_kept, may_be_left_out};
use crate::gguf::blocks::{layout_of, pack_row};
use crate::gguf::encode::encode_row;
use crate::gguf::header::TensorType;
use crate::gguf::write::{self, Metadata};
use crate::layout::{PackedRows, WeightLayout};
use crate::names::to_gguf;
use crate::peft::{Adapter, LoraPair};
use crate::safetensors::{Dtype, SafetensorsError, plan_file};

/// Why a model could not be merged.
#[allow(missing_docs)] // The messages say it.
#[derive(Debug, Error)]
pub enum MergeError {
    #[error(transparent)]
    Source(#[from] CheckpointError),
    #[error(transparent)]
    Header(#[from] SafetensorsError),
    #[error("{0}")]
    Sink(String),
    #[error(
        "safetensors hold no {0} that other programs read; choose f16 or f32, or write a GGUF file"
    )]
    Type(TensorType),
    #[error(
        "{file}: tensor '{tensor}' ({found}) would be left out of the merged model: it is of a type or a kind that \
         Hearth does not read; take a plain Gemma text model"
    )]
    LeftOut { file: String, tensor: String, found: String },
    #[error(
        "the adapter changes '{module}', which the model in {file} does not have; give the adapter's own base model"
    )]
    NoMatrix { file: String, module: String },
    #[error(
        "the adapter's '{module}' is for a matrix of [{}, {}], but the model in {file} has {found:?}; give the adapter's \
         own base model",
        expected[0],
        expected[1]
    )]
    Shape { file: String, module: String, expected: [usize; 2], found: Vec<u64> },
    #[error("the merged model has sizes that no {0} file can hold; take a smaller model")]
    TooLarge(&'static str),
    #[error("stopped")]
    Stopped,
}

/// The form of the file.
#[derive(Debug, Clone)]
pub enum Form<'a> {
    /// Safetensors under Hugging Face's names of a text model; norms are stored as w.
    Safetensors,
    /// GGUF with this metadata, which name the architecture; norms are stored as 1 + w.
    Gguf {
        /// `gemma`, `gemma2` or `gemma3`: it decides the tensors' names.
        architecture: &'a str,
        /// Everything in front of the tensors.
        metadata: &'a Metadata,
    },
}

/// A matrix in the merged file.
#[derive(Debug, Clone, PartialEq)]
pub struct MergedTensor {
    /// Uniform name.
    pub name: String,
    /// How it is stored.
    pub kind: TensorType,
    /// Root mean square of what the adapter added; 0 where it changes nothing.
    pub change: f64,
    /// Root mean square of the rounding error.
    pub rms: f64,
    /// The same, relative to the root mean square of the exact weights.
    pub relative: f64,
    /// The largest rounding error.
    pub max: f64,
}

struct Planned {
    name: String,
    kind: TensorType,
    offset: u64,
    bytes: u64,
}

/// A planned merge: what is written where.
pub struct Merge<'a> {
    checkpoint: &'a Checkpoint,
    adapter: &'a Adapter,
    tensors: Vec<Planned>,
    header: Vec<u8>,
    alignment: u64,
    gains: bool,
    /// Tensors that no Gemma text model has: left out.
    pub left_out: Vec<String>,
}

impl<'a> Merge<'a> {
    /// Plans to store matrices as `kind`, and vectors as F32. With Q4_0 the vocabulary's tables are Q8_0, as they are
    /// the input and the output of everything; a matrix whose width does not fit blocks of 32 is F16. `file` names the
    /// result in errors.
    ///
    /// # Errors
    /// A type that the form does not hold, a weight that would be left out, an adapter of another model.
    pub fn plan(
        checkpoint: &'a Checkpoint,
        adapter: &'a Adapter,
        kind: TensorType,
        form: &Form<'_>,
        file: &str,
    ) -> Result<Self, MergeError> {
        check(checkpoint, adapter)?;
        let (mut kept, mut left_out) = (Vec::new(), Vec::new());
        for tensor in checkpoint.tensors() {
            if is_kept(tensor) {
                kept.push((tensor.name.clone(), kind_of(tensor, kind), tensor.shape.clone()));
            } else if may_be_left_out(&tensor.name) {
                left_out.push(tensor.name.clone());
            } else {
                return Err(MergeError::LeftOut {
                    file: checkpoint.name().to_owned(),
                    tensor: tensor.name.clone(),
                    found: tensor.stored_as(),
                });
            }
        }
        let (tensors, header, alignment, gains) = match form {
            Form::Safetensors => {
                let (tensors, header) = plan_safetensors(kept, kind, file)?;
                (tensors, header, 1, false)
            }
            Form::Gguf { architecture, metadata } => {
                let (tensors, header) = plan_gguf(kept, architecture, metadata)?;
                (tensors, header, write::ALIGNMENT, true)
            }
        };
        Ok(Self { checkpoint, adapter, tensors, header, alignment, gains, left_out })
    }

    /// Bytes of the result.
    pub fn bytes(&self) -> u64 {
        let end = self.tensors.iter().map(|t| t.offset + t.bytes).max();
        end.unwrap_or(self.header.len() as u64).next_multiple_of(self.alignment)
    }

    /// Bytes that will be read.
    pub fn source_bytes(&self) -> u64 {
        let tensors = self.tensors.iter().filter_map(|t| self.checkpoint.get(&t.name));
        tensors.map(Tensor::stored_bytes).sum()
    }

    /// Reads, merges and writes everything. `progress` gets the bytes read and stops the merge by returning `false`.
    ///
    /// # Errors
    /// Unreadable files, weights that are not finite or that the type cannot hold, a sink that fails, a stop. What is in
    /// the sink then is not a model.
    pub async fn run(
        &self,
        sink: &mut dyn ByteSink,
        mut progress: impl FnMut(u64) -> bool,
    ) -> Result<Vec<MergedTensor>, MergeError> {
        sink.write_at(0, &self.header).await.map_err(MergeError::Sink)?;
        let (mut done, mut all) = (0, Vec::new());
        for planned in &self.tensors {
            let tensor = self.checkpoint.tensor(&planned.name)?;
            if tensor.shape.len() == 1 {
                let values = self.norm(&planned.name).await?;
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                sink.write_at(planned.offset, &bytes).await.map_err(MergeError::Sink)?;
            } else {
                let told = |read| progress(done + read);
                all.push(self.matrix(planned, tensor, sink, told).await?);
            }
            let end = planned.offset + planned.bytes;
            let padding = vec![0; (end.next_multiple_of(self.alignment) - end) as usize];
            if !padding.is_empty() {
                sink.write_at(end, &padding).await.map_err(MergeError::Sink)?;
            }
            done += tensor.stored_bytes();
            if !progress(done) {
                return Err(MergeError::Stopped);
            }
        }
        Ok(all)
    }

    /// A norm in the form of the file. From gains, w is exact unless a gain is below one half.
    async fn norm(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        if self.gains {
            return self.checkpoint.read_norm_gain(name).await;
        }
        let mut values = self.checkpoint.read_f32(name).await?;
        if self.checkpoint.stores_gains() {
            values.iter_mut().for_each(|value| *value -= 1.0);
        }
        Ok(values)
    }

    async fn matrix(
        &self,
        planned: &Planned,
        tensor: &Tensor,
        sink: &mut dyn ByteSink,
        mut progress: impl FnMut(u64) -> bool,
    ) -> Result<MergedTensor, MergeError> {
        let Planned { name, kind, offset, .. } = planned;
        let (rows, columns) = (tensor.rows(), tensor.columns() as usize);
        let pair = self.adapter.tensors.get(name.trim_end_matches(".weight"));
        let a_row = columns as u64 / kind.block_weights() * kind.block_bytes();
        let step = self.checkpoint.rows_within(name, WeightLayout::F32, PIECE)?;
        let mut sums = Sums::default();
        let (mut delta, mut first) = (vec![0.0; columns], 0);
        while first < rows {
            let end = (first + step).min(rows);
            let mut values = self.checkpoint.read_rows_f32(name, first..end).await?;
            let mut bytes = Vec::with_capacity(((end - first) * a_row) as usize);
            for (row, values) in (first..end).zip(values.chunks_exact_mut(columns)) {
                if let Some(pair) = pair {
                    self.delta(pair, row as usize, &mut delta);
                    values.iter_mut().zip(&delta).for_each(|(value, delta)| *value += delta);
                    sums.change += square_sum(&delta);
                }
                let start = bytes.len();
                let encoded = encode_row(*kind, values, &mut bytes)
                    .and_then(|()| decode(*kind, &bytes[start..], columns));
                let stored = encoded.map_err(|fault| self.checkpoint.at_row(tensor, row, fault))?;
                sums.add(&stored, values);
            }
            let place = offset + first * a_row;
            sink.write_at(place, &bytes).await.map_err(MergeError::Sink)?;
            first = end;
            if !progress(tensor.stored_bytes() / rows * first) {
                return Err(MergeError::Stopped);
            }
        }
        let count = rows as f64 * columns as f64;
        Ok(MergedTensor {
            name: name.clone(),
            kind: *kind,
            change: (sums.change / count).sqrt(),
            rms: (sums.error / count).sqrt(),
            relative: if sums.norm > 0.0 { (sums.error / sums.norm).sqrt() } else { 0.0 },
            max: sums.max,
        })
    }

    /// Row `row` of s·B·A, `[in]`.
    fn delta(&self, pair: &LoraPair, row: usize, out: &mut [f32]) {
        let (rank, scale) = (self.adapter.rank, self.adapter.scaling());
        out.fill(0.0);
        for (b, a) in pair.b[row * rank..][..rank].iter().zip(pair.a.chunks_exact(pair.inputs)) {
            out.iter_mut().zip(a).for_each(|(out, a)| *out += b * a);
        }
        out.iter_mut().for_each(|out| *out *= scale);
    }
}

/// Sums over a matrix.
#[derive(Default)]
struct Sums {
    change: f64,
    error: f64,
    norm: f64,
    max: f64,
}

impl Sums {
    fn add(&mut self, stored: &[f32], exact: &[f32]) {
        for (stored, exact) in stored.iter().zip(exact) {
            let off = f64::from(*stored) - f64::from(*exact);
            self.error += off * off;
            self.norm += f64::from(*exact).powi(2);
            self.max = self.max.max(off.abs());
        }
    }
}

fn square_sum(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum()
}

/// What readers make of a row's blocks.
fn decode(
    kind: TensorType,
    bytes: &[u8],
    columns: usize,
) -> Result<Vec<f32>, crate::row::RowFault> {
    let mut values = vec![0.0; columns];
    let mut packed = PackedRows {
        layout: layout_of(kind).unwrap_or(WeightLayout::F32),
        columns,
        rows: 0,
        quants: Vec::new(),
        scales: Vec::new(),
    };
    if kind == TensorType::F16 && columns % 2 == 1 {
        // no layout holds an odd number of f16
        crate::row::FloatType::F16.widen(bytes, &mut values);
        return Ok(values);
    }
    pack_row(kind, bytes, &mut packed)?;
    packed.decode_row(0, &mut values);
    Ok(values)
}

/// How a tensor is stored where `kind` was asked for.
fn kind_of(tensor: &Tensor, kind: TensorType) -> TensorType {
    let table = ["model.embed_tokens.weight", "lm_head.weight"].contains(&tensor.name.as_str());
    match (tensor.shape.len(), kind) {
        (1, _) => TensorType::F32,
        (_, TensorType::F32 | TensorType::F16) => kind,
        _ if !tensor.columns().is_multiple_of(kind.block_weights()) => TensorType::F16,
        (_, TensorType::Q4_0) if table => TensorType::Q8_0,
        _ => kind,
    }
}

/// Checks that the adapter fits the model.
fn check(checkpoint: &Checkpoint, adapter: &Adapter) -> Result<(), MergeError> {
    let file = || checkpoint.name().to_owned();
    for (module, pair) in &adapter.tensors {
        let Some(tensor) = checkpoint.get(&format!("{module}.weight")) else {
            return Err(MergeError::NoMatrix { file: file(), module: module.clone() });
        };
        if tensor.shape != [pair.outputs as u64, pair.inputs as u64] {
            return Err(MergeError::Shape {
                file: file(),
                module: module.clone(),
                expected: [pair.outputs, pair.inputs],
                found: tensor.shape.clone(),
            });
        }
    }
    Ok(())
}

type Kept = Vec<(String, TensorType, Vec<u64>)>;

fn plan_safetensors(
    kept: Kept,
    kind: TensorType,
    file: &str,
) -> Result<(Vec<Planned>, Vec<u8>), MergeError> {
    let dtype = |kind| match kind {
        TensorType::F32 => Ok(Dtype::F32),
        TensorType::F16 => Ok(Dtype::F16),
        other => Err(MergeError::Type(other)),
    };
    dtype(kind)?;
    let kinds: BTreeMap<String, TensorType> =
        kept.iter().map(|(name, kind, _)| (name.clone(), *kind)).collect();
    let entries = kept.into_iter().map(|(name, kind, shape)| Ok((name, dtype(kind)?, shape)));
    let entries = entries.collect::<Result<Vec<_>, MergeError>>()?;
    // transformers asks for this entry
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let planned = plan_file(file, &metadata, entries)?;
    let tensors = planned.tensors.into_iter().map(|t| Planned {
        kind: kinds.get(&t.name).copied().unwrap_or(TensorType::F32),
        name: t.name,
        offset: t.offset,
        bytes: t.bytes,
    });
    Ok((tensors.collect(), planned.bytes))
}

fn plan_gguf(
    kept: Kept,
    architecture: &str,
    metadata: &Metadata,
) -> Result<(Vec<Planned>, Vec<u8>), MergeError> {
    let named = |(name, kind, shape): (String, TensorType, Vec<u64>)| {
        Some((to_gguf(&name, architecture)?, kind, shape))
    };
    let names: Vec<String> = kept.iter().map(|(name, ..)| name.clone()).collect();
    let entries: Option<Vec<_>> = kept.into_iter().map(named).collect();
    let planned = entries.and_then(|entries| write::plan_file(metadata, entries));
    let planned = planned.ok_or(MergeError::TooLarge("GGUF"))?;
    let tensors = names.into_iter().zip(planned.tensors).map(|(name, t)| Planned {
        name,
        kind: t.kind,
        offset: t.offset,
        bytes: t.bytes,
    });
    Ok((tensors.collect(), planned.bytes))
}

#[cfg(test)]
mod tests;
