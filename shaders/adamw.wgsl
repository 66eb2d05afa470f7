// One step of AdamW on all parameters, if global_norm has decided to take it. Writes `weights`
// and both moments.
//
// Needs shared/train_state.wgsl in front.

struct Params {
    count4: u32,            // P / 4
    rate: f32,              // learning rate of this step
    one_minus_beta1: f32,   // from the host's f64
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
    decay: f32,             // decoupled weight decay
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> state: TrainState;
@group(0) @binding(2) var<storage, read> gradient: array<vec4<f32>>;        // (P/4)
@group(0) @binding(3) var<storage, read> rate_scale: array<f32>;            // (P/4), LoRA+'s ratio
@group(0) @binding(4) var<storage, read_write> weights: array<vec4<f32>>;   // (P/4)
@group(0) @binding(5) var<storage, read_write> moment1: array<vec4<f32>>;   // (P/4)
@group(0) @binding(6) var<storage, read_write> moment2: array<vec4<f32>>;   // (P/4)

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn adamw(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i >= p.count4 || state.finite == 0u {
        return;
    }
    let rate = p.rate * rate_scale[i];
    let g = state.clip * gradient[i];
    let m1 = moment1[i] + p.one_minus_beta1 * (g - moment1[i]);
    let m2 = p.beta2 * moment2[i] + p.one_minus_beta2 * g * g;
    let size = sqrt(m2) / sqrt(state.correction2) + p.eps;
    let kept = weights[i] * (1.0 - rate * p.decay);
    weights[i] = kept - rate / state.correction1 * m1 / size;
    moment1[i] = m1;
    moment2[i] = m2;
}
