// Epilogue of the matmul: the sums are stored as they are, by `store`, which comes before this.

// A row of the slab; beyond the end the last is repeated: results of the repeats are not stored.
fn row_of(n: u32) -> u32 {
    return min(n, p.row_end - 1u);
}

// Forward: writes the sums of token t and the slab's rows n .. n+3, where both exist.
fn store_rows(t: u32, n: u32, sums: vec4<f32>) {
    if t >= p.tokens {
        return;
    }
    let at = t * p.y_stride + p.y_first + n;
    for (var j = 0u; j < 4u; j++) {
        if n + j < p.row_end {
            store(at + j, sums[j]);
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
        store(at + j, sums[j]);
    }
}
