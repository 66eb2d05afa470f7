//! LoRA adapters as PEFT stores them: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! y = x Wᵀ + s · (x Aᵀ) Bᵀ with s = alpha / r, or alpha / √r under rsLoRA (`LoraConfig` and
//! `tuners/lora/layer.py` in PEFT). Tensor names are
//! `base_model.model.model.layers.N.self_attn.q_proj.lora_A.weight` `[r, in]` and `…lora_B.weight`
//! `[out, r]`.

mod config;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use safetensors::tensor::{TensorView, serialize};
use thiserror::Error;

use crate::names::{from_safetensors, matrix_to_gguf};
use crate::recognize::{Content, WrongFile, content_of};
use crate::safetensors::{Header, SafetensorsError, TensorInfo};
use crate::source::{ByteSource, SourceError, read_vec};

/// Name of the file with the settings.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// Name of the file with the tensors.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";

const PREFIX: &str = "base_model.model.";
/// Largest rank that is accepted; useful ones are at most about 256.
const LARGEST_RANK: u64 = 4096;

/// Why an adapter could not be read or written.
#[allow(missing_docs)] // The messages say it.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PeftError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    #[error("{file}: damaged JSON: {message}; export the adapter again")]
    Json { file: String, message: String },
    #[error(
        "{file}: '{key}' is {found}, expected {expected}; export the adapter with that setting"
    )]
    Setting { file: String, key: &'static str, expected: &'static str, found: String },
    #[error(
        "{file}: tensor '{tensor}' is not a lora_A or lora_B of a q, k, v, o, gate, up or down projection; train a \
         LoRA adapter of projections only"
    )]
    Unknown { file: String, tensor: String },
    #[error(
        "{file}: tensor '{tensor}' is not a lora_A or lora_B of a q, k, v, o, gate, up or down projection: it is {what}; \
         train a LoRA adapter of projections only"
    )]
    NotPlain { file: String, tensor: String, what: &'static str },
    #[error(
        "{file}: {} and the tensors do not belong together: '{target}' is {}; choose both files of one adapter",
        "'target_modules'",
        if *listed { "listed, but no tensor adapts it" } else { "adapted by tensors, but not listed" }
    )]
    Targets { file: String, target: String, listed: bool },
    #[error(transparent)]
    Wrong(#[from] WrongFile),
    #[error(
        "{file}: '{module}' has no {missing} of its pair; the file is damaged, export the adapter again"
    )]
    HalfPair { file: String, module: String, missing: &'static str },
    #[error(
        "{file}: tensor '{tensor}' has shape {found:?}, expected {expected}; choose both files of one adapter"
    )]
    Shape { file: String, tensor: String, expected: String, found: Vec<u64> },
    #[error(
        "{file}: tensor '{tensor}' is of type {found}, expected F32, F16 or BF16; export the adapter in one of these"
    )]
    Dtype { file: String, tensor: String, found: String },
    #[error(
        "{file}: tensor '{tensor}' has {value} in row {row}; the training diverged or the file is damaged: train it again, or take another adapter"
    )]
    NotFinite { file: String, tensor: String, row: usize, value: f32 },
    #[error(
        "the adapter has no matrices, expected a lora_A and a lora_B for each projection; export it again"
    )]
    Empty,
    #[error("writing the tensors: {0}")]
    Write(String),
}

/// The two factors of one matrix's update.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraPair {
    /// Columns of the matrix: `in`.
    pub inputs: usize,
    /// Rows of the matrix: `out`.
    pub outputs: usize,
    /// `[r, in]`
    pub a: Vec<f32>,
    /// `[out, r]`
    pub b: Vec<f32>,
}

/// The model that an adapter belongs to, as PEFT has to find it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Base {
    /// Its name on the hub, or a folder; empty if there is none that PEFT could find.
    pub name: String,
    /// The transformers class whose module names it has: `Gemma3ForConditionalGeneration`; empty if it is not
    /// known.
    pub class: String,
    /// The prefix of `layers.0`: `model.`, or `model.language_model.` in a model with vision.
    pub prefix: String,
}

impl Base {
    /// A text model without a name.
    pub fn text() -> Self {
        Self { prefix: TEXT_PREFIX.to_owned(), ..Self::default() }
    }
}

/// The prefix of the layers in a text-only model.
const TEXT_PREFIX: &str = "model.";

