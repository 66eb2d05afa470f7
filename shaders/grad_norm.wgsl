// norm = sqrt(Σ partial);  clip = min(1, max_norm / norm), or 0 where loss or norm is not finite
//
// One workgroup. Also updates the state: on an update the powers of beta and the number of updates,
// on a skipped step the counts of skipped steps.
// Prepend: shared/step.wgsl.

struct Params {
    parts: u32,       // partial sums
    max_norm: f32,    // 0: no clipping
    beta1: f32,
    beta2: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;        // (parts)
@group(0) @binding(2) var<storage, read_write> s: Step;

override WG: u32 = 64u;   // a power of two

var<workgroup> sums: array<f32, WG>;

@compute @workgroup_size(WG)
fn grad_norm(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < p.parts; i += WG) {
        sum += partial[i];
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            sums[lane] += sums[lane + step];
        }
        workgroupBarrier();
    }
    if lane > 0u {
        return;
    }
    let squares = sums[0];
    if finite(squares) && finite(s.loss) {
        s.grad_norm = sqrt(squares);
        s.clip = 1.0;
        if p.max_norm > 0.0 && s.grad_norm > p.max_norm {
            s.clip = p.max_norm / s.grad_norm;
        }
        s.beta1_power *= p.beta1;
        s.beta2_power *= p.beta2;
        s.updates += 1u;
        s.skipped_in_a_row = 0u;
    } else {
        s.grad_norm = 0.0;
        s.clip = 0.0;
        s.skipped += 1u;
        s.skipped_in_a_row += 1u;
    }
}
