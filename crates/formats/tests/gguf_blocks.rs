//! Every GGUF block type against the values of the public `gguf` package
//! (`tools/fixtures/gguf_blocks.py`), bit for bit.

// Clippy recognizes only the marked test functions, not what they call.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use hearth_formats::gguf::blocks::{layout_of, pack_row};
use hearth_formats::gguf::header::TensorType;
use hearth_formats::layout::PackedRows;
use hearth_formats::row::RowFault;
use safetensors::SafeTensors;

const KINDS: [TensorType; 13] = [
    TensorType::F32,
    TensorType::F16,
    TensorType::Bf16,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::Q4_K,
    TensorType::Q5_K,
    TensorType::Q6_K,
    TensorType::Iq4Nl,
    TensorType::Iq4Xs,
];

#[test]
fn repacked_blocks_equal_the_public_package() {
    let file = include_bytes!("fixtures/gguf_blocks.safetensors");
    let tensors = SafeTensors::deserialize(file).unwrap();
    for kind in KINDS {
        let bytes = tensors.tensor(&format!("{kind}.bytes")).unwrap();
        let values = tensors.tensor(&format!("{kind}.values")).unwrap();
        let columns = values.shape()[1];
        let layout = layout_of(kind).unwrap();
        let mut packed = PackedRows::new(layout, columns).unwrap();
        for row in bytes.data().chunks_exact(bytes.shape()[1]) {
            pack_row(kind, row, &mut packed).unwrap();
        }
        assert_eq!(packed.rows, values.shape()[0]);
        assert_eq!(packed.quants.len(), packed.rows * layout.quant_words(columns));
        assert_eq!(packed.scales.len(), packed.rows * layout.scale_words(columns));
        let expected: Vec<f32> = values
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        // f32 comparison: -0 and 0 are the same weight.
        let found = packed.decode();
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(found == expected, "{kind} weight {i}: {found}, expected {expected}");
        }
    }
}

#[test]
fn types_that_hearth_does_not_read_have_no_layout() {
    assert_eq!(layout_of(TensorType::Q2_K), None);
    assert_eq!(layout_of(TensorType::I32), None);
}

#[test]
fn scales_that_are_no_numbers_name_their_column() {
    let nan = [0x00, 0x7e];
    for (kind, block, at, column) in [
        (TensorType::Q4_0, 18, 0, 32),
        (TensorType::Q5_1, 24, 2, 32),
        (TensorType::Q8_0, 34, 0, 32),
        (TensorType::Q4_K, 144, 2, 256),
        (TensorType::Q6_K, 210, 208, 256),
        (TensorType::Iq4Nl, 18, 0, 32),
        (TensorType::Iq4Xs, 136, 0, 256),
    ] {
        let mut packed = PackedRows::new(layout_of(kind).unwrap(), 2 * column).unwrap();
        let mut bytes = vec![0; 2 * block];
        bytes[block + at..block + at + 2].copy_from_slice(&nan);
        let fault = pack_row(kind, &bytes, &mut packed).unwrap_err();
        assert!(
            matches!(fault, RowFault::Scale { column: found, .. } if found == column),
            "{kind}: {fault}"
        );
        // One byte short is a fault too, never a panic.
        assert!(pack_row(kind, &bytes[1..], &mut packed).is_err());
    }
}

#[test]
fn a_q4_0_scale_whose_minimum_passes_f16_is_refused() {
    let kind = TensorType::Q4_0;
    let mut packed = PackedRows::new(layout_of(kind).unwrap(), 32).unwrap();
    let mut block = [0; 18];
    block[..2].copy_from_slice(&half::f16::from_f32(8200.0).to_le_bytes());
    let fault = pack_row(kind, &block, &mut packed).unwrap_err();
    assert!(matches!(fault, RowFault::ScaleTooLarge { column: 0, .. }));
}
