//! A model file that the browser holds: read by pieces, each checked once if its hash is known.

use std::{
    cell::{Cell, RefCell},
    ops::Range,
    rc::Rc,
};

use hearth_formats::source::{ByteSource, ReadFuture, SourceError, check_range};
use js_sys::Uint8Array;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::Blob;

use crate::{
    protocol::{BadPiece, PieceHashes},
    storage::{read_blob, scope},
    wire::words,
};

/// Reads below this many bytes are likely single ones.
const SMALL: u64 = 64 << 10;

/// A file as a [`ByteSource`].
pub struct BlobSource {
    name: String,
    blob: Blob,
    len: u64,
    pieces: Option<PieceHashes>,
    checked: RefCell<Vec<bool>>,
    /// The piece that was read last: neighbours are read one after the other.
    last: RefCell<Option<(u64, Uint8Array)>>,
    bytes_read: Cell<u64>,
    bad: Rc<RefCell<Option<BadPiece>>>,
}

impl BlobSource {
    /// A blob under a name for errors. A damaged piece is noted in `bad`.
    pub fn new(
        name: &str,
        blob: Blob,
        pieces: Option<PieceHashes>,
        bad: Rc<RefCell<Option<BadPiece>>>,
    ) -> Self {
        let len = blob.size() as u64;
        // hashes that do not fit the file say nothing about it
        let pieces = pieces.filter(|p| p.size > 0 && p.sha256.len() as u64 == len.div_ceil(p.size));
        let count = pieces.as_ref().map_or(0, |p| p.sha256.len());
        Self {
            name: name.to_owned(),
            blob,
            len,
            pieces,
            checked: RefCell::new(vec![false; count]),
            last: RefCell::default(),
            bytes_read: Cell::new(0),
            bad,
        }
    }

    /// Checks the pieces that nobody has read yet: what is read later is then known to be right. `go_on` is
    /// asked before each.
    ///
    /// # Errors
    /// A damaged piece, which is noted, or a file that cannot be read any more.
    pub async fn check_rest(&self, mut go_on: impl FnMut() -> bool) -> Result<(), SourceError> {
        let Some(hashes) = &self.pieces else { return Ok(()) };
        for index in 0..hashes.sha256.len() {
            if !go_on() {
                break;
            }
            if !self.checked.borrow()[index] {
                self.piece(hashes, index as u64).await?;
            }
        }
        Ok(())
    }

    /// Bytes read from the blob so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.get()
    }

    fn fault(&self, offset: u64, wanted: u64, message: String) -> SourceError {
        SourceError::Io { name: self.name.clone(), offset, wanted, message }
    }

    async fn read_blob(&self, from: u64, to: u64) -> Result<Uint8Array, SourceError> {
        let unreadable = |e: JsValue| {
            let said = words(&e);
            self.fault(
                from,
                to - from,
                format!("the file can no longer be read ({said}); choose it again"),
            )
        };
        self.bytes_read.set(self.bytes_read.get() + to - from);
        read_blob(&self.blob, from, to).await.map_err(unreadable)
    }

    /// Bytes of a piece whose hash is right: `within` counts in the piece.
    async fn part(
        &self,
        hashes: &PieceHashes,
        index: u64,
        within: Range<u64>,
    ) -> Result<Uint8Array, SourceError> {
        let last = self.last.borrow().as_ref().filter(|(at, _)| *at == index).cloned();
        let piece = match last {
            Some((_, bytes)) => bytes,
            // single rows of a table, say: the piece was checked, so the rest of it is not read again
            None if self.checked.borrow()[index as usize] && within.end - within.start < SMALL => {
                let from = index * hashes.size;
                return self.read_blob(from + within.start, from + within.end).await;
            }
            None => self.piece(hashes, index).await?,
        };
        Ok(piece.subarray(within.start as u32, within.end as u32))
    }

    /// A piece whose hash is right.
    async fn piece(&self, hashes: &PieceHashes, index: u64) -> Result<Uint8Array, SourceError> {
        let from = index * hashes.size;
        let to = (from + hashes.size).min(self.len);
        let bytes = self.read_blob(from, to).await?;
        let place = index as usize;
        if !self.checked.borrow()[place] {
            let found = sha256(&bytes).await;
            let found = found.map_err(|e| self.fault(from, to - from, words(&e)))?;
            if found != hashes.sha256[place] {
                *self.bad.borrow_mut() = Some(BadPiece { file: self.name.clone(), piece: index });
                return Err(self.fault(
                    from,
                    to - from,
                    format!(
                        "piece {} of {} is damaged; download it again",
                        index + 1,
                        hashes.sha256.len()
                    ),
                ));
            }
            self.checked.borrow_mut()[place] = true;
        }
        *self.last.borrow_mut() = Some((index, bytes.clone()));
        Ok(bytes)
    }
}

