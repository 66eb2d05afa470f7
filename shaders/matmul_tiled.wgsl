// Y[T,N] = X[T,K] · W[N,K]ᵀ  (+ s · Z[T,R] · B[N,R]ᵀ), or with BACKWARD
// dX[T,K] = dY[T,N] · W[N,K]  (+ dZ[T,R] · A[R,K])
//
// A workgroup computes 8·GM tokens by 8·GN columns of the result from workgroup memory, an invocation computes
// 8 × 8 of them: the tile for GPUs. An invocation's tokens are two runs of four, and so are its columns, so that
// adjacent invocations read adjacent words. The sums are named variables: see matmul_direct.
// The sum runs over K, or over the rows of W; the low-rank term adds R more terms. A "four" is four consecutive
// terms of the sum. Where the result has few columns, the sum is divided into PARTS, each with workgroups and results of
// its own: see shared/matmul_parts.wgsl. The low-rank term is in the last part.
// Prepend: shared/half.wgsl, a weight decoder, shared/matmul.wgsl, an epilogue.

override GM: u32 = 8u;    // invocations along the tokens
override GN: u32 = 8u;    // and along the columns of the result
override BK: u32 = 4u;    // fours that a step loads: 1, 2 or 4; divides every group
override BACKWARD: u32 = 0u;
override PARTS: u32 = 1u;

// The part of the sum that the workgroup stores.
var<private> stored_part: u32;

// Transposed, so that an invocation reads four adjacent values at once; one vec4 of padding per row
// keeps the writes of a transposed load from hitting one memory bank.
var<workgroup> xs: array<vec4<f32>, 4u * BK * (2u * GM + 1u)>;   // (4·BK, 2·GM + 1)
var<workgroup> ws: array<vec4<f32>, 4u * BK * (2u * GN + 1u)>;   // (4·BK, 2·GN + 1)

// Scales of a step's weights. Forward: of the 8·GN rows, until the next group begins. Backward: of the step's rows, for
// the groups that the columns belong to. Decoding them costs as much as decoding four weights.
var<workgroup> step_scales: array<vec2<f32>, 8u * GN>;

// Number of fours in the sum: over W, or in the low-rank term.
fn fours(low: bool) -> u32 {
    if LORA == 1u && low {
        return p.all_rank4;
    }
    return select(p.k4, (p.row_end - p.row_start + 3u) / 4u, BACKWARD == 1u);
}

// Four c of the sum for tokens t .. t+3. Beyond the last token, the last token is repeated: its sums are not stored.
// Beyond the end of the sum, the last four is repeated: the weights are zero there.
fn load_x(t: u32, c: u32, low: bool) -> mat4x4<f32> {
    let tokens = min(vec4<u32>(t, t + 1u, t + 2u, t + 3u), vec4<u32>(p.tokens - 1u));
    let column = min(c, fours(low) - 1u);
    if LORA == 1u && low {
        let at = tokens * p.z_stride4 + p.z_first4 + column;
        return mat4x4<f32>(z[at.x], z[at.y], z[at.z], z[at.w]);
    }
    let at = tokens * p.x_stride4 + p.x_first4 + column;
    return mat4x4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]);
}

// Backward: number of groups that the tile's columns belong to.
fn groups_across() -> u32 {
    return max(1u, 8u * GN / GROUP);
}

// Decodes the scales of the step that begins at four c0 of the sum, for a tile whose columns begin at n0.
fn load_scales(n0: u32, c0: u32, lane: u32) {
    if !SCALED || c0 >= fours(false) {
        return;
    }
    if BACKWARD == 1u {
        let across = groups_across();
        let last = (4u * p.k4 - 1u) / GROUP;
        for (var i = lane; i < 4u * BK * across; i += GM * GN) {
            let row = min(p.row_start + 4u * c0 + i / across, p.row_end - 1u);
            step_scales[i] = group_scale(row, min(n0 / GROUP + i % across, last), p.k4);
        }
    } else if 4u * c0 % GROUP == 0u {
        for (var i = lane; i < 8u * GN; i += GM * GN) {
            step_scales[i] = group_scale(row_of(n0 + i), 4u * c0 / GROUP, p.k4);
        }
    }
}

fn step_scale(i: u32) -> vec2<f32> {
    if SCALED {
        return step_scales[i];
    }
    return vec2<f32>(1.0, 0.0);
}

// Four c of the low-rank term's sum for a row of the slab: zeros in the columns of the other targets.
fn load_b(slab_row: u32, c: u32) -> vec4<f32> {
    let row = target_of(slab_row);
    if row.x != c / p.rank4 {
        return vec4<f32>();
    }
    return p.lora_scale * b[row.y * p.rank4 + c % p.rank4];
}

// Forward: four c of the sum for the slab's rows at n .. n+3, which are the tile's rows i .. i+3.
fn load_rows(n: u32, c: u32, low: bool, i: u32) -> mat4x4<f32> {
    let rows = rows_from(n);
    if LORA == 1u && low {
        return mat4x4<f32>(load_b(rows.x, c), load_b(rows.y, c), load_b(rows.z, c), load_b(rows.w, c));
    }
    return mat4x4<f32>(
        weight4(rows.x, c, p.k4, step_scale(i)),
        weight4(rows.y, c, p.k4, step_scale(i + 1u)),
        weight4(rows.z, c, p.k4, step_scale(i + 2u)),
        weight4(rows.w, c, p.k4, step_scale(i + 3u)),
    );
}

