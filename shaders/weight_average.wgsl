// average[n] += rate · (weights[n] - average[n]). Four numbers an invocation.

struct Params {
    count4: u32,   // n / 4
    rate: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<vec4<f32>>;         // (n/4)
@group(0) @binding(2) var<storage, read_write> average: array<vec4<f32>>;   // (n/4)

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn weight_average(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i >= p.count4 {
        return;
    }
    average[i] += p.rate * (weights[i] - average[i]);
}
