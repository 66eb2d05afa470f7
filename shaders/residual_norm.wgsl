// OUT[n,C] = RESIDUAL[n,C] + norm(X[n,C]) * post[C], `=`, and H[n,C] = norm(OUT) * gain[C], `=`, where
// norm(x) = x / sqrt(mean(x²) + eps)
//
// Fuses the end of one block and the beginning of the next. One workgroup per row; an invocation rereads what it wrote
// itself. The gains are already 1 + w. X may come in PARTS: they are added, and X becomes their sum.

struct Params {
    rows: u32,       // n
    columns4: u32,   // C / 4
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;     // (n, C/4)
@group(0) @binding(2) var<storage, read> residual: array<vec4<f32>>;    // (n, C/4)
@group(0) @binding(3) var<storage, read> post: array<vec4<f32>>;        // (C/4)
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>;        // (C/4)
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;   // (n, C/4)
@group(0) @binding(6) var<storage, read_write> h: array<vec4<f32>>;     // (n, C/4)
@group(0) @binding(7) var<storage, read> others: array<vec4<f32>>;      // (PARTS - 1, n, C/4)

override WG: u32 = 64u;    // invocations per row, a power of two
override PARTS: u32 = 1u;

var<workgroup> sums: array<f32, WG>;

// 1 / sqrt(mean + eps) of a row, from each invocation's sum of squares.
fn inverse_root(lane: u32, sum: f32) -> f32 {
    sums[lane] = sum;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            sums[lane] += sums[lane + step];
        }
        workgroupBarrier();
    }
    let total = sums[0];
    workgroupBarrier();
    return inverseSqrt(total / f32(4u * p.columns4) + p.eps);
}

@compute @workgroup_size(WG)
fn residual_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    let base = row * p.columns4;
    var sum = 0.0;
    for (var c = lane; c < p.columns4; c += WG) {
        var value = x[base + c];
        if PARTS > 1u {
            for (var part = 0u; part < PARTS - 1u; part++) {
                value += others[part * p.rows * p.columns4 + base + c];
            }
            x[base + c] = value;
        }
        sum += dot(value, value);
    }
    let scale = inverse_root(lane, sum);
    sum = 0.0;
    for (var c = lane; c < p.columns4; c += WG) {
        let value = residual[base + c] + x[base + c] * scale * post[c];
        out[base + c] = value;
        sum += dot(value, value);
    }
    let next = inverse_root(lane, sum);
    for (var c = lane; c < p.columns4; c += WG) {
        h[base + c] = out[base + c] * next * gain[c];
    }
}
