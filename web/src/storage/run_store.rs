//! Where runs are kept: a folder a run in the site's storage, or in memory where the browser keeps nothing.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use hearth_classifier::fit::{MemoryStore, SnapshotStore};
use js_sys::Uint8Array;
use web_sys::Blob;

use super::{Folder, StorageError, SyncFile};

/// The snapshot slots of a run.
pub const SLOTS: [&str; 2] = ["snapshot-0", "snapshot-1"];

/// Whether a run's folder has anything to go on from.
async fn has_snapshot(folder: &Folder) -> Result<bool, StorageError> {
    for name in SLOTS {
        if folder.file(name).await?.is_some_and(|file| file.size() > 0.0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs by key, each with files by name and two snapshot slots.
#[derive(Clone)]
pub enum RunStore {
    /// In the folder `runs`.
    Kept(Folder),
    /// Until the tab is closed.
    Memory(Rc<RefCell<MemoryRuns>>),
}

/// Runs in memory. Blobs lie in the browser, not in the program's own memory.
#[derive(Default)]
pub struct MemoryRuns {
    files: BTreeMap<(String, String), Blob>,
    slots: BTreeMap<String, Rc<RefCell<MemoryStore>>>,
}

impl RunStore {
    /// The site's storage; memory with the reason where there is none.
    pub async fn open() -> (Self, Option<StorageError>) {
        let runs = async { Folder::root().await?.folder("runs").await };
        match runs.await {
            Ok(folder) => (Self::Kept(folder), None),
            Err(error) => (Self::in_memory(), Some(error)),
        }
    }

    /// An empty one in memory.
    pub fn in_memory() -> Self {
        Self::Memory(Rc::default())
    }

    /// Whether it outlives the tab.
    pub fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }

    /// The runs' keys.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn keys(&self) -> Result<Vec<String>, StorageError> {
        match self {
            Self::Kept(folder) => folder.names().await,
            Self::Memory(memory) => {
                let mut keys: Vec<String> =
                    memory.borrow().files.keys().map(|(key, _)| key.clone()).collect();
                keys.dedup();
                Ok(keys)
            }
        }
    }

    /// Names and bytes of a run's files in storage.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn sizes(&self, key: &str) -> Result<Vec<(String, u64)>, StorageError> {
        let mut sizes = Vec::new();
        if let Self::Kept(folder) = self {
            let folder = folder.folder(key).await?;
            for name in folder.names().await? {
                if let Some(file) = folder.file(&name).await? {
                    sizes.push((name, file.size() as u64));
                }
            }
        }
        Ok(sizes)
    }

    /// Writes a file of a run.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn put(&self, key: &str, name: &str, blob: &Blob) -> Result<(), StorageError> {
        match self {
            Self::Kept(folder) => folder.folder(key).await?.write(name, blob).await,
            Self::Memory(memory) => {
                let place = (key.to_owned(), name.to_owned());
                let copy = super::detached(blob).await.map_err(|e| StorageError::of(name, &e))?;
                memory.borrow_mut().files.insert(place, copy);
                Ok(())
            }
        }
    }

    /// Writes a small file of a run so that a torn write loses nothing.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn put_safe(&self, key: &str, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        match self {
            Self::Kept(folder) => folder.folder(key).await?.write_safe(name, bytes).await,
            Self::Memory(_) => {
                let blob = crate::wire::blob(bytes, crate::wire::BINARY);
                self.put(key, name, &blob.map_err(|e| StorageError::of(name, &e))?).await
            }
        }
    }

    /// A file of a run; none where there is none.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn get(&self, key: &str, name: &str) -> Result<Option<Blob>, StorageError> {
        match self {
            Self::Kept(folder) => {
                Ok(folder.folder(key).await?.file(name).await?.map(|file| file.into()))
            }
            Self::Memory(memory) => {
                let place = (key.to_owned(), name.to_owned());
                Ok(memory.borrow().files.get(&place).cloned())
            }
        }
    }

    /// What [`Self::put_safe`] wrote, if `parse` accepts it.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn get_safe<T>(
        &self,
        key: &str,
        name: &str,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StorageError> {
        match self {
            Self::Kept(folder) => folder.folder(key).await?.read_safe(name, parse).await,
            Self::Memory(_) => {
                let Some(blob) = self.get(key, name).await? else { return Ok(None) };
                let bytes = super::read_blob(&blob, 0, blob.size() as u64).await;
                Ok(parse(&bytes.map_err(|e| StorageError::of(name, &e))?.to_vec()))
            }
        }
    }

    /// Deletes a file of a run, a snapshot slot included.
    ///
    /// # Errors
    /// As the storage says.
    pub async fn remove_file(&self, key: &str, name: &str) -> Result<(), StorageError> {
        match self {
            Self::Kept(folder) => folder.folder(key).await?.remove(name).await,
            Self::Memory(memory) => {
                let mut memory = memory.borrow_mut();
                memory.files.remove(&(key.to_owned(), name.to_owned()));
                if SLOTS.contains(&name) {
                    memory.slots.remove(key);
                }
                Ok(())
            }
        }
    }

    /// Forgets a run.
    ///
    /// # Errors
    /// [`StorageError::Busy`] where another tab trains it.
    pub async fn remove(&self, key: &str) -> Result<(), StorageError> {
        match self {
            Self::Kept(folder) => folder.remove(key).await,
            Self::Memory(memory) => {
                let mut memory = memory.borrow_mut();
                memory.files.retain(|(of, _), _| of != key);
                memory.slots.remove(key);
                Ok(())
            }
        }
    }

    /// Gives a run in memory these snapshots; what is kept has files of its own.
    pub fn set_snapshots(&self, key: &str, snapshots: MemoryStore) {
        if let Self::Memory(memory) = self {
            memory.borrow_mut().slots.insert(key.to_owned(), Rc::new(RefCell::new(snapshots)));
        }
    }

    /// The snapshot slots of a run. While they are open no other tab can train it.
    ///
    /// # Errors
    /// [`StorageError::Busy`] where another tab has them.
    pub async fn slots(&self, key: &str) -> Result<Slots, StorageError> {
        match self {
            Self::Kept(folder) => {
                let folder = folder.folder(key).await?;
                let opened =
                    async { Ok([folder.open(SLOTS[0]).await?, folder.open(SLOTS[1]).await?]) };
                let (files, full) = match opened.await {
                    Ok(files) => (Some(files), None),
                    // a new run goes on in memory; one that has snapshots there must not begin anew
                    Err(full @ StorageError::Full(_)) if !has_snapshot(&folder).await? => {
                        (None, Some(full))
                    }
                    Err(error) => return Err(error),
                };
                let fallen_back = Rc::new(RefCell::new(full));
                Ok(Slots::Kept { files, fallen_back, memory: MemoryStore::default() })
            }
            Self::Memory(memory) => {
                let mut memory = memory.borrow_mut();
                Ok(Slots::Memory(memory.slots.entry(key.to_owned()).or_default().clone()))
            }
        }
    }
}

