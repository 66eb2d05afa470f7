//! Device, limits, buffers, pipelines, command recording, readback and timing.
//!
//! This crate contains nothing specific to machine learning. Work is recorded as plain data into
//! [`Commands`] and handed to [`Gpu::run`], which cuts it into short submissions, so that no
//! browser watchdog fires and the page keeps drawing. Whatever waits for the GPU is `async`,
//! because a browser cannot block; natively the futures are ready after a blocking poll.

mod account;
mod adapter;
mod bindings;
mod buffer;
mod commands;
mod cut;
mod device;
mod error;
mod failure;
mod kernel;
mod pace;
mod pipelines;
mod readback;
mod submit;
#[cfg(test)]
mod tests;
mod timing;
mod wait;

pub use account::{Account, MemoryReport};
pub use adapter::{AdapterDescription, GpuOptions, Profile, list_adapters};
pub use buffer::{Buffer, Slice};
pub use commands::{Command, Commands, Constant, Dispatch, Launch, Split};
pub use device::{Capabilities, Gpu};
pub use error::GpuError;
pub use kernel::{Access, Kernel};
pub use readback::Staging;
pub use timing::Timing;
