//! Device, limits, buffers, pipelines, command recording, readback and timing.
//!
//! Nothing here knows a word of machine learning. Work is recorded as plain data into
//! [`Commands`] and handed to [`Gpu::run`], which cuts it into short submissions, so that no
//! browser watchdog fires and the page keeps drawing. Whatever waits for the GPU is `async`,
//! because a browser cannot block; natively the futures are ready after a blocking poll.

mod account;
mod adapter;
mod buffer;
mod commands;
mod device;
mod error;
mod kernel;
mod pace;
mod pipelines;
mod readback;
mod signal;
mod submit;
mod timing;

pub use account::{Account, MemoryReport};
pub use adapter::{AdapterDescription, GpuOptions, Profile, list_adapters};
pub use buffer::{Buffer, Slice};
pub use commands::{Command, Commands, Constant, Dispatch};
pub use device::{Capabilities, Gpu};
pub use error::GpuError;
pub use kernel::{Access, Kernel};
pub use readback::Staging;
pub use timing::Timing;
