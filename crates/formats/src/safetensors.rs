//! Safetensors: the header of a file, the index of a sharded model, and headers to write.
//!
//! ```text
//! N u64 · N bytes of JSON · data
//! { "__metadata__": {text: text}, NAME: {"dtype": "BF16", "shape": [N, K], "data_offsets": [begin, end]}, … }
//! ```
//!
//! Only 8 + N bytes are read here. The public `safetensors` crate parses offsets as `usize`, which is limited to 4 GiB
//! on wasm32; these are `u64`. As in that crate, the tensors have to fill the data without gap or overlap. Unlike
//! there, tensors also have to be aligned, no key may occur twice, and a header has at most 16 MiB.

mod dtype;
mod error;
mod json;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde::de::MapAccess;

use crate::source::{ByteSource, read_vec};
pub use dtype::Dtype;
pub use error::SafetensorsError;
use json::{Entries, Entry};
pub use plan::{PlannedFile, plan_file};

/// Longest header that is read: a thousand times that of Gemma 2B.
const HEADER_LIMIT: u64 = 16 << 20;

/// A tensor's name, shape, number type and location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// `model.layers.0.self_attn.q_proj.weight`
    pub name: String,
    /// Number type.
    pub dtype: Dtype,
    /// Sizes, slowest first: `[N rows, K columns]` for a matrix.
    pub shape: Vec<u64>,
    /// Offset of the first byte, from the start of the file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// A safetensors file without its data.
#[derive(Debug, Clone)]
pub struct Header {
    file: String,
    data_start: u64,
    metadata: BTreeMap<String, String>,
    tensors: Vec<TensorInfo>,
    places: HashMap<String, usize>,
}

impl Header {
    /// Reads and checks the header of a file.
    ///
    /// # Errors
    /// [`SafetensorsError`] names the file and the tensor that is wrong.
    pub async fn read<S: ByteSource + ?Sized>(source: &S) -> Result<Self, SafetensorsError> {
        let file = source.name().to_owned();
        let mut length = [0; 8];
        source.read_at(0, &mut length).await?;
        let length = u64::from_le_bytes(length);
        let limit = HEADER_LIMIT.min(source.len() - 8);
        if length > limit {
            let mut first = [0];
            if source.len() > 8 {
                source.read_at(8, &mut first).await?;
            }
            let advice = match first == *b"{" && length <= HEADER_LIMIT {
                true => "the file is cut short, fetch it again",
                false => "this is no safetensors file: choose another, or fetch it again",
            };
            return Err(SafetensorsError::HeaderLength { file, found: length, limit, advice });
        }
        let json = read_vec(source, 8, length).await?;
        let data_start = 8 + length;
        let raw: Entries<RawEntry> =
            serde_json::from_slice(&json).map_err(|error| json_error(&file, &error))?;
        let raw = raw.0;

        let mut metadata = BTreeMap::new();
        let mut tensors = Vec::with_capacity(raw.len());
        for (name, entry) in raw {
            match entry {
                RawEntry::Metadata(values) => metadata = values.0.into_iter().collect(),
                RawEntry::Tensor(info) => tensors.push(check(&file, name, info)?),
            }
        }
        fill_exactly(&file, &mut tensors, source.len() - data_start)?;
        let mut places = HashMap::with_capacity(tensors.len());
        for (place, tensor) in tensors.iter_mut().enumerate() {
            tensor.offset += data_start;
            places.insert(tensor.name.clone(), place);
        }
        Ok(Self { file, data_start, metadata, tensors, places })
    }

    /// Name of the file, for errors.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Offset in the file of the first byte of tensor data.
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// The file's `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// All tensors in the order of their data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor with this name.
    ///
    /// # Errors
    /// [`SafetensorsError::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, SafetensorsError> {
        match self.places.get(name) {
            Some(place) => Ok(&self.tensors[*place]),
            None => Err(SafetensorsError::MissingTensor {
                file: self.file.clone(),
                tensor: name.to_owned(),
            }),
        }
    }
}