// Backward: rows n .. n+3; beyond the end the last is repeated, where dY is zero.
fn summed_rows(n: u32) -> vec4<u32> {
    return min(vec4<u32>(n, n + 1u, n + 2u, n + 3u), vec4<u32>(p.row_end - 1u));
}

// Backward: columns 4c .. 4c+3 of the rows 4n .. 4n+3 of the sum, which are the step's rows i .. i+3.
fn load_columns(n: u32, c: u32, low: bool, i: u32, n0: u32) -> mat4x4<f32> {
    let column = min(c, p.k4 - 1u);
    if LORA == 1u && low {
        let at = 4u * n * p.k4 + column;
        return mat4x4<f32>(b[at], b[at + p.k4], b[at + 2u * p.k4], b[at + 3u * p.k4]);
    }
    let rows = summed_rows(p.row_start + 4u * n);
    let across = groups_across();
    let at = i * across + 4u * column / GROUP - n0 / GROUP;
    return mat4x4<f32>(
        weight4(rows.x, column, p.k4, step_scale(at)),
        weight4(rows.y, column, p.k4, step_scale(at + across)),
        weight4(rows.z, column, p.k4, step_scale(at + 2u * across)),
        weight4(rows.w, column, p.k4, step_scale(at + 3u * across)),
    );
}

// Writes columns c .. c+3 of a token of the result.
fn store_sums(t: u32, c: u32, sums: vec4<f32>) {
    if BACKWARD == 0u {
        store_rows(t, c, sums);
    } else if c < 4u * p.k4 {
        store_columns(t, c, sums);
    }
}

@compute @workgroup_size(GN, GM)
fn matmul_tiled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n0 = select(p.row_start, 0u, BACKWARD == 1u) + (p.first_group_x + group.x) * 8u * GN;
    let row_of_groups = p.first_group_y + group.y;
    let rows_of_groups = (p.tokens + 8u * GM - 1u) / (8u * GM);
    let part = select(0u, row_of_groups / rows_of_groups, PARTS > 1u);
    let t0 = (row_of_groups - part * rows_of_groups) * 8u * GM;
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
    // The part's fours, first .. last.
    let first = select(0u, min(part * p.part4, fours(false)), PARTS > 1u);
    let last = select(fours(false), min(first + p.part4, fours(false)), PARTS > 1u);
    load_scales(n0, first, lane);
    workgroupBarrier();
    let steps = (last - first + BK - 1u) / BK;
    let low_steps = select(0u, (p.all_rank4 + BK - 1u) / BK, LORA == 1u && part == PARTS - 1u);
    for (var step = 0u; step < steps + low_steps; step++) {
        let low = step >= steps;
        let c0 = select(first + BK * step, BK * (step - steps), low);
        let end = select(last, fours(true), low);
        for (var i = lane; i < 2u * GM * BK; i += GM * GN) {
            let columns = transpose(load_x(t0 + 4u * (i / BK), c0 + i % BK, low));
            let at = 4u * (i % BK) * x_row + i / BK;
            xs[at] = columns[0];
            xs[at + x_row] = columns[1];
            xs[at + 2u * x_row] = columns[2];
            xs[at + 3u * x_row] = columns[3];
        }
        for (var i = lane; i < 2u * GN * BK; i += GM * GN) {
            // Adjacent invocations read adjacent fours of a row of W.
            let c = select(i % BK, i / (2u * GN), BACKWARD == 1u);
            let n = select(i / BK, i % (2u * GN), BACKWARD == 1u);
            var columns = mat4x4<f32>();
            if c0 + c < end {
                if BACKWARD == 1u {
                    columns = load_columns(c0 + c, n0 / 4u + n, low, 4u * c, n0);
                } else {
                    columns = transpose(load_rows(n0 + 4u * n, c0 + c, low, 4u * n));
                }
            }
            let at = 4u * c * w_row + n;
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
        if !low {
            load_scales(n0, c0 + BK, lane);
        }
        workgroupBarrier();
    }
    stored_part = part;
    let ta = t0 + 4u * local.y;
    let tb = ta + 4u * GM;
    let na = n0 + 4u * local.x;
    let nb = na + 4u * GN;
    store_sums(ta, na, y00);
    store_sums(ta, nb, y01);
    store_sums(ta + 1u, na, y10);
    store_sums(ta + 1u, nb, y11);
    store_sums(ta + 2u, na, y20);
    store_sums(ta + 2u, nb, y21);
    store_sums(ta + 3u, na, y30);
    store_sums(ta + 3u, nb, y31);
    store_sums(tb, na, y40);
    store_sums(tb, nb, y41);
    store_sums(tb + 1u, na, y50);
    store_sums(tb + 1u, nb, y51);
    store_sums(tb + 2u, na, y60);
    store_sums(tb + 2u, nb, y61);
    store_sums(tb + 3u, na, y70);
    store_sums(tb + 3u, nb, y71);
}
