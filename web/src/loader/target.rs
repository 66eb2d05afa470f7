//! Where the pieces of a file go: into the site's storage, or into memory where that is blocked or full.

use js_sys::Uint8Array;
use web_sys::Blob;

use super::kept::{self, Pieces};
use crate::{
    engine::blob_source::sha256,
    protocol::PIECE,
    storage::{Folder, StorageError, SyncFile, join},
    wire::words,
};

enum Place {
    Kept { folder: Folder, file: SyncFile },
    Memory { parts: Vec<Blob> },
}

/// A file that grows by pieces.
pub struct Target {
    name: String,
    place: Place,
    /// What is there.
    pub pieces: Pieces,
}

impl Target {
    /// A file in a folder, as far as it was fetched before.
    pub async fn kept(folder: &Folder, name: &str) -> Result<Self, StorageError> {
        let mut pieces = kept::pieces(folder, name).await?;
        let file = folder.open(name).await?;
        if file.size()? < pieces.done() {
            // the record outlived the bytes
            pieces = Pieces::default();
        }
        Ok(Self {
            name: name.to_owned(),
            place: Place::Kept { folder: folder.clone(), file },
            pieces,
        })
    }

    /// A file in memory.
    pub fn in_memory(name: &str) -> Self {
        let place = Place::Memory { parts: Vec::new() };
        Self { name: name.to_owned(), place, pieces: Pieces::default() }
    }

