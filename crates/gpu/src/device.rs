//! The open device.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crate::{
    Account, AdapterDescription, Buffer, GpuError, GpuOptions, MemoryReport, Profile, Slice,
    adapter, pipelines::Pipelines, submit::Queue,
};

/// What this device offers beyond WebGPU's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// `enable f16;` works.
    pub f16: bool,
    /// Subgroup operations work.
    pub subgroups: bool,
    /// Kernels can be timed on the device.
    pub timestamps: bool,
    /// A CPU pretends to be a GPU: tile shapes that load directly do better there.
    pub software: bool,
}

/// An open device with its pipelines and its account of memory. Cheap to clone.
#[derive(Clone)]
pub struct Gpu {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) pipelines: Mutex<Pipelines>,
    pub(crate) pending: Mutex<Queue>,
    pub(crate) readbacks: AtomicU64,
    account: Arc<Account>,
    failure: Arc<Failure>,
    adapter: AdapterDescription,
    profile: Profile,
    capabilities: Capabilities,
}

/// The first error that wgpu reported outside of any call's own result.
#[derive(Default)]
struct Failure {
    error: Mutex<Option<GpuError>>,
    lost: AtomicBool,
}

impl Failure {
    fn report(&self, error: GpuError) {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        // The loss of the device explains everything after it, so it replaces what was there.
        if slot.is_none() || matches!(error, GpuError::Lost(_)) {
            *slot = Some(error);
        }
    }
}

impl Shared {
    pub(crate) fn account_handle(&self) -> Arc<Account> {
        self.account.clone()
    }
}

impl Gpu {
    /// Opens an adapter.
    ///
    /// # Errors
    /// No adapter, none of that name, or a driver that refuses.
    pub async fn open(options: &GpuOptions) -> Result<Self, GpuError> {
        let adapter = adapter::choose(options).await?;
        let (description, software) = adapter::describe(&adapter).await;
        let (features, limits) = match options.profile {
            Profile::Default => (wgpu::Features::empty(), wgpu::Limits::default()),
            Profile::Full => {
                let useful = wgpu::Features::SHADER_F16
                    | wgpu::Features::SUBGROUP
                    | wgpu::Features::TIMESTAMP_QUERY;
                (adapter.features() & useful, adapter.limits())
            }
        };
        let mut limits = limits;
        if let Some(most) = options.max_binding {
            let binding = &mut limits.max_storage_buffer_binding_size;
            *binding = (*binding).min(most);
        }
        let request = wgpu::DeviceDescriptor {
            label: Some("hearth"),
            required_features: features,
            required_limits: limits,
            // Weights are a few large buffers; blocks sized for games would waste hundreds of MB.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&request).await.map_err(|e| {
            GpuError::NoDevice { adapter: description.to_string(), reason: e.to_string() }
        })?;

