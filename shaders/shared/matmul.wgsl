// Parameters, operands and epilogue of Y[T,N] = X[T,K] · W[N,K]ᵀ + s · Z[T,R] · B[N,R]ᵀ.
// The weights' bindings, 2 and 3, come with their decoder.

struct Params {
    tokens: u32,        // T
    k4: u32,            // K / 4
    row_start: u32,     // rows of W to compute: row_start .. row_end
    row_end: u32,
    y_stride: u32,      // numbers from one token of Y to the next
    y_offset: u32,      // column of Y where row 0 of this W goes
    rank4: u32,         // R / 4
    lora_scale: f32,    // s
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;       // (T, K/4)
@group(0) @binding(4) var<storage, read> z: array<vec4<f32>>;       // (T, R/4)
@group(0) @binding(5) var<storage, read> b: array<vec4<f32>>;       // (N, R/4)
@group(0) @binding(6) var<storage, read_write> y: array<f32>;       // (T, y_stride)

override LORA: u32 = 0u;        // 1: add s · Z · Bᵀ
override ADD: u32 = 0u;         // 1: add to what Y holds (the residual)

fn store(t: u32, n: u32, sum: f32) {
    var value = sum;
    if LORA == 1u {
        var low = 0.0;
        for (var r = 0u; r < p.rank4; r++) {
            low += dot(z[t * p.rank4 + r], b[n * p.rank4 + r]);
        }
        value += p.lora_scale * low;
    }
    let at = t * p.y_stride + p.y_offset + n;
    if ADD == 1u {
        value += y[at];
    }
    y[at] = value;
}
