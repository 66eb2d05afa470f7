//! Compute pipelines and their layouts, each made once.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Access, Buffer, Constant, Dispatch, Gpu, GpuError, Kernel, bindings::BindGroups, buffer::Freed,
    cut::MAX_LAUNCHES, kernel::KernelId,
};

/// Parameters of all launches of a submission are in one buffer, at this stride: the largest
/// alignment of dynamic uniform offsets that a device may ask for.
pub(crate) const PARAMS_STRIDE: u64 = 256;

/// What launches need and share. The lock around it is held from writing parameters until they are
/// submitted, so that two threads cannot write over each other's.
#[derive(Default)]
pub(crate) struct Pipelines {
    layouts: HashMap<Vec<Access>, wgpu::BindGroupLayout>,
    pipelines: HashMap<(KernelId, Vec<Constant>), Arc<wgpu::ComputePipeline>>,
    pub(crate) bind_groups: BindGroups,
    params: Option<Buffer>,
    freed: Arc<Freed>,
}

/// What one launch needs at encoding time.
pub(crate) struct Prepared {
    pub(crate) pipeline: Arc<wgpu::ComputePipeline>,
    pub(crate) bind_group: wgpu::BindGroup,
    /// Its pipeline is new: the driver may compile it inside the submission.
    pub(crate) fresh: bool,
}

impl Gpu {
    /// The kernels of the pipelines made so far, with the constants of each: what was compiled.
    pub fn pipelines(&self) -> Vec<(&'static Kernel, Vec<Constant>)> {
        let pipelines = self.lock_pipelines();
        pipelines
            .pipelines
            .keys()
            .map(|(kernel, constants)| (kernel.0, constants.clone()))
            .collect()
    }
}

impl Pipelines {
    pub(crate) fn new(freed: Arc<Freed>) -> Self {
        Self { freed, ..Self::default() }
    }

    /// Forgets bind groups of buffers that were freed.
    pub(crate) fn evict_freed(&mut self) {
        self.bind_groups.evict(&self.freed.take());
    }

    /// The buffer for the parameters of a submission's launches.
    pub(crate) fn params(&mut self, gpu: &Gpu) -> Buffer {
        if let Some(buffer) = &self.params {
            return buffer.clone();
        }
        let raw = gpu.shared.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: MAX_LAUNCHES as u64 * PARAMS_STRIDE,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let buffer = Buffer::new(gpu.owned(raw), self.freed.clone());
        self.params = Some(buffer.clone());
        buffer
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
        let device = &gpu.shared.device;
        let layout = self
            .layouts
            .entry(kernel.bindings.to_vec())
            .or_insert_with(|| bind_group_layout(device, kernel.bindings));
        let known = self.pipelines.len();
        let pipeline = self
            .pipelines
            .entry((KernelId(kernel), dispatch.constants.clone()))
            .or_insert_with(|| Arc::new(pipeline(device, kernel, &dispatch.constants, layout)))
            .clone();
        let bind_group = self.bind_groups.get(device, dispatch, params, layout);
        Ok(Prepared { pipeline, bind_group, fresh: self.pipelines.len() > known })
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
    device: &wgpu::Device,
    kernel: &Kernel,
    constants: &[Constant],
    layout: &wgpu::BindGroupLayout,
) -> wgpu::ComputePipeline {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(kernel.label),
        source: wgpu::ShaderSource::Wgsl(kernel.wgsl().into()),
    };
    let mut checks = wgpu::ShaderRuntimeChecks::checked();
    checks.force_loop_bounding = false;
    // In the multiply loop of the matmul a sixth of the instructions clamped indices of workgroup memory.
    checks.bounds_checks = cfg!(debug_assertions);
    // SAFETY: every loop in shaders/ counts to a bound (the shader test checks that none is a bare `loop` or `while`).
    // Indices come from parameters that `record` of the op computes from its operands' shapes; kernel tests run with the
    // checks, on shapes that are no multiple of any tile. Browsers make their own checks in any case.
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
