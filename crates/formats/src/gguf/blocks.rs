//! GGUF's tensor types and their exact repacking into weight layouts.
//!
//! The block structures are those of ggml (`ggml-common.h`, `dequantize_row_*` in
//! `ggml-quants.c`). Every repacked value is bit-identical to the dequantized one (except for the
//! sign of zero): integers are reordered and scales moved, nothing is rounded.
//!
//! | type | bytes | weights | layout |
//! | --- | --- | --- | --- |
//! | Q8_0 | 34 | 32 | q8, groups of 32, f16 |
//! | Q5_0 | 22 | 32 | the same, codes q − 16 |
//! | Q4_0 | 18 | 32 | q4, groups of 32, f16 scale and minimum −8d |
//! | Q4_1 | 20 | 32 | q4, groups of 32, f16 scale and minimum |
//! | Q5_1 | 24 | 32 | q8, groups of 32, f16 scale and minimum, codes 0..=31 |
//! | Q4_K | 144 | 256 | q4, groups of 32, two-level with minimum |
//! | Q5_K | 176 | 256 | q8, groups of 32, two-level with minimum, codes 0..=31 |
//! | Q6_K | 210 | 256 | q8, groups of 16, two-level, codes q − 32 |
//! | IQ4_NL | 18 | 32 | q8, groups of 32, f16, codes from a table of 16 |
//! | IQ4_XS | 136 | 256 | q8, groups of 32, two-level, codes from that table |
//!
//! The two IQ4 types take 16 values that are not evenly spaced, so no 4-bit layout holds them; as 8-bit codes they
//! are exact, at 8.5 and 8.4 bits per weight on the GPU instead of 4.5 and 4.25 in the file.

use half::f16;

use crate::gguf::header::TensorType;
use crate::layout::{PackedRows, ScaleForm, WeightLayout, push_bytes, push_codes};
use crate::row::{FloatType, RowFault, push_f16_scales};

/// The layout that holds a tensor type exactly; `None` for types that Hearth does not read.
/// bf16 needs f32, as f16 has a smaller exponent range.
pub fn layout_of(kind: TensorType) -> Option<WeightLayout> {
    let quant = |bits, group, scale, minimum| WeightLayout::Quant { bits, group, scale, minimum };
    Some(match kind {
        TensorType::F64 | TensorType::F32 | TensorType::Bf16 => WeightLayout::F32,
        TensorType::F16 => WeightLayout::F16,
        TensorType::Q4_0 | TensorType::Q4_1 => quant(4, 32, ScaleForm::F16, true),
        TensorType::Q5_0 | TensorType::Q8_0 | TensorType::Iq4Nl => {
            quant(8, 32, ScaleForm::F16, false)
        }
        TensorType::Q5_1 => quant(8, 32, ScaleForm::F16, true),
        TensorType::Q4_K => quant(4, 32, ScaleForm::TwoLevel, true),
        TensorType::Q5_K => quant(8, 32, ScaleForm::TwoLevel, true),
        TensorType::Q6_K => quant(8, 16, ScaleForm::TwoLevel, false),
        TensorType::Iq4Xs => quant(8, 32, ScaleForm::TwoLevel, false),
        _ => return None,
    })
}

/// Appends one row to `packed`, which has the type's own layout (see [`layout_of`]). `bytes` are
/// the row's blocks.
///
/// # Errors
/// [`RowFault`] for weights or scales that are not finite, a Q4_0 scale whose minimum exceeds f16,
/// and rows of the wrong length or layout. `packed` may then hold a part of the row.
pub fn pack_row(kind: TensorType, bytes: &[u8], packed: &mut PackedRows) -> Result<(), RowFault> {
    let (weights, block_bytes) = (kind.block_weights() as usize, kind.block_bytes() as usize);
    let expected = packed.columns / weights * block_bytes;
    if bytes.len() != expected || layout_of(kind) != Some(packed.layout) {
        return Err(RowFault::Length { expected, found: bytes.len() });
    }
    let blocks = bytes.chunks_exact(block_bytes).enumerate();
    match kind {
        TensorType::F64 => return FloatType::F64.pack_row(bytes, packed),
        TensorType::F32 => return FloatType::F32.pack_row(bytes, packed),
        TensorType::F16 => return FloatType::F16.pack_row(bytes, packed),
        TensorType::Bf16 => return FloatType::Bf16.pack_row(bytes, packed),
        TensorType::Q4_K | TensorType::Q5_K | TensorType::Q6_K => {
            for (block, bytes) in blocks {
                k_block(kind, bytes, block * 256, packed)?;
            }
        }
        TensorType::Iq4Xs => {
            for (block, bytes) in blocks {
                iq4_xs_block(bytes, block * 256, packed)?;
            }
        }
        _ => {
            let mut scales = Vec::with_capacity(packed.columns / 32);
            for (block, bytes) in blocks {
                scales.push(simple_block(kind, bytes, block * 32, &mut packed.quants)?);
            }
            push_f16_scales(packed.layout, &scales, &mut packed.scales);
        }
    }
    packed.rows += 1;
    Ok(())
}

