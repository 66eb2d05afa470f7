// Weight decoder: signed bytes, four per word.
@group(0) @binding(2) var<storage, read> quants: array<u32>;        // (N, K/4)

fn weight4(row: u32, c: u32, k4: u32, scale: vec2<f32>) -> vec4<f32> {
    let word = i32(quants[row * k4 + c]);
    let q = vec4<f32>(vec4<i32>(word << 24u, word << 16u, word << 8u, word) >> vec4<u32>(24u));
    return scale.x * q + scale.y;
}
