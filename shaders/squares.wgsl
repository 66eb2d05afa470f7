// partials[first + i] = (Σ G², 1 if some G is not finite) over the part of G[n] that workgroup i has
//
// Needs shared/train_state.wgsl in front.

struct Params {
    count4: u32,   // n / 4
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gradient: array<vec4<f32>>;         // (n/4)
@group(0) @binding(2) var<storage, read_write> partials: array<vec2<f32>>;   // (first + workgroups)

override WG: u32 = 256u;    // a power of two

var<workgroup> sums: array<vec2<f32>, WG>;

@compute @workgroup_size(WG)
fn squares(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var sum = vec2<f32>();
    for (var i = group.x * WG + lane; i < p.count4; i += groups.x * WG) {
        let g = gradient[i];
        sum.x += dot(g, g);
        let bits = bitcast<vec4<u32>>(g);
        if not_finite(bits.x) || not_finite(bits.y) || not_finite(bits.z) || not_finite(bits.w) {
            sum.y = 1.0;
        }
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            let other = sums[lane + step];
            sums[lane] = vec2<f32>(sums[lane].x + other.x, max(sums[lane].y, other.y));
        }
        workgroupBarrier();
    }
    if lane == 0u {
        partials[p.first + group.x] = sums[0];
    }
}
