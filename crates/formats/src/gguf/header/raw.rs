//! Metadata as the bytes that a file has, for copies: [`Value`](super::Value) does not keep the width of a number.

use super::reader::Reader;
use super::{HeaderError, read_value};
use crate::source::{ByteSource, read_vec};

/// Every key of a file with the bytes of key, type and value, in the file's order. All of them together are in memory:
/// 6.5 MB for Gemma 3's vocabulary.
///
/// # Errors
/// As [`Header::read`](super::Header::read), which should have read the file before.
pub async fn raw_metadata<S: ByteSource + ?Sized>(
    source: &S,
) -> Result<Vec<(String, Vec<u8>)>, HeaderError> {
    let mut reader = Reader::new(source);
    reader.bytes::<16>().await?;
    let count = reader.u64().await?;
    reader.check(count, 13)?;
    let mut all = Vec::new();
    for _ in 0..count {
        let start = reader.position();
        let key = reader.string().await?;
        reader.what = format!("key '{key}'");
        read_value(&mut reader, &key).await?;
        let pair = read_vec(source, start, reader.position() - start).await?;
        all.push((key, pair));
    }
    Ok(all)
}
