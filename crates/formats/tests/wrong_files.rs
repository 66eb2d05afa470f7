//! Files that are not the intended model, and models in the forms that programs write: each is read, or the error says
//! what it is and what to do.

// Clippy recognizes only the marked test functions, not what they call.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::rc::Rc;

use hearth_formats::checkpoint::{Checkpoint, is_model};
use hearth_formats::safetensors::{Dtype, plan_file};
use hearth_formats::source::{ByteSource, MemorySource};
use hearth_testing::gguf::GgufFile;
use pollster::block_on;

type Source = Rc<dyn ByteSource>;

fn source(name: &str, bytes: Vec<u8>) -> Source {
    Rc::new(MemorySource::new(name, bytes))
}

/// Safetensors whose numbers are all the same byte; metadata of one entry.
fn tensors(
    name: &str,
    entries: &[(&str, Dtype, &[u64])],
    metadata: Option<(&str, &str)>,
) -> Source {
    let metadata: BTreeMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let entries =
        entries.iter().map(|(name, dtype, shape)| ((*name).to_owned(), *dtype, shape.to_vec()));
    let planned = plan_file(name, &metadata, entries).unwrap();
    let data: u64 = planned.tensors.iter().map(|tensor| tensor.bytes).sum();
    let mut bytes = planned.bytes;
    bytes.resize(bytes.len() + data as usize, 0x11);
    source(name, bytes)
}

fn f32(name: &'static str) -> (&'static str, Dtype, &'static [u64]) {
    (name, Dtype::F32, &[2, 4])
}

fn open(sources: Vec<Source>) -> Result<Checkpoint, String> {
    block_on(Checkpoint::open(sources)).map_err(|error| error.to_string())
}

fn refused(sources: Vec<Source>, words: &[&str]) {
    let error = open(sources).err().unwrap();
    for word in words {
        assert!(error.contains(word), "wanted '{word}', got '{error}'");
    }
}

fn gemma() -> GgufFile {
    GgufFile::default().text("general.architecture", "gemma3").floats(
        "token_embd.weight",
        &[2, 4],
        &[0.5; 8],
    )
}

#[test]
fn what_goes_with_a_model_is_called_by_its_name() {
    let file = |gguf: GgufFile| source("x.gguf", gguf.bytes());
    let floats = |name: &str| GgufFile::default().floats(name, &[2, 4], &[0.0; 8]);
    refused(
        vec![file(floats("v.blk.0.ln1.weight").text("general.architecture", "clip"))],
        &["x.gguf: this is a vision or audio projector (mmproj)", "give the text model"],
    );
    refused(
        vec![file(floats("mm.a.weight").text("general.type", "mmproj"))],
        &["vision or audio projector"],
    );
    for lora in [
        floats("blk.0.attn_q.weight.lora_a").text("general.architecture", "gemma3"),
        floats("x").text("general.architecture", "gemma3").text("adapter.type", "lora"),
    ] {
        refused(vec![file(lora)], &["a LoRA adapter", "base model"]);
    }
    refused(
        vec![file(floats("direction.1").text("general.architecture", "controlvector"))],
        &["control vector"],
    );
    refused(
        vec![file(floats("blk.0.attn_q.weight.in_sum2").text("general.type", "imatrix"))],
        &["importance matrix"],
    );
    refused(
        vec![file(GgufFile::default().text("general.architecture", "gemma3"))],
        &["a vocabulary without weights"],
    );
    for name in [
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight",
        "model.layers.0.self_attn.q_proj.lora_a",
    ] {
        refused(
            vec![tensors("a.safetensors", &[(name, Dtype::F32, &[2, 4])], None)],
            &["a.safetensors: this is a LoRA adapter", "base model"],
        );
    }
    refused(
        vec![tensors(
            "c.hearth",
            &[("classifier.json", Dtype::U8, &[9])],
            Some(("hearth-classifier", "1 00")),
        )],
        &["c.hearth: this is a classifier made by Hearth", "--classifier"],
    );
    refused(
        vec![tensors("m.safetensors", &[f32("vision_tower.x.weight")], None)],
        &["the vision or audio part of a model"],
    );
    refused(
        vec![tensors("m.safetensors", &[f32("model.layers.0.self_attn.qkv_proj.weight")], None)],
        &["gemma_pytorch"],
    );
    refused(
        vec![tensors(
            "m.safetensors",
            &[
                f32("base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"),
                f32("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"),
            ],
            None,
        )],
        &["not merged", "merge_and_unload"],
    );
}

