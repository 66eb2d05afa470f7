//! A weight matrix `W [N, K]` on the device, split by rows into bindings that fit its limits.

use std::ops::Range;

use hearth_formats::layout::{PackedRows, ScaleForm, WeightLayout};
use hearth_gpu::{Constant, Gpu, GpuError, Slice};

/// Slabs start at multiples of this many rows, so that kernels may take rows four at a time.
const ROW_STEP: u64 = 8;

/// Rows `first_row .. first_row + rows` of a matrix.
#[derive(Debug, Clone)]
pub struct Slab {
    /// First row of the matrix in this slab, a multiple of 8.
    pub first_row: u32,
    /// Number of rows.
    pub rows: u32,
    /// How to read the words.
    pub layout: WeightLayout,
    /// The layout's `quants`, `(rows, words per row)`.
    pub quants: Slice,
    /// The layout's `scales`, `(rows, words per row)`; a dummy word if the layout has none.
    pub scales: Slice,
}

/// Frozen weights. Those of one tensor have one layout; several tensors of one input may be stacked, each in its own.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// N: outputs.
    pub rows: u32,
    /// K: inputs, a multiple of 4.
    pub columns: u32,
    /// The parts, split by rows, in order, without gaps.
    pub slabs: Vec<Slab>,
}

impl Matrix {
    /// Allocates space for a matrix; [`Matrix::write_rows`] fills it.
    ///
    /// # Errors
    /// If a single row exceeds a binding, or memory is short.
    pub fn new(
        gpu: &Gpu,
        label: &str,
        rows: u32,
        columns: u32,
        layout: WeightLayout,
    ) -> Result<Self, GpuError> {
        Self::stacked(gpu, label, &[(rows, layout)], columns)
    }

    /// Allocates space for tensors of one input, one below the other: rows and layout of each. Those that follow each
    /// other in one layout share a slab if a binding holds them; otherwise slabs begin where tensors do.
    ///
    /// # Errors
    /// As [`Matrix::new`].
    pub fn stacked(
        gpu: &Gpu,
        label: &str,
        parts: &[(u32, WeightLayout)],
        columns: u32,
    ) -> Result<Self, GpuError> {
        let mut slabs = Vec::new();
        for (first, rows, layout) in stacked_rows(gpu.max_binding(), parts, columns) {
            let bytes = |words: usize| 4 * u64::from(rows) * words as u64;
            slabs.push(Slab {
                first_row: first,
                rows,
                layout,
                quants: gpu.buffer(label, bytes(layout.quant_words(columns as usize)))?.all(),
                scales: gpu.buffer(label, bytes(layout.scale_words(columns as usize)))?.all(),
            });
        }
        Ok(Self { rows: parts.iter().map(|part| part.0).sum(), columns, slabs })
    }

    /// A matrix of f32 weights, `(N, K)` row-major: LoRA factors, tests.
    ///
    /// # Errors
    /// As [`Matrix::new`].
    pub fn from_f32(
        gpu: &Gpu,
        label: &str,
        rows: u32,
        columns: u32,
        weights: &[f32],
    ) -> Result<Self, GpuError> {
        let matrix = Self::new(gpu, label, rows, columns, WeightLayout::F32)?;
        for slab in &matrix.slabs {
            let start = (slab.first_row * columns) as usize;
            gpu.write(&slab.quants, 0, &weights[start..start + (slab.rows * columns) as usize]);
        }
        Ok(matrix)
    }

