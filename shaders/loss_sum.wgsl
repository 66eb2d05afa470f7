// loss[0] += Σ weight[M] · (max + ln(sum) - target logit);  loss[1] += number of correct predictions
//
// One workgroup: the order of the sum is fixed. A prediction is correct where no logit exceeds the
// target's.

struct Params {
    rows: u32,   // M
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<f32>;          // (M), normalized
@group(0) @binding(2) var<storage, read> stats: array<vec4<f32>>;      // (M): max, sum, target logit
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;       // (2)

override WG: u32 = 64u;   // a power of two

var<workgroup> sums: array<vec2<f32>, WG>;

@compute @workgroup_size(WG)
fn loss_sum(@builtin(local_invocation_index) lane: u32) {
    var sum = vec2<f32>();
    for (var row = lane; row < p.rows; row += WG) {
        let s = stats[row];
        sum += vec2<f32>(weights[row] * (s.x + log(s.y) - s.z), f32(s.z >= s.x));
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            sums[lane] += sums[lane + step];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        loss[0] += sums[0].x;
        loss[1] += sums[0].y;
    }
}
