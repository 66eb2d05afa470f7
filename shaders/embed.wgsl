// Y[T, C] = scale · W[token[T], C]: rows of the embedding table.
//
// One workgroup per token and one dispatch per slab of the table: a token whose row is in another slab
// is skipped; the dispatch of that slab writes it. Prepend: a weight decoder.

struct Params {
    tokens: u32,      // T
    columns4: u32,    // C / 4
    first_row: u32,   // the slab holds rows first_row ..
    rows: u32,        // .. first_row + rows
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> tokens: array<u32>;          // (T)
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;   // (T, C/4)

override WG: u32 = 64u;    // invocations per token

@compute @workgroup_size(WG)
fn embed(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = group.y * groups.x + group.x;
    if t >= p.tokens {
        return;
    }
    // A token before the slab wraps around to a large number.
    let row = tokens[t] - p.first_row;
    if row >= p.rows {
        return;
    }
    for (var c = lane; c < p.columns4; c += WG) {
        let scale = group_scale(row, 4u * c / GROUP, p.columns4);
        y[t * p.columns4 + c] = p.scale * weight4(row, c, p.columns4, scale);
    }
}