    /// Uploads rows `first_row ..` of the matrix, across slab boundaries.
    pub fn write_rows(&self, gpu: &Gpu, first_row: u32, packed: &PackedRows) {
        debug_assert_eq!(packed.columns, self.columns as usize);
        let quant_words = packed.layout.quant_words(packed.columns);
        let scale_words = packed.layout.scale_words(packed.columns);
        let end = first_row + packed.rows as u32;
        for slab in &self.slabs {
            let from = first_row.max(slab.first_row);
            let to = end.min(slab.first_row + slab.rows);
            if from >= to {
                continue;
            }
            debug_assert_eq!(packed.layout, slab.layout);
            let (source, target) = ((from - first_row) as usize, u64::from(from - slab.first_row));
            let count = (to - from) as usize;
            for (buffer, words, data) in [
                (&slab.quants, quant_words, &packed.quants),
                (&slab.scales, scale_words, &packed.scales),
            ] {
                let part = &data[source * words..(source + count) * words];
                gpu.write(buffer, target * 4 * words as u64, part);
            }
        }
    }

    /// The slabs that hold some of `rows`, each with the range of its own rows that belong to them.
    pub(crate) fn slabs_in(&self, rows: &Range<u32>) -> impl Iterator<Item = (&Slab, Range<u32>)> {
        let Range { start, end } = *rows;
        self.slabs.iter().filter_map(move |slab| {
            let from = start.max(slab.first_row);
            let to = end.min(slab.first_row + slab.rows);
            (from < to).then(|| (slab, from - slab.first_row..to - slab.first_row))
        })
    }

    /// The layout of the first rows, which is that of all rows unless tensors are stacked.
    pub fn layout(&self) -> WeightLayout {
        self.slabs.first().map_or(WeightLayout::F32, |slab| slab.layout)
    }

    /// Bytes on the device, without dummies.
    pub fn bytes(&self) -> u64 {
        let bytes = |slab: &Slab| {
            u64::from(slab.rows) * slab.layout.row_bytes(self.columns as usize) as u64
        };
        self.slabs.iter().map(bytes).sum()
    }
}

impl Slab {
    /// Weights that share a scale.
    pub(crate) fn group(&self) -> u32 {
        match self.layout {
            WeightLayout::F32 | WeightLayout::F16 => 1,
            WeightLayout::Quant { group, .. } => group,
        }
    }

    /// Values of the decoder's `override` constants.
    pub fn constants(&self) -> Vec<Constant> {
        match self.layout {
            WeightLayout::F32 | WeightLayout::F16 => vec![],
            WeightLayout::Quant { group, scale, minimum, .. } => {
                let form = match scale {
                    ScaleForm::F16 => 0,
                    ScaleForm::F32 => 1,
                    ScaleForm::TwoLevel => 2,
                };
                vec![("GROUP", group), ("SCALE_FORM", form), ("MINIMUM", minimum.into())]
            }
        }
    }
}

/// First row, number of rows and layout of every slab of stacked tensors.
fn stacked_rows(
    max_binding: u64,
    parts: &[(u32, WeightLayout)],
    columns: u32,
) -> Vec<(u32, u32, WeightLayout)> {
    let (mut slabs, mut first) = (Vec::new(), 0);
    for alike in parts.chunk_by(|a, b| a.1 == b.1) {
        let layout = alike[0].1;
        let rows: u32 = alike.iter().map(|part| part.0).sum();
        let together = slab_rows(max_binding, rows, columns, layout).count() == 1;
        let each: Vec<u32> =
            if together { vec![rows] } else { alike.iter().map(|part| part.0).collect() };
        for rows in each {
            let within = slab_rows(max_binding, rows, columns, layout);
            slabs.extend(within.map(|(start, rows)| (first + start, rows, layout)));
            first += rows;
        }
    }
    slabs
}

