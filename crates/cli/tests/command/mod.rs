//! Runs the built binary, and makes a small model with a tokenizer for it.
#![allow(clippy::unwrap_used, dead_code, reason = "helpers of several tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// The binary with nothing of the user's settings but the adapter.
pub fn hearth() -> Command {
    hearth_testing::program(env!("CARGO_BIN_EXE_hearth"))
}

/// What a run printed and how it ended.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs to the end.
pub fn run(args: &[&str]) -> Ran {
    let Output { status, stdout, stderr } = hearth().args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// Runs with `--json` and reads the one object, whatever the exit code.
#[track_caller]
pub fn run_json(code: i32, args: &[&str]) -> Value {
    let ran = run(&[args, &["--json"]].concat());
    assert_eq!(ran.code, Some(code), "{args:?}: {}", ran.err);
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {}", ran.out))
}

/// Runs what cannot work: exit code 2, nothing on stdout, and the error says all of `words`.
#[track_caller]
pub fn refused(args: &[&str], words: &[&str]) {
    let ran = run(args);
    assert_eq!(ran.code, Some(2), "{args:?}: {} {}", ran.out, ran.err);
    assert_eq!(ran.out, "", "{args:?}");
    for word in words {
        assert!(ran.err.contains(word), "{args:?}: {word:?} is missing in {}", ran.err);
    }
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
}

/// A file of another crate's fixtures.
pub fn fixture(path: &str) -> String {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("..")
        .join(path)
        .display()
        .to_string()
}

/// A golden folder of a tiny twin.
pub fn golden(family: usize) -> String {
    fixture(&format!("gemma/tests/golden/tiny_gemma{family}"))
}

/// A fresh folder.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The tiny Gemma 3 with a tokenizer beside it: the tiny tokenizer's first 512 tokens.
pub fn model_with_tokenizer(name: &str) -> String {
    let folder = folder(name);
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(format!("{}/model/{file}", golden(3)), folder.join(file)).unwrap();
    }
    let text = std::fs::read(fixture("formats/tests/fixtures/tokenizer/tiny.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_slice(&text).unwrap();
    let model = &mut tokenizer["model"];
    let vocab = model["vocab"].as_object_mut().unwrap();
    vocab.retain(|_, id| id.as_u64().unwrap() < 512);
    let vocab = vocab.clone();
    let known = |pair: &Value| {
        let [a, b] = [0, 1].map(|i| pair[i].as_str().unwrap());
        [a, b, &format!("{a}{b}")].iter().all(|piece| vocab.contains_key(*piece))
    };
    let merges: Vec<Value> =
        model["merges"].as_array().unwrap().iter().filter(|m| known(m)).cloned().collect();
    model["merges"] = json!(merges);
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    folder.display().to_string()
}
