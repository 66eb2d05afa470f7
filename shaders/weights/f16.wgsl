// Weight decoder: f16, two per word. Needs no `shader-f16`: the halves are widened by integer
// operations.
@group(0) @binding(2) var<storage, read> quants: array<vec2<u32>>;  // (N, K/4)
@group(0) @binding(3) var<storage, read> scales: array<u32>;        // unused

// Whether groups have scales.
const SCALED = false;

override GROUP: u32 = 32u;

fn group_scale(row: u32, group: u32, k4: u32) -> vec2<f32> {
    return vec2<f32>(1.0, 0.0);
}

fn weight4(row: u32, c: u32, k4: u32, scale: vec2<f32>) -> vec4<f32> {
    let words = quants[row * k4 + c];
    return vec4<f32>(half(words.x), half(words.x >> 16u), half(words.y), half(words.y >> 16u));
}
