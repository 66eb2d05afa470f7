// d_X[n,C] += d_norm(OUT, gain, d_H), then d_Y[n,C] = d_norm(X, post, d_X), where d_norm(x, g, d) =
// inv * (g * d - x * inv² * mean(g * d * x)), inv = 1 / sqrt(mean(x²) + eps)
//
// residual_norm in reverse: the gradient through the next block's norm is added to that of the residual stream, which
// is then what the norm on the block's output receives. One workgroup per row; an invocation rereads what it wrote
// itself. d_H may come in PARTS.

struct Params {
    rows: u32,       // n
    columns4: u32,   // C / 4
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;           // (n, C/4)
@group(0) @binding(2) var<storage, read> out: array<vec4<f32>>;         // (n, C/4)
@group(0) @binding(3) var<storage, read> post: array<vec4<f32>>;        // (C/4)
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>;        // (C/4)
@group(0) @binding(5) var<storage, read> d_h: array<vec4<f32>>;         // (n, C/4)
@group(0) @binding(6) var<storage, read_write> d_x: array<vec4<f32>>;   // (n, C/4): of the residual stream
@group(0) @binding(7) var<storage, read_write> d_y: array<vec4<f32>>;   // (n, C/4): of the block's output
@group(0) @binding(8) var<storage, read> others: array<vec4<f32>>;      // (PARTS - 1, n, C/4): of d_H

override WG: u32 = 64u;    // invocations per row, a power of two
override PARTS: u32 = 1u;

var<workgroup> sums: array<vec2<f32>, WG>;   // x², g * d * x

// (inv, inv * mean(g * d * x) * inv) of a row, from each invocation's sums.
fn factors(lane: u32, sum: vec2<f32>) -> vec2<f32> {
    sums[lane] = sum;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            sums[lane] += sums[lane + step];
        }
        workgroupBarrier();
    }
    let means = sums[0] / f32(4u * p.columns4);
    workgroupBarrier();
    let inv = inverseSqrt(means.x + p.eps);
    // In this order no intermediate is larger than the result's terms.
    return vec2<f32>(inv, inv * means.y * inv);
}

// d_h at an index: the sum of its parts.
fn d_h_sum(at: u32) -> vec4<f32> {
    var sum = d_h[at];
    for (var part = 0u; part < PARTS - 1u; part++) {
        sum += others[part * p.rows * p.columns4 + at];
    }
    return sum;
}

@compute @workgroup_size(WG)
fn residual_norm_backward(
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
        let value = out[base + c];
        sum += vec2<f32>(dot(value, value), dot(gain[c] * d_h_sum(base + c), value));
    }
    let next = factors(lane, sum);
    sum = vec2<f32>();
    for (var c = lane; c < p.columns4; c += WG) {
        let d = d_x[base + c] + next.x * (gain[c] * d_h_sum(base + c) - out[base + c] * next.y);
        d_x[base + c] = d;
        let value = x[base + c];
        sum += vec2<f32>(dot(value, value), dot(post[c] * d, value));
    }
    let own = factors(lane, sum);
    for (var c = lane; c < p.columns4; c += WG) {
        d_y[base + c] = own.x * (post[c] * d_x[base + c] - x[base + c] * own.y);
    }
}
