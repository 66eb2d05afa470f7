//! Which types llama.cpp mixes in a file: for planning a file that is not available yet, and for making one.

use super::header::TensorType;

/// The type of a layer's matrix in a Q4_K_M (`llama_tensor_get_type` in `llama-quant.cpp`): values and
/// down projections (`sensitive`) get Q6_K in the layers where more bits pay. Rows whose length is
/// not a multiple of 256 get the type that is used instead. The tied embedding is an output head there: Q6_K, or Q8_0.
pub fn q4_k_m(layer: usize, layers: usize, sensitive: bool, columns: usize) -> TensorType {
    let front = layers / 8;
    let more_bits = layer < front || layer >= 7 * layers / 8 || (layer - front) % 3 == 2;
    match (sensitive && more_bits, columns.is_multiple_of(256)) {
        (true, true) => TensorType::Q6_K,
        (false, true) => TensorType::Q4_K,
        (true, false) => TensorType::Q8_0,
        (false, false) => TensorType::Q5_0,
    }
}
