//! The browser's own file system for this site (OPFS): folders, files that are written in place, space.
//!
//! Everything here fails politely: private windows, full disks and second tabs are ordinary.

mod folder;
pub mod run_lock;
pub mod run_store;
mod sync_file;

use thiserror::Error;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, StorageEstimate, WorkerGlobalScope};

pub use folder::{Folder, join};
pub use sync_file::SyncFile;

use crate::{protocol::Space, wire::words};

/// Bytes that are copied at once.
pub const COPY: u64 = 4 << 20;

/// What storage refuses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StorageError {
    /// The browser gives this site none.
    #[error("the browser stores no files for this page (a private window, or a setting): {0}")]
    Blocked(String),
    /// The disk or the site's share of it is full.
    #[error(
        "the browser's storage is full while writing {0}; delete models under Model, or free space on the disk"
    )]
    Full(String),
    /// Another tab has the file open.
    #[error(
        "{0} is in use by this tab or another tab of Hearth; wait until that is done, or close the other tab"
    )]
    Busy(String),
    /// Anything else.
    #[error("the browser's storage, {name}: {what}")]
    Other {
        /// The file.
        name: String,
        /// What the browser says.
        what: String,
    },
}

impl StorageError {
    /// What an exception means.
    pub fn of(name: &str, error: &JsValue) -> Self {
        let (what, name) = (words(error), name.to_owned());
        match what.split(':').next().unwrap_or_default() {
            "QuotaExceededError" => Self::Full(name),
            "NoModificationAllowedError" => Self::Busy(name),
            "SecurityError" | "NotAllowedError" | "UnknownError" => Self::Blocked(what),
            _ => Self::Other { name, what },
        }
    }
}

/// Waits for a promise of the storage.
pub(crate) async fn wait(name: &str, promise: js_sys::Promise) -> Result<JsValue, StorageError> {
    JsFuture::from(promise).await.map_err(|e| StorageError::of(name, &e))
}

/// A part of a blob as bytes; short where the blob ends.
///
/// # Errors
/// A file that was changed or removed since it was picked.
pub async fn read_blob(blob: &Blob, from: u64, to: u64) -> Result<js_sys::Uint8Array, JsValue> {
    let part = blob.slice_with_f64_and_f64(from as f64, to as f64)?;
    let buffer = JsFuture::from(part.array_buffer()).await?;
    Ok(js_sys::Uint8Array::new(&buffer))
}

/// A copy of a blob that needs no file any more. A `File` is only a name: once its file is deleted or changed,
/// by us or by the user, it cannot be read.
///
/// # Errors
/// A file that was changed or removed since it was picked; no memory for a copy.
pub async fn detached(blob: &Blob) -> Result<Blob, JsValue> {
    let size = blob.size() as u64;
    let pieces = js_sys::Array::new();
    for from in (0..size).step_by(COPY as usize) {
        let piece = read_blob(blob, from, (from + COPY).min(size)).await?;
        pieces.push(&piece);
    }
    Blob::new_with_u8_array_sequence(&pieces)
}

/// Lets so many milliseconds go by. Without a timer, none.
pub(crate) async fn pause(milliseconds: i32) {
    let pause = js_sys::Promise::new(&mut |resolve, _| {
        let _ =
            scope().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, milliseconds);
    });
    let _ = JsFuture::from(pause).await;
}

pub(crate) fn scope() -> WorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// The site's space.
pub async fn space() -> Space {
    let manager = scope().navigator().storage();
    let estimate = async {
        let found = JsFuture::from(manager.estimate().ok()?).await.ok()?;
        let found: StorageEstimate = found.unchecked_into();
        Some((found.get_usage()? as u64, found.get_quota()? as u64))
    };
    let persisted = async { JsFuture::from(manager.persisted().ok()?).await.ok()?.as_bool() };
    let available = Folder::root().await.is_ok();
    let (used, quota) = estimate.await.unwrap_or_default();
    Space { available, used, quota, persistent: persisted.await.unwrap_or(false) }
}

#[cfg(test)]
mod tests;
