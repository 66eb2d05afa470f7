//! Gemma 2B in full size on WebGPU's default limits, with made-up weights: one text scored and one
//! training step of eight rows of ETHOS's lengths. Minutes of a processor, gigabytes of disk, so
//! only under `cargo xtask test --real`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

mod command;

use std::path::Path;

use command::{folder, run_json};
use serde_json::Value;

/// Tokens of eight rows; with the 21 that they share counted once, 274, the mean of ETHOS.
const ROWS: &str = "45,36,97,55,38,38,68,44";
const HEAP: u64 = 64 << 20;

fn synth(dir: &Path, form: &str) -> String {
    let out = dir.join(form).display().to_string();
    let report = run_json(0, &["synth", "gemma-2b", "--as", form, &out]);
    assert_eq!(report["weights"], 2_506_172_416u64);
    out
}

fn bytes(part: &Value, key: &str) -> u64 {
    part[key].as_u64().unwrap()
}

/// Scores and trains, and holds what was taken against the plan.
fn scored_and_trained(model: &str, profile: &str) {
    let args = ["bench", "--model", model, "--profile", profile, "--step", ROWS];
    let report = &run_json(0, &args)["step"];
    println!("{model}: {report:#}");
    assert!(bytes(report, "load_heap_peak_bytes") <= HEAP);
    for part in ["score", "step"] {
        let part = &report[part];
        let (taken, planned) = (bytes(part, "gpu_bytes"), bytes(part, "planned_bytes"));
        assert!(taken < 2_500_000_000, "{part}");
        assert!((taken as f64 / planned as f64 - 1.0).abs() <= 0.05, "{part}");
        assert!(bytes(part, "heap_peak_bytes") <= HEAP, "{part}");
    }
    assert_eq!((bytes(report, "rows"), bytes(report, "tokens")), (8, 274));
    let share = |i: usize| report["scored"][i].as_f64().unwrap();
    assert!(share(0) > 0.0 && share(1) > 0.0 && (share(0) + share(1) - 1.0).abs() < 1e-5);
    // Made-up weights know nothing: the loss of two classes is some small number above 0.
    let loss = report["loss"].as_f64().unwrap();
    assert!(loss > 0.0 && loss < 10.0 && report["grad_norm"].as_f64().unwrap() > 0.0);
}

#[test]
fn gemma_2b_scores_and_trains_on_default_limits_in_two_and_a_half_gigabytes() {
    if !hearth_testing::slow() {
        return;
    }
    let dir = folder("gemma-2b");
    let gguf = synth(&dir, "gguf-q4_k_m");
    scored_and_trained(&gguf, "default");
    scored_and_trained(&synth(&dir, "hearth-q4"), "default");
    std::fs::remove_dir_all(dir.join("hearth-q4")).unwrap();

    // From bf16 the weights are quantized while they stream in.
    let bf16 = synth(&dir, "bf16-sharded");
    let how = ["--weights", "q4", "--choice", "--profile", "default", "--tokenizer", &gguf];
    let what = ["--text", "abc", "--continuation", "d", "--continuation", "x"];
    let report = run_json(0, &[&["score", "--model", &bf16], &how[..], &what[..]].concat());
    let heap = bytes(&report, "heap_peak_bytes");
    println!("from bf16: {report:#}");
    assert!(heap <= HEAP && bytes(&report, "gpu_bytes") < 1_500_000_000, "{report}");
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The same on a toy, so that the way through is tried every day.
#[test]
fn a_toy_scores_and_trains_the_same_way() {
    let dir = folder("toy-step");
    let out = dir.join("toy").display().to_string();
    run_json(0, &["synth", "tiny", "--as", "mlx-4bit", &out]);
    for profile in ["default", "full"] {
        let args = ["bench", "--model", &out, "--profile", profile, "--step", "45,36,97"];
        let report = &run_json(0, &args)["step"];
        assert_eq!((bytes(report, "rows"), bytes(report, "tokens")), (3, 21 + 24 + 15 + 76));
        let loss = report["loss"].as_f64().unwrap();
        assert!(loss > 0.0 && loss < 10.0, "{report}");
    }
    let short = ["bench", "--model", &out, "--step", "45,21"];
    command::refused(&short, &["--step", "21"]);
}
