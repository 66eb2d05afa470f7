//! Where bytes come from: a file, memory, or anything a front end offers (a `Blob`, OPFS, HTTP
//! ranges). Readers ask for pieces; none holds a whole checkpoint in memory.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use thiserror::Error;

/// What [`ByteSource::read_at`] returns. It is not `Send`: a browser's file handles are not.
pub type ReadFuture<'a> = Pin<Box<dyn Future<Output = Result<(), SourceError>> + 'a>>;

/// A named sequence of bytes that can be read from any offset.
///
/// Offsets are `u64`, since files exceed 4 GiB on wasm32 too. Reading is async, since a browser
/// cannot block.
pub trait ByteSource {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// The name that errors show: a file name, or an address.
    fn name(&self) -> &str;

    /// Fills `buf` with the bytes that start at `offset`.
    ///
    /// # Errors
    /// [`SourceError::OutOfRange`] if fewer than `buf.len()` bytes follow `offset`,
    /// [`SourceError::Io`] if the storage fails.
    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> ReadFuture<'a>;

    /// Whether there is no byte at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SourceError {
    /// The file ends before the wanted bytes do.
    #[error(
        "{name}: wanted {wanted} bytes at offset {offset}, but only {available} are there; \
         the file is cut short or damaged, fetch it again"
    )]
    OutOfRange {
        /// Name of the source.
        name: String,
        /// First wanted byte.
        offset: u64,
        /// Number of wanted bytes.
        wanted: u64,
        /// Number of bytes from `offset` to the end.
        available: u64,
    },
    /// The storage failed.
    #[error("{name}: reading {wanted} bytes at offset {offset}: {message}")]
    Io {
        /// Name of the source.
        name: String,
        /// First wanted byte.
        offset: u64,
        /// Number of wanted bytes.
        wanted: u64,
        /// The system's message.
        message: String,
    },
    /// The pieces do not fit in memory.
    #[error(
        "{name}: no memory for {wanted} bytes at offset {offset}; close other tabs or programs"
    )]
    OutOfMemory {
        /// Name of the source.
        name: String,
        /// First wanted byte.
        offset: u64,
        /// Number of wanted bytes.
        wanted: u64,
    },
}

/// Checks that `wanted` bytes follow `offset` in a source.
///
/// # Errors
/// [`SourceError::OutOfRange`] if they do not.
pub fn check_range(
    source: &(impl ByteSource + ?Sized),
    offset: u64,
    wanted: u64,
) -> Result<(), SourceError> {
    let available = source.len().saturating_sub(offset);
    if wanted <= available {
        return Ok(());
    }
    Err(SourceError::OutOfRange { name: source.name().to_owned(), offset, wanted, available })
}

/// Reads `wanted` bytes into a new vector. The length is checked against the source before
/// anything is allocated, so that a wrong length in a header costs nothing.
///
/// # Errors
/// As [`ByteSource::read_at`], and [`SourceError::OutOfMemory`].
pub async fn read_vec(
    source: &(impl ByteSource + ?Sized),
    offset: u64,
    wanted: u64,
) -> Result<Vec<u8>, SourceError> {
    check_range(source, offset, wanted)?;
    let mut bytes = Vec::new();
    let out_of_memory =
        || SourceError::OutOfMemory { name: source.name().to_owned(), offset, wanted };
    let size = usize::try_from(wanted).map_err(|_| out_of_memory())?;
    bytes.try_reserve_exact(size).map_err(|_| out_of_memory())?;
    bytes.resize(size, 0);
    source.read_at(offset, &mut bytes).await?;
    Ok(bytes)
}

/// Bytes in memory.
#[derive(Debug, Clone)]
pub struct MemorySource {
    name: String,
    bytes: Rc<[u8]>,
}

impl MemorySource {
    /// Takes the bytes, and a name for errors.
    pub fn new(name: impl Into<String>, bytes: impl Into<Rc<[u8]>>) -> Self {
        Self { name: name.into(), bytes: bytes.into() }
    }
}

impl ByteSource for MemorySource {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> ReadFuture<'a> {
        Box::pin(async move {
            check_range(self, offset, buf.len() as u64)?;
            // In range, so it fits in usize.
            let start = offset as usize;
            buf.copy_from_slice(&self.bytes[start..start + buf.len()]);
            Ok(())
        })
    }
}

/// A native file.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug)]
pub struct FileSource {
    name: String,
    len: u64,
    // One cursor per handle, so reads take turns.
    file: std::sync::Mutex<std::fs::File>,
}

#[cfg(not(target_arch = "wasm32"))]
impl FileSource {
    /// Opens a file; its path is the source's name.
    ///
    /// # Errors
    /// [`SourceError::Io`] if it cannot be opened or is not a plain file.
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let io =
            |message: String| SourceError::Io { name: name.clone(), offset: 0, wanted: 0, message };
        let file = std::fs::File::open(path).map_err(|error| io(error.to_string()))?;
        let metadata = file.metadata().map_err(|error| io(error.to_string()))?;
        if !metadata.is_file() {
            return Err(io("not a plain file".to_owned()));
        }
        Ok(Self { len: metadata.len(), file: std::sync::Mutex::new(file), name })
    }

    fn read_now(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buf)
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl ByteSource for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> ReadFuture<'a> {
        Box::pin(async move {
            check_range(self, offset, buf.len() as u64)?;
            self.read_now(offset, buf).map_err(|error| SourceError::Io {
                name: self.name.clone(),
                offset,
                wanted: buf.len() as u64,
                message: error.to_string(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollster::block_on;

    #[test]
    fn memory_and_file_read_the_same() {
        let bytes: Vec<u8> = (0..=255).collect();
        let path = std::env::temp_dir().join(format!("hearth-source-{}", std::process::id()));
        std::fs::write(&path, &bytes).unwrap();
        let file = FileSource::open(&path).unwrap();
        let memory = MemorySource::new("memory", bytes);
        for (offset, len) in [(0, 256), (17, 3), (255, 1), (256, 0)] {
            let from_file = block_on(read_vec(&file, offset, len)).unwrap();
            assert_eq!(from_file, block_on(read_vec(&memory, offset, len)).unwrap());
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn reading_past_the_end_says_what_is_there() {
        let memory = MemorySource::new("weights.bin", vec![0; 10]);
        let error = block_on(read_vec(&memory, 8, 4)).unwrap_err();
        assert_eq!(
            error,
            SourceError::OutOfRange {
                name: "weights.bin".to_owned(),
                offset: 8,
                wanted: 4,
                available: 2
            }
        );
        assert!(error.to_string().contains("wanted 4 bytes at offset 8, but only 2"));
        // Neither a huge length nor a huge offset allocates or overflows.
        assert!(block_on(read_vec(&memory, 1, u64::MAX)).is_err());
        assert!(block_on(read_vec(&memory, u64::MAX, 1)).is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = FileSource::open("no/such/file.gguf").unwrap_err();
        assert!(error.to_string().starts_with("no/such/file.gguf: "));
    }
}
