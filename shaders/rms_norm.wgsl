// Y[n, C] = X[n, C] / sqrt(mean(X²) + eps) * gain[C]   (+ what Y holds)
//
// One workgroup per row, in three steps: squares, mean, scale. The gain is already 1 + w.

struct Params {
    rows: u32,       // n
    columns4: u32,   // C / 4
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // (n, C/4)
@group(0) @binding(2) var<storage, read> gain: array<vec4<f32>>;      // (C/4)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;   // (n, C/4)

override WG: u32 = 64u;    // invocations per row, a power of two
override ADD: u32 = 0u;    // 1: add to what Y holds (the residual)

var<workgroup> sums: array<f32, WG>;

@compute @workgroup_size(WG)
fn rms_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Rows are spread over two dimensions of the grid: one may be too small.
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    let base = row * p.columns4;
    var sum = 0.0;
    for (var c = lane; c < p.columns4; c += WG) {
        sum += dot(x[base + c], x[base + c]);
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            sums[lane] += sums[lane + step];
        }
        workgroupBarrier();
    }
    let scale = inverseSqrt(sums[0] / f32(4u * p.columns4) + p.eps);
    for (var c = lane; c < p.columns4; c += WG) {
        var value = x[base + c] * scale * gain[c];
        if ADD == 1u {
            value += y[base + c];
        }
        y[base + c] = value;
    }
}
