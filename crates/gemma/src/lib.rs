//! Gemma 1, 2 and 3: configuration, weights, forward, backward, LoRA, optimizer, generation, memory plan.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout))]

pub mod adapter_file;
mod backward;
mod batch;
mod cache;
pub mod config;
mod dropout;
mod error;
mod flat;
mod forward;
pub mod generate;
pub mod load;
pub mod lora;
mod memory;
mod model;
pub mod plan;
pub mod schedule;
pub mod score;
pub mod snapshot;
mod table;
pub mod targets;
pub mod train;
pub mod verify;
pub mod weights;
pub mod workspace;

pub use backward::BackwardPass;
pub use batch::{Packed, Row, shared_prefix};
pub use cache::KvCache;
pub use config::Config;
pub use error::ModelError;
pub use flat::Flat;
pub use forward::Pass;
pub use load::{Embedding, LoadOptions, LoadProgress, Precision};
pub use lora::{Lora, LoraConfig, LoraLayout, Projection};
pub use model::{Model, config_and_notes, config_of};
pub use table::{Table, TableRows};
