// Epilogue of the tiled matmul: the sum is divided into parts, which other workgroups compute. The sums of part 0 go into Y,
// those of the others into OTHERS, which the kernel that reads Y adds in order.

@group(0) @binding(7) var<storage, read_write> others: array<f32>;   // (PARTS - 1, T, y_stride)

override ADD_PARTS: u32 = 0u;   // 1: the other parts are added to what OTHERS holds, too

// A row of the slab; beyond the end the last is repeated: results of the repeats are not stored.
fn row_of(n: u32) -> u32 {
    return min(n, p.row_end - 1u);
}

fn put_part(at: u32, value: f32) {
    if stored_part == 0u {
        put(at, value);
        return;
    }
    let behind = (stored_part - 1u) * p.tokens * p.y_stride + at;
    if ADD_PARTS == 1u {
        others[behind] += value;
    } else {
        others[behind] = value;
    }
}

// Forward: writes the sums of token t and the slab's rows n .. n+3, where both exist.
fn store_rows(t: u32, n: u32, sums: vec4<f32>) {
    if t >= p.tokens {
        return;
    }
    let at = t * p.y_stride + p.y_first + n;
    for (var j = 0u; j < 4u; j++) {
        if n + j < p.row_end {
            put_part(at + j, sums[j]);
        }
    }
}

// Backward: writes columns c .. c+3 of token t, if there is such a token.
fn store_columns(t: u32, c: u32, sums: vec4<f32>) {
    if t >= p.tokens {
        return;
    }
    let at = t * p.y_stride + p.y_first + c;
    for (var j = 0u; j < 4u; j++) {
        put_part(at + j, sums[j]);
    }
}
