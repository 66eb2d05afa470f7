// d_Q[T,H,D] = d_S · K, `=`, where d_S = P * (d_P - Σ d_O O) * cap'(S) * scale, P = exp(S - lse),
// d_P = d_O · Vᵀ; and Σ d_O O into ROWS[T,H], for attention_backward_dkv
//
// Visits the keys as attention.wgsl does, without its maximum: one workgroup takes one token and up to four heads,
// an invocation computes d_S of one key, then sums every SLICES-th of them into four of the D results.
// Prepend: shared/attention.wgsl.

@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;             // (T, H, D/4)
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;             // (T, G, D/4)
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;             // (T, G, D/4)
@group(0) @binding(4) var<storage, read> tokens_meta: array<vec4<u32>>;   // (T)
@group(0) @binding(5) var<storage, read> d_o: array<vec4<f32>>;           // (T, H, D/4)
@group(0) @binding(6) var<storage, read> o: array<vec4<f32>>;             // (T, H, D/4)
@group(0) @binding(7) var<storage, read_write> rows: array<vec2<f32>>;    // (T, H): lse, Σ d_O O
@group(0) @binding(8) var<storage, read_write> d_q: array<vec4<f32>>;     // (T, H, D/4)

override HEADS: u32 = 4u;   // heads per workgroup: 1, 2 or 4, a divisor of H / G

@compute @workgroup_size(WG)
fn attention_backward_dq(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let packs = p.heads / HEADS;
    let index = p.first_group + group.y * groups.x + group.x;
    if index >= p.tokens * packs {
        return;
    }
    let token = index / packs;
    let head = index % packs * HEADS;
    let kv_head = head / (p.heads / p.kv_heads);
    let row = token * p.heads + head;
    let seen = keys_seen(token, tokens_meta[token]);

    let q0 = row * p.width4;
    let q1 = q0 + p.width4;
    let q2 = q1 + p.width4;
    let q3 = q2 + p.width4;
    let rows_of = vec4<u32>(row) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(HEADS - 1u));
    let lse = vec4<f32>(rows[rows_of.x].x, rows[rows_of.y].x, rows[rows_of.z].x, rows[rows_of.w].x);
    let owners = WG / SLICES;
    let slice = lane / owners;
    let d = min(lane % owners, p.width4 - 1u);
    var d_o_o = vec4<f32>();
    if lane < p.width4 {
        let at = rows_of * p.width4 + lane;
        d_o_o = vec4<f32>(
            dot(d_o[at.x], o[at.x]),
            dot(d_o[at.y], o[at.y]),
            dot(d_o[at.z], o[at.z]),
            dot(d_o[at.w], o[at.w]),
        );
    }
    scores[lane] = d_o_o;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            scores[lane] += scores[lane + step];
        }
        workgroupBarrier();
    }
    d_o_o = scores[0];
    if lane < HEADS {
        rows[row + lane].y = d_o_o[lane];
    }
    workgroupBarrier();
    var d_q0 = vec4<f32>();
    var d_q1 = vec4<f32>();
    var d_q2 = vec4<f32>();
    var d_q3 = vec4<f32>();
    for (var first = 0u; first < seen.count; first += WG) {
        let count = min(WG, seen.count - first);
        if lane < count {
            let base = (key_at(seen, first + lane) * p.kv_heads + kv_head) * p.width4;
            var dots = vec4<f32>();
            var d_weights = vec4<f32>();
            for (var c = 0u; c < p.width4; c++) {
                let key = k[base + c];
                let value = v[base + c];
                dots.x += dot(q[q0 + c], key);
                d_weights.x += dot(d_o[q0 + c], value);
                if HEADS > 1u {
                    dots.y += dot(q[q1 + c], key);
                    d_weights.y += dot(d_o[q1 + c], value);
                }
                if HEADS > 2u {
                    dots.z += dot(q[q2 + c], key);
                    dots.w += dot(q[q3 + c], key);
                    d_weights.z += dot(d_o[q2 + c], value);
                    d_weights.w += dot(d_o[q3 + c], value);
                }
            }
            let s = score(dots);
            scores[lane] = exp(s - lse) * (d_weights - d_o_o) * d_score(s);
        }
        workgroupBarrier();
        for (var i = slice; i < count; i += SLICES) {
            let d_s = scores[i];
            let key = k[(key_at(seen, first + i) * p.kv_heads + kv_head) * p.width4 + d];
            d_q0 += d_s.x * key;
            if HEADS > 1u {
                d_q1 += d_s.y * key;
            }
            if HEADS > 2u {
                d_q2 += d_s.z * key;
                d_q3 += d_s.w * key;
            }
        }
        workgroupBarrier();
    }
    if SLICES > 1u {
        d_q0 = added(lane, d_q0);
        if HEADS > 1u {
            d_q1 = added(lane, d_q1);
        }
        if HEADS > 2u {
            d_q2 = added(lane, d_q2);
            d_q3 = added(lane, d_q3);
        }
    }
    if lane < p.width4 {
        d_q[q0 + lane] = d_q0;
        if HEADS > 1u {
            d_q[q1 + lane] = d_q1;
        }
        if HEADS > 2u {
            d_q[q2 + lane] = d_q2;
            d_q[q3 + lane] = d_q3;
        }
    }
}
