//! How a model's weights are held: as its file has them, or in fewer bits.

use hearth_formats::{
    checkpoint::{Checkpoint, Tensor},
    layout::WeightLayout,
};
use hearth_gemma::Precision;

use crate::protocol::WeightsAs;

/// Models with more weights than this in floats are held in 4 bits unless the user says otherwise: bf16 widens to
/// f32 on the device, and 4 GB of that are more than most have.
const LARGE: u64 = 1_000_000_000;

/// Whether a tensor is a matrix of 16 or 32 bits a weight.
fn is_floats(tensor: &Tensor) -> bool {
    let floats = matches!(tensor.layout, Some(WeightLayout::F32 | WeightLayout::F16));
    floats && tensor.shape.len() > 1
}

/// What the user's choice means for a model.
pub fn precision(weights: WeightsAs, checkpoint: &Checkpoint) -> Precision {
    let floats = checkpoint.tensors().filter(|t| is_floats(t)).map(|t| t.rows() * t.columns());
    match weights {
        WeightsAs::Auto if floats.sum::<u64>() > LARGE => Precision::Q4,
        WeightsAs::Auto | WeightsAs::Exact => Precision::Exact,
        WeightsAs::Q8 => Precision::Q8,
        WeightsAs::Q4 => Precision::Q4,
    }
}

/// The layout that a smaller copy of a model would have; none where a copy would not be smaller, or would lose the
/// tokenizer that lies in the file.
pub fn smaller(weights: WeightsAs, checkpoint: &Checkpoint) -> Option<WeightLayout> {
    if checkpoint.gguf().is_some() || !checkpoint.tensors().any(is_floats) {
        return None;
    }
    match precision(weights, checkpoint) {
        Precision::Q8 => Some(WeightLayout::Q8),
        Precision::Q4 => Some(WeightLayout::Q4),
        Precision::Exact | Precision::F16 => None,
    }
}
