//! Every command on small fixtures: what it prints, and how it ends.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod command;

use std::collections::BTreeSet;

use command::{fixture, folder, golden, hearth, model_with_tokenizer, refused, run, run_json};
use serde_json::Value;

#[test]
fn help_names_every_command() {
    let ran = run(&["--help"]);
    assert_eq!(ran.code, Some(0));
    for command in ["inspect", "generate", "score", "verify", "bench", "quantize", "adapters"] {
        assert!(ran.out.contains(command), "{command}");
        assert_eq!(run(&[command, "--help"]).code, Some(0));
    }
}

#[test]
fn adapters_are_listed_in_the_order_of_their_numbers() {
    let list = run_json(0, &["adapters"]);
    let adapters = list["adapters"].as_array().unwrap();
    assert!(!adapters.is_empty());
    for (number, adapter) in adapters.iter().enumerate() {
        assert_eq!(adapter["number"], number);
        assert!(!adapter["name"].as_str().unwrap().is_empty());
    }
    let words = run(&["adapters"]).out;
    assert_eq!(words.lines().count(), adapters.len());
    assert!(words.contains(adapters[0]["name"].as_str().unwrap()));
}

#[test]
fn inspect_tells_format_shapes_layouts_and_bytes() {
    let model = format!("{}/model", golden(2));
    let report = run_json(0, &["inspect", &model]);
    assert_eq!(report["format"], "safetensors");
    assert_eq!(report["config"]["family"], "Gemma 2");
    assert_eq!(report["config"]["attention_softcap"], 5.0);
    let embedding = &report["tensors"][0];
    assert_eq!(embedding["name"], "model.embed_tokens.weight");
    assert_eq!((&embedding["layout"], &embedding["stored_as"]), (&"f32".into(), &"F32".into()));
    assert_eq!(embedding["gpu_bytes"], embedding["stored_bytes"]);
    let sum = |key: &str| -> u64 {
        report["tensors"].as_array().unwrap().iter().map(|t| t[key].as_u64().unwrap()).sum()
    };
    assert_eq!(sum("stored_bytes"), report["stored_bytes"]);
    let planned = report["gpu"]["parts"][0][1].as_u64().unwrap();
    assert!(planned >= sum("gpu_bytes"), "{planned}");
    // Quantized while loading, the embedding takes 8.5 bits a weight.
    let report = run_json(0, &["inspect", &model, "--weights", "q8"]);
    assert_eq!(report["tensors"][0]["layout"], "q8-g32-f16");
    assert_eq!(report["tensors"][0]["gpu_bytes"], 512 * 64 / 32 * 34);

    let words = run(&["inspect", &model, &fixture("formats/tests/fixtures/tokenizer/tiny.gguf")]);
    // The second is a vocabulary only: it is refused in words, and the first is shown all the same.
    assert!(words.out.contains("Gemma 2") && words.out.contains("512 × 64"), "{}", words.out);
    assert!(words.err.contains("a vocabulary without weights"), "{}", words.err);
    assert_eq!(words.code, Some(2));
}

#[test]
fn inspect_shows_tensors_without_a_configuration() {
    let alone = folder("no-config").join("model.safetensors");
    std::fs::copy(format!("{}/model/model.safetensors", golden(1)), &alone).unwrap();
    let report = run_json(0, &["inspect", alone.to_str().unwrap()]);
    assert!(report["config"].is_null() && report["gpu"].is_null());
    assert!(
        report["config_error"].as_str().unwrap().contains("config.json"),
        "{}",
        report["config_error"]
    );
    assert!(report["tensors"].as_array().unwrap().len() >= 20);
}

