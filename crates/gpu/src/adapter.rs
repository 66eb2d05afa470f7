//! Which adapter, with which limits.

use crate::GpuError;

/// How much of the adapter a device takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Profile {
    /// WebGPU's default limits and no optional feature: what every browser gives.
    Default,
    /// All that the adapter has and Hearth can use.
    #[default]
    Full,
}

/// What to open.
#[derive(Debug, Clone, Default)]
pub struct GpuOptions {
    /// Part of the adapter's name, in any case, or its number in [`list_adapters`]. Without it the
    /// fastest kind is taken: discrete, integrated, virtual, software. Ignored in the browser.
    pub adapter: Option<String>,
    /// Limits and features.
    pub profile: Profile,
}

impl GpuOptions {
    /// The given profile, and the adapter that the environment variable `HEARTH_ADAPTER` names.
    pub fn with_profile(profile: Profile) -> Self {
        Self { adapter: std::env::var("HEARTH_ADAPTER").ok().filter(|s| !s.is_empty()), profile }
    }
}

/// An adapter in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterDescription {
    /// The driver's name for the device; browsers may leave it empty.
    pub name: String,
    /// "Vulkan", "Metal", "Dx12" or "BrowserWebGpu".
    pub backend: String,
    /// Driver and version, where known.
    pub driver: String,
    /// "DiscreteGpu", "IntegratedGpu", "VirtualGpu", "Cpu" or "Other".
    pub kind: String,
}

impl AdapterDescription {
    pub(crate) fn of(info: &wgpu::AdapterInfo) -> Self {
        let name = if info.name.is_empty() {
            [info.vendor.to_string(), info.device.to_string()].join(":")
        } else {
            info.name.clone()
        };
        Self {
            name,
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            kind: format!("{:?}", info.device_type),
        }
    }
}

impl std::fmt::Display for AdapterDescription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {}", self.name, self.kind, self.backend)?;
        if !self.driver.is_empty() {
            write!(f, ", {}", self.driver)?;
        }
        write!(f, ")")
    }
}

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    wgpu::Instance::new(descriptor)
}

/// The adapters of this machine, best first. In the browser there is at most one, and it cannot
/// be listed: open it.
pub async fn list_adapters() -> Vec<AdapterDescription> {
    let all = sorted(instance()).await;
    all.iter().map(|a| AdapterDescription::of(&a.get_info())).collect()
}

async fn sorted(instance: wgpu::Instance) -> Vec<wgpu::Adapter> {
    let mut all = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
    all.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    all
}

#[cfg(target_arch = "wasm32")]
pub(crate) async fn choose(_options: &GpuOptions) -> Result<wgpu::Adapter, GpuError> {
    let request = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..Default::default()
    };
    instance().request_adapter(&request).await.map_err(|e| GpuError::NoAdapter(e.to_string()))
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) async fn choose(options: &GpuOptions) -> Result<wgpu::Adapter, GpuError> {
    let mut all = sorted(instance()).await;
    if all.is_empty() {
        return Err(GpuError::NoAdapter("no Vulkan, Metal or D3D12 adapter answered".to_owned()));
    }
    let Some(wanted) = &options.adapter else { return Ok(all.swap_remove(0)) };
    let names: Vec<String> = all.iter().map(|a| a.get_info().name).collect();
    let index = match wanted.parse::<usize>() {
        Ok(index) if index < names.len() => Some(index),
        _ => names.iter().position(|n| n.to_lowercase().contains(&wanted.to_lowercase())),
    };
    match index {
        Some(index) => Ok(all.swap_remove(index)),
        None => {
            Err(GpuError::NoSuchAdapter { wanted: wanted.clone(), available: names.join(", ") })
        }
    }
}
