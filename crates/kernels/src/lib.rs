//! One module per WGSL kernel: its formula and source, how to dispatch it, a slow and obvious CPU
//! reference, and the tests that compare the two on awkward shapes, on both device profiles.
//!
//! Dimension letters, in the order in which they appear in every shape, in WGSL and in Rust:
//! `T` tokens of a packed batch, `C` width of the residual stream, `H` query heads, `G` key/value
//! heads, `D` head width, `F` MLP width, `V` vocabulary, `R` LoRA rank, `N` and `K` rows and
//! columns of a weight matrix, `S` keys (cached ones first, then the batch's own).

pub mod adamw;
pub mod attention;
pub mod attention_backward_dkv;
pub mod attention_backward_dq;
pub mod cross_entropy;
pub mod cross_entropy_backward;
pub mod dropout;
pub mod embed;
pub mod gather_rows;
pub mod geglu;
pub mod grad_norm;
mod grid;
pub mod list;
pub mod lora_dz;
pub mod lora_grad;
pub mod loss_sum;
pub mod matmul;
pub mod matmul_backward;
pub mod matrix;
#[cfg(test)]
mod parts;
pub mod qk_norm_rope;
pub mod residual_norm;
pub mod residual_norm_backward;
pub mod rms_norm;
pub mod rms_norm_backward;
pub mod scatter_rows;
mod shader;
pub mod soft_cap;
pub mod square_sum;
#[cfg(test)]
mod testing;
pub mod variants;
