//! A skipped test is reported where its runner looks.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "tests and what they call")]

use std::{env, fs, path::Path};

/// Runs a test of this same program, without the model and with a folder for records.
#[test]
fn a_test_without_its_file_is_recorded_once_by_name() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let run = |model: &Path| {
        let program = hearth_testing::own_program().unwrap();
        let output = hearth_testing::program(program.to_str().unwrap())
            .args(["--exact", "asks_for_the_real_model", "--nocapture", "--test-threads", "2"])
            .env("HEARTH_MODEL", model)
            .env(hearth_testing::SKIPPED_FOLDER, &folder)
            .output()
            .unwrap();
        assert!(output.status.success());
        let lines = fs::read_dir(&folder).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            fs::remove_file(path).unwrap();
            text
        });
        (lines.collect::<String>(), String::from_utf8(output.stderr).unwrap())
    };
    let line = "skipped: hearth-testing/skipped::asks_for_the_real_model: \
                the real model is not here; `cargo xtask test --real` fetches it\n";
    let (recorded, printed) = run(&folder.join("no-such-file"));
    assert_eq!(recorded, line);
    assert!(printed.contains(line), "{printed}");
    // Any file counts as the model here.
    assert_eq!(run(&hearth_testing::own_program().unwrap()), (String::new(), String::new()));
}

#[test]
fn asks_for_the_real_model() {
    if env::var_os("HEARTH_MODEL").is_some() {
        hearth_testing::real_model();
    }
}

/// A test that looks for a file or a variable by itself would pass silently.
#[test]
fn tests_ask_here_for_what_may_be_missing() {
    let mut found = Vec::new();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for entry in fs::read_dir(crates).unwrap() {
        let package = entry.unwrap().path();
        if package.ends_with("testing") {
            continue;
        }
        for folder in ["src", "tests"] {
            search(&package.join(folder), &mut found);
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Collects lines of tests that read the environment, and of anything that looks for the model.
fn search(folder: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            search(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut in_tests = path.components().any(|part| part.as_os_str() == "tests")
                || path.ends_with("tests.rs");
            for (number, line) in (1..).zip(text.lines()) {
                in_tests |= line.trim() == "#[cfg(test)]";
                let own = line.contains("find_real_model")
                    || line.contains("hearth_testing::cache_dir")
                    || (in_tests
                        && (line.contains("env::var(") || line.contains("env::var_os("))
                        && !line.contains("CARGO_MANIFEST_DIR"));
                if own {
                    found.push(format!("{}:{number}: {}", path.display(), line.trim()));
                }
            }
        }
    }
}
