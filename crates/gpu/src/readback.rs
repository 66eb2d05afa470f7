//! Reading device memory without blocking a browser.

use std::sync::atomic::Ordering;

use futures_channel::oneshot;

use crate::{Gpu, GpuError, Slice, buffer::Owned};

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
        let owned = self.owned(raw);
        let mut encoder = self.shared.device.create_command_encoder(&Default::default());
        let (from, to) = (range.buffer.raw(), owned.raw());
        encoder.copy_buffer_to_buffer(from, range.offset, to, 0, Some(range.bytes));
        let index = self.shared.queue.submit([encoder.finish()]);
        Staging { owned, index }
    }

    /// Collects what [`Gpu::start_read`] queued.
    ///
    /// # Errors
    /// Anything that the device reported up to now.
    pub async fn finish_read<T: bytemuck::AnyBitPattern>(
        &self,
        staging: Staging,
    ) -> Result<Vec<T>, GpuError> {
        self.map(&staging.owned, staging.index).await
    }

    /// Maps a buffer for reading and copies its numbers.
    pub(crate) async fn map<T: bytemuck::AnyBitPattern>(
        &self,
        owned: &Owned,
        index: wgpu::SubmissionIndex,
    ) -> Result<Vec<T>, GpuError> {
        let (sender, done) = oneshot::channel();
        owned.raw().map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver may be gone.
            let _ = sender.send(result);
        });
        let mapped = self.wait(Some(index), done).await?;
        self.check()?;
        let failed = |error: &dyn std::fmt::Display| {
            GpuError::Invalid(format!("a buffer could not be mapped for reading: {error}"))
        };
        mapped.map_err(|e| failed(&e))?;
        let view = owned.raw().get_mapped_range(..).map_err(|e| failed(&e))?;
        // `view` may be unaligned for T in the browser, so copy element by element.
        Ok(view.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
    }
}

/// A queued readback. Dropping it gives its memory back.
pub struct Staging {
    owned: Owned,
    index: wgpu::SubmissionIndex,
}
