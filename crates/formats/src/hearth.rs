//! Hearth's own files: safetensors whose matrices are already in a weight layout.
//!
//! A matrix NAME is two tensors: `NAME.quants` u32 `[N, words]` and `NAME.scales` u32
//! `[N, words]` (absent where a row has none), exactly the arrays of [`layout`](crate::layout).
//! Vectors (norms) are plain f32 tensors. The metadata has
//!
//! | key | value |
//! | --- | --- |
//! | `hearth.version` | `1` |
//! | `hearth.layouts` | JSON: NAME → `[layout, columns]`, like `["q4-g32-f16-min", 2048]` |
//! | `hearth.source` | a description of what the file was made from |
//! | `hearth.source_sha256` | its SHA-256 in hex, or empty |
//! | `config` | the model's `config.json` |
//!
//! Norm weights are stored as gains 1 + w: GGUF has no other form, and subtracting 1 rounds.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::layout::{LayoutError, WeightLayout};
use crate::safetensors::{Dtype, PlannedFile, SafetensorsError, plan_file};

const VERSION: &str = "1";

/// A Hearth file that is damaged or of another version.
#[allow(missing_docs)] // The messages say it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HearthFileError {
    #[error(
        "{file}: Hearth's format version {found}, this program reads {VERSION}; quantize the model again"
    )]
    Version { file: String, found: String },
    #[error("{file}: the metadata '{key}' is damaged: {message}; quantize the model again")]
    Metadata { file: String, key: &'static str, message: String },
    #[error("{file}: tensor '{tensor}': {source}")]
    Layout { file: String, tensor: String, source: LayoutError },
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
}

/// What the metadata of such a file says besides the layouts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// What the file was made from.
    pub source: String,
    /// SHA-256 of that, in hex; empty if it was not computed.
    pub source_sha256: String,
    /// The model's `config.json`.
    pub config: String,
}

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewTensor {
    /// A matrix `[rows, columns]` in a layout.
    Matrix {
        /// Uniform name.
        name: String,
        /// N
        rows: u64,
        /// K
        columns: u64,
        /// Its layout.
        layout: WeightLayout,
    },
    /// A vector of f32.
    Vector {
        /// Uniform name.
        name: String,
        /// Numbers.
        len: u64,
    },
}

/// Plans a file; the caller then writes `bytes` and the data of each tensor in order.
///
/// # Errors
/// [`HearthFileError`] for columns that do not fit a layout, sizes beyond u64, duplicate names.
pub fn plan(
    file: &str,
    origin: &Origin,
    tensors: &[NewTensor],
) -> Result<PlannedFile, HearthFileError> {
    let mut layouts = BTreeMap::new();
    let mut entries = Vec::new();
    for tensor in tensors {
        match tensor {
            NewTensor::Vector { name, len } => {
                entries.push((name.clone(), Dtype::F32, vec![*len]));
            }
            NewTensor::Matrix { name, rows, columns, layout } => {
                layout.check(*columns).map_err(|source| HearthFileError::Layout {
                    file: file.to_owned(),
                    tensor: name.clone(),
                    source,
                })?;
                let (quants, scales) = words(*layout, *columns);
                entries.push((format!("{name}.quants"), Dtype::U32, vec![*rows, quants]));
                if scales > 0 {
                    entries.push((format!("{name}.scales"), Dtype::U32, vec![*rows, scales]));
                }
                layouts.insert(name.clone(), (layout.to_string(), *columns));
            }
        }
    }
    let metadata = BTreeMap::from([
        ("hearth.version".to_owned(), VERSION.to_owned()),
        ("hearth.layouts".to_owned(), serde_json::json!(layouts).to_string()),
        ("hearth.source".to_owned(), origin.source.clone()),
        ("hearth.source_sha256".to_owned(), origin.source_sha256.clone()),
        ("config".to_owned(), origin.config.clone()),
    ]);
    Ok(plan_file(file, &metadata, entries)?)
}

/// Words of `quants` and `scales` of a row, for columns that fit the layout.
pub(crate) fn words(layout: WeightLayout, columns: u64) -> (u64, u64) {
    // Per 256 columns, word counts depend only on the multiple, so on wasm32 usize is enough for
    // every row that could be held in memory at all.
    let columns = usize::try_from(columns).unwrap_or(usize::MAX);
    (layout.quant_words(columns) as u64, layout.scale_words(columns) as u64)
}

/// Layout and columns of matrices, by name.
pub type Layouts = BTreeMap<String, (WeightLayout, u64)>;

/// The layouts of a file's matrices; `None` if the file is not one of Hearth's.
///
/// # Errors
/// [`HearthFileError`] for another version, damaged JSON, unknown layouts, columns that do not
/// fit.
pub fn layouts(
    file: &str,
    metadata: &BTreeMap<String, String>,
) -> Result<Option<Layouts>, HearthFileError> {
    let Some(version) = metadata.get("hearth.version") else {
        return Ok(None);
    };
    let file = file.to_owned();
    if version != VERSION {
        return Err(HearthFileError::Version { file, found: version.clone() });
    }
    let key = "hearth.layouts";
    let json = metadata.get(key).map_or("", String::as_str);
    let named: BTreeMap<String, (String, u64)> = serde_json::from_str(json).map_err(|error| {
        HearthFileError::Metadata { file: file.clone(), key, message: error.to_string() }
    })?;
    let mut layouts = BTreeMap::new();
    for (tensor, (layout, columns)) in named {
        let layout = layout
            .parse::<WeightLayout>()
            .and_then(|layout| layout.check(columns).map(|()| layout))
            .map_err(|source| HearthFileError::Layout {
                file: file.clone(),
                tensor: tensor.clone(),
                source,
            })?;
        layouts.insert(tensor, (layout, columns));
    }
    Ok(Some(layouts))
}
