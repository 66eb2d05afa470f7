// Y[n] = cap · tanh(Y[n] / cap), in place. Four numbers an invocation.

struct Params {
    count4: u32,   // n / 4
    cap: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;   // (n/4)

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn soft_cap(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i >= p.count4 {
        return;
    }
    // tanh(15) is 1 in f32, and some drivers overflow beyond.
    y[i] = p.cap * tanh(clamp(y[i] / p.cap, vec4<f32>(-15.0), vec4<f32>(15.0)));
}
