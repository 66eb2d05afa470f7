use std::rc::Rc;

use half::bf16;
use pollster::block_on;
use safetensors::tensor::{TensorView, serialize};

use super::*;
use crate::hearth::{NewTensor, Origin, plan};
use crate::row::RowFault;
use crate::source::MemorySource;

/// Name, type, shape, bytes.
type New = (&'static str, safetensors::Dtype, Vec<usize>, Vec<u8>);

fn file(name: &str, tensors: Vec<New>) -> Rc<dyn ByteSource> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let bytes = serialize(views, None).unwrap();
    Rc::new(MemorySource::new(name, bytes))
}

fn text(name: &str, text: &str) -> Rc<dyn ByteSource> {
    Rc::new(MemorySource::new(name, text.as_bytes()))
}

fn open(sources: Vec<Rc<dyn ByteSource>>) -> Result<Checkpoint, CheckpointError> {
    block_on(Checkpoint::open(sources))
}

fn f32s(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn matrix(name: &'static str, rows: usize, columns: usize) -> New {
    let values = (0..rows * columns).map(|i| i as f32);
    (name, safetensors::Dtype::F32, vec![rows, columns], f32s(values))
}

const Q: &str = "model.layers.0.self_attn.q_proj.weight";

#[test]
fn rows_are_read_in_any_layout() {
    let model = open(vec![file("m.safetensors", vec![matrix(Q, 6, 32)])]).unwrap();
    let tensor = model.tensor(Q).unwrap();
    assert_eq!((tensor.rows(), tensor.columns(), tensor.layout), (6, 32, Some(WeightLayout::F32)));
    let expected: Vec<f32> = (64..160).map(|i| i as f32).collect();
    assert_eq!(block_on(model.read_rows_f32(Q, 2..5)).unwrap(), expected);
    for layout in [WeightLayout::F32, WeightLayout::F16, WeightLayout::Q8, WeightLayout::Q4] {
        let packed = block_on(model.read_rows(Q, layout, 2..5)).unwrap();
        assert_eq!((packed.rows, packed.layout), (3, layout));
        for (found, expected) in packed.decode().iter().zip(&expected) {
            assert!((found - expected).abs() <= 31.0 / 30.0, "{layout}: {found} {expected}");
        }
    }
    let none = block_on(model.read_rows(Q, WeightLayout::F32, 6..6)).unwrap();
    assert_eq!(none.rows, 0);
    for rows in [5..7, 7..7, 0..u64::MAX] {
        let error = block_on(model.read_rows_f32(Q, rows)).unwrap_err();
        assert!(matches!(error, CheckpointError::Rows { rows: 6, .. }), "{error}");
    }
    let error = block_on(model.read_f32("model.norm.weight")).unwrap_err();
    assert!(error.to_string().contains("'model.norm.weight'"));
}

#[test]
fn a_matrix_larger_than_a_piece_keeps_its_order() {
    let (rows, columns) = (3_000, 512);
    let model = open(vec![file("m.safetensors", vec![matrix(Q, rows, columns)])]).unwrap();
    assert!(model.tensor(Q).unwrap().stored_bytes() > 2 * PIECE);
    let values = block_on(model.read_rows_f32(Q, 1..3_000)).unwrap();
    assert!(values.iter().enumerate().all(|(i, v)| *v == (i + columns) as f32));
    let packed = block_on(model.read_rows(Q, WeightLayout::F32, 1..3_000)).unwrap();
    assert_eq!(packed.decode(), values);
}

#[test]
fn gains_are_one_plus_the_weight() {
    let norm = "model.norm.weight";
    let weights = [0.5f32, -0.25, 3.0];
    let bytes = weights.iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect();
    let tensor = (norm, safetensors::Dtype::BF16, vec![3], bytes);
    let model = open(vec![file("m.safetensors", vec![tensor])]).unwrap();
    assert_eq!(block_on(model.read_f32(norm)).unwrap(), weights);
    assert_eq!(block_on(model.read_norm_gain(norm)).unwrap(), [1.5, 0.75, 4.0]);
}

#[test]
fn shards_come_together_by_the_index_or_by_themselves() {
    let a = || file("d/model-00001-of-00002.safetensors", vec![matrix(Q, 2, 4)]);
    let prefixed = "language_model.model.layers.0.mlp.up_proj.weight";
    let up = "model.layers.0.mlp.up_proj.weight";
    let b = || file("d/model-00002-of-00002.safetensors", vec![matrix(prefixed, 3, 4)]);
    let index = format!(
        r#"{{"weight_map":{{"{Q}":"model-00001-of-00002.safetensors","{prefixed}":"model-00002-of-00002.safetensors"}}}}"#
    );
    let index = || text("d/model.safetensors.index.json", &index);
    let config = || text("d/config.json", r#"{"model_type":"gemma"}"#);
    let others = || text("d/tokenizer.json", "not read");
    for sources in [vec![b(), config(), index(), others(), a()], vec![a(), b(), config()]] {
        let model = open(sources).unwrap();
        assert_eq!(model.tensor(up).unwrap().shape, [3, 4]);
        assert_eq!(model.config_json(), Some(r#"{"model_type":"gemma"}"#));
        assert_eq!(block_on(model.read_rows_f32(up, 2..3)).unwrap(), [8.0, 9.0, 10.0, 11.0]);
    }
    for (sources, words) in [
        (vec![a(), index()], "of these model-00002-of-00002.safetensors is missing"),
        (
            vec![a()],
            "2 safetensors files, and of these model-00002-of-00002.safetensors is missing",
        ),
        (vec![a(), a()], "is there twice"),
        (vec![config()], "no model file given"),
    ] {
        let error = open(sources).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn hearths_own_files_are_read_back() {
    let layouts = [WeightLayout::Q8, WeightLayout::Q4, WeightLayout::F16, WeightLayout::F32];
    let names: Vec<String> =
        (0..4).map(|i| format!("model.layers.{i}.mlp.up_proj.weight")).collect();
    let mut new: Vec<NewTensor> = names
        .iter()
        .zip(layouts)
        .map(|(name, layout)| NewTensor::Matrix {
            name: name.clone(),
            rows: 2,
            columns: 64,
            layout,
        })
        .collect();
    let norm = "model.norm.weight";
    new.push(NewTensor::Vector { name: norm.to_owned(), len: 2 });
    let origin = Origin {
        source: "a test".to_owned(),
        source_sha256: String::new(),
        config: "{}".to_owned(),
    };
    let plan = plan("out", &origin, &new).unwrap();

    let values: Vec<f32> = (0..128).map(|i| (i as f32 * 0.37).sin()).collect();
    let encoded = layouts.map(|layout| {
        let mut packed = crate::layout::PackedRows::new(layout, 64).unwrap();
        for row in values.chunks_exact(64) {
            crate::quantize::encode_row(row, &mut packed).unwrap();
        }
        packed
    });
    let mut bytes = plan.bytes.clone();
    for tensor in &plan.tensors {
        let i = names.iter().position(|name| tensor.name.starts_with(name.as_str()));
        let words = match i {
            None => vec![1.5f32.to_bits(), 0.5f32.to_bits()],
            Some(i) if tensor.name.ends_with(".quants") => encoded[i].quants.clone(),
            Some(i) => encoded[i].scales.clone(),
        };
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
    let model = open(vec![Rc::new(MemorySource::new("own.safetensors", bytes.clone()))]).unwrap();
    assert_eq!(model.format(), Format::Hearth);
    assert_eq!(model.config_json(), Some("{}"));
    for (name, encoded) in names.iter().zip(&encoded) {
        let tensor = model.tensor(name).unwrap();
        assert_eq!((tensor.layout, &tensor.shape[..]), (Some(encoded.layout), &[2, 64][..]));
        let found = block_on(model.read_rows(name, encoded.layout, 0..2)).unwrap();
        assert_eq!(&found, encoded);
        assert_eq!(block_on(model.read_f32(name)).unwrap(), encoded.decode());
    }
    // Stored as gains, so nothing is added.
    assert_eq!(block_on(model.read_norm_gain(norm)).unwrap(), [1.5, 0.5]);

    // A scale that is not a number is found when its row is read.
    let scales = plan.tensors.iter().find(|t| t.name == format!("{}.scales", names[1])).unwrap();
    let at = scales.offset as usize + 4 * 3;
    bytes[at..at + 2].copy_from_slice(&[0, 0x7c]);
    let model = open(vec![Rc::new(MemorySource::new("own.safetensors", bytes))]).unwrap();
    let error = block_on(model.read_rows(&names[1], WeightLayout::Q4, 0..2)).unwrap_err();
    assert!(
        matches!(
            &error,
            CheckpointError::Row { row: 1, fault: RowFault::Scale { column: 32, .. }, .. }
        ),
        "{error}"
    );
}

#[test]
fn faults_name_file_tensor_and_row() {
    let mut values = vec![0.5; 12];
    values[9] = f32::NAN;
    let tensor = (Q, safetensors::Dtype::F32, vec![3, 4], f32s(values));
    let model = open(vec![file("bad.safetensors", vec![tensor])]).unwrap();
    for layout in [WeightLayout::F32, WeightLayout::F16] {
        let error = block_on(model.read_rows(Q, layout, 0..3)).unwrap_err().to_string();
        let words = format!("bad.safetensors: tensor '{Q}', row 2: column 1 is NaN");
        assert!(error.starts_with(&words), "{error}");
    }
    assert!(block_on(model.read_rows_f32(Q, 0..3)).is_err());
    assert!(block_on(model.read_rows_f32(Q, 0..2)).is_ok());
    let error = block_on(model.read_rows(Q, WeightLayout::Q8, 0..1)).unwrap_err();
    assert!(error.to_string().contains("multiple of 32, not 4"), "{error}");

    let integers = ("counts", safetensors::Dtype::I64, vec![1], vec![0; 8]);
    let empty = ("empty", safetensors::Dtype::F32, vec![1 << 60, 0], vec![]);
    let model = open(vec![file("m.safetensors", vec![integers, empty])]).unwrap();
    let error = block_on(model.read_f32("counts")).unwrap_err().to_string();
    assert!(error.contains("type I64"), "{error}");
    // Claims 2^60 rows in zero bytes: refused at once.
    let error = block_on(model.read_f32("empty")).unwrap_err();
    assert!(matches!(error, CheckpointError::Shape { .. }), "{error}");
}

#[test]
fn the_identity_follows_the_content() {
    let identity = |tensors: Vec<New>, config: &str| {
        let sources = vec![file("m.safetensors", tensors), text("config.json", config)];
        block_on(open(sources).unwrap().identity()).unwrap()
    };
    let one = identity(vec![matrix(Q, 2, 4)], "{}");
    assert_eq!(one, identity(vec![matrix(Q, 2, 4)], "{}"));
    assert_eq!(one.len(), 64);
    let mut other = matrix(Q, 2, 4);
    other.3[5] ^= 1;
    assert_ne!(one, identity(vec![other], "{}"));
    assert_ne!(one, identity(vec![matrix(Q, 4, 2)], "{}"));
    assert_ne!(one, identity(vec![matrix(Q, 2, 4)], "{ }"));
}
