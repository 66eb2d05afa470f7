// Y = cap · tanh(Y / cap), in place
//
// The argument of tanh is clamped: beyond 15 the result is 1 in f32, and some drivers overflow.

struct Params {
    count: u32,
    softcap: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;   // (count)

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn soft_cap(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i < p.count {
        y[i] = p.softcap * tanh(clamp(y[i] / p.softcap, -15.0, 15.0));
    }
}
