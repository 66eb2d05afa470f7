//! Files in memory, sent by the same code as files on the disk: the embedded page and the list of models.
//!
//! A file may be there in gzip form only. Who reads gzip gets it as it is; for others, and for ranges, it is unpacked.

use bytes::Bytes;
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::io::{self, Cursor, Read, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs;

/// A file that the build put into the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedFile {
    /// Its path in the page, with `/` between folders; ends in `.gz` if the bytes are gzip.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
}

/// Files by their paths.
#[derive(Debug, Clone)]
pub struct Memory {
    files: Arc<BTreeMap<String, Bytes>>,
    modified: SystemTime,
}

impl Memory {
    /// Files that have not changed since `seconds` after 1970.
    pub fn embedded(files: &'static [EmbeddedFile], seconds: u64) -> Self {
        let bytes = |file: &EmbeddedFile| (file.name.to_owned(), Bytes::from_static(file.bytes));
        Self {
            files: Arc::new(files.iter().map(bytes).collect()),
            modified: UNIX_EPOCH + Duration::from_secs(seconds),
        }
    }

    /// One file, made just now.
    pub fn of(name: &str, bytes: Vec<u8>) -> Self {
        let files = BTreeMap::from([(name.to_owned(), bytes.into())]);
        Self { files: Arc::new(files), modified: SystemTime::now() }
    }

    /// A file as it was before it was packed.
    pub fn read(&self, name: &str) -> io::Result<Bytes> {
        if let Some(bytes) = self.files.get(name) {
            return Ok(bytes.clone());
        }
        let packed = self.packed(name).ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = Vec::new();
        GzDecoder::new(&packed[..]).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }

    fn packed(&self, name: &str) -> Option<&Bytes> {
        self.files.get(&format!("{name}.gz"))
    }

    /// Bytes of a file; `None` for a folder.
    fn size(&self, name: &str) -> io::Result<Option<u64>> {
        if let Some(bytes) = self.files.get(name) {
            return Ok(Some(bytes.len() as u64));
        }
        if let Some(packed) = self.packed(name) {
            // gzip ends with the size, modulo 2^32 (RFC 1952, 2.3.1)
            let size = packed.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
            return Ok(Some(size.into()));
        }
        let below = format!("{name}/");
        let folder = name.is_empty() || self.files.keys().any(|file| file.starts_with(&below));
        if folder { Ok(None) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

/// A path below the page as the files are named.
fn name_of(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_string_lossy()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Size and time of a file.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// None for a folder.
    size: Option<u64>,
    modified: SystemTime,
}

impl fs::Metadata for Facts {
    fn is_dir(&self) -> bool {
        self.size.is_none()
    }

    fn modified(&self) -> io::Result<SystemTime> {
        Ok(self.modified)
    }

    fn len(&self) -> u64 {
        self.size.unwrap_or_default()
    }
}

/// An open file.
#[derive(Debug)]
pub struct OpenFile {
    bytes: Cursor<Bytes>,
    modified: SystemTime,
}

impl AsyncRead for OpenFile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_read(context, buffer)
    }
}

impl AsyncSeek for OpenFile {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.bytes).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.bytes).poll_complete(context)
    }
}

impl fs::File for OpenFile {
    type Metadata = Facts;
    type MetadataFuture<'a> = Ready<io::Result<Facts>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        let size = Some(self.bytes.get_ref().len() as u64);
        ready(Ok(Facts { size, modified: self.modified }))
    }
}

impl fs::Backend for Memory {
    type File = OpenFile;
    type Metadata = Facts;
    type OpenFuture = Ready<io::Result<OpenFile>>;
    type MetadataFuture = Ready<io::Result<Facts>>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let bytes = self.read(&name_of(&path)).map(Cursor::new);
        ready(bytes.map(|bytes| OpenFile { bytes, modified: self.modified }))
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let size = self.size(&name_of(&path));
        ready(size.map(|size| Facts { size, modified: self.modified }))
    }
}
