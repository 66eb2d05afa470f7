//! Headers for files that are written piece by piece.

use std::collections::BTreeMap;

use super::{Dtype, SafetensorsError, TensorInfo, byte_size, json_error};

/// A header to be written, for files too large to hold in memory: write `bytes`, then every
/// tensor's data at its `offset`, in order.
#[derive(Debug, Clone)]
pub struct PlannedFile {
    /// The first bytes of the file.
    pub bytes: Vec<u8>,
    /// The tensors in the order of their data.
    pub tensors: Vec<TensorInfo>,
}

/// Plans a file of these tensors. As the public crate does, wider numbers come first, so that all
/// are aligned; otherwise the order stays.
///
/// # Errors
/// [`SafetensorsError::Shape`] for sizes beyond u64, [`SafetensorsError::Json`] for a duplicate
/// name; both name `file`.
pub fn plan_file(
    file: &str,
    metadata: &BTreeMap<String, String>,
    tensors: impl IntoIterator<Item = (String, Dtype, Vec<u64>)>,
) -> Result<PlannedFile, SafetensorsError> {
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, dtype, _)| std::cmp::Reverse(dtype.bits()));
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_owned(), serde_json::json!(metadata));
    }
    let mut offset = 0u64;
    let mut planned = Vec::with_capacity(tensors.len());
    for (name, dtype, shape) in tensors {
        let bytes = byte_size(dtype, &shape);
        let end = bytes.and_then(|bytes| offset.checked_add(bytes));
        let (Some(bytes), Some(end)) = (bytes, end) else {
            return Err(SafetensorsError::Shape { file: file.to_owned(), tensor: name, shape });
        };
        let entry = serde_json::json!({
            "dtype": dtype.to_string(), "shape": shape, "data_offsets": [offset, end],
        });
        if header.insert(name.clone(), entry).is_some() {
            return Err(SafetensorsError::Json {
                file: file.to_owned(),
                message: format!("'{name}' is there twice"),
            });
        }
        planned.push(TensorInfo { name, dtype, shape, offset, bytes });
        offset = end;
    }
    let mut json = serde_json::to_vec(&header).map_err(|error| json_error(file, &error))?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json);
    for tensor in &mut planned {
        tensor.offset += bytes.len() as u64;
    }
    Ok(PlannedFile { bytes, tensors: planned })
}
