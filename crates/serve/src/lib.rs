//! The server of the page and of models: `hearth serve`, `cargo xtask serve` and the end-to-end tests run this one.
//!
//! axum routes, tower-http sends files (ranges, ETags, precompressed files), hyper speaks HTTP/1.1. What is added here:
//! the headers that keep the user's data in the tab ([`policy`]), the list of models ([`Offer`]), a page in memory
//! ([`Page::Embedded`]), limits on what a connection may hold up ([`Timeouts`]) and, with the feature `lan`, TLS with a
//! certificate made on the spot ([`lan`]).

mod error;
mod headers;
#[cfg(feature = "lan")]
pub mod lan;
mod listen;
mod memory;
mod offer;
pub mod policy;
mod site;

pub use error::ServeError;
pub use headers::{SERVICE_WORKER, headers_of};
pub use listen::{Listen, Served, Timeouts, is_loopback, start};
pub use memory::EmbeddedFile;
pub use offer::{Offer, OfferedFile, index, key_of};
pub use site::{Page, Plan};
