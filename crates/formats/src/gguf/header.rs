//! The header of a GGUF file, versions 2 and 3: metadata and where the tensors are.
//!
//! The format is ggml's `docs/gguf.md`:
//!
//! ```text
//! 'GGUF'  version u32  tensors u64  values u64
//! values  × { key string, type u32, value }
//! tensors × { name string, dimensions u32, size u64 each, type u32, offset u64 }
//! padding to general.alignment, then the tensors' data
//! ```
//!
//! A string is its length as u64 and UTF-8 bytes; an array is its type as u32, its length as u64 and the values. The
//! header is read through a buffer of 1 MiB, and no length is trusted before it has been compared with the size of the
//! file.

mod error;
mod raw;
mod reader;
mod tensor_type;
#[cfg(test)]
mod tests;
mod value;

use std::collections::{BTreeMap, HashMap};

use crate::source::ByteSource;
pub use error::HeaderError;
pub use raw::raw_metadata;
use reader::Reader;
pub use tensor_type::TensorType;
pub use value::{FromValue, Strings, Value};

/// Alignment of the data if the file names none.
const DEFAULT_ALIGNMENT: u32 = 32;

/// A GGUF file without its data.
#[derive(Debug, Clone)]
pub struct Header {
    file: String,
    version: u32,
    alignment: u64,
    data_start: u64,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<TensorInfo>,
    places: HashMap<String, usize>,
}

/// A tensor's name, shape, number format and location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// ggml's name: `blk.0.attn_q.weight`.
    pub name: String,
    /// Sizes with the slowest first: `[N rows, K columns]` for a matrix. The file stores them in
    /// reverse order.
    pub shape: Vec<u64>,
    /// Number format.
    pub kind: TensorType,
    /// Offset of the first byte, from the start of the file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

impl Header {
    /// Reads the header of a file and checks all of it: sizes, names, alignment, and that the
    /// tensors are within the file without overlapping.
    ///
    /// # Errors
    /// [`HeaderError`] names the file and the key or tensor that is wrong.
    pub async fn read<S: ByteSource + ?Sized>(source: &S) -> Result<Self, HeaderError> {
        let mut reader = Reader::new(source);
        let file = reader.file();
        let magic = reader.bytes().await?;
        if magic != *b"GGUF" {
            return Err(HeaderError::Magic { file, found: magic });
        }
        let version = reader.u32().await?;
        match version {
            2 | 3 => {}
            // The low half is never 0 in a file of this machine's byte order.
            found if found & 0xffff == 0 => return Err(HeaderError::BigEndian { file }),
            found => return Err(HeaderError::Version { file, found }),
        }
        let tensor_count = reader.u64().await?;
        let value_count = reader.u64().await?;

        let metadata = read_metadata(&mut reader, value_count).await?;
        let alignment = match metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(value) => typed(&file, "general.alignment", value)?,
        };
        if !alignment.is_power_of_two() || !(8..=65536).contains(&alignment) {
            return Err(HeaderError::Alignment { file, found: alignment });
        }
        let alignment = u64::from(alignment);

