//! The weight layouts that the GPU reads, as two arrays of `u32` for a slab of rows.
//!
//! A matrix is `[N, K]`: N rows (outputs) of K columns (inputs), row-major. Every row starts at
//! a word boundary in both arrays.
//!
//! | layout | `quants` of a row | order within a word |
//! | --- | --- | --- |
//! | `F32` | K words | the bits of one f32 |
//! | `F16` | K/2 words | low half first |
//! | 8 bits | K/4 words | byte i of word w is weight 4w+i, signed |
//! | 4 bits | K/8 words | bits 4i.. of word w are weight 8w+i, 0..=15 |
//!
//! `F32` and `F16` have no `scales`. Elsewhere `value = scale · q + minimum`, with
//!
//! | scales | words of a row |
//! | --- | --- |
//! | `F16`, minimum | one per group: f16 scale, f16 minimum in the high half |
//! | `F16` | two groups per word, low half first: ⌈groups/2⌉ |
//! | `F32` | f32 scale, then the f32 minimum if there is one: 1 or 2 per group |
//! | `TwoLevel` | for every 256 weights: f16 d, f16 dmin in the high half; then signed bytes: `sc, m` for every group with minimum, `sc` without. `scale = d·sc`, `minimum = dmin·m` (dmin has the opposite sign of GGUF's) |
//!
//! An f16 scale may be subnormal (Q8_0 of weights below 0.0078 already has such scales): decoders must
//! widen f16 by integer arithmetic, as a GPU may flush subnormals in its own conversion.

use std::fmt;

use half::f16;
use thiserror::Error;

/// How the scales of a quantized matrix are stored; the module's table has the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScaleForm {
    /// An f16 per group.
    F16,
    /// An f32 per group.
    F32,
    /// An f16 per 256 weights and a signed byte per group.
    TwoLevel,
}

/// How one row of weights is stored in words; see the module's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightLayout {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Small integers with scales.
    Quant {
        /// 4 or 8.
        bits: u8,
        /// Weights that share a scale: 16, 32, 64 or 128.
        group: u32,
        /// Storage of the scales.
        scale: ScaleForm,
        /// Whether groups have a minimum too.
        minimum: bool,
    },
}

/// Weights that share one f16 of [`ScaleForm::TwoLevel`].
pub const SUPER_GROUP: usize = 256;

/// Weights that may share a scale.
const GROUPS: [u32; 4] = [16, 32, 64, 128];

/// How the words of `quants` hold the weights of a row. The GPU reads them by the decoder of the
/// same name in `shaders/weights/`.
#[derive(Debug, Clone, Copy)]
pub struct Code {
    /// Name of the decoder, and the first part of a layout's name.
    pub name: &'static str,
    /// Bits per weight; 32 is a multiple of it.
    pub bits: u8,
    /// Whether groups of weights have a scale: integers do, floats do not.
    pub scaled: bool,
    /// Weight i of a row, before scaling, from the row's words.
    value: fn(&[u32], usize) -> f32,
}

/// Every code. A new one is a row here and `shaders/weights/NAME.wgsl`.
pub const CODES: &[Code] = &[
    Code { name: "f32", bits: 32, scaled: false, value: |words, i| f32::from_bits(words[i]) },
    Code { name: "f16", bits: 16, scaled: false, value: |words, i| half_of(words[i / 2], i % 2) },
    Code {
        name: "q8",
        bits: 8,
        scaled: true,
        value: |words, i| f32::from(field(words, i, 8) as i8),
    },
    Code { name: "q4", bits: 4, scaled: true, value: |words, i| field(words, i, 4) as f32 },
];

/// Field i of words that are divided into fields of `bits`, the lowest bits first.
fn field(words: &[u32], i: usize, bits: usize) -> u32 {
    let per_word = 32 / bits;
    (words[i / per_word] >> (bits * (i % per_word))) & (u32::MAX >> (32 - bits))
}

/// A layout that does not exist, or that a matrix does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// The columns cannot be divided into groups and words.
    #[error(
        "layout {layout} needs a number of columns that is a multiple of {multiple}, not {columns}"
    )]
    Columns {
        /// The wanted layout.
        layout: WeightLayout,
        /// What the columns must be a multiple of.
        multiple: u64,
        /// Columns of the matrix.
        columns: u64,
    },
    /// No shader reads such a layout.
    #[error("there is no layout {0}: choose {bits} bits, and groups of 16, 32, 64 or 128", bits = scaled_bits())]
    Unknown(WeightLayout),
    /// Not one of the names that [`WeightLayout`] prints.
    #[error("'{0}' is not the name of a weight layout (like f32, q8-g32-f16 or q4-g32-f16-min)")]
    Name(String),
}

