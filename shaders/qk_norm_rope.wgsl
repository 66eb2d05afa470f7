// QKV[T,H+2G,D], the heads of queries, keys and values of each token, taken apart: Q[T,H,D] and K[T,G,D], every head
// normalized, y = x / sqrt(mean(x²) + eps) * gain, and rotated by its token's position; V[T,G,D] as it is
//
//   y[i]       <- y[i] cos - y[i + D/2] sin
//   y[i + D/2] <- y[i + D/2] cos + y[i] sin
//
// With BACKWARD, Q and K are the gradients of the results, and those of x go into D_QKV[T,H+2G,D], whose values are
// already there: rotated by the negative angle, then
// inv * (gain * d_Y - x * inv² * mean(gain * d_Y * x)), inv = 1 / sqrt(mean(x²) + eps). Gradients of the first keys and
// values come in parts (see attention_backward_dkv), which are added first. Without NORM, heads are only rotated.
// One workgroup per head; an invocation rotates two pairs at a time. Cosines and sines come from the host, because WGSL
// guarantees too little accuracy.

struct Params {
    tokens: u32,     // T
    heads: u32,      // H
    kv_heads: u32,   // G
    pairs2: u32,     // D / 4
    eps: f32,
    first_group: u32, // index of the first workgroup, where a launch is split
    parts: u32,       // BACKWARD: of the gradients of the first keys and values
    split_keys: u32,  // those keys; 0: none
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec2<f32>>;           // (T, H + 2G, D/2): x
@group(0) @binding(2) var<storage, read> q_gain: array<vec2<f32>>;        // (D/2)
@group(0) @binding(3) var<storage, read> k_gain: array<vec2<f32>>;        // (D/2)
@group(0) @binding(4) var<storage, read> angles: array<vec4<f32>>;        // (positions, D/4): cos, sin, cos, sin
@group(0) @binding(5) var<storage, read> tokens_meta: array<vec4<u32>>;   // (T)
@group(0) @binding(6) var<storage, read_write> q: array<vec2<f32>>;       // (T, H, D/2)
@group(0) @binding(7) var<storage, read_write> k: array<vec2<f32>>;       // (T, G, D/2), and the parts: (parts - 1, split keys, 2, G, D/2)
@group(0) @binding(8) var<storage, read_write> v_or_d_qkv: array<vec2<f32>>;   // (T, G, D/2), BACKWARD (T, H + 2G, D/2)

override WG: u32 = 64u;         // invocations per head, a power of two
override NORM: u32 = 1u;        // 0: only rotate
override BACKWARD: u32 = 0u;

var<workgroup> sums: array<vec2<f32>, WG>;   // x², and backward gain * d_Y * x

// A head, and where it is among those of its kind.
struct Head {
    token: u32,
    kv: u32,      // index among keys or values
    is_q: bool,
    is_v: bool,
    own: u32,     // first vec2 in Q, K or V
}

// What the parts but the first add to vec2 i of the gradient of a key or value.
fn of_parts(h: Head, i: u32, first: vec2<f32>) -> vec2<f32> {
    var sum = first;
    if h.token < p.split_keys {
        for (var part = 0u; part < p.parts - 1u; part++) {
            let row = p.tokens + (part * p.split_keys + h.token) * 2u + u32(h.is_v);
            sum += k[(row * p.kv_heads + h.kv) * 2u * p.pairs2 + i];
        }
    }
    return sum;
}

// Vec2 i of the gradient of a query or key.
fn d_y(h: Head, i: u32) -> vec2<f32> {
    if h.is_q {
        return q[h.own + i];
    }
    return of_parts(h, i, k[h.own + i]);
}

fn gain(is_q: bool, i: u32) -> vec2<f32> {
    if is_q {
        return q_gain[i];
    }
    return k_gain[i];
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
    let stacked = p.heads + 2u * p.kv_heads;
    let all = select(stacked, p.heads + p.kv_heads, BACKWARD == 1u && p.split_keys == 0u);
    let index = p.first_group + group.y * groups.x + group.x;
    if index >= p.tokens * all {
        return;
    }
    let token = index / all;
    let head = index % all;
    let is_q = head < p.heads;
    let is_v = head >= p.heads + p.kv_heads;
    // Where the head is among all, and among those of its kind.
    let base = (token * stacked + head) * 2u * p.pairs2;
    let kv = head - select(p.heads, p.heads + p.kv_heads, is_v);
    let own = select(token * p.kv_heads + kv, token * p.heads + head, is_q) * 2u * p.pairs2;
    let h = Head(token, kv, is_q, is_v, own);
    if BACKWARD == 1u && is_v {
        for (var i = lane; i < 2u * p.pairs2 && token < p.split_keys; i += WG) {
            v_or_d_qkv[base + i] = of_parts(h, i, v_or_d_qkv[base + i]);
        }
        return;
    }
    let position = tokens_meta[token].x * p.pairs2;
    var scale = 1.0;
    var pull = 0.0;
    if NORM == 1u {
        var sum = vec2<f32>();
        for (var i = lane; i < p.pairs2; i += WG) {
            let low = qkv[base + i];
            let high = qkv[base + p.pairs2 + i];
            sum.x += dot(low, low) + dot(high, high);
            if BACKWARD == 1u {
                let pairs = vec4<f32>(d_y(h, i), d_y(h, p.pairs2 + i));
                let d = rotated(pairs, angles[position + i]);
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
        let low = i;
        let high = p.pairs2 + i;
        if BACKWARD == 1u {
            var d = rotated(vec4<f32>(d_y(h, low), d_y(h, high)), angle);
            if NORM == 1u {
                let x = vec4<f32>(qkv[base + low], qkv[base + high]);
                let gains = vec4<f32>(gain(is_q, low), gain(is_q, high));
                d = scale * (gains * d - x * pull);
            }
            v_or_d_qkv[base + low] = d.xy;
            v_or_d_qkv[base + high] = d.zw;
            continue;
        }
        let x = vec4<f32>(qkv[base + low], qkv[base + high]);
        if is_v {
            v_or_d_qkv[own + low] = x.xy;
            v_or_d_qkv[own + high] = x.zw;
            continue;
        }
        var y = x;
        if NORM == 1u {
            y = x * scale * vec4<f32>(gain(is_q, low), gain(is_q, high));
        }
        y = rotated(y, angle);
        if is_q {
            q[own + low] = y.xy;
            q[own + high] = y.zw;
        } else {
            k[own + low] = y.xy;
            k[own + high] = y.zw;
        }
    }
}