        let mut tensors = read_tensors(&mut reader, tensor_count).await?;
        let data_start = reader.position().next_multiple_of(alignment);
        let mut places = HashMap::with_capacity(tensors.len());
        for (place, tensor) in tensors.iter_mut().enumerate() {
            if !tensor.offset.is_multiple_of(alignment) {
                return Err(HeaderError::TensorOffset {
                    file,
                    tensor: tensor.name.clone(),
                    alignment,
                    offset: tensor.offset,
                });
            }
            // In the file, offsets are relative to the start of the data.
            tensor.offset = tensor.offset.saturating_add(data_start);
            if tensor.offset.saturating_add(tensor.bytes) > source.len() {
                return Err(HeaderError::TensorRange {
                    file,
                    tensor: tensor.name.clone(),
                    offset: tensor.offset,
                    bytes: tensor.bytes,
                    file_bytes: source.len(),
                });
            }
            if places.insert(tensor.name.clone(), place).is_some() {
                return Err(HeaderError::Duplicate {
                    file,
                    what: format!("tensor '{}'", tensor.name),
                });
            }
        }
        refuse_overlaps(&file, &tensors)?;
        Ok(Self { file, version, alignment, data_start, metadata, tensors, places })
    }

    /// Adds the tensors of another piece of the same model; metadata stays that of the first. Offsets are relative to
    /// the piece's own file.
    ///
    /// # Errors
    /// [`HeaderError::Duplicate`] for a tensor that is in both.
    pub(crate) fn join(&mut self, piece: Self) -> Result<(), HeaderError> {
        for tensor in piece.tensors {
            if self.places.insert(tensor.name.clone(), self.tensors.len()).is_some() {
                return Err(HeaderError::Duplicate {
                    file: piece.file,
                    what: format!("tensor '{}'", tensor.name),
                });
            }
            self.tensors.push(tensor);
        }
        Ok(())
    }

    /// Name of the file, for errors.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What the tensors' offsets are multiples of, in bytes from [`data_start`](Self::data_start).
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Offset in the file of the first byte of tensor data.
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// All metadata, by key.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// All tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor with this name.
    ///
    /// # Errors
    /// [`HeaderError::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, HeaderError> {
        match self.places.get(name) {
            Some(place) => Ok(&self.tensors[*place]),
            None => {
                Err(HeaderError::MissingTensor { file: self.file.clone(), tensor: name.to_owned() })
            }
        }
    }

    /// A value as `u32`, `u64`, `f32`, `bool`, `&str`, `&Strings`, `Cow<[f32]>` or `Vec<i64>`; `None` if the key is
    /// missing. Integers may have any width and sign, and are accepted as floats.
    ///
    /// # Errors
    /// [`HeaderError::WrongValue`] if it is something else or does not fit.
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, HeaderError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(value) => typed(&self.file, key, value).map(Some),
        }
    }

    /// As [`get`](Self::get), but the key is required.
    ///
    /// # Errors
    /// [`HeaderError::MissingKey`], [`HeaderError::WrongValue`].
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, HeaderError> {
        self.get(key)?.ok_or_else(|| HeaderError::MissingKey {
            file: self.file.clone(),
            key: key.to_owned(),
            expected: T::EXPECTED,
        })
    }
}

fn typed<'a, T: FromValue<'a>>(file: &str, key: &str, value: &'a Value) -> Result<T, HeaderError> {
    T::from_value(value).ok_or_else(|| HeaderError::WrongValue {
        file: file.to_owned(),
        key: key.to_owned(),
        expected: T::EXPECTED,
        found: value.describe(),
    })
}

async fn read_metadata<S: ByteSource + ?Sized>(
    reader: &mut Reader<'_, S>,
    count: u64,
) -> Result<BTreeMap<String, Value>, HeaderError> {
    reader.what = format!("{count} metadata values");
    // The shortest has an empty key, a type, and a byte.
    reader.check(count, 13)?;
    let mut metadata = BTreeMap::new();
    for index in 0..count {
        reader.what = format!("the key of metadata value {index}");
        let key = reader.string().await?;
        reader.what = format!("key '{key}'");
        let value = read_value(reader, &key).await?;
        if metadata.insert(key, value).is_some() {
            return Err(HeaderError::Duplicate { file: reader.file(), what: reader.what.clone() });
        }
    }
    Ok(metadata)
}

async fn read_value<S: ByteSource + ?Sized>(
    reader: &mut Reader<'_, S>,
    key: &str,
) -> Result<Value, HeaderError> {
    let kind = reader.u32().await?;
    Ok(match kind {
        0 => Value::Unsigned(reader.u8().await?.into()),
        1 => Value::Signed(i8::from_le_bytes(reader.bytes().await?).into()),
        2 => Value::Unsigned(u16::from_le_bytes(reader.bytes().await?).into()),
        3 => Value::Signed(i16::from_le_bytes(reader.bytes().await?).into()),
        4 => Value::Unsigned(reader.u32().await?.into()),
        5 => Value::Signed(i32::from_le_bytes(reader.bytes().await?).into()),
        6 => Value::F32(f32::from_le_bytes(reader.bytes().await?)),
        7 => match reader.u8().await? {
            found @ 0..=1 => Value::Bool(found == 1),
            found => {
                return Err(HeaderError::Bool { file: reader.file(), key: key.to_owned(), found });
            }
        },
        8 => Value::Text(reader.string().await?),
        9 => read_array(reader, key).await?,
        10 => Value::Unsigned(reader.u64().await?),
        11 => Value::Signed(i64::from_le_bytes(reader.bytes().await?)),
        12 => Value::F64(f64::from_le_bytes(reader.bytes().await?)),
        found => {
            return Err(HeaderError::ValueType { file: reader.file(), key: key.to_owned(), found });
        }
    })
}

