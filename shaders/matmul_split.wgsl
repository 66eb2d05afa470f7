// Y[T,N] = X[T,K] · W[N,K]ᵀ  (+ s · Z[T,R] · B[N,R]ᵀ)
//
// A workgroup computes TM tokens by 4 outputs. Each of its invocations sums over a share of K, and these sums are added
// in a fixed tree. Used for few tokens and for few outputs, where other tiles would leave a GPU mostly idle.
// Prepend: shared/half.wgsl, a weight decoder, shared/matmul.wgsl, an epilogue.

override WG: u32 = 64u;   // invocations along K, a power of two
override TM: u32 = 4u;    // tokens per workgroup: 1 or 4

var<workgroup> sums: array<vec4<f32>, TM * WG>;   // (TM, WG)

@compute @workgroup_size(WG)
fn matmul_split(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let n = p.row_start + 4u * (p.first_group_x + group.x);
    let t = TM * (p.first_group_y + group.y);
    let rows = rows_from(n);
    let last = p.tokens - 1u;
    let x0 = min(t, last) * p.x_stride4 + p.x_first4;
    let x1 = min(t + 1u, last) * p.x_stride4 + p.x_first4;
    let x2 = min(t + 2u, last) * p.x_stride4 + p.x_first4;
    let x3 = min(t + 3u, last) * p.x_stride4 + p.x_first4;
    var y0 = vec4<f32>();
    var y1 = vec4<f32>();
    var y2 = vec4<f32>();
    var y3 = vec4<f32>();
    for (var c = lane; c < p.k4; c += WG) {
        let g = 4u * c / GROUP;
        // Row vector times matrix: four dot products.
        let w = mat4x4<f32>(
            weight4(rows.x, c, p.k4, group_scale(rows.x, g, p.k4)),
            weight4(rows.y, c, p.k4, group_scale(rows.y, g, p.k4)),
            weight4(rows.z, c, p.k4, group_scale(rows.z, g, p.k4)),
            weight4(rows.w, c, p.k4, group_scale(rows.w, g, p.k4)),
        );
        y0 += x[x0 + c] * w;
        if TM > 1u {
            y1 += x[x1 + c] * w;
            y2 += x[x2 + c] * w;
            y3 += x[x3 + c] * w;
        }
    }
    sums[lane] = y0;
    if TM > 1u {
        sums[WG + lane] = y1;
        sums[2u * WG + lane] = y2;
        sums[3u * WG + lane] = y3;
    }
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            for (var i = lane; i < TM * WG; i += WG) {
                sums[i] += sums[i + step];
            }
        }
        workgroupBarrier();
    }
    if lane < TM {
        var total = sums[lane * WG];
        if LORA == 1u {
            total += low_rank(t + lane, rows);
        }
        store_rows(t + lane, n, total);
    }
}
