use std::borrow::Cow;

use super::*;
use crate::source::MemorySource;
use hearth_testing::gguf::{GgufFile, array, string};
use pollster::block_on;
use proptest::prelude::*;

fn read(bytes: Vec<u8>) -> Result<Header, HeaderError> {
    block_on(Header::read(&MemorySource::new("m.gguf", bytes)))
}

/// A file with every kind of value and two tensors.
fn everything() -> GgufFile {
    GgufFile::default()
        .value("u8", 0, [200])
        .value("i8", 1, (-3i8).to_le_bytes())
        .value("u16", 2, 60_000u16.to_le_bytes())
        .value("i16", 3, (-300i16).to_le_bytes())
        .value("u32", 4, 4_000_000_000u32.to_le_bytes())
        .value("i32", 5, (-70_000i32).to_le_bytes())
        .value("f32", 6, 1.5f32.to_le_bytes())
        .value("bool", 7, [1])
        .value("text", 8, string("größer"))
        .value("u64", 10, u64::MAX.to_le_bytes())
        .value("i64", 11, i64::MIN.to_le_bytes())
        .value("f64", 12, 0.1f64.to_le_bytes())
        .value("u8s", 9, array(0, 2, &[1, 255]))
        .value("i16s", 9, array(3, 1, &(-2i16).to_le_bytes()))
        .value("f32s", 9, array(6, 1, &0.5f32.to_le_bytes()))
        .value("bools", 9, array(7, 2, &[0, 1]))
        .value("u64s", 9, array(10, 1, &7u64.to_le_bytes()))
        .value("i64s", 9, array(11, 1, &(-7i64).to_le_bytes()))
        .value("f64s", 9, array(12, 1, &0.25f64.to_le_bytes()))
        .value("texts", 9, array(8, 3, &[string("a"), string(""), string("▁b")].concat()))
        .tensor_at("w", &[3, 64], 8, 0)
        .tensor_at("norm", &[5], 0, 224)
        .data(224 + 20)
}

#[test]
fn every_kind_of_value_is_read() {
    let header = read(everything().bytes()).unwrap();
    assert_eq!(header.version(), 3);
    assert_eq!(header.metadata().len(), 20);
    assert_eq!(header.get::<u32>("u8"), Ok(Some(200)));
    assert_eq!(header.metadata()["i8"], Value::Signed(-3));
    assert_eq!(header.get::<u32>("u16"), Ok(Some(60_000)));
    assert_eq!(header.metadata()["i16"], Value::Signed(-300));
    assert_eq!(header.require::<u32>("u32"), Ok(4_000_000_000));
    assert_eq!(header.metadata()["i32"], Value::Signed(-70_000));
    assert_eq!(header.require::<f32>("f32"), Ok(1.5));
    assert_eq!(header.require::<bool>("bool"), Ok(true));
    assert_eq!(header.require::<&str>("text"), Ok("größer"));
    assert_eq!(header.require::<u64>("u64"), Ok(u64::MAX));
    assert_eq!(header.metadata()["i64"], Value::Signed(i64::MIN));
    assert_eq!(header.require::<f32>("f64"), Ok(0.1));
    assert_eq!(header.require::<Vec<i64>>("u8s"), Ok(vec![1, 255]));
    assert_eq!(header.require::<Vec<i64>>("i16s"), Ok(vec![-2]));
    assert_eq!(header.require::<Cow<[f32]>>("f32s"), Ok(Cow::Borrowed(&[0.5][..])));
    assert_eq!(header.require::<Vec<i64>>("bools"), Ok(vec![0, 1]));
    for key in ["u8", "i8", "u16"] {
        assert!(header.require::<f32>(key).is_ok(), "{key}");
    }
    assert_eq!(header.require::<Vec<i64>>("u64s"), Ok(vec![7]));
    assert_eq!(header.require::<Vec<i64>>("i64s"), Ok(vec![-7]));
    assert_eq!(*header.require::<Cow<[f32]>>("f64s").unwrap(), [0.25]);
    assert_eq!(*header.require::<Cow<[f32]>>("u8s").unwrap(), [1.0, 255.0]);
    assert_eq!(header.metadata()["u64s"], Value::U64s(vec![7]));
    assert_eq!(header.metadata()["i64s"], Value::I64s(vec![-7]));
    assert_eq!(header.metadata()["f64s"], Value::F64s(vec![0.25]));
    let texts: &Strings = header.require("texts").unwrap();
    assert_eq!(texts.iter().collect::<Vec<_>>(), ["a", "", "▁b"]);
    assert_eq!(texts.get(3), None);
}

