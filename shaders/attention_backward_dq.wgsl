// d_Q[T,H,D] = d_S · K, `=`, where d_S = P * (d_P - Σ d_O O) * cap'(S) * scale, P = exp(S - lse),
// d_P = d_O · Vᵀ
//
// Visits the keys as attention.wgsl does, without its maximum: one workgroup takes one token and up to four heads,
// an invocation computes d_S of one key, then owns four of the D results.
// Prepend: shared/attention.wgsl.

@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;             // (T, H, D/4)
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;             // (T, G, D/4)
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;             // (T, G, D/4)
@group(0) @binding(4) var<storage, read> tokens_meta: array<vec4<u32>>;   // (T)
@group(0) @binding(5) var<storage, read> d_o: array<vec4<f32>>;           // (T, H, D/4)
@group(0) @binding(6) var<storage, read> rows: array<vec2<f32>>;          // (T, H): lse, Σ d_O O
@group(0) @binding(7) var<storage, read_write> d_q: array<vec4<f32>>;     // (T, H, D/4)

override WG: u32 = 64u;     // invocations and keys per tile, at least D / 4
override HEADS: u32 = 4u;   // heads per workgroup: 1, 2 or 4, a divisor of H / G

var<workgroup> d_scores: array<vec4<f32>, WG>;   // of a tile's keys, one component per head

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
    let row0 = rows[row];
    let row1 = rows[row + min(1u, HEADS - 1u)];
    let row2 = rows[row + min(2u, HEADS - 1u)];
    let row3 = rows[row + min(3u, HEADS - 1u)];
    let lse = vec4<f32>(row0.x, row1.x, row2.x, row3.x);
    let d_o_o = vec4<f32>(row0.y, row1.y, row2.y, row3.y);
    let d = min(lane, p.width4 - 1u);
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
            d_scores[lane] = exp(s - lse) * (d_weights - d_o_o) * d_score(s);
        }
        workgroupBarrier();
        for (var i = 0u; i < count; i++) {
            let d_s = d_scores[i];
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
