//! Hearth's own q8 and q4, quantized from floats.
//!
//! A group of 32 weights x gets integers q, a scale s and (q4) a minimum m that make
//! Σ (s·q + m − x)² small. For given integers the best s and m are a linear least-squares fit;
//! for given s and m the best integers are the rounded ones; the two steps alternate, and the
//! best result *after s and m are rounded to f16* is kept.
//!
//! Small groups make f16 scales subnormal (q8 below |x| = 0.0078). They stay subnormal, as a
//! floor at the smallest normal number would cost accuracy; integers are always chosen for the
//! rounded scale, and decoders widen f16 by integer arithmetic (see [`layout`](crate::layout)).

use half::f16;

use crate::layout::{PackedRows, ScaleForm, WeightLayout, push_codes};
use crate::row::{RowFault, push_f16_scales};

/// Largest group of a layout.
const LARGEST_GROUP: usize = 128;

/// Appends one row of floats to `packed` in its layout: f32, f16, or one that
/// [`can_encode`] accepts. `values` is `[columns]`.
///
/// # Errors
/// [`RowFault`] for NaN and infinities, weights or scales beyond f16, another number of columns,
/// and layouts that are only repacked.
pub fn encode_row(values: &[f32], packed: &mut PackedRows) -> Result<(), RowFault> {
    if values.len() != packed.columns {
        return Err(RowFault::Length { expected: packed.columns, found: values.len() });
    }
    if let Some(column) = values.iter().position(|value| !value.is_finite()) {
        return Err(RowFault::Weight { column, value: values[column] });
    }
    match packed.layout {
        WeightLayout::F32 => packed.quants.extend(values.iter().map(|v| v.to_bits())),
        WeightLayout::F16 => encode_f16(values, &mut packed.quants)?,
        layout @ WeightLayout::Quant { bits, group, .. } => {
            if !can_encode(layout) {
                return Err(RowFault::NoEncoder { layout });
            }
            let group = group as usize;
            let mut scales = Vec::with_capacity(values.len() / group);
            let mut codes = [0; LARGEST_GROUP];
            for (g, values) in values.chunks_exact(group).enumerate() {
                let codes = &mut codes[..group];
                let (scale, minimum) = match bits {
                    8 => fit_q8(values, codes),
                    _ => fit_q4(values, codes),
                };
                if !scale.is_finite() || !minimum.is_finite() {
                    return Err(RowFault::ScaleTooLarge {
                        column: g * group,
                        value: values.iter().fold(0.0, |a: f32, v| a.max(v.abs())),
                    });
                }
                scales.push((scale, minimum));
                push_codes(bits, codes, &mut packed.quants);
            }
            push_f16_scales(layout, &scales, &mut packed.scales);
        }
    }
    packed.rows += 1;
    Ok(())
}

/// Whether [`encode_row`] can make the layout: floats, 8 bits without minimum and 4 bits with,
/// the latter two with f16 scales and any group.
pub fn can_encode(layout: WeightLayout) -> bool {
    match layout {
        WeightLayout::F32 | WeightLayout::F16 => true,
        WeightLayout::Quant { bits, scale, minimum, .. } => {
            scale == ScaleForm::F16 && matches!((bits, minimum), (8, false) | (4, true))
        }
    }
}

fn encode_f16(values: &[f32], quants: &mut Vec<u32>) -> Result<(), RowFault> {
    for (pair, two) in values.chunks_exact(2).enumerate() {
        let halves = [f16::from_f32(two[0]), f16::from_f32(two[1])];
        if let Some(i) = halves.iter().position(|half| !half.is_finite()) {
            return Err(RowFault::WeightTooLarge { column: 2 * pair + i, value: two[i] });
        }
        quants.push(u32::from(halves[0].to_bits()) | u32::from(halves[1].to_bits()) << 16);
    }
    Ok(())
}

/// Rounds of fitting. On normal weights six take the error of q4 from 0.0782 (none) to 0.0724,
/// and a round without improvement ends the search.
const ROUNDS: usize = 6;

/// Adding and subtracting 1.5·2²³ rounds a small f32 to an integer (ties to even), on every
/// target without a function call: baseline x86-64 has no rounding instruction.
const ROUND: f32 = 12_582_912.0;

/// Integers −127..=127 and a scale. The codes are the bytes of `i8`.
pub(crate) fn fit_q8(x: &[f32], codes: &mut [u8]) -> (f16, f16) {
    let largest = x.iter().fold(0.0, |a: f32, v| a.max(v.abs()));
    (fit_integers(x, codes, largest / 127.0, [-127.0, 127.0], 0.0), f16::ZERO)
}

/// Integers between two limits and a scale, which may be negative, fitted by least squares; `scale` is the first one. A
/// code is the integer plus `zero`, as a byte.
pub(crate) fn fit_integers(
    x: &[f32],
    codes: &mut [u8],
    mut scale: f32,
    [low, high]: [f32; 2],
    zero: f32,
) -> f16 {
    let nearest = |scale: f32| match scale < 0.0 {
        true => -f16_scale(-scale),
        false => f16_scale(scale),
    };
    let mut best = (f32::INFINITY, nearest(scale));
    let mut trial = [0; LARGEST_GROUP];
    for _ in 0..ROUNDS {
        let rounded = nearest(scale);
        let s = rounded.to_f32();
        let inverse = if s == 0.0 { 0.0 } else { 1.0 / s };
        let (mut error, mut xq, mut qq) = (0.0, 0.0, 0.0);
        for (x, code) in x.iter().zip(&mut trial) {
            let q = (x * inverse).clamp(low, high) + ROUND - ROUND;
            *code = (q + zero) as i32 as u8;
            let residual = s * q - x;
            error += residual * residual;
            xq += x * q;
            qq += q * q;
        }
        // Not finite: the loop ends, and the caller refuses the first scale.
        if error.partial_cmp(&best.0) != Some(std::cmp::Ordering::Less) {
            break;
        }
        best = (error, rounded);
        codes.copy_from_slice(&trial[..codes.len()]);
        if qq == 0.0 {
            break;
        }
        scale = xq / qq;
    }
    best.1
}

