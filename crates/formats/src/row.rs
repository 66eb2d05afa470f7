//! One row of weights: its floats, and what can be wrong in it. The reader, which knows file, tensor and row, puts them
//! in front of a [`RowFault`].

use half::{bf16, f16};
use thiserror::Error;

use crate::layout::{PackedRows, SUPER_GROUP, ScaleForm, WeightLayout, push_bytes};

/// A fault of one row.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum RowFault {
    /// NaN or an infinity among the weights.
    #[error(
        "column {column} is {value}, weights must be finite; the file is damaged or its training diverged: fetch it again, or take another model"
    )]
    Weight {
        /// The column.
        column: usize,
        /// NaN or ±∞.
        value: f32,
    },
    /// NaN or an infinity among the scales or minima.
    #[error(
        "the scale of the group at column {column} is {value}, scales must be finite; the file is damaged, fetch it again"
    )]
    Scale {
        /// First column of the group.
        column: usize,
        /// NaN or ±∞.
        value: f32,
    },
    /// A scale or minimum that f16 cannot hold.
    #[error(
        "the group at column {column} needs a scale or minimum beyond f16 (found {value}); use the f32 layout"
    )]
    ScaleTooLarge {
        /// First column of the group.
        column: usize,
        /// The scale or weight that is too large.
        value: f32,
    },
    /// A weight that the f16 layout cannot hold.
    #[error("column {column} is {value}, beyond f16; use the f32 layout")]
    WeightTooLarge {
        /// The column.
        column: usize,
        /// The weight.
        value: f32,
    },
    /// Only files hold the layout; floats are not quantized to it.
    #[error(
        "Hearth does not quantize to {layout}, it only repacks it; choose q8-g32-f16 or q4-g32-f16-min"
    )]
    NoEncoder {
        /// The wanted layout.
        layout: WeightLayout,
    },
    /// The row has the wrong size.
    #[error("the row has {found} bytes or weights, {expected} were expected")]
    Length {
        /// What the shape requires.
        expected: usize,
        /// What was given.
        found: usize,
    },
}

/// The float types of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FloatType {
    /// 64 bits: rounded to 32 when read.
    F64,
    /// 32 bits.
    F32,
    /// 16 bits, IEEE.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl FloatType {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The layout that holds the type exactly, except f64, which no layout holds: it is rounded to f32. bf16 needs
    /// f32, as f16 has a smaller exponent range.
    pub fn layout(self) -> WeightLayout {
        match self {
            Self::F64 | Self::F32 | Self::Bf16 => WeightLayout::F32,
            Self::F16 => WeightLayout::F16,
        }
    }

    /// Widens little-endian numbers to f32, as many as `out` holds.
    pub fn widen(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F64 => {
                for (value, b) in out.iter_mut().zip(bytes.chunks_exact(8)) {
                    let mut wide = [0; 8];
                    wide.copy_from_slice(b);
                    *value = f64::from_le_bytes(wide) as f32;
                }
            }
            Self::F32 => {
                for (value, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *value = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                }
            }
            Self::F16 => {
                for (value, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *value = f16::from_le_bytes([b[0], b[1]]).to_f32();
                }
            }
            Self::Bf16 => {
                for (value, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *value = bf16::from_le_bytes([b[0], b[1]]).to_f32();
                }
            }
        }
    }

    /// Appends one row of little-endian numbers to `packed`, which has the type's own
    /// [`layout`](Self::layout).
    ///
    /// # Errors
    /// [`RowFault::Weight`] if one is not finite, [`RowFault::Length`] if there are not
    /// `packed.columns` of them or the layout is different.
    pub fn pack_row(self, bytes: &[u8], packed: &mut PackedRows) -> Result<(), RowFault> {
        let expected = packed.columns * self.bytes();
        if bytes.len() != expected || packed.layout != self.layout() {
            return Err(RowFault::Length { expected, found: bytes.len() });
        }
        if self == Self::F64 {
            let mut values = vec![0.0; packed.columns];
            self.widen(bytes, &mut values);
            if let Some(column) = values.iter().position(|value| !value.is_finite()) {
                return Err(RowFault::Weight { column, value: values[column] });
            }
            packed.quants.extend(values.iter().map(|value| value.to_bits()));
            packed.rows += 1;
            return Ok(());
        }
        // Every bit of the exponent is set: NaN or an infinity.
        let (mask, width) = match self {
            Self::F64 | Self::F32 => (0x7f80_0000, 4),
            Self::F16 => (0x7c00, 2),
            Self::Bf16 => (0x7f80, 2),
        };
        let infinite = bytes.chunks_exact(width).position(|b| {
            let mut bits = [0; 4];
            bits[..width].copy_from_slice(b);
            u32::from_le_bytes(bits) & mask == mask
        });
        if let Some(column) = infinite {
            let mut value = [0.0];
            self.widen(&bytes[column * width..], &mut value);
            return Err(RowFault::Weight { column, value: value[0] });
        }
        match self {
            Self::F64 | Self::F32 | Self::F16 => push_bytes(bytes, &mut packed.quants),
            Self::Bf16 => {
                let words = bytes.chunks_exact(2);
                packed.quants.extend(words.map(|b| u32::from_le_bytes([0, 0, b[0], b[1]])));
            }
        }
        packed.rows += 1;
        Ok(())
    }
}

