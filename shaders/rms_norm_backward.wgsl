// d_X[n, C] = inv * (gain * d_Y - X * inv² * mean(gain * d_Y * X)), inv = 1 / sqrt(mean(X²) + eps)
//
// d_X is `=`, or `+=` with ADD. The gain is frozen and gets no gradient. One workgroup per row, as
// forward: the two sums, their means, the result. d_Y may come in PARTS.

struct Params {
    rows: u32,       // n
    columns4: u32,   // C / 4
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;           // (n, C/4)
@group(0) @binding(2) var<storage, read> gain: array<vec4<f32>>;        // (C/4)
@group(0) @binding(3) var<storage, read> d_y: array<vec4<f32>>;         // (n, C/4)
@group(0) @binding(4) var<storage, read_write> d_x: array<vec4<f32>>;   // (n, C/4)
@group(0) @binding(5) var<storage, read> others: array<vec4<f32>>;      // (PARTS - 1, n, C/4): of d_Y

override WG: u32 = 64u;    // invocations per row, a power of two
override ADD: u32 = 0u;    // 1: add to what d_X holds
override PARTS: u32 = 1u;

var<workgroup> sums: array<vec2<f32>, WG>;   // X², gain * d_Y * X

// d_y at an index: the sum of its parts.
fn d_y_sum(at: u32) -> vec4<f32> {
    var sum = d_y[at];
    for (var part = 0u; part < PARTS - 1u; part++) {
        sum += others[part * p.rows * p.columns4 + at];
    }
    return sum;
}

@compute @workgroup_size(WG)
fn rms_norm_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    let base = row * p.columns4;
    var sum = vec2<f32>();
    for (var c = lane; c < p.columns4; c += WG) {
        let value = x[base + c];
        sum += vec2<f32>(dot(value, value), dot(gain[c] * d_y_sum(base + c), value));
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            sums[lane] += sums[lane + step];
        }
        workgroupBarrier();
    }
    let means = sums[0] / f32(4u * p.columns4);
    let inv = inverseSqrt(means.x + p.eps);
    // In this order no intermediate is larger than the result's terms.
    let pull = inv * means.y * inv;
    for (var c = lane; c < p.columns4; c += WG) {
        var value = inv * (gain[c] * d_y_sum(base + c) - x[base + c] * pull);
        if ADD == 1u {
            value += d_x[base + c];
        }
        d_x[base + c] = value;
    }
}
