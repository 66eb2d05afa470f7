//! Waiting for the device without ever waiting for one that is gone.

use std::{future::Future, pin::pin};

use futures_channel::oneshot::Canceled;
use futures_util::future::{Either, select};

use crate::{Gpu, GpuError};

impl Gpu {
    /// Waits for the callback of a submission (or of all work). Natively this blocks until wgpu has
    /// called back; the browser calls back from its own event loop.
    ///
    /// # Errors
    /// [`GpuError::Lost`] when the device is lost before or meanwhile.
    pub(crate) async fn wait<T>(
        &self,
        index: Option<wgpu::SubmissionIndex>,
        done: impl Future<Output = Result<T, Canceled>>,
    ) -> Result<T, GpuError> {
        self.poll(index)?;
        match select(pin!(done), self.shared.failure.lost()).await {
            Either::Left((Ok(value), _)) => Ok(value),
            // The callback was dropped without being called, or the device is lost.
            _ => Err(self.lose("a callback of the device was dropped")),
        }
    }

    /// The loss of the device, if that is what an error comes from: it explains every refusal.
    pub(crate) fn explained(&self, error: GpuError) -> GpuError {
        // wgpu reports a loss when it is polled, the browser before its next task.
        #[cfg(not(target_arch = "wasm32"))]
        let _ = self.caught_poll(wgpu::PollType::Poll);
        if self.is_lost() { self.lose("") } else { error }
    }

    #[cfg(target_arch = "wasm32")]
    fn poll(&self, _index: Option<wgpu::SubmissionIndex>) -> Result<(), GpuError> {
        Ok(())
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn poll(&self, index: Option<wgpu::SubmissionIndex>) -> Result<(), GpuError> {
        let wait = |index| wgpu::PollType::Wait { submission_index: index, timeout: None };
        let Err(reason) = self.caught_poll(wait(index)) else { return Ok(()) };
        // The submission was refused. Work before it still ends, and a loss is reported with it.
        let _ = self.caught_poll(wait(None));
        self.check()?;
        Err(self.lose(&reason))
    }

    /// wgpu panics where the driver reports the loss to a poll; its device-lost callback was called
    /// before that, so the panic adds nothing.
    #[cfg(not(target_arch = "wasm32"))]
    fn caught_poll(&self, what: wgpu::PollType) -> Result<(), String> {
        let poll = std::panic::AssertUnwindSafe(|| self.shared.device.poll(what));
        match std::panic::catch_unwind(poll) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the driver reported its loss".to_owned()),
        }
    }
}
