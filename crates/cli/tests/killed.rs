//! A training run that is killed again and again ends in the same bits.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod command;

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use command::{fixture, folder, golden, hearth, run_json};

/// Kills of one run. Each lands on whatever step the run is at.
const KILLS: u64 = 20;
/// More epochs than kills: every epoch ends in a snapshot, and every kill waits for one.
const EPOCHS: &str = "30";

/// When the newest snapshot was written.
fn newest(out: &Path) -> Option<SystemTime> {
    let time = |slot| std::fs::metadata(out.join(slot)).and_then(|data| data.modified()).ok();
    ["snapshot-0", "snapshot-1"].into_iter().filter_map(time).max()
}

fn pause(milliseconds: u64) {
    #[expect(clippy::disallowed_methods, reason = "this test is native")]
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Lets the run write a snapshot and go on for a while, then kills it.
fn kill(mut child: Child, out: &Path, later: u64) {
    let (start, before) = (Instant::now(), newest(out));
    while newest(out) == before {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        assert!(start.elapsed() < Duration::from_secs(120), "no snapshot");
        pause(1);
    }
    pause(later);
    assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
    // SIGKILL: nothing can be saved on the way out.
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_run_killed_at_twenty_points_ends_in_the_same_bits() {
    let folder = folder("killed");
    let at = |name: &str| folder.join(name).display().to_string();
    std::fs::create_dir_all(folder.join("model")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(format!("{}/model/{file}", golden(3)), folder.join("model").join(file))
            .unwrap();
    }
    let tokenizer = fixture("classifier/tests/fixtures/tokenizer.json");
    std::fs::copy(tokenizer, folder.join("model/tokenizer.json")).unwrap();
    let mut table = "text,label,split\n".to_owned();
    for i in 0..72 {
        let (label, word) =
            [("Negative", ["bad", "poor", "sad"]), ("Positive", ["good", "nice", "fine"])][i % 2];
        let split = if i / 2 % 6 == 5 { "test" } else { "train" };
        table += &format!("it was so {},{label},{split}\n", word[i / 2 % 3]);
    }
    std::fs::write(folder.join("data.csv"), table).unwrap();
    let (data, model) = (at("data.csv"), at("model"));
    let flags = [
        "train",
        &data,
        "--model",
        &model,
        "--text",
        "text",
        "--label",
        "label",
        "--split",
        "split",
        "--positive",
        "Positive",
        "--word",
        "Positive=Yes",
        "--word",
        "Negative=No",
        "--lr",
        "0.003",
        "--seed",
        "3",
        "--epochs",
        EPOCHS,
        "--no-zero-shot",
        "--out",
    ];
    let whole = at("whole");
    let report = run_json(0, &[&flags[..], &[&whole]].concat());

    let out = folder.join("killed");
    let shown = out.display().to_string();
    // Between two snapshots lie some steps; a multiplicative sequence picks among them.
    let mut random = 7_u64;
    for point in 0..KILLS {
        random = random * 48_271 % 2_147_483_647;
        let mut command = hearth();
        command.args(flags).arg(&shown).stdout(Stdio::null()).stderr(Stdio::null());
        if point > 0 {
            command.arg("--resume");
        }
        kill(command.spawn().unwrap(), &out, random % 60);
    }
    let resumed = run_json(0, &[&flags[..], &[&shown, "--resume"]].concat());
    assert_eq!(resumed["history"], report["history"]);
    for figure in ["f1", "auc", "temperature", "threshold", "tokens"] {
        assert_eq!(resumed[figure], report[figure], "{figure}");
    }
    let adapter =
        |out: &str| std::fs::read(format!("{out}/adapter/adapter_model.safetensors")).unwrap();
    assert!(adapter(&shown) == adapter(&whole), "the adapters differ");
}
