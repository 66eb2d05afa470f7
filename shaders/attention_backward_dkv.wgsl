// d_V[T,G,D] = Pᵀ · d_O, in the last columns of D_QKV, and d_K[T,G,D] = d_Sᵀ · Q, both `=`, with P and d_S as in
// attention_backward_dq
//
// One workgroup takes up to four adjacent keys of one key head, and visits the rows (a token and one of its heads) that
// may attend to them, in order, in tiles of WG: an invocation computes P and d_S of one row, then sums every SLICES-th
// of them into four of the D results. Every row of the batch may attend to a prefix key: the rows of the first keys are
// therefore divided into parts, each with a workgroup and with sums of its own, which qk_norm_rope adds in order. Those
// of part 0 go where those of other keys go, those of the others behind the T rows of D_K:
// (parts - 1, split keys, d_K and d_V, G, D).
// Prepend: shared/attention.wgsl.

@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;             // (T, H, D/4)
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;             // (T, G, D/4)
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;             // (T, G, D/4)
@group(0) @binding(4) var<storage, read> tokens_meta: array<vec4<u32>>;   // (T)
@group(0) @binding(5) var<storage, read> d_o: array<vec4<f32>>;           // (T, H, D/4)
@group(0) @binding(6) var<storage, read> rows: array<vec2<f32>>;          // (T, H): lse, Σ d_O O
@group(0) @binding(7) var<storage, read_write> d_k: array<vec4<f32>>;     // (T + parts, G, D/4)
@group(0) @binding(8) var<storage, read_write> d_qkv: array<vec4<f32>>;   // (T, H + 2G, D/4), written for values only

override KEYS: u32 = 4u;     // keys per workgroup: 1, 2 or 4

var<workgroup> weights: array<vec4<f32>, WG>;   // P of a tile's rows, one component per key

// Writes the sums of a part that is not the first, into row `at` of D_K and the next.
fn store_part(at: u32, kv: u32, d_key: vec4<f32>, d_value: vec4<f32>) {
    d_k[at * p.kv_heads * p.width4 + kv] = d_key;
    d_k[(at + 1u) * p.kv_heads * p.width4 + kv] = d_value;
}

