//! `hearth quantize`: what it writes is read back, and nothing is lost by accident.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod command;

use command::{fixture, folder, golden, model_with_tokenizer, refused, run, run_json};
use serde_json::Value;

fn quantized(name: &str, model: &str, to: &str, more: &[&str]) -> (String, Value) {
    let out = folder(name).join("model.safetensors").display().to_string();
    let args = [&["quantize", model, "--to", to, &out], more].concat();
    let report = run_json(0, &args);
    (out, report)
}

fn worst(report: &Value) -> f64 {
    report["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["relative"].as_f64().unwrap())
        .fold(0.0, f64::max)
}

#[test]
fn eight_bits_lose_less_than_four_and_texts_stay_likely() {
    for family in 1..=3 {
        let model = format!("{}/model", golden(family));
        let (q8, report8) = quantized(&format!("q8-{family}"), &model, "q8", &[]);
        let (q4, report4) = quantized(&format!("q4-{family}"), &model, "q4", &[]);
        // Normal weights in groups of 32: 0.5 % and 7.2 % (crates/formats, quantize.rs).
        assert!((1e-3..1e-2).contains(&worst(&report8)), "{}", worst(&report8));
        assert!((0.03..0.1).contains(&worst(&report4)), "{}", worst(&report4));
        for (path, layout) in [(&q8, "q8-g32-f16"), (&q4, "q4-g32-f16-min")] {
            let inspected = run_json(0, &["inspect", path]);
            assert_eq!(inspected["format"], "hearth");
            let source = run_json(0, &["inspect", &model]);
            assert_eq!(inspected["config"], source["config"]);
            for (a, b) in inspected["tensors"]
                .as_array()
                .unwrap()
                .iter()
                .zip(source["tensors"].as_array().unwrap())
            {
                assert_eq!((&a["name"], &a["shape"]), (&b["name"], &b["shape"]));
                let wanted = if a["shape"].as_array().unwrap().len() == 2 { layout } else { "f32" };
                assert_eq!(a["layout"], wanted);
            }
            assert_eq!(report8["bytes"], std::fs::metadata(&q8).unwrap().len());
        }
    }
}

#[test]
fn a_quantized_model_runs_like_its_source() {
    let model = model_with_tokenizer("quantize-source");
    let (q8, _) = quantized("quantize-run", &model, "q8", &[]);
    let tokenizer = format!("{model}/tokenizer.json");
    let score = |model: &str| {
        let args = [
            "score",
            "--model",
            model,
            "--tokenizer",
            &tokenizer,
            "--text",
            "the quick",
            "--continuation",
            " the",
        ];
        run_json(0, &args)["rows"][0]["continuations"][0]["log_probability"].as_f64().unwrap()
    };
    assert!((score(&q8) - score(&model)).abs() < 0.05, "{} {}", score(&q8), score(&model));
    assert_ne!(score(&q8), score(&model));
    // Quantizing while loading gives the same numbers as the file.
    let args = [
        "score",
        "--model",
        &model,
        "--weights",
        "q8",
        "--text",
        "the quick",
        "--continuation",
        " the",
    ];
    let loaded = run_json(0, &args);
    let loaded = loaded["rows"][0]["continuations"][0]["log_probability"].as_f64().unwrap();
    assert!((score(&q8) - loaded).abs() < 1e-6);
}

#[test]
fn chosen_matrices_keep_eight_bits() {
    let model = format!("{}/model", golden(1));
    let (_, report) = quantized("keep", &model, "q4", &["--keep-q8", "embed_tokens,down_proj"]);
    for tensor in report["tensors"].as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        let eight = name.contains("embed_tokens") || name.contains("down_proj");
        assert_eq!(tensor["layout"], if eight { "q8-g32-f16" } else { "q4-g32-f16-min" }, "{name}");
    }
    let out = folder("keep-none").join("out.safetensors").display().to_string();
    refused(
        &["quantize", &model, "--to", "q4", &out, "--keep-q8", "nothing"],
        &["nothing", "no tensor"],
    );
}

#[test]
fn nothing_is_overwritten_or_left_half_written() {
    let model = format!("{}/model", golden(1));
    let dir = folder("overwrite");
    let out = dir.join("out.safetensors");
    std::fs::write(&out, "precious").unwrap();
    let path = out.to_str().unwrap();
    refused(&["quantize", &model, "--to", "q8", path], &["exists already", "--force"]);
    assert_eq!(std::fs::read(&out).unwrap(), b"precious");
    assert_eq!(run(&["quantize", &model, "--to", "q8", path, "--force"]).code, Some(0));
    assert!(std::fs::metadata(&out).unwrap().len() > 10_000);
    // A weight that is not a number stops it, and OUT does not appear.
    let broken = folder("broken");
    std::fs::copy(format!("{model}/config.json"), broken.join("config.json")).unwrap();
    let mut bytes = std::fs::read(format!("{model}/model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let at =
        header["model.layers.1.mlp.up_proj.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[8 + length + at..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(broken.join("model.safetensors"), bytes).unwrap();
    let out = dir.join("other.safetensors");
    let words = ["model.layers.1.mlp.up_proj.weight", "row 0"];
    refused(&["quantize", broken.to_str().unwrap(), "--to", "q4", out.to_str().unwrap()], &words);
    let left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["out.safetensors"]);
}

#[test]
fn files_that_are_no_gemma_are_refused() {
    let out = folder("no-gemma").join("out.safetensors").display().to_string();
    refused(
        &["quantize", &fixture("formats/tests/fixtures/small.gguf"), "--to", "q4", &out],
        &["small.gguf"],
    );
    refused(&["quantize", "absent", "--to", "q4", &out], &["absent", "no such file"]);
    let nowhere = format!("{out}/x/y.safetensors");
    refused(
        &["quantize", &format!("{}/model", golden(1)), "--to", "q4", &nowhere],
        &["y.safetensors"],
    );
}

#[test]
fn matrices_that_lose_too_much_get_eight_bits() {
    let model = format!("{}/model", golden(3));
    let layouts = |name: &str, limit: &str| -> Vec<String> {
        let (_, report) = quantized(name, &model, "q4", &["--q8-above", limit]);
        let all = report["tensors"].as_array().unwrap().iter();
        all.map(|t| t["layout"].as_str().unwrap().to_owned()).collect()
    };
    assert!(layouts("q8-above-0", "0").iter().all(|layout| layout.starts_with("q8")));
    assert!(layouts("q8-above-some", "0.5").iter().all(|layout| layout.starts_with("q4")));
    let out = folder("q8-above-wrong").join("m.safetensors").display().to_string();
    refused(&["quantize", &model, "--to", "q4", "--q8-above", "8", &out], &["0.08"]);
}