/// The two snapshot slots of a run.
pub enum Slots {
    /// Files, held open.
    Kept {
        /// The files; none where there was no room to make them.
        files: Option<[SyncFile; 2]>,
        /// Why the latest snapshots are in memory only, until it was told.
        fallen_back: Rc<RefCell<Option<StorageError>>>,
        /// Snapshots that no file would take.
        memory: MemoryStore,
    },
    /// Until the tab is closed.
    Memory(Rc<RefCell<MemoryStore>>),
}

impl Slots {
    /// Where it is noted why snapshots do not outlive the tab any more; whoever tells the user takes it.
    pub fn warning(&self) -> Rc<RefCell<Option<StorageError>>> {
        match self {
            Self::Kept { fallen_back, .. } => fallen_back.clone(),
            Self::Memory(_) => Rc::default(),
        }
    }
}

impl Slots {
    /// Whether the latest snapshot is in memory only, although the run is kept.
    pub fn beyond_files(&self) -> bool {
        match self {
            Self::Kept { files, memory, .. } => {
                files.is_none() || memory.slots.iter().any(|slot| !slot.is_empty())
            }
            Self::Memory(_) => false,
        }
    }

    /// All snapshots, read into memory; the files are closed.
    ///
    /// # Errors
    /// What the storage says of a file that cannot be read.
    pub fn into_memory(mut self) -> Result<MemoryStore, String> {
        let mut store = MemoryStore::default();
        for slot in 0..SLOTS.len() {
            store.slots[slot] = self.load(slot)?;
        }
        Ok(store)
    }
}

impl SnapshotStore for Slots {
    fn save(&mut self, slot: usize, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::Memory(store) => store.borrow_mut().save(slot, bytes),
            Self::Kept { files, fallen_back, memory } => {
                let write = |file: &SyncFile| {
                    file.truncate(0)?;
                    file.write_at(0, &Uint8Array::from(bytes))?;
                    file.flush()
                };
                let Some(files) = files else { return memory.save(slot, bytes) };
                match write(&files[slot]) {
                    Ok(()) => {
                        memory.slots[slot].clear();
                        Ok(())
                    }
                    // a full disk must not end a run: it goes on, and the other slot stays whole
                    Err(error) => {
                        *fallen_back.borrow_mut() = Some(error);
                        memory.save(slot, bytes)
                    }
                }
            }
        }
    }

    fn load(&mut self, slot: usize) -> Result<Vec<u8>, String> {
        match self {
            Self::Memory(store) => store.borrow_mut().load(slot),
            Self::Kept { memory, .. } if !memory.slots[slot].is_empty() => memory.load(slot),
            Self::Kept { files: Some(files), .. } => {
                files[slot].read_all().map_err(|e| e.to_string())
            }
            Self::Kept { files: None, .. } => Ok(Vec::new()),
        }
    }
}
