// rows[T,H] = (lse[T,H], Σ_D d_O * O): the two numbers per row that attention's backward needs, `=`
//
// One invocation per row. The two are stored as a pair because the next kernels have no free
// binding.

struct Params {
    rows: u32,     // T * H
    width4: u32,   // D / 4
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> o: array<vec4<f32>>;            // (T, H, D/4)
@group(0) @binding(2) var<storage, read> d_o: array<vec4<f32>>;          // (T, H, D/4)
@group(0) @binding(3) var<storage, read> lse: array<f32>;                // (T, H)
@group(0) @binding(4) var<storage, read_write> rows: array<vec2<f32>>;   // (T, H)

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn attention_backward_dot(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (group.y * groups.x + group.x) * WG + lane;
    if row >= p.rows {
        return;
    }
    var sum = 0.0;
    for (var c = row * p.width4; c < (row + 1u) * p.width4; c++) {
        sum += dot(d_o[c], o[c]);
    }
    rows[row] = vec2<f32>(lse[row], sum);
}
