// Y[T,N] = X[T,K] · W[N,K]ᵀ  (+ s · Z[T,R] · B[N,R]ᵀ)
//
// Every invocation computes TM tokens by 4 outputs from operands that it loads itself. For devices
// without real workgroup memory (CPU rasterizers), and for few tokens on any device. The sums are
// named variables because CPU rasterizers keep an array indexed in a loop in memory: 3 to 5 times slower.
// Prepend: shared/half.wgsl, a weight decoder, shared/matmul.wgsl, an epilogue.

override WN: u32 = 64u;   // invocations along the outputs
override WT: u32 = 1u;    // and along the tokens
override TM: u32 = 8u;    // tokens per invocation: 1, 2, 4 or 8

fn store_sums(t: u32, n: u32, sums: vec4<f32>) {
    if LORA == 1u {
        store_rows(t, n, sums + low_rank(t, rows_from(n)));
    } else {
        store_rows(t, n, sums);
    }
}

@compute @workgroup_size(WN, WT)
fn matmul_direct(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = p.row_start + 4u * (p.first_group_x * WN + id.x);
    let t = TM * (p.first_group_y * WT + id.y);
    if n >= p.row_end || t >= p.tokens {
        return;
    }
    // Indices beyond the end repeat the last row and token; their results are not stored.
    let rows = rows_from(n);
    let last = p.tokens - 1u;
    let x0 = t * p.x_stride4 + p.x_first4;
    let x1 = min(t + 1u, last) * p.x_stride4 + p.x_first4;
    let x2 = min(t + 2u, last) * p.x_stride4 + p.x_first4;
    let x3 = min(t + 3u, last) * p.x_stride4 + p.x_first4;
    let x4 = min(t + 4u, last) * p.x_stride4 + p.x_first4;
    let x5 = min(t + 5u, last) * p.x_stride4 + p.x_first4;
    let x6 = min(t + 6u, last) * p.x_stride4 + p.x_first4;
    let x7 = min(t + 7u, last) * p.x_stride4 + p.x_first4;
    var y0 = vec4<f32>();
    var y1 = vec4<f32>();
    var y2 = vec4<f32>();
    var y3 = vec4<f32>();
    var y4 = vec4<f32>();
    var y5 = vec4<f32>();
    var y6 = vec4<f32>();
    var y7 = vec4<f32>();

    let per_group = GROUP / 4u;
    let groups = (p.k4 + per_group - 1u) / per_group;
    for (var g = 0u; g < groups; g++) {
        let s0 = group_scale(rows.x, g, p.k4);
        let s1 = group_scale(rows.y, g, p.k4);
        let s2 = group_scale(rows.z, g, p.k4);
        let s3 = group_scale(rows.w, g, p.k4);
        let end = min((g + 1u) * per_group, p.k4);
        for (var c = g * per_group; c < end; c++) {
            // Row vector times matrix: four dot products.
            let w = mat4x4<f32>(
                weight4(rows.x, c, p.k4, s0),
                weight4(rows.y, c, p.k4, s1),
                weight4(rows.z, c, p.k4, s2),
                weight4(rows.w, c, p.k4, s3),
            );
            y0 += x[x0 + c] * w;
            if TM > 1u {
                y1 += x[x1 + c] * w;
            }
            if TM > 2u {
                y2 += x[x2 + c] * w;
                y3 += x[x3 + c] * w;
            }
            if TM > 4u {
                y4 += x[x4 + c] * w;
                y5 += x[x5 + c] * w;
                y6 += x[x6 + c] * w;
                y7 += x[x7 + c] * w;
            }
        }
    }
    store_sums(t, n, y0);
    if TM > 1u {
        store_sums(t + 1u, n, y1);
    }
    if TM > 2u {
        store_sums(t + 2u, n, y2);
        store_sums(t + 3u, n, y3);
    }
    if TM > 4u {
        store_sums(t + 4u, n, y4);
        store_sums(t + 5u, n, y5);
        store_sums(t + 6u, n, y6);
        store_sums(t + 7u, n, y7);
    }
}
