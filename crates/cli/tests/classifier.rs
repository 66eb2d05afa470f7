//! From a table to a classifier and its predictions, by the commands alone, on a tiny model.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod command;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use command::{fixture, folder, golden, hearth, refused, run, run_json};
use serde_json::Value;

/// Sentences whose one telling word says the class, every fourth of them to test.
fn table(path: &Path) {
    let words = [["bad", "poor", "sad"], ["good", "nice", "fine"]];
    let fronts = ["the film was so", "this day is", "it was", "the day is so", "=and it is"];
    let mut text = "text,label,split\n".to_owned();
    for i in 0..120 {
        let (class, split) = (i % 2, if i / 2 % 4 == 3 { "test" } else { "train" });
        let word = words[class][i / 2 % 3];
        let label = ["Negative", "Positive"][class];
        // no text of a test row is in training: such a row would not be measured
        let end = if split == "test" { " this day" } else { "" };
        text += &format!("{} {word}{end},{label},{split}\n", fronts[i / 2 % 5]);
    }
    std::fs::write(path, text).unwrap();
}

/// A folder with `data.csv`, the tiny model with the small tokenizer, and the flags for them.
fn setup(name: &str) -> (PathBuf, Vec<String>) {
    let folder = folder(name);
    std::fs::create_dir_all(folder.join("model")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(format!("{}/model/{file}", golden(3)), folder.join("model").join(file))
            .unwrap();
    }
    std::fs::copy(
        fixture("classifier/tests/fixtures/tokenizer.json"),
        folder.join("model/tokenizer.json"),
    )
    .unwrap();
    table(&folder.join("data.csv"));
    let at = |name: &str| folder.join(name).display().to_string();
    let flags = [
        &at("data.csv"),
        "--model",
        &at("model"),
        "--text",
        "text",
        "--label",
        "label",
        "--split",
        "split",
        "--positive",
        "Positive",
        "--question",
        "Is this good",
        "--word",
        "Positive=Yes",
        "--word",
        "Negative=No",
        "--lr",
        "0.01",
        "--seed",
        "3",
    ];
    (folder.clone(), flags.map(str::to_owned).to_vec())
}

fn args<'a>(command: &'a str, flags: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    [&[command], &flags.iter().map(String::as_str).collect::<Vec<_>>()[..], more].concat()
}

