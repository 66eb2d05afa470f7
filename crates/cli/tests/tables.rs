//! Tables by the command line: what is said of them, what can be set, and what comes back.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod command;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use command::{Ran, fixture, folder, golden, hearth, refused, run, run_json};

/// A folder with the tiny model and the small tokenizer.
fn setup(name: &str) -> PathBuf {
    let folder = folder(name);
    std::fs::create_dir_all(folder.join("model")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        let from = format!("{}/model/{file}", golden(3));
        std::fs::copy(from, folder.join("model").join(file)).unwrap();
    }
    let tokenizer = fixture("classifier/tests/fixtures/tokenizer.json");
    std::fs::copy(tokenizer, folder.join("model/tokenizer.json")).unwrap();
    folder
}

/// Rows of a text and a label, the labels in turn.
fn csv(header: &str, rows: usize, labels: &[&str]) -> String {
    let words = ["bad", "good", "sad", "nice", "poor", "fine"];
    let row = |i: usize| {
        let (word, label) = (words[i % words.len()], labels[i % labels.len()]);
        format!("this day {i} is {word},\"{}\"\n", label.replace('"', "\"\""))
    };
    header.to_owned() + &(0..rows).map(row).collect::<String>()
}

struct Case {
    folder: PathBuf,
}

impl Case {
    fn new(name: &str) -> Self {
        Self { folder: setup(name) }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.folder.join(name), text).unwrap();
        self.path(name)
    }

    fn train(&self, table: &str, more: &[&str]) -> Ran {
        let (model, out) = (self.path("model"), self.path("run"));
        let quick = ["--epochs", "1", "--rank", "2", "--no-zero-shot", "--force"];
        run(&[&["train", table, "--model", &model, "--out", &out], &quick[..], more].concat())
    }
}

fn said(ran: &Ran, words: &[&str]) {
    for word in words {
        assert!(ran.err.contains(word), "{word:?} is missing in {}", ran.err);
    }
}

