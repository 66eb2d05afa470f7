//! Between the page and the loader.

use serde::{Deserialize, Serialize};

use super::{Failure, ModelFile, Traffic, WeightsAs};

/// Hosts that weights may come from, redirects included, beside the page's own. The loader's policy names
/// the same ones.
pub const WEIGHT_HOSTS: [&str; 3] =
    ["https://huggingface.co", "https://*.huggingface.co", "https://*.hf.co"];

/// A model that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteModel {
    /// Names it in storage: letters, digits, dots, dashes.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// Its files.
    pub files: Vec<RemoteFile>,
}

/// A file that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// Its name, without a path.
    pub name: String,
    /// Where it is; may be relative to the page.
    pub url: String,
    /// Its bytes, if known; another size is refused.
    pub bytes: Option<u64>,
    /// Its sha256 in hex, if known.
    pub sha256: Option<String>,
}

/// From the page to the loader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToLoader {
    /// What is kept, and the space: [`FromLoader::Kept`].
    List,
    /// Fetch a model, or go on fetching it: [`FromLoader::Fetching`], then [`FromLoader::Files`] or
    /// [`FromLoader::Paused`]. Where `weights` asks for fewer bits than its floats have, a file of those is made
    /// of it and kept in its place: [`FromLoader::Shrinking`].
    Fetch {
        /// The model.
        model: RemoteModel,
        /// How weights are held.
        weights: WeightsAs,
    },
    /// Stop fetching and keep what is there: the request ends with [`FromLoader::Paused`].
    Pause {
        /// The model's key.
        key: String,
    },
    /// Stop fetching and delete what is there: the request ends with [`FromLoader::Cancelled`].
    Cancel {
        /// The model's key.
        key: String,
    },
    /// The files of a kept model: [`FromLoader::Files`], after [`FromLoader::Shrinking`] as for `Fetch`.
    Open {
        /// The model's key.
        key: String,
        /// How weights are held.
        weights: WeightsAs,
    },
    /// Keep files that the user picked; a blob rides along for every name. [`FromLoader::Fetching`], then
    /// [`FromLoader::Files`]. Of floats that get fewer bits only those are kept: [`FromLoader::Shrinking`].
    Import {
        /// The model's key.
        key: String,
        /// The model's name for people.
        name: String,
        /// The files' names.
        files: Vec<String>,
        /// How weights are held.
        weights: WeightsAs,
    },
    /// Fetch a damaged piece again: [`FromLoader::Files`].
    RefetchPiece {
        /// The model's key.
        key: String,
        /// The file's name.
        file: String,
        /// The piece, from 0.
        piece: u64,
    },
    /// Delete a kept model: [`FromLoader::Kept`].
    Delete {
        /// The model's key.
        key: String,
    },
    /// Delete every model: [`FromLoader::Kept`] with none.
    DeleteAll,
    /// Ask the browser not to clear this site's storage: [`FromLoader::Kept`].
    Persist,
}

/// From the loader to the page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromLoader {
    /// The loader listens now. Unasked.
    Ready,
    /// What the loader asked the network for. Unasked.
    Traffic(Traffic),
    /// Something the user should know; the request goes on.
    Warning {
        /// In words.
        what: String,
    },
    /// How fetching comes along, all files together.
    Fetching {
        /// The model's key.
        key: String,
        /// The file at hand.
        file: String,
        /// Bytes there.
        done: u64,
        /// Bytes in all; 0 while unknown.
        total: u64,
        /// Bytes a second, lately.
        bytes_per_second: f64,
        /// Seconds left; none while unknown.
        seconds_left: Option<f64>,
        /// The connection broke, and the next try is waited for.
        waiting: bool,
    },
    /// A smaller file is made of the model's.
    Shrinking {
        /// The model's key.
        key: String,
        /// Bits of a weight, from now on.
        bits: u32,
        /// Bytes read.
        done: u64,
        /// Bytes to read.
        total: u64,
        /// Seconds left; none while unknown.
        seconds_left: Option<f64>,
    },
    /// The model's files; a blob rides along for every one.
    Files {
        /// The model's key.
        key: String,
        /// The model's name for people.
        name: String,
        /// Names and hashes, in the order of the blobs.
        files: Vec<ModelFile>,
        /// False where they are in memory only, and gone with the tab.
        kept: bool,
    },
    /// Fetching stands still; `Fetch` goes on.
    Paused {
        /// The model's key.
        key: String,
        /// Bytes there.
        done: u64,
    },
    /// Fetching was given up and its bytes deleted.
    Cancelled,
    /// What is kept.
    Kept {
        /// The models.
        models: Vec<KeptModel>,
        /// The space.
        space: Space,
    },
    /// The request failed. The loader goes on.
    Failed(Failure),
}

impl FromLoader {
    /// Whether this is the last message of its request.
    pub fn ends(&self) -> bool {
        !matches!(
            self,
            Self::Ready
                | Self::Traffic(_)
                | Self::Warning { .. }
                | Self::Fetching { .. }
                | Self::Shrinking { .. }
        )
    }
}

/// A model in storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptModel {
    /// Names it in storage.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Its bytes when whole; 0 while unknown.
    pub total: u64,
    /// Whether every file is whole.
    pub whole: bool,
    /// Where it came from; none for imported files.
    pub remote: Option<RemoteModel>,
}

/// The site's storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Space {
    /// False where the browser gives none: nothing is kept beyond the tab.
    pub available: bool,
    /// Bytes in use.
    pub used: u64,
    /// Bytes allowed.
    pub quota: u64,
    /// Whether the browser promised not to clear it.
    pub persistent: bool,
}
