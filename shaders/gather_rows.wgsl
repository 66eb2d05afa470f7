// Y[n, C] = X[index[n], C]
//
// One workgroup per row.

struct Params {
    rows: u32,       // n
    columns4: u32,   // C / 4
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> index: array<u32>;           // (n), below T
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;         // (T, C/4)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;   // (n, C/4)

override WG: u32 = 64u;    // invocations per row

@compute @workgroup_size(WG)
fn gather_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    let source = index[row] * p.columns4;
    for (var c = lane; c < p.columns4; c += WG) {
        y[row * p.columns4 + c] = x[source + c];
    }
}
