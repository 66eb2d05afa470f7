// Y[T,F] = gelu(GATE[T,F]) * UP[T,F], elementwise
// Prepend: shared/gelu.wgsl.

struct Params {
    count4: u32,   // T * F / 4
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gate: array<vec4<f32>>;      // (T, F/4)
@group(0) @binding(2) var<storage, read> up: array<vec4<f32>>;        // (T, F/4)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;   // (T, F/4)

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn geglu(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i >= p.count4 {
        return;
    }
    y[i] = gate[i] * gelu_sigmoid(gate[i]) * up[i];
}