/// A LoRA adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// r
    pub rank: usize,
    /// PEFT's `lora_alpha`.
    pub alpha: f32,
    /// Whether the scale is alpha / √r.
    pub rslora: bool,
    /// Dropout of x before A while training, 0..1.
    pub dropout: f32,
    /// The model that was adapted.
    pub base: Base,
    /// Adapted projections: `q_proj`, …
    pub targets: BTreeSet<String>,
    /// By uniform module name, without `.weight`: `model.layers.0.self_attn.q_proj`.
    pub tensors: BTreeMap<String, LoraPair>,
}

/// Which half of a pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Half {
    A,
    B,
}

impl Adapter {
    /// s: alpha / r, or alpha / √r under rsLoRA.
    pub fn scaling(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// Reads an adapter from its two files.
    ///
    /// # Errors
    /// [`PeftError`] names what is damaged, missing, misshapen or not plain LoRA (DoRA, trained
    /// biases, rank patterns).
    pub async fn read(
        config: &dyn ByteSource,
        weights: &dyn ByteSource,
    ) -> Result<Self, PeftError> {
        let (mut adapter, listed) = config::read(config).await?;
        if let Content::Wrong(wrong) = content_of(weights).await? {
            return Err(wrong.into());
        }
        let header = Header::read(weights).await?;
        let mut halves = BTreeMap::new();
        for info in header.tensors() {
            let (module, half, prefix) =
                module_of(&info.name).ok_or_else(|| unknown(header.file(), &info.name))?;
            adapter.base.prefix = prefix;
            if halves.insert((module, half), info).is_some() {
                return Err(shape_error(&header, info, "only one tensor of this name"));
            }
        }
        let modules: BTreeSet<String> = halves.keys().map(|(module, _)| module.clone()).collect();
        if modules.is_empty() {
            return Err(PeftError::Empty);
        }
        let rank = adapter.rank as u64;
        for module in modules {
            let half = |half, missing| {
                let info: Option<&&TensorInfo> = halves.get(&(module.clone(), half));
                info.copied().ok_or_else(|| PeftError::HalfPair {
                    file: header.file().to_owned(),
                    module: module.clone(),
                    missing,
                })
            };
            let (a, b) = (half(Half::A, "lora_A")?, half(Half::B, "lora_B")?);
            let inputs = match a.shape[..] {
                [r, inputs] if r == rank && inputs > 0 => inputs as usize,
                _ => return Err(shape_error(&header, a, &format!("[{rank}, in]"))),
            };
            let outputs = match b.shape[..] {
                [outputs, r] if r == rank && outputs > 0 => outputs as usize,
                _ => return Err(shape_error(&header, b, &format!("[out, {rank}]"))),
            };
            let pair = LoraPair {
                inputs,
                outputs,
                a: read_matrix(weights, a).await?,
                b: read_matrix(weights, b).await?,
            };
            if let Some((_, target)) = module.rsplit_once('.') {
                adapter.targets.insert(target.to_owned());
            }
            adapter.tensors.insert(module, pair);
        }
        if let Some(listed) = listed {
            adapter.check_targets(config.name(), &listed)?;
        }
        Ok(adapter)
    }

    /// Compares the projections that `target_modules` lists with those that have tensors.
    fn check_targets(&self, file: &str, listed: &BTreeSet<String>) -> Result<(), PeftError> {
        let other = listed.symmetric_difference(&self.targets).next();
        let Some(other) = other else { return Ok(()) };
        Err(PeftError::Targets {
            file: file.to_owned(),
            target: other.clone(),
            listed: listed.contains(other),
        })
    }

    /// The text of `adapter_config.json`.
    pub fn config_json(&self) -> String {
        config::write(self)
    }

    /// The bytes of `adapter_model.safetensors`, in f32.
    ///
    /// # Errors
    /// [`PeftError`] if there is no matrix, or one does not have the size it states.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, PeftError> {
        self.check()?;
        let mut named = Vec::new();
        for (module, pair) in &self.tensors {
            let bytes = |values: &[f32]| bytemuck::cast_slice::<f32, u8>(values).to_vec();
            let inner = module.strip_prefix(TEXT_PREFIX).unwrap_or(module);
            let name = |half| format!("{PREFIX}{}{inner}.{half}.weight", self.base.prefix);
            named.push((name("lora_A"), vec![self.rank, pair.inputs], bytes(&pair.a)));
            named.push((name("lora_B"), vec![pair.outputs, self.rank], bytes(&pair.b)));
        }
        let write_error = |error: safetensors::SafeTensorError| PeftError::Write(error.to_string());
        let mut views = Vec::with_capacity(named.len());
        for (name, shape, bytes) in &named {
            let view = TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
            views.push((name.as_str(), view.map_err(write_error)?));
        }
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        serialize(views, Some(metadata)).map_err(write_error)
    }

