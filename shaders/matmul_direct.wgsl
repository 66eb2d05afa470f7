// Y[T,N] = X[T,K] · W[N,K]ᵀ  (+ s · Z[T,R] · B[N,R]ᵀ)
//
// Every invocation computes up to 8 tokens by 4 outputs and loads what it needs itself. The right
// shape where there is no real workgroup memory (CPU rasterizers) and for one token at a time.
// Needs in front: shared/half.wgsl, a weight decoder, shared/matmul.wgsl.

override WG: u32 = 64u;   // invocations a workgroup, along N
override TM: u32 = 8u;    // tokens an invocation, at most 8

@compute @workgroup_size(WG)
fn matmul_direct(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let n = p.row_start + 4u * (group.x * WG + lane);
    let t = TM * group.y;
    if n >= p.row_end {
        return;
    }
    // Beyond the edge the last row and token are computed again, and not stored.
    let last = p.row_end - 1u;
    let rows = min(vec4<u32>(n, n + 1u, n + 2u, n + 3u), vec4<u32>(last));

    var a0 = vec4<f32>();
    var a1 = vec4<f32>();
    var a2 = vec4<f32>();
    var a3 = vec4<f32>();
    var a4 = vec4<f32>();
    var a5 = vec4<f32>();
    var a6 = vec4<f32>();
    var a7 = vec4<f32>();
    let x0 = min(t + 0u, p.tokens - 1u) * p.k4;
    let x1 = min(t + 1u, p.tokens - 1u) * p.k4;
    let x2 = min(t + 2u, p.tokens - 1u) * p.k4;
    let x3 = min(t + 3u, p.tokens - 1u) * p.k4;
    let x4 = min(t + 4u, p.tokens - 1u) * p.k4;
    let x5 = min(t + 5u, p.tokens - 1u) * p.k4;
    let x6 = min(t + 6u, p.tokens - 1u) * p.k4;
    let x7 = min(t + 7u, p.tokens - 1u) * p.k4;
    let per_group = GROUP / 4u;
    let groups = (p.k4 + per_group - 1u) / per_group;
    for (var g = 0u; g < groups; g++) {
        let s0 = group_scale(rows.x, g, p.k4);
        let s1 = group_scale(rows.y, g, p.k4);
        let s2 = group_scale(rows.z, g, p.k4);
        let s3 = group_scale(rows.w, g, p.k4);
        let end = min((g + 1u) * per_group, p.k4);
        for (var c = g * per_group; c < end; c++) {
            let w = mat4x4<f32>(
                weight4(rows.x, c, p.k4, s0),
                weight4(rows.y, c, p.k4, s1),
                weight4(rows.z, c, p.k4, s2),
                weight4(rows.w, c, p.k4, s3),
            );
            a0 += x[x0 + c] * w;
            a1 += x[x1 + c] * w;
            a2 += x[x2 + c] * w;
            a3 += x[x3 + c] * w;
            a4 += x[x4 + c] * w;
            a5 += x[x5 + c] * w;
            a6 += x[x6 + c] * w;
            a7 += x[x7 + c] * w;
        }
    }
    var acc = array<vec4<f32>, 8>(a0, a1, a2, a3, a4, a5, a6, a7);
    for (var i = 0u; i < TM; i++) {
        if t + i < p.tokens {
            for (var j = 0u; j < 4u; j++) {
                if n + j < p.row_end {
                    store(t + i, n + j, acc[i][j]);
                }
            }
        }
    }
}