impl WeightLayout {
    /// Hearth's own 8-bit layout: 32 weights share an f16 scale (8.5 bits per weight).
    pub const Q8: Self = Self::Quant { bits: 8, group: 32, scale: ScaleForm::F16, minimum: false };

    /// Hearth's own 4-bit layout: 32 weights share an f16 scale and minimum (5 bits per weight).
    pub const Q4: Self = Self::Quant { bits: 4, group: 32, scale: ScaleForm::F16, minimum: true };

    /// Every layout: the floats, and each scaled code with every group, scale form and minimum.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::F32, Self::F16];
        for code in CODES.iter().filter(|code| code.scaled) {
            for group in GROUPS {
                for scale in [ScaleForm::F16, ScaleForm::F32, ScaleForm::TwoLevel] {
                    for minimum in [false, true] {
                        all.push(Self::Quant { bits: code.bits, group, scale, minimum });
                    }
                }
            }
        }
        all
    }

    /// Bits per weight, without scales.
    fn bits(self) -> u8 {
        match self {
            Self::F32 => 32,
            Self::F16 => 16,
            Self::Quant { bits, .. } => bits,
        }
    }

    /// The row of [`CODES`] that the layout uses.
    ///
    /// # Panics
    /// For a layout that [`check`](Self::check) refuses.
    pub fn code_row(self) -> usize {
        CODES
            .iter()
            .position(|code| self.uses(code))
            .unwrap_or_else(|| panic!("{}", LayoutError::Unknown(self)))
    }

    fn uses(self, code: &Code) -> bool {
        code.bits == self.bits() && code.scaled == matches!(self, Self::Quant { .. })
    }

    /// Whether a matrix of `columns` fits the layout.
    ///
    /// # Errors
    /// [`LayoutError`] with the multiple that is required.
    pub fn check(self, columns: u64) -> Result<(), LayoutError> {
        let multiple = match self {
            Self::F32 | Self::F16 => 4,
            Self::Quant { group, scale, .. } => {
                if !CODES.iter().any(|code| self.uses(code)) || !GROUPS.contains(&group) {
                    return Err(LayoutError::Unknown(self));
                }
                match scale {
                    ScaleForm::TwoLevel => SUPER_GROUP as u64,
                    ScaleForm::F16 | ScaleForm::F32 => u64::from(group),
                }
            }
        };
        if columns > 0 && columns.is_multiple_of(multiple) {
            return Ok(());
        }
        Err(LayoutError::Columns { layout: self, multiple, columns })
    }

    /// Words of `quants` for one row.
    pub fn quant_words(self, columns: usize) -> usize {
        columns / (32 / usize::from(self.bits()))
    }

    /// Words of `scales` for one row.
    pub fn scale_words(self, columns: usize) -> usize {
        let Self::Quant { group, scale, minimum, .. } = self else {
            return 0;
        };
        let groups = columns / group as usize;
        match (scale, minimum) {
            (ScaleForm::F16, true) | (ScaleForm::F32, false) => groups,
            (ScaleForm::F16, false) => groups.div_ceil(2),
            (ScaleForm::F32, true) => groups * 2,
            (ScaleForm::TwoLevel, _) => {
                columns / SUPER_GROUP * self.super_words(group as usize, minimum)
            }
        }
    }

    /// Bytes of one row, both arrays together.
    pub fn row_bytes(self, columns: usize) -> usize {
        4 * (self.quant_words(columns) + self.scale_words(columns))
    }

    /// Words of one 256-weight block of two-level scales.
    fn super_words(self, group: usize, minimum: bool) -> usize {
        let bytes = SUPER_GROUP / group * if minimum { 2 } else { 1 };
        // Groups of 128 without minimum have only two bytes, but still take a word.
        1 + bytes.div_ceil(4)
    }
}

impl fmt::Display for WeightLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
            Self::F16 => f.write_str("f16"),
            Self::Quant { bits, group, scale, minimum } => {
                let scale = match scale {
                    ScaleForm::F16 => "f16",
                    ScaleForm::F32 => "f32",
                    ScaleForm::TwoLevel => "two",
                };
                let minimum = if *minimum { "-min" } else { "" };
                write!(f, "q{bits}-g{group}-{scale}{minimum}")
            }
        }
    }
}