/// Which shard of a model holds which tensor: `model.safetensors.index.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Tensor name → file name.
    pub weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Reads an index.
    ///
    /// # Errors
    /// [`SafetensorsError`] for damaged JSON, a duplicate tensor, or a shard that is not a plain file name.
    pub fn parse(file: &str, json: &[u8]) -> Result<Self, SafetensorsError> {
        #[derive(Deserialize)]
        struct RawIndex {
            weight_map: Entries<String>,
        }
        let raw: RawIndex =
            serde_json::from_slice(json).map_err(|error| json_error(file, &error))?;
        for (tensor, shard) in &raw.weight_map.0 {
            if shard.is_empty() || shard.contains(['/', '\\']) {
                return Err(SafetensorsError::ShardName {
                    file: file.to_owned(),
                    tensor: tensor.clone(),
                    shard: shard.clone(),
                });
            }
        }
        Ok(Self { weight_map: raw.weight_map.0.into_iter().collect() })
    }
}

fn json_error(file: &str, error: &serde_json::Error) -> SafetensorsError {
    SafetensorsError::Json { file: file.to_owned(), message: error.to_string() }
}

fn byte_size(dtype: Dtype, shape: &[u64]) -> Option<u64> {
    let count = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size))?;
    let bits = u128::from(count) * u128::from(dtype.bits());
    if !bits.is_multiple_of(8) {
        return None;
    }
    u64::try_from(bits / 8).ok()
}

/// Checks one tensor by itself; offsets are still relative to the start of the data.
fn check(file: &str, name: String, info: RawTensor) -> Result<TensorInfo, SafetensorsError> {
    let file = file.to_owned();
    let Some(dtype) = Dtype::from_name(&info.dtype) else {
        return Err(SafetensorsError::Dtype { file, tensor: name, found: info.dtype });
    };
    let Some(bytes) = byte_size(dtype, &info.shape) else {
        return Err(SafetensorsError::Shape { file, tensor: name, shape: info.shape });
    };
    let [begin, end] = info.data_offsets;
    if end.checked_sub(begin) != Some(bytes) {
        return Err(SafetensorsError::Span {
            file,
            tensor: name,
            dtype,
            shape: info.shape,
            expected: bytes,
            begin,
            end,
        });
    }
    if !begin.is_multiple_of(dtype.alignment()) {
        return Err(SafetensorsError::Misaligned { file, tensor: name, dtype, begin });
    }
    Ok(TensorInfo { name, dtype, shape: info.shape, offset: begin, bytes })
}

/// Sorts the tensors and checks that they fill the data without gap or overlap.
fn fill_exactly(
    file: &str,
    tensors: &mut [TensorInfo],
    available: u64,
) -> Result<(), SafetensorsError> {
    tensors.sort_by_key(|tensor| (tensor.offset, tensor.bytes));
    let mut next = 0;
    let mut before = "";
    for tensor in tensors.iter() {
        let end = tensor.offset + tensor.bytes;
        if end > available {
            return Err(SafetensorsError::Range {
                file: file.to_owned(),
                tensor: tensor.name.clone(),
                end,
                available,
            });
        }
        if tensor.offset < next {
            return Err(SafetensorsError::Overlap {
                file: file.to_owned(),
                first: before.to_owned(),
                second: tensor.name.clone(),
                offset: tensor.offset,
            });
        }
        if tensor.offset > next {
            return Err(SafetensorsError::Gap {
                file: file.to_owned(),
                begin: next,
                end: tensor.offset,
            });
        }
        next = end;
        before = &tensor.name;
    }
    if next < available {
        return Err(SafetensorsError::Gap { file: file.to_owned(), begin: next, end: available });
    }
    Ok(())
}

enum RawEntry {
    Metadata(Entries<String>),
    Tensor(RawTensor),
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de> Entry<'de> for RawEntry {
    fn next_value<A: MapAccess<'de>>(key: &str, map: &mut A) -> Result<Self, A::Error> {
        if key == "__metadata__" {
            Ok(Self::Metadata(map.next_value()?))
        } else {
            Ok(Self::Tensor(map.next_value()?))
        }
    }
}
