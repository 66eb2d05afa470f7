//! `hearth export`: what it writes answers as the classifier does, and others can train the task.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod command;

use std::path::{Path, PathBuf};
use std::process::Command;

use command::{fixture, folder, golden, refused, run, run_json};
use serde_json::Value;

const QUESTION: &str = "Is the writer happy";

fn moods() -> [String; 2] {
    [fixture("../web/fixtures/moods.csv"), fixture("../web/fixtures/tiny-gemma3.gguf")]
}

/// What makes the task of the page's fixtures.
fn flags() -> Vec<String> {
    let [data, model] = moods();
    let words = ["--word", "happy=Yes", "--word", "sad=No", "--positive", "happy"];
    let recipe = ["--lr", "0.01", "--epochs", "2", "--seed", "3"];
    let mut all = vec![data, "--model".to_owned(), model];
    all.extend(["--question", QUESTION].map(str::to_owned));
    all.extend(words.iter().chain(&recipe).map(|&flag| flag.to_owned()));
    all
}

fn with<'a>(first: &[&'a str], flags: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    [first, &flags.iter().map(String::as_str).collect::<Vec<_>>()[..], more].concat()
}

fn at(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

fn names(folder: &str) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    all
}

/// Shares of yes among yes and no that a model gives to texts, with no adapter.
fn shares(model: &str, tokenizer: &str, texts: &[&str]) -> Vec<f64> {
    let prompt =
        |text: &&str| format!("{QUESTION}:[No,Yes]<separator>Text:{text}<separator>Prediction:");
    let prompts: Vec<String> = texts.iter().map(prompt).collect();
    let mut args = vec!["score", "--model", model, "--tokenizer", tokenizer, "--choice", "--plain"];
    prompts.iter().for_each(|prompt| args.extend(["--text", prompt]));
    args.extend(["--continuation", "Yes", "--continuation", "No"]);
    let report = run_json(0, &args);
    let share = |row: &Value| row["continuations"][0]["share"].as_f64().unwrap();
    report["rows"].as_array().unwrap().iter().map(share).collect()
}

#[test]
fn a_merged_model_answers_as_its_classifier_does() {
    let dir = folder("export-merged");
    let [_, model] = moods();
    let out = at(&dir, "run");
    let report = run_json(0, &with(&["train"], &flags(), &["--no-zero-shot", "--out", &out]));
    let temperature = report["temperature"].as_f64().unwrap();
    let texts = ["i like this so much", "what a sad day", "the soup is nice for me", "so grim"];
    std::fs::write(dir.join("texts.txt"), texts.join("\n")).unwrap();
    let predict = ["predict", &at(&dir, "texts.txt"), "--lines", "--classifier", &out, "--model"];
    let predicted = run_json(0, &[&predict[..], &[&model]].concat());
    let happy = predicted["classes"].as_array().unwrap().iter().position(|c| c == "happy").unwrap();
    // a model knows nothing of the temperature
    let unscaled = |row: &Value| {
        let p = |class: usize| row["probabilities"][class].as_f64().unwrap().powf(temperature);
        p(happy) / (p(0) + p(1))
    };
    let expected: Vec<f64> = predicted["rows"].as_array().unwrap().iter().map(unscaled).collect();
    let off =
        |found: &[f64]| found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let untrained = off(&shares(&model, &model, &texts));
    assert!(untrained > 0.05, "the adapter changes nothing that could be seen: {untrained}");

    let merged = ["export", "--classifier", &out, "--merged", "--model", &model];
    let mut errors = Vec::new();
    for (form, number, limit) in [
        ("safetensors", "f32", 1e-5),
        ("gguf", "f32", 1e-5),
        ("safetensors", "f16", 1e-3),
        ("gguf", "f16", 1e-3),
        ("gguf", "q8_0", 2e-2),
        ("gguf", "q4_0", 0.3),
    ] {
        let path = at(&dir, &format!("{form}-{number}"));
        let path = if form == "gguf" { format!("{path}.gguf") } else { path };
        let args = [&merged[..], &["--as", form, "--to", number, "--out", &path]].concat();
        let report = run_json(0, &args);
        let found = off(&shares(&path, &model, &texts));
        assert!(found <= limit, "{form} {number}: {found}");
        let tensors = report["tensors"].as_array().unwrap();
        let changed = tensors.iter().filter(|t| t["change"].as_f64().unwrap() > 0.0).count();
        assert_eq!((tensors.len(), changed), (1 + 3 * 7, 3 * 7), "{form} {number}");
        if form == "gguf" {
            assert_eq!(report["bytes"], std::fs::metadata(&path).unwrap().len());
            errors.push(report["relative"].as_f64().unwrap());
            // the vocabulary came along
            let inspected = run(&["inspect", &path]);
            assert!(inspected.out.contains("576 tokens"), "{}", inspected.out);
        } else {
            assert_eq!(names(&path), ["config.json", "model.safetensors"]);
        }
    }
    assert!(errors.is_sorted() && errors[0] == 0.0 && errors[3] < 0.1, "{errors:?}");

    // nothing is overwritten by accident
    let path = at(&dir, "gguf-f16.gguf");
    refused(&[&merged[..], &["--as", "gguf", "--out", &path]].concat(), &["exists", "--force"]);
    let path = at(&dir, "safetensors-f16");
    refused(&[&merged[..], &["--as", "safetensors", "--out", &path]].concat(), &["--force"]);
    // what cannot be
    let path = at(&dir, "no");
    let to = |form, number| [&merged[..], &["--as", form, "--to", number, "--out", &path]].concat();
    refused(&to("safetensors", "q8_0"), &["Q8_0", "GGUF"]);
    refused(&to("peft", "f16"), &["adapter alone"]);
    assert!(!Path::new(&path).exists());
    // another model has other matrices
    let other = format!("{}/model", golden(1));
    let args =
        ["export", "--classifier", &out, "--merged", "--model", &other, "--as", "safetensors"];
    refused(&[&args[..], &["--out", &path]].concat(), &["base model"]);

    // the adapter alone
    let path = at(&dir, "peft");
    let args = ["export", "--classifier", &out, "--as", "peft", "--out", &path];
    assert_eq!(run(&[&args[..], &["--base-model", "google/gemma-3-270m"]].concat()).code, Some(0));
    assert_eq!(names(&path), ["README.md", "adapter_config.json", "adapter_model.safetensors"]);
    let read = |path: &str| std::fs::read(path).unwrap();
    assert_eq!(
        read(&format!("{path}/adapter_model.safetensors")),
        read(&format!("{out}/adapter/adapter_model.safetensors"))
    );
    let config: Value =
        serde_json::from_slice(&read(&format!("{path}/adapter_config.json"))).unwrap();
    assert_eq!(config["base_model_name_or_path"], "google/gemma-3-270m");
    for card in [format!("{path}/README.md"), format!("{out}/adapter/README.md")] {
        let card = String::from_utf8(read(&card)).unwrap();
        for part in [
            "license: gemma",
            "`happy`",
            "| `rank` | `8` |",
            "ROC-AUC",
            "ai.google.dev/gemma/terms",
        ] {
            assert!(card.contains(part), "{part:?} is missing in {card}");
        }
    }
    let path = at(&dir, "adapter.gguf");
    assert_eq!(
        run(&["export", "--classifier", &out, "--as", "gguf", "--out", &path]).code,
        Some(0)
    );
    refused(&["inspect", &path], &["LoRA adapter"]);
    refused(
        &["export", "--classifier", &out, "--as", "safetensors", "--out", &path],
        &["--merged"],
    );
}

