//! What can go wrong.

use std::io;
use std::path::PathBuf;

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The folder of the page has no `index.html`.
    #[error("{}: there is no built page in this folder: {source}", .folder.display())]
    NoPage {
        /// The folder.
        folder: PathBuf,
        /// What reading its `index.html` said.
        source: io::Error,
    },
    /// A file of a model cannot be read.
    #[error("{}: cannot offer this model: {source}", .file.display())]
    Model {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log of requests cannot be written.
    #[error("{}: cannot write the log of requests: {source}", .file.display())]
    Log {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {host}, port {port} ({source}): choose another port, 0 takes any free one"
    )]
    Listen {
        /// The address.
        host: String,
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The threads of the server cannot be started.
    #[error("cannot start the server's threads: {0}")]
    Threads(io::Error),
    /// A policy or another header has a character that HTTP does not allow, from a weight host.
    #[error("'{0}' is not the origin of a host, such as https://example.org")]
    WeightHost(String),
    /// A certificate cannot be made or used.
    #[cfg(feature = "lan")]
    #[error("cannot use a certificate: {0}")]
    Certificate(String),
    /// A file with a certificate or a key cannot be used.
    #[cfg(feature = "lan")]
    #[error("{}: expected {expected} in PEM form: {found}", .file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// This machine has no address in a network.
    #[cfg(feature = "lan")]
    #[error("this machine has no address in a network: connect it to one, or name its address")]
    NoNetwork,
    /// The addresses of this machine cannot be listed.
    #[cfg(feature = "lan")]
    #[error("cannot list this machine's addresses ({0}): name one")]
    Addresses(io::Error),
}
