//! Floats as GGUF's blocks: F32, F16, Q8_0 and Q4_0. The block structures are those of
//! [`blocks`](super::blocks).
//!
//! The scale of a block is fitted by least squares, as for Hearth's own layouts
//! ([`quantize`](crate::quantize)): ggml's own quantizer takes the largest weight alone. The result is an ordinary
//! block that every program reads.

use half::f16;

use super::header::TensorType;
use crate::quantize::{fit_integers, fit_q8};
use crate::row::RowFault;

/// Weights of a Q8_0 or Q4_0 block.
const BLOCK: usize = 32;

/// Whether [`encode_row`] makes blocks of this type.
pub fn can_encode(kind: TensorType) -> bool {
    matches!(kind, TensorType::F32 | TensorType::F16 | TensorType::Q8_0 | TensorType::Q4_0)
}

/// Appends one row of floats to `out` as blocks of a type that [`can_encode`] names.
///
/// # Errors
/// [`RowFault`] for NaN and infinities, weights or scales beyond f16, a row that is no multiple of 32 for Q8_0 and Q4_0,
/// and other types, which are refused as such a row is.
pub fn encode_row(kind: TensorType, values: &[f32], out: &mut Vec<u8>) -> Result<(), RowFault> {
    let block = kind.block_weights() as usize;
    if !can_encode(kind) || !values.len().is_multiple_of(block) {
        let expected = values.len().next_multiple_of(block);
        return Err(RowFault::Length { expected, found: values.len() });
    }
    if let Some(column) = values.iter().position(|value| !value.is_finite()) {
        return Err(RowFault::Weight { column, value: values[column] });
    }
    match kind {
        TensorType::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        TensorType::F16 => {
            for (column, &value) in values.iter().enumerate() {
                let half = f16::from_f32(value);
                if !half.is_finite() {
                    return Err(RowFault::WeightTooLarge { column, value });
                }
                out.extend(half.to_le_bytes());
            }
        }
        _ => {
            for (block, values) in values.chunks_exact(BLOCK).enumerate() {
                let mut codes = [0; BLOCK];
                let (scale, largest) = match kind {
                    TensorType::Q8_0 => (fit_q8(values, &mut codes).0, f16::MAX.to_f32()),
                    // eight times the scale is the lowest weight, which readers may hold in f16
                    _ => (fit_q4_0(values, &mut codes), f16::MAX.to_f32() / 8.0),
                };
                if scale.to_f32().abs() > largest || !scale.is_finite() {
                    let value = values.iter().fold(0.0, |a: f32, v| a.max(v.abs()));
                    return Err(RowFault::ScaleTooLarge { column: block * BLOCK, value });
                }
                out.extend(scale.to_le_bytes());
                match kind {
                    TensorType::Q8_0 => out.extend(codes),
                    _ => out.extend((0..BLOCK / 2).map(|i| codes[i] | codes[i + BLOCK / 2] << 4)),
                }
            }
        }
    }
    Ok(())
}

/// Codes 0..=15 for integers −8..=7, and a scale, which may be negative: the weight farthest from zero gets −8.
fn fit_q4_0(x: &[f32], codes: &mut [u8; BLOCK]) -> f16 {
    let farthest = x.iter().fold(0.0, |far: f32, &v| if v.abs() > far.abs() { v } else { far });
    fit_integers(x, codes, farthest / -8.0, [-8.0, 7.0], 8.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::blocks::{layout_of, pack_row};
    use crate::layout::PackedRows;
    use hearth_rng::Rng;

    fn back(kind: TensorType, values: &[f32]) -> Vec<f32> {
        let mut bytes = Vec::new();
        encode_row(kind, values, &mut bytes).unwrap();
        let blocks = values.len() as u64 / kind.block_weights();
        assert_eq!(bytes.len() as u64, blocks * kind.block_bytes());
        let mut packed = PackedRows::new(layout_of(kind).unwrap(), values.len()).unwrap();
        pack_row(kind, &bytes, &mut packed).unwrap();
        packed.decode()
    }

    fn relative(got: &[f32], want: &[f32]) -> f64 {
        let square = |x: f32| f64::from(x).powi(2);
        let off: f64 = got.iter().zip(want).map(|(a, b)| square(a - b)).sum();
        (off / want.iter().map(|&x| square(x)).sum::<f64>()).sqrt()
    }

    #[test]
    fn normal_weights_lose_what_their_bits_cost() {
        let mut rng = Rng::new(5);
        let values: Vec<f32> =
            (0..4096).map(|_| (0..12).map(|_| rng.uniform()).sum::<f64>() as f32 - 6.0).collect();
        assert_eq!(back(TensorType::F32, &values), values);
        let losses = [TensorType::F16, TensorType::Q8_0, TensorType::Q4_0]
            .map(|kind| relative(&back(kind, &values), &values));
        assert!(losses[0] < 3e-4 && losses[1] < 6e-3 && losses[2] < 0.09, "{losses:?}");
        assert!(losses[0] < losses[1] && losses[1] < losses[2], "{losses:?}");
        // ggml's own rule, the weight farthest from zero alone, loses more
        let ggml: Vec<f32> = values
            .chunks_exact(BLOCK)
            .flat_map(|block| {
                let far = block.iter().fold(0.0f32, |f, &v| if v.abs() > f.abs() { v } else { f });
                let d = f16::from_f32(far / -8.0).to_f32();
                block.iter().map(move |x| d * ((x / d).round().clamp(-8.0, 7.0)))
            })
            .collect();
        assert!(losses[2] < relative(&ggml, &values), "{losses:?}");
    }

    #[test]
    fn grids_zeros_and_signs_are_exact() {
        for sign in [0.5, -0.5] {
            let values: Vec<f32> = (0..64).map(|i| sign * ((i % 16) as f32 - 8.0)).collect();
            assert_eq!(back(TensorType::Q4_0, &values), values);
        }
        for kind in [TensorType::Q8_0, TensorType::Q4_0] {
            assert_eq!(back(kind, &[0.0; 64]), [0.0; 64]);
        }
    }

    #[test]
    fn bad_rows_are_refused() {
        let fault = |kind, values: &[f32]| encode_row(kind, values, &mut vec![]).unwrap_err();
        let mut values = [0.25; 64];
        values[40] = f32::NAN;
        assert!(matches!(fault(TensorType::Q4_0, &values), RowFault::Weight { column: 40, .. }));
        values[40] = 1e9;
        assert!(matches!(
            fault(TensorType::F16, &values),
            RowFault::WeightTooLarge { column: 40, .. }
        ));
        for kind in [TensorType::Q8_0, TensorType::Q4_0] {
            assert!(matches!(fault(kind, &values), RowFault::ScaleTooLarge { column: 32, .. }));
            assert!(matches!(fault(kind, &[0.5; 40]), RowFault::Length { .. }));
        }
        assert!(matches!(fault(TensorType::Q4_K, &[0.5; 256]), RowFault::Length { .. }));
    }
}
