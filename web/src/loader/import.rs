//! Files that the user picked, kept like fetched ones; and the sha256 of a whole file.

use sha2::{Digest, Sha256};
use web_sys::Blob;

use super::{Stop, fetch::Observer, target::Target};
use crate::{protocol::PIECE, storage::read_blob, wire::words};

/// Copies a picked file piece by piece, with hashes.
pub async fn import(
    blob: &Blob,
    target: &mut Target,
    watch: &mut dyn Observer,
) -> Result<(), Stop> {
    let total = blob.size() as u64;
    target.begin(None, Some(total)).await?;
    let mut at = 0;
    while at < total {
        watch.see(at, Some(total))?;
        let end = (at + PIECE).min(total);
        let piece = read_blob(blob, at, end).await?;
        if let Some(full) = target.add(&piece).await? {
            watch.warn(format!("{full}. The model is used from your file and not stored."));
        }
        at = end;
    }
    target.finish(total).await?;
    watch.see(total, Some(total))
}

/// The sha256 of a whole file, in hex.
pub async fn sha256_of(blob: &Blob, watch: &dyn Observer) -> Result<String, Stop> {
    let (mut hash, mut at, total) = (Sha256::new(), 0, blob.size() as u64);
    while at < total {
        watch.check()?;
        let end = (at + PIECE).min(total);
        let piece = read_blob(blob, at, end).await.map_err(|e| Stop::Broken(words(&e)))?;
        hash.update(piece.to_vec());
        at = end;
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
