// One AdamW update of all parameters: param, m and v are `=`; grad is unchanged.
//
//   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g²,  g = clip · grad
//   param -= rate (decay · param + (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps))
//
// Source: Loshchilov and Hutter 2019, algorithm 2, as torch.optim.AdamW computes it.
// Prepend: shared/step.wgsl.

struct Params {
    count4: u32,     // parameters / 4
    rate: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    decay: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> grad: array<vec4<f32>>;           // (count / 4)
@group(0) @binding(2) var<storage, read> rate_scale: array<f32>;           // (count / 4): LoRA+
@group(0) @binding(3) var<storage, read> s: Step;
@group(0) @binding(4) var<storage, read_write> param: array<vec4<f32>>;    // (count / 4)
@group(0) @binding(5) var<storage, read_write> m: array<vec4<f32>>;        // (count / 4)
@group(0) @binding(6) var<storage, read_write> v: array<vec4<f32>>;        // (count / 4)

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn adamw(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    // A skipped step changes nothing: its gradients may be NaN.
    if i >= p.count4 || s.clip == 0.0 {
        return;
    }
    let g = s.clip * grad[i];
    let m_new = p.beta1 * m[i] + (1.0 - p.beta1) * g;
    let v_new = p.beta2 * v[i] + (1.0 - p.beta2) * g * g;
    m[i] = m_new;
    v[i] = v_new;
    let rate = p.rate * rate_scale[i];
    let step = (m_new / (1.0 - s.beta1_power)) / (sqrt(v_new / (1.0 - s.beta2_power)) + p.eps);
    param[i] -= rate * (p.decay * param[i] + step);
}