    /// A whole file in memory.
    pub fn of(name: &str, blob: Blob, pieces: Pieces) -> Self {
        Self { name: name.to_owned(), place: Place::Memory { parts: vec![blob] }, pieces }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it outlives the tab.
    pub fn is_kept(&self) -> bool {
        matches!(self.place, Place::Kept { .. })
    }

    /// Forgets everything: another version of the file begins.
    pub async fn begin(
        &mut self,
        etag: Option<String>,
        total: Option<u64>,
    ) -> Result<(), StorageError> {
        self.pieces = Pieces { total, etag, ..Pieces::default() };
        match &mut self.place {
            Place::Kept { file, .. } => file.truncate(0)?,
            Place::Memory { parts } => parts.clear(),
        }
        self.record().await
    }

    async fn record(&self) -> Result<(), StorageError> {
        match &self.place {
            Place::Kept { folder, .. } => kept::set_pieces(folder, &self.name, &self.pieces).await,
            Place::Memory { .. } => Ok(()),
        }
    }

    /// Adds the next piece. Where the storage is full, what is there and what comes goes on in memory; then
    /// the reason comes back.
    pub async fn add(&mut self, bytes: &Uint8Array) -> Result<Option<StorageError>, StorageError> {
        let fault = |e| StorageError::Other { name: self.name.clone(), what: words(&e) };
        let hash = sha256(bytes).await.map_err(fault)?;
        let at = self.pieces.sha256.len() as u64 * PIECE;
        let mut fallen_back = None;
        let written = match &self.place {
            Place::Kept { file, .. } => file.write_at(at, bytes).and_then(|()| file.flush()),
            Place::Memory { .. } => Ok(()),
        };
        if let Err(error) = written {
            if !matches!(error, StorageError::Full(_)) {
                return Err(error);
            }
            self.move_to_memory(at).await?;
            fallen_back = Some(error);
        }
        if let Place::Memory { parts } = &mut self.place {
            let part = Blob::new_with_u8_array_sequence(&js_sys::Array::of1(bytes));
            parts.push(part.map_err(|e| StorageError::of(&self.name, &e))?);
        }
        self.pieces.sha256.push(hash);
        self.record().await?;
        Ok(fallen_back)
    }

    /// The bytes that are there become the first part in memory; they stay on disk until the tab is closed or the
    /// model deleted.
    async fn move_to_memory(&mut self, bytes: u64) -> Result<(), StorageError> {
        let Place::Kept { folder, file } = &self.place else { return Ok(()) };
        file.truncate(bytes)?;
        file.flush()?;
        let there = folder.file(&self.name).await?;
        let parts = there.into_iter().map(Blob::from).filter(|b| b.size() > 0.0).collect();
        self.place = Place::Memory { parts };
        Ok(())
    }

    /// Every piece is there.
    pub async fn finish(&mut self, total: u64) -> Result<(), StorageError> {
        (self.pieces.total, self.pieces.whole) = (Some(total), true);
        if let Place::Kept { file, .. } = &self.place {
            file.truncate(total)?;
            file.flush()?;
        }
        self.record().await
    }

    /// Puts a piece that was fetched again into its place.
    pub fn repair(&self, piece: u64, bytes: &Uint8Array) -> Result<(), StorageError> {
        match &self.place {
            Place::Kept { file, .. } => {
                file.write_at(piece * PIECE, bytes)?;
                file.flush()
            }
            Place::Memory { .. } => Ok(()),
        }
    }

    /// The file; for the engine and for hashing. Ends the writing.
    pub async fn into_blob(self) -> Result<Blob, StorageError> {
        match self.place {
            Place::Memory { parts } => join(&parts).map_err(|e| StorageError::of(&self.name, &e)),
            Place::Kept { folder, file } => {
                drop(file);
                let missing = || StorageError::Other {
                    name: self.name.clone(),
                    what: "it is gone".to_owned(),
                };
                Ok(folder.file(&self.name).await?.ok_or_else(missing)?.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;
    use crate::storage::read_blob;

    #[wasm_bindgen_test]
    async fn a_file_goes_on_where_it_broke() {
        let root = Folder::root().await.unwrap().folder("tests").await.unwrap();
        root.remove("target").await.unwrap();
        let folder = root.folder("target").await.unwrap();
        let piece = |value: u8, len: u32| Uint8Array::new_with_length(len).fill(value, 0, len);
        let mut target = Target::kept(&folder, "m.gguf").await.unwrap();
        target.begin(Some("\"a\"".to_owned()), None).await.unwrap();
        assert!(target.add(&piece(1, PIECE as u32)).await.unwrap().is_none());
        assert!(matches!(Target::kept(&folder, "m.gguf").await, Err(StorageError::Busy(_))));
        drop(target);
        let mut again = Target::kept(&folder, "m.gguf").await.unwrap();
        assert_eq!((again.pieces.done(), again.pieces.etag.as_deref()), (PIECE, Some("\"a\"")));
        again.add(&piece(2, 100)).await.unwrap();
        again.finish(PIECE + 100).await.unwrap();
        let hashes = again.pieces.sha256.clone();
        let blob = again.into_blob().await.unwrap();
        assert_eq!(blob.size() as u64, PIECE + 100);
        let end = read_blob(&blob, PIECE - 1, PIECE + 1).await.unwrap().to_vec();
        assert_eq!(end, [1, 2]);
        assert_eq!(hashes[1], sha256(&piece(2, 100)).await.unwrap());
        // the record outlives the bytes: everything is fetched again
        let torn = folder.open("m.gguf").await.unwrap();
        torn.truncate(5).unwrap();
        drop(torn);
        assert_eq!(Target::kept(&folder, "m.gguf").await.unwrap().pieces, Pieces::default());
    }

    #[wasm_bindgen_test]
    async fn memory_gives_the_same_blob() {
        let mut target = Target::in_memory("m");
        target.begin(None, Some(5)).await.unwrap();
        target.add(&Uint8Array::from(&b"abc"[..])).await.unwrap();
        target.add(&Uint8Array::from(&b"de"[..])).await.unwrap();
        target.finish(5).await.unwrap();
        assert!(!target.is_kept() && target.pieces.whole);
        let blob = target.into_blob().await.unwrap();
        assert_eq!(read_blob(&blob, 0, 5).await.unwrap().to_vec(), b"abcde");
    }
}
