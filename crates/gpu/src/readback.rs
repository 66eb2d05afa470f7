//! Reading device memory without blocking a browser.

use std::sync::atomic::Ordering;

use crate::{Gpu, GpuError, Slice, signal::signal};

impl Gpu {
    /// Reads a range back as numbers, after everything handed over before.
    ///
    /// # Errors
    /// Anything that the device reported up to now.
    pub async fn read<T: bytemuck::AnyBitPattern>(
        &self,
        range: impl Into<Slice>,
    ) -> Result<Vec<T>, GpuError> {
        let staging = self.start_read(range.into());
        self.finish_read(staging).await
    }

    /// Queues the copy of a range into host-visible memory without waiting, so that the host can go
    /// on recording; [`Gpu::finish_read`] collects it.
    pub fn start_read(&self, range: Slice) -> Staging {
        self.shared.readbacks.fetch_add(1, Ordering::Relaxed);
        let raw = self.shared.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("readback"),
            size: range.bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.shared.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(range.buffer.raw(), range.offset, &raw, 0, Some(range.bytes));
        let index = self.shared.queue.submit([encoder.finish()]);
        Staging { raw, index }
    }

    /// Collects what [`Gpu::start_read`] queued.
    ///
    /// # Errors
    /// Anything that the device reported up to now.
    pub async fn finish_read<T: bytemuck::AnyBitPattern>(
        &self,
        staging: Staging,
    ) -> Result<Vec<T>, GpuError> {
        let (sender, done) = signal();
        staging.raw.map_async(wgpu::MapMode::Read, .., move |result| sender.send(result));
        self.poll_for(Some(staging.index));
        let mapped = done.await;
        self.check()?;
        mapped.map_err(|e| GpuError::Lost(format!("reading back failed: {e}")))?;
        let view = staging
            .raw
            .get_mapped_range(..)
            .map_err(|e| GpuError::Lost(format!("reading back failed: {e}")))?;
        // `view` may be unaligned for T in the browser, so copy element by element.
        let numbers = view.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect();
        drop(view);
        staging.raw.unmap();
        Ok(numbers)
    }
}

/// A queued readback.
pub struct Staging {
    raw: wgpu::Buffer,
    index: wgpu::SubmissionIndex,
}
