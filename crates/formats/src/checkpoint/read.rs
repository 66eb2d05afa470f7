//! Reading rows, in pieces.

use std::ops::Range;

use super::{Checkpoint, CheckpointError, PIECE, Storage, Tensor};
use crate::gguf::blocks;
use crate::layout::{PackedRows, WeightLayout, push_bytes};
use crate::quantize::encode_row;
use crate::row::{RowFault, check_finite};

/// The bytes of some rows: one buffer for every part of the storage.
struct Piece {
    first_row: u64,
    rows: usize,
    parts: Vec<Vec<u8>>,
}

impl Piece {
    /// The bytes of row `i` of the piece, by part.
    fn row(&self, i: usize) -> Vec<&[u8]> {
        let cut =
            |bytes: &Vec<u8>| (bytes.len() / self.rows) * i..(bytes.len() / self.rows) * (i + 1);
        self.parts.iter().map(|bytes| &bytes[cut(bytes)]).collect()
    }
}

impl Checkpoint {
    /// How many rows of a tensor fit in `bytes` in a layout, at least 1: what to ask
    /// [`read_rows`](Self::read_rows) for.
    ///
    /// # Errors
    /// [`CheckpointError::Missing`].
    pub fn rows_within(
        &self,
        name: &str,
        layout: WeightLayout,
        bytes: u64,
    ) -> Result<u64, CheckpointError> {
        let tensor = self.tensor(name)?;
        let columns = usize::try_from(tensor.columns()).unwrap_or(usize::MAX / 8);
        Ok((bytes / (layout.row_bytes(columns) as u64).max(1)).clamp(1, tensor.rows().max(1)))
    }

    /// Rows of a matrix in a layout, ready for the GPU. In the tensor's own layout the values
    /// are those of the file; to f32 they are widened; to f16, q8 and q4 they are rounded
    /// ([`encode_row`]). Besides the result, about [`PIECE`] bytes of heap are used.
    ///
    /// # Errors
    /// [`CheckpointError`] names file, tensor and row: rows that do not exist, a layout that
    /// does not fit, weights or scales that are not finite, and failed reads.
    pub async fn read_rows(
        &self,
        name: &str,
        layout: WeightLayout,
        rows: Range<u64>,
    ) -> Result<PackedRows, CheckpointError> {
        let tensor = self.tensor(name)?;
        let at_layout = |source| CheckpointError::Layout {
            file: self.file_of(tensor),
            tensor: tensor.name.clone(),
            source,
        };
        let columns = self.check_rows(tensor, &rows)?;
        let mut packed = PackedRows::new(layout, columns).map_err(at_layout)?;
        let count = (rows.end - rows.start) as usize;
        self.reserve(tensor, &mut packed.quants, count, layout.quant_words(columns))?;
        self.reserve(tensor, &mut packed.scales, count, layout.scale_words(columns))?;

        let mut values = vec![0.0; if tensor.layout == Some(layout) { 0 } else { columns }];
        let mut next = rows.start;
        while let Some(piece) = self.read_piece(tensor, next, rows.end).await? {
            for i in 0..piece.rows {
                let done = if tensor.layout == Some(layout) {
                    pack(tensor, &piece.row(i), &mut packed)
                } else {
                    widen(tensor, &piece.row(i), &mut values)
                        .and_then(|()| encode_row(&values, &mut packed))
                };
                done.map_err(|fault| self.at_row(tensor, piece.first_row + i as u64, fault))?;
            }
            next += piece.rows as u64;
        }
        Ok(packed)
    }

