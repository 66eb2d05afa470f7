// dZ_i[T,R] = s · dY_i[T,N_i] · B_i[N_i,R], `=`, for up to three projections of one input, side by side in dY and dZ
//
// A workgroup computes 4 tokens by 4 columns of dZ. Each of its invocations sums over a share of N_i, and these sums
// are added in a fixed tree: there are so few columns that a GPU would otherwise be mostly idle.

struct Params {
    tokens: u32,      // T
    rank4: u32,       // R / 4
    z_stride4: u32,   // vec4s from one token of dZ to the next
    z_first4: u32,    // first vec4 of a token of dZ
    y_stride4: u32,   // vec4s from one token of dY to the next
    first0: u32,      // first vec4 of dY_i
    first1: u32,
    first2: u32,
    rows0: u32,       // N_i / 4; 0 where there is no such projection
    rows1: u32,
    rows2: u32,
    scale: f32,       // s
    first_group_x: u32, // index of the first workgroup, where a launch is split
    first_group_y: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> d_y: array<vec4<f32>>;         // (T, y_stride4)
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;           // (N_0 + N_1 + N_2, R/4)
@group(0) @binding(3) var<storage, read_write> d_z: array<vec4<f32>>;   // (T, z_stride4)

override WG: u32 = 64u;   // invocations along N, a power of two

var<workgroup> sums: array<vec4<f32>, 4u * WG>;   // (4, WG)

@compute @workgroup_size(WG)
fn lora_dz(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = p.first_group_x + group.x;
    let t = 4u * (p.first_group_y + group.y);
    let part = column / p.rank4;
    let rows = select(select(p.rows2, p.rows1, part == 1u), p.rows0, part == 0u);
    // The first row of B_i, in vec4s of B, with the column.
    let b0 = 4u * p.rank4 * select(select(p.rows0 + p.rows1, p.rows0, part == 1u), 0u, part == 0u) + column % p.rank4;
    let y0 = select(select(p.first2, p.first1, part == 1u), p.first0, part == 0u);
    let last = p.tokens - 1u;
    let t0 = min(t, last) * p.y_stride4 + y0;
    let t1 = min(t + 1u, last) * p.y_stride4 + y0;
    let t2 = min(t + 2u, last) * p.y_stride4 + y0;
    let t3 = min(t + 3u, last) * p.y_stride4 + y0;
    var z0 = vec4<f32>();
    var z1 = vec4<f32>();
    var z2 = vec4<f32>();
    var z3 = vec4<f32>();
    for (var n = lane; n < rows; n += WG) {
        let at = b0 + 4u * n * p.rank4;
        // Matrix times column vector: four rows of B, weighted by four gradients.
        let w = mat4x4<f32>(b[at], b[at + p.rank4], b[at + 2u * p.rank4], b[at + 3u * p.rank4]);
        z0 += w * d_y[t0 + n];
        z1 += w * d_y[t1 + n];
        z2 += w * d_y[t2 + n];
        z3 += w * d_y[t3 + n];
    }
    sums[lane] = z0;
    sums[WG + lane] = z1;
    sums[2u * WG + lane] = z2;
    sums[3u * WG + lane] = z3;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            for (var i = lane; i < 4u * WG; i += WG) {
                sums[i] += sums[i + step];
            }
        }
        workgroupBarrier();
    }
    if lane < 4u && t + lane < p.tokens {
        d_z[(t + lane) * p.z_stride4 + p.z_first4 + column] = p.scale * sums[lane * WG];
    }
}
