// dX[T,K] = dY[T,N] · W[N,K]  (+ dZ[T,R] · A[R,K])  (+ what dX holds)
//
// The counterpart of matmul_direct: the same weight buffer, summed over its rows. An invocation
// computes TM tokens by 4 columns from operands that it loads itself. dX is `=`, or `+=` with ADD
// (for the other slabs of a matrix). dY's columns
// from N up to a multiple of 4 must be zero: rows beyond the end repeat the last.
// Prepend: shared/half.wgsl, a weight decoder, shared/matmul.wgsl, an epilogue.

override WK: u32 = 64u;    // invocations along the columns
override WT: u32 = 1u;     // and along the tokens
override TM: u32 = 8u;     // tokens per invocation: 1, 2, 4 or 8

@compute @workgroup_size(WK, WT)
fn matmul_backward(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = p.first_group_x * WK + id.x;
    let t = TM * (p.first_group_y * WT + id.y);
    if c >= p.k4 || t >= p.tokens {
        return;
    }
    let last = p.tokens - 1u;
    let y0 = t * p.x_stride4 + p.x_first4;
    let y1 = min(t + 1u, last) * p.x_stride4 + p.x_first4;
    let y2 = min(t + 2u, last) * p.x_stride4 + p.x_first4;
    let y3 = min(t + 3u, last) * p.x_stride4 + p.x_first4;
    let y4 = min(t + 4u, last) * p.x_stride4 + p.x_first4;
    let y5 = min(t + 5u, last) * p.x_stride4 + p.x_first4;
    let y6 = min(t + 6u, last) * p.x_stride4 + p.x_first4;
    let y7 = min(t + 7u, last) * p.x_stride4 + p.x_first4;
    let z0 = t * p.z_stride4 + p.z_first4;
    let z1 = min(t + 1u, last) * p.z_stride4 + p.z_first4;
    let z2 = min(t + 2u, last) * p.z_stride4 + p.z_first4;
    let z3 = min(t + 3u, last) * p.z_stride4 + p.z_first4;
    let z4 = min(t + 4u, last) * p.z_stride4 + p.z_first4;
    let z5 = min(t + 5u, last) * p.z_stride4 + p.z_first4;
    let z6 = min(t + 6u, last) * p.z_stride4 + p.z_first4;
    let z7 = min(t + 7u, last) * p.z_stride4 + p.z_first4;
    var dx0 = vec4<f32>();
    var dx1 = vec4<f32>();
    var dx2 = vec4<f32>();
    var dx3 = vec4<f32>();
    var dx4 = vec4<f32>();
    var dx5 = vec4<f32>();
    var dx6 = vec4<f32>();
    var dx7 = vec4<f32>();

    let g = 4u * c / GROUP;
    let rows4 = (p.row_end - p.row_start + 3u) / 4u;
    for (var n4 = 0u; n4 < rows4; n4++) {
        let n = p.row_start + 4u * n4;
        let rows = min(vec4<u32>(n, n + 1u, n + 2u, n + 3u), vec4<u32>(p.row_end - 1u));
        // Matrix times column vector: four rows of W, weighted by four gradients.
        let w = mat4x4<f32>(
            weight4(rows.x, c, p.k4, group_scale(rows.x, g, p.k4)),
            weight4(rows.y, c, p.k4, group_scale(rows.y, g, p.k4)),
            weight4(rows.z, c, p.k4, group_scale(rows.z, g, p.k4)),
            weight4(rows.w, c, p.k4, group_scale(rows.w, g, p.k4)),
        );
        dx0 += w * x[y0 + n4];
        if TM > 1u {
            dx1 += w * x[y1 + n4];
        }
        if TM > 2u {
            dx2 += w * x[y2 + n4];
            dx3 += w * x[y3 + n4];
        }
        if TM > 4u {
            dx4 += w * x[y4 + n4];
            dx5 += w * x[y5 + n4];
            dx6 += w * x[y6 + n4];
            dx7 += w * x[y7 + n4];
        }
    }
    if LORA == 1u {
        for (var r = 0u; r < p.all_rank4; r++) {
            let at = 4u * r * p.k4 + c;
            let w = mat4x4<f32>(b[at], b[at + p.k4], b[at + 2u * p.k4], b[at + 3u * p.k4]);
            dx0 += w * z[z0 + r];
            if TM > 1u {
                dx1 += w * z[z1 + r];
            }
            if TM > 2u {
                dx2 += w * z[z2 + r];
                dx3 += w * z[z3 + r];
            }
            if TM > 4u {
                dx4 += w * z[z4 + r];
                dx5 += w * z[z5 + r];
                dx6 += w * z[z6 + r];
                dx7 += w * z[z7 + r];
            }
        }
    }
    store_columns(t, 4u * c, dx0);
    if TM > 1u {
        store_columns(t + 1u, 4u * c, dx1);
    }
    if TM > 2u {
        store_columns(t + 2u, 4u * c, dx2);
        store_columns(t + 3u, 4u * c, dx3);
    }
    if TM > 4u {
        store_columns(t + 4u, 4u * c, dx4);
        store_columns(t + 5u, 4u * c, dx5);
        store_columns(t + 6u, 4u * c, dx6);
        store_columns(t + 7u, 4u * c, dx7);
    }
}
