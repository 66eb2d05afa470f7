//! Bad input ends with code 2 and an error that names it and says what to do.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod command;

use command::{fixture, folder, golden, model_with_tokenizer, refused, run_json};

fn model(family: usize) -> String {
    format!("{}/model", golden(family))
}

#[test]
fn wrong_usage() {
    refused(&[], &["Usage"]);
    refused(&["generate"], &["--model"]);
    refused(&["generate", "--model", "x"], &["--prompt"]);
    refused(&["frobnicate"], &["frobnicate"]);
    refused(&["verify", "x", "--only", "everything"], &["everything", "forward"]);
    refused(&["bench", "--shape", "12"], &["256x2048x640"]);
    refused(&["bench", "--suite"], &["--out"]);
    refused(&["adapters", "--profile", "best"], &["best", "default"]);
    refused(&["score", "--model", "x", "--text", "y"], &["--continuation"]);
    refused(
        &["generate", "--model", "x", "--prompt", "y", "--greedy", "--top-k", "3"],
        &["--greedy"],
    );
}

#[test]
fn files_that_are_not_there() {
    for args in [
        &["inspect", "no/such.gguf"][..],
        &["generate", "--model", "no/such.gguf", "--prompt", "x"],
        &["bench", "--model", "no/such.gguf"],
        &["score", "--model", "no/such.gguf", "--text", "a", "--continuation", "b"],
    ] {
        refused(args, &["no/such.gguf", "no such file"]);
    }
    refused(&["verify", "no/such/folder"], &["no/such/folder"]);
    let model = model(1);
    refused(&["verify", &model], &["model", "nothing of that to compare"]);
    refused(&["generate", "--model", &model, "--prompt-file", "no.txt"], &["no.txt"]);
    refused(&["score", "--model", &model, "--file", "no.txt", "--continuation", "b"], &["no.txt"]);
    refused(
        &["generate", "--model", &model, "--prompt", "x"],
        &["no tokenizer.json", "--tokenizer"],
    );
    let tokenizer = ["generate", "--model", &model, "--prompt", "x", "--tokenizer", "no.json"];
    refused(&tokenizer, &["no.json"]);
}

#[test]
fn adapters_that_are_not_there() {
    let model = model(1);
    let args = ["bench", "--model", &model, "--adapter", "Voodo 2"];
    refused(&args, &["Voodo 2", "available"]);
}

#[test]
fn files_that_are_no_models() {
    let dir = folder("no-models");
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let tiny = std::fs::read(fixture("formats/tests/fixtures/small.gguf")).unwrap();
    let mut magic = tiny.clone();
    magic[0] = b'X';
    for (name, bytes) in [
        ("magic.gguf", &magic[..]),
        ("cut.gguf", &tiny[..100]),
        ("empty.gguf", b""),
        ("short.gguf", b"GG"),
        ("huge.safetensors", &[0xff; 64]),
        ("text.safetensors", b"hello, this is a text and no model at all"),
    ] {
        let path = write(name, bytes);
        refused(&["inspect", &path], &[name]);
        refused(&["generate", "--model", &path, "--prompt", "x"], &[name]);
    }
    let path = write("tokenizer.json", b"{}");
    refused(&["inspect", &path], &["tokenizer.json", "not a model"]);
    // A whole GGUF, but not of a Gemma.
    refused(&["bench", "--model", &fixture("formats/tests/fixtures/small.gguf")], &["small.gguf"]);
}

#[test]
fn wrong_downloads_and_classifiers_are_called_by_their_name() {
    let dir = folder("wrong-downloads");
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00ff\nsize 4711\n";
    for (name, bytes, words) in [
        ("a.gguf", &lfs[..], ["a git-lfs pointer", "4711 bytes", "git lfs pull"]),
        ("b.safetensors", lfs, ["a git-lfs pointer", "4711 bytes", "git lfs pull"]),
        ("c.gguf", b"<!doctype html><html></html>", ["a web page", "sign in", "download it again"]),
        (
            "d.safetensors",
            b"Invalid username or password.",
            ["a text", "Invalid username", "again"],
        ),
        (
            "pytorch_model.bin",
            b"PK\x03\x04\0\0archive/data.pkl",
            ["PyTorch", "safetensors", "Q4_K_M"],
        ),
    ] {
        let path = write(name, bytes);
        refused(&["inspect", &path], &[&[name][..], &words].concat());
        refused(&["generate", "--model", &path, "--prompt", "x"], &[&[name][..], &words].concat());
    }
    let model = model(3);
    let tokenizer = write("tokenizer.json", lfs);
    let args = ["generate", "--model", &model, "--prompt", "x", "--tokenizer", &tokenizer];
    refused(&args, &["tokenizer.json", "a git-lfs pointer"]);
}

