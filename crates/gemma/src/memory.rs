//! The source of a step's buffers: the device, or a count of the bytes that they would take. The
//! memory plan runs the allocating code with a count, so that the two cannot diverge.

use hearth_gpu::{Gpu, Slice};

use crate::ModelError;

/// Bytes of a number on the device.
const NUMBER: u64 = 4;

/// Allocates buffers.
pub(crate) trait Memory {
    /// Represents a buffer.
    type Buffer: Clone;

    /// Sets the part of the plan that the following buffers belong to.
    fn part(&mut self, name: &'static str);

    /// Allocates a buffer of `rows × columns` numbers of 4 bytes, at least one number.
    fn numbers(
        &mut self,
        label: &'static str,
        rows: usize,
        columns: usize,
    ) -> Result<Self::Buffer, ModelError>;

    /// Maximum bytes of one buffer.
    fn max_binding(&self) -> u64;
}

fn bytes(label: &str, rows: usize, columns: usize) -> Result<u64, ModelError> {
    let numbers = (rows as u64).checked_mul(columns as u64).map(|n| n.max(1));
    numbers.and_then(|n| n.checked_mul(NUMBER)).ok_or_else(|| {
        ModelError::Memory(format!(
            "{label}: {rows} × {columns} numbers are more than there are bytes"
        ))
    })
}

/// Buffers on a device.
pub(crate) struct OnDevice<'a>(pub &'a Gpu);

impl Memory for OnDevice<'_> {
    type Buffer = Slice;

    fn part(&mut self, _: &'static str) {}

    fn numbers(
        &mut self,
        label: &'static str,
        rows: usize,
        columns: usize,
    ) -> Result<Slice, ModelError> {
        Ok(self.0.buffer(label, bytes(label, rows, columns)?)?.all())
    }

    fn max_binding(&self) -> u64 {
        self.0.max_binding()
    }
}

/// A buffer that is larger than the device can bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge {
    /// The part of the plan.
    pub part: &'static str,
    /// The buffer.
    pub label: &'static str,
    /// Its bytes.
    pub bytes: u64,
}

/// Buffers that are only counted.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    /// Parts in order, with their bytes.
    pub parts: Vec<(&'static str, u64)>,
    /// The largest buffer beyond the limit.
    pub too_large: Option<TooLarge>,
    /// Index of the part to which buffers are added.
    current: usize,
    max_binding: u64,
}

impl Counted {
    /// A count for a device that binds at most `max_binding` bytes.
    pub(crate) fn new(max_binding: u64) -> Self {
        Self { parts: Vec::new(), too_large: None, current: 0, max_binding }
    }

    /// Adds bytes that are not allocated here.
    pub(crate) fn add(&mut self, name: &'static str, bytes: u64) {
        self.part(name);
        self.grow(bytes);
    }

    fn grow(&mut self, bytes: u64) {
        if let Some((_, sum)) = self.parts.get_mut(self.current) {
            *sum = sum.saturating_add(bytes);
        }
    }

    /// Total bytes.
    pub(crate) fn total(&self) -> u64 {
        self.parts.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

impl Memory for Counted {
    type Buffer = ();

    fn part(&mut self, name: &'static str) {
        let known = self.parts.iter().position(|(part, _)| *part == name);
        self.current = known.unwrap_or(self.parts.len());
        if known.is_none() {
            self.parts.push((name, 0));
        }
    }

    fn numbers(
        &mut self,
        label: &'static str,
        rows: usize,
        columns: usize,
    ) -> Result<(), ModelError> {
        let bytes = bytes(label, rows, columns)?;
        self.grow(bytes);
        if bytes > self.max_binding && self.too_large.is_none_or(|most| most.bytes < bytes) {
            let part = self.parts.get(self.current).map_or(label, |(part, _)| part);
            self.too_large = Some(TooLarge { part, label, bytes });
        }
        Ok(())
    }

    fn max_binding(&self) -> u64 {
        self.max_binding
    }
}