#[test]
fn tensors_have_rows_first_and_offsets_in_the_file() {
    let header = read(everything().bytes()).unwrap();
    let start = header.data_start();
    assert_eq!(start % 32, 0);
    let w = header.tensor("w").unwrap();
    assert_eq!((&w.shape[..], w.kind), (&[3, 64][..], TensorType::Q8_0));
    assert_eq!((w.offset, w.bytes), (start, 3 * 2 * 34));
    assert_eq!(header.tensor("norm").unwrap().offset, start + 224);
    assert_eq!(header.tensors().len(), 2);
    let error = header.tensor("v").unwrap_err().to_string();
    assert_eq!(
        error,
        "m.gguf: tensor 'v' is missing; the file is not a complete model, fetch it again"
    );
}

#[test]
fn values_of_another_type_and_missing_ones_are_named() {
    let header = read(everything().bytes()).unwrap();
    assert_eq!(header.get::<u32>("nothing"), Ok(None));
    for (error, text) in [
        (header.require::<&str>("nothing").err(), "key 'nothing' is missing; expected a string"),
        (header.require::<&str>("u8").err(), "key 'u8': expected a string, found the integer 200"),
        (
            header.require::<u32>("i8").map(|_| "").err(),
            "expected an integer from 0 to 2^32 - 1, found the integer -3",
        ),
        (header.require::<u32>("u64").map(|_| "").err(), "found the integer 18446744073709551615"),
        (header.require::<bool>("texts").map(|_| "").err(), "found an array of 3 strings"),
    ] {
        let error = error.unwrap().to_string();
        assert!(error.starts_with("m.gguf: ") && error.contains(text), "{error}");
    }
}