#[test]
fn generate_streams_the_same_text_for_the_same_seed() {
    let model = model_with_tokenizer("generate");
    let base = ["generate", "--model", &model, "--prompt", "the quick", "--max-tokens", "12"];
    let with = |more: &[&'static str]| run_json(0, &[&base[..], more].concat());
    let greedy = with(&[]);
    assert_eq!(greedy["tokens"], with(&["--greedy"])["tokens"]);
    // What is streamed is the text.
    assert_eq!(run(&base).out, format!("{}\n", greedy["text"].as_str().unwrap()));
    assert!(greedy["end"] == "length" || greedy["end"] == "token");
    let drawn = ["--temperature", "1.5", "--top-k", "100", "--top-p", "0.99", "--seed", "5"];
    let first = with(&drawn);
    assert_eq!(first["tokens"], with(&drawn)["tokens"]);
    assert_ne!(first["tokens"], greedy["tokens"]);
    assert_ne!(first["tokens"], with(&["--temperature", "1.5", "--seed", "6"])["tokens"]);
    // Without a temperature, --top-k 1 is greedy again.
    assert_eq!(with(&["--top-k", "1"])["tokens"], greedy["tokens"]);

    for key in ["ready_seconds", "heap_peak_bytes", "gpu_bytes", "prefill_tokens_per_second"] {
        assert!(greedy[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert_eq!(greedy["profile"], "full");
    assert_eq!(with(&["--profile", "default"])["profile"], "default");
    let words = run(&[&base[..], &["--verbose"]].concat()).err;
    assert!(
        words.contains("ready") && words.contains("GPU memory") && words.contains("heap"),
        "{words}"
    );
}

#[test]
fn generate_reads_prompts_from_files_and_control_tokens_as_text() {
    let model = model_with_tokenizer("prompts");
    let prompt = folder("prompt-file").join("prompt.txt");
    std::fs::write(&prompt, "the <eos> end").unwrap();
    let file = prompt.to_str().unwrap();
    let count = |args: &[&str]| {
        let all = [&["generate", "--model", &model, "--max-tokens", "1"], args].concat();
        run_json(0, &all)["prompt_tokens"].as_u64().unwrap()
    };
    let parsed = count(&["--prompt-file", file]);
    assert_eq!(parsed, count(&["--prompt", "the <eos> end"]));
    assert!(count(&["--prompt-file", file, "--plain"]) > parsed);
}

#[test]
fn score_agrees_with_itself_over_ways_to_ask() {
    let model = model_with_tokenizer("score");
    let texts = folder("score-texts").join("texts.txt");
    std::fs::write(&texts, "the quick\n\nbrown fox\n").unwrap();
    let ask = ["--continuation", " the", "--continuation", " lazy dog", "--continuation", "!"];
    let file =
        [&["score", "--model", &model, "--file", texts.to_str().unwrap()], &ask[..]].concat();
    let rows = run_json(0, &file);
    assert_eq!(rows["rows"].as_array().unwrap().len(), 2);
    let one =
        run_json(0, &[&["score", "--model", &model, "--text", "brown fox"], &ask[..]].concat());
    assert_eq!(one["rows"][0]["text"], "brown fox");
    for (a, b) in [0, 1, 2]
        .map(|i| (&rows["rows"][1]["continuations"][i], &one["rows"][0]["continuations"][i]))
    {
        assert_eq!(a["tokens"], b["tokens"]);
        let log = |v: &Value| v["log_probability"].as_f64().unwrap();
        assert!((log(a) - log(b)).abs() < 1e-5 && log(a) < 0.0);
        assert!((log(a).exp() - a["probability"].as_f64().unwrap()).abs() < 1e-9);
    }
    let shares: Vec<f64> = one["rows"][0]["continuations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["share"].as_f64().unwrap())
        .collect();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
    let words = run(&file).out;
    assert!(words.contains("\" lazy dog\"") && words.contains("log p"), "{words}");
}

#[test]
fn verify_passes_on_the_twins_on_both_profiles() {
    for family in 1..=3 {
        for profile in ["default", "full"] {
            let report = run_json(
                0,
                &["verify", &golden(family), "--profile", profile, "--only", "forward"],
            );
            assert_eq!(
                (&report["profile"], &report["precision"]),
                (&profile.into(), &"f32".into())
            );
            let rows = report["rows"].as_array().unwrap();
            assert!(rows.len() >= 7, "{rows:?}");
            for row in rows {
                assert_eq!(row["ok"], true, "{row}");
                assert!(
                    row["relative"].as_f64().unwrap() <= 1e-4
                        && row["max_abs"].is_f64()
                        && row["limit"].is_f64()
                );
            }
        }
    }
}

#[test]
fn verify_compares_gradients_and_adam_steps_too() {
    let report = run_json(0, &["verify", &golden(1), "--only", "lora"]);
    let rows = report["rows"].as_array().unwrap();
    let named =
        |part: &str| rows.iter().filter(|row| row["name"].as_str().unwrap().contains(part)).count();
    assert!(named("loss") >= 2 && named("lora_A.grad") >= 14 && named("fullseq") > 10, "{rows:?}");
    assert!(rows.iter().all(|row| row["ok"] == true), "{rows:?}");
    // With everything kept, and with everything computed again.
    assert!(named("(recomputed)") > 50 && 2 * named("(recomputed)") == rows.len(), "{rows:?}");
}

#[test]
fn verify_gives_gradients_in_both_modes_on_both_profiles() {
    for profile in ["default", "full"] {
        for family in [2, 3] {
            let report =
                run_json(0, &["verify", &golden(family), "--only", "lora", "--profile", profile]);
            assert_eq!(report["profile"], profile);
        }
    }
}

/// Weights in fewer bits have a budget of their own, and the strict one beside it shows that they
/// were rounded.
#[test]
fn verify_holds_rounded_weights_to_their_probabilities() {
    // Four bits are too few for random weights: the budget can be missed.
    for (precision, least, code) in [("f16", 1e-4, 0), ("q8", 1e-3, 0), ("q4", 1e-2, 1)] {
        let report = run_json(code, &["verify", &golden(3), "--precision", precision]);
        assert_eq!(report["precision"], precision);
        let rows = report["rows"].as_array().unwrap();
        assert!(!rows.is_empty(), "{report}");
        for row in rows {
            assert!(row["name"].as_str().unwrap().ends_with("probabilities_last"), "{row}");
            assert!(row["limit"] == 0.01 && row["max_abs"].as_f64().unwrap() > 0.0, "{row}");
        }
        let strict = report["strict"].as_array().unwrap();
        let logits = strict.iter().find(|row| row["name"] == "seq0.logits").unwrap();
        assert!(logits["relative"].as_f64().unwrap() > least, "{precision}: {logits}");
    }
    refused(
        &["verify", &golden(3), "--precision", "q8", "--only", "lora"],
        &["forward.safetensors", "f32 only"],
    );
    refused(&["verify", &golden(3), "--precision", "dp4a"], &["dp4a", "f32, f16, q8, q4"]);
}

#[test]
fn a_model_that_does_not_fit_is_refused_before_loading() {
    let model = format!("{}/model", golden(3));
    let words = ["weights take", "MB on the device", "0.1 MB are available", "hearth quantize"];
    refused(&["verify", &golden(3), "--gpu-memory", "0.0001"], &words);
    refused(&["bench", "--model", &model, "--gpu-memory", "0.0001"], &words);
    run_json(0, &["verify", &golden(3), "--gpu-memory", "0.1", "--only", "forward"]);
}

/// A golden folder whose weights or numbers are changed a little.
fn changed(name: &str, file: &str, change: impl Fn(&mut Vec<u8>)) -> String {
    let target = folder(name);
    std::fs::create_dir(target.join("model")).unwrap();
    for part in
        ["golden.json", "forward.safetensors", "model/config.json", "model/model.safetensors"]
    {
        std::fs::copy(format!("{}/{part}", golden(1)), target.join(part)).unwrap();
    }
    let mut bytes = std::fs::read(target.join(file)).unwrap();
    change(&mut bytes);
    std::fs::write(target.join(file), bytes).unwrap();
    target.display().to_string()
}

#[test]
fn verify_fails_where_a_number_is_off() {
    // One logit gets the other sign.
    let other = changed("other-number", "forward.safetensors", |bytes| {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let end = header["seq0.logits"]["data_offsets"][1].as_u64().unwrap() as usize;
        bytes[8 + length + end - 1] ^= 0x80;
    });
    let report = run_json(1, &["verify", &other]);
    let failed = report["rows"].as_array().unwrap().iter().filter(|row| row["ok"] == false).count();
    assert_eq!(failed, 1);
    let ran = run(&["verify", &other]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.out.lines().filter(|line| line.starts_with("OVER")).count(), 1, "{}", ran.out);
    // Another epsilon of the norms moves everything.
    let other = changed("other-model", "model/config.json", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["rms_norm_eps"] = 0.01.into();
        *bytes = config.to_string().into_bytes();
    });
    run_json(1, &["verify", &other]);
}

#[test]
fn verify_compares_tokenizers() {
    let model = model_with_tokenizer("verify-tokenizer");
    let folder = folder("tokenizer-golden");
    let write = |ids: &str| {
        let golden = serde_json::json!({ "description": "", "model": model });
        std::fs::write(folder.join("golden.json"), golden.to_string()).unwrap();
        let cases = format!(
            r#"{{"cases": [{{"text": "", "ids": [2]}}, {{"text": "<eos>", "ids": {ids}}}]}}"#
        );
        std::fs::write(folder.join("tokenizer_cases.json"), cases).unwrap();
        folder.to_str().unwrap()
    };
    run_json(0, &["verify", write("[2, 1]")]);
    let report = run_json(1, &["verify", write("[2, 2]")]);
    assert_eq!(report["rows"][0]["max_abs"], 1.0);
}

#[test]
fn bench_measures_every_tile_and_a_model() {
    let report = run_json(
        0,
        &["bench", "--shape", "5x24x64,64x64x64", "--layout", "f32,q4", "--repeat", "1"],
    );
    let gemm = report["gemm"].as_array().unwrap();
    assert_eq!(gemm.len(), 2 * 2 * hearth_kernels::variants::TILES.len());
    assert!(gemm.iter().all(|g| g["gflops"].as_f64().unwrap() > 0.0));
    assert!(report["model"].is_null());
    let model = format!("{}/model", golden(1));
    let report = run_json(0, &["bench", "--model", &model, "--prefill", "20", "--decode", "3"]);
    assert!(report["gemm"].is_null());
    for key in ["prefill_tokens_per_second", "decode_tokens_per_second", "load_seconds"] {
        assert!(report["model"][key].as_f64().unwrap() > 0.0, "{key}");
    }
}

#[test]
fn the_suite_measures_everything_and_keeps_what_it_has() {
    let folder = folder("suite");
    let out = folder.join("figures.json");
    let suite = |deadline: &str| {
        let out = out.to_str().unwrap();
        let args =
            ["bench", "--suite", "--synthetic", "tiny", "--deadline", deadline, "--out", out];
        let printed = run_json(0, &args);
        let written: Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
        assert_eq!(printed, written);
        written
    };
    let report = suite("600");
    let phases = report["phases"].as_array().unwrap();
    let result = |name: &str| {
        let phase = phases.iter().find(|phase| phase["name"] == name).unwrap();
        assert!(phase["error"].is_null(), "{phase}");
        phase["result"].clone()
    };
    assert!(result("device")["limits"]["maxStorageBufferBindingSize"].as_u64().unwrap() >= 1 << 27);
    let peak = result("ceilings")["f32_gflops"].as_f64().unwrap();
    let variants = result("variants");
    let variants = variants.as_array().unwrap();
    assert!(variants.len() > hearth_kernels::variants::TILES.len());
    assert!(variants.iter().all(|variant| variant["right"] == true), "{variants:?}");
    for shape in result("gemm").as_array().unwrap() {
        let share = shape["of_peak"].as_f64().unwrap();
        let best = shape["best"].as_f64().unwrap();
        assert!((share - best / peak).abs() < 1e-9 && shape["backward"].as_f64().unwrap() > 0.0);
    }
    for model in ["gemma-3-270m", "gemma-2b"] {
        let steps = result(model);
        let launches = steps["by_kernel"].as_array().unwrap().iter();
        let launches: u64 = launches.map(|kernel| kernel["launches"].as_u64().unwrap()).sum();
        assert!(launches > 0 && steps["dispatches"] == launches, "{steps}");
        assert!(steps["rows_per_second"].as_f64().unwrap() > 0.0);
        assert!(steps["scored_rows"].as_u64().unwrap() >= 64);
    }
    let late = suite("0");
    assert!(late["phases"].as_array().unwrap().iter().all(|phase| phase["skipped"].is_string()));
}

/// The first Ctrl-C asks, and the command ends with 130.
#[test]
#[cfg(unix)]
fn ctrl_c_ends_with_130() {
    use std::io::Read;
    let args = ["bench", "--shape", "64x64x64", "--repeat", "1000", "--json"];
    let mut child = hearth().args(args).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // Opening the device takes a while; whenever the signal comes, it is heard.
    let pid = child.id().to_string();
    let mut interrupted = || {
        std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
        std::thread::park_timeout(std::time::Duration::from_millis(300));
        child.try_wait().unwrap()
    };
    std::thread::park_timeout(std::time::Duration::from_millis(1000));
    let status = (0..100).find_map(|_| interrupted()).expect("the command ends");
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!(status.code(), Some(130), "{words}");
}

/// Launches of a training step of eight short rows, whatever the weights' layout.
fn outlined(model: &str) -> Value {
    let lengths = "45,36,97,55,68,38,128,38";
    let args = ["bench", "--synthetic", model, "--step", lengths, "--memory", "64", "--outline"];
    run_json(0, &args)["outline"].clone()
}

#[test]
fn a_step_is_counted_on_a_model_that_no_device_here_holds() {
    for (model, dispatches, iterations) in
        [("gemma-3-270m", 520, 25_000), ("gemma-2b", 500, 99_000)]
    {
        let counted = outlined(model);
        assert!(counted["dispatches"].as_u64().unwrap() <= dispatches, "{model}: {counted}");
        let serial = counted["critical_iterations"].as_u64().unwrap();
        assert!((1000..=iterations).contains(&serial), "{model}: {counted}");
    }
}

#[test]
fn listed_shaders_are_all_kernels_with_what_compiles_them() {
    let file = folder("shaders").join("list.json");
    assert_eq!(run(&["bench", "--list-shaders", file.to_str().unwrap()]).code, Some(0));
    let list: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut entries = BTreeSet::new();
    for shader in &list {
        let entry = shader["entry"].as_str().unwrap();
        assert!(shader["wgsl"].as_str().unwrap().contains(&format!("fn {entry}(")), "{entry}");
        entries.insert(entry);
    }
    let shaders = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shaders")).unwrap();
    let files = shaders.filter(|file| file.as_ref().unwrap().path().is_file()).count();
    assert_eq!(entries.len(), files, "{entries:?}");
}
