// dX[T,K] = s · dY[T,N] · W[N,K]  (+ dZ[T,R] · A[R,K])  (+ what dX holds)
//
// The twin of matmul: the same weight buffer, summed over its rows. An invocation computes TM
// tokens by 4 columns, loading directly. dX is `=`, or `+=` with ADD (the other slabs of a split
// matrix, the other projections of the same input).
// dY's columns from N up to a multiple of 4 must be zero: rows beyond the end repeat the last.
// Prepend: shared/half.wgsl, a weight decoder.

struct Params {
    tokens: u32,        // T
    k4: u32,            // K / 4
    row_start: u32,     // rows of this slab that count: row_start .. row_end
    row_end: u32,
    y_stride4: u32,     // vec4s from one token of dY to the next
    first_column4: u32, // column of dY / 4 that belongs to row_start
    rank4: u32,         // R / 4
    scale: f32,         // on dY · W
    first_group_x: u32, // index of the first workgroup, where a launch is cut
    first_group_y: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;        // (T, y_stride4)
@group(0) @binding(4) var<storage, read> dz: array<vec4<f32>>;        // (T, R/4)
@group(0) @binding(5) var<storage, read> a: array<vec4<f32>>;         // (R, K/4)
@group(0) @binding(6) var<storage, read_write> dx: array<vec4<f32>>;  // (T, K/4)

override WK: u32 = 64u;    // invocations along the columns
override WT: u32 = 1u;     // and along the tokens
override TM: u32 = 8u;     // tokens an invocation: 1, 2, 4 or 8
override LORA: u32 = 0u;   // 1: add dZ · A
override ADD: u32 = 0u;    // 1: add to what dX holds

fn d_store(t: u32, c: u32, value: vec4<f32>) {
    if t < p.tokens {
        let at = t * p.k4 + c;
        if ADD == 1u {
            dx[at] += value;
        } else {
            dx[at] = value;
        }
    }
}

@compute @workgroup_size(WK, WT)
fn matmul_backward(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = p.first_group_x * WK + id.x;
    let t = TM * (p.first_group_y * WT + id.y);
    if c >= p.k4 || t >= p.tokens {
        return;
    }
    let last = p.tokens - 1u;
    let t0 = t;
    let t1 = min(t + 1u, last);
    let t2 = min(t + 2u, last);
    let t3 = min(t + 3u, last);
    let t4 = min(t + 4u, last);
    let t5 = min(t + 5u, last);
    let t6 = min(t + 6u, last);
    let t7 = min(t + 7u, last);
    var x0 = vec4<f32>();
    var x1 = vec4<f32>();
    var x2 = vec4<f32>();
    var x3 = vec4<f32>();
    var x4 = vec4<f32>();
    var x5 = vec4<f32>();
    var x6 = vec4<f32>();
    var x7 = vec4<f32>();

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
        let at = p.first_column4 + n4;
        x0 += w * dy[t0 * p.y_stride4 + at];
        if TM > 1u {
            x1 += w * dy[t1 * p.y_stride4 + at];
        }
        if TM > 2u {
            x2 += w * dy[t2 * p.y_stride4 + at];
            x3 += w * dy[t3 * p.y_stride4 + at];
        }
        if TM > 4u {
            x4 += w * dy[t4 * p.y_stride4 + at];
            x5 += w * dy[t5 * p.y_stride4 + at];
            x6 += w * dy[t6 * p.y_stride4 + at];
            x7 += w * dy[t7 * p.y_stride4 + at];
        }
    }
    x0 *= p.scale;
    x1 *= p.scale;
    x2 *= p.scale;
    x3 *= p.scale;
    x4 *= p.scale;
    x5 *= p.scale;
    x6 *= p.scale;
    x7 *= p.scale;
    if LORA == 1u {
        for (var r = 0u; r < p.rank4; r++) {
            let at = 4u * r * p.k4 + c;
            let w = mat4x4<f32>(a[at], a[at + p.k4], a[at + 2u * p.k4], a[at + 3u * p.k4]);
            x0 += w * dz[t0 * p.rank4 + r];
            if TM > 1u {
                x1 += w * dz[t1 * p.rank4 + r];
            }
            if TM > 2u {
                x2 += w * dz[t2 * p.rank4 + r];
                x3 += w * dz[t3 * p.rank4 + r];
            }
            if TM > 4u {
                x4 += w * dz[t4 * p.rank4 + r];
                x5 += w * dz[t5 * p.rank4 + r];
                x6 += w * dz[t6 * p.rank4 + r];
                x7 += w * dz[t7 * p.rank4 + r];
            }
        }
    }
    d_store(t, c, x0);
    if TM > 1u {
        d_store(t + 1u, c, x1);
    }
    if TM > 2u {
        d_store(t + 2u, c, x2);
        d_store(t + 3u, c, x3);
    }
    if TM > 4u {
        d_store(t + 4u, c, x4);
        d_store(t + 5u, c, x5);
        d_store(t + 6u, c, x6);
        d_store(t + 7u, c, x7);
    }
}