    /// Checks that every matrix has the size it states and is one that LoRA adapts.
    pub(crate) fn check(&self) -> Result<(), PeftError> {
        if self.tensors.is_empty() || self.rank == 0 {
            return Err(PeftError::Empty);
        }
        for (module, pair) in &self.tensors {
            let file = || "the adapter in memory".to_owned();
            if matrix_to_gguf(module).is_none() {
                return Err(PeftError::Unknown { file: file(), tensor: module.clone() });
            }
            for (values, rows, columns) in
                [(&pair.a, self.rank, pair.inputs), (&pair.b, pair.outputs, self.rank)]
            {
                if rows.checked_mul(columns) != Some(values.len()) || values.is_empty() {
                    return Err(PeftError::Shape {
                        file: file(),
                        tensor: module.clone(),
                        expected: format!("[{rows}, {columns}]"),
                        found: vec![values.len() as u64],
                    });
                }
            }
        }
        Ok(())
    }
}

/// Uniform module and half of a tensor's name, and the prefix of its layers, if the tensor belongs to an adapter.
/// Adapters saved by name (`lora_A.default.weight`) are read too.
fn module_of(name: &str) -> Option<(String, Half, String)> {
    // A wrapping of the whole model may precede PEFT's own.
    let (_, name) = name.strip_suffix(".weight")?.split_once(PREFIX)?;
    let name = name.strip_suffix(".default").unwrap_or(name);
    let (named, half) = match name.strip_suffix(".lora_A") {
        Some(module) => (module, Half::A),
        None => (name.strip_suffix(".lora_B")?, Half::B),
    };
    let module = from_safetensors(named);
    matrix_to_gguf(&module)?;
    let front = named.split_once("layers.").map_or(TEXT_PREFIX, |(front, _)| front);
    let prefix = if front.is_empty() { TEXT_PREFIX } else { front };
    Some((module, half, prefix.to_owned()))
}

/// The error for a tensor that is not a factor of one of the seven projections; it says what the tensor is.
fn unknown(file: &str, tensor: &str) -> PeftError {
    let what = [
        ("lora_magnitude_vector", "DoRA's, which Hearth does not read"),
        ("lora_embedding_", "a trained embedding, which Hearth does not read"),
        ("modules_to_save", "a layer that was trained along, which Hearth does not read"),
        ("embed_tokens", "a trained embedding, which Hearth does not read"),
        ("lm_head", "a trained output head, which Hearth does not read"),
        ("vision_", "of the vision part, which Hearth does not have"),
    ];
    let what = what.iter().find(|(part, _)| tensor.contains(part)).map_or("", |(_, what)| what);
    let (file, tensor) = (file.to_owned(), tensor.to_owned());
    match what {
        "" => PeftError::Unknown { file, tensor },
        what => PeftError::NotPlain { file, tensor, what },
    }
}

async fn read_matrix(source: &dyn ByteSource, info: &TensorInfo) -> Result<Vec<f32>, PeftError> {
    let Some(kind) = info.dtype.float() else {
        return Err(PeftError::Dtype {
            file: source.name().to_owned(),
            tensor: info.name.clone(),
            found: info.dtype.to_string(),
        });
    };
    let bytes = read_vec(source, info.offset, info.bytes).await?;
    let mut values = vec![0.0; bytes.len() / kind.bytes()];
    kind.widen(&bytes, &mut values);
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(i) => Err(PeftError::NotFinite {
            file: source.name().to_owned(),
            tensor: info.name.clone(),
            row: i / info.shape[1] as usize,
            value: values[i],
        }),
    }
}

fn shape_error(header: &Header, info: &TensorInfo, expected: &str) -> PeftError {
    PeftError::Shape {
        file: header.file().to_owned(),
        tensor: info.name.clone(),
        expected: expected.to_owned(),
        found: info.shape.clone(),
    }
}