/// First row and number of rows of every slab.
pub fn slab_rows(
    max_binding: u64,
    rows: u32,
    columns: u32,
    layout: WeightLayout,
) -> impl Iterator<Item = (u32, u32)> {
    let words = layout.quant_words(columns as usize).max(layout.scale_words(columns as usize));
    let most = max_binding / (4 * words.max(1) as u64);
    let step = if most >= u64::from(rows) {
        rows
    } else {
        (most / ROW_STEP * ROW_STEP).max(ROW_STEP) as u32
    };
    (0..rows).step_by(step.max(1) as usize).map(move |first| (first, step.min(rows - first)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, for_each_profile, gpu_test, quantized};

    gpu_test! {
        async fn rows_written_in_pieces_land_in_the_slabs_that_own_them() {
            for_each_profile(async |gpu| {
                for layout in [WeightLayout::F32, WeightLayout::Q8, WeightLayout::Q4] {
                    let (whole, _) = quantized(&gpu, &mut Numbers::new(3), 37, 64, layout);
                    let read = async |matrix: &Matrix| {
                        let (mut quants, mut scales) = (vec![], vec![]);
                        for slab in &matrix.slabs {
                            quants.extend(gpu.read::<u32>(slab.quants.clone()).await.unwrap());
                            scales.extend(gpu.read::<u32>(slab.scales.clone()).await.unwrap());
                        }
                        (quants, scales)
                    };
                    let (quants, scales) = read(&whole).await;
                    let mut split = whole.clone();
                    split.slabs = [(0, 16), (16, 16), (32, 5)]
                        .map(|(first_row, rows)| {
                            let part = Matrix::new(&gpu, "test", rows, 64, layout).unwrap();
                            Slab { first_row, ..part.slabs[0].clone() }
                        })
                        .to_vec();
                    // Pieces that end within a slab, at its end, and beyond the next one.
                    for rows in [0..3, 3..16, 16..20, 20..37] {
                        let words = |all: &[u32], width: usize| {
                            all[rows.start * width..rows.end * width].to_vec()
                        };
                        let mut piece = PackedRows::new(layout, 64).unwrap();
                        piece.rows = rows.len();
                        piece.quants = words(&quants, layout.quant_words(64));
                        piece.scales = words(&scales, layout.scale_words(64));
                        split.write_rows(&gpu, rows.start as u32, &piece);
                    }
                    let (got, got_scales) = read(&split).await;
                    assert_eq!(got, quants);
                    assert!(layout == WeightLayout::F32 || got_scales == scales);
                }
            })
            .await;
        }
    }

    #[test]
    fn stacked_tensors_share_a_slab_where_layouts_agree_and_a_binding_holds_them() {
        let (q4, q8) = (WeightLayout::Q4, WeightLayout::Q8);
        let stacked = |limit, parts: &[_]| stacked_rows(limit, parts, 64);
        assert_eq!(stacked(1 << 20, &[(64, q4), (16, q4), (16, q4)]), [(0, 96, q4)]);
        assert_eq!(stacked(1 << 20, &[(64, q4), (16, q4), (16, q8)]), [(0, 80, q4), (80, 16, q8)]);
        let apart = [(0, 64, q4), (64, 16, q8), (80, 16, q4)];
        assert_eq!(stacked(1 << 20, &[(64, q4), (16, q8), (16, q4)]), apart);
        // A row of 64 weights takes 32 bytes in q4: 40 rows fit. Slabs begin where tensors do.
        let split = [(0, 40, q4), (40, 24, q4), (64, 16, q4), (80, 16, q4)];
        assert_eq!(stacked(40 * 32, &[(64, q4), (16, q4), (16, q4)]), split);
    }

    #[test]
    fn slabs_cover_all_rows_once_and_fit() {
        // Gemma 3 270M's embedding under WebGPU's default limits, and awkward ones.
        for (limit, rows, columns) in [(128 << 20, 262_144, 640), (4096, 33, 64), (1 << 20, 1, 4)] {
            for layout in [WeightLayout::F32, WeightLayout::F16, WeightLayout::Q8, WeightLayout::Q4]
            {
                if layout.check(u64::from(columns)).is_err() {
                    continue;
                }
                let mut next = 0;
                for (first, count) in slab_rows(limit, rows, columns, layout) {
                    assert_eq!(first, next);
                    assert!(first.is_multiple_of(8) && count > 0);
                    assert!(
                        4 * u64::from(count) * layout.quant_words(columns as usize) as u64 <= limit
                    );
                    next += count;
                }
                assert_eq!(next, rows);
            }
        }
    }
}
