//! The flat numbers of an adapter on the device: parameters, gradients, moments.
//!
//! All factors lie one after the other, so that norm, update and clearing are one dispatch each. Where a device
//! binds less than all of them, they are cut into slabs at the border of a factor.

use std::ops::Range;

use hearth_formats::layout::WeightLayout;
use hearth_gpu::{Commands, Gpu, Slice};
use hearth_kernels::matrix::{Matrix, Slab};

use crate::{
    LoraLayout, ModelError,
    memory::{Memory, OnDevice},
};

/// Numbers of an adapter, slab by slab.
#[derive(Clone)]
pub struct Flat<B = Slice> {
    slabs: Vec<B>,
    /// The numbers that each slab holds.
    ranges: Vec<Range<usize>>,
}

impl<B> Flat<B> {
    /// A number for every number of the adapter, or, with `each` above 1, one for so many of them.
    pub(crate) fn allocate<M: Memory<Buffer = B>>(
        memory: &mut M,
        label: &'static str,
        layout: &LoraLayout,
        each: usize,
    ) -> Result<Self, ModelError> {
        let cut = layout.slabs(memory.max_binding());
        let ranges: Vec<_> = cut.into_iter().map(|r| r.start / each..r.end / each).collect();
        let slabs = ranges.iter().map(|range| memory.numbers(label, range.len(), 1));
        Ok(Self { slabs: slabs.collect::<Result<_, _>>()?, ranges })
    }
}

impl Flat {
    /// Zeros for an adapter.
    ///
    /// # Errors
    /// Device memory; a factor that is larger than a binding.
    pub fn new(gpu: &Gpu, label: &'static str, layout: &LoraLayout) -> Result<Self, ModelError> {
        Self::allocate(&mut OnDevice(gpu), label, layout, 1)
    }

    /// The slabs, in order.
    pub(crate) fn slabs(&self) -> &[Slice] {
        &self.slabs
    }

    /// `len` numbers from number `at` on. One slab holds them all: they are those of one factor, or [`Flat::holds`] says so.
    pub(crate) fn slice(&self, at: usize, len: usize) -> Slice {
        let slab = self.ranges.partition_point(|range| range.end <= at);
        let offset = at - self.ranges[slab].start;
        self.slabs[slab].slice(4 * offset as u64, 4 * len as u64)
    }

    /// Whether one slab holds all of a range.
    pub(crate) fn holds(&self, range: &Range<usize>) -> bool {
        self.ranges.iter().any(|slab| slab.start <= range.start && range.end <= slab.end)
    }

    /// Numbers in all slabs.
    pub fn len(&self) -> usize {
        self.ranges.last().map_or(0, |range| range.end)
    }

    /// Whether there is no number.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replaces all numbers.
    pub fn write(&self, gpu: &Gpu, numbers: &[f32]) {
        debug_assert_eq!(numbers.len(), self.len());
        for (slab, range) in self.slabs.iter().zip(&self.ranges) {
            gpu.write(slab, 0, &numbers[range.clone()]);
        }
    }

    /// Reads all numbers back.
    ///
    /// # Errors
    /// The device.
    pub async fn read(&self, gpu: &Gpu) -> Result<Vec<f32>, ModelError> {
        let mut numbers = Vec::with_capacity(self.len());
        for slab in &self.slabs {
            numbers.extend(gpu.read::<f32>(slab).await?);
        }
        Ok(numbers)
    }

    /// Records zeroing.
    pub(crate) fn clear(&self, c: &mut Commands) {
        self.slabs.iter().for_each(|slab| c.clear(slab));
    }
}

/// Numbers as a matrix of f32 weights, `(rows, columns)`.
pub(crate) fn matrix(numbers: Slice, rows: u32, columns: u32) -> Matrix {
    let slab = Slab { first_row: 0, rows, quants: numbers.clone(), scales: numbers };
    Matrix { rows, columns, layout: WeightLayout::F32, slabs: vec![slab] }
}