#[test]
fn a_model_with_its_projector_or_adapter_is_read_and_says_so() {
    let projector =
        GgufFile::default().text("general.architecture", "clip").floats("v.a", &[1], &[0.0]);
    let projector = || source("mmproj.gguf", projector.bytes());
    let model = || source("m.gguf", gemma().bytes());
    for sources in [vec![projector(), model()], vec![model(), projector()]] {
        let model = open(sources).unwrap();
        assert_eq!(model.tensors().count(), 1);
        assert!(
            model.notes()[0].contains("mmproj.gguf is a vision or audio projector"),
            "{:?}",
            model.notes()
        );
    }
    assert!(block_on(is_model(&*model())) && !block_on(is_model(&*projector())));
    let adapter = || tensors("a.safetensors", &[f32("x.lora_A.weight")], None);
    let read = open(vec![model(), adapter(), source("README.md", b"# A model".to_vec())]).unwrap();
    assert!(
        read.notes()[0].contains("a.safetensors: this is a LoRA adapter"),
        "{:?}",
        read.notes()
    );
    refused(
        vec![model(), source("n.gguf", gemma().bytes())],
        &["2 models were given (m.gguf, n.gguf)"],
    );
    let other = tensors("m.safetensors", &[f32("model.norm.weight")], None);
    refused(vec![model(), other], &["2 models were given (m.gguf, m.safetensors)"]);
    refused(vec![source("README.md", b"# A model".to_vec())], &["README.md: this is a text"]);
    refused(
        vec![source("m.gguf.part1of3", gemma().bytes())],
        &["a piece of a file that was cut", "cat PIECES"],
    );
    refused(vec![source("m.gguf.crdownload", gemma().bytes())], &["has not finished"]);
    assert!(open(vec![model(), source("._m.gguf", b"\0\x05\x16\x07\0\0\0\0".to_vec())]).is_ok());
}

/// Pieces as llama-gguf-split writes them: metadata in the first, u16 and i32 in every piece.
fn pieces() -> Vec<(String, GgufFile)> {
    let names = ["blk.0.attn_norm.weight", "token_embd.weight", "output_norm.weight"];
    (0..3u16)
        .map(|index| {
            let mut file = GgufFile::default()
                .value("split.no", 2, index.to_le_bytes())
                .value("split.count", 2, 3u16.to_le_bytes())
                .value("split.tensors.count", 5, 3i32.to_le_bytes());
            if index == 0 {
                file = file.text("general.architecture", "gemma3");
            }
            let values: Vec<f32> = (0..4).map(|i| f32::from(index * 10 + i)).collect();
            let name = format!("d/m-{:05}-of-00003.gguf", index + 1);
            (name, file.floats(names[usize::from(index)], &[1, 4], &values))
        })
        .collect()
}

#[test]
fn a_split_gguf_is_read_from_all_of_its_pieces() {
    let files =
        || pieces().into_iter().map(|(name, file)| source(&name, file.bytes())).collect::<Vec<_>>();
    let mut other_order = files();
    other_order.rotate_left(1);
    for sources in [files(), other_order] {
        let model = open(sources).unwrap();
        for (name, first) in
            [("model.layers.0.input_layernorm.weight", 0.0), ("model.norm.weight", 20.0)]
        {
            let values = block_on(model.read_rows_f32(name, 0..1)).unwrap();
            assert_eq!(values, [first, first + 1.0, first + 2.0, first + 3.0], "{name}");
        }
        // Metadata is that of the first, tensors those of all.
        let header = model.gguf().unwrap();
        assert_eq!(header.require::<&str>("general.architecture"), Ok("gemma3"));
        assert!(header.tensor("token_embd.weight").is_ok() && header.tensors().len() == 3);
        assert_eq!(block_on(model.identity()).unwrap().len(), 64);
    }
    let mut two = files();
    two.remove(1);
    refused(two, &["split into 3 files", "m-00002-of-00003.gguf is missing"]);
    refused(files().split_off(2), &["m-00001-of-00003.gguf, m-00002-of-00003.gguf are missing"]);
    let mut twice = files();
    twice.push(source("d/copy.gguf", pieces()[1].1.bytes()));
    refused(twice, &["this is piece 2 of 3, and so is"]);
    let mut stale = files();
    stale[2] = source(
        "d/m-00003-of-00003.gguf",
        pieces()[2].1.clone().floats("more", &[1], &[0.0]).bytes(),
    );
    refused(stale, &["hold 4 tensors, but the model has 3", "another version"]);
    let mut mixed = files();
    mixed[2] = source("d/n.gguf", pieces()[2].1.clone().number("split.count", 4).bytes());
    refused(mixed, &["of different models"]);
    let many = pieces()[0].1.clone().number("split.count", u32::MAX);
    refused(vec![source("d/m.gguf", many.bytes())], &["4294967295", "1000 pieces at most"]);
}

