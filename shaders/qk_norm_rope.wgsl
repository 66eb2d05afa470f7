// Q[T,H,D] and K[T,G,D]: every head normalized, y = x / sqrt(mean(x²) + eps) * gain, and rotated by its token's position
//
//   y[i]       <- y[i] cos - y[i + D/2] sin
//   y[i + D/2] <- y[i + D/2] cos + y[i] sin
//
// With BACKWARD, Q and K hold the gradients of the results and become those of x: rotated by the negative angle, then
// inv * (gain * d_Y - x * inv² * mean(gain * d_Y * x)), inv = 1 / sqrt(mean(x²) + eps). Without NORM, Q and K are
// rotated in place. One workgroup per head; an invocation rotates two pairs at a time. Cosines and sines come from the
// host, because WGSL guarantees too little accuracy.

struct Params {
    tokens: u32,     // T
    heads: u32,      // H
    kv_heads: u32,   // G
    pairs2: u32,     // D / 4
    eps: f32,
    first_group: u32, // index of the first workgroup, where a launch is split
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q_raw: array<vec2<f32>>;         // (T, H, D/2): x
@group(0) @binding(2) var<storage, read> k_raw: array<vec2<f32>>;         // (T, G, D/2)
@group(0) @binding(3) var<storage, read> q_gain: array<vec2<f32>>;        // (D/2)
@group(0) @binding(4) var<storage, read> k_gain: array<vec2<f32>>;        // (D/2)
@group(0) @binding(5) var<storage, read> angles: array<vec4<f32>>;        // (positions, D/4): cos, sin, cos, sin
@group(0) @binding(6) var<storage, read> tokens_meta: array<vec4<u32>>;   // (T)
@group(0) @binding(7) var<storage, read_write> q: array<vec2<f32>>;       // (T, H, D/2)
@group(0) @binding(8) var<storage, read_write> k: array<vec2<f32>>;       // (T, G, D/2)

override WG: u32 = 64u;         // invocations per head, a power of two
override NORM: u32 = 1u;        // 0: only rotate
override BACKWARD: u32 = 0u;

var<workgroup> sums: array<vec2<f32>, WG>;   // x², and backward gain * d_Y * x

fn raw(is_q: bool, at: u32) -> vec2<f32> {
    if is_q {
        return q_raw[at];
    }
    return k_raw[at];
}

fn held(is_q: bool, at: u32) -> vec2<f32> {
    if is_q {
        return q[at];
    }
    return k[at];
}

fn gain(is_q: bool, i: u32) -> vec2<f32> {
    if is_q {
        return q_gain[i];
    }
    return k_gain[i];
}

fn hold(is_q: bool, at: u32, value: vec2<f32>) {
    if is_q {
        q[at] = value;
    } else {
        k[at] = value;
    }
}

// Two pairs, (low, high), rotated by their angles, or with BACKWARD by the negative angles.
fn rotated(pairs: vec4<f32>, angle: vec4<f32>) -> vec4<f32> {
    let cosines = angle.xz;
    let sines = select(angle.yw, -angle.yw, BACKWARD == 1u);
    return vec4<f32>(pairs.xy * cosines - pairs.zw * sines, pairs.zw * cosines + pairs.xy * sines);
}

@compute @workgroup_size(WG)
fn qk_norm_rope(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let all = p.heads + p.kv_heads;
    let index = p.first_group + group.y * groups.x + group.x;
    if index >= p.tokens * all {
        return;
    }
    let token = index / all;
    let head = index % all;
    let is_q = head < p.heads;
    let row = select(token * p.kv_heads + head - p.heads, token * p.heads + head, is_q);
    let base = row * 2u * p.pairs2;
    let position = tokens_meta[token].x * p.pairs2;
    var scale = 1.0;
    var pull = 0.0;
    if NORM == 1u {
        var sum = vec2<f32>();
        for (var i = lane; i < p.pairs2; i += WG) {
            let low = raw(is_q, base + i);
            let high = raw(is_q, base + p.pairs2 + i);
            sum.x += dot(low, low) + dot(high, high);
            if BACKWARD == 1u {
                let d = rotated(vec4<f32>(held(is_q, base + i), held(is_q, base + p.pairs2 + i)), angles[position + i]);
                sum.y += dot(gain(is_q, i) * d.xy, low) + dot(gain(is_q, p.pairs2 + i) * d.zw, high);
            }
        }
        sums[lane] = sum;
        workgroupBarrier();
        for (var step = WG / 2u; step > 0u; step /= 2u) {
            if lane < step {
                sums[lane] += sums[lane + step];
            }
            workgroupBarrier();
        }
        let means = sums[0] / f32(4u * p.pairs2);
        scale = inverseSqrt(means.x + p.eps);
        // In this order no intermediate is larger than the result's terms.
        pull = scale * means.y * scale;
    }
    for (var i = lane; i < p.pairs2; i += WG) {
        let angle = angles[position + i];
        let at = vec2<u32>(base + i, base + p.pairs2 + i);
        var value: vec4<f32>;
        if NORM == 0u {
            value = rotated(vec4<f32>(held(is_q, at.x), held(is_q, at.y)), angle);
        } else {
            let x = vec4<f32>(raw(is_q, at.x), raw(is_q, at.y));
            let gains = vec4<f32>(gain(is_q, i), gain(is_q, p.pairs2 + i));
            if BACKWARD == 0u {
                value = rotated(x * scale * gains, angle);
            } else {
                let d = rotated(vec4<f32>(held(is_q, at.x), held(is_q, at.y)), angle);
                value = scale * (gains * d - x * pull);
            }
        }
        hold(is_q, at.x, value.xy);
        hold(is_q, at.y, value.zw);
    }
}
