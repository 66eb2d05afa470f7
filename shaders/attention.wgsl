// O[T,H,D] = softmax(score(Q[T,H,D] · K[S,G,D]ᵀ)) · V[S,G,D] over the keys that each token attends to
//
// One workgroup takes one token and up to four heads that share a key head. It visits the keys that the
// token attends to in tiles of WG: an invocation scores one key, then sums every SLICES-th value into four of the D
// outputs. Sums are rescaled when a tile raises the maximum, so there is no T×S matrix. There is no mask either:
// other keys are never read.
// Prepend: shared/attention.wgsl.

@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;             // (T, H, D/4)
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;             // (S, G, D/4)
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;             // (S, G, D/4)
@group(0) @binding(4) var<storage, read> tokens_meta: array<vec4<u32>>;   // (T)
@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;       // (T, H, D/4)
@group(0) @binding(6) var<storage, read_write> rows: array<vec2<f32>>;    // (T, H): log-sum-exp of the scores, and a 0

override HEADS: u32 = 4u;   // heads per workgroup: 1, 2 or 4, a divisor of H / G

var<workgroup> weights: array<vec4<f32>, WG>;   // exponentials of the scores

@compute @workgroup_size(WG)
fn attention(
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
    let owners = WG / SLICES;
    let slice = lane / owners;
    let own = lane % owners;
    let d = min(own, p.width4 - 1u);
    var o0 = vec4<f32>();
    var o1 = vec4<f32>();
    var o2 = vec4<f32>();
    var o3 = vec4<f32>();
    var maximum = vec4<f32>(-3.4e38);
    var sum = vec4<f32>();
    for (var first = 0u; first < seen.count; first += WG) {
        let count = min(WG, seen.count - first);
        var mine = vec4<f32>();
        if lane < count {
            let base = (key_at(seen, first + lane) * p.kv_heads + kv_head) * p.width4;
            for (var c = 0u; c < p.width4; c++) {
                let key = k[base + c];
                mine.x += dot(q[q0 + c], key);
                if HEADS > 1u {
                    mine.y += dot(q[q1 + c], key);
                }
                if HEADS > 2u {
                    mine.z += dot(q[q2 + c], key);
                    mine.w += dot(q[q3 + c], key);
                }
            }
            mine = score(mine);
        }
        scores[lane] = select(vec4<f32>(-3.4e38), mine, lane < count);
        workgroupBarrier();
        var top = maximum;
        if SLICES == 1u {
            // Each invocation finds the maximum itself: fewer barriers than a reduction tree.
            for (var i = 0u; i < count; i++) {
                top = max(top, scores[i]);
            }
        } else {
            for (var step = WG / 2u; step > 0u; step /= 2u) {
                if lane < step {
                    scores[lane] = max(scores[lane], scores[lane + step]);
                }
                workgroupBarrier();
            }
            top = max(top, scores[0]);
        }
        weights[lane] = exp(mine - top);
        let shrink = exp(maximum - top);
        maximum = top;
        sum *= shrink;
        o0 *= shrink.x;
        o1 *= shrink.y;
        o2 *= shrink.z;
        o3 *= shrink.w;
        workgroupBarrier();
        for (var i = slice; i < count; i += SLICES) {
            let weight = weights[i];
            let value = v[(key_at(seen, first + i) * p.kv_heads + kv_head) * p.width4 + d];
            sum += weight;
            o0 += weight.x * value;
            if HEADS > 1u {
                o1 += weight.y * value;
            }
            if HEADS > 2u {
                o2 += weight.z * value;
                o3 += weight.w * value;
            }
        }
    }
    if SLICES > 1u {
        sum = added(lane, sum);
        o0 = added(lane, o0);
        if HEADS > 1u {
            o1 = added(lane, o1);
        }
        if HEADS > 2u {
            o2 = added(lane, o2);
            o3 = added(lane, o3);
        }
    }
    if lane < HEADS {
        rows[row + lane] = vec2<f32>(maximum[lane] + log(sum[lane]), 0.0);
    }
    if lane < p.width4 {
        o[q0 + lane] = o0 / sum.x;
        if HEADS > 1u {
            o[q1 + lane] = o1 / sum.y;
        }
        if HEADS > 2u {
            o[q2 + lane] = o2 / sum.z;
            o[q3 + lane] = o3 / sum.w;
        }
    }
}
