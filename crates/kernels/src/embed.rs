//! Token embedding, `Y[T, C] = scale · W[token[T], C]`, from a table in any weight layout.
//!
//! Source: Gemma multiplies embeddings by √C (google/gemma_pytorch, `GemmaModel.forward`). The
//! table is split by rows if one binding cannot hold it; the dispatch of a slab writes the rows
//! that are in it.

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Kernel, Slice};

use crate::{
    grid::grid,
    matrix::Matrix,
    shader::{KernelByLayout, kernel_by_layout},
};

static KERNEL: KernelByLayout = kernel_by_layout!("embed", [], [Params, Read, Read, Read, Write]);

pub(crate) fn kernels() -> Vec<&'static Kernel> {
    KERNEL.all().iter().collect()
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    tokens: u32,
    columns4: u32,
    first_row: u32,
    rows: u32,
    scale: f32,
}

/// Operands of [`record`].
pub struct Embed<'a> {
    /// Token ids, u32 `(T)`, all below the table's number of rows.
    pub tokens: &'a Slice,
    /// The table, `(V, C)`.
    pub table: &'a Matrix,
    /// Output, `(T, C)`.
    pub y: &'a Slice,
    /// Number of tokens, T.
    pub count: u32,
    /// Factor on the rows.
    pub scale: f32,
}

/// Records the gather: `y =`, one dispatch per slab.
pub fn record(commands: &mut Commands, op: &Embed) {
    let columns4 = op.table.columns / 4;
    for slab in &op.table.slabs {
        let params = Params {
            tokens: op.count,
            columns4,
            first_row: slab.first_row,
            rows: slab.rows,
            scale: op.scale,
        };
        commands.dispatch(
            KERNEL.of(slab.layout),
            &slab.constants(),
            &params,
            &[op.tokens.clone(), slab.quants.clone(), slab.scales.clone(), op.y.clone()],
            grid(op.count),
            4 * u64::from(op.count) * u64::from(op.table.columns),
        );
    }
}

/// The same on the CPU in f64. `table` is `(V, C)` of width `columns`, `tokens` is `(T)`.
pub fn reference(tokens: &[u32], table: &[f64], columns: usize, scale: f64) -> Vec<f64> {
    let row = |&token: &u32| &table[token as usize * columns..][..columns];
    tokens.iter().flat_map(row).map(|w| scale * w).collect()
}

#[cfg(test)]
mod tests {
    use hearth_formats::layout::{PackedRows, ScaleForm, WeightLayout};

    use super::*;
    use crate::{
        matrix::Slab,
        testing::{Numbers, assert_close, for_each_profile, gpu_test, wide},
    };

    /// Rows of random words, with finite scales of ordinary size.
    fn random_rows(
        numbers: &mut Numbers,
        layout: WeightLayout,
        rows: usize,
        columns: usize,
    ) -> PackedRows {
        let mut packed = PackedRows::new(layout, columns).unwrap();
        packed.rows = rows;
        let half_word = |numbers: &mut Numbers| {
            // Two f16 below 2 of either sign, including subnormals.
            let mut one = || (numbers.bits() as u32 & 0x8fff) | (numbers.below(13) << 10);
            one() | one() << 16
        };
        let words = rows * layout.quant_words(columns);
        packed.quants = match layout {
            WeightLayout::F32 => numbers.normal(words, 1.0).iter().map(|v| v.to_bits()).collect(),
            WeightLayout::F16 => (0..words).map(|_| half_word(numbers)).collect(),
            WeightLayout::Quant { .. } => (0..words).map(|_| numbers.bits() as u32).collect(),
        };
        let row_words = layout.scale_words(columns);
        packed.scales = (0..rows * row_words)
            .map(|i| match layout {
                WeightLayout::Quant { scale: ScaleForm::F32, .. } => {
                    numbers.normal(1, 0.1)[0].to_bits()
                }
                WeightLayout::Quant { scale: ScaleForm::TwoLevel, .. } => {
                    let block = row_words / (columns / 256);
                    if (i % row_words).is_multiple_of(block) {
                        half_word(numbers)
                    } else {
                        numbers.bits() as u32
                    }
                }
                _ => half_word(numbers),
            })
            .collect();
        packed
    }

    /// `slab_rows` splits the table further than this device needs.
    async fn check(layout: WeightLayout, rows: u32, columns: u32, tokens: &[u32], slab_rows: u32) {
        for_each_profile(async |gpu| {
            let mut numbers = Numbers::new(rows + columns);
            let packed = random_rows(&mut numbers, layout, rows as usize, columns as usize);
            let mut table = Matrix::new(&gpu, "table", rows, columns, layout).unwrap();
            table.slabs = (0..rows)
                .step_by(slab_rows as usize)
                .map(|first_row| {
                    let rows = slab_rows.min(rows - first_row);
                    let part = |words: &[u32], width: usize| {
                        let part = &words[first_row as usize * width..][..rows as usize * width];
                        gpu.buffer_from("slab", part).unwrap().all()
                    };
                    Slab {
                        first_row,
                        rows,
                        layout,
                        quants: part(&packed.quants, layout.quant_words(columns as usize)),
                        scales: part(&packed.scales, layout.scale_words(columns as usize)),
                    }
                })
                .collect();
            let tokens_ = gpu.buffer_from("tokens", tokens).unwrap().all();
            let y = gpu.buffer("y", 4 * tokens.len() as u64 * u64::from(columns)).unwrap().all();
            let mut commands = Commands::new();
            let op = Embed {
                tokens: &tokens_,
                table: &table,
                y: &y,
                count: tokens.len() as u32,
                scale: 1.5,
            };
            record(&mut commands, &op);
            gpu.run(&commands).await.unwrap();
            let want = reference(tokens, &wide(&packed.decode()), columns as usize, 1.5);
            assert_close(&gpu.read(y).await.unwrap(), &want, 1e-6);
        })
        .await;
    }

    gpu_test! {
        async fn embed_reads_every_layout() {
            for layout in WeightLayout::all() {
                check(layout, 9, 768, &[3, 0, 8, 8, 5], 9).await;
            }
        }

        async fn embed_of_awkward_shapes() {
            check(WeightLayout::F32, 1, 4, &[0], 1).await;
            check(WeightLayout::F32, 3, 260, &[2, 1], 3).await;
            // An odd number of groups: rows of scales start at word boundaries.
            check(WeightLayout::Q8, 3, 96, &[2, 1, 0], 3).await;
        }

        async fn embed_leaves_rows_of_other_slabs_to_them() {
            check(WeightLayout::F32, 33, 64, &[0, 7, 8, 15, 16, 31, 32, 0], 8).await;
            check(WeightLayout::Q4, 33, 64, &[32, 16, 0, 9], 8).await;
        }

        async fn embed_of_more_tokens_than_one_dimension_holds() {
            let tokens: Vec<u32> = (0..70_001).map(|t| t % 5).collect();
            check(WeightLayout::F32, 5, 4, &tokens, 5).await;
        }
    }
}
