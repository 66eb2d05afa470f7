// What training keeps on the device from step to step; Rust's train_state.rs says more.
struct TrainState {
    loss: f32,               // of this batch so far, weighted mean
    correct: f32,            // entries of this batch whose class was the most likely one
    entries: f32,            // entries of this batch
    grad_norm: f32,          // of the last step, before clipping
    clip: f32,               // factor of the gradients
    finite: u32,             // 1: the last step was taken, 0: it was skipped
    steps: u32,              // steps taken
    skipped: u32,            // steps skipped
    skipped_in_a_row: u32,   // since the last step taken
    correction1: f32,        // 1 - beta1^steps
    correction2: f32,        // 1 - beta2^steps
}

// NaN and infinities have all bits of the exponent set. Asked of the bits, because a compiler may
// assume that there is no NaN.
fn not_finite(bits: u32) -> bool {
    return (bits & 0x7f800000u) == 0x7f800000u;
}