impl std::str::FromStr for WeightLayout {
    type Err = LayoutError;

    /// Reads what `Display` writes.
    fn from_str(name: &str) -> Result<Self, LayoutError> {
        Self::all()
            .into_iter()
            .find(|layout| layout.to_string() == name)
            .ok_or_else(|| LayoutError::Name(name.to_owned()))
    }
}

/// Rows of a matrix in a layout: what is uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedRows {
    /// How to read the words.
    pub layout: WeightLayout,
    /// K.
    pub columns: usize,
    /// Rows held.
    pub rows: usize,
    /// `[rows, layout.quant_words(columns)]`
    pub quants: Vec<u32>,
    /// `[rows, layout.scale_words(columns)]`
    pub scales: Vec<u32>,
}

impl PackedRows {
    /// No rows yet.
    ///
    /// # Errors
    /// [`LayoutError`] if the columns do not fit the layout.
    pub fn new(layout: WeightLayout, columns: usize) -> Result<Self, LayoutError> {
        layout.check(columns as u64)?;
        Ok(Self { layout, columns, rows: 0, quants: Vec::new(), scales: Vec::new() })
    }

    /// Row `row` in f32; `out` is `[columns]`. The straightforward decoder of the layout, for tests and for the few
    /// rows that the host needs.
    ///
    /// # Panics
    /// If the row does not exist or `out` has another length.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        let quants = self.layout.quant_words(self.columns);
        let scales = self.layout.scale_words(self.columns);
        decode_row(
            self.layout,
            &self.quants[row * quants..(row + 1) * quants],
            &self.scales[row * scales..(row + 1) * scales],
            out,
        );
    }

    /// All rows in f32, `[rows, columns]`.
    pub fn decode(&self) -> Vec<f32> {
        let mut all = vec![0.0; self.rows * self.columns];
        for (row, out) in all.chunks_exact_mut(self.columns).enumerate() {
            self.decode_row(row, out);
        }
        all
    }
}

/// One row in f32: `out` is `[columns]`, `quants` and `scales` hold the row's words.
///
/// # Panics
/// If the arrays are shorter than the layout says, or [`check`](WeightLayout::check) refuses it.
pub fn decode_row(layout: WeightLayout, quants: &[u32], scales: &[u32], out: &mut [f32]) {
    let value = CODES[layout.code_row()].value;
    let WeightLayout::Quant { group, .. } = layout else {
        for (i, out) in out.iter_mut().enumerate() {
            *out = value(quants, i);
        }
        return;
    };
    let group = group as usize;
    for (g, values) in out.chunks_exact_mut(group).enumerate() {
        let (scale, minimum) = group_scale(layout, scales, g);
        for (i, out) in values.iter_mut().enumerate() {
            *out = scale * value(quants, g * group + i) + minimum;
        }
    }
}

/// The bits of the scaled codes, as text for errors.
fn scaled_bits() -> String {
    let bits: Vec<_> =
        CODES.iter().filter(|code| code.scaled).map(|c| c.bits.to_string()).collect();
    bits.join(" or ")
}

/// Scale and minimum of group `g` of a row.
fn group_scale(layout: WeightLayout, scales: &[u32], g: usize) -> (f32, f32) {
    let WeightLayout::Quant { group, scale, minimum, .. } = layout else {
        return (1.0, 0.0);
    };
    match (scale, minimum) {
        (ScaleForm::F16, true) => (half_of(scales[g], 0), half_of(scales[g], 1)),
        (ScaleForm::F16, false) => (half_of(scales[g / 2], g % 2), 0.0),
        (ScaleForm::F32, true) => {
            (f32::from_bits(scales[2 * g]), f32::from_bits(scales[2 * g + 1]))
        }
        (ScaleForm::F32, false) => (f32::from_bits(scales[g]), 0.0),
        (ScaleForm::TwoLevel, _) => {
            let group = group as usize;
            let per_block = SUPER_GROUP / group;
            let words = layout.super_words(group, minimum);
            let block = &scales[g / per_block * words..][..words];
            let byte = |i: usize| f32::from((block[1 + i / 4] >> (8 * (i % 4))) as u8 as i8);
            let (d, dmin) = (half_of(block[0], 0), half_of(block[0], 1));
            let i = g % per_block;
            if minimum { (d * byte(2 * i), dmin * byte(2 * i + 1)) } else { (d * byte(i), 0.0) }
        }
    }
}

