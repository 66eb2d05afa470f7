// partial[groups] = Σ x² over each workgroup's share of x
//
// First half of the global norm; grad_norm adds the partial sums. The number of workgroups is a
// constant and determines the shares, so the order of the sum is fixed.

struct Params {
    count4: u32,   // elements / 4
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;             // (count / 4)
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;       // (groups)

override WG: u32 = 64u;   // a power of two

var<workgroup> sums: array<f32, WG>;

@compute @workgroup_size(WG)
fn square_sum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var sum = 0.0;
    for (var i = group.x * WG + lane; i < p.count4; i += groups.x * WG) {
        sum += dot(x[i], x[i]);
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            sums[lane] += sums[lane + step];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        partial[group.x] = sums[0];
    }
}
