// Backward of cross_entropy, of one chunk of columns, in place: the logits become
// dL[m, n] = scale · weight · (softmax(L)[m, n] - [n is the class of m])
//
// `=`, and zero in the padding, which the matmul reads. Where the logits were soft-capped the
// gradient goes on through the tanh: dL · (1 - (L / cap)²). Needs shared/target.wgsl in front.

struct Params {
    entries: u32,    // M
    columns: u32,    // of this chunk, without padding
    stride4: u32,    // vec4s from one row of the chunk to the next
    first: u32,      // column of the whole softmax where the chunk starts
    scale: f32,      // 1 / sum of the weights of the optimizer's whole batch
    soft_cap: f32,   // 0: the logits have none
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> stats: array<vec4<f32>>;          // (M)
@group(0) @binding(2) var<storage, read> targets: array<Target>;           // (M)
@group(0) @binding(3) var<storage, read_write> logits: array<vec4<f32>>;   // (M, stride4)

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn cross_entropy_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i >= p.entries * p.stride4 {
        return;
    }
    let row = i / p.stride4;
    let column = 4u * (i % p.stride4) + vec4<u32>(0u, 1u, 2u, 3u);
    let value = logits[i];
    let wanted = column + p.first == vec4<u32>(targets[row].class);
    var d = exp(value - stats[row].x) / stats[row].y - select(vec4<f32>(), vec4<f32>(1.0), wanted);
    d *= p.scale * targets[row].weight;
    if p.soft_cap > 0.0 {
        let ratio = value / p.soft_cap;
        d *= 1.0 - ratio * ratio;
    }
    logits[i] = select(vec4<f32>(), d, column < vec4<u32>(p.columns));
}
