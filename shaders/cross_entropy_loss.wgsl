// losses[m] = log Σ exp(L[m]) - L[m, class of m], from the statistics of cross_entropy
// state.loss += scale · Σ weight · loss;  state.correct, state.entries += the numbers of entries
// whose class is the most likely one, and of all
//
// One workgroup: the order of the sums is fixed. Needs shared/target.wgsl and
// shared/train_state.wgsl in front.

struct Params {
    entries: u32,   // M
    scale: f32,     // 1 / sum of the weights of the optimizer's whole batch
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> stats: array<vec4<f32>>;        // (M)
@group(0) @binding(2) var<storage, read> targets: array<Target>;         // (M)
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;       // (M)
@group(0) @binding(4) var<storage, read_write> state: TrainState;

override WG: u32 = 256u;    // a power of two

var<workgroup> sums: array<vec2<f32>, WG>;   // weighted loss, correct

@compute @workgroup_size(WG)
fn cross_entropy_loss(@builtin(local_invocation_index) lane: u32) {
    var sum = vec2<f32>();
    for (var m = lane; m < p.entries; m += WG) {
        let s = stats[m];
        let loss = (s.x - s.z) + log(s.y);
        losses[m] = loss;
        sum += vec2<f32>(targets[m].weight * loss, select(0.0, 1.0, u32(s.w) == targets[m].class));
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
        state.loss += p.scale * sums[0].x;
        state.correct += sums[0].y;
        state.entries += f32(p.entries);
    }
}
