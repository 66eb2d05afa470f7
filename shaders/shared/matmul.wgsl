// Parameters and operands of the matmul and of its gradient, over the same weights W[N,K]:
//
//   forward    Y[T,N] = X[T,K] · Wᵀ + s · Z[T,R] · B[N,R]ᵀ
//   backward   Y[T,K] = X[T,N] · W + Z[T,R] · B[R,K]: X is d_Y, Z is d_Z, B is LoRA's A, Y is d_X
//
// Rows of W may be those of up to three projections, of which some, the targets, have a low-rank term: its own R
// columns of Z, and its rows of B one after the other.
// Bindings 2 and 3, the weights, come with their decoder; what is done with the sums comes with the epilogue.

struct Params {
    tokens: u32,        // T
    k4: u32,            // K / 4
    row_start: u32,     // rows of this slab that are used, row_start .. row_end
    row_end: u32,
    x_stride4: u32,     // vec4s from one token of X to the next
    x_first4: u32,      // first vec4 of a token of X in the sum
    y_stride: u32,      // elements from one token of Y to the next
    y_first: u32,       // column of Y for the slab's row 0 (may wrap), or for column 0 of W
    w_first: u32,       // forward: row of the whole matrix that is the slab's row 0 (may wrap)
    start0: u32,        // forward: the first row of the targets in the whole matrix, and their numbers of rows;
    rows0: u32,         //   0 where there is no such target
    start1: u32,
    rows1: u32,
    start2: u32,
    rows2: u32,
    rank4: u32,         // R / 4, of one target; backward of all
    all_rank4: u32,     // of all targets
    z_stride4: u32,     // vec4s from one token of Z to the next
    z_first4: u32,      // first vec4 of a token of Z
    lora_scale: f32,    // s
    part4: u32,         // fours of the sum (see matmul_tiled) in each part of it
    first_group_x: u32, // index of the first workgroup, where a launch is split
    first_group_y: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;       // (T, x_stride4)
@group(0) @binding(4) var<storage, read> z: array<vec4<f32>>;       // (T, z_stride4)
@group(0) @binding(5) var<storage, read> b: array<vec4<f32>>;       // forward (N, R/4), backward (R, K/4)
@group(0) @binding(6) var<storage, read_write> y: array<f32>;       // (T, y_stride)

override LORA: u32 = 0u;        // 1: add the low-rank term
override ADD: u32 = 0u;         // 1: add to what Y holds

// Rows of the slab at n .. n+3.
fn rows_from(n: u32) -> vec4<u32> {
    return vec4<u32>(row_of(n), row_of(n + 1u), row_of(n + 2u), row_of(n + 3u));
}

// Writes one element of Y, or adds it.
fn put(at: u32, value: f32) {
    if ADD == 1u {
        y[at] += value;
    } else {
        y[at] = value;
    }
}

// The target that a row of the slab belongs to, or 3, and its row of B.
fn target_of(slab_row: u32) -> vec2<u32> {
    let row = p.w_first + slab_row;
    if row - p.start0 < p.rows0 {
        return vec2<u32>(0u, row - p.start0);
    }
    if row - p.start1 < p.rows1 {
        return vec2<u32>(1u, row - p.start1 + p.rows0);
    }
    if row - p.start2 < p.rows2 {
        return vec2<u32>(2u, row - p.start2 + p.rows0 + p.rows1);
    }
    return vec2<u32>(3u, 0u);
}

// The low-rank term of a token and a row of the slab.
fn low_rank_of(t: u32, slab_row: u32) -> f32 {
    let row = target_of(slab_row);
    if row.x == 3u {
        return 0.0;
    }
    let z0 = min(t, p.tokens - 1u) * p.z_stride4 + p.z_first4 + row.x * p.rank4;
    var low = 0.0;
    for (var r = 0u; r < p.rank4; r++) {
        low += dot(z[z0 + r], b[row.y * p.rank4 + r]);
    }
    return p.lora_scale * low;
}

// The low-rank term of a token and four rows of the slab.
fn low_rank(t: u32, rows: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(
        low_rank_of(t, rows.x),
        low_rank_of(t, rows.y),
        low_rank_of(t, rows.z),
        low_rank_of(t, rows.w),
    );
}
