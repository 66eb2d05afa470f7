// Shared by the attention kernels: parameters, the keys that a token attends to, soft-capping, sums that a workgroup
// shares.

struct Params {
    tokens: u32,      // T
    heads: u32,       // H
    kv_heads: u32,    // G
    width4: u32,      // D / 4
    cached: u32,      // keys before the first token's own key
    window: u32,      // a token attends to keys less than this many positions back; 0: all
    scale: f32,
    softcap: f32,     // 0: none
    first_group: u32, // index of the first workgroup, where a launch is split
    // attention_backward_dkv:
    parts: u32,       // of the rows of the first keys
    split_keys: u32,  // those keys, of whole workgroups; 0: none
    part_rows: u32,   // rows of a part
}

@group(0) @binding(0) var<uniform> p: Params;

override WG: u32 = 64u;      // invocations, and keys or rows per tile, a power of two
override SLICES: u32 = 1u;   // invocations that share a result; WG / SLICES is at least D / 4 and 4

// Of a tile's keys or rows, for up to four heads or keys: scores or their gradients. In the end, sums of the slices.
var<workgroup> scores: array<vec4<f32>, WG>;

// The sum of all slices' values, in order, for the first slice.
fn added(lane: u32, value: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    scores[lane] = value;
    workgroupBarrier();
    var sum = vec4<f32>();
    for (var i = lane % (WG / SLICES); i < WG; i += WG / SLICES) {
        sum += scores[i];
    }
    return sum;
}

// The keys that a token attends to: a range of the prefix, then one of its own segment, as one list.
struct Seen {
    prefix_start: u32,
    prefix_count: u32,
    own_start: u32,
    count: u32,   // in both
}

// `token` is an index into the batch, `info` its tokens_meta. Windows count positions: key j of the
// prefix is at position j; in the token's own segment, differences of indices equal differences of positions.
fn keys_seen(token: u32, info: vec4<u32>) -> Seen {
    let own_end = p.cached + token + 1u;
    var prefix_start = 0u;
    var own_start = info.z;
    if p.window > 0u {
        prefix_start = min(info.y, max(info.x + 1u, p.window) - p.window);
        own_start = max(own_start, max(own_end, p.window) - p.window);
    }
    let prefix_count = info.y - prefix_start;
    return Seen(prefix_start, prefix_count, own_start, prefix_count + own_end - own_start);
}

fn key_at(seen: Seen, i: u32) -> u32 {
    return select(seen.own_start + i - seen.prefix_count, seen.prefix_start + i, i < seen.prefix_count);
}

// The scaled and soft-capped score of q·k.
fn score(dots: vec4<f32>) -> vec4<f32> {
    let s = dots * p.scale;
    if p.softcap > 0.0 {
        return p.softcap * tanh(clamp(s / p.softcap, vec4<f32>(-15.0), vec4<f32>(15.0)));
    }
    return s;
}

// The derivative of score() with respect to q·k, from the score itself.
fn d_score(s: vec4<f32>) -> vec4<f32> {
    if p.softcap > 0.0 {
        let t = s / p.softcap;
        return p.scale * (1.0 - t * t);
    }
    return vec4<f32>(p.scale);
}
