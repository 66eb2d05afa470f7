//! Streams tensors from a checkpoint onto the device, in the requested layout.

use hearth_formats::{checkpoint::Checkpoint, layout::WeightLayout};
use hearth_gpu::{Gpu, Slice};
use hearth_kernels::matrix::Matrix;

use crate::ModelError;

/// Bytes of packed rows that are on the host at once.
const PIECE: u64 = 4 << 20;
/// Bytes uploaded to the device between two waits: the most that the driver's staging memory holds.
const IN_FLIGHT: u64 = 64 << 20;

/// Progress of loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of the file's tensors that are on the device.
    pub done: u64,
    /// Total bytes that will be read.
    pub total: u64,
}

/// The layout in which matrices are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// The layout that holds the file's numbers without loss; bf16 becomes f32.
    #[default]
    Exact,
    /// 32-bit floats are rounded to 16 bits while they stream in; smaller types stay as they are.
    F16,
    /// Floats are quantized to 8 bits while they stream in; quantized files stay as they are.
    Q8,
    /// Floats are quantized to 4 bits while they stream in; quantized files stay as they are.
    Q4,
}

/// How a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// The layout in which matrices are held.
    pub precision: Precision,
    /// Where the tables of the vocabulary are kept.
    pub embedding: Embedding,
}

impl From<Precision> for LoadOptions {
    fn from(precision: Precision) -> Self {
        Self { precision, ..Self::default() }
    }
}

/// Where the tables of the vocabulary are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Embedding {
    /// On the device, split over bindings: works for everything, and is the only choice for
    /// generation and for losses over the whole vocabulary.
    #[default]
    OnDevice,
    /// In the model's file: for scoring among classes and the `choice` loss, which need only the
    /// rows of a batch's tokens and of the classes.
    FromSource,
}

/// Streams tensors onto the device, counting bytes.
pub(crate) struct Loader<'a, F> {
    gpu: &'a Gpu,
    checkpoint: &'a Checkpoint,
    options: LoadOptions,
    progress: F,
    state: LoadProgress,
    unflushed: u64,
}

/// The embedding table.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
/// The output head, if it is not tied.
pub(crate) const HEAD: &str = "lm_head.weight";

/// Whether a tensor is read row by row later.
pub(crate) fn stays_in_file(name: &str, options: LoadOptions) -> bool {
    options.embedding == Embedding::FromSource && (name == EMBEDDING || name == HEAD)
}

/// The layout in which a matrix of the file is held.
///
/// # Errors
/// If the tensor is missing or is not a weight matrix.
pub fn layout_of(
    checkpoint: &Checkpoint,
    name: &str,
    precision: Precision,
) -> Result<WeightLayout, ModelError> {
    let tensor = checkpoint.tensor(name)?;
    let stored = tensor.layout.unwrap_or(WeightLayout::F32);
    let wanted = match (stored, precision) {
        (WeightLayout::F32, Precision::F16) => WeightLayout::F16,
        (WeightLayout::F32 | WeightLayout::F16, Precision::Q8) => WeightLayout::Q8,
        (WeightLayout::F32 | WeightLayout::F16, Precision::Q4) => WeightLayout::Q4,
        _ => stored,
    };
    // A matrix whose width does not fit groups of 32 stays as it is: only toy models have such
    // widths.
    Ok(if wanted.check(tensor.columns()).is_ok() { wanted } else { stored })
}

impl<'a, F: FnMut(LoadProgress) -> bool> Loader<'a, F> {
    /// Prepares to load the tensors of a checkpoint for whose names `read` is true.
    pub fn new(
        gpu: &'a Gpu,
        checkpoint: &'a Checkpoint,
        options: LoadOptions,
        progress: F,
        read: impl Fn(&str) -> bool,
    ) -> Self {
        let read = checkpoint.tensors().filter(|t| read(&t.name));
        let state = LoadProgress { done: 0, total: read.map(|t| t.stored_bytes()).sum() };
        Self { gpu, checkpoint, options, progress, state, unflushed: 0 }
    }

    /// The checkpoint and how it is loaded.
    pub(crate) fn source(&self) -> (&'a Checkpoint, LoadOptions) {
        (self.checkpoint, self.options)
    }

    /// Streams a matrix onto the device.
    pub async fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Matrix, ModelError> {
        self.stacked(&[(name, rows)], columns).await
    }

    /// Streams matrices of one input onto the device, one below the other: the name and the rows of each.
    pub async fn stacked(
        &mut self,
        parts: &[(&str, usize)],
        columns: usize,
    ) -> Result<Matrix, ModelError> {
        let mut layouts = Vec::new();
        for &(name, rows) in parts {
            self.check_shape(name, rows, columns)?;
            layouts.push((rows as u32, layout_of(self.checkpoint, name, self.options.precision)?));
        }
        let label = parts.first().map_or("", |part| part.0);
        let matrix = Matrix::stacked(self.gpu, label, &layouts, columns as u32)?;
        if self.gpu.is_outline() {
            return Ok(matrix);
        }
        let mut first = 0;
        for (&(name, rows), &(_, layout)) in parts.iter().zip(&layouts) {
            self.rows(name, rows, columns, layout, &matrix, first).await?;
            first += rows as u32;
        }
        Ok(matrix)
    }

    /// Streams a tensor into the rows of a matrix from `first` on.
    async fn rows(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
        layout: WeightLayout,
        matrix: &Matrix,
        first: u32,
    ) -> Result<(), ModelError> {
        let step = self.checkpoint.rows_within(name, layout, PIECE)?;
        let row_bytes = layout.row_bytes(columns) as u64;
        let stored = self.checkpoint.tensor(name)?.stored_bytes() / rows as u64;
        let mut row = 0;
        while row < rows as u64 {
            let end = (row + step).min(rows as u64);
            let packed = self.checkpoint.read_rows(name, layout, row..end).await?;
            matrix.write_rows(self.gpu, first + row as u32, &packed);
            self.uploaded((end - row) * row_bytes, (end - row) * stored).await?;
            row = end;
        }
        Ok(())
    }

    /// Loads a norm's gains.
    pub async fn norm(&mut self, name: &str, width: usize) -> Result<Slice, ModelError> {
        self.check_shape(name, 1, width)?;
        let gain = self.checkpoint.read_norm_gain(name).await?;
        let stored = self.checkpoint.tensor(name)?.stored_bytes();
        self.uploaded(4 * width as u64, stored).await?;
        Ok(self.gpu.buffer_from(name, &gain)?.all())
    }

    pub(crate) fn check_shape(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<(), ModelError> {
        let tensor = self.checkpoint.tensor(name)?;
        let expected = [rows as u64, columns as u64];
        if [tensor.rows(), tensor.columns()] == expected {
            return Ok(());
        }
        Err(ModelError::Shape {
            file: self.checkpoint.name().to_owned(),
            tensor: name.to_owned(),
            expected,
            found: tensor.shape.clone(),
        })
    }

    /// Reports the progress and lets the device catch up: a queue that only grows would hold the
    /// whole model in staging memory.
    async fn uploaded(&mut self, bytes: u64, stored: u64) -> Result<(), ModelError> {
        self.state.done += stored;
        self.unflushed += bytes;
        if self.unflushed >= IN_FLIGHT {
            self.unflushed = 0;
            self.gpu.flush().await?;
        }
        if (self.progress)(self.state) { Ok(()) } else { Err(ModelError::Stopped) }
    }
}
