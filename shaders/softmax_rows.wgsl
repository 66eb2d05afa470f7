// Y[n, N] = softmax over N of X[n, N] / temperature
//
// An invocation a row: N is a number of classes.

struct Params {
    rows: u32,                  // n
    columns: u32,               // N
    stride: u32,                // numbers from one row of X to the next
    inverse_temperature: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;         // (n, stride)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;   // (n, N)

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn softmax_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (group.y * groups.x + group.x) * WG + lane;
    if row >= p.rows {
        return;
    }
    let x0 = row * p.stride;
    let y0 = row * p.columns;
    var top = -3.4e38;
    for (var c = 0u; c < p.columns; c++) {
        top = max(top, x[x0 + c]);
    }
    var sum = 0.0;
    for (var c = 0u; c < p.columns; c++) {
        let e = exp((x[x0 + c] - top) * p.inverse_temperature);
        y[y0 + c] = e;
        sum += e;
    }
    for (var c = 0u; c < p.columns; c++) {
        y[y0 + c] /= sum;
    }
}
