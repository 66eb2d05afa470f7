// dG[M,N] += s · P[T,M]ᵀ · Q[T,N]
//
// Gradients of both LoRA factors: dB[out,R] with P = dY, Q = Z; dA[R,in] with P = dZ, Q = X.
// `+=` accumulates micro-batches; an optimizer step starts from zeros. An invocation sums 4 × 4
// elements over the tokens in order, so the result does not depend on scheduling.

struct Params {
    tokens: u32,      // T
    m4: u32,          // M / 4
    n4: u32,          // N / 4
    scale: f32,       // s
    p_stride4: u32,   // vec4s from one token of P to the next
    first_group_x: u32, // index of the first workgroup, where a launch is cut
    first_group_y: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> left: array<vec4<f32>>;         // (T, p_stride4): P
@group(0) @binding(2) var<storage, read> right: array<vec4<f32>>;        // (T, N/4): Q
@group(0) @binding(3) var<storage, read_write> dg: array<vec4<f32>>;     // (M, N/4)

override WN: u32 = 64u;    // invocations along N
override WM: u32 = 1u;     // and along M

@compute @workgroup_size(WN, WM)
fn lora_grad(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = p.first_group_x * WN + id.x;
    let m = p.first_group_y * WM + id.y;
    if n >= p.n4 || m >= p.m4 {
        return;
    }
    var g0 = vec4<f32>();
    var g1 = vec4<f32>();
    var g2 = vec4<f32>();
    var g3 = vec4<f32>();
    for (var t = 0u; t < p.tokens; t++) {
        let l = left[t * p.p_stride4 + m];
        let r = right[t * p.n4 + n];
        g0 += l.x * r;
        g1 += l.y * r;
        g2 += l.z * r;
        g3 += l.w * r;
    }
    let at = 4u * m * p.n4 + n;
    dg[at] += p.scale * g0;
    dg[at + p.n4] += p.scale * g1;
    dg[at + 2u * p.n4] += p.scale * g2;
    dg[at + 3u * p.n4] += p.scale * g3;
}
