//! What the page and its worker say to each other.

use serde::{Deserialize, Serialize};

/// From the page to the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Open the GPU and say which it is.
    OpenGpu,
}

/// From the worker to the page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The worker listens now; what was sent before is lost.
    Ready,
    /// The GPU that the engine computes on.
    Gpu {
        /// The browser's name for it; may be empty.
        name: String,
    },
    /// There is no GPU to compute on.
    NoGpu {
        /// Why, in words for the user.
        reason: String,
    },
}