async fn read_array<S: ByteSource + ?Sized>(
    reader: &mut Reader<'_, S>,
    key: &str,
) -> Result<Value, HeaderError> {
    let kind = reader.u32().await?;
    let count = reader.u64().await?;
    Ok(match kind {
        // A bool is one byte, 0 or 1.
        0 | 7 => Value::U32s(reader.numbers(count, |[byte]: [u8; 1]| byte.into()).await?),
        1 => Value::I32s(reader.numbers(count, |b| i8::from_le_bytes(b).into()).await?),
        2 => Value::U32s(reader.numbers(count, |b| u16::from_le_bytes(b).into()).await?),
        3 => Value::I32s(reader.numbers(count, |b| i16::from_le_bytes(b).into()).await?),
        4 => Value::U32s(reader.numbers(count, u32::from_le_bytes).await?),
        5 => Value::I32s(reader.numbers(count, i32::from_le_bytes).await?),
        6 => Value::F32s(reader.numbers(count, f32::from_le_bytes).await?),
        8 => Value::Texts(reader.strings(count).await?),
        9 => {
            return Err(HeaderError::NestedArray { file: reader.file(), key: key.to_owned() });
        }
        10 => Value::U64s(reader.numbers(count, u64::from_le_bytes).await?),
        11 => Value::I64s(reader.numbers(count, i64::from_le_bytes).await?),
        12 => Value::F64s(reader.numbers(count, f64::from_le_bytes).await?),
        found => {
            return Err(HeaderError::ValueType { file: reader.file(), key: key.to_owned(), found });
        }
    })
}

/// Reads the tensors' descriptions; offsets are still relative to the start of the data.
async fn read_tensors<S: ByteSource + ?Sized>(
    reader: &mut Reader<'_, S>,
    count: u64,
) -> Result<Vec<TensorInfo>, HeaderError> {
    reader.what = format!("{count} tensors");
    // The shortest has an empty name, one dimension, a type and an offset.
    reader.check(count, 32)?;
    let mut tensors = Vec::new();
    for index in 0..count {
        reader.what = format!("the name of tensor {index}");
        let name = reader.string().await?;
        reader.what = format!("tensor '{name}'");
        tensors.push(read_tensor(reader, name).await?);
    }
    Ok(tensors)
}

async fn read_tensor<S: ByteSource + ?Sized>(
    reader: &mut Reader<'_, S>,
    name: String,
) -> Result<TensorInfo, HeaderError> {
    let dimensions = reader.u32().await?;
    if !(1..=4).contains(&dimensions) {
        return Err(HeaderError::Dimensions {
            file: reader.file(),
            tensor: name,
            found: format!("{dimensions} dimensions"),
        });
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.insert(0, reader.u64().await?);
    }
    let id = reader.u32().await?;
    let offset = reader.u64().await?;
    let Some(kind) = TensorType::from_id(id) else {
        return Err(HeaderError::TensorType { file: reader.file(), tensor: name, found: id });
    };
    let weights = shape
        .iter()
        .try_fold(1u64, |product, size| product.checked_mul(*size))
        .filter(|product| *product > 0);
    let bytes = weights
        .map(|weights| weights / kind.block_weights())
        .and_then(|blocks| blocks.checked_mul(kind.block_bytes()));
    let Some(bytes) = bytes else {
        return Err(HeaderError::Dimensions {
            file: reader.file(),
            tensor: name,
            found: format!("{shape:?}"),
        });
    };
    let row = shape[shape.len() - 1];
    if !row.is_multiple_of(kind.block_weights()) {
        return Err(HeaderError::Blocks {
            file: reader.file(),
            tensor: name,
            kind: kind.name(),
            block: kind.block_weights(),
            row,
        });
    }
    Ok(TensorInfo { name, shape, kind, offset, bytes })
}

fn refuse_overlaps(file: &str, tensors: &[TensorInfo]) -> Result<(), HeaderError> {
    let mut in_order: Vec<&TensorInfo> = tensors.iter().collect();
    in_order.sort_by_key(|tensor| tensor.offset);
    for pair in in_order.windows(2) {
        if pair[0].offset + pair[0].bytes > pair[1].offset {
            return Err(HeaderError::Overlap {
                file: file.to_owned(),
                first: pair[0].name.clone(),
                second: pair[1].name.clone(),
                offset: pair[1].offset,
            });
        }
    }
    Ok(())
}