/// One block of 32: its codes, and its scale and minimum for the row's scales.
fn simple_block(
    kind: TensorType,
    bytes: &[u8],
    column: usize,
    quants: &mut Vec<u32>,
) -> Result<(f16, f16), RowFault> {
    let d = finite_f16(bytes, 0, column)?;
    let (minimum, rest) = match kind {
        TensorType::Q4_1 | TensorType::Q5_1 => (finite_f16(bytes, 2, column)?, &bytes[4..]),
        // Eight times a scale only moves the exponent (or, subnormal, the bits), so it is
        // exact unless it exceeds the largest f16.
        TensorType::Q4_0 => (f16::from_f32(-8.0 * d.to_f32()), &bytes[2..]),
        _ => (f16::ZERO, &bytes[2..]),
    };
    if !minimum.is_finite() {
        return Err(RowFault::ScaleTooLarge { column, value: d.to_f32() });
    }
    let mut codes = [0; 32];
    match kind {
        TensorType::Q8_0 => codes.copy_from_slice(rest),
        TensorType::Q4_0 | TensorType::Q4_1 => nibbles(rest, &mut codes),
        TensorType::Iq4Nl => {
            nibbles(rest, &mut codes);
            codes = codes.map(iq4_code);
        }
        _ => {
            let high = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
            nibbles(&rest[4..], &mut codes);
            // As a signed byte, q − 16 is what the q8 layout stores.
            let shift = if kind == TensorType::Q5_0 { 16 } else { 0 };
            for (i, code) in codes.iter_mut().enumerate() {
                *code = (*code | ((high >> i) as u8 & 1) << 4).wrapping_sub(shift);
            }
        }
    }
    let bits = if matches!(kind, TensorType::Q4_0 | TensorType::Q4_1) { 4 } else { 8 };
    push_codes(bits, &codes, quants);
    Ok((d, minimum))
}

/// The 16 values of the IQ4 types (`kvalues_iq4nl`).
const IQ4_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The signed byte that a 4-bit code of an IQ4 type represents.
fn iq4_code(code: u8) -> u8 {
    IQ4_VALUES[usize::from(code & 15)] as u8
}

/// One block of IQ4_XS: f16 d, the high two bits of eight sub-scales, their low four bits, then codes. A sub-scale is
/// stored with 32 added.
fn iq4_xs_block(bytes: &[u8], column: usize, packed: &mut PackedRows) -> Result<(), RowFault> {
    let d = finite_f16(bytes, 0, column)?;
    let high = u16::from_le_bytes([bytes[2], bytes[3]]);
    let mut scales = [0; 8];
    for (group, scale) in scales.iter_mut().enumerate() {
        let low = bytes[4 + group / 2] >> (4 * (group % 2)) & 15;
        let pair = (high >> (2 * group)) as u8 & 3;
        *scale = (low | pair << 4).wrapping_sub(32);
        let mut codes = [0; 32];
        nibbles(&bytes[8 + 16 * group..24 + 16 * group], &mut codes);
        push_codes(8, &codes.map(iq4_code), &mut packed.quants);
    }
    packed.scales.push(u32::from(d.to_bits()));
    push_bytes(&scales, &mut packed.scales);
    Ok(())
}

/// One block of 256 with its two-level scales.
fn k_block(
    kind: TensorType,
    bytes: &[u8],
    column: usize,
    packed: &mut PackedRows,
) -> Result<(), RowFault> {
    let mut codes = [0; 256];
    if kind == TensorType::Q6_K {
        let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
        let d = finite_f16(bytes, 208, column)?;
        for (i, code) in codes.iter_mut().enumerate() {
            // Each half of 128 weights has 64 bytes of low nibbles and 32 of high bit pairs.
            let (half, quarter, l) = (i / 128, i % 128 / 32, i % 32);
            let nibble = low[64 * half + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
            let pair = high[32 * half + l] >> (2 * quarter) & 3;
            *code = (nibble | pair << 4).wrapping_sub(32);
        }
        push_codes(8, &codes, &mut packed.quants);
        packed.scales.push(u32::from(d.to_bits()));
        push_bytes(scales, &mut packed.scales);
        return Ok(());
    }

    let d = finite_f16(bytes, 0, column)?;
    let dmin = finite_f16(bytes, 2, column)?;
    let sub_scales = &bytes[4..16];
    let (high, low) = match kind {
        TensorType::Q5_K => (Some(&bytes[16..48]), &bytes[48..]),
        _ => (None, &bytes[16..]),
    };
    for (i, code) in codes.iter_mut().enumerate() {
        // 32 bytes hold two groups: the first in the low nibbles, the second in the high.
        let (group, l) = (i / 32, i % 32);
        *code = low[32 * (group / 2) + l] >> (4 * (group % 2)) & 15;
        if let Some(high) = high {
            *code |= (high[l] >> group & 1) << 4;
        }
    }
    push_codes(if high.is_some() { 8 } else { 4 }, &codes, &mut packed.quants);
    // The layout adds the minimum, GGUF subtracts it.
    let negated = dmin.to_bits() ^ 0x8000;
    packed.scales.push(u32::from(d.to_bits()) | u32::from(negated) << 16);
    let mut pairs = [0; 16];
    for (group, pair) in pairs.chunks_exact_mut(2).enumerate() {
        (pair[0], pair[1]) = k_scale(sub_scales, group);
    }
    push_bytes(&pairs, &mut packed.scales);
    Ok(())
}

/// Sub-scale and sub-minimum of a group, 6 bits each (`get_scale_min_k4`).
fn k_scale(s: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        return (s[group] & 63, s[group + 4] & 63);
    }
    let (low, high) = (s[group + 4], group - 4);
    (low & 15 | s[high] >> 6 << 4, low >> 4 | s[group] >> 6 << 4)
}

/// 16 bytes as 32 codes: all the low nibbles, then all the high ones.
fn nibbles(bytes: &[u8], codes: &mut [u8; 32]) {
    for (i, byte) in bytes.iter().enumerate() {
        codes[i] = byte & 15;
        codes[i + 16] = byte >> 4;
    }
}

fn finite_f16(bytes: &[u8], at: usize, column: usize) -> Result<f16, RowFault> {
    let value = f16::from_le_bytes([bytes[at], bytes[at + 1]]);
    if value.is_finite() {
        return Ok(value);
    }
    Err(RowFault::Scale { column, value: value.to_f32() })
}
