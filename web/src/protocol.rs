//! What page, engine worker and loader worker say to each other.
//!
//! A message is an [`Envelope`] as JSON. Files and bytes ride along as `Blob`s, in the order that the message
//! names. The sender of a request chooses its id; every answer carries it. A request is answered by any
//! number of messages of which [`FromEngine::ends`] is false, and one of which it is true.

mod data;
mod engine;
mod loader;
mod on_page;
mod results;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

pub use data::{
    ClassifierSummary, DataChoices, DataPreview, DataReport, FilePreview, FilledPrompt, GpuSummary,
    InUse, ModelFile, ModelSummary, PieceHashes, PlanReport, TimePlan, WeightsAs,
};
pub use engine::{BadPiece, Failure, FromEngine, ToEngine, Writing};
pub use hearth_classifier::prepare::SplitChoice;
pub use loader::{FromLoader, KeptModel, RemoteFile, RemoteModel, Space, ToLoader, WEIGHT_HOSTS};
pub use on_page::on_page;
pub use results::{
    Classified, Evaluated, RunRecord, RunState, ScoredRow, SelfTestRow, StoredRun, TrainProgress,
};

/// The build of this program. Page and worker of different builds must not talk: the page reloads.
pub const BUILD: &str = env!("HEARTH_BUILD");

/// Id of messages that answer no request.
pub const UNASKED: u64 = 0;

/// Bytes of a piece that has a hash of its own.
pub const PIECE: u64 = 8 << 20;

/// What a window or worker asked the network for, as its browser records it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Traffic {
    /// Requests that were made.
    pub requests: u32,
    /// Attempts that the policy stopped.
    pub blocked: u32,
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// The sender's [`BUILD`].
    pub build: String,
    /// The request that this is or answers.
    pub id: u64,
    /// The message.
    pub body: T,
}

impl<T> Envelope<T> {
    /// A message of this build.
    pub fn new(id: u64, body: T) -> Self {
        Self { build: BUILD.to_owned(), id, body }
    }
}

/// A message that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// Page and worker are of different builds.
    #[error("the page is of build {here}, its worker of build {there}: reload the page")]
    OtherBuild {
        /// The reader's build.
        here: String,
        /// The sender's.
        there: String,
    },
    /// No message at all.
    #[error("not a message: {0}")]
    NotAMessage(String),
}

/// The text of a message.
///
/// # Errors
/// A number that JSON has no word for.
pub fn to_text<T: Serialize>(message: &Envelope<T>) -> Result<String, ProtocolError> {
    serde_json::to_string(message).map_err(|e| ProtocolError::NotAMessage(e.to_string()))
}

/// Reads a message; the build is looked at first, since another build's messages may look different.
///
/// # Errors
/// Another build, or no message.
pub fn from_text<T: DeserializeOwned>(text: &str) -> Result<Envelope<T>, ProtocolError> {
    #[derive(Deserialize)]
    struct Build {
        build: String,
    }
    let fault = |e: serde_json::Error| ProtocolError::NotAMessage(e.to_string());
    let there = serde_json::from_str::<Build>(text).map_err(fault)?.build;
    if there != BUILD {
        return Err(ProtocolError::OtherBuild { here: BUILD.to_owned(), there });
    }
    serde_json::from_str(text).map_err(fault)
}

#[cfg(test)]
mod tests;
