// d_logits[M, columns] = weight[M] · (softmax(logits) - onehot(target)), written over the logits
//
// The columns from `columns` up to `stride` become zero: the backward matmul reads them. With a
// final soft-cap the gradient passes through its tanh: d (1 - (logit / cap)²).

struct Params {
    rows: u32,       // M
    columns: u32,    // tokens of this chunk
    stride: u32,     // elements from one row of logits to the next
    first: u32,      // the chunk's first token
    softcap: f32,    // 0: none
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> targets: array<u32>;           // (M)
@group(0) @binding(2) var<storage, read> weights: array<f32>;           // (M), normalized
@group(0) @binding(3) var<storage, read> stats: array<vec4<f32>>;       // (M): max, sum, target logit
@group(0) @binding(4) var<storage, read_write> logits: array<f32>;      // (M, stride), then d_logits

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn cross_entropy_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i >= p.rows * p.stride {
        return;
    }
    let row = i / p.stride;
    let column = i % p.stride;
    if column >= p.columns {
        logits[i] = 0.0;
        return;
    }
    let logit = logits[i];
    let row_stats = stats[row];
    var d = exp(logit - row_stats.x) / row_stats.y;
    if column + p.first == targets[row] {
        d -= 1.0;
    }
    d *= weights[row];
    if p.softcap > 0.0 {
        let bent = logit / p.softcap;
        d *= 1.0 - bent * bent;
    }
    logits[i] = d;
}