#[test]
fn settings_out_of_range() {
    let model = model_with_tokenizer("settings");
    let with = |more: &[&str], words: &[&str]| {
        refused(&[&["generate", "--model", &model, "--prompt", "x"], more].concat(), words);
    };
    with(&["--temperature=-1"], &["temperature -1"]);
    with(&["--temperature", "NaN"], &["temperature"]);
    with(&["--top-p", "1.5"], &["top-p 1.5"]);
    with(&["--top-p", "0"], &["top-p 0"]);
    let long = "the quick brown fox ".repeat(300);
    refused(&["generate", "--model", &model, "--prompt", &long], &["longest is 512"]);
    refused(
        &["score", "--model", &model, "--text", &long, "--continuation", "x"],
        &["text 1", "longest is 512"],
    );
    refused(
        &["score", "--model", &model, "--text", "a", "--continuation", ""],
        &["continuation is empty"],
    );
    refused(&["bench", "--layout", "q5"], &["q5"]);
    refused(&["bench", "--shape", "4x4x30", "--layout", "q8"], &["4x4x30", "multiple of 32"]);
    refused(&["bench", "--model", &model, "--prefill", "0"], &["--prefill"]);
}

#[test]
fn tokenizers_of_other_models() {
    let model = model(3);
    let large = fixture("formats/tests/fixtures/tokenizer/tiny.json");
    let args = ["generate", "--model", &model, "--prompt", "x", "--tokenizer", &large];
    refused(&args, &["554 tokens", "512"]);
}

#[test]
fn golden_folders_that_do_not_fit() {
    let dir = folder("golden-misfit");
    std::fs::copy(format!("{}/forward.safetensors", golden(1)), dir.join("forward.safetensors"))
        .unwrap();
    let path = dir.to_str().unwrap();
    refused(&["verify", path], &["golden.json"]);
    std::fs::write(dir.join("golden.json"), r#"{"model_sha256": "00ff"}"#).unwrap();
    refused(&["verify", path], &["00ff", "--model"]);
    let weights = format!("{}/model.safetensors", model(1));
    refused(&["verify", path, "--model", &weights], &["model.safetensors", "sha256", "00ff"]);
    std::fs::write(dir.join("golden.json"), "{}").unwrap();
    refused(&["verify", path], &["names no model"]);
    std::fs::write(dir.join("golden.json"), "[").unwrap();
    refused(&["verify", path], &["golden.json", "not of the expected form"]);
    std::fs::write(dir.join("forward.safetensors"), "no tensors").unwrap();
    std::fs::write(dir.join("golden.json"), format!(r#"{{"model": "{}"}}"#, model(1))).unwrap();
    refused(&["verify", path], &["forward.safetensors"]);
    refused(&["verify", path, "--only", "tokenizer"], &["nothing of that"]);
}

#[test]
fn pieces_under_other_names_are_one_model() {
    let folder = folder("bad-input-pieces");
    let piece = |index: u32, tensor: &str| {
        hearth_testing::gguf::GgufFile::default()
            .text("general.architecture", "gemma4")
            .number("split.no", index)
            .number("split.count", 2)
            .floats(tensor, &[4], &[0.0; 4])
            .bytes()
    };
    std::fs::write(folder.join("b.gguf"), piece(0, "output_norm.weight")).unwrap();
    std::fs::write(folder.join("a.gguf"), piece(1, "blk.0.attn_norm.weight")).unwrap();
    let report = run_json(0, &["inspect", &folder.display().to_string()]);
    assert_eq!(report["tensors"].as_array().unwrap().len(), 2, "{report}");
    std::fs::remove_file(folder.join("b.gguf")).unwrap();
    let rest = folder.display().to_string();
    refused(&["inspect", &rest], &["split into 2 files", "piece 1 of 2 is missing"]);
}

#[test]
fn an_index_that_git_lfs_left_is_called_so() {
    let folder = folder("bad-input-index");
    std::fs::copy(
        format!("{}/model/model.safetensors", golden(3)),
        folder.join("model.safetensors"),
    )
    .unwrap();
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\r\noid sha256:{}\r\nsize 7654\r\n",
        "0f".repeat(32)
    );
    std::fs::write(folder.join("model.safetensors.index.json"), pointer).unwrap();
    let name = folder.display().to_string();
    refused(
        &["inspect", &name],
        &["model.safetensors.index.json", "git-lfs pointer", "git lfs pull"],
    );
}
