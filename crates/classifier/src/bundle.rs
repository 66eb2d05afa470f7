//! A trained classifier in one file: a safetensors file whose tensors are three files as bytes, the
//! adapter's own two and `classifier.json` with the rest; its one entry of metadata,
//! `hearth-classifier`, is the format's version and a sha256 over all three. The same classifier always
//! gives the same bytes.
//!
//! Bundles are untrusted: sizes are limited, every field is checked, and texts are never interpreted.

use std::collections::HashMap;

use hearth_formats::peft::{Adapter, CONFIG_FILE, PeftError, WEIGHTS_FILE};
use hearth_formats::source::MemorySource;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::columns::MAX_CLASSES;
use crate::metrics::{Evaluation, predict};
use crate::origin::Origin;
use crate::prompt::PromptSpec;
use crate::recipe::Recipe;

/// A bundle that cannot be written or read.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum BundleError {
    /// Not a bundle.
    #[error("not a Hearth classifier: {0}; choose a file that ends with .hearth")]
    NotABundle(String),
    /// A newer or unknown format.
    #[error("this classifier has format {found}; this program reads formats 1 and 2: update it")]
    Version {
        /// The version in the file.
        found: String,
    },
    /// The checksum differs.
    #[error("this classifier is damaged: its checksum does not match; copy or download it again")]
    Damaged,
    /// A field has a value that cannot work.
    #[error("classifier field {field}: {found}; expected {expected}: export the classifier again")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// Too large.
    #[error(
        "a classifier file of {bytes} bytes; at most {MAX_BYTES} are read: choose a file that ends with .hearth"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// Version of a file that says where its classifier comes from.
pub const VERSION: &str = "2";
/// Version of a file that does not, as earlier programs wrote and read it.
const WITHOUT_ORIGIN: &str = "1";
/// An adapter of rank 256 for Gemma 2B has 0.6 GB in f32.
pub const MAX_BYTES: usize = 1 << 30;
const FORMAT: &str = "hearth-classifier";
const CLASSIFIER: &str = "classifier.json";
const ADAPTER: &str = "adapter_model.safetensors";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const MAX_TEXT: usize = 20_000;

/// Which model the adapter belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseModel {
    /// Its name, as told by its file.
    pub name: String,
    /// Its architecture, such as `gemma3`.
    pub architecture: String,
    /// The checkpoint's identity, a sha256 in hex.
    pub sha256: Option<String>,
    /// Layers.
    pub layers: usize,
    /// Width.
    pub hidden: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
}

/// Everything about a classifier except the adapter's weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classifier {
    /// Name given by the user.
    pub name: String,
    /// Class names, in the order of the probabilities.
    pub classes: Vec<String>,
    /// The positive class.
    pub positive: Option<usize>,
    /// The token of each class, as a check that the tokenizer is the same.
    pub class_tokens: Vec<u32>,
    /// The prompt.
    pub prompt: PromptSpec,
    /// With two classes, the positive one is predicted at this probability and above.
    pub threshold: f64,
    /// Class logits are divided by this before the softmax.
    pub temperature: f64,
    /// The model that the adapter belongs to.
    pub base: BaseModel,
    /// How it was trained.
    pub recipe: Recipe,
    /// How good it was on the test rows, where there were any.
    pub evaluation: Option<Evaluation>,
    /// How its texts were read, which it has seen, and which rows chose the threshold.
    #[serde(default, skip_serializing_if = "Origin::is_empty")]
    pub origin: Origin,
}

/// A classifier and its adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// Labels, prompt, threshold, and so on.
    pub classifier: Classifier,
    /// A PEFT `adapter_model.safetensors`, byte for byte.
    pub adapter: Vec<u8>,
    /// A PEFT `adapter_config.json`.
    pub adapter_config: String,
}

impl Classifier {
    /// Probabilities `[C]` of a row's class logits `[C]`.
    pub fn probabilities(&self, logits: &[f64]) -> Vec<f64> {
        crate::calibration::softmax(logits, logits.len().max(1), self.temperature)
    }

    /// The class of a row's probabilities `[C]`.
    pub fn predict(&self, probabilities: &[f64]) -> usize {
        predict(probabilities, self.positive, self.threshold)
    }