    /// Rows of a tensor in f32, `[rows, K]`, for any K.
    ///
    /// # Errors
    /// As [`read_rows`](Self::read_rows).
    pub async fn read_rows_f32(
        &self,
        name: &str,
        rows: Range<u64>,
    ) -> Result<Vec<f32>, CheckpointError> {
        let tensor = self.tensor(name)?;
        let columns = self.check_rows(tensor, &rows)?;
        let mut values = Vec::new();
        let count = (rows.end - rows.start) as usize;
        self.reserve(tensor, &mut values, count, columns)?;
        values.resize(count * columns, 0.0);
        let mut next = rows.start;
        while let Some(piece) = self.read_piece(tensor, next, rows.end).await? {
            let first = (next - rows.start) as usize;
            for i in 0..piece.rows {
                let out = &mut values[(first + i) * columns..][..columns];
                widen(tensor, &piece.row(i), out)
                    .map_err(|fault| self.at_row(tensor, piece.first_row + i as u64, fault))?;
            }
            next += piece.rows as u64;
        }
        Ok(values)
    }

    /// Rows both in a layout that [`encode_row`] makes and in f32, read once.
    ///
    /// # Errors
    /// As [`read_rows`](Self::read_rows).
    pub(crate) async fn read_rows_both(
        &self,
        name: &str,
        layout: WeightLayout,
        rows: Range<u64>,
    ) -> Result<(PackedRows, Vec<f32>), CheckpointError> {
        let tensor = self.tensor(name)?;
        let values = self.read_rows_f32(name, rows.clone()).await?;
        let columns = tensor.columns() as usize;
        let at_layout = |source| CheckpointError::Layout {
            file: self.file_of(tensor),
            tensor: tensor.name.clone(),
            source,
        };
        let mut packed = PackedRows::new(layout, columns).map_err(at_layout)?;
        let count = (rows.end - rows.start) as usize;
        self.reserve(tensor, &mut packed.quants, count, layout.quant_words(columns))?;
        self.reserve(tensor, &mut packed.scales, count, layout.scale_words(columns))?;
        for (row, values) in rows.zip(values.chunks_exact(columns)) {
            let done = encode_row(values, &mut packed);
            done.map_err(|fault| self.at_row(tensor, row, fault))?;
        }
        Ok((packed, values))
    }

    /// A whole tensor in f32, for small ones: norms, biases.
    ///
    /// # Errors
    /// As [`read_rows`](Self::read_rows).
    pub async fn read_f32(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let rows = self.tensor(name)?.rows();
        self.read_rows_f32(name, 0..rows).await
    }

    /// The gain 1 + w of a norm. GGUF and Hearth's own files store it like this; elsewhere 1 is
    /// added in f32, as the reference does when it computes.
    ///
    /// # Errors
    /// As [`read_rows`](Self::read_rows).
    pub async fn read_norm_gain(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let mut gain = self.read_f32(name).await?;
        if !self.norms_are_gains {
            for value in &mut gain {
                *value += 1.0;
            }
        }
        Ok(gain)
    }

    /// Whether norms are stored as gains 1 + w: in GGUF and in Hearth's own files.
    pub fn stores_gains(&self) -> bool {
        self.norms_are_gains
    }

    /// Checks a range of rows and that the tensor is readable; returns K.
    fn check_rows(&self, tensor: &Tensor, rows: &Range<u64>) -> Result<usize, CheckpointError> {
        let file = self.file_of(tensor);
        if let Storage::Other(found, _) = &tensor.storage {
            return Err(CheckpointError::NotWeights {
                file,
                tensor: tensor.name.clone(),
                found: found.clone(),
            });
        }
        if rows.start > rows.end || rows.end > tensor.rows() {
            return Err(CheckpointError::Rows {
                file,
                tensor: tensor.name.clone(),
                begin: rows.start,
                end: rows.end,
                rows: tensor.rows(),
            });
        }
        // A row is the smallest piece, so it must not be large.
        if !(1..=PIECE).contains(&tensor.columns()) {
            return Err(CheckpointError::Shape {
                file,
                tensor: tensor.name.clone(),
                expected: format!("rows of 1 to {PIECE} columns were expected"),
                found: tensor.shape.clone(),
            });
        }
        Ok(tensor.columns() as usize)
    }

