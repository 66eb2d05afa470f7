// From the partial sums of squares: the norm of all gradients, the factor that clips it, and the
// decision whether this step is taken.
//
// One workgroup. Needs shared/train_state.wgsl in front.

struct Params {
    partials: u32,
    max_norm: f32,          // 0: no clipping
    beta1: f32,
    beta2: f32,
    one_minus_beta1: f32,   // from the host's f64: 1 - 0.999 in f32 is off by 1e-5 of itself
    one_minus_beta2: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partials: array<vec2<f32>>;   // (partials)
@group(0) @binding(2) var<storage, read_write> state: TrainState;

override WG: u32 = 256u;    // a power of two

var<workgroup> sums: array<vec2<f32>, WG>;

@compute @workgroup_size(WG)
fn global_norm(@builtin(local_invocation_index) lane: u32) {
    var sum = vec2<f32>();
    for (var i = lane; i < p.partials; i += WG) {
        sum = vec2<f32>(sum.x + partials[i].x, max(sum.y, partials[i].y));
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            let other = sums[lane + step];
            sums[lane] = vec2<f32>(sums[lane].x + other.x, max(sums[lane].y, other.y));
        }
        workgroupBarrier();
    }
    if lane > 0u {
        return;
    }
    let total = sums[0].x;
    let norm = sqrt(total);
    state.grad_norm = norm;
    if sums[0].y > 0.0 || not_finite(bitcast<u32>(total)) || not_finite(bitcast<u32>(state.loss)) {
        state.finite = 0u;
        state.clip = 0.0;
        state.skipped += 1u;
        state.skipped_in_a_row += 1u;
        return;
    }
    state.finite = 1u;
    state.clip = 1.0;
    if p.max_norm > 0.0 {
        state.clip = min(1.0, p.max_norm / (norm + 1e-6));
    }
    state.steps += 1u;
    state.skipped_in_a_row = 0u;
    // 1 - b^t = b · (1 - b^(t-1)) + (1 - b): no power, and nothing cancels.
    state.correction1 = p.beta1 * state.correction1 + p.one_minus_beta1;
    state.correction2 = p.beta2 * state.correction2 + p.one_minus_beta2;
}