/// Integers 0..=15, a scale and a minimum.
fn fit_q4(x: &[f32], codes: &mut [u8]) -> (f16, f16) {
    let low = x.iter().fold(f32::INFINITY, |a, v| a.min(*v));
    let high = x.iter().fold(f32::NEG_INFINITY, |a, v| a.max(*v));
    let n = x.len() as f32;
    let (mut scale, mut minimum) = ((high - low) / 15.0, low);
    let mut best = (f32::INFINITY, f16_scale(scale), f16::from_f32(minimum));
    let mut trial = [0; LARGEST_GROUP];
    for _ in 0..ROUNDS {
        let rounded = (f16_scale(scale), f16::from_f32(minimum));
        let (s, m) = (rounded.0.to_f32(), rounded.1.to_f32());
        let inverse = if s > 0.0 { 1.0 / s } else { 0.0 };
        // Sums of x − low, so that a large common offset causes no cancellation.
        let (mut error, mut sx, mut sq, mut xq, mut qq) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (x, code) in x.iter().zip(&mut trial) {
            let q = ((x - m) * inverse).clamp(0.0, 15.0) + ROUND - ROUND;
            *code = q as u8;
            let residual = s * q + m - x;
            error += residual * residual;
            let x = x - low;
            sx += x;
            sq += q;
            xq += x * q;
            qq += q * q;
        }
        if error.partial_cmp(&best.0) != Some(std::cmp::Ordering::Less) {
            break;
        }
        best = (error, rounded.0, rounded.1);
        codes.copy_from_slice(&trial[..codes.len()]);
        let determinant = n * qq - sq * sq;
        if determinant <= 0.0 {
            break;
        }
        scale = (n * xq - sq * sx) / determinant;
        minimum = low + (sx - scale * sq) / n;
    }
    (best.1, best.2)
}

/// The nearest f16; among subnormals, whose steps of 2⁻²⁴ are coarse, the next one above, so that
/// the largest weights are not clipped and a positive scale never becomes 0.
fn f16_scale(scale: f32) -> f16 {
    let rounded = f16::from_f32(scale);
    if rounded < f16::MIN_POSITIVE && rounded.to_f32() < scale {
        f16::from_bits(rounded.to_bits() + 1)
    } else {
        rounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(layout: WeightLayout, values: &[f32]) -> Result<Vec<f32>, RowFault> {
        let mut packed = PackedRows::new(layout, values.len()).unwrap();
        encode_row(values, &mut packed)?;
        assert_eq!(packed.quants.len(), layout.quant_words(values.len()));
        assert_eq!(packed.scales.len(), layout.scale_words(values.len()));
        Ok(packed.decode())
    }

    #[test]
    fn values_on_a_grid_are_kept_exactly() {
        let mut q8: Vec<f32> = (0..96).map(|i| (i as f32 * 7.0 % 255.0 - 127.0) / 64.0).collect();
        for group in q8.chunks_exact_mut(32) {
            group[3] = -127.0 / 64.0;
        }
        assert_eq!(encode(WeightLayout::Q8, &q8).unwrap(), q8);
        let q4: Vec<f32> = (0..64).map(|i| (i % 16) as f32 / 8.0 - 1.25).collect();
        assert_eq!(encode(WeightLayout::Q4, &q4).unwrap(), q4);
        assert_eq!(encode(WeightLayout::F16, &q4).unwrap(), q4);
        assert_eq!(encode(WeightLayout::F32, &q4).unwrap(), q4);
    }

    #[test]
    fn zeros_constants_and_tiny_weights_survive() {
        for layout in [WeightLayout::Q8, WeightLayout::Q4] {
            assert_eq!(encode(layout, &[0.0; 32]).unwrap(), [0.0; 32]);
            for value in encode(layout, &[-0.5; 32]).unwrap() {
                // The scale has 11 bits.
                assert!((value + 0.5).abs() <= 0.5 / 2048.0, "{layout}: {value}");
            }
            // Scales of three or four steps of f16: coarse, but the error stays within half a step
            // of q.
            let tiny: Vec<f32> = (0..32).map(|i| (i as f32 - 16.0) * 1e-7).collect();
            let step = if layout == WeightLayout::Q8 { 3e-8 } else { 1.5e-7 };
            for (found, expected) in encode(layout, &tiny).unwrap().iter().zip(&tiny) {
                assert!((found - expected).abs() <= step, "{layout}: {found} {expected}");
            }
        }
    }

    #[test]
    fn bad_weights_are_refused_where_they_are() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [0.25; 64];
            values[40] = bad;
            for layout in [WeightLayout::F32, WeightLayout::F16, WeightLayout::Q8, WeightLayout::Q4]
            {
                let fault = encode(layout, &values).unwrap_err();
                assert!(matches!(fault, RowFault::Weight { column: 40, .. }), "{fault}");
            }
        }
        let mut values = [0.25; 64];
        values[40] = 3e38;
        values[41] = -3e38;
        let fault = encode(WeightLayout::F16, &values).unwrap_err();
        assert!(matches!(fault, RowFault::WeightTooLarge { column: 40, .. }));
        for layout in [WeightLayout::Q8, WeightLayout::Q4] {
            let fault = encode(layout, &values).unwrap_err();
            assert!(matches!(fault, RowFault::ScaleTooLarge { column: 32, .. }), "{fault}");
        }
    }
}
