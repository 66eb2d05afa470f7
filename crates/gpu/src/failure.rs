//! What wgpu reports outside of any call's own result: errors of the next call here.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use futures_channel::oneshot;
use futures_util::{FutureExt, future::Shared};

use crate::{Account, GpuError};

/// The first error that was reported and not returned yet, and whether the device is lost.
pub(crate) struct Failure {
    error: Mutex<Option<GpuError>>,
    is_lost: AtomicBool,
    tell: Mutex<Option<oneshot::Sender<()>>>,
    lost: Shared<oneshot::Receiver<()>>,
}

impl Failure {
    /// Turns what wgpu would panic on into errors of the next call.
    pub(crate) fn watch(device: &wgpu::Device, account: &Arc<Account>) -> Arc<Self> {
        let (tell, lost) = oneshot::channel();
        let failure = Arc::new(Self {
            error: Mutex::new(None),
            is_lost: AtomicBool::new(false),
            tell: Mutex::new(Some(tell)),
            lost: lost.shared(),
        });
        let (slot, account) = (failure.clone(), account.clone());
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            slot.report(match error {
                wgpu::Error::OutOfMemory { .. } => {
                    GpuError::OutOfMemory { in_use: account.in_use(), reason: error.to_string() }
                }
                other => GpuError::Invalid(other.to_string()),
            });
        }));
        let slot = failure.clone();
        // Dropping the device is a loss too, but no user of it is left.
        device.set_device_lost_callback(move |reason, message| {
            slot.lose(format!("{reason:?}: {message}").trim_end_matches(": "));
        });
        failure
    }

    fn report(&self, error: GpuError) {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(error);
        }
    }

    /// Records the loss, which explains all later errors and replaces an earlier one.
    /// The first reason stays. Wakes all who wait.
    pub(crate) fn lose(&self, reason: &str) -> GpuError {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_lost.store(true, Ordering::Relaxed);
        let error = match slot.take() {
            Some(error @ GpuError::Lost(_)) => error,
            _ => GpuError::Lost(reason.to_owned()),
        };
        *slot = Some(error.clone());
        drop(slot);
        let tell = self.tell.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The receiver lives as long as this.
        tell.map(|tell| tell.send(()));
        error
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Returns, once, the first error reported since the last call. A lost device stays lost.
    pub(crate) fn check(&self) -> Result<(), GpuError> {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        let found = if self.is_lost() { slot.clone() } else { slot.take() };
        found.map_or(Ok(()), Err)
    }

    /// Is ready when the device is lost.
    pub(crate) fn lost(&self) -> Shared<oneshot::Receiver<()>> {
        self.lost.clone()
    }
}
