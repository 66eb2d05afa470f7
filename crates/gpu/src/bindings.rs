//! Bind groups, each made once and forgotten when one of its buffers is freed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{Buffer, Dispatch, kernel::KernelId};

/// Beyond this number the cache is cleared: a guard against work that never binds the same buffers twice.
const MAX_BIND_GROUPS: usize = 8192;

/// What a bind group binds.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    kernel: KernelId,
    params: u64,
    /// Buffer, offset and bytes of each storage binding.
    ranges: Vec<(u64, u64, u64)>,
}

impl Key {
    fn buffers(&self) -> impl Iterator<Item = u64> {
        std::iter::once(self.params).chain(self.ranges.iter().map(|&(buffer, ..)| buffer))
    }
}

/// The cache, with an index from buffers to the groups that bind them.
#[derive(Default)]
pub(crate) struct BindGroups {
    groups: HashMap<Arc<Key>, wgpu::BindGroup>,
    by_buffer: HashMap<u64, HashSet<Arc<Key>>>,
}

impl BindGroups {
    /// The group for a launch, made now if it is new.
    pub(crate) fn get(
        &mut self,
        device: &wgpu::Device,
        dispatch: &Dispatch,
        params: &Buffer,
        layout: &wgpu::BindGroupLayout,
    ) -> wgpu::BindGroup {
        let ranges = dispatch.bindings.iter().map(|b| (b.buffer.id(), b.offset, b.bytes)).collect();
        let key = Key { kernel: KernelId(dispatch.kernel), params: params.id(), ranges };
        if let Some(group) = self.groups.get(&key) {
            return group.clone();
        }
        if self.groups.len() >= MAX_BIND_GROUPS {
            *self = Self::default();
        }
        let (key, group) = (Arc::new(key), bind_group(device, dispatch, params, layout));
        for buffer in key.buffers() {
            self.by_buffer.entry(buffer).or_default().insert(key.clone());
        }
        self.groups.insert(key, group.clone());
        group
    }

    /// Forgets every group that binds one of the buffers.
    pub(crate) fn evict(&mut self, buffers: &[u64]) {
        for buffer in buffers {
            for key in self.by_buffer.remove(buffer).unwrap_or_default() {
                self.groups.remove(&key);
                for other in key.buffers() {
                    if let Some(keys) = self.by_buffer.get_mut(&other) {
                        keys.remove(&key);
                    }
                }
            }
        }
    }

    /// Number of groups held.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }
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
