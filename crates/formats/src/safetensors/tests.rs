use pollster::block_on;
use safetensors::tensor::{TensorView, serialize};

use super::*;
use crate::source::MemorySource;

fn file(json: &str, data: usize) -> MemorySource {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    MemorySource::new("m.safetensors", bytes)
}

fn error(json: &str, data: usize) -> String {
    block_on(Header::read(&file(json, data))).unwrap_err().to_string()
}

#[test]
fn files_of_the_public_crate_are_read() {
    let floats = [1u8; 24];
    let codes = [2u8; 6];
    let bytes = serialize(
        [
            ("a", TensorView::new(safetensors::Dtype::F32, vec![2, 3], &floats).unwrap()),
            ("b", TensorView::new(safetensors::Dtype::U8, vec![6], &codes).unwrap()),
            ("empty", TensorView::new(safetensors::Dtype::BF16, vec![0, 4], &[]).unwrap()),
        ],
        Some([("format".to_owned(), "pt".to_owned())].into()),
    )
    .unwrap();
    let source = MemorySource::new("m", bytes.clone());
    let header = block_on(Header::read(&source)).unwrap();
    assert_eq!(header.metadata()["format"], "pt");
    assert_eq!(header.tensors().len(), 3);
    for (name, dtype, shape, data) in [
        ("a", Dtype::F32, vec![2, 3], &floats[..]),
        ("b", Dtype::U8, vec![6], &codes),
        ("empty", Dtype::BF16, vec![0, 4], &[]),
    ] {
        let info = header.tensor(name).unwrap();
        assert_eq!((info.dtype, &info.shape), (dtype, &shape));
        let start = info.offset as usize;
        assert_eq!(&bytes[start..start + info.bytes as usize], data);
    }
    assert!(header.tensor("c").unwrap_err().to_string().contains("'c'"));
}

#[test]
fn the_public_crate_reads_planned_files() {
    let metadata = [("note".to_owned(), "α".to_owned())].into();
    let tensors =
        [("odd".to_owned(), Dtype::BF16, vec![3]), ("words".to_owned(), Dtype::U32, vec![2, 2])];
    let plan = plan_file("out", &metadata, tensors).unwrap();
    let mut bytes = plan.bytes.clone();
    for tensor in &plan.tensors {
        assert_eq!(bytes.len() as u64, tensor.offset);
        bytes.resize(bytes.len() + tensor.bytes as usize, tensor.bytes as u8);
    }
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.tensor("odd").unwrap().data(), [6; 6]);
    assert_eq!(read.tensor("words").unwrap().data(), [16; 16]);
    let header = block_on(Header::read(&MemorySource::new("m", bytes))).unwrap();
    assert_eq!(header.metadata(), &metadata);
    assert_eq!(header.tensors(), plan.tensors);

    let twice = [("x".to_owned(), Dtype::F32, vec![1]), ("x".to_owned(), Dtype::F32, vec![1])];
    assert!(plan_file("out", &metadata, twice).is_err());
    let huge = [("x".to_owned(), Dtype::F32, vec![1 << 40, 1 << 40])];
    assert!(plan_file("out", &metadata, huge).is_err());
}

#[test]
fn offsets_beyond_4_gib_stay_whole() {
    struct Large(MemorySource);
    impl ByteSource for Large {
        fn len(&self) -> u64 {
            5 << 30
        }
        fn name(&self) -> &str {
            "large"
        }
        fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> crate::source::ReadFuture<'a> {
            self.0.read_at(offset, buf)
        }
    }
    // The header is padded to 256 bytes, so that the data is the rest of 5 GiB.
    let first = (5u64 << 30) - 8 - 256 - 4;
    let mut json = format!(
        r#"{{"a":{{"dtype":"U8","shape":[{first}],"data_offsets":[0,{first}]}},"b":{{"dtype":"F32","shape":[1],"data_offsets":[{first},{}]}}}}"#,
        first + 4
    );
    json.extend(std::iter::repeat_n(' ', 256 - json.len()));
    let header = block_on(Header::read(&Large(file(&json, 0)))).unwrap();
    assert_eq!(header.tensor("b").unwrap().offset, (5 << 30) - 4);
}

