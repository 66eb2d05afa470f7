//! Kept models: a folder each, with the files, and beside every file what is known of its pieces.

use serde::{Deserialize, Serialize};
use web_sys::Blob;

use crate::{
    protocol::{KeptModel, ModelFile, PIECE, PieceHashes, RemoteModel},
    storage::{Folder, StorageError},
};

/// The folder of all models, in the site's storage.
pub const MODELS: &str = "models";
const ABOUT: &str = "about";
const PIECES: &str = ".pieces";

/// What a model's folder is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its name for people.
    pub name: String,
    /// Its files' names, in order.
    pub files: Vec<String>,
    /// Where it comes from; none for imported files.
    pub remote: Option<RemoteModel>,
}

/// What is known of a file: written behind every piece, so that fetching goes on where it broke.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pieces {
    /// Its bytes when whole, once known.
    pub total: Option<u64>,
    /// The server's mark of this version of the file.
    pub etag: Option<String>,
    /// sha256 of the pieces that are there, in hex.
    pub sha256: Vec<String>,
    /// Whether every piece is there.
    pub whole: bool,
}

impl Pieces {
    /// Bytes that are there.
    pub fn done(&self) -> u64 {
        match self.total {
            Some(total) if self.whole => total,
            _ => self.sha256.len() as u64 * PIECE,
        }
    }

    /// For the engine.
    pub fn hashes(&self) -> PieceHashes {
        PieceHashes { size: PIECE, sha256: self.sha256.clone() }
    }
}

/// The folder of all models.
pub async fn models() -> Result<Folder, StorageError> {
    Folder::root().await?.folder(MODELS).await
}

/// A model's folder, made if it is not there.
pub async fn model(key: &str) -> Result<Folder, StorageError> {
    models().await?.folder(key).await
}

fn parse<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// What a folder is about, if it is a model's.
pub async fn about(folder: &Folder) -> Result<Option<Manifest>, StorageError> {
    folder.read_safe(ABOUT, parse).await
}

/// Writes what a folder is about.
pub async fn set_about(folder: &Folder, manifest: &Manifest) -> Result<(), StorageError> {
    folder.write_safe(ABOUT, &json(manifest)?).await
}

/// What is known of a file.
pub async fn pieces(folder: &Folder, file: &str) -> Result<Pieces, StorageError> {
    Ok(folder.read_safe(&format!("{file}{PIECES}"), parse).await?.unwrap_or_default())
}

/// Writes what is known of a file.
pub async fn set_pieces(folder: &Folder, file: &str, pieces: &Pieces) -> Result<(), StorageError> {
    folder.write_safe(&format!("{file}{PIECES}"), &json(pieces)?).await
}

/// Deletes a file and what is known of it.
pub async fn forget(folder: &Folder, file: &str) -> Result<(), StorageError> {
    set_pieces(folder, file, &Pieces::default()).await?;
    folder.remove(file).await
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, StorageError> {
    serde_json::to_vec(value)
        .map_err(|e| StorageError::Other { name: ABOUT.to_owned(), what: e.to_string() })
}

/// All kept models, whole or not.
pub async fn list() -> Result<Vec<KeptModel>, StorageError> {
    let models = models().await?;
    let mut all = Vec::new();
    for key in models.names().await? {
        let folder = models.folder(&key).await?;
        let Some(manifest) = about(&folder).await? else { continue };
        let (mut bytes, mut total, mut whole) = (0, Some(0), true);
        for (place, file) in manifest.files.iter().enumerate() {
            let pieces = pieces(&folder, file).await?;
            let told = manifest.remote.as_ref().and_then(|r| r.files.get(place)?.bytes);
            bytes += pieces.done();
            total = total.zip(pieces.total.or(told)).map(|(a, b)| a + b);
            whole &= pieces.whole;
        }
        let (name, remote) = (manifest.name, manifest.remote);
        all.push(KeptModel { key, name, bytes, total: total.unwrap_or(0), whole, remote });
    }
    Ok(all)
}

/// The files of a kept model; none unless every one is whole.
pub async fn open(
    key: &str,
) -> Result<Option<(Manifest, Vec<ModelFile>, Vec<Blob>)>, StorageError> {
    let folder = model(key).await?;
    let Some(manifest) = about(&folder).await? else { return Ok(None) };
    let (mut files, mut blobs) = (Vec::new(), Vec::new());
    for name in &manifest.files {
        let pieces = pieces(&folder, name).await?;
        let file = folder.file(name).await?;
        let (true, Some(file)) = (pieces.whole, file) else { return Ok(None) };
        if Some(file.size() as u64) != pieces.total {
            return Ok(None);
        }
        files.push(ModelFile { name: name.clone(), pieces: Some(pieces.hashes()) });
        blobs.push(file.into());
    }
    Ok(Some((manifest, files, blobs)))
}