    /// Refuses what cannot be used.
    pub fn check(&self) -> Result<(), BundleError> {
        let field = |field, ok: bool, found: &dyn std::fmt::Display, expected| {
            if ok {
                Ok(())
            } else {
                Err(BundleError::Field { field, found: found.to_string(), expected })
            }
        };
        let classes = self.classes.len();
        field("classes", (2..=MAX_CLASSES).contains(&classes), &classes, "2 to 1000 classes")?;
        let repeated = (1..classes).find(|&i| self.classes[..i].contains(&self.classes[i]));
        field("classes", repeated.is_none(), &"a name twice", "distinct names")?;
        let tokens = &self.class_tokens;
        let distinct = (1..tokens.len()).all(|i| !tokens[..i].contains(&tokens[i]));
        field(
            "class_tokens",
            tokens.len() == classes && distinct,
            &tokens.len(),
            "one token for each class, all different",
        )?;
        let in_vocabulary = tokens.iter().all(|&t| (t as usize) < self.base.vocabulary);
        field(
            "class_tokens",
            in_vocabulary,
            &"a token beyond the vocabulary",
            "tokens of the base model",
        )?;
        let positive = self.positive.unwrap_or(0);
        field("positive", positive < classes, &positive, "the index of a class")?;
        field(
            "positive",
            classes != 2 || self.positive.is_some(),
            &"none",
            "a positive class, as there are two",
        )?;
        field("threshold", (0.0..=1.0).contains(&self.threshold), &self.threshold, "0 to 1")?;
        field(
            "temperature",
            (1e-3..=1e3).contains(&self.temperature),
            &self.temperature,
            "0.001 to 1000",
        )?;
        let base = &self.base;
        field("base.layers", (1..=1000).contains(&base.layers), &base.layers, "1 to 1000")?;
        field("base.hidden", (1..=1 << 20).contains(&base.hidden), &base.hidden, "1 to 1048576")?;
        field(
            "base.vocabulary",
            (1..=1 << 24).contains(&base.vocabulary),
            &base.vocabulary,
            "1 to 16777216",
        )?;
        let hex = |h: &String| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit());
        field("base.sha256", base.sha256.as_ref().is_none_or(hex), &"no sha256", "64 hex digits")?;
        let prompt = &self.prompt;
        field(
            "prompt.max_tokens",
            (1..=1 << 20).contains(&prompt.max_tokens),
            &prompt.max_tokens,
            "1 to 1048576",
        )?;
        let words = prompt.words.iter().flat_map(|w| [&w.class, &w.word]);
        let examples = prompt.examples.iter().flat_map(|e| [&e.class, &e.text]);
        let names =
            [&self.name, &base.name, &base.architecture, &prompt.question, &prompt.separator];
        let longest =
            self.classes.iter().chain(words).chain(examples).chain(names).map(String::len).max();
        field(
            "texts",
            longest <= Some(MAX_TEXT),
            &longest.unwrap_or(0),
            "at most 20000 bytes each",
        )?;
        self.recipe.check().map_err(|e| BundleError::Field {
            field: e.field,
            found: e.found,
            expected: e.expected,
        })?;
        if let Some((field, found, expected)) = self.origin.fault() {
            return Err(BundleError::Field { field, found, expected });
        }
        self.check_evaluation()
    }

    /// The report indexes parts of the evaluation by class, so their sizes must match.
    fn check_evaluation(&self) -> Result<(), BundleError> {
        let Some(e) = &self.evaluation else { return Ok(()) };
        let classes = self.classes.len();
        let square =
            e.confusion.len() == classes && e.confusion.iter().all(|row| row.len() == classes);
        let fits = square
            && e.classes == self.classes
            && e.positive == self.positive
            && e.per_class.len() == classes
            && e.score_histogram.len() == classes
            && e.score_histogram.iter().all(|bars| bars.len() <= 1000)
            && e.confusion.iter().flatten().all(|&n| (n as u64) < 1 << 48);
        let expected = "the figures of these classes";
        if fits {
            Ok(())
        } else {
            Err(BundleError::Field { field: "evaluation", found: "other classes".into(), expected })
        }
    }
}

impl Bundle {
    /// The adapter.
    ///
    /// # Errors
    /// One that is damaged or of another kind.
    pub async fn read_adapter(&self) -> Result<Adapter, PeftError> {
        let config = MemorySource::new(CONFIG_FILE, self.adapter_config.as_bytes());
        let weights = MemorySource::new(WEIGHTS_FILE, self.adapter.as_slice());
        Adapter::read(&config, &weights).await
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        self.classifier.check()?;
        let json = serde_json::to_vec(&self.classifier).map_err(not)?;
        let version = if self.classifier.origin.is_empty() { WITHOUT_ORIGIN } else { VERSION };
        let entry = format!("{version} {}", checksum(&json, &self.adapter, &self.adapter_config));
        let view = |bytes| TensorView::new(Dtype::U8, vec![<[u8]>::len(bytes)], bytes).map_err(not);
        let tensors = [
            (CLASSIFIER, view(&json)?),
            (ADAPTER, view(&self.adapter)?),
            (ADAPTER_CONFIG, view(self.adapter_config.as_bytes())?),
        ];
        let metadata = HashMap::from([(FORMAT.to_string(), entry)]);
        let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(not)?;
        if bytes.len() > MAX_BYTES {
            return Err(BundleError::TooLarge { bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// Reads and checks a file's bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_BYTES {
            return Err(BundleError::TooLarge { bytes: bytes.len() });
        }
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(not)?;
        let entry = header.metadata().as_ref().and_then(|m| m.get(FORMAT));
        let entry = entry.ok_or_else(|| not(format!("no {FORMAT} in its metadata")))?;
        let (version, expected) = entry.split_once(' ').unwrap_or((entry, ""));
        if ![VERSION, WITHOUT_ORIGIN].contains(&version) {
            return Err(BundleError::Version { found: version.chars().take(20).collect() });
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(not)?;
        let file = |name: &str| match tensors.tensor(name) {
            Ok(tensor) if tensor.dtype() == Dtype::U8 => Ok(tensor.data().to_vec()),
            _ => Err(not(format!("no {name}"))),
        };
        let json = file(CLASSIFIER)?;
        let config = String::from_utf8(file(ADAPTER_CONFIG)?).map_err(|_| BundleError::Damaged)?;
        let adapter = file(ADAPTER)?;
        if checksum(&json, &adapter, &config) != expected {
            return Err(BundleError::Damaged);
        }
        let classifier: Classifier = serde_json::from_slice(&json).map_err(not)?;
        let bundle = Self { classifier, adapter, adapter_config: config };
        bundle.classifier.check()?;
        Ok(bundle)
    }
}

/// Over the three files, each behind its length, in hex.
fn checksum(json: &[u8], adapter: &[u8], config: &str) -> String {
    let mut hash = Sha256::new();
    for part in [json, adapter, config.as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

fn not(why: impl std::fmt::Display) -> BundleError {
    BundleError::NotABundle(why.to_string())
}

#[cfg(test)]
#[path = "bundle/tests.rs"]
mod tests;
