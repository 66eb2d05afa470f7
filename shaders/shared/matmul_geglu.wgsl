// Epilogue of the matmul: GeGLU, `act = gelu(gate) * up`. W's rows are those of gate, then those of up.
//
//   forward    Y[T,2F] = gate and up, PAIR[T,F] = act
//   backward   the sums (+ what Y[T,F] holds) are d_act; PAIR[T,2F], which holds gate and up, becomes their gradients
//
// gelu is the tanh form: x/2 * (1 + tanh(u)) = x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3).

@group(0) @binding(7) var<storage, read_write> pair: array<f32>;

// Forward. 1: a slab has all rows, and of four rows in the order of the tile, two are of gate and two of up.
// 0: the rows are some of up, and Y already holds gate.
override PAIRED: u32 = 0u;

fn row_of(n: u32) -> u32 {
    if PAIRED == 1u {
        let half = p.row_end / 2u;
        return min(n / 4u * 2u + (n & 1u), half - 1u) + select(0u, half, (n & 2u) != 0u);
    }
    return min(n, p.row_end - 1u);
}

// sigmoid(2u). Unlike 1 + tanh(u), it stays accurate where x is negative. The exponent is clamped
// because compilers may assume that infinity does not exist.
fn gelu_sigmoid(x: f32) -> f32 {
    let twice_u = 1.5957691216057308 * x * (1.0 + 0.044715 * x * x);
    return 1.0 / (1.0 + exp(clamp(-twice_u, -80.0, 80.0)));
}

// Forward: writes gate (if it is new), up and act of one column of token t.
fn store_pair(t: u32, column: u32, gate: f32, up: f32) {
    let width = p.y_stride / 2u;
    if PAIRED == 1u {
        y[t * p.y_stride + column] = gate;
    }
    y[t * p.y_stride + width + column] = up;
    pair[t * width + column] = gate * gelu_sigmoid(gate) * up;
}

fn store_rows(t: u32, n: u32, sums: vec4<f32>) {
    if t >= p.tokens || n >= p.row_end {
        return;
    }
    if PAIRED == 1u {
        store_pair(t, n / 2u, sums.x, sums.z);
        store_pair(t, n / 2u + 1u, sums.y, sums.w);
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        if n + j < p.row_end {
            let column = p.y_first + n + j - p.y_stride / 2u;
            store_pair(t, column, y[t * p.y_stride + column], sums[j]);
        }
    }
}

// Backward: d_gate = d_act * up * gelu'(gate) and d_up = d_act * gelu(gate), over gate and up.
fn store_columns(t: u32, c: u32, sums: vec4<f32>) {
    if t >= p.tokens {
        return;
    }
    let width = 4u * p.k4;
    for (var j = 0u; j < 4u; j++) {
        var d_act = sums[j];
        if ADD == 1u {
            d_act += y[t * p.y_stride + p.y_first + c + j];
        }
        let at = 2u * t * width + c + j;
        let x = pair[at];
        let sigmoid = gelu_sigmoid(x);
        let d_twice_u = 1.5957691216057308 * (1.0 + 3.0 * 0.044715 * x * x);
        let d_gelu = sigmoid + x * sigmoid * (1.0 - sigmoid) * d_twice_u;
        pair[at] = d_act * pair[at + width] * d_gelu;
        pair[at + width] = d_act * x * sigmoid;
    }
}
