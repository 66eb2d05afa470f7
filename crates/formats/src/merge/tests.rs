use std::rc::Rc;

use pollster::block_on;

use super::*;
use crate::convert::MemorySink;
use crate::peft::Base;
use crate::source::MemorySource;

const Q: &str = "model.layers.0.self_attn.q_proj";

/// A model of two matrices, a norm and a vision tensor, in bf16.
fn source() -> Checkpoint {
    let entries = [
        ("model.embed_tokens.weight".to_owned(), Dtype::BF16, vec![5, 64]),
        (format!("{Q}.weight"), Dtype::BF16, vec![6, 64]),
        ("model.norm.weight".to_owned(), Dtype::BF16, vec![64]),
        ("vision_tower.bias".to_owned(), Dtype::BF16, vec![4]),
    ];
    let planned = plan_file("m.safetensors", &BTreeMap::new(), entries).unwrap();
    let data: u64 = planned.tensors.iter().map(|t| t.bytes).sum();
    let mut bytes = planned.bytes;
    for i in 0..data / 2 {
        let value = ((i * 2_654_435_761 % 1000) as f32 - 500.0) / 1000.0;
        bytes.extend(half::bf16::from_f32(value).to_le_bytes());
    }
    open("m.safetensors", bytes)
}

fn open(name: &str, bytes: Vec<u8>) -> Checkpoint {
    block_on(Checkpoint::open(vec![Rc::new(MemorySource::new(name, bytes))])).unwrap()
}

fn adapter(outputs: usize) -> Adapter {
    let a = (0..2 * 64).map(|i| (i % 7) as f32 * 0.01).collect();
    let b = (0..outputs * 2).map(|i| (i % 5) as f32 * 0.1 - 0.2).collect();
    Adapter {
        rank: 2,
        alpha: 8.0,
        rslora: false,
        dropout: 0.0,
        base: Base::text(),
        targets: ["q_proj".to_owned()].into(),
        tensors: [(Q.to_owned(), LoraPair { inputs: 64, outputs, a, b })].into(),
    }
}

fn merged(checkpoint: &Checkpoint, kind: TensorType, gguf: bool) -> (Vec<u8>, Vec<MergedTensor>) {
    let mut metadata = Metadata::default();
    metadata.text("general.architecture", "gemma3");
    let form = match gguf {
        true => Form::Gguf { architecture: "gemma3", metadata: &metadata },
        false => Form::Safetensors,
    };
    let adapter = adapter(6);
    let merge = Merge::plan(checkpoint, &adapter, kind, &form, "out").unwrap();
    assert_eq!(merge.left_out, ["vision_tower.bias"]);
    let (mut sink, mut last) = (MemorySink::default(), 0);
    let report = block_on(merge.run(&mut sink, |read| {
        assert!(read >= last, "progress goes back");
        last = read;
        true
    }));
    assert_eq!((sink.0.len() as u64, last), (merge.bytes(), merge.source_bytes()));
    (sink.0, report.unwrap())
}

/// W + s·B·A, element by element.
fn expected(checkpoint: &Checkpoint) -> Vec<f32> {
    let (adapter, mut values) = (adapter(6), block_on(checkpoint.read_f32(&format!("{Q}.weight"))));
    let pair = &adapter.tensors[Q];
    for (i, value) in values.as_mut().unwrap().iter_mut().enumerate() {
        let (row, column) = (i / 64, i % 64);
        let sum: f32 = (0..2).map(|r| pair.b[2 * row + r] * pair.a[64 * r + column]).sum();
        *value += 4.0 * sum;
    }
    values.unwrap()
}

#[test]
fn the_sum_of_weights_and_adapter_is_written() {
    let source = source();
    let expected = expected(&source);
    for gguf in [false, true] {
        let (bytes, report) = merged(&source, TensorType::F32, gguf);
        let copy = open(if gguf { "m.gguf" } else { "m.safetensors" }, bytes);
        let got = block_on(copy.read_f32(&format!("{Q}.weight"))).unwrap();
        assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
        for name in ["model.embed_tokens.weight", "model.norm.weight"] {
            // plain weights are as they were, and norms mean the same in both forms
            let both = [&source, &copy].map(|model| match name {
                "model.norm.weight" => block_on(model.read_norm_gain(name)).unwrap(),
                _ => block_on(model.read_f32(name)).unwrap(),
            });
            assert_eq!(both[0], both[1], "{name}");
        }
        assert_eq!(report.len(), 2);
        assert!(report.iter().all(|t| t.rms == 0.0 && t.max == 0.0));
        let change: Vec<bool> = report.iter().map(|t| t.change > 0.01).collect();
        let names: Vec<bool> = report.iter().map(|t| t.name.contains("q_proj")).collect();
        assert_eq!(change, names);
    }
}

