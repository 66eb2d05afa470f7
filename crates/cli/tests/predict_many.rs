//! `hearth predict` over many rows: piece by piece, in shards, resumed, and joined again.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod command;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use command::{fixture, folder, hearth, refused, run, run_json};
use serde_json::Value;

fn at(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

/// Rows of a number and a text; every 90th has none, and some have a line break.
fn table(path: &str, rows: std::ops::Range<usize>) {
    let words = ["a nice soup", "so grim", "this day, so sad", "we like\nthis", "fine for me"];
    let mut text = "id,text\n".to_owned();
    for i in rows {
        let words = if i % 90 == 7 { "" } else { words[i % words.len()] };
        writeln!(text, "{i},\"{words}\"").unwrap();
    }
    std::fs::write(path, text).unwrap();
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn parts_and_resumed_runs_give_the_file_of_one_run() {
    let dir = folder("predict-many");
    let model = fixture("../web/fixtures/tiny-gemma3.gguf");
    let out = at(&dir, "run");
    let train = ["train", &fixture("../web/fixtures/moods.csv"), "--model", &model];
    let more = ["--positive", "happy", "--epochs", "1", "--no-zero-shot", "--out", &out];
    run_json(0, &[&train[..], &more].concat());
    let (data, whole) = (at(&dir, "data.csv"), at(&dir, "whole.csv"));
    table(&data, 0..600);
    let flags = ["--text", "text", "--classifier", &out, "--model", &model];
    let predict = |data: &[&str], more: &[&str]| -> Vec<String> {
        let all = [&["predict"], data, &flags[..], more].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let done = |args: Vec<String>| {
        let ran = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
        ran
    };
    let fails = |args: Vec<String>, words: &[&str]| {
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), words);
    };
    let ran = done(predict(&[&data], &["--out", &whole]));
    assert!(ran.err.contains("7 rows have no text"), "{}", ran.err);
    let expected = read(&whole);
    // 600 rows, of which 120 have a line break
    assert_eq!(expected.lines().count(), 1 + 600 + 120);
    assert!(!Path::new(&format!("{whole}.progress")).exists());

    // standard input, which may be larger than the memory, gives the same
    let input = std::fs::File::open(&data).unwrap();
    let mut child = hearth();
    let child = child.args(predict(&["-"], &[])).stdin(Stdio::from(input)).output().unwrap();
    assert_eq!(String::from_utf8(child.stdout).unwrap(), expected);

    // shards, in any order
    let shard = |i: usize| at(&dir, &format!("part-{i}.csv"));
    for i in [3, 1, 2] {
        done(predict(&[&data], &["--shard", &format!("{i}/3"), "--out", &shard(i)]));
        let record: Value = serde_json::from_str(&read(&format!("{}.progress", shard(i)))).unwrap();
        assert_eq!((&record["rows"], &record["complete"]), (&200.into(), &true.into()));
    }
    let joined = at(&dir, "joined.csv");
    let parts = [shard(2), shard(3), shard(1)];
    let merge = |parts: &[String], out: &str| {
        let mut all = vec!["merge-predictions".to_owned()];
        all.extend(parts.iter().cloned().chain(["--out".to_owned(), out.to_owned()]));
        all
    };
    done(merge(&parts, &joined));
    assert!(read(&joined) == expected, "the joined parts differ");
    fails(merge(&parts, &joined), &["exists already", "--force"]);
    let other = at(&dir, "other.csv");
    fails(merge(&parts[..2], &other), &["of 3 parts", "missing: 1"]);
    let twice = [parts.as_slice(), &[shard(2)]].concat();
    fails(merge(&twice, &other), &["the same part"]);
    fails(merge(std::slice::from_ref(&whole), &other), &["no record"]);

    // a run that was killed after its first 256 rows, and wrote a piece of the next
    let record = format!("{}.progress", shard(1));
    let partial = at(&dir, "partial.csv");
    done(predict(&[&data], &["--shard", "1/1", "--out", &partial]));
    let path = format!("{partial}.progress");
    let mut state: Value = serde_json::from_str(&read(&path)).unwrap();
    let mut reader = csv::Reader::from_path(&partial).unwrap();
    let bytes = reader.records().map(|r| r.unwrap().position().unwrap().byte()).nth(256).unwrap();
    (state["rows"], state["bytes"]) = (256.into(), bytes.into());
    state["complete"] = false.into();
    std::fs::write(&path, state.to_string()).unwrap();
    let mut half = read(&partial)[..bytes as usize].to_owned();
    half += "256,\"half a ro";
    std::fs::write(&partial, half).unwrap();
    fails(predict(&[&data], &["--shard", "1/1", "--out", &partial]), &["--resume", "--force"]);
    fails(merge(std::slice::from_ref(&partial), &other), &["not complete", "256 rows"]);
    let ran = done(predict(&[&data], &["--shard", "1/1", "--resume", "--out", &partial]));
    assert!(ran.err.contains("continuing after 256 rows"), "{}", ran.err);
    assert!(read(&partial) == expected, "the resumed predictions differ");
    let ran = done(predict(&[&data], &["--shard", "1/1", "--resume", "--out", &partial]));
    assert!(ran.err.contains("complete already"), "{}", ran.err);
    fails(merge(&[partial.clone(), shard(1)], &other), &["the number of parts"]);

    // what was begun with something else is not continued
    fails(predict(&[&data], &["--resume", "--out", &partial]), &["--shard differ"]);
    fails(
        predict(&[&data], &["--shard", "1/1", "--for-spreadsheets", "--resume", "--out", &partial]),
        &["--for-spreadsheets differ"],
    );
    let changed = at(&dir, "changed.csv");
    table(&changed, 0..599);
    let resume = ["--shard", "1/1", "--resume", "--out", &partial];
    fails(predict(&[&changed], &resume), &["the tables differ"]);
    fails(predict(&[&data], &["--resume", "--out", &whole]), &["no record"]);
    fails(predict(&["-"], &["--resume", "--out", &other]), &["standard input"]);
    fails(predict(&[&data], &["--shard", "4/3", "--out", &other]), &["such as 2/8"]);
    std::fs::remove_file(&record).unwrap();
    fails(merge(&parts, &other), &["no record", "part-1.csv.progress"]);

    // several files are one table with a column for the file, and shards cut through them
    let [first, second] = [at(&dir, "first.csv"), at(&dir, "second.csv")];
    table(&first, 0..10);
    table(&second, 10..13);
    let both = done(predict(&[&first, &second], &[]));
    let mut reader = csv::Reader::from_reader(both.out.as_bytes());
    assert_eq!(&reader.headers().unwrap()[0], "file");
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 13);
    assert_eq!((&rows[9][0], &rows[10][0], &rows[10][1]), (&first[..], &second[..], "10"));
    for i in [1, 2] {
        let (shard, part) = (format!("{i}/2"), at(&dir, &format!("both-{i}.csv")));
        done(predict(&[&first, &second], &["--shard", &shard, "--out", &part]));
    }
    let joined = at(&dir, "both.csv");
    done(merge(&[at(&dir, "both-1.csv"), at(&dir, "both-2.csv")], &joined));
    assert!(read(&joined) == both.out, "the joined parts of two files differ");
    std::fs::write(&second, "text,id\nfine,1\n").unwrap();
    fails(predict(&[&first, &second], &[]), &["second.csv", "text, id", "id, text"]);
    fails(predict(&[&first, &second], &["--json"]), &["--json", "one table"]);
    fails(
        predict(&[&data], &["--json", "--shard", "1/2", "--out", &other]),
        &["--json", "--shard"],
    );
}