@compute @workgroup_size(WG)
fn attention_backward_dkv(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var index = p.first_group + group.y * groups.x + group.x;
    var part = 0u;
    var part_rows = 0xffffffffu;
    let groups_of_part = p.split_keys / KEYS * p.kv_heads;
    if index < p.parts * groups_of_part {
        part = index / groups_of_part;
        part_rows = p.part_rows;
        index %= groups_of_part;
    } else {
        index -= (p.parts - 1u) * groups_of_part;
    }
    let key = index / p.kv_heads * KEYS;
    if key >= p.tokens {
        return;
    }
    let kv_head = index % p.kv_heads;
    let heads = p.heads / p.kv_heads;
    // Indices beyond the end repeat the last key; their results are not stored.
    let keys = min(vec4<u32>(key) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(KEYS - 1u)), vec4<u32>(p.tokens - 1u));
    let info0 = tokens_meta[keys.x];
    let info1 = tokens_meta[keys.y];
    let info2 = tokens_meta[keys.z];
    let info3 = tokens_meta[keys.w];
    let positions = vec4<u32>(info0.x, info1.x, info2.x, info3.x);
    let ends = vec4<u32>(info0.w, info1.w, info2.w, info3.w);
    let last = max(max(ends.x, ends.y), max(ends.z, ends.w));
    let seeing = (last - key) * heads;
    let begin = min(part * part_rows, seeing);
    let end = begin + min(seeing - begin, part_rows);

    let stride = p.kv_heads * p.width4;
    let k0 = keys.x * stride + kv_head * p.width4;
    let k1 = keys.y * stride + kv_head * p.width4;
    let k2 = keys.z * stride + kv_head * p.width4;
    let k3 = keys.w * stride + kv_head * p.width4;
    let owners = WG / SLICES;
    let slice = lane / owners;
    let d = min(lane % owners, p.width4 - 1u);
    var d_k0 = vec4<f32>();
    var d_k1 = vec4<f32>();
    var d_k2 = vec4<f32>();
    var d_k3 = vec4<f32>();
    var d_v0 = vec4<f32>();
    var d_v1 = vec4<f32>();
    var d_v2 = vec4<f32>();
    var d_v3 = vec4<f32>();
    for (var first = begin; first < end; first += WG) {
        let count = min(WG, end - first);
        if lane < count {
            let token = key + (first + lane) / heads;
            let position = tokens_meta[token].x;
            var sees = (vec4<u32>(token) >= keys) & (vec4<u32>(token) < ends);
            if p.window > 0u {
                sees = sees & (vec4<u32>(position) - positions < vec4<u32>(p.window));
            }
            var weight = vec4<f32>();
            var d_s = vec4<f32>();
            if any(sees) {
                let row = token * p.heads + kv_head * heads + (first + lane) % heads;
                let base = row * p.width4;
                var dots = vec4<f32>();
                var d_weights = vec4<f32>();
                for (var c = 0u; c < p.width4; c++) {
                    let query = q[base + c];
                    let d_out = d_o[base + c];
                    dots.x += dot(query, k[k0 + c]);
                    d_weights.x += dot(d_out, v[k0 + c]);
                    if KEYS > 1u {
                        dots.y += dot(query, k[k1 + c]);
                        d_weights.y += dot(d_out, v[k1 + c]);
                    }
                    if KEYS > 2u {
                        dots.z += dot(query, k[k2 + c]);
                        dots.w += dot(query, k[k3 + c]);
                        d_weights.z += dot(d_out, v[k2 + c]);
                        d_weights.w += dot(d_out, v[k3 + c]);
                    }
                }
                let s = score(dots);
                let stats = rows[row];
                // For a key that the row does not attend to, the difference is unbounded: keep it out of exp.
                weight = select(vec4<f32>(), exp(select(vec4<f32>(), s - stats.x, sees)), sees);
                d_s = weight * (d_weights - stats.y) * d_score(s);
            }
            weights[lane] = weight;
            scores[lane] = d_s;
        }
        workgroupBarrier();
        for (var i = slice; i < count; i += SLICES) {
            let weight = weights[i];
            let d_s = scores[i];
            let row = (key + (first + i) / heads) * p.heads + kv_head * heads + (first + i) % heads;
            let query = q[row * p.width4 + d];
            let d_out = d_o[row * p.width4 + d];
            d_k0 += d_s.x * query;
            d_v0 += weight.x * d_out;
            if KEYS > 1u {
                d_k1 += d_s.y * query;
                d_v1 += weight.y * d_out;
            }
            if KEYS > 2u {
                d_k2 += d_s.z * query;
                d_k3 += d_s.w * query;
                d_v2 += weight.z * d_out;
                d_v3 += weight.w * d_out;
            }
        }
        workgroupBarrier();
    }
    if SLICES > 1u {
        d_k0 = added(lane, d_k0);
        d_v0 = added(lane, d_v0);
        if KEYS > 1u {
            d_k1 = added(lane, d_k1);
            d_v1 = added(lane, d_v1);
        }
        if KEYS > 2u {
            d_k2 = added(lane, d_k2);
            d_v2 = added(lane, d_v2);
            d_k3 = added(lane, d_k3);
            d_v3 = added(lane, d_v3);
        }
    }
    if lane >= p.width4 {
        return;
    }
    if part > 0u {
        let at = p.tokens + ((part - 1u) * p.split_keys + key) * 2u;
        let kv = kv_head * p.width4 + lane;
        store_part(at, kv, d_k0, d_v0);
        if KEYS > 1u {
            store_part(at + 2u, kv, d_k1, d_v1);
        }
        if KEYS > 2u {
            store_part(at + 4u, kv, d_k2, d_v2);
            store_part(at + 6u, kv, d_k3, d_v3);
        }
        return;
    }
    let all = (p.heads + 2u * p.kv_heads) * p.width4;
    let v = keys * all + (p.heads + p.kv_heads + kv_head) * p.width4 + lane;
    d_k[k0 + lane] = d_k0;
    d_qkv[v.x] = d_v0;
    if KEYS > 1u && key + 1u < p.tokens {
        d_k[k1 + lane] = d_k1;
        d_qkv[v.y] = d_v1;
    }
    if KEYS > 2u && key + 2u < p.tokens {
        d_k[k2 + lane] = d_k2;
        d_qkv[v.z] = d_v2;
    }
    if KEYS > 2u && key + 3u < p.tokens {
        d_k[k3 + lane] = d_k3;
        d_qkv[v.w] = d_v3;
    }
}