/// The low (0) or high (1) half of a word as f16.
fn half_of(word: u32, half: usize) -> f32 {
    f16::from_bits((word >> (16 * half)) as u16).to_f32()
}

/// Appends codes (one per byte) as words: the low `bits` of each, the first code in the lowest bits.
/// Codes that do not fill a word are left out; rows always fill whole words.
pub fn push_codes(bits: u8, codes: &[u8], quants: &mut Vec<u32>) {
    let mask = u32::MAX >> (32 - u32::from(bits));
    quants.extend(codes.chunks_exact(32 / usize::from(bits)).map(|codes| {
        let shifted = codes.iter().zip((0..).step_by(bits.into()));
        shifted.fold(0, |word, (&code, shift)| word | (u32::from(code) & mask) << shift)
    }));
}

/// Appends the bytes as words, the last one padded with zeros.
pub(crate) fn push_bytes(bytes: &[u8], words: &mut Vec<u32>) {
    for chunk in bytes.chunks(4) {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        words.push(u32::from_le_bytes(word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_level(bits: u8, group: u32, minimum: bool) -> WeightLayout {
        WeightLayout::Quant { bits, group, scale: ScaleForm::TwoLevel, minimum }
    }

    #[test]
    fn words_per_row_are_those_of_the_table() {
        let k = 512;
        for (layout, quants, scales) in [
            (WeightLayout::F32, 512, 0),
            (WeightLayout::F16, 256, 0),
            (WeightLayout::Q8, 128, 8),
            (WeightLayout::Q4, 64, 16),
            (two_level(4, 32, true), 64, 2 * 5),
            (two_level(8, 32, false), 128, 2 * 3),
            (two_level(8, 16, true), 128, 2 * 9),
            (two_level(8, 16, false), 128, 2 * 5),
        ] {
            assert_eq!(layout.quant_words(k), quants, "{layout}");
            assert_eq!(layout.scale_words(k), scales, "{layout}");
        }
        // An odd number of groups still ends at a word boundary.
        assert_eq!(WeightLayout::Q8.scale_words(96), 2);
    }

    #[test]
    fn names_are_read_back_and_columns_checked() {
        for layout in [WeightLayout::F32, WeightLayout::Q4, two_level(8, 16, false)] {
            assert_eq!(layout.to_string().parse(), Ok(layout));
        }
        assert_eq!(WeightLayout::Q4.to_string(), "q4-g32-f16-min");
        assert!("q5".parse::<WeightLayout>().is_err());
        assert!(WeightLayout::Q4.check(48).is_err());
        assert!(two_level(4, 32, true).check(640 + 128).is_ok());
        assert!(two_level(4, 32, true).check(640).is_err());
    }

    #[test]
    fn a_row_written_by_hand_decodes() {
        // Two groups of 16 in 4 bits: codes 0..16, then all 15.
        let mut quants = Vec::new();
        let codes: Vec<u8> = (0..16).chain([15; 16]).collect();
        push_codes(4, &codes, &mut quants);
        assert_eq!(quants, [0x7654_3210, 0xfedc_ba98, !0, !0]);
        let word = |scale: f32, minimum: f32| {
            u32::from(f16::from_f32(scale).to_bits())
                | u32::from(f16::from_f32(minimum).to_bits()) << 16
        };
        let layout =
            WeightLayout::Quant { bits: 4, group: 16, scale: ScaleForm::F16, minimum: true };
        let mut out = [0.0; 32];
        decode_row(layout, &quants, &[word(0.5, -1.0), word(2.0, 3.0)], &mut out);
        assert_eq!(out[0], -1.0);
        assert_eq!(out[15], 6.5);
        assert_eq!(out[16..], [33.0; 16]);

        // The second 256 block of a two-level row uses its own five words.
        let layout = two_level(8, 32, true);
        let block = |d: f32, dmin: f32, sc: u8, m: u8| {
            let pair = u32::from_le_bytes([sc, m, sc, m]);
            [word(d, dmin), pair, pair, pair, pair]
        };
        let scales = [block(1.0, -0.5, 2, 4), block(0.25, 1.0, 0xff, 3)].concat();
        let mut quants = Vec::new();
        push_codes(8, &[7; 256], &mut quants);
        push_codes(8, &[0xfe; 256], &mut quants);
        let mut out = [0.0; 512];
        decode_row(layout, &quants, &scales, &mut out);
        assert_eq!(out[..256], [12.0; 256]);
        assert_eq!(out[256..], [3.5; 256]);
    }
}
