// Parameters, operands and stores of the matmul and of its gradient, over the same weights W[N,K]:
//
//   forward    Y[T,N] = X[T,K] · Wᵀ + s · Z[T,R] · B[N,R]ᵀ
//   backward   Y[T,K] = X[T,N] · W + Z[T,R] · B[R,K]: X is d_Y, Z is d_Z, B is LoRA's A, Y is d_X
//
// Bindings 2 and 3, the weights, come with their decoder.

struct Params {
    tokens: u32,        // T
    k4: u32,            // K / 4
    row_start: u32,     // rows of this slab that are used, row_start .. row_end
    row_end: u32,
    x_stride4: u32,     // vec4s from one token of X to the next
    x_first4: u32,      // first vec4 of a token of X in the sum
    y_stride: u32,      // elements from one token of Y to the next
    y_first: u32,       // column of Y for the slab's row 0 (may wrap), or for column 0 of W
    b_first: u32,       // forward: row of B that is the slab's row 0 (may wrap)
    rank4: u32,         // R / 4
    z_stride4: u32,     // vec4s from one token of Z to the next
    z_first4: u32,      // first vec4 of a token of Z
    lora_scale: f32,    // s
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

// Rows n .. n+3; beyond the end the last is repeated: results of the repeats are not stored.
fn rows_from(n: u32) -> vec4<u32> {
    return min(vec4<u32>(n, n + 1u, n + 2u, n + 3u), vec4<u32>(p.row_end - 1u));
}

// Writes `count` columns of token t, at most four, if there is such a token.
fn store(t: u32, column: u32, count: u32, values: vec4<f32>) {
    if t >= p.tokens {
        return;
    }
    let at = t * p.y_stride + p.y_first + column;
    for (var j = 0u; j < 4u; j++) {
        if j < count {
            var value = values[j];
            if ADD == 1u {
                value += y[at + j];
            }
            y[at + j] = value;
        }
    }
}

// Writes the sums of token t and the slab's rows n .. n+3, where both exist.
fn store_rows(t: u32, n: u32, sums: vec4<f32>) {
    if n < p.row_end {
        store(t, n, p.row_end - n, sums);
    }
}

// The low-rank term of a token and four rows of the slab.
fn low_rank(t: u32, rows: vec4<u32>) -> vec4<f32> {
    let at = (p.b_first + rows) * p.rank4;
    let z0 = min(t, p.tokens - 1u) * p.z_stride4 + p.z_first4;
    var low = vec4<f32>();
    for (var r = 0u; r < p.rank4; r++) {
        low += z[z0 + r] * mat4x4<f32>(b[at.x + r], b[at.y + r], b[at.z + r], b[at.w + r]);
    }
    return p.lora_scale * low;
}
