//! A file that is open for writing in place.

use js_sys::Uint8Array;
use web_sys::{FileSystemReadWriteOptions, FileSystemSyncAccessHandle};

use super::StorageError;

/// An open file; closed when dropped.
#[derive(Debug)]
pub struct SyncFile {
    name: String,
    handle: FileSystemSyncAccessHandle,
}

impl SyncFile {
    pub(super) fn new(name: &str, handle: FileSystemSyncAccessHandle) -> Self {
        Self { name: name.to_owned(), handle }
    }

    fn fault(&self, error: &wasm_bindgen::JsValue) -> StorageError {
        StorageError::of(&self.name, error)
    }

    /// Bytes.
    ///
    /// # Errors
    /// As the storage says.
    pub fn size(&self) -> Result<u64, StorageError> {
        Ok(self.handle.get_size().map_err(|e| self.fault(&e))? as u64)
    }

    /// Cuts it, or fills it with zeros, to this size.
    ///
    /// # Errors
    /// As the storage says.
    pub fn truncate(&self, bytes: u64) -> Result<(), StorageError> {
        self.handle.truncate_with_f64(bytes as f64).map_err(|e| self.fault(&e))
    }

    /// Writes all of the bytes.
    ///
    /// # Errors
    /// [`StorageError::Full`], also where only some were written.
    pub fn write_at(&self, at: u64, bytes: &Uint8Array) -> Result<(), StorageError> {
        let options = FileSystemReadWriteOptions::new();
        options.set_at(at as f64);
        let written = self.handle.write_with_js_u8_array_and_options(bytes, &options);
        let written = written.map_err(|e| self.fault(&e))?;
        // Chromium 156, in a private window whose storage is full, says 4,294,967,288 instead of throwing: its own
        // error, −8, as an unsigned number
        if written != f64::from(bytes.length()) {
            return Err(StorageError::Full(self.name.clone()));
        }
        Ok(())
    }

    /// Everything in it.
    ///
    /// # Errors
    /// As the storage says.
    pub fn read_all(&self) -> Result<Vec<u8>, StorageError> {
        let mut bytes = vec![0; self.size()? as usize];
        let options = FileSystemReadWriteOptions::new();
        options.set_at(0.0);
        let read = self.handle.read_with_u8_array_and_options(&mut bytes, &options);
        bytes.truncate(read.map_err(|e| self.fault(&e))? as usize);
        Ok(bytes)
    }

    /// Waits until the disk has it.
    ///
    /// # Errors
    /// As the storage says.
    pub fn flush(&self) -> Result<(), StorageError> {
        self.handle.flush().map_err(|e| self.fault(&e))
    }
}

impl Drop for SyncFile {
    fn drop(&mut self) {
        self.handle.close();
    }
}