    fn reserve<T>(
        &self,
        tensor: &Tensor,
        out: &mut Vec<T>,
        rows: usize,
        a_row: usize,
    ) -> Result<(), CheckpointError> {
        let out_of_memory = |count: usize| CheckpointError::OutOfMemory {
            file: self.file_of(tensor),
            tensor: tensor.name.clone(),
            bytes: count as u64 * size_of::<T>() as u64,
        };
        let count = rows.checked_mul(a_row).ok_or_else(|| out_of_memory(usize::MAX))?;
        out.try_reserve_exact(count).map_err(|_| out_of_memory(count))
    }

    /// The next rows of a tensor, about [`PIECE`] bytes of them; `None` at `end`.
    async fn read_piece(
        &self,
        tensor: &Tensor,
        first_row: u64,
        end: u64,
    ) -> Result<Option<Piece>, CheckpointError> {
        if first_row >= end {
            return Ok(None);
        }
        let parts = tensor.storage.parts();
        let a_row: u64 = parts.iter().map(|part| part.row_bytes).sum();
        let rows = (PIECE / a_row.max(1)).clamp(1, end - first_row);
        let mut bytes = Vec::with_capacity(parts.len());
        for part in parts {
            let offset = part.offset + first_row * part.row_bytes;
            let source = &*self.sources[part.source];
            bytes.push(crate::source::read_vec(source, offset, rows * part.row_bytes).await?);
        }
        Ok(Some(Piece { first_row, rows: rows as usize, parts: bytes }))
    }

    fn file_of(&self, tensor: &Tensor) -> String {
        let part = tensor.storage.parts()[0];
        self.sources[part.source].name().to_owned()
    }

    /// The error for a row of a tensor.
    pub(crate) fn at_row(&self, tensor: &Tensor, row: u64, fault: RowFault) -> CheckpointError {
        CheckpointError::Row { file: self.file_of(tensor), tensor: tensor.name.clone(), row, fault }
    }
}

/// Appends a stored row to `packed`, which has the tensor's own layout.
fn pack(tensor: &Tensor, row: &[&[u8]], packed: &mut PackedRows) -> Result<(), RowFault> {
    match &tensor.storage {
        Storage::Floats(kind, _) => kind.pack_row(row[0], packed),
        Storage::Blocks(kind, _) => blocks::pack_row(*kind, row[0], packed),
        Storage::Mlx { affine, kind, .. } => affine.pack_row(*kind, row[0], row[1], row[2], packed),
        Storage::Packed { .. } => {
            let (quants, scales) = (packed.quants.len(), packed.scales.len());
            push_bytes(row[0], &mut packed.quants);
            push_bytes(row.get(1).copied().unwrap_or_default(), &mut packed.scales);
            packed.rows += 1;
            check_finite(packed.layout, &packed.quants[quants..], &packed.scales[scales..])
        }
        Storage::Other(..) => Ok(()),
    }
}

/// A stored row in f32; `out` is `[K]`.
fn widen(tensor: &Tensor, row: &[&[u8]], out: &mut [f32]) -> Result<(), RowFault> {
    if let Storage::Floats(kind, _) = &tensor.storage {
        // Not through a layout: a vector may have any length.
        kind.widen(row[0], out);
        return match out.iter().position(|value| !value.is_finite()) {
            Some(column) => Err(RowFault::Weight { column, value: out[column] }),
            None => Ok(()),
        };
    }
    let Some(layout) = tensor.layout else {
        return Ok(());
    };
    let mut packed = PackedRows {
        layout,
        columns: out.len(),
        rows: 0,
        quants: Vec::with_capacity(layout.quant_words(out.len())),
        scales: Vec::with_capacity(layout.scale_words(out.len())),
    };
    pack(tensor, row, &mut packed)?;
    packed.decode_row(0, out);
    Ok(())
}