/// Appends the f16 scales (and minima) of a whole row.
pub(crate) fn push_f16_scales(layout: WeightLayout, scales: &[(f16, f16)], words: &mut Vec<u32>) {
    let pair = |low: f16, high: f16| u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16;
    if matches!(layout, WeightLayout::Quant { minimum: true, .. }) {
        words.extend(scales.iter().map(|&(d, minimum)| pair(d, minimum)));
    } else {
        let pairs = scales.chunks(2);
        words.extend(pairs.map(|two| pair(two[0].0, two.get(1).map_or(f16::ZERO, |d| d.0))));
    }
}

/// Checks the words of one row that came unchanged from a file.
///
/// # Errors
/// [`RowFault`] for the first weight (f32, f16) or scale that is not finite.
pub(crate) fn check_finite(
    layout: WeightLayout,
    quants: &[u32],
    scales: &[u32],
) -> Result<(), RowFault> {
    let halves =
        |word: u32| [word as u16, (word >> 16) as u16].map(|bits| f16::from_bits(bits).to_f32());
    let WeightLayout::Quant { group, scale, minimum, .. } = layout else {
        let mut values: Box<dyn Iterator<Item = f32>> = match layout {
            WeightLayout::F16 => Box::new(quants.iter().flat_map(|&word| halves(word))),
            _ => Box::new(quants.iter().map(|&word| f32::from_bits(word))),
        };
        let found = values.by_ref().enumerate().find(|(_, v)| !v.is_finite());
        return match found {
            Some((column, value)) => Err(RowFault::Weight { column, value }),
            None => Ok(()),
        };
    };
    // Words of one block of scales and the columns under it.
    let group = group as usize;
    let (words, columns) = match (scale, minimum) {
        (ScaleForm::F16, true) | (ScaleForm::F32, false) => (1, group),
        (ScaleForm::F16, false) => (1, 2 * group),
        (ScaleForm::F32, true) => (2, group),
        (ScaleForm::TwoLevel, _) => (layout.scale_words(SUPER_GROUP), SUPER_GROUP),
    };
    for (block, words) in scales.chunks(words).enumerate() {
        let values = match scale {
            ScaleForm::F32 => [words[0], words.get(1).copied().unwrap_or(0)].map(f32::from_bits),
            // In a two-level block, only the first word holds floats.
            ScaleForm::F16 | ScaleForm::TwoLevel => halves(words[0]),
        };
        if let Some(value) = values.into_iter().find(|value| !value.is_finite()) {
            return Err(RowFault::Scale { column: block * columns, value });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_keep_their_bits_and_infinities_are_refused() {
        for (kind, one, infinity) in [
            (FloatType::F64, 1f64.to_le_bytes().to_vec(), f64::MIN.to_le_bytes().to_vec()),
            (FloatType::F32, vec![0, 0, 0x80, 0x3f], vec![0, 0, 0x80, 0xff]),
            (FloatType::F16, vec![0, 0x3c], vec![0, 0xfc]),
            (FloatType::Bf16, vec![0x80, 0x3f], vec![0x80, 0xff]),
        ] {
            let mut packed = PackedRows::new(kind.layout(), 4).unwrap();
            kind.pack_row(&one.repeat(4), &mut packed).unwrap();
            assert_eq!(packed.decode(), [1.0; 4]);
            let bad = [one.repeat(2), infinity, one].concat();
            let fault = kind.pack_row(&bad, &mut packed).unwrap_err();
            assert_eq!(fault, RowFault::Weight { column: 2, value: f32::NEG_INFINITY });
            assert_eq!(packed.rows, 1);
        }
    }
}
