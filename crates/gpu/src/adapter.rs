//! Selecting and describing an adapter.

use crate::GpuError;

/// Which limits and features a device is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Profile {
    /// WebGPU's default limits and no optional feature: what every browser gives.
    Default,
    /// The adapter's own limits, and the optional features that Hearth uses.
    #[default]
    Full,
}

/// Which adapter to open, and how.
#[derive(Debug, Clone, Default)]
pub struct GpuOptions {
    /// Part of the adapter's name, case-insensitive, or its index in [`list_adapters`]. `None`
    /// selects the fastest kind: discrete, then integrated, virtual, software. Ignored in the
    /// browser.
    pub adapter: Option<String>,
    /// Limits and features.
    pub profile: Profile,
    /// Most bytes of a binding, where that is to be less than the profile's: for tests of what is cut by it.
    pub max_binding: Option<u64>,
}

impl GpuOptions {
    /// The given profile, and the adapter that the environment variable `HEARTH_ADAPTER` names.
    pub fn with_profile(profile: Profile) -> Self {
        let adapter = std::env::var("HEARTH_ADAPTER").ok().filter(|s| !s.is_empty());
        Self { adapter, profile, max_binding: None }
    }
}

/// What is known of an adapter, for people.
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
        Self {
            name: info.name.clone(),
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            kind: format!("{:?}", info.device_type),
        }
    }
}

impl std::fmt::Display for AdapterDescription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = if self.name.is_empty() { "unnamed adapter" } else { &self.name };
        write!(f, "{name} ({}, {}", self.kind, self.backend)?;
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

/// Describes the adapter, and says whether it is a CPU rasterizer. wgpu does not pass on the name
/// that a browser reports, so the browser is asked here, and only here.
pub(crate) async fn describe(adapter: &wgpu::Adapter) -> (AdapterDescription, bool) {
    #[allow(unused_mut, reason = "only the browser's answer changes it")]
    let mut description = AdapterDescription::of(&adapter.get_info());
    #[cfg(target_arch = "wasm32")]
    if let Some(name) = browser::name().await {
        description.name = name;
    }
    let software = description.kind == "Cpu" || names_software(&description.name);
    (description, software)
}

/// Whether a name is that of a CPU rasterizer.
fn names_software(name: &str) -> bool {
    let name = name.to_lowercase();
    ["swiftshader", "llvmpipe", "lavapipe", "basic render"].iter().any(|n| name.contains(n))
}

/// Which adapter the browser is asked for, where it has several.
#[cfg(target_arch = "wasm32")]
const PREFERENCE: wgpu::PowerPreference = wgpu::PowerPreference::HighPerformance;

/// What the browser says about its adapter.
#[cfg(target_arch = "wasm32")]
mod browser {
    use js_sys::{Function, Promise, Reflect};
    use wasm_bindgen::{JsCast, JsValue};

    /// For example "google swiftshader"; `None` where the browser does not say.
    pub async fn name() -> Option<String> {
        let words = words().await.ok()?;
        let name = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        (!name.is_empty()).then_some(name)
    }

    async fn words() -> Result<Vec<String>, JsValue> {
        let get = |object: &JsValue, name: &str| Reflect::get(object, &name.into());
        let gpu = get(&get(&js_sys::global(), "navigator")?, "gpu")?;
        // Another preference could describe another adapter than the one that is opened.
        let options = js_sys::Object::new();
        let preference = match super::PREFERENCE {
            wgpu::PowerPreference::LowPower => "low-power".into(),
            wgpu::PowerPreference::HighPerformance => "high-performance".into(),
            wgpu::PowerPreference::None => JsValue::UNDEFINED,
        };
        Reflect::set(&options, &"powerPreference".into(), &preference)?;
        let request: Function = get(&gpu, "requestAdapter")?.dyn_into()?;
        let promise: Promise = request.call1(&gpu, &options)?.dyn_into()?;
        let adapter = wasm_bindgen_futures::JsFuture::from(promise).await?;
        let info = get(&adapter, "info")?;
        let words = ["vendor", "architecture", "device", "description"];
        Ok(words.iter().filter_map(|word| get(&info, word).ok()?.as_string()).collect())
    }
}

#[cfg(target_arch = "wasm32")]
pub(crate) async fn choose(_options: &GpuOptions) -> Result<wgpu::Adapter, GpuError> {
    let request =
        wgpu::RequestAdapterOptions { power_preference: PREFERENCE, ..Default::default() };
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

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::{AdapterDescription, names_software};
    use crate::{Gpu, GpuOptions};

    #[wasm_bindgen_test(unsupported = test)]
    fn rasterizers_are_known_by_their_names() {
        for name in ["google swiftshader", "llvmpipe (LLVM 15.0.6, 256 bits)"] {
            assert!(names_software(name), "{name}");
        }
        for name in ["", "nvidia ampere", "apple metal-3", "AMD Radeon"] {
            assert!(!names_software(name), "{name}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn an_adapter_without_a_name_is_described_without_one() {
        let description = AdapterDescription {
            name: String::new(),
            backend: "BrowserWebGpu".to_owned(),
            driver: String::new(),
            kind: "Other".to_owned(),
        };
        assert_eq!(description.to_string(), "unnamed adapter (Other, BrowserWebGpu)");
    }

    /// The tests' browser runs on SwiftShader, as do many machines without a GPU. Direct tiles are
    /// faster there, so the engine has to recognize it.
    #[wasm_bindgen_test(unsupported = pollster::test)]
    async fn a_rasterizer_is_recognized_natively_and_in_the_browser() {
        let gpu = Gpu::open(&GpuOptions::default()).await.unwrap();
        let name = gpu.adapter().name.clone();
        assert!(name.len() > 1, "{name:?}");
        let software = cfg!(target_arch = "wasm32") || gpu.adapter().kind == "Cpu";
        assert_eq!(gpu.capabilities().software, software, "{name:?}");
    }
}
