//! Comparison with reference numbers in golden folders: what `hearth verify` and the tests run.
//!
//! A golden folder holds what torch, transformers and peft computed in f32 on a CPU; its format is
//! described in `docs/golden.md`. Each function takes the bytes of one file and returns one row per
//! quantity.

mod forward;
mod lora;

use std::collections::BTreeMap;

pub use forward::{forward, probabilities};
pub use lora::{lora, trajectory};
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

use crate::ModelError;

/// One compared quantity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was compared.
    pub name: String,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// ‖a − b‖₂ / ‖b‖₂.
    pub relative: f64,
    /// What the budget allows, for the measure that [`Limit`] selects.
    pub limit: f64,
    /// Whether the limit is kept.
    pub ok: bool,
}

/// The measure that a budget limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// The relative error.
    Relative(f64),
    /// The largest absolute error.
    MaxAbs(f64),
}

impl Row {
    /// Compares numbers. Any number that is not finite fails.
    pub fn compare(name: impl Into<String>, got: &[f32], want: &[f32], limit: Limit) -> Self {
        let mut row =
            Self { name: name.into(), max_abs: 0.0, relative: 0.0, limit: 0.0, ok: false };
        let (mut error, mut norm) = (0.0, 0.0);
        for (&g, &w) in got.iter().zip(want) {
            let off = f64::from(g) - f64::from(w);
            row.max_abs = row.max_abs.max(off.abs());
            error += off * off;
            norm += f64::from(w) * f64::from(w);
        }
        row.relative = (error / f64::max(norm, 1e-300)).sqrt();
        let found = match limit {
            Limit::Relative(limit) => {
                row.limit = limit;
                row.relative
            }
            Limit::MaxAbs(limit) => {
                row.limit = limit;
                row.max_abs
            }
        };
        row.ok = got.len() == want.len() && error.is_finite() && found <= row.limit;
        row
    }

    /// A boolean check as a quantity: 0 or 1 differences, none allowed.
    pub fn check(name: impl Into<String>, ok: bool) -> Self {
        let off = f64::from(u8::from(!ok));
        Self { name: name.into(), max_abs: off, relative: off, limit: 0.0, ok }
    }
}

/// Tensors and metadata of a golden file.
pub struct Tensors<'a> {
    file: SafeTensors<'a>,
    metadata: BTreeMap<String, String>,
}

impl<'a> Tensors<'a> {
    /// Reads a safetensors file.
    ///
    /// # Errors
    /// If the bytes are not such a file.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ModelError> {
        let fault =
            |e: safetensors::SafeTensorError| ModelError::Options(format!("golden file: {e}"));
        let file = SafeTensors::deserialize(bytes).map_err(fault)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(fault)?;
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { file, metadata })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.file.names().into_iter().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Shape of a tensor, if it exists.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.file.tensor(name).ok().map(|t| t.shape().to_vec())
    }

    /// A metadata value.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Numbers of an f32 tensor.
    ///
    /// # Errors
    /// If it is missing or has another type.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        self.numbers(name, Dtype::F32, f32::from_le_bytes)
    }

    /// Numbers of an int32 tensor.
    ///
    /// # Errors
    /// If it is missing or has another type.
    pub fn i32(&self, name: &str) -> Result<Vec<i32>, ModelError> {
        self.numbers(name, Dtype::I32, i32::from_le_bytes)
    }

    fn numbers<T>(
        &self,
        name: &str,
        dtype: Dtype,
        read: fn([u8; 4]) -> T,
    ) -> Result<Vec<T>, ModelError> {
        let tensor = self
            .file
            .tensor(name)
            .map_err(|e| ModelError::Options(format!("golden file: {name}: {e}")))?;
        if tensor.dtype() != dtype {
            let found = tensor.dtype();
            return Err(ModelError::Options(format!(
                "golden file: {name} is {found:?}, not {dtype:?}"
            )));
        }
        Ok(tensor.data().chunks_exact(4).map(|b| read([b[0], b[1], b[2], b[3]])).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{Limit, Row};

    #[test]
    fn a_row_fails_on_any_excess_and_on_numbers_that_are_none() {
        let compare = |got: &[f32], limit| Row::compare("x", got, &[3.0, 4.0], limit).ok;
        assert!(compare(&[3.0, 4.5], Limit::Relative(0.11)));
        assert!(!compare(&[3.0, 4.5], Limit::Relative(0.09)));
        assert!(compare(&[3.0, 4.5], Limit::MaxAbs(0.5)));
        assert!(!compare(&[3.0, 4.5], Limit::MaxAbs(0.4)));
        assert!(!compare(&[3.0, f32::NAN], Limit::MaxAbs(1e9)));
        assert!(!compare(&[3.0], Limit::MaxAbs(1e9)));
    }
}
