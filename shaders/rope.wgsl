// X[T,H,D] rotated in place by the angle of each token's position
//
//   x[i]       <- x[i] cos - x[i + D/2] sin
//   x[i + D/2] <- x[i + D/2] cos + x[i] sin
//
// Backward is the rotation by the negative angle. An invocation rotates two pairs. Cosines and sines
// come from the host, because WGSL guarantees too little accuracy.

struct Params {
    tokens: u32,   // T
    heads: u32,    // H
    pairs2: u32,   // D / 4
    sign: f32,     // 1 forward, -1 backward
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> angles: array<vec4<f32>>;        // (positions, D/4): cos, sin, cos, sin
@group(0) @binding(2) var<storage, read> tokens_meta: array<vec4<u32>>;   // (T)
@group(0) @binding(3) var<storage, read_write> x: array<vec2<f32>>;       // (T, H, D/2)

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn rope(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + lane;
    if index >= p.tokens * p.heads * p.pairs2 {
        return;
    }
    let row = index / p.pairs2;
    let i = index % p.pairs2;
    let angle = angles[tokens_meta[row / p.heads].x * p.pairs2 + i];
    let cosines = angle.xz;
    let sines = p.sign * angle.yw;
    let at = row * 2u * p.pairs2 + i;
    let low = x[at];
    let high = x[at + p.pairs2];
    x[at] = low * cosines - high * sines;
    x[at + p.pairs2] = high * cosines + low * sines;
}
