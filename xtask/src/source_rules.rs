//! The house rules that a command can see. Each test reports every place at once.

use crate::{Cli, root};
use clap::{CommandFactory, Parser};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file stays one room: past this it is split.
const LONGEST_FILE: usize = 500;

/// The files that belong to the repository: tracked, or about to be.
pub(crate) fn files(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let wanted = |path: &PathBuf| {
        extensions.is_empty()
            || path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x))
    };
    let files: Vec<_> = names
        .lines()
        .map(PathBuf::from)
        .filter(wanted)
        // binary files, and files deleted but not yet committed, have no text
        .filter_map(|path| Some((path.clone(), fs::read_to_string(root().join(path)).ok()?)))
        .collect();
    assert!(!files.is_empty(), "no file with {extensions:?}");
    files
}

/// Fails with every line of these files in which `finds` finds something.
fn no_line(files: &[(PathBuf, String)], finds: impl Fn(&str) -> bool) {
    let found: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| text.lines().enumerate().map(move |(n, line)| (path, n + 1, line)))
        .filter(|(_, _, line)| finds(line))
        .map(|(path, n, line)| format!("{}:{n}: {}", path.display(), line.trim()))
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_shader_has_the_name_of_its_module_and_of_its_entry_point() {
    let modules: Vec<PathBuf> = files(&["rs"]).into_iter().map(|(path, _)| path).collect();
    let mut wrong = Vec::new();
    for (path, text) in files(&["wgsl"]) {
        // pieces in sub-folders are put in front of kernels
        if path.parent() != Some(Path::new("shaders")) {
            continue;
        }
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let module =
            |suffix: &str| modules.contains(&format!("crates/kernels/src/{suffix}").into());
        if !text.contains(&format!("fn {name}(")) {
            wrong.push(format!("{} has no entry point {name}", path.display()));
        }
        // variants share the module of their op: matmul_tiled.wgsl belongs to matmul.rs
        let ops = name.match_indices('_').map(|(at, _)| &name[..at]).chain([name]);
        if !ops.into_iter().any(|op| module(&format!("{op}.rs")) || module(&format!("{op}/mod.rs")))
        {
            wrong.push(format!("{} has no {name}.rs in crates/kernels/src", path.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let long: Vec<String> = files(&["rs", "wgsl", "mjs", "css"])
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "more than {LONGEST_FILE} lines:\n{}", long.join("\n"));
}

#[test]
fn nothing_is_left_open() {
    let open = ["todo!(", "unimplemented!(", "FIXME", "XXX", "#[ignore"];
    no_line(&but_this(files(&["rs", "wgsl", "mjs"])), |line| {
        open.iter().any(|word| line.contains(word))
    });
}

#[test]
fn no_path_of_anyones_machine() {
    let own = ["/work/", "/home/", "/root/", "/Users/", "C:\\Users"];
    no_line(&but_this(files(&[])), |line| own.iter().any(|path| line.contains(path)));
}

#[test]
fn there_is_one_seeded_generator() {
    let mut files = but_this(files(&["rs", "wgsl", "mjs"]));
    files.retain(|(path, _)| !path.starts_with("crates/rng"));
    // a multiplier of SplitMix64
    no_line(&files, |line| line.replace('_', "").to_lowercase().contains("bf58476d1ce4e5b9"));
}

/// This file names what it bans.
fn but_this(mut files: Vec<(PathBuf, String)>) -> Vec<(PathBuf, String)> {
    files.retain(|(path, _)| path != Path::new("xtask/src/source_rules.rs"));
    files
}

#[test]
fn folders_and_files_say_what_is_inside() {
    let vague = ["utils", "util", "common", "misc", "helpers", "v2"];
    let wrong: Vec<_> = files(&["rs", "wgsl"])
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| {
            let plain = path.with_extension("");
            plain.components().any(|part| vague.iter().any(|name| part.as_os_str() == *name))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_documents_xtask_commands_exist() {
    Cli::command().debug_assert();
    let readme = fs::read_to_string(root().join("README.md")).expect("there is a README");
    let commands = hearth_testing::commands_in(&readme);
    for wanted in ["cargo xtask serve", "cargo xtask test"] {
        assert!(commands.iter().any(|line| line == wanted), "the README does not say `{wanted}`");
    }
    let serving = fs::read_to_string(root().join("docs/serve.md")).expect("there is docs/serve.md");
    let all = commands.into_iter().chain(hearth_testing::commands_in(&serving));
    for line in all.filter(|line| line.starts_with("cargo xtask ")) {
        let words = line.split_whitespace().skip(1);
        if let Err(error) = Cli::try_parse_from(words) {
            panic!("`{line}`: {error}");
        }
    }
}
