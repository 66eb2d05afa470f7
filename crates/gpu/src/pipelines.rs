//! Pipelines and bind groups, each made once.

use std::{collections::HashMap, sync::Arc};

use crate::{Access, Buffer, Constant, Dispatch, Gpu, GpuError, Kernel, commands::Command};

/// Parameters of all dispatches live in one buffer, at this stride: the largest alignment of
/// dynamic uniform offsets that a device may ask for.
pub(crate) const PARAMS_STRIDE: u64 = 256;
/// Bind groups are forgotten beyond this number, so that they cannot pin freed buffers for long.
const MAX_BIND_GROUPS: usize = 8192;

type PipelineKey = (*const Kernel, Vec<Constant>);
type BindKey = (*const Kernel, u64, Vec<(u64, u64, u64)>);

#[derive(Default)]
pub(crate) struct Pipelines {
    layouts: HashMap<Vec<Access>, wgpu::BindGroupLayout>,
    pipelines: HashMap<PipelineKey, Arc<wgpu::ComputePipeline>>,
    bind_groups: HashMap<BindKey, wgpu::BindGroup>,
    params: Option<Buffer>,
}

// The kernel pointers are addresses of statics, used as identities only.
#[expect(unsafe_code, reason = "raw pointers to statics as map keys")]
// SAFETY: the pointers are never dereferenced.
unsafe impl Send for Pipelines {}

/// What one dispatch needs at encoding time.
pub(crate) struct Prepared {
    pub(crate) pipeline: Arc<wgpu::ComputePipeline>,
    pub(crate) bind_group: wgpu::BindGroup,
}

impl Pipelines {
    /// Makes room for the parameters of `count` dispatches and returns the buffer.
    pub(crate) fn params(&mut self, gpu: &Gpu, count: usize) -> Result<Buffer, GpuError> {
        let bytes = (count as u64).next_power_of_two().max(64) * PARAMS_STRIDE;
        if let Some(buffer) = &self.params
            && buffer.bytes() >= bytes
        {
            return Ok(buffer.clone());
        }
        let raw = gpu.shared.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: bytes,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        // Bind groups of the old buffer are of no use any more.
        self.bind_groups.clear();
        let buffer = Buffer::new(raw, gpu.shared_account());
        self.params = Some(buffer.clone());
        Ok(buffer)
    }

    pub(crate) fn prepare(
        &mut self,
        gpu: &Gpu,
        dispatch: &Dispatch,
        params: &Buffer,
    ) -> Result<Prepared, GpuError> {
        let kernel = dispatch.kernel;
        let expected = kernel.bindings.len();
        if dispatch.bindings.len() + 1 != expected {
            let (kernel, found) = (kernel.label.to_owned(), dispatch.bindings.len() + 1);
            return Err(GpuError::Bindings { kernel, expected, found });
        }
        let limit = gpu.max_workgroups();
        if let Some(&count) = dispatch.workgroups.iter().find(|&&n| n > limit) {
            return Err(GpuError::TooManyWorkgroups {
                kernel: kernel.label.to_owned(),
                count,
                limit,
            });
        }
        let layout = self
            .layouts
            .entry(kernel.bindings.to_vec())
            .or_insert_with(|| bind_group_layout(&gpu.shared.device, kernel.bindings))
            .clone();
        let pipeline = self
            .pipelines
            .entry((std::ptr::from_ref(kernel), dispatch.constants.clone()))
            .or_insert_with(|| Arc::new(pipeline(gpu, kernel, &dispatch.constants, &layout)))
            .clone();
        let ranges = dispatch.bindings.iter().map(|b| (b.buffer.id(), b.offset, b.bytes)).collect();
        if self.bind_groups.len() >= MAX_BIND_GROUPS {
            self.bind_groups.clear();
        }
        let bind_group = self
            .bind_groups
            .entry((std::ptr::from_ref(kernel), params.id(), ranges))
            .or_insert_with(|| bind_group(&gpu.shared.device, dispatch, params, &layout))
            .clone();
        Ok(Prepared { pipeline, bind_group })
    }

    /// Forgets all bind groups, which keep their buffers alive.
    pub(crate) fn forget_bindings(&mut self) {
        self.bind_groups.clear();
    }
}

impl Gpu {
    /// Compiles whatever `commands` will need, so that the first step is not the slow one.
    ///
    /// # Errors
    /// When the driver refuses a shader.
    pub fn warm_up(&self, commands: &crate::Commands) -> Result<(), GpuError> {
        let mut pipelines = self.lock_pipelines();
        let params = pipelines.params(self, 1)?;
        for command in commands.items() {
            if let Command::Dispatch(dispatch) = command {
                pipelines.prepare(self, dispatch, &params)?;
            }
        }
        self.check()
    }

    /// Lets go of cached bind groups, and so of buffers that only they still hold. Call it after
    /// dropping large buffers.
    pub fn release_bindings(&self) {
        self.lock_pipelines().forget_bindings();
    }
}

fn bind_group_layout(device: &wgpu::Device, bindings: &[Access]) -> wgpu::BindGroupLayout {
    let entries: Vec<_> = bindings
        .iter()
        .zip(0..)
        .map(|(&access, binding)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match access {
                    Access::Params => wgpu::BufferBindingType::Uniform,
                    Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                    Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
                },
                has_dynamic_offset: access == Access::Params,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: None,
        entries: &entries,
    })
}

#[expect(unsafe_code, reason = "loop bounding costs up to a third on CPU rasterizers")]
fn pipeline(
    gpu: &Gpu,
    kernel: &Kernel,
    constants: &[Constant],
    layout: &wgpu::BindGroupLayout,
) -> wgpu::ComputePipeline {
    let device = &gpu.shared.device;
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(kernel.label),
        source: wgpu::ShaderSource::Wgsl(kernel.wgsl().into()),
    };
    let mut checks = wgpu::ShaderRuntimeChecks::checked();
    checks.force_loop_bounding = false;
    // SAFETY: bounds checks stay on; only the guard against endless loops goes, and every loop in
    // shaders/ counts to a bound (the shader test checks that none is a bare `loop` or `while`).
    let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
    let constants: Vec<(&str, f64)> = constants.iter().map(|&(k, v)| (k, f64::from(v))).collect();
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(kernel.label),
        bind_group_layouts: &[Some(layout)],
        ..Default::default()
    });
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(kernel.label),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some(kernel.name),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &constants,
            // Every kernel writes its workgroup memory before it reads it.
            zero_initialize_workgroup_memory: false,
        },
        cache: None,
    })
}

fn bind_group(
    device: &wgpu::Device,
    dispatch: &Dispatch,
    params: &Buffer,
    layout: &wgpu::BindGroupLayout,
) -> wgpu::BindGroup {
    let size = wgpu::BufferSize::new((dispatch.params.len() as u64).next_multiple_of(16));
    let mut entries = vec![wgpu::BindGroupEntry {
        binding: 0,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: params.raw(),
            offset: 0,
            size,
        }),
    }];
    entries.extend(dispatch.bindings.iter().zip(1..).map(|(slice, binding)| {
        wgpu::BindGroupEntry {
            binding,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: slice.buffer.raw(),
                offset: slice.offset,
                size: wgpu::BufferSize::new(slice.bytes),
            }),
        }
    }));
    device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(dispatch.kernel.label),
        layout,
        entries: &entries,
    })
}
