// Where a matmul whose sum is divided into parts, which other workgroups compute, stores its results: the sums of part 0
// in Y, those of the others in OTHERS. The kernel that reads Y adds them in order.

@group(0) @binding(7) var<storage, read_write> others: array<f32>;   // (PARTS - 1, T, y_stride)

override ADD_PARTS: u32 = 0u;   // 1: the other parts are added to what OTHERS holds, too

fn store(at: u32, value: f32) {
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
