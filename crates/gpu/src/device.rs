//! The open device.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    Account, AdapterDescription, Buffer, GpuError, GpuOptions, MemoryReport, Profile, Slice,
    Timing, adapter,
    buffer::{Freed, Owned},
    failure::Failure,
    pipelines::Pipelines,
    submit::Queue,
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
    /// The adapter is a CPU rasterizer, where tile shapes that load directly are faster.
    pub software: bool,
}

/// An open device with its pipelines and its account of memory. Cheap to clone; natively, threads
/// may share it.
#[derive(Clone)]
pub struct Gpu {
    pub(crate) shared: Arc<Shared>,
    outline: bool,
}

/// Larger buffers of an outline only stand in.
const OUTLINE_MOST: u64 = 1 << 20;

pub(crate) struct Shared {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) pipelines: Mutex<Pipelines>,
    pub(crate) pending: Mutex<Queue>,
    pub(crate) readbacks: AtomicU64,
    pub(crate) failure: Arc<Failure>,
    pub(crate) profile_of: Mutex<Option<Vec<Timing>>>,
    account: Arc<Account>,
    freed: Arc<Freed>,
    adapter: AdapterDescription,
    profile: Profile,
    capabilities: Capabilities,
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
        let failure = Failure::watch(&device, &account);
        let freed = Arc::new(Freed::default());
        let capabilities = Capabilities {
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            software,
        };
        Ok(Self {
            outline: false,
            shared: Arc::new(Shared {
                pipelines: Mutex::new(Pipelines::new(freed.clone())),
                pending: Mutex::new(Queue::new(software)),
                device,
                queue,
                readbacks: AtomicU64::new(0),
                failure,
                profile_of: Mutex::new(None),
                account,
                freed,
                adapter: description,
                profile: options.profile,
                capabilities,
            }),
        })
    }

    /// The same device for recording what is never run: buffers over 1 MiB take no memory, and what is
    /// written to them is dropped. So the step of a model that fits no device here can be counted.
    /// Running commands that bind such a buffer is an error.
    pub fn outline(&self) -> Self {
        Self { shared: self.shared.clone(), outline: true }
    }

    /// Whether this is an [`outline`](Self::outline).
    pub fn is_outline(&self) -> bool {
        self.outline
    }

    /// What is known of the adapter.
    pub fn adapter(&self) -> &AdapterDescription {
        &self.shared.adapter
    }

    /// The profile it was opened with.
    pub fn profile(&self) -> Profile {
        self.shared.profile
    }

    /// Optional features that are available.
    pub fn capabilities(&self) -> Capabilities {
        self.shared.capabilities
    }

    /// Most bytes in one storage binding, rounded down to a multiple of 256.
    pub fn max_binding(&self) -> u64 {
        let limits = self.shared.device.limits();
        limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) / 256 * 256
    }

    /// The device's limits by WebGPU's names, those that compute shaders meet.
    pub fn limits(&self) -> Vec<(&'static str, u64)> {
        let limits = self.shared.device.limits();
        vec![
            ("maxBufferSize", limits.max_buffer_size),
            ("maxStorageBufferBindingSize", limits.max_storage_buffer_binding_size),
            ("maxStorageBuffersPerShaderStage", limits.max_storage_buffers_per_shader_stage.into()),
            ("maxBindGroups", limits.max_bind_groups.into()),
            ("maxComputeWorkgroupStorageSize", limits.max_compute_workgroup_storage_size.into()),
            (
                "maxComputeInvocationsPerWorkgroup",
                limits.max_compute_invocations_per_workgroup.into(),
            ),
            ("maxComputeWorkgroupSizeX", limits.max_compute_workgroup_size_x.into()),
            ("maxComputeWorkgroupSizeY", limits.max_compute_workgroup_size_y.into()),
            ("maxComputeWorkgroupSizeZ", limits.max_compute_workgroup_size_z.into()),
            (
                "maxComputeWorkgroupsPerDimension",
                limits.max_compute_workgroups_per_dimension.into(),
            ),
            ("minStorageBufferOffsetAlignment", limits.min_storage_buffer_offset_alignment.into()),
        ]
    }

    /// Most workgroups in one dimension of a dispatch.
    pub fn max_workgroups(&self) -> u32 {
        self.shared.device.limits().max_compute_workgroups_per_dimension
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
            size: if self.outline && bytes > OUTLINE_MOST { 4 } else { bytes },
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let (owned, freed) = (self.owned(raw), self.shared.freed.clone());
        let buffer = Buffer::standing_for(bytes, owned, freed);
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
        if range.buffer.stands_in() {
            return;
        }
        let (raw, at) = (range.buffer.raw(), range.offset + offset);
        let whole = bytes.len() / 4 * 4;
        self.shared.queue.write_buffer(raw, at, &bytes[..whole]);
        if whole < bytes.len() {
            let mut last = [0; 4];
            last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.shared.queue.write_buffer(raw, at + whole as u64, &last);
        }
    }

    /// Number of readbacks started since the device was opened. Tests check that a training step
    /// starts one.
    pub fn readbacks(&self) -> u64 {
        self.shared.readbacks.load(Ordering::Relaxed)
    }

    /// Destroys the device and all its memory. Every call that waits, and every later one, gets
    /// [`GpuError::Lost`].
    pub fn destroy(&self) {
        self.shared.device.destroy();
        self.lose("it was destroyed");
    }

    /// Whether the device is lost.
    pub fn is_lost(&self) -> bool {
        self.shared.failure.is_lost()
    }

    /// Returns, once, the first error reported since the last call. A lost device stays lost.
    pub(crate) fn check(&self) -> Result<(), GpuError> {
        self.shared.failure.check().map_err(|error| self.explained(error))
    }

    /// Notes that the device is lost, unless that is known with a better reason, and gives the error.
    pub(crate) fn lose(&self, reason: &str) -> GpuError {
        self.shared.failure.lose(reason)
    }

    /// Puts a raw buffer into the account.
    pub(crate) fn owned(&self, raw: wgpu::Buffer) -> Owned {
        Owned::new(raw, self.shared.account.clone())
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({}, {:?})", self.shared.adapter, self.shared.profile)
    }
}