#[test]
fn inspect_says_how_a_table_is_read() {
    let case = Case::new("tables-inspect");
    let table = case.write(
        "notes.csv",
        "sep=;\r\nid;Beitrag;label\r\n1;wie sch\u{f6}n;gut\r\n2;wie fad;schlecht\r\n",
    );
    let ran = run(&["inspect", &table]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for line in [
        "format     delimited text, 2 rows",
        "encoding   UTF-8 (every byte fits)",
        "delimiter  semicolon (by the file's first line, sep=)",
        "header     line 2 (guessed: it has common column names); columns id, Beitrag, label",
        "label      column \"label\" (by its name)",
    ] {
        assert!(ran.out.contains(line), "{line:?} is missing in {}", ran.out);
    }
    let json = run_json(0, &["inspect", &table, "--header", "no", "--encoding", "cp1252"]);
    assert_eq!((&json["rows"], &json["dialect"]["header"]), (&3.into(), &false.into()));
    assert_eq!(json["dialect"]["encoding"]["encoding"], "windows-1252");
    let rows = |more: &[&str]| run_json(0, &[&["inspect", &table], more].concat())["rows"].clone();
    assert_eq!(rows(&["--skip-lines", "2"]), 2);
    assert_eq!(rows(&["--skip-lines", "2", "--header", "yes"]), 1);
    assert_eq!(rows(&["--quote", "none", "--delimiter", "semicolon"]), 2);
    refused(&["inspect", &table, "--encoding", "klingon"], &["klingon", "windows-1251"]);
    refused(&["inspect", &table, "--quote", "ab"], &["--quote", "one ASCII character"]);
    refused(&["inspect", &table, "--delimiter", "\\n"], &["--delimiter"]);
    let tabs = case.write("tabs.tsv", "text\tlabel\na, b\tx\nc; d\ty\n");
    for typed in ["\\t", "tab", "\t"] {
        let json = run_json(0, &["inspect", &tabs, "--delimiter", typed]);
        assert_eq!(json["columns"], serde_json::json!(["text", "label"]), "{typed:?}");
    }
}

#[test]
fn nothing_is_read_in_silence() {
    let case = Case::new("tables-told");
    // labels that look alike, and one class with one row: told before the model is loaded
    let labels = ["good", "bad", "Good", "bad", "good", "bad"];
    let table = case.write("alike.csv", csv("text,label\n", 24, &labels) + "one more,rare\n");
    let model = case.path("none.gguf");
    let ran = run(&["train", &table, "--model", &model, "--out", &case.path("run")]);
    assert_eq!(ran.code, Some(2));
    said(
        &ran,
        &[
            "\"Good\" (4 rows), \"good\" (8 rows)",
            "merge them if they mean the same (--merge-labels)",
            "class \"rare\" has only 1 row in the file: 1 for training, 0 for validation, 0 for testing",
            "(3 are needed for one in each part)",
            "leave the class out (--drop-class rare)",
            "text       column \"text\" (by its name)",
        ],
    );
    let more = ["--merge-labels", "--drop-class", "rare", "--positive", "good"];
    let ran = case.train(&table, &more);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    said(&ran, &["merged labels that look alike", "rows of bad, good", "epoch 1 "]);
    // Mesa's complaint about servers without a display
    let bare = hearth().args(["adapters"]).env_remove("XDG_RUNTIME_DIR").output().unwrap();
    assert!(!String::from_utf8_lossy(&bare.stderr).contains("XDG_RUNTIME_DIR"));
    let missing = case.write("nan.csv", csv("text,label\n", 24, &["good", "bad", "NaN"]));
    let ran = case.train(&missing, &["--missing", "nan", "--positive", "good"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    said(&ran, &["8 rows are left out", "rows of bad, good"]);
    let out = case.path("run");
    let unknown = ["train", &missing, "--model", &model, "--out", &out, "--drop-class", "x"];
    refused(&unknown, &["\"x\" to leave out", "\"NaN\""]);
}

#[test]
fn few_rows_train_as_far_as_they_can() {
    let case = Case::new("tables-few");
    let two = case.write("two.csv", csv("text,label\n", 20, &["good", "bad"]) + "a,rare\nb,rare\n");
    let ran = case.train(&two, &["--limit", "4"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let ran = case.train(&two, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    said(
        &ran,
        &[
            "class \"rare\" has only 2 rows in the file: 1 for training, 0 for validation, 1 for testing",
        ],
    );
    // a test part of one class, and why there is no ROC-AUC
    let text = csv("text,label,split\n", 24, &["good", "bad"]);
    let split = |(i, line): (usize, &str)| match i {
        0 => format!("{line}\n"),
        _ if line.contains("good") && i > 16 => format!("{line},test\n"),
        _ => format!("{line},train\n"),
    };
    let lines = text.lines().filter(|l| !l.ends_with("is good,\"bad\"")).enumerate();
    let parts = case.write("parts.csv", lines.map(split).collect::<String>());
    let ran = case.train(&parts, &["--positive", "good"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    said(&ran, &["the test part has no row of \"bad\""]);
    assert!(ran.out.contains("ROC-AUC none (needs"), "{}", ran.out);
    let ran = case.train(&two, &["--max-tokens", "5000"]);
    assert_eq!(ran.code, Some(2));
    said(&ran, &["up to 5000 tokens", "the model reads 512"]);
}

#[test]
fn any_labels_come_back() {
    let case = Case::new("tables-labels");
    let labels = ["=cmd|x", "a,b", "[tag]", "say \"no\"", "k=v", "schön 🚋", "-", "two  words"];
    let table = case.write("labels.csv", csv("text,label\n", 48, &labels));
    let ran = case.train(&table, &["--word", "k=v=Yes", "--word", "a,b=No"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let (out, model) = (case.path("run"), case.path("model"));
    let with = ["--classifier", &out, "--model", &model];
    // the written table, measured and sorted again
    let predicted = case.path("run/predictions.csv");
    let eval = run_json(0, &[&["eval", &predicted, "--label", "label"], &with[..]].concat());
    let mut known = labels.map(String::from).to_vec();
    known.sort();
    assert_eq!(eval["evaluation"]["classes"], serde_json::json!(known));
    let again = case.path("again.csv");
    let ran = run(&[&["predict", &table, "--out", &again], &with[..]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let column = |path: &str, name: &str| -> Vec<String> {
        let file = std::fs::File::open(path).unwrap();
        let read = hearth_classifier::table::read(file, Default::default(), &mut |_| {}).unwrap();
        let place = read.columns.iter().position(|c| c == name).unwrap();
        read.rows.into_iter().map(|mut row| row.fields.remove(place)).collect()
    };
    assert_eq!(column(&again, "label"), column(&table, "label"));
    assert_eq!(column(&again, "text"), column(&table, "text"));
    assert!(column(&again, "prediction").iter().all(|p| known.contains(p)));
    let guarded = case.path("guarded.csv");
    let ran =
        run(&[&["predict", &table, "--for-spreadsheets", "--out", &guarded], &with[..]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(column(&guarded, "label").iter().any(|l| l == "'=cmd|x"));
}

#[test]
fn one_reader_for_files_lines_and_values() {
    let case = Case::new("tables-reader");
    let table = case.write("values.csv", csv("text,label\n", 24, &["0", "1"]));
    assert_eq!(case.train(&table, &["--positive", "1"]).code, Some(0));
    refused(
        &["train", &table, "--model", "x", "--out", &case.path("other"), "--positive", "1.0"],
        &["\"0\", \"1\"", "is \"1\" meant?"],
    );
    let (out, model) = (case.path("run"), case.path("model"));
    let with = ["--classifier", &out, "--model", &model];
    let floats = case.write("floats.csv", csv("text,label\n", 12, &["0.0", "1.0"]));
    let eval = |more: &[&str]| run(&[&["eval", &floats], &with[..], more].concat());
    let ran = eval(&[]);
    assert_eq!(ran.code, Some(2));
    said(&ran, &["line 2: the label \"0.0\"", "resembles \"0\"", "--merge-labels"]);
    assert_eq!(eval(&["--merge-labels"]).code, Some(0));

    let lines = |bytes: &[u8]| {
        let mut child = hearth()
            .args([&["predict", "-", "--lines"], &with[..]].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    let plain = "this day is good\n\nthe film was so \u{e9}vident\n";
    let expected = lines(plain.as_bytes());
    assert_eq!(expected.lines().count(), 4);
    assert!(expected.lines().nth(2).unwrap().starts_with("\"\",\"\","), "{expected}");
    assert_eq!(lines(format!("\u{feff}{plain}").as_bytes()), expected);
    assert_eq!(lines(plain.replace('\n', "\r\n").as_bytes()), expected);
    let utf16: Vec<u8> =
        "\u{feff}".encode_utf16().chain(plain.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(lines(&utf16), expected);
    assert_eq!(lines(&plain.chars().map(|c| c as u8).collect::<Vec<_>>()), expected);
    assert!(Path::new(&out).join("classifier.hearth").is_file());
}

#[test]
fn lists_in_options_keep_labels_with_commas_whole() {
    let case = Case::new("tables-lists");
    let table = case.write("so.csv", csv("text,label\n", 24, &["good", "so, so", "n/a", "so"]));
    let ran = case.train(&table, &["--missing", "n/a,so, so", "--positive", "good"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    said(
        &ran,
        &["12 rows are left out, as their label is one of n/a, so, so", "test rows of so, good"],
    );
    let ran = case.train(
        &table,
        &["--missing", "nil", "--drop-class", "so, so", "--drop-class", "n/a", "--positive", "so"],
    );
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    said(&ran, &["no row has the label \"nil\"", "the rows of the class \"so, so\" are left out"]);
    let numbers = case.write("stars.csv", csv("text,label\n", 24, &["1", "2", "4", "5"]));
    let ran = case.train(&numbers, &["--median", "\"high, very\",low", "--positive", "high, very"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    said(&ran, &["test rows of low, \"high, very\""]);
    let ran =
        case.train(&numbers, &["--cut", "\"2,5\",high,\"low, rather\"", "--positive", "high"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    said(&ran, &["test rows of \"low, rather\", high"]);
    let (model, out) = (case.path("none.gguf"), case.path("run"));
    for (option, value, words) in [
        ("--median", "high, very,low", "3 entries; expected two names"),
        ("--cut", "2,5,high,low", "4 entries; expected a number and two names"),
        ("--cut", "two,high,low", "\"two\" is not a number"),
        ("--median", "same,same", "two different names"),
    ] {
        refused(
            &["train", &numbers, "--model", &model, "--out", &out, option, value],
            &[option, words],
        );
    }
}

#[test]
fn a_bos_of_ones_own_is_told_and_not_doubled() {
    let case = Case::new("tables-bos");
    let table = case.write("a.csv", csv("text,label\n", 24, &["good", "bad"]));
    let metrics = |question: &str| {
        let ran = case.train(&table, &["--positive", "good", "--question", question]);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        let kept = std::fs::read(case.folder.join("run/metrics.json")).unwrap();
        let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
        (ran.err, kept["tokens"].clone(), kept["evaluation"]["log_loss"].clone())
    };
    let (_, tokens, loss) = metrics("Is it good");
    let (said, own_tokens, own_loss) = metrics("<bos>Is it good");
    assert!(said.contains("the question begins with its own <bos>"), "{said}");
    assert_eq!((own_tokens, own_loss), (tokens, loss));
    let (said, ..) = metrics("<start_of_turn>Is it good");
    assert!(
        said.contains("the question has <start_of_turn>, which the model reads as letters"),
        "{said}"
    );
}

#[test]
fn eval_tells_what_it_leaves_out() {
    let case = Case::new("tables-eval");
    let table = case.write("a.csv", csv("text,label\n", 24, &["good", "bad"]));
    let ran = case.train(&table, &["--positive", "good"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let text = csv("text,label\n", 12, &["Good", "bad", "n/a"]) + "a last one,\n";
    let other = case.write("other.csv", text);
    let (model, out) = (case.path("model"), case.path("run"));
    let eval = ["eval", &other, "--classifier", &out, "--model", &model];
    let more = ["--merge-labels", "--missing", "n/a", "--drop-bad"];
    let ran = run(&[&eval[..], &more].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    said(
        &ran,
        &[
            "4 rows are left out, as their label is one of n/a",
            "1 row without label (line 14) left out",
            "the label \"Good\" counts as \"good\"",
        ],
    );
    let split = case.write(
        "split.csv",
        csv("text,label,part\n", 8, &["good", "bad"]).replace("\"\n", "\",exam\n"),
    );
    refused(
        &["eval", &split, "--classifier", &out, "--model", &model, "--split", "part"],
        &["the column \"part\" marks no row as test"],
    );
}
