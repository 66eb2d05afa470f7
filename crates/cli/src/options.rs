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
    /// Device limits: WebGPU's defaults, or the adapter's own
    #[arg(long, global = true, value_enum, default_value = "full")]
    profile: Limits,
    /// GPU memory in GB; a model that needs more is refused before it is loaded [default: on a
    /// CPU adapter the machine's free memory, otherwise no limit]
    #[arg(long, global = true, env = "HEARTH_GPU_MEMORY", value_name = "GB")]
    gpu_memory: Option<f64>,
    /// Print one JSON object for other programs
    #[arg(long, global = true)]
    pub json: bool,
    /// Also print times and memory
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
        Ok(Gpu::open(&GpuOptions { adapter, profile, max_binding: None }).await?)
    }

    /// Bytes that a model may take on the device, where that is known: drivers do not tell WebGPU.
    pub fn available(&self, gpu: &Gpu) -> Option<u64> {
        match self.gpu_memory {
            Some(gb) => Some((gb * 1e9) as u64),
            None if gpu.capabilities().software => free_memory(),
            None => None,
        }
    }

    /// The profile as JSON has it.
    pub fn profile(&self) -> &'static str {
        match self.profile {
            Limits::Default => "default",
            Limits::Full => "full",
        }
    }
}

/// Bytes that this machine can still give to programs; Linux tells.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| 1024 * kilobytes)
}
