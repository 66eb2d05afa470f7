//! Flags that every command has.

use anyhow::Result;
use clap::{Args, ValueEnum};
use hearth_gpu::{Gpu, GpuOptions, Profile};

/// Flags that every command has.
#[derive(Args)]
pub struct Options {
    /// GPU adapter: part of its name, or its number in `hearth adapters`
    #[arg(long, global = true, env = "HEARTH_ADAPTER", value_name = "NAME")]
    adapter: Option<String>,
    /// Device limits: WebGPU's defaults, or all that the adapter has
    #[arg(long, global = true, value_enum, default_value = "full")]
    profile: Limits,
    /// Print one JSON object for machines
    #[arg(long, global = true)]
    pub json: bool,
    /// Print times and memory too
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Limits {
    Default,
    Full,
}

impl Options {
    /// Opens the GPU.
    pub async fn gpu(&self) -> Result<Gpu> {
        let profile = match self.profile {
            Limits::Default => Profile::Default,
            Limits::Full => Profile::Full,
        };
        let adapter = self.adapter.clone().filter(|name| !name.is_empty());
        Ok(Gpu::open(&GpuOptions { adapter, profile }).await?)
    }

    /// The profile as JSON has it.
    pub fn profile(&self) -> &'static str {
        match self.profile {
            Limits::Default => "default",
            Limits::Full => "full",
        }
    }
}