/// A change to a valid file, and what the error has to say.
#[test]
fn bad_headers_are_refused_in_words() {
    let huge = (1u64 << 60).to_le_bytes();
    let q4_0 = |name: &str, offset| GgufFile::default().tensor_at(name, &[32], 2, offset).data(64);
    let mut magic = everything().bytes();
    magic[3] = b'X';
    let version = |bytes: [u8; 4]| {
        let mut file = everything().bytes();
        file[4..8].copy_from_slice(&bytes);
        file
    };
    let count = |at: usize| {
        let mut file = everything().bytes();
        file[at..at + 8].copy_from_slice(&huge);
        file
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (magic, "not a GGUF file: expected the first bytes 'GGUF', found 'GGUX'"),
        (version([1, 0, 0, 0]), "GGUF version 1, expected 2 or 3"),
        (version([0, 0, 0, 3]), "for big-endian machines"),
        (count(8), "1152921504606846976 tensors: expected"),
        (count(16), "1152921504606846976 metadata values: expected"),
        (
            GgufFile::default().value("k", 8, huge).bytes(),
            "key 'k': expected 1152921504606846976 more bytes",
        ),
        (
            GgufFile::default().value("k", 9, [&8u32.to_le_bytes()[..], &huge].concat()).bytes(),
            "key 'k': expected",
        ),
        (
            GgufFile::default().value("k", 9, [&6u32.to_le_bytes()[..], &huge].concat()).bytes(),
            "key 'k': expected",
        ),
        (GgufFile::default().value("k", 9, array(8, 1, &huge)).bytes(), "key 'k': expected"),
        (
            GgufFile::default().value("k", 8, [&2u64.to_le_bytes()[..], b"a\xff"].concat()).bytes(),
            "key 'k': expected text in UTF-8, found the bytes '\\xff' at offset 46",
        ),
        (
            GgufFile::default()
                .value("k", 9, array(8, 1, &[&1u64.to_le_bytes()[..], b"\xfe"].concat()))
                .bytes(),
            "key 'k', string 0: expected text in UTF-8, found the bytes '\\xfe'",
        ),
        (
            GgufFile::default().value("k", 13, [0]).bytes(),
            "key 'k': expected a value type from 0 to 12, found 13",
        ),
        (GgufFile::default().value("k", 9, array(13, 0, &[])).bytes(), "found 13"),
        (
            GgufFile::default().value("k", 9, array(9, 1, &array(0, 0, &[]))).bytes(),
            "key 'k': expected an array of plain values",
        ),
        (
            GgufFile::default().value("k", 7, [2]).bytes(),
            "key 'k': expected a bool as 0 or 1, found 2",
        ),
        (
            GgufFile::default().value("k", 0, [1]).repeated("k", 0, [1]).bytes(),
            "key 'k' is there twice",
        ),
        (
            GgufFile::default().value("general.alignment", 4, 12u32.to_le_bytes()).bytes(),
            "expected a power of two from 8 to 65536, found 12",
        ),
        (GgufFile::default().value("general.alignment", 4, 0u32.to_le_bytes()).bytes(), "found 0"),
        (
            GgufFile::default().value("general.alignment", 8, string("32")).bytes(),
            "found the string '32'",
        ),
        (
            GgufFile::default().tensor_at("t", &[], 0, 0).data(32).bytes(),
            "tensor 't': expected 1 to 4 dimensions of 1 or more, found 0 dimensions",
        ),
        (GgufFile::default().tensor_at("t", &[1; 5], 0, 0).data(32).bytes(), "found 5 dimensions"),
        (GgufFile::default().tensor_at("t", &[0, 4], 0, 0).data(32).bytes(), "found [0, 4]"),
        (
            GgufFile::default().tensor_at("t", &[1 << 32, 1 << 32], 0, 0).data(32).bytes(),
            "tensor 't': expected 1 to 4",
        ),
        (
            GgufFile::default().tensor_at("t", &[1, 1 << 62], 0, 0).data(32).bytes(),
            "tensor 't': expected 1 to 4",
        ),
        (
            GgufFile::default().tensor_at("t", &[32], 4, 0).data(32).bytes(),
            "tensor 't': unknown number format 4",
        ),
        (
            GgufFile::default().tensor_at("t", &[33], 2, 0).data(32).bytes(),
            "Q4_0 packs 32 weights a block, which does not divide the row length 33",
        ),
        (q4_0("t", 8).bytes(), "tensor 't': expected an offset that is a multiple of 32, found 8"),
        (
            q4_0("t", 64).bytes(),
            "tensor 't': expected 18 bytes at offset 128, but the file has 128",
        ),
        (q4_0("t", u64::MAX - 31).bytes(), "tensor 't': expected 18 bytes"),
        (q4_0("t", 0).tensor_at("t", &[32], 2, 32).bytes(), "tensor 't' is there twice"),
        (
            GgufFile::default()
                .tensor_at("a", &[64], 2, 0)
                .tensor_at("b", &[32], 2, 32)
                .data(64)
                .bytes(),
            "tensors 'a' and 'b' overlap",
        ),
    ];
    for (bytes, text) in cases {
        let error = read(bytes).unwrap_err().to_string();
        assert!(
            error.starts_with("m.gguf: ") && error.contains(text),
            "wanted '{text}', got '{error}'"
        );
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let bytes = everything().bytes();
    for length in 0..bytes.len() {
        let error = read(bytes[..length].to_vec()).unwrap_err();
        assert!(
            matches!(error, HeaderError::Truncated { .. } | HeaderError::TensorRange { .. }),
            "cut at {length}: {error}"
        );
    }
    assert!(read(bytes).is_ok());
}

#[test]
fn a_header_longer_than_the_buffer_is_read_piece_by_piece() {
    let tokens: Vec<String> = (0..200_000).map(|i| format!("token{i}")).collect();
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| string(token)).collect();
    let long = "x".repeat(3_000_000);
    let header = GgufFile::default()
        .value("tokens", 9, array(8, tokens.len(), &bytes))
        .value("long", 8, string(&long))
        .value("bytes", 9, array(0, 3_000_000, &vec![7; 3_000_000]))
        .value("last", 0, [9]);
    let header = read(header.bytes()).unwrap();
    let read: &Strings = header.require("tokens").unwrap();
    assert!(read.iter().eq(tokens.iter().map(String::as_str)));
    assert_eq!(header.require::<&str>("long").unwrap(), long);
    assert_eq!(header.require::<Vec<i64>>("bytes").unwrap(), vec![7; 3_000_000]);
    assert_eq!(header.require::<u32>("last"), Ok(9));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Reading either succeeds with everything in range, or is an error; it never panics, and
    /// a broken length never makes it allocate (the test would be killed).
    #[test]
    fn corrupted_headers_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = everything().bytes();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let length = bytes.len() as u64;
        match read(bytes) {
            Ok(header) => for tensor in header.tensors() {
                prop_assert!(tensor.offset + tensor.bytes <= length);
            },
            Err(error) => prop_assert!(error.to_string().starts_with("m.gguf: ")),
        }
    }
}

/// The real file, if the model is in the user's cache.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn gemma_3_270m_is_read() {
    let Some(path) = hearth_testing::real_model() else { return };
    let header = block_on(Header::read(&crate::source::FileSource::open(&path).unwrap())).unwrap();
    assert_eq!(header.require::<&str>("general.architecture"), Ok("gemma3"));
    assert_eq!(header.tensors().len(), 236);
    assert_eq!(header.data_start(), 6_525_120);
    let embedding = header.tensor("token_embd.weight").unwrap();
    assert_eq!(embedding.shape, [262_144, 640]);
    assert_eq!((embedding.offset, embedding.bytes), (6_527_680, 178_257_920));
    let tokens: &Strings = header.require("tokenizer.ggml.tokens").unwrap();
    assert_eq!((tokens.len(), tokens.get(2)), (262_144, Some("<bos>")));
}
