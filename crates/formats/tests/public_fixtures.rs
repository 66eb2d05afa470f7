//! Checkpoints and adapters made by public packages (`tools/fixtures`), against the values that
//! those packages return.

// Clippy recognizes only the marked test functions, not what they call.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::PathBuf;
use std::rc::Rc;

use hearth_formats::checkpoint::{Checkpoint, Format};
use hearth_formats::gguf;
use hearth_formats::layout::{PackedRows, ScaleForm, WeightLayout};
use hearth_formats::peft::{Adapter, CONFIG_FILE, WEIGHTS_FILE};
use hearth_formats::source::{ByteSource, FileSource, MemorySource};
use pollster::block_on;
use safetensors::SafeTensors;

fn path(name: &str) -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/fixtures").join(name)
}

fn source(name: &str) -> Rc<dyn ByteSource> {
    Rc::new(FileSource::open(path(name)).unwrap())
}

fn open(sources: Vec<Rc<dyn ByteSource>>) -> Checkpoint {
    block_on(Checkpoint::open(sources)).unwrap()
}

/// Every tensor of a file of f32 values: name, shape, values.
fn expected(name: &str) -> Vec<(String, Vec<u64>, Vec<f32>)> {
    let bytes = std::fs::read(path(name)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let read = tensors.tensors().into_iter().map(|(name, view)| {
        let shape = view.shape().iter().map(|size| *size as u64).collect();
        (name, shape, f32s(view.data()))
    });
    read.collect()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    let chunks = bytes.chunks_exact(4);
    chunks.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Reads every tensor in every way and compares it exactly.
fn check_all(model: &Checkpoint, file: &str, gains: bool) {
    let expected = expected(file);
    assert_eq!(model.tensors().count(), expected.len());
    for (name, shape, values) in expected {
        let tensor = model.tensor(&name).unwrap();
        assert_eq!(tensor.shape, shape, "{name}");
        assert_eq!(block_on(model.read_f32(&name)).unwrap(), values, "{name}");
        if name.ends_with("norm.weight") {
            let shift = if gains { 0.0 } else { 1.0 };
            let gain: Vec<f32> = values.iter().map(|w| w + shift).collect();
            assert_eq!(block_on(model.read_norm_gain(&name)).unwrap(), gain);
        }
        let layout = tensor.layout.unwrap();
        let rows = tensor.rows();
        let packed = block_on(model.read_rows(&name, layout, 0..rows)).unwrap();
        assert_eq!(packed.decode(), values, "{name}");
        let last = block_on(model.read_rows(&name, layout, rows - 1..rows)).unwrap();
        assert_eq!(last.decode(), values[values.len() - packed.columns..], "{name}");
    }
}

#[test]
fn a_gguf_of_the_public_writer() {
    let model = open(vec![source("small.gguf")]);
    assert_eq!(model.format(), Format::Gguf);
    let header = model.gguf().unwrap();
    assert_eq!(header.get::<&str>("general.architecture"), Ok(Some("gemma3")));
    check_all(&model, "small_gguf_values.safetensors", true);
    assert_eq!(model.tensor("model.embed_tokens.weight").unwrap().stored_as(), "Q8_0");
}

#[test]
fn safetensors_of_the_public_writer() {
    let model = open(vec![source("small.safetensors")]);
    assert_eq!(model.format(), Format::Safetensors);
    check_all(&model, "small_values.safetensors", false);
    assert_eq!(model.tensor("model.embed_tokens.weight").unwrap().stored_as(), "BF16");
}

#[test]
fn mlx_groups() {
    let json = std::fs::read(path("mlx_config.json")).unwrap();
    let config: Rc<dyn ByteSource> = Rc::new(MemorySource::new("config.json", json));
    let model = open(vec![source("mlx.safetensors"), config]);
    assert_eq!(model.format(), Format::Mlx);
    let expected = expected("mlx_values.safetensors");
    assert_eq!(expected.len(), 18);
    for (module, shape, values) in expected {
        let name = format!("{module}.weight");
        let tensor = model.tensor(&name).unwrap();
        assert_eq!(tensor.shape, shape);
        let (bits, group) = match tensor.layout {
            Some(WeightLayout::Quant { bits, group, scale, minimum: true }) => {
                assert_eq!(
                    scale == ScaleForm::F16,
                    module.ends_with("f16") && !module.ends_with("bf16") && bits == 4
                );
                (bits, group)
            }
            other => panic!("{other:?}"),
        };
        assert!(module.contains(&format!("b{bits}g{group}")));
        let found = block_on(model.read_f32(&name)).unwrap();
        for (i, (found, expected)) in found.iter().zip(&values).enumerate() {
            if bits == 4 {
                assert!(found == expected, "{module} {i}: {found}, mlx {expected}");
            } else {
                // bias + 128·scale is rounded once to f32, and so is the sum: 2⁻²⁴ of numbers
                // below 0.5, twice.
                assert!((found - expected).abs() <= 6e-8, "{module} {i}: {found}, mlx {expected}");
            }
        }
    }

    let error = block_on(Checkpoint::open(vec![source("mlx.safetensors")])).err().unwrap();
    assert!(error.to_string().contains("config.json"), "{error}");
}

fn relative(found: &[f32], expected: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let difference = found.iter().zip(expected).map(|(a, b)| f64::from(a - b));
    let norm = square(&mut expected.iter().map(|v| f64::from(*v)));
    (square(&mut { difference }) / norm).sqrt()
}

#[test]
fn quantizing_is_nearer_than_llama_cpp() {
    let bytes = std::fs::read(path("quantizer.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let names: Vec<&str> =
        tensors.iter().filter_map(|(name, _)| name.strip_suffix(".values")).collect();
    assert_eq!(names.len(), 8);
    for name in names {
        let values = tensors.tensor(&format!("{name}.values")).unwrap();
        let columns = values.shape()[1];
        let values = f32s(values.data());
        let theirs = |kind: gguf::header::TensorType| {
            let blocks = tensors.tensor(&format!("{name}.{kind}")).unwrap();
            let mut packed =
                PackedRows::new(gguf::blocks::layout_of(kind).unwrap(), columns).unwrap();
            for row in blocks.data().chunks_exact(blocks.shape()[1]) {
                gguf::blocks::pack_row(kind, row, &mut packed).unwrap();
            }
            relative(&packed.decode(), &values)
        };
        let ours = |layout| {
            let mut packed = PackedRows::new(layout, columns).unwrap();
            for row in values.chunks_exact(columns) {
                hearth_formats::quantize::encode_row(row, &mut packed).unwrap();
            }
            relative(&packed.decode(), &values)
        };
        let (q4, q8) = (ours(WeightLayout::Q4), ours(WeightLayout::Q8));
        use gguf::header::TensorType::{Q4_0, Q4_1, Q8_0};
        let [q4_0, q4_1, q8_0] = [Q4_0, Q4_1, Q8_0].map(theirs);
        println!(
            "{name:10} q4 {q4:.5} (Q4_0 {q4_0:.5}, Q4_1 {q4_1:.5})  q8 {q8:.6} (Q8_0 {q8_0:.6})"
        );
        assert!(q4 < q4_0 && q4 < q4_1, "{name}: q4 {q4}, Q4_0 {q4_0}, Q4_1 {q4_1}");
        assert!(q8 <= q8_0, "{name}: q8 {q8}, Q8_0 {q8_0}");
    }
}

#[test]
fn an_adapter_in_pefts_form_and_as_gguf() {
    let (config, weights) =
        (source(&format!("adapter/{CONFIG_FILE}")), source(&format!("adapter/{WEIGHTS_FILE}")));
    let adapter = block_on(Adapter::read(&*config, &*weights)).unwrap();
    assert_eq!((adapter.rank, adapter.alpha, adapter.scaling()), (4, 8.0, 2.0));
    assert_eq!(adapter.base.name, "google/gemma-3-270m");
    assert_eq!(adapter.targets, ["q_proj".to_owned(), "v_proj".to_owned()].into());
    assert_eq!(adapter.tensors.len(), 4);
    let pair = &adapter.tensors["model.layers.1.self_attn.v_proj"];
    assert_eq!((pair.inputs, pair.outputs), (18, 10));

    // Written again, both forms are byte-identical to the public packages'.
    assert_eq!(
        adapter.to_safetensors().unwrap(),
        std::fs::read(path(&format!("adapter/{WEIGHTS_FILE}"))).unwrap()
    );
    let mut adapter = adapter;
    assert_eq!(
        gguf::lora::write(&adapter, "gemma3").unwrap(),
        std::fs::read(path("adapter/adapter.gguf")).unwrap()
    );
    // Under rsLoRA alpha is adjusted, as llama.cpp always divides by r.
    adapter.rslora = true;
    let bytes = gguf::lora::write(&adapter, "gemma3").unwrap();
    let header = block_on(gguf::header::Header::read(&MemorySource::new("a", bytes))).unwrap();
    assert_eq!(header.get::<f32>("adapter.lora.alpha"), Ok(Some(16.0)));

    // Every setting that Hearth writes is one that PEFT writes too, with a value of its kind.
    let theirs = std::fs::read(path(&format!("adapter/{CONFIG_FILE}"))).unwrap();
    let theirs: serde_json::Value = serde_json::from_slice(&theirs).unwrap();
    let ours: serde_json::Value = serde_json::from_str(&adapter.config_json()).unwrap();
    for (key, value) in ours.as_object().unwrap() {
        let known = theirs.get(key).unwrap_or_else(|| panic!("PEFT has no '{key}'"));
        assert_eq!(std::mem::discriminant(value), std::mem::discriminant(known), "{key}");
    }
}