#[test]
fn half_a_command_says_what_is_missing() {
    refused(&["export"], &["nothing to export", "--trainer"]);
    refused(&["export", "--merged", "--classifier", "x"], &["--as"]);
    refused(&["export", "--classifier", "x", "--as", "gguf"], &["--out"]);
    refused(&["export", "data.csv"], &["--trainer"]);
    refused(&["export", "--trainer", "x"], &["DATA"]);
    refused(&["export", "--classifier", "absent", "--as", "peft", "--out", "x"], &["absent"]);
}

/// The tiny twin as a folder, with the small tokenizer, and a scale of attention that GGUF readers take.
fn twin(name: &str, scalar: u64) -> PathBuf {
    let dir = folder(name);
    let from = format!("{}/model", golden(3));
    std::fs::copy(format!("{from}/model.safetensors"), dir.join("model.safetensors")).unwrap();
    let config = std::fs::read_to_string(format!("{from}/config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["query_pre_attn_scalar"] = scalar.into();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let tokenizer = fixture("classifier/tests/fixtures/tokenizer.json");
    std::fs::copy(tokenizer, dir.join("tokenizer.json")).unwrap();
    dir
}

#[test]
fn a_safetensors_model_becomes_gguf_with_its_tokenizer() {
    let dir = folder("export-to-gguf");
    let rows: String = (0..40)
        .map(|i| {
            let [word, label] = [["good", "Positive"], ["bad", "Negative"]][i % 2];
            format!("it was {word} on day {i},{label}\n")
        })
        .collect();
    std::fs::write(dir.join("data.csv"), "text,label\n".to_owned() + &rows).unwrap();
    for (scalar, fits) in [(32, true), (24, false)] {
        let model = twin(&format!("export-to-gguf-{scalar}"), scalar).display().to_string();
        let out = at(&dir, &format!("run-{scalar}"));
        let data = at(&dir, "data.csv");
        let train = ["train", &data, "--model", &model, "--positive", "Positive", "--epochs", "1"];
        let more = ["--question", "Good", "--drop-bad", "--split", "0.5", "--out", &out];
        run_json(0, &[&train[..], &more].concat());
        let path = at(&dir, &format!("{scalar}.gguf"));
        let args = ["export", "--classifier", &out, "--merged", "--model", &model, "--as", "gguf"];
        let args = [&args[..], &["--to", "f32", "--out", &path]].concat();
        if !fits {
            refused(&args, &["attention scale", "safetensors"]);
            continue;
        }
        run_json(0, &args);
        // the folder is scored with its tokenizer.json, the file with what it became
        let folder = at(&dir, "folder");
        let args = ["export", "--classifier", &out, "--merged", "--model", &model, "--to", "f32"];
        run_json(0, &[&args[..], &["--as", "safetensors", "--out", &folder]].concat());
        assert_eq!(names(&folder), ["config.json", "model.safetensors", "tokenizer.json"]);
        let texts = ["--text", "it was good, so nice", "--text", "<eos>é\n\nthe day"];
        let scores = |model: &str| {
            let args =
                [&["score", "--model", model, "--continuation", " good"], &texts[..]].concat();
            let report = run_json(0, &args);
            let log = |i: usize| {
                let found = &report["rows"][i]["continuations"][0];
                (found["tokens"].clone(), found["log_probability"].as_f64().unwrap())
            };
            [log(0), log(1)]
        };
        for (a, b) in scores(&folder).iter().zip(&scores(&path)) {
            assert_eq!(a.0, b.0);
            assert!((a.1 - b.1).abs() < 1e-5, "{a:?} {b:?}");
        }
    }
}

#[test]
fn a_task_for_a_cluster_holds_the_steps_of_hearth() {
    let dir = folder("export-trainer");
    let task = at(&dir, "task");
    let report = run_json(0, &with(&["export"], &flags(), &["--trainer", &task]));
    assert_eq!((&report["rows"], &report["test_rows"]), (&128.into(), &40.into()));
    let expected =
        ["README.md", "requirements.txt", "rows.jsonl", "start", "task.json", "train.py"];
    assert_eq!(names(&task), expected);
    let json: Value =
        serde_json::from_slice(&std::fs::read(format!("{task}/task.json")).unwrap()).unwrap();
    let text = std::fs::read_to_string(format!("{task}/rows.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let part = |part: &str| rows.iter().filter(|row| row["part"] == part).collect::<Vec<_>>();
    assert_eq!([part("train").len(), part("validation").len(), part("test").len()], [128, 32, 40]);
    // every epoch has every training row once
    let batches = json["batches"].as_array().unwrap();
    let steps = json["steps_per_epoch"].as_u64().unwrap() as usize;
    assert_eq!((batches.len(), json["rates"].as_array().unwrap().len()), (32, 32));
    for epoch in batches.chunks(steps) {
        let ids = epoch.iter().flat_map(|batch| batch.as_array().unwrap());
        let mut ids: Vec<u64> = ids.map(|id| id.as_u64().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..128).collect::<Vec<u64>>());
    }
    assert_ne!(batches[0], batches[steps]);
    // the exact prompt, and its last token as the place of the answer
    let row = part("train")[0];
    let prompt = row["prompt"].as_str().unwrap();
    assert!(prompt.starts_with(&format!("{QUESTION}:[No,Yes]<separator>Text:")), "{prompt}");
    assert!(prompt.contains(row["text"].as_str().unwrap()));
    let last = row["ids"].as_array().unwrap().len() as u64 - 1;
    assert_eq!(row["targets"], serde_json::json!([[last, row["class"]]]));
    assert!(part("test").iter().all(|row| row.get("targets").is_none()));
    // another loss has an answer behind the prompt
    let other = at(&dir, "label");
    run_json(0, &with(&["export"], &flags(), &["--loss", "label", "--trainer", &other]));
    let text = std::fs::read_to_string(format!("{other}/rows.jsonl")).unwrap();
    let longer: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let tokens = json["class_tokens"][row["class"].as_u64().unwrap() as usize].clone();
    assert_eq!(longer["targets"], serde_json::json!([[last, tokens], [last + 1, 1]]));
    // the same command gives the same task, and nothing is overwritten by accident
    let again = at(&dir, "again");
    run_json(0, &with(&["export"], &flags(), &["--trainer", &again]));
    for name in ["rows.jsonl", "start/adapter_model.safetensors"] {
        let read = |task: &str| std::fs::read(format!("{task}/{name}")).unwrap();
        assert!(read(&task) == read(&again), "{name} differs");
    }
    refused(&with(&["export"], &flags(), &["--trainer", &task]), &["exists", "--force"]);
}

#[test]
fn other_programs_give_the_same_numbers() {
    // those of the exported requirements
    let packages = ["torch", "transformers", "peft", "accelerate", "gguf", "safetensors"];
    let Some(python) = hearth_testing::python_with(&packages) else { return };
    let dir = folder("export-check");
    let script = fixture("../tools/export_check.py");
    // the script starts the program itself, so its driver has to be the system's
    let ran = Command::new(python)
        .args([&script, env!("CARGO_BIN_EXE_hearth"), &dir.display().to_string()])
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ran.status.success(), "{}{}", text(&ran.stdout), text(&ran.stderr));
    let compared = text(&ran.stdout).lines().filter(|line| line.contains(" limit ")).count();
    assert!(compared >= 14, "{}", text(&ran.stdout));
}