#[test]
fn train_eval_and_predict() {
    let (folder, flags) = setup("classifier-train");
    let at = |name: &str| folder.join(name).display().to_string();
    let (out, model) = (at("run"), at("model"));
    let report = run_json(0, &args("train", &flags, &["--epochs", "6", "--out", &out]));
    assert!(report["auc"].as_f64().unwrap() > 0.9, "{report}");
    assert!(report["zero_shot"]["auc"].as_f64().unwrap() < 0.65, "{}", report["zero_shot"]);
    assert_eq!((&report["rows"], &report["validation_rows"]), (&72.into(), &18.into()));
    assert_eq!((&report["epochs"], &report["test_rows"]), (&6.into(), &30.into()));
    assert_eq!(report["history"]["epochs"].as_array().unwrap().len(), 6);
    assert!(report["seconds"].as_f64().unwrap() > 0.0 && report["f1"].is_f64());
    for file in [
        "classifier.hearth",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "metrics.json",
    ] {
        assert!(Path::new(&out).join(file).is_file(), "{file}");
    }
    let html = std::fs::read_to_string(format!("{out}/report.html")).unwrap();
    assert!(html.contains("hearth train") && html.contains("default-src 'none'"));
    let csv = std::fs::read_to_string(format!("{out}/predictions.csv")).unwrap();
    assert_eq!(csv.lines().count(), 31);
    assert!(csv.contains("\"=and it is"), "texts are as they were");

    // a second run does not write over the first
    refused(&args("train", &flags, &["--out", &out]), &["already", "--resume", "--force"]);

    // the same figures from the file
    let eval = ["--classifier", &out, "--model", &model, "--label", "label", "--split", "split"];
    let again = run_json(0, &[&["eval", &at("data.csv")], &eval[..]].concat());
    for figure in ["f1", "auc", "accuracy"] {
        assert_eq!(again[figure], report[figure], "{figure}");
    }

    // the kept prefix changes nothing but the work
    let checked = run_json(0, &[&["eval", &at("data.csv"), "--check-prefix"], &eval[..]].concat());
    let check = &checked["prefix_check"];
    assert!(check["max_difference"].as_f64().unwrap() <= 1e-4, "{check}");
    assert!(check["tokens"].as_u64() < check["whole_tokens"].as_u64(), "{check}");

    // predictions of a table, and of lines
    std::fs::write(folder.join("new.csv"), "id,text\n1,it was so good\n2,\n3,this day is bad\n")
        .unwrap();
    let predict = ["--classifier", &out, "--model", &model];
    let ran = run(&[&["predict", &at("new.csv")], &predict[..]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], r#""id","text","prediction","p(Negative)","p(Positive)""#);
    assert!(lines[1].starts_with(r#"1,"it was so good","Positive",0."#), "{}", ran.out);
    assert!(
        lines[2].starts_with(r#"2,"","#)
            && ran.err.contains("1 row has no text and gets no prediction")
    );
    assert!(lines[3].contains("Negative"), "{}", ran.out);
    let mut child = hearth()
        .args([&["predict", "-", "--lines", "--json"], &predict[..]].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"it was nice\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["rows"][0]["prediction"], "Positive");
    assert_eq!(json["classes"], serde_json::json!(["Negative", "Positive"]));
}

/// Waits until a snapshot lies in the folder.
fn wait_for_snapshot(out: &Path) {
    let start = Instant::now();
    while !["snapshot-0", "snapshot-1"].iter().any(|name| out.join(name).is_file()) {
        assert!(start.elapsed() < Duration::from_secs(120), "no snapshot");
        #[expect(clippy::disallowed_methods, reason = "this test is native")]
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(unix)]
#[test]
fn a_killed_run_resumes_to_the_same_figures() {
    let (folder, flags) = setup("classifier-kill");
    let whole = folder.join("whole").display().to_string();
    let more = ["--epochs", "8", "--no-zero-shot", "--out"];
    let report = run_json(0, &args("train", &flags, &[&more[..], &[&whole]].concat()));
    let killed = folder.join("killed");
    let out = killed.display().to_string();
    let all = args("train", &flags, &[&more[..], &[&out]].concat());
    let mut child = hearth().args(&all).stderr(Stdio::null()).spawn().unwrap();
    wait_for_snapshot(&killed);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!killed.join("metrics.json").exists(), "it was killed too late to prove anything");
    refused(&all, &["snapshot-", "--resume"]);
    let other = [&all[..], &["--resume", "--rank", "4"]].concat();
    refused(&other, &["another run", "rank was 8, now 4"]);
    let other = [&all[..], &["--resume", "--weights", "q8"]].concat();
    refused(&other, &["another run", "the weights were held as f32, now as q8-g32-f16"]);
    // a copy of the folder is ended as it stands, with other weights than it was trained with
    let ended = folder.join("ended").display().to_string();
    std::fs::create_dir_all(&ended).unwrap();
    for slot in ["snapshot-0", "snapshot-1"].iter().filter(|slot| killed.join(slot).exists()) {
        std::fs::copy(killed.join(slot), Path::new(&ended).join(slot)).unwrap();
    }
    let finish =
        ["--epochs", "8", "--no-zero-shot", "--weights", "q8", "--finish", "--out", &ended];
    let best = run_json(0, &args("train", &flags, &finish));
    let epochs = best["history"]["epochs"].as_array().unwrap();
    assert!((1..8).contains(&epochs.len()), "{epochs:?}");
    assert_eq!(epochs[..], report["history"]["epochs"].as_array().unwrap()[..epochs.len()]);
    let resumed = run_json(0, &[&all[..], &["--resume"]].concat());
    assert_eq!(resumed["history"], report["history"]);
    for figure in ["f1", "auc", "temperature", "tokens"] {
        assert_eq!(resumed[figure], report[figure], "{figure}");
    }
    let adapter =
        |out: &str| std::fs::read(format!("{out}/adapter/adapter_model.safetensors")).unwrap();
    assert!(adapter(&out) == adapter(&whole), "the adapters differ");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_a_snapshot() {
    let (folder, flags) = setup("classifier-interrupt");
    let out = folder.join("run");
    let shown = out.display().to_string();
    let all = args("train", &flags, &["--epochs", "200", "--no-zero-shot", "--out", &shown]);
    let child = hearth().args(&all).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_snapshot(&out);
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let words = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{words}");
    assert!(words.contains("--resume continues"), "{words}");
}

#[test]
fn a_sweep_trains_each_size_once_and_resumes() {
    let (folder, flags) = setup("classifier-sweep");
    let out = folder.join("sweep").display().to_string();
    let more = ["--epochs", "3", "--sizes", "20,60", "--seeds", "1,2", "--out", &out];
    let report = run_json(0, &args("sweep", &flags, &more));
    let points = report["points"].as_array().unwrap();
    assert_eq!(points.len(), 12);
    assert!(points.iter().all(|p| p["auc"].is_f64()));
    for file in ["f1.svg", "auc.svg", "report.html", "sweep.json"] {
        assert!(Path::new(&out).join(file).is_file(), "{file}");
    }
    // what is done is not done again, what is missing is
    let mut kept: Value =
        serde_json::from_slice(&std::fs::read(format!("{out}/sweep.json")).unwrap()).unwrap();
    kept["points"].as_array_mut().unwrap().truncate(9);
    std::fs::write(format!("{out}/sweep.json"), kept.to_string()).unwrap();
    let resumed = run_json(0, &args("sweep", &flags, &[&more[..], &["--resume"]].concat()));
    assert_eq!(resumed["points"], report["points"]);
    refused(&args("sweep", &flags, &more), &["already", "--resume"]);
    let resume = |other: &[&'static str]| [&more[..], &["--resume"], other].concat();
    let refused = |other: &[&'static str], words: &[&str]| {
        refused(&args("sweep", &flags, &resume(other)), words);
    };
    refused(&["--weights", "f16"], &["the weights were held as f32, now as f16"]);
    refused(&["--profile", "default"], &["the device limits were full, now they are default"]);
    refused(&["--rank", "2"], &["rank was 8, now 2"]);
}

#[test]
fn bad_input_is_refused_with_what_to_do() {
    let (folder, flags) = setup("classifier-bad");
    let out = folder.join("run").display().to_string();
    let with = |from: &str, to: &str| -> Vec<String> {
        flags.iter().map(|f| if f == from { to.to_owned() } else { f.clone() }).collect()
    };
    let check = |flags: &[String], more: &[&str], words: &[&str]| {
        refused(&args("train", flags, &[more, &["--out", &out]].concat()), words);
    };
    check(&with("text", "txt"), &[], &["no column \"txt\"", "\"text\", \"label\", \"split\""]);
    check(
        &with("Positive", "Good"),
        &[],
        &["positive class \"Good\"", "\"Negative\", \"Positive\""],
    );
    check(&with("Positive=Yes", "Good=Yes"), &[], &["a word for the class \"Good\""]);
    check(&with("Positive=Yes", "Yes"), &[], &["expected Label=Word"]);
    check(&flags, &["--rank", "0"], &["rank is 0", "1 to 256"]);
    check(&flags, &["--limit", "1"], &["limit on training rows is 1", "need at least 2"]);
    check(&flags, &["--max-tokens", "10"], &["the prompt without any text"]);
    check(&flags, &["--memory", "0.0001"], &["training needs", "are allowed"]);
    check(&with("split", "codelab"), &[], &["Ethos_Dataset_Binary.csv"]);
    let data = folder.join("data.csv");
    std::fs::write(&data, "text,label,split\ngood,Positive,train\n,Negative,train\n").unwrap();
    check(&flags, &[], &["1 row without text (line 3)", "--drop-bad"]);
    std::fs::write(&data, "text,label,split\n\"good,Positive,train\nbad,Negative,test\n").unwrap();
    check(&flags, &[], &["data.csv", "quote"]);
    std::fs::remove_file(&data).unwrap();
    check(&flags, &[], &["data.csv"]);
    std::fs::write(&data, "text,label\ngood,Positive\n").unwrap();
    let file = data.display().to_string();
    refused(
        &["predict", &file, "--classifier", &file, "--model", &out],
        &["not a Hearth classifier"],
    );
}
