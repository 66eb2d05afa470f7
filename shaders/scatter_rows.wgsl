// Backward of gather_rows.
// dX[T, C] = the sum of dY[i, C] over all i with index[i] = T   (with ADD: +=)
//
// One workgroup per row of dX adds its sources in order: a row gathered several times gets the sum
// in a fixed order, a row that is never gathered gets zeros. The lists come from the host: the
// sources of row t are lists[i] for i in lists[t] .. lists[t + 1].

struct Params {
    rows: u32,       // T
    columns4: u32,   // C / 4
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> lists: array<u32>;            // (T + 1 + n)
@group(0) @binding(2) var<storage, read> d_y: array<vec4<f32>>;        // (n, C/4)
@group(0) @binding(3) var<storage, read_write> d_x: array<vec4<f32>>;  // (T, C/4)

override WG: u32 = 64u;    // invocations per row
override ADD: u32 = 0u;    // 1: add to what dX holds

@compute @workgroup_size(WG)
fn scatter_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    let start = lists[row];
    let end = lists[row + 1u];
    for (var c = lane; c < p.columns4; c += WG) {
        var sum = vec4<f32>();
        if ADD == 1u {
            sum = d_x[row * p.columns4 + c];
        }
        for (var i = start; i < end; i++) {
            sum += d_y[lists[i] * p.columns4 + c];
        }
        d_x[row * p.columns4 + c] = sum;
    }
}
