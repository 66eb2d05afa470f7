// State of the optimizer that stays on the device, so that a step does not wait for the host.
struct Step {
    loss: f32,               // weighted mean loss of the batch
    correct: f32,            // number of correct predictions
    grad_norm: f32,          // before clipping
    clip: f32,               // factor on the gradients; 0: this step is skipped
    beta1_power: f32,        // beta1^t and beta2^t over the t updates made
    beta2_power: f32,
    updates: u32,            // t
    skipped: u32,            // total number of skipped steps
    skipped_in_a_row: u32,
}

// Tests the bits, because a compiler may assume that NaN does not exist.
fn finite(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
}
