//! What the device layer promises, with one small kernel, natively and in the browser.

mod lost;
mod memory;
mod profile;
mod split;
#[cfg(not(target_arch = "wasm32"))]
mod threads;

use bytemuck::{Pod, Zeroable};

use crate::{Access, Commands, Gpu, GpuOptions, Kernel, Profile, Slice, Split};

#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// `y[i] += value`, and a loop that only takes time.
static ADD: Kernel = Kernel {
    name: "add",
    label: "add",
    pieces: &[],
    source: "
struct Params {
    count: u32,
    value: u32,
    first_group: u32,
    rounds: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn add(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (p.first_group + group.y * groups.x + group.x) * 64u + lane;
    if i >= p.count {
        return;
    }
    var hash = i;
    for (var n = 0u; n < p.rounds; n++) {
        hash = hash * 1664525u + 1013904223u;
    }
    // Never: the loop has to be run.
    y[i] += select(p.value, 0u, p.rounds > 0u && hash == 7u && i == 0u);
}
",
    bindings: &[Access::Params, Access::Write],
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    count: u32,
    value: u32,
    first_group: u32,
    rounds: u32,
}

/// Records `y += value`, `rounds` turns of the loop for each number.
fn add(commands: &mut Commands, y: &Slice, value: u32, rounds: u32, cost: u64) {
    let count = (y.bytes() / 4) as u32;
    let groups = count.div_ceil(64);
    let high = groups.div_ceil(65_535);
    let params = Params { count, value, first_group: 0, rounds };
    let field = std::mem::offset_of!(Params, first_group);
    commands
        .dispatch(
            &ADD,
            &[],
            &params,
            std::slice::from_ref(y),
            [groups.div_ceil(high), high, 1],
            cost,
        )
        .split(Split::Line { field, front: (0, 0) });
}

async fn open() -> Gpu {
    Gpu::open(&GpuOptions::with_profile(Profile::Full)).await.unwrap()
}

fn numbers(gpu: &Gpu, count: u64) -> Slice {
    gpu.buffer("numbers", 4 * count).unwrap().all()
}
