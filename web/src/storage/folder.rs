//! A folder.

use js_sys::{Array, IteratorNext, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};
use web_sys::{
    Blob, File, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions,
    FileSystemGetFileOptions, FileSystemRemoveOptions,
};

use super::{COPY, StorageError, SyncFile, pause, read_blob, scope, wait};

/// Tries to open a file that another worker has, and milliseconds between two.
const BUSY_TRIES: usize = 20;
const BUSY_PAUSE: i32 = 150;

#[wasm_bindgen]
extern "C" {
    // web-sys calls it unstable; every browser with WebGPU has it
    type Openable;
    #[wasm_bindgen(method, catch, js_name = createSyncAccessHandle)]
    fn create_sync_access_handle(this: &Openable) -> Result<Promise, JsValue>;
}

/// A folder in the site's storage.
#[derive(Debug, Clone)]
pub struct Folder {
    handle: FileSystemDirectoryHandle,
}

impl Folder {
    /// The site's root.
    ///
    /// # Errors
    /// [`StorageError::Blocked`] where the browser keeps nothing.
    pub async fn root() -> Result<Self, StorageError> {
        let manager = scope().navigator().storage();
        let missing = manager.is_undefined() || !has(&manager, "getDirectory");
        if missing {
            return Err(StorageError::Blocked("this browser has no such storage".to_owned()));
        }
        let handle = wait("storage", manager.get_directory()).await;
        let blocked = |e: StorageError| StorageError::Blocked(e.to_string());
        Ok(Self { handle: handle.map_err(blocked)?.unchecked_into() })
    }

    /// A folder in this one, made if it is not there.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn folder(&self, name: &str) -> Result<Self, StorageError> {
        let options = FileSystemGetDirectoryOptions::new();
        options.set_create(true);
        let handle = self.handle.get_directory_handle_with_options(name, &options);
        Ok(Self { handle: wait(name, handle).await?.unchecked_into() })
    }

    /// Names of what is in it, sorted.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn names(&self) -> Result<Vec<String>, StorageError> {
        let (keys, mut names) = (self.handle.keys(), Vec::new());
        loop {
            let next = keys.next().map_err(|e| StorageError::of("folder", &e))?;
            let next: IteratorNext = wait("folder", next).await?.unchecked_into();
            if next.done() {
                names.sort();
                return Ok(names);
            }
            names.extend(next.value().as_string());
        }
    }

    async fn file_handle(
        &self,
        name: &str,
        create: bool,
    ) -> Result<Option<FileSystemFileHandle>, StorageError> {
        let options = FileSystemGetFileOptions::new();
        options.set_create(create);
        match wait(name, self.handle.get_file_handle_with_options(name, &options)).await {
            Ok(handle) => Ok(Some(handle.unchecked_into())),
            Err(StorageError::Other { what, .. }) if what.starts_with("NotFoundError") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A file as it is now; none where there is none. Reading costs no memory until it is read.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn file(&self, name: &str) -> Result<Option<File>, StorageError> {
        let Some(handle) = self.file_handle(name, false).await? else { return Ok(None) };
        Ok(Some(wait(name, handle.get_file()).await?.unchecked_into()))
    }

    /// Opens a file to be written in place, made if it is not there. No other tab can open it meanwhile. A worker
    /// that was ended may hold on to its files a little longer, so a busy file is asked for again for a while.
    ///
    /// # Errors
    /// [`StorageError::Busy`] where another tab has it.
    pub async fn open(&self, name: &str) -> Result<SyncFile, StorageError> {
        for _ in 0..BUSY_TRIES {
            match self.open_now(name).await {
                Err(StorageError::Busy(_)) => pause(BUSY_PAUSE).await,
                opened => return opened,
            }
        }
        self.open_now(name).await
    }

    async fn open_now(&self, name: &str) -> Result<SyncFile, StorageError> {
        let missing = || StorageError::Other { name: name.to_owned(), what: "not made".to_owned() };
        let handle = self.file_handle(name, true).await?.ok_or_else(missing)?;
        let opened = handle.unchecked_ref::<Openable>().create_sync_access_handle();
        let opened = wait(name, opened.map_err(|e| StorageError::of(name, &e))?).await?;
        Ok(SyncFile::new(name, opened.unchecked_into()))
    }

    /// Writes a file from a blob, piece by piece. What is cut short is deleted.
    ///
    /// # Errors
    /// As the storage says, or a blob that cannot be read any more.
    pub async fn write(&self, name: &str, blob: &Blob) -> Result<(), StorageError> {
        let written = self.write_pieces(name, blob).await;
        if written.is_err() {
            self.remove(name).await?;
        }
        written
    }

    async fn write_pieces(&self, name: &str, blob: &Blob) -> Result<(), StorageError> {
        let file = self.open(name).await?;
        let (mut at, size) = (0, blob.size() as u64);
        file.truncate(0)?;
        while at < size {
            let end = (at + COPY).min(size);
            let piece = read_blob(blob, at, end).await.map_err(|e| StorageError::of(name, &e))?;
            file.write_at(at, &piece)?;
            at = end;
        }
        file.flush()
    }

    /// A whole small file; none where there is none.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let Some(file) = self.file(name).await? else { return Ok(None) };
        let bytes = read_blob(&file, 0, file.size() as u64).await;
        Ok(Some(bytes.map_err(|e| StorageError::of(name, &e))?.to_vec()))
    }

    /// Writes a small file so that a torn write leaves the old one readable by [`Self::read_safe`].
    ///
    /// # Errors
    /// As the storage says.
    pub async fn write_safe(&self, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        for name in [format!("{name}.new"), name.to_owned()] {
            let file = self.open(&name).await?;
            file.truncate(0)?;
            file.write_at(0, &Uint8Array::from(bytes))?;
            file.flush()?;
        }
        Ok(())
    }

    /// What [`Self::write_safe`] wrote, by the first of its copies that `parse` accepts.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn read_safe<T>(
        &self,
        name: &str,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StorageError> {
        for name in [name.to_owned(), format!("{name}.new")] {
            if let Some(found) = self.read(&name).await?.as_deref().and_then(&parse) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Deletes a file or a folder with everything in it; nothing where there is none.
    ///
    /// # Errors
    /// [`StorageError::Busy`] where it is open.
    pub async fn remove(&self, name: &str) -> Result<(), StorageError> {
        let options = FileSystemRemoveOptions::new();
        options.set_recursive(true);
        match wait(name, self.handle.remove_entry_with_options(name, &options)).await {
            Err(StorageError::Other { what, .. }) if what.starts_with("NotFoundError") => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

fn has(object: &JsValue, name: &str) -> bool {
    Reflect::has(object, &name.into()).unwrap_or(false)
}

/// Blobs one behind the other, without reading them.
///
/// # Errors
/// Where the browser refuses.
pub fn join(parts: &[Blob]) -> Result<Blob, JsValue> {
    Blob::new_with_blob_sequence(&parts.iter().collect::<Array>())
}
