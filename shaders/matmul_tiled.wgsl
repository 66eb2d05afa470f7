// Y[T,N] = X[T,K] · W[N,K]ᵀ  (+ s · Z[T,R] · B[N,R]ᵀ)
//
// A workgroup computes 8·GM tokens by 8·GN outputs from workgroup memory, an invocation 8 × 8 of
// them: the tile for GPUs. An invocation's tokens and outputs are two runs of four, so that
// adjacent invocations read adjacent words. The sums are named variables: see matmul_direct.
// Prepend: shared/half.wgsl, a weight decoder, shared/matmul.wgsl.

override GM: u32 = 8u;    // invocations along the tokens
override GN: u32 = 8u;    // and along the outputs
override BK: u32 = 4u;    // columns of four that a step loads; divides every group: 1, 2 or 4

// Transposed, so that an invocation reads four adjacent values at once; one vec4 of padding per row
// keeps the writes of a transposed load from hitting one memory bank.
var<workgroup> xs: array<vec4<f32>, 4u * BK * (2u * GM + 1u)>;   // (4·BK, 2·GM + 1)
var<workgroup> ws: array<vec4<f32>, 4u * BK * (2u * GN + 1u)>;   // (4·BK, 2·GN + 1)

// Column of four c of tokens t .. t+3; zero outside.
fn load_x(t: u32, c: u32) -> mat4x4<f32> {
    let inside = vec4<bool>(t < p.tokens, t + 1u < p.tokens, t + 2u < p.tokens, t + 3u < p.tokens);
    let at = min(vec4<u32>(t, t + 1u, t + 2u, t + 3u), vec4<u32>(p.tokens - 1u)) * p.k4 + min(c, p.k4 - 1u);
    let keep = vec4<f32>(inside) * f32(c < p.k4);
    return mat4x4<f32>(x[at.x] * keep.x, x[at.y] * keep.y, x[at.z] * keep.z, x[at.w] * keep.w);
}

fn load_w(row: u32, c: u32) -> vec4<f32> {
    if c >= p.k4 {
        return vec4<f32>();
    }
    let n = min(row, p.row_end - 1u);
    return weight4(n, c, p.k4, group_scale(n, 4u * c / GROUP, p.k4));
}

@compute @workgroup_size(GN, GM)
fn matmul_tiled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n0 = p.row_start + (p.first_group_x + group.x) * 8u * GN;
    let t0 = (p.first_group_y + group.y) * 8u * GM;
    let x_row = 2u * GM + 1u;
    let w_row = 2u * GN + 1u;

    // yRC: token R of the invocation, outputs 4C .. 4C+3.
    var y00 = vec4<f32>();
    var y01 = vec4<f32>();
    var y10 = vec4<f32>();
    var y11 = vec4<f32>();
    var y20 = vec4<f32>();
    var y21 = vec4<f32>();
    var y30 = vec4<f32>();
    var y31 = vec4<f32>();
    var y40 = vec4<f32>();
    var y41 = vec4<f32>();
    var y50 = vec4<f32>();
    var y51 = vec4<f32>();
    var y60 = vec4<f32>();
    var y61 = vec4<f32>();
    var y70 = vec4<f32>();
    var y71 = vec4<f32>();
    for (var c0 = 0u; c0 < p.k4; c0 += BK) {
        for (var i = lane; i < 2u * GM * BK; i += GM * GN) {
            let columns = transpose(load_x(t0 + 4u * (i / BK), c0 + i % BK));
            let at = 4u * (i % BK) * x_row + i / BK;
            xs[at] = columns[0];
            xs[at + x_row] = columns[1];
            xs[at + 2u * x_row] = columns[2];
            xs[at + 3u * x_row] = columns[3];
        }
        for (var i = lane; i < 2u * GN * BK; i += GM * GN) {
            let n = n0 + 4u * (i / BK);
            let c = c0 + i % BK;
            let columns = transpose(mat4x4<f32>(load_w(n, c), load_w(n + 1u, c), load_w(n + 2u, c), load_w(n + 3u, c)));
            let at = 4u * (i % BK) * w_row + i / BK;
            ws[at] = columns[0];
            ws[at + w_row] = columns[1];
            ws[at + 2u * w_row] = columns[2];
            ws[at + 3u * w_row] = columns[3];
        }
        workgroupBarrier();
        for (var k = 0u; k < 4u * BK; k++) {
            let a = xs[k * x_row + local.y];
            let b = xs[k * x_row + GM + local.y];
            let w0 = ws[k * w_row + local.x];
            let w1 = ws[k * w_row + GN + local.x];
            y00 += a.x * w0;
            y01 += a.x * w1;
            y10 += a.y * w0;
            y11 += a.y * w1;
            y20 += a.z * w0;
            y21 += a.z * w1;
            y30 += a.w * w0;
            y31 += a.w * w1;
            y40 += b.x * w0;
            y41 += b.x * w1;
            y50 += b.y * w0;
            y51 += b.y * w1;
            y60 += b.z * w0;
            y61 += b.z * w1;
            y70 += b.w * w0;
            y71 += b.w * w1;
        }
        workgroupBarrier();
    }
    let ta = t0 + 4u * local.y;
    let tb = ta + 4u * GM;
    let na = n0 + 4u * local.x;
    let nb = na + 4u * GN;
    store4(ta, na, y00);
    store4(ta, nb, y01);
    store4(ta + 1u, na, y10);
    store4(ta + 1u, nb, y11);
    store4(ta + 2u, na, y20);
    store4(ta + 2u, nb, y21);
    store4(ta + 3u, na, y30);
    store4(ta + 3u, nb, y31);
    store4(tb, na, y40);
    store4(tb, nb, y41);
    store4(tb + 1u, na, y50);
    store4(tb + 1u, nb, y51);
    store4(tb + 2u, na, y60);
    store4(tb + 2u, nb, y61);
    store4(tb + 3u, na, y70);
    store4(tb + 3u, nb, y71);
}