#[test]
fn wrong_headers_are_refused_in_words() {
    let f32s = |name: &str, shape: &str, begin: u64, end: u64| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    };
    let one = |entry: String| format!("{{{entry}}}");
    let two = |a: String, b: String| format!("{{{a},{b}}}");
    for (json, data, words) in [
        (one(f32s("a", "[2]", 0, 8)), 4, "ends at byte 8 of the data, but only 4"),
        (one(f32s("a", "[2]", 0, 8)), 12, "bytes 8 to 12 of the data belong to no tensor"),
        (one(f32s("a", "[3]", 0, 8)), 8, "takes 12 bytes, but its data is from 0 to 8"),
        (one(f32s("a", "[2]", 8, 0)), 8, "from 8 to 0"),
        (one(f32s("a", "[4294967296, 4294967296]", 0, 8)), 8, "larger than any file"),
        (one(f32s("a", "[4611686018427387904]", 0, 0)), 0, "larger than any file"),
        (
            one(f32s("a", "[1152921504606846976]", 0, 1 << 62)),
            8,
            "ends at byte 4611686018427387904",
        ),
        (one(f32s("a", "[1]", 2, 6)), 8, "offset 2 is not a multiple"),
        (two(f32s("a", "[2]", 0, 8), f32s("b", "[1]", 4, 8)), 8, "'a' and 'b' overlap at byte 4"),
        (two(f32s("a", "[1]", 0, 4), f32s("b", "[1]", 8, 12)), 12, "bytes 4 to 8"),
        (two(f32s("a", "[1]", 0, 4), f32s("a", "[1]", 4, 8)), 8, "'a' is there twice"),
        (one(f32s("a", "[-1]", 0, 4)), 4, "damaged"),
        (one(f32s("a", "[1.5]", 0, 4)), 4, "damaged"),
        (
            r#"{"a":{"dtype":"F3","shape":[1],"data_offsets":[0,4]}}"#.to_owned(),
            4,
            "unknown number type 'F3'",
        ),
        ("[1]".to_owned(), 0, "damaged"),
        ("{".to_owned(), 0, "damaged"),
        ("[".repeat(100_000), 0, "damaged"),
    ] {
        let error = error(&json, data);
        assert!(error.starts_with("m.safetensors: "), "{error}");
        assert!(error.contains(words), "{error}\nshould say: {words}");
    }
}

#[test]
fn header_lengths_are_not_believed() {
    for length in [9, 1000, 1 << 32, 1 << 60, u64::MAX] {
        let mut bytes = u64::to_le_bytes(length).to_vec();
        bytes.extend([b'{'; 8]);
        let source = MemorySource::new("m", bytes);
        let error = block_on(Header::read(&source)).unwrap_err();
        assert!(
            matches!(error, SafetensorsError::HeaderLength { found, limit: 8, .. } if found == length)
        );
    }
    let error = block_on(Header::read(&MemorySource::new("m", vec![0; 7]))).unwrap_err();
    assert!(matches!(error, SafetensorsError::Source(_)));
}

#[test]
fn an_index_maps_tensors_to_plain_file_names() {
    let index =
        Index::parse("i", br#"{"metadata":{"total_size":4},"weight_map":{"a":"x.safetensors"}}"#)
            .unwrap();
    assert_eq!(index.weight_map["a"], "x.safetensors");
    for (json, words) in [
        (&br#"{"weight_map":{"a":"../x"}}"#[..], "not a plain file name"),
        (br#"{"weight_map":{"a":"x","a":"y"}}"#, "'a' is there twice"),
        (br#"{"weight_map":{"a":1}}"#, "damaged"),
        (br#"{}"#, "weight_map"),
    ] {
        let error = Index::parse("i", json).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
