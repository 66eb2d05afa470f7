//! Reads little-endian values one after another through a small buffer.

use super::error::HeaderError;
use super::value::Strings;
use crate::source::ByteSource;

/// Bytes requested at once: few requests if the source is a web server, and little memory.
const BUFFER: u64 = 1 << 20;

/// A longer header is damaged: Gemma 3's, with 262,144 tokens, has 6.5 MB.
pub(super) const HEADER_LIMIT: u64 = 256 << 20;

pub(super) struct Reader<'a, S: ?Sized> {
    source: &'a S,
    buffer: Vec<u8>,
    /// Index of the first byte of `buffer` that is not used yet.
    start: usize,
    /// Offset in the file of the byte after `buffer`.
    next: u64,
    /// What is being read, for errors: "key 'general.name'".
    pub(super) what: String,
}

impl<'a, S: ByteSource + ?Sized> Reader<'a, S> {
    pub(super) fn new(source: &'a S) -> Self {
        Self { source, buffer: Vec::new(), start: 0, next: 0, what: "the first bytes".to_owned() }
    }

    pub(super) fn file(&self) -> String {
        self.source.name().to_owned()
    }

    /// Offset in the file of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.next - (self.buffer.len() - self.start) as u64
    }

    /// Checks that `count` items of `size` bytes or more can follow; nothing is allocated for a
    /// length before it has passed this check.
    pub(super) fn check(&self, count: u64, size: u64) -> Result<(), HeaderError> {
        let wanted = count.saturating_mul(size);
        let offset = self.position();
        let available = self.source.len().saturating_sub(offset);
        if wanted > available {
            return Err(HeaderError::Truncated {
                file: self.file(),
                what: self.what.clone(),
                offset,
                wanted,
                available,
            });
        }
        if offset.saturating_add(wanted) > HEADER_LIMIT {
            return Err(HeaderError::TooLong {
                file: self.file(),
                what: self.what.clone(),
                offset,
                limit: HEADER_LIMIT,
            });
        }
        Ok(())
    }

    pub(super) async fn bytes<const N: usize>(&mut self) -> Result<[u8; N], HeaderError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N).await?);
        Ok(bytes)
    }

    pub(super) async fn u8(&mut self) -> Result<u8, HeaderError> {
        Ok(self.bytes::<1>().await?[0])
    }

    pub(super) async fn u32(&mut self) -> Result<u32, HeaderError> {
        Ok(u32::from_le_bytes(self.bytes().await?))
    }

    pub(super) async fn u64(&mut self) -> Result<u64, HeaderError> {
        Ok(u64::from_le_bytes(self.bytes().await?))
    }

    /// A string: its length in bytes as u64, then UTF-8.
    pub(super) async fn string(&mut self) -> Result<String, HeaderError> {
        let length = self.u64().await?;
        let bytes = self.numbers(length, |[byte]: [u8; 1]| byte).await?;
        let end = self.position();
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(error) => Err(self.not_utf8(error.as_bytes(), end - length)),
        }
    }

    /// `count` strings.
    pub(super) async fn strings(&mut self, count: u64) -> Result<Strings, HeaderError> {
        self.check(count, 8)?;
        let mut strings = Strings::default();
        for _ in 0..count {
            let length = self.u64().await?;
            self.check(length, 1)?;
            if length > BUFFER {
                // Longer than any token; `string` reads such a string piece by piece.
                return Err(HeaderError::TooLong {
                    file: self.file(),
                    what: format!("{}, string {}", self.what, strings.len()),
                    offset: self.position(),
                    limit: BUFFER,
                });
            }
            let start = self.position();
            let bytes = self.take(length as usize).await?;
            match std::str::from_utf8(bytes) {
                Ok(text) => strings.push(text),
                Err(_) => {
                    let bytes = bytes.to_vec();
                    self.what = format!("{}, string {}", self.what, strings.len());
                    return Err(self.not_utf8(&bytes, start));
                }
            };
        }
        strings.shrink_to_fit();
        Ok(strings)
    }

    /// `count` numbers of `N` bytes each.
    pub(super) async fn numbers<T, const N: usize>(
        &mut self,
        count: u64,
        number: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, HeaderError> {
        self.check(count, N as u64)?;
        let mut numbers = Vec::new();
        // After `check`, count is far below 2^32.
        if numbers.try_reserve_exact(count as usize).is_err() {
            return Err(HeaderError::OutOfMemory {
                file: self.file(),
                what: self.what.clone(),
                bytes: count * size_of::<T>() as u64,
            });
        }
        let mut left = count;
        while left > 0 {
            let now = left.min(BUFFER / N as u64);
            let bytes = self.take(now as usize * N).await?;
            numbers.extend(bytes.chunks_exact(N).map(|chunk| {
                let mut bytes = [0; N];
                bytes.copy_from_slice(chunk);
                number(bytes)
            }));
            left -= now;
        }
        Ok(numbers)
    }

    /// The next `count` bytes, `BUFFER` at most.
    async fn take(&mut self, count: usize) -> Result<&[u8], HeaderError> {
        if self.buffer.len() - self.start < count {
            self.check(count as u64, 1)?;
            self.buffer.drain(..self.start);
            self.start = 0;
            let have = self.buffer.len();
            let more = (BUFFER - have as u64).min(self.source.len() - self.next) as usize;
            self.buffer.resize(have + more, 0);
            self.source.read_at(self.next, &mut self.buffer[have..]).await?;
            self.next += more as u64;
        }
        let start = self.start;
        self.start += count;
        Ok(&self.buffer[start..self.start])
    }

    /// The error for bytes that are not UTF-8; `offset` is where they start in the file.
    fn not_utf8(&self, bytes: &[u8], offset: u64) -> HeaderError {
        let good = match std::str::from_utf8(bytes) {
            Ok(_) => 0,
            Err(error) => error.valid_up_to(),
        };
        HeaderError::NotUtf8 {
            file: self.file(),
            what: self.what.clone(),
            offset: offset + good as u64,
            found: bytes[good..].iter().take(8).copied().collect(),
        }
    }
}