        let account = Arc::new(Account::default());
        let failure = Arc::new(Failure::default());
        watch(&device, &failure, &account);
        let capabilities = Capabilities {
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            software,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                pipelines: Mutex::new(Pipelines::default()),
                pending: Mutex::new(Queue::default()),
                device,
                queue,
                readbacks: AtomicU64::new(0),
                account,
                failure,
                adapter: description,
                profile: options.profile,
                capabilities,
            }),
        })
    }

    /// The adapter in words.
    pub fn adapter(&self) -> &AdapterDescription {
        &self.shared.adapter
    }

    /// The profile it was opened with.
    pub fn profile(&self) -> Profile {
        self.shared.profile
    }

    /// Optional features at hand.
    pub fn capabilities(&self) -> Capabilities {
        self.shared.capabilities
    }

    /// Most bytes in one storage binding, rounded down to a multiple of 256.
    pub fn max_binding(&self) -> u64 {
        let limits = self.shared.device.limits();
        limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) / 256 * 256
    }

    /// Most workgroups in one dimension of a dispatch.
    pub fn max_workgroups(&self) -> u32 {
        self.shared.device.limits().max_compute_workgroups_per_dimension
    }

    /// Most invocations in one workgroup.
    pub fn max_invocations(&self) -> u32 {
        self.shared.device.limits().max_compute_invocations_per_workgroup
    }

    /// Bytes in use, as Hearth counts them.
    pub fn account(&self) -> &Account {
        &self.shared.account
    }

    /// What wgpu's allocator reports; `None` in the browser.
    pub fn allocator_report(&self) -> Option<MemoryReport> {
        let report = self.shared.device.generate_allocator_report()?;
        Some(MemoryReport {
            allocated: report.total_allocated_bytes,
            reserved: report.total_reserved_bytes,
        })
    }

    /// Makes a storage buffer of zeros. `bytes` is rounded up to a multiple of 4, and to at least 4:
    /// empty bindings do not exist.
    ///
    /// # Errors
    /// When it is larger than a binding may be, or memory is short.
    pub fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer, GpuError> {
        self.check()?;
        let bytes = bytes.max(4).next_multiple_of(4);
        let limit = self.max_binding();
        if bytes > limit {
            return Err(GpuError::TooLarge {
                label: label.to_owned(),
                bytes,
                limit,
                what: "binding",
            });
        }
        let raw = self.shared.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let buffer = Buffer::new(raw, self.shared.account.clone());
        // Natively errors are reported before `create_buffer` returns; in the browser they
        // surface at the next await.
        self.check()?;
        Ok(buffer)
    }

    /// Makes a buffer with the given contents.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn buffer_from<T: bytemuck::NoUninit>(
        &self,
        label: &str,
        data: &[T],
    ) -> Result<Buffer, GpuError> {
        let buffer = self.buffer(label, size_of_val(data) as u64)?;
        self.write(&buffer, 0, data);
        Ok(buffer)
    }

    /// Writes host data into a range, `offset` bytes (a multiple of 4) from its start, in order with
    /// [`Gpu::run`]: commands handed over earlier still see the old contents.
    pub fn write<T: bytemuck::NoUninit>(&self, range: impl Into<Slice>, offset: u64, data: &[T]) {
        let range = range.into();
        let bytes: &[u8] = bytemuck::cast_slice(data);
        debug_assert!(offset + bytes.len() as u64 <= range.bytes);
        let (raw, at) = (range.buffer.raw(), range.offset + offset);
        let whole = bytes.len() / 4 * 4;
        self.shared.queue.write_buffer(raw, at, &bytes[..whole]);
        if whole < bytes.len() {
            let mut last = [0; 4];
            last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.shared.queue.write_buffer(raw, at + whole as u64, &last);
        }
    }

    /// Readbacks started since the device was opened: tests hold training steps to one.
    pub fn readbacks(&self) -> u64 {
        self.shared.readbacks.load(Ordering::Relaxed)
    }

    /// Whether the device is gone.
    pub fn is_lost(&self) -> bool {
        self.shared.failure.lost.load(Ordering::Relaxed)
    }

    /// Returns, once, the first error reported since the last call. A lost device stays lost.
    pub(crate) fn check(&self) -> Result<(), GpuError> {
        let mut slot = self.shared.failure.error.lock().unwrap_or_else(PoisonError::into_inner);
        let found = if self.is_lost() { slot.clone() } else { slot.take() };
        found.map_or(Ok(()), Err)
    }
}

/// Turns what wgpu would panic on into errors of the next call.
fn watch(device: &wgpu::Device, failure: &Arc<Failure>, account: &Arc<Account>) {
    let (slot, held) = (failure.clone(), account.clone());
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        slot.report(match error {
            wgpu::Error::OutOfMemory { .. } => {
                GpuError::OutOfMemory { in_use: held.in_use(), reason: error.to_string() }
            }
            other => GpuError::Invalid(other.to_string()),
        });
    }));
    let slot = failure.clone();
    device.set_device_lost_callback(move |reason, message| {
        // Dropping the device is a loss too, but nobody is left to be told.
        slot.lost.store(true, Ordering::Relaxed);
        slot.report(GpuError::Lost(format!("{reason:?}: {message}")));
    });
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({}, {:?})", self.shared.adapter, self.shared.profile)
    }
}
