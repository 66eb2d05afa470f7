// dA_i[R,K] += dZ_i[T,R]ᵀ · X[T,K] and dB_i[N_i,R] += s · dY_i[T,N_i]ᵀ · Z_i[T,R], for up to three projections of one
// input, whose factors are stored one after another: A_0 A_1 A_2 B_0 B_1 B_2
//
// `+=` accumulates micro-batches; an optimizer step starts from zeros. A workgroup sums WG / SLICES cells of 4 × 4
// elements, SLICES invocations per cell: each takes every SLICES-th token in order, and their sums are added in order,
// so the result does not depend on scheduling.

struct Params {
    tokens: u32,        // T
    k4: u32,            // K / 4
    rank4: u32,         // R / 4
    z_stride4: u32,     // vec4s from one token of Z and dZ to the next
    z_first4: u32,      // first vec4 of a token of Z and dZ
    rows0: u32,         // N_i / 4; 0 where there is no such projection
    rows1: u32,
    rows2: u32,
    a_cells: u32,       // cells of all dA
    b_cells: u32,       // cells of all dB
    a_first4: u32,      // index of the vec4 of G where dA_0 begins
    b_first4: u32,      // and where dB_0 begins
    scale: f32,         // s
    first_group: u32,   // index of the first workgroup, where a launch is split
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> d_y0: array<vec4<f32>>;       // (T, N_0/4)
@group(0) @binding(2) var<storage, read> d_y1: array<vec4<f32>>;       // (T, N_1/4)
@group(0) @binding(3) var<storage, read> d_y2: array<vec4<f32>>;       // (T, N_2/4)
@group(0) @binding(4) var<storage, read> z: array<vec4<f32>>;          // (T, z_stride4)
@group(0) @binding(5) var<storage, read> d_z: array<vec4<f32>>;        // (T, z_stride4)
@group(0) @binding(6) var<storage, read> x: array<vec4<f32>>;          // (T, K/4)
@group(0) @binding(7) var<storage, read_write> g: array<vec4<f32>>;    // the gradients

override WG: u32 = 64u;
override SLICES: u32 = 8u;   // invocations per cell, a divisor of WG

var<workgroup> sums: array<vec4<f32>, 4u * WG>;   // (4, WG): rows of a cell by invocation

fn d_y(part: u32, at: u32) -> vec4<f32> {
    if part == 0u {
        return d_y0[at];
    }
    if part == 1u {
        return d_y1[at];
    }
    return d_y2[at];
}

@compute @workgroup_size(WG)
fn lora_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let cells = WG / SLICES;
    // The cells of dA and of dB start on separate workgroups.
    let a_groups = (p.a_cells + cells - 1u) / cells;
    let index = p.first_group + group.y * groups.x + group.x;
    let is_a = index < a_groups;
    let slice = lane / cells;
    let cell = select(index - a_groups, index, is_a) * cells + lane % cells;
    let exists = cell < select(p.b_cells, p.a_cells, is_a);
    let end = select(0u, p.tokens, exists);
    var g0 = vec4<f32>();
    var g1 = vec4<f32>();
    var g2 = vec4<f32>();
    var g3 = vec4<f32>();
    var at = 0u;
    var stride = 1u;
    var scale = 1.0;
    if is_a {
        let m = cell / p.k4;
        let n = cell % p.k4;
        at = p.a_first4 + 4u * m * p.k4 + n;
        stride = p.k4;
        for (var t = slice; t < end; t += SLICES) {
            let l = d_z[t * p.z_stride4 + p.z_first4 + m];
            let r = x[t * p.k4 + n];
            g0 += l.x * r;
            g1 += l.y * r;
            g2 += l.z * r;
            g3 += l.w * r;
        }
    } else {
        let all = p.rows0 + p.rows1 + p.rows2;
        let n = cell / all;
        let m = cell % all;
        let part = select(select(2u, 1u, m < p.rows0 + p.rows1), 0u, m < p.rows0);
        let rows = select(select(p.rows2, p.rows1, part == 1u), p.rows0, part == 0u);
        let own = m - select(select(p.rows0 + p.rows1, p.rows0, part == 1u), 0u, part == 0u);
        at = p.b_first4 + 4u * m * p.rank4 + n;
        stride = p.rank4;
        scale = p.scale;
        for (var t = slice; t < end; t += SLICES) {
            let l = d_y(part, t * rows + own);
            let r = z[t * p.z_stride4 + p.z_first4 + part * p.rank4 + n];
            g0 += l.x * r;
            g1 += l.y * r;
            g2 += l.z * r;
            g3 += l.w * r;
        }
    }
    sums[lane] = g0;
    sums[WG + lane] = g1;
    sums[2u * WG + lane] = g2;
    sums[3u * WG + lane] = g3;
    workgroupBarrier();
    if slice == 0u && exists {
        for (var row = 0u; row < 4u; row++) {
            var sum = vec4<f32>();
            for (var i = lane; i < WG; i += cells) {
                sum += sums[row * WG + i];
            }
            g[at + row * stride] += scale * sum;
        }
    }
}