impl ByteSource for BlobSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> ReadFuture<'a> {
        Box::pin(async move {
            check_range(self, offset, buf.len() as u64)?;
            let end = offset + buf.len() as u64;
            let Some(hashes) = &self.pieces else {
                self.read_blob(offset, end).await?.copy_to(buf);
                return Ok(());
            };
            let mut at = offset;
            while at < end {
                let index = at / hashes.size;
                let stop = ((index + 1) * hashes.size).min(end);
                let within = at - index * hashes.size..stop - index * hashes.size;
                let wanted = self.part(hashes, index, within).await?;
                wanted.copy_to(&mut buf[(at - offset) as usize..(stop - offset) as usize]);
                at = stop;
            }
            Ok(())
        })
    }
}

/// A sha256 in hex, by the browser.
///
/// # Errors
/// Where the page is not served securely: then there is no `crypto.subtle`.
pub async fn sha256(bytes: &Uint8Array) -> Result<String, JsValue> {
    let subtle = scope().crypto()?.subtle();
    let digest = subtle.digest_with_str_and_buffer_source("SHA-256", bytes)?;
    let digest = Uint8Array::new(&JsFuture::from(digest).await?).to_vec();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use hearth_formats::source::read_vec;
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;
    use crate::wire::blob;

    async fn hashes(bytes: &[u8], size: usize) -> PieceHashes {
        let mut all = Vec::new();
        for piece in bytes.chunks(size) {
            all.push(sha256(&Uint8Array::from(piece)).await.unwrap());
        }
        PieceHashes { size: size as u64, sha256: all }
    }

    fn source(bytes: &[u8], pieces: Option<PieceHashes>) -> BlobSource {
        BlobSource::new("m.gguf", blob(bytes, "").unwrap(), pieces, Rc::default())
    }

    #[wasm_bindgen_test]
    async fn the_browsers_hash_is_sha256() {
        let empty = sha256(&Uint8Array::new_with_length(0)).await.unwrap();
        assert_eq!(empty, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[wasm_bindgen_test]
    async fn any_range_reads_the_same_with_and_without_hashes() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i % 251) as u8).collect();
        let plain = source(&bytes, None);
        let checked = source(&bytes, Some(hashes(&bytes, 64).await));
        for (from, len) in [(0, 1000), (0, 64), (63, 2), (64, 64), (100, 300), (999, 1), (5, 0)] {
            let want = &bytes[from as usize..(from + len) as usize];
            assert_eq!(read_vec(&plain, from, len).await.unwrap(), want);
            assert_eq!(read_vec(&checked, from, len).await.unwrap(), want);
        }
        assert!(matches!(
            read_vec(&plain, 990, 11).await,
            Err(SourceError::OutOfRange { available: 10, .. })
        ));
    }

    #[wasm_bindgen_test]
    async fn a_damaged_piece_is_named_and_the_others_still_read() {
        let mut bytes = vec![7u8; 300];
        let pieces = hashes(&bytes, 100).await;
        bytes[150] = 8;
        let source = source(&bytes, Some(pieces));
        assert_eq!(read_vec(&source, 0, 100).await.unwrap(), vec![7; 100]);
        let error = read_vec(&source, 90, 20).await.unwrap_err().to_string();
        assert!(error.contains("piece 2 of 3 is damaged"), "{error}");
        let bad = BadPiece { file: "m.gguf".to_owned(), piece: 1 };
        assert_eq!(source.bad.borrow().clone(), Some(bad));
        assert_eq!(read_vec(&source, 200, 100).await.unwrap(), vec![7; 100]);
    }

    #[wasm_bindgen_test]
    async fn what_nobody_read_is_checked_too() {
        let mut bytes = vec![7u8; 300];
        let pieces = hashes(&bytes, 100).await;
        let whole = source(&bytes, Some(pieces.clone()));
        read_vec(&whole, 0, 10).await.unwrap();
        whole.check_rest(|| true).await.unwrap();
        assert_eq!(whole.bytes_read(), 300);
        // from then on only what is wanted is read
        assert_eq!(read_vec(&whole, 110, 20).await.unwrap(), vec![7; 20]);
        assert_eq!(whole.bytes_read(), 320);
        bytes[299] = 8;
        let damaged = source(&bytes, Some(pieces));
        read_vec(&damaged, 0, 10).await.unwrap();
        assert!(damaged.check_rest(|| true).await.is_err());
        let bad = BadPiece { file: "m.gguf".to_owned(), piece: 2 };
        assert_eq!(damaged.bad.borrow().clone(), Some(bad));
    }

    #[wasm_bindgen_test]
    async fn neighbours_in_one_piece_are_read_once() {
        let bytes = vec![1u8; 256];
        let source = source(&bytes, Some(hashes(&bytes, 128).await));
        for at in 0..16 {
            read_vec(&source, at * 16, 16).await.unwrap();
        }
        assert_eq!(source.bytes_read(), 256);
    }
}