#[test]
fn stale_and_missing_shards_are_named() {
    let shard = |name: &str, tensor: &'static str| tensors(name, &[f32(tensor)], None);
    let a = || shard("m-00001-of-00003.safetensors", "model.norm.weight");
    let b = || shard("m-00002-of-00003.safetensors", "model.layers.0.x.weight");
    let c = || shard("m-00003-of-00003.safetensors", "model.layers.1.x.weight");
    refused(vec![b()], &["m-00001-of-00003.safetensors, m-00003-of-00003.safetensors are missing"]);
    refused(vec![a(), c()], &["m-00002-of-00003.safetensors is missing"]);
    // Left over from another version: not used if one set is complete.
    let old = || shard("m-00001-of-00002.safetensors", "model.norm.weight");
    let model = open(vec![a(), old(), b(), c()]).unwrap();
    assert_eq!(model.tensors().count(), 3);
    assert!(
        model.notes()[0].contains("m-00001-of-00002.safetensors is not used"),
        "{:?}",
        model.notes()
    );
    let whole = || shard("m.safetensors", "model.norm.weight");
    refused(vec![a(), b(), c(), whole()], &["several models, or versions of one", "m.safetensors"]);

    let index = |map: &str| {
        source("m.safetensors.index.json", format!("{{\"weight_map\":{{{map}}}}}").into_bytes())
    };
    let map = r#""model.norm.weight":"m-00001-of-00003.safetensors","model.layers.0.x.weight":"m-00002-of-00003.safetensors""#;
    let model = open(vec![a(), b(), c(), index(map)]).unwrap();
    assert_eq!(model.tensors().count(), 2);
    assert!(
        model.notes()[0].contains("m-00003-of-00003.safetensors is not used"),
        "{:?}",
        model.notes()
    );
    refused(
        vec![a(), index(map)],
        &["it names 2 files", "m-00002-of-00003.safetensors is missing"],
    );
    let stale = r#""model.norm.bias":"m-00001-of-00003.safetensors""#;
    refused(
        vec![a(), index(stale)],
        &["holds tensor 'model.norm.bias', but it does not", "different versions"],
    );
    let less = tensors(
        "m-00001-of-00003.safetensors",
        &[f32("model.norm.weight"), f32("model.layers.9.x.weight")],
        None,
    );
    refused(
        vec![less, b(), index(map)],
        &["does not place there ('model.layers.9.x.weight' first)"],
    );
}

#[test]
fn names_of_other_programs_lead_to_the_same_tensors() {
    for front in [
        "",
        "model.",
        "_orig_mod.model.",
        "module.model.",
        "base_model.model.model.",
        "student.net.model.",
    ] {
        let name = |rest: &str| format!("{front}{rest}");
        let names =
            [name("embed_tokens.weight"), name("layers.0.mlp.up_proj.weight"), name("norm.weight")];
        let entries: Vec<_> =
            names.iter().map(|name| (name.as_str(), Dtype::F32, &[2, 4][..])).collect();
        let model = open(vec![tensors("m.safetensors", &entries, None)]).unwrap();
        let found: Vec<&str> = model.tensors().map(|tensor| tensor.name.as_str()).collect();
        let wanted =
            ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight"];
        assert_eq!(found, wanted, "{front}");
    }
    let twice = [f32("model.embed_tokens.weight"), f32("module.model.embed_tokens.weight")];
    refused(
        vec![tensors("m.safetensors", &twice, None)],
        &["is there twice", "as 'model.embed_tokens.weight'"],
    );
}

