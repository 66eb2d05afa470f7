// Parameters, operands and epilogue of Y[T,N] = X[T,K] · W[N,K]ᵀ + s · Z[T,R] · B[N,R]ᵀ.
// The weights' bindings, 2 and 3, come with their decoder.

struct Params {
    tokens: u32,        // T
    k4: u32,            // K / 4
    row_start: u32,     // rows of this slab to compute: row_start .. row_end
    row_end: u32,
    y_stride: u32,      // numbers from one token of Y to the next
    first_row: u32,     // row of W, and so column of Y and row of B, that is the slab's row 0
    rank4: u32,         // R / 4
    lora_scale: f32,    // s
    first_group_x: u32, // index of the first workgroup, where a launch is cut
    first_group_y: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;       // (T, K/4)
@group(0) @binding(4) var<storage, read> z: array<vec4<f32>>;       // (T, R/4)
@group(0) @binding(5) var<storage, read> b: array<vec4<f32>>;       // (N, R/4)
@group(0) @binding(6) var<storage, read_write> y: array<f32>;       // (T, y_stride)

override LORA: u32 = 0u;        // 1: add s · Z · Bᵀ
override ADD: u32 = 0u;         // 1: add to what Y holds (the residual)

// Writes the sums of token t and the slab's rows n .. n+3, as far as both exist.
fn store4(t: u32, n: u32, sums: vec4<f32>) {
    if t >= p.tokens {
        return;
    }
    for (var j = 0u; j < 4u && n + j < p.row_end; j++) {
        let row = p.first_row + n + j;
        var value = sums[j];
        if LORA == 1u {
            var low = 0.0;
            for (var r = 0u; r < p.rank4; r++) {
                low += dot(z[t * p.rank4 + r], b[row * p.rank4 + r]);
            }
            value += p.lora_scale * low;
        }
        let at = t * p.y_stride + row;
        if ADD == 1u {
            value += y[at];
        }
        y[at] = value;
    }
}
