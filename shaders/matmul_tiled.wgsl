// Y[T,N] = X[T,K] · W[N,K]ᵀ  (+ s · Z[T,R] · B[N,R]ᵀ)
//
// A workgroup computes a BM × BN tile of Y from workgroup memory, each invocation a 4·MM × 4·NN part.
// The shape for GPUs. Needs in front: shared/half.wgsl, a weight decoder, shared/matmul.wgsl.

override MM: u32 = 1u;    // an invocation holds 4·MM tokens,
override NN: u32 = 1u;    // and 4·NN outputs; MM · NN at most 4
override GM: u32 = 16u;   // invocations along the tokens,
override GN: u32 = 16u;   // and along the outputs
override BM: u32 = 64u;   // = 4·MM·GM tokens a tile
override BN: u32 = 64u;   // = 4·NN·GN outputs a tile
override BK: u32 = 4u;    // columns of four that a step loads; divides every group (4 or 8)

// Transposed, so that an invocation reads four neighbours at once. One column of padding keeps
// the writes of a transposed load off one memory bank.
var<workgroup> xs: array<vec4<f32>, (4u * BK) * (BM / 4u + 1u)>;   // (4·BK, BM/4)
var<workgroup> ws: array<vec4<f32>, (4u * BK) * (BN / 4u + 1u)>;   // (4·BK, BN/4)

@compute @workgroup_size(GN, GM)
fn matmul_tiled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n0 = p.row_start + group.x * BN;
    let t0 = group.y * BM;
    let x_stride = BM / 4u + 1u;
    let w_stride = BN / 4u + 1u;
    let lanes = GM * GN;

    var acc: array<vec4<f32>, 16>;   // (4·MM, NN)
    for (var c0 = 0u; c0 < p.k4; c0 += BK) {
        // Each invocation loads four tokens (rows) of one column of four, and stores them transposed.
        for (var i = lane; i < BM / 4u * BK; i += lanes) {
            let c = c0 + i % BK;
            let t = t0 + 4u * (i / BK);
            var m = mat4x4<f32>();
            if c < p.k4 {
                for (var r = 0u; r < 4u; r++) {
                    if t + r < p.tokens {
                        m[r] = x[(t + r) * p.k4 + c];
                    }
                }
            }
            let columns = transpose(m);
            for (var r = 0u; r < 4u; r++) {
                xs[(4u * (i % BK) + r) * x_stride + i / BK] = columns[r];
            }
        }
        for (var i = lane; i < BN / 4u * BK; i += lanes) {
            let c = c0 + i % BK;
            let n = n0 + 4u * (i / BK);
            var m = mat4x4<f32>();
            if c < p.k4 {
                for (var r = 0u; r < 4u; r++) {
                    if n + r < p.row_end {
                        m[r] = weight4(n + r, c, p.k4, group_scale(n + r, 4u * c / GROUP, p.k4));
                    }
                }
            }
            let columns = transpose(m);
            for (var r = 0u; r < 4u; r++) {
                ws[(4u * (i % BK) + r) * w_stride + i / BK] = columns[r];
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 4u * BK; k++) {
            for (var i = 0u; i < MM; i++) {
                let a = xs[k * x_stride + i * GM + local.y];
                for (var j = 0u; j < NN; j++) {
                    let w = ws[k * w_stride + j * GN + local.x];
                    let at = 4u * (i * NN + j);
                    acc[at] += a.x * w;
                    acc[at + 1u] += a.y * w;
                    acc[at + 2u] += a.z * w;
                    acc[at + 3u] += a.w * w;
                }
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < MM; i++) {
        for (var j = 0u; j < NN; j++) {
            for (var r = 0u; r < 4u; r++) {
                let t = t0 + 4u * (i * GM + local.y) + r;
                for (var s = 0u; s < 4u; s++) {
                    let n = n0 + 4u * (j * GN + local.x) + s;
                    if t < p.tokens && n < p.row_end {
                        store(t, n, acc[4u * (i * NN + j) + r][s]);
                    }
                }
            }
        }
    }
}
