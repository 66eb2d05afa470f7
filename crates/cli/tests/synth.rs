//! `hearth synth`: the forms are read back, hold the same weights, and run.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod command;

use std::collections::BTreeMap;
use std::path::Path;

use command::{folder, refused, run_json};
use serde_json::Value;

const FORMS: [(&str, &str); 5] = [
    ("bf16-sharded", "safetensors"),
    ("gguf-q4_k_m", "gguf"),
    ("gguf-q8_0", "gguf"),
    ("mlx-4bit", "mlx"),
    ("hearth-q4", "hearth"),
];

fn synth(dir: &Path, form: &str, more: &[&str]) -> String {
    let out = dir.join(form);
    let path = out.to_str().unwrap().to_owned();
    run_json(0, &[&["synth", "tiny", "--as", form, &path], more].concat());
    path
}

#[test]
fn every_form_reads_as_the_same_model() {
    let dir = folder("synth-forms");
    let mut configs = vec![];
    for (form, format) in FORMS {
        let path = synth(&dir, form, &[]);
        let report = run_json(0, &["inspect", &path]);
        assert_eq!(report["format"], format);
        assert_eq!(report["config_error"], Value::Null);
        configs.push(report["config"].clone());
        let tensors: BTreeMap<&str, &Value> = report["tensors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| (t["name"].as_str().unwrap(), t))
            .collect();
        assert_eq!(tensors.len(), 1 + 2 * 9 + 1);
        let stored = |name: &str| tensors[name]["stored_as"].as_str().unwrap().to_owned();
        let (embedding, q) =
            ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight");
        // Of two layers llama.cpp gives the last one more bits.
        let (down0, down1) =
            ("model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.weight");
        let wanted = match form {
            "bf16-sharded" => ["BF16"; 4],
            "gguf-q4_k_m" => ["Q6_K", "Q4_K", "Q4_K", "Q6_K"],
            "gguf-q8_0" => ["Q8_0"; 4],
            "mlx-4bit" => ["MLX 4-bit"; 4],
            _ => ["q4-g32-f16-min"; 4],
        };
        assert_eq!([embedding, q, down0, down1].map(stored), wanted);
        assert_eq!(tensors[embedding]["shape"], serde_json::json!([512, 256]));
        let left = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name());
        assert!(left.map(|n| n.into_string().unwrap()).all(|n| !n.ends_with(".part")));
    }
    assert!(configs.windows(2).all(|pair| pair[0] == pair[1]), "{configs:#?}");
    let shards = std::fs::read_dir(dir.join("bf16-sharded")).unwrap().count();
    assert_eq!(shards, 3 + 2, "three shards, index, config");
}

/// Quantizing says how far what it reads is from its own 8 bits; between forms the texts tell.
#[test]
fn forms_hold_the_same_weights_and_other_seeds_others() {
    let dir = folder("synth-scores");
    let gguf = synth(&dir, "gguf-q8_0", &[]);
    let share = |model: &str| {
        let args = ["score", "--model", model, "--tokenizer", &gguf, "--text", "abc", "--choice"];
        let report =
            run_json(0, &[&args[..], &["--continuation", "d", "--continuation", "x"]].concat());
        let found = &report["rows"][0]["continuations"][0];
        assert_eq!(found["log_probability"], Value::Null);
        found["share"].as_f64().unwrap()
    };
    let reference = share(&synth(&dir, "bf16-sharded", &[]));
    assert!(reference > 0.001 && reference < 0.999, "{reference}");
    for (form, off) in
        [("gguf-q8_0", 0.01), ("gguf-q4_k_m", 0.1), ("mlx-4bit", 0.15), ("hearth-q4", 0.1)]
    {
        let path = if form == "gguf-q8_0" { gguf.clone() } else { synth(&dir, form, &[]) };
        let found = share(&path);
        assert!((found - reference).abs() < off, "{form}: {found} instead of {reference}");
    }
    let other = folder("synth-seed");
    let (a, b) = (synth(&other, "hearth-q4", &["--seed", "1"]), dir.join("hearth-q4"));
    let bytes = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
    assert_ne!(bytes(Path::new(&a)), bytes(&b));
    let again = folder("synth-again");
    assert_eq!(bytes(Path::new(&synth(&again, "hearth-q4", &[]))), bytes(&b));
}

#[test]
fn nothing_is_replaced() {
    let dir = folder("synth-there");
    let path = synth(&dir, "gguf-q8_0", &[]);
    refused(&["synth", "tiny", "--as", "gguf-q8_0", &path], &["it exists already"]);
    let new = dir.join("new").display().to_string();
    refused(
        &["synth", "tiny", "--as", "hearth-q4", &new, "--tokenizer", "absent.json"],
        &["absent.json"],
    );
    assert!(!Path::new(&new).exists() && !Path::new(&format!("{new}.part")).exists());
}
