// d_gate = d_Y * UP * gelu'(GATE), d_up = d_Y * gelu(GATE): both `=`, written over GATE and UP
// Prepend: shared/gelu.wgsl.

struct Params {
    count4: u32,   // T * F / 4
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> d_y: array<vec4<f32>>;          // (T, F/4)
@group(0) @binding(2) var<storage, read_write> gate: array<vec4<f32>>;   // (T, F/4), then d_gate
@group(0) @binding(3) var<storage, read_write> up: array<vec4<f32>>;     // (T, F/4), then d_up

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn geglu_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i >= p.count4 {
        return;
    }
    let x = gate[i];
    let sigmoid = gelu_sigmoid(x);
    let d_twice_u = 1.5957691216057308 * (1.0 + 3.0 * 0.044715 * x * x);
    let d_gelu = sigmoid + x * sigmoid * (1.0 - sigmoid) * d_twice_u;
    gate[i] = d_y[i] * up[i] * d_gelu;
    up[i] = d_y[i] * x * sigmoid;
}
