//! How GGUF stores the numbers of a tensor.

/// The number format of a GGUF tensor, with ggml's own names
/// (`enum ggml_type` in ggml.h, `GGML_QUANT_SIZES` of the `gguf` package).
///
/// Every type that ggml still defines is known here, so that a header can be listed and its
/// ranges checked; which of them Hearth can convert into weights is up to the converter.
#[allow(missing_docs, non_camel_case_types)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorType {
    F32,
    F16,
    Bf16,
    F64,
    I8,
    I16,
    I32,
    I64,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_K,
    Iq1S,
    Iq1M,
    Iq2Xxs,
    Iq2Xs,
    Iq2S,
    Iq3Xxs,
    Iq3S,
    Iq4Nl,
    Iq4Xs,
    Tq1_0,
    Tq2_0,
    Mxfp4,
}

/// Type, its number in a file, its name, weights per block, bytes per block.
const TABLE: [(TensorType, u32, &str, u64, u64); 32] = [
    (TensorType::F32, 0, "F32", 1, 4),
    (TensorType::F16, 1, "F16", 1, 2),
    (TensorType::Q4_0, 2, "Q4_0", 32, 18),
    (TensorType::Q4_1, 3, "Q4_1", 32, 20),
    (TensorType::Q5_0, 6, "Q5_0", 32, 22),
    (TensorType::Q5_1, 7, "Q5_1", 32, 24),
    (TensorType::Q8_0, 8, "Q8_0", 32, 34),
    (TensorType::Q8_1, 9, "Q8_1", 32, 36),
    (TensorType::Q2_K, 10, "Q2_K", 256, 84),
    (TensorType::Q3_K, 11, "Q3_K", 256, 110),
    (TensorType::Q4_K, 12, "Q4_K", 256, 144),
    (TensorType::Q5_K, 13, "Q5_K", 256, 176),
    (TensorType::Q6_K, 14, "Q6_K", 256, 210),
    (TensorType::Q8_K, 15, "Q8_K", 256, 292),
    (TensorType::Iq2Xxs, 16, "IQ2_XXS", 256, 66),
    (TensorType::Iq2Xs, 17, "IQ2_XS", 256, 74),
    (TensorType::Iq3Xxs, 18, "IQ3_XXS", 256, 98),
    (TensorType::Iq1S, 19, "IQ1_S", 256, 50),
    (TensorType::Iq4Nl, 20, "IQ4_NL", 32, 18),
    (TensorType::Iq3S, 21, "IQ3_S", 256, 110),
    (TensorType::Iq2S, 22, "IQ2_S", 256, 82),
    (TensorType::Iq4Xs, 23, "IQ4_XS", 256, 136),
    (TensorType::I8, 24, "I8", 1, 1),
    (TensorType::I16, 25, "I16", 1, 2),
    (TensorType::I32, 26, "I32", 1, 4),
    (TensorType::I64, 27, "I64", 1, 8),
    (TensorType::F64, 28, "F64", 1, 8),
    (TensorType::Iq1M, 29, "IQ1_M", 256, 56),
    (TensorType::Bf16, 30, "BF16", 1, 2),
    (TensorType::Tq1_0, 34, "TQ1_0", 256, 54),
    (TensorType::Tq2_0, 35, "TQ2_0", 256, 66),
    (TensorType::Mxfp4, 39, "MXFP4", 32, 17),
];

impl TensorType {
    /// The type with this number in a file, or `None` if ggml has no such type.
    pub fn from_id(id: u32) -> Option<Self> {
        let row = TABLE.iter().find(|row| row.1 == id)?;
        Some(row.0)
    }

    /// The number of this type in a file.
    pub fn id(self) -> u32 {
        self.row().1
    }

    /// ggml's name: `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Weights per block. Blocks run along a tensor's fastest dimension.
    pub fn block_weights(self) -> u64 {
        self.row().3
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> u64 {
        self.row().4
    }

    fn row(self) -> &'static (Self, u32, &'static str, u64, u64) {
        // The first row is returned for a type that TABLE lacks; a test shows that it lacks none.
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_finds_its_own_row() {
        // MXFP4 is the enum's last variant: as many rows as variants, without duplicates, means
        // none is missing.
        assert_eq!(TABLE.len(), TensorType::Mxfp4 as usize + 1);
        for (kind, id, name, ..) in TABLE {
            assert_eq!(TensorType::from_id(id), Some(kind));
            assert_eq!((kind.id(), kind.name()), (id, name));
        }
        assert_eq!(TensorType::from_id(4), None);
        assert_eq!(TensorType::from_id(u32::MAX), None);
    }
}
