//! Flat buffers of an adapter on the device: parameters, gradients, moments.
//!
//! All factors are stored one after the other, so that norm, update and clearing take one dispatch
//! each. If a device cannot bind all of them at once, they are split into slabs at the boundary of
//! a factor.

use std::ops::Range;

use hearth_formats::layout::WeightLayout;
use hearth_gpu::{Commands, Gpu, Slice};
use hearth_kernels::matrix::{Matrix, Slab};

use crate::{
    LoraLayout, ModelError,
    memory::{Memory, OnDevice},
};

/// Values of an adapter, slab by slab.
#[derive(Clone)]
pub struct Flat<B = Slice> {
    slabs: Vec<B>,
    /// The range of values that each slab holds.
    ranges: Vec<Range<usize>>,
}

impl<B> Flat<B> {
    /// Allocates one value for every parameter of the adapter, or one for every `each` parameters
    /// if `each` is above 1.
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
    /// Allocates zeros for an adapter.
    ///
    /// # Errors
    /// Out of device memory; a factor that is larger than a binding.
    pub fn new(gpu: &Gpu, label: &'static str, layout: &LoraLayout) -> Result<Self, ModelError> {
        Self::allocate(&mut OnDevice(gpu), label, layout, 1)
    }

    /// The slabs, in order.
    pub(crate) fn slabs(&self) -> &[Slice] {
        &self.slabs
    }

    /// `len` values from index `at` on. One slab holds all of them: they belong to one factor, or
    /// [`Flat::holds`] is true for them.
    pub(crate) fn slice(&self, at: usize, len: usize) -> Slice {
        let slab = self.ranges.partition_point(|range| range.end <= at);
        let offset = at - self.ranges[slab].start;
        self.slabs[slab].slice(4 * offset as u64, 4 * len as u64)
    }

    /// Whether one slab holds all of a range.
    pub(crate) fn holds(&self, range: &Range<usize>) -> bool {
        self.ranges.iter().any(|slab| slab.start <= range.start && range.end <= slab.end)
    }

    /// Number of values in all slabs.
    pub fn len(&self) -> usize {
        self.ranges.last().map_or(0, |range| range.end)
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replaces all values.
    pub fn write(&self, gpu: &Gpu, numbers: &[f32]) {
        debug_assert_eq!(numbers.len(), self.len());
        for (slab, range) in self.slabs.iter().zip(&self.ranges) {
            gpu.write(slab, 0, &numbers[range.clone()]);
        }
    }

    /// Reads all values back.
    ///
    /// # Errors
    /// A device error.
    pub async fn read(&self, gpu: &Gpu) -> Result<Vec<f32>, ModelError> {
        let mut numbers = Vec::with_capacity(self.len());
        for slab in &self.slabs {
            numbers.extend(gpu.read::<f32>(slab).await?);
        }
        Ok(numbers)
    }

    /// Records setting all values to zero.
    pub(crate) fn clear(&self, c: &mut Commands) {
        self.slabs.iter().for_each(|slab| c.clear(slab));
    }
}

/// Values as a matrix of f32 weights, `(rows, columns)`.
pub(crate) fn matrix(numbers: Slice, rows: u32, columns: u32) -> Matrix {
    let slab = Slab {
        first_row: 0,
        rows,
        layout: WeightLayout::F32,
        quants: numbers.clone(),
        scales: numbers,
    };
    Matrix { rows, columns, slabs: vec![slab] }
}
