// dA_i[R,K] += dZ_i[T,R]ᵀ · X[T,K] and dB_i[N_i,R] += s · dY_i[T,N_i]ᵀ · Z_i[T,R], for up to three projections of one
// input, side by side in dY, Z and dZ, whose factors are stored one after another: A_0 A_1 A_2 B_0 B_1 B_2; and for those
// of a second input
//
// `+=` accumulates micro-batches; an optimizer step starts from zeros. A workgroup sums WG / SLICES cells of 4 × 4
// elements, SLICES invocations per cell: each takes every SLICES-th token in order, and their sums are added in order,
// so the result does not depend on scheduling.

struct Params {
    tokens: u32,        // T
    rank4: u32,         // R / 4
    z_stride4: u32,     // vec4s from one token of Z and dZ to the next
    scale: f32,         // s
    first_group: u32,   // index of the first workgroup, where a launch is split
    k4_0: u32,          // of the first input: K / 4
    z_first4_0: u32,    // first vec4 of a token of Z and dZ
    y_stride4_0: u32,   // vec4s from one token of dY to the next
    first0_0: u32,      // first vec4 of dY_i
    first1_0: u32,
    first2_0: u32,
    rows0_0: u32,       // N_i / 4; 0 where there is no such projection
    rows1_0: u32,
    rows2_0: u32,
    a_cells_0: u32,     // cells of all dA
    b_cells_0: u32,     // cells of all dB
    a_first4_0: u32,    // index of the vec4 of G where dA_0 begins
    b_first4_0: u32,    // and where dB_0 begins
    k4_1: u32,          // of the second input, likewise; no cells where there is none
    z_first4_1: u32,
    y_stride4_1: u32,
    first0_1: u32,
    first1_1: u32,
    first2_1: u32,
    rows0_1: u32,
    rows1_1: u32,
    rows2_1: u32,
    a_cells_1: u32,
    b_cells_1: u32,
    a_first4_1: u32,
    b_first4_1: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> d_y0: array<vec4<f32>>;       // (T, y_stride4)
@group(0) @binding(2) var<storage, read> d_y1: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> x0: array<vec4<f32>>;         // (T, K/4)
@group(0) @binding(4) var<storage, read> x1: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> z: array<vec4<f32>>;          // (T, z_stride4)
@group(0) @binding(6) var<storage, read> d_z: array<vec4<f32>>;        // (T, z_stride4)
@group(0) @binding(7) var<storage, read_write> g: array<vec4<f32>>;    // the gradients

override WG: u32 = 64u;
override SLICES: u32 = 8u;   // invocations per cell, a divisor of WG

var<workgroup> sums: array<vec4<f32>, 4u * WG>;   // (4, WG): rows of a cell by invocation

// The projections of one input.
struct Input {
    k4: u32,
    z_first4: u32,
    y_stride4: u32,
    firsts: vec3<u32>,
    rows: vec3<u32>,
    a_cells: u32,
    b_cells: u32,
    a_first4: u32,
    b_first4: u32,
}

fn input(second: bool) -> Input {
    if second {
        return Input(
            p.k4_1, p.z_first4_1, p.y_stride4_1, vec3<u32>(p.first0_1, p.first1_1, p.first2_1),
            vec3<u32>(p.rows0_1, p.rows1_1, p.rows2_1), p.a_cells_1, p.b_cells_1, p.a_first4_1, p.b_first4_1,
        );
    }
    return Input(
        p.k4_0, p.z_first4_0, p.y_stride4_0, vec3<u32>(p.first0_0, p.first1_0, p.first2_0),
        vec3<u32>(p.rows0_0, p.rows1_0, p.rows2_0), p.a_cells_0, p.b_cells_0, p.a_first4_0, p.b_first4_0,
    );
}

fn d_y(second: bool, at: u32) -> vec4<f32> {
    if second {
        return d_y1[at];
    }
    return d_y0[at];
}

fn x(second: bool, at: u32) -> vec4<f32> {
    if second {
        return x1[at];
    }
    return x0[at];
}

@compute @workgroup_size(WG)
fn lora_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let cells = WG / SLICES;
    // The cells of every dA and of every dB start on separate workgroups.
    let groups0 = (p.a_cells_0 + cells - 1u) / cells + (p.b_cells_0 + cells - 1u) / cells;
    let first = p.first_group + group.y * groups.x + group.x;
    let second = first >= groups0;
    let index = select(first, first - groups0, second);
    let i = input(second);
    let a_groups = (i.a_cells + cells - 1u) / cells;
    let is_a = index < a_groups;
    let slice = lane / cells;
    let cell = select(index - a_groups, index, is_a) * cells + lane % cells;
    let exists = cell < select(i.b_cells, i.a_cells, is_a);
    let end = select(0u, p.tokens, exists);
    var g0 = vec4<f32>();
    var g1 = vec4<f32>();
    var g2 = vec4<f32>();
    var g3 = vec4<f32>();
    var at = 0u;
    var stride = 1u;
    var scale = 1.0;
    if is_a {
        let m = cell / i.k4;
        let n = cell % i.k4;
        at = i.a_first4 + 4u * m * i.k4 + n;
        stride = i.k4;
        for (var t = slice; t < end; t += SLICES) {
            let l = d_z[t * p.z_stride4 + i.z_first4 + m];
            let r = x(second, t * i.k4 + n);
            g0 += l.x * r;
            g1 += l.y * r;
            g2 += l.z * r;
            g3 += l.w * r;
        }
    } else {
        let all = i.rows.x + i.rows.y + i.rows.z;
        let n = cell / all;
        let m = cell % all;
        let part = select(select(2u, 1u, m < i.rows.x + i.rows.y), 0u, m < i.rows.x);
        let before = select(select(i.rows.x + i.rows.y, i.rows.x, part == 1u), 0u, part == 0u);
        let column = select(select(i.firsts.z, i.firsts.y, part == 1u), i.firsts.x, part == 0u) + m - before;
        at = i.b_first4 + 4u * m * p.rank4 + n;
        stride = p.rank4;
        scale = p.scale;
        for (var t = slice; t < end; t += SLICES) {
            let l = d_y(second, t * i.y_stride4 + column);
            let r = z[t * p.z_stride4 + i.z_first4 + part * p.rank4 + n];
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
