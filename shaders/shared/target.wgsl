// What one row of logits should say.
struct Target {
    class: u32,      // column of the whole softmax, below N
    weight: f32,     // of this entry in the loss
}