#[test]
fn foreign_quantizations_are_named_with_what_to_take_instead() {
    let q = |end: &str| format!("model.layers.0.self_attn.q_proj{end}");
    let config = |method: &str| {
        source(
            "config.json",
            format!(r#"{{"model_type":"gemma","quantization_config":{method}}}"#).into_bytes(),
        )
    };
    let none = "null";
    for (parts, method, named) in [
        (
            vec![
                (".weight", Dtype::U8),
                (".weight.absmax", Dtype::F32),
                (".weight.quant_state.bitsandbytes__nf4", Dtype::U8),
            ],
            none,
            "bitsandbytes (4-bit NF4)",
        ),
        (
            vec![(".weight", Dtype::U8), (".weight.quant_state.bitsandbytes__fp4", Dtype::U8)],
            none,
            "bitsandbytes (4-bit FP4)",
        ),
        (vec![(".weight", Dtype::I8), (".SCB", Dtype::F32)], none, "bitsandbytes (8-bit)"),
        (
            vec![(".weight", Dtype::F8_E4M3), (".weight_scale", Dtype::BF16)],
            r#"{"quant_method":"fp8"}"#,
            "FP8",
        ),
        (vec![(".weight", Dtype::F8_E5M2)], none, "FP8"),
        (
            vec![(".weight", Dtype::F8_E4M3), (".weight_scale_inv", Dtype::F32)],
            none,
            "FP8 (in blocks)",
        ),
        (vec![(".weight", Dtype::F4), (".weight_scale", Dtype::F8_E8M0)], none, "MXFP4"),
        (vec![("_blocks", Dtype::U8), ("_scales", Dtype::U8)], none, "MXFP4"),
        (
            vec![
                (".weight_packed", Dtype::U8),
                (".weight_global_scale", Dtype::F32),
                (".weight_scale", Dtype::F8_E4M3),
            ],
            none,
            "NVFP4",
        ),
        (
            vec![(".weight_packed", Dtype::I32), (".weight_shape", Dtype::I64)],
            none,
            "compressed-tensors",
        ),
        (
            vec![(".qweight", Dtype::I32), (".qzeros", Dtype::I32), (".g_idx", Dtype::I32)],
            none,
            "GPTQ",
        ),
        (
            vec![(".qweight", Dtype::I32), (".qzeros", Dtype::I32)],
            r#"{"quant_method":"awq"}"#,
            "AWQ",
        ),
        (vec![(".qweight", Dtype::I32), (".qzeros", Dtype::I32)], none, "GPTQ or AWQ"),
        (vec![(".weight", Dtype::I8), (".weight_scale", Dtype::BF16)], none, "8-bit integers"),
        (vec![(".weight", Dtype::I16)], r#"{"quant_method":"something"}"#, "something"),
        (vec![(".weight", Dtype::I16)], none, "stores I16"),
    ] {
        let names: Vec<(String, Dtype)> =
            parts.iter().map(|(end, dtype)| (q(end), *dtype)).collect();
        let entries: Vec<_> =
            names.iter().map(|(name, dtype)| (name.as_str(), *dtype, &[2, 4][..])).collect();
        let file = tensors("m.safetensors", &entries, None);
        let words = [&format!("quantized by {named}")[..], "m.safetensors", "Q4_K_M or Q8_0"];
        match method {
            "null" => refused(vec![file], &[named, words[1], words[2]]),
            method => refused(vec![file, config(method)], &[named, words[1], words[2]]),
        }
    }
    // A stale setting of a model that was dequantized does no harm.
    let floats = tensors("m.safetensors", &[f32("model.layers.0.self_attn.q_proj.weight")], None);
    assert!(open(vec![floats, config(r#"{"quant_method":"bitsandbytes"}"#)]).is_ok());
    // A vision part may be of any type.
    let sees = [f32("model.norm.weight"), ("vision_tower.x.weight", Dtype::F8_E4M3, &[2, 4])];
    assert!(open(vec![tensors("m.safetensors", &sees, None)]).is_ok());
}

#[test]
fn the_head_is_told_by_the_tensors() {
    let head = |byte: Option<u8>| {
        let planned = plan_file(
            "m",
            &BTreeMap::new(),
            [("lm_head.weight", 40_000), ("model.embed_tokens.weight", 40_000)]
                .map(|(name, rows)| (name.to_owned(), Dtype::BF16, vec![rows, 64])),
        )
        .unwrap();
        let mut bytes = planned.bytes;
        let start = bytes.len();
        bytes.resize(start + 2 * 40_000 * 64 * 2, 0x3c);
        if let Some(byte) = byte {
            // Only the last number of the head.
            bytes[start + 40_000 * 64 * 2 - 1] = byte;
        }
        open(vec![source("m.safetensors", bytes)]).unwrap()
    };
    assert!(!head(None).has_own_head());
    assert_eq!(head(None).tensors().count(), 1);
    assert!(head(Some(0x3d)).has_own_head());
}

#[test]
fn doubles_are_read_as_floats() {
    let values = [1.0f64, -0.1, 1e-300, 123_456_789.123];
    let planned =
        plan_file("m", &BTreeMap::new(), [("model.norm.weight".to_owned(), Dtype::F64, vec![4])])
            .unwrap();
    let mut bytes = planned.bytes;
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    let model = open(vec![source("m.safetensors", bytes.clone())]).unwrap();
    let read = block_on(model.read_rows_f32("model.norm.weight", 0..1)).unwrap();
    assert_eq!(read, values.map(|value| value as f32));
    let end = bytes.len();
    bytes[end - 8..].copy_from_slice(&1e300f64.to_le_bytes());
    let model = open(vec![source("m.safetensors", bytes)]).unwrap();
    let error = block_on(model.read_rows_f32("model.norm.weight", 0..1)).unwrap_err().to_string();
    assert!(error.contains("column 3 is inf"), "{error}");
}