#[test]
fn the_reported_error_is_that_of_the_file() {
    let source = source();
    let expected = expected(&source);
    for (kind, most) in
        [(TensorType::F16, 3e-4), (TensorType::Q8_0, 1e-2), (TensorType::Q4_0, 0.12)]
    {
        let (bytes, report) = merged(&source, kind, true);
        let copy = open("m.gguf", bytes);
        let got = block_on(copy.read_f32(&format!("{Q}.weight"))).unwrap();
        let off = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
        let rms = (got.iter().zip(&expected).map(off).sum::<f64>() / got.len() as f64).sqrt();
        let told = report.iter().find(|t| t.name.contains("q_proj")).unwrap();
        assert!((told.rms / rms - 1.0).abs() < 1e-3, "{kind}: {} {rms}", told.rms);
        assert!(told.relative < most && told.relative > 0.0, "{kind}: {}", told.relative);
        // four bits for the vocabulary would cost too much
        let table = report.iter().find(|t| t.name.contains("embed_tokens")).unwrap();
        let wanted = if kind == TensorType::Q4_0 { TensorType::Q8_0 } else { kind };
        assert_eq!(table.kind, wanted);
    }
    // the two forms of f16 hold the same numbers
    let [a, b] = [false, true].map(|gguf| {
        let (bytes, _) = merged(&source, TensorType::F16, gguf);
        block_on(
            open(if gguf { "m.gguf" } else { "m.safetensors" }, bytes)
                .read_f32(&format!("{Q}.weight")),
        )
        .unwrap()
    });
    assert_eq!(a, b);
}

#[test]
fn gains_become_weights_again() {
    let source = source();
    let (bytes, _) = merged(&source, TensorType::F32, true);
    let gguf = open("m.gguf", bytes);
    let adapter = adapter(6);
    let merge = Merge::plan(&gguf, &adapter, TensorType::F32, &Form::Safetensors, "x").unwrap();
    let mut sink = MemorySink::default();
    block_on(merge.run(&mut sink, |_| true)).unwrap();
    let back = open("m.safetensors", sink.0);
    let norm = |model: &Checkpoint| block_on(model.read_f32("model.norm.weight")).unwrap();
    assert!(!back.stores_gains());
    assert!(norm(&back).iter().zip(norm(&source)).all(|(a, b)| (a - b).abs() < 1e-7));
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    let source = source();
    let refused = |adapter: &Adapter, kind| {
        let plan = Merge::plan(&source, adapter, kind, &Form::Safetensors, "out");
        plan.err().unwrap().to_string()
    };
    let error = refused(&adapter(6), TensorType::Q8_0);
    assert!(error.contains("no Q8_0") && error.contains("GGUF"), "{error}");
    let error = refused(&adapter(7), TensorType::F16);
    assert!(error.contains("[7, 64]") && error.contains("[6, 64]"), "{error}");
    let mut other = adapter(6);
    let pair = other.tensors.remove(Q).unwrap();
    other.tensors.insert("model.layers.3.self_attn.q_proj".to_owned(), pair);
    let error = refused(&other, TensorType::F16);
    assert!(error.contains("layers.3") && error.contains("base model"), "{error}");
    // weights beyond f16 name their row
    let mut large = adapter(6);
    large.alpha = 1e9;
    let merge = Merge::plan(&source, &large, TensorType::F16, &Form::Safetensors, "x").unwrap();
    let error = block_on(merge.run(&mut MemorySink::default(), |_| true)).unwrap_err().to_string();
    assert!(error.contains("q_proj") && error.contains("row") && error.contains("f16"), "{error}");
    let merge = Merge::plan(&source, &large, TensorType::F32, &Form::Safetensors, "x").unwrap();
    let stopped = block_on(merge.run(&mut MemorySink::default(), |_| false));
    assert!(matches!(stopped, Err(MergeError::Stopped)));
}
