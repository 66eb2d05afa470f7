// stats[M] = (max, Σ exp(logit - max), logit of the target, -) over the vocabulary, chunk by chunk
//
// One workgroup per prediction. The first chunk sets stats, later ones are merged into it, so the
// logits over the whole vocabulary never exist at once.

struct Params {
    rows: u32,      // M
    columns: u32,   // tokens of this chunk
    stride: u32,    // elements from one row of logits to the next
    first: u32,     // the chunk's first token
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;               // (M, stride)
@group(0) @binding(2) var<storage, read> targets: array<u32>;              // (M)
@group(0) @binding(3) var<storage, read_write> stats: array<vec4<f32>>;    // (M)

override WG: u32 = 64u;      // invocations per row, a power of two
override MERGE: u32 = 0u;    // 1: stats holds earlier chunks

var<workgroup> parts: array<vec2<f32>, WG>;   // max, sum

// Merges two sums of exponentials that are relative to different maxima.
fn merge(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let top = max(a.x, b.x);
    return vec2<f32>(top, a.y * exp(a.x - top) + b.y * exp(b.x - top));
}

@compute @workgroup_size(WG)
fn cross_entropy(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    let base = row * p.stride;
    var part = vec2<f32>(-3.4e38, 0.0);
    for (var c = lane; c < p.columns; c += WG) {
        part = merge(part, vec2<f32>(logits[base + c], 1.0));
    }
    parts[lane] = part;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            parts[lane] = merge(parts[lane], parts[lane + step]);
        }
        workgroupBarrier();
    }
    if lane > 0u {
        return;
    }
    var all = parts[0];
    var target_logit = 0.0;
    if MERGE == 1u {
        all = merge(stats[row].xy, all);
        target_logit = stats[row].z;
    }
    let own = targets[row];
    if own >= p.first && own - p.first < p.columns {
        target_logit = logits[base + own - p.first];
    }
    stats[row] = vec4<f32>(all, target_logit, 0.0);
}
