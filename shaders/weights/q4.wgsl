// Weight decoder: unsigned nibbles, eight per word, the first weight in the lowest bits.
@group(0) @binding(2) var<storage, read> quants: array<u32>;        // (N, K/8)

fn weight4(row: u32, c: u32, k4: u32, scale: vec2<f32>) -> vec4<f32> {
    let word = quants[row * (k4 / 2u) + c / 2u] >> (16u * (c & 1u));
    let q = vec4<f32>(vec4<u32>(word, word >> 4u, word >> 8u, word >> 12u) & vec4<u32>(15u));
    return scale.x * q + scale.y;
}
