//! Kernels against WebGPU's default limits, for given values of their `override` constants.
//!
//! `tests/shaders.rs` checks the values in the WGSL. The tests of the kernels check the values that their launches
//! used: wgpu itself does not compare workgroup memory with a limit.

use hearth_gpu::{Constant, Kernel};
use naga::{
    AddressSpace, Module, ShaderStage,
    back::pipeline_constants::process_overrides,
    valid::{Capabilities, ModuleInfo, ValidationFlags, Validator},
};

/// Storage buffers of one kernel.
pub const MAX_STORAGE_BUFFERS: usize = 8;
const MAX_INVOCATIONS: u32 = 256;
const MAX_WORKGROUP_SIZE: [u32; 3] = [256, 256, 64];
const MAX_WORKGROUP_MEMORY: u32 = 16 * 1024;

/// Parses and validates a kernel.
pub fn parse(kernel: &Kernel) -> Result<(Module, ModuleInfo), String> {
    let text = kernel.wgsl();
    let module = naga::front::wgsl::parse_str(&text)
        .map_err(|error| error.emit_to_string_with_path(&text, kernel.name))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    let info = validator
        .validate(&module)
        .map_err(|error| error.emit_to_string_with_path(&text, kernel.name))?;
    Ok((module, info))
}

/// What is over the limits with these constants; other constants have the values of the WGSL.
pub fn over_limits(
    kernel: &Kernel,
    (module, info): &(Module, ModuleInfo),
    constants: &[Constant],
) -> Vec<String> {
    let entry = Some((ShaderStage::Compute, kernel.name));
    let values = constants.iter().map(|&(name, value)| (name.to_owned(), f64::from(value)));
    let module = match process_overrides(module, info, entry, &values.collect()) {
        Ok((module, _)) => module,
        Err(error) => return vec![format!("overrides without usable values: {error}")],
    };
    let mut found = Vec::new();
    for entry in &module.entry_points {
        let size = entry.workgroup_size;
        let too_large = size.iter().zip(MAX_WORKGROUP_SIZE).any(|(n, limit)| *n > limit);
        if too_large || size.iter().product::<u32>() > MAX_INVOCATIONS {
            found.push(format!("workgroups of {size:?} invocations are over WebGPU's default"));
        }
    }
    let memory: u32 = module
        .global_variables
        .iter()
        .filter(|(_, variable)| variable.space == AddressSpace::WorkGroup)
        .map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx()).next_multiple_of(16))
        .sum();
    if memory > MAX_WORKGROUP_MEMORY {
        found.push(format!(
            "{memory} bytes of workgroup memory, the limit is {MAX_WORKGROUP_MEMORY}"
        ));
    }
    found
}
