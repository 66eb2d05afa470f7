//! What documents say about this repository is so: the files they name are there, the commands start, the layers hold.

use crate::root;
use crate::source_rules::files;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The texts between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A path without the folders that documents leave out: `classifier/fit.rs` for `crates/classifier/src/fit.rs`.
fn short(path: &str) -> String {
    let parts: Vec<&str> =
        path.split('/').filter(|part| !["crates", "src"].contains(part)).collect();
    format!("/{}", parts.join("/"))
}

#[test]
fn files_that_documents_name_are_there() {
    let extensions = [".rs", ".wgsl", ".mjs", ".py", ".md"];
    let there: BTreeSet<String> =
        files(&[]).into_iter().map(|(path, _)| short(&path.display().to_string())).collect();
    let mut missing = Vec::new();
    for (document, text) in files(&["md"]) {
        for name in quoted(&text).filter(|name| extensions.iter().any(|end| name.ends_with(end))) {
            // `OP.rs` and `*.test.mjs` stand for many
            let is_one =
                name.chars().all(|c| c.is_ascii_lowercase() || "0123456789_-./".contains(c));
            if is_one && !there.iter().any(|path| path.ends_with(&short(name))) {
                missing.push(format!("{}: {name}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "no such file:\n{}", missing.join("\n"));
}

#[test]
fn test_programs_and_examples_that_are_named_are_there() {
    let mut missing = Vec::new();
    for (document, text) in files(&["md", "rs"]) {
        for command in text.split("-p hearth-").skip(1) {
            let mut words = command.split(|c: char| c.is_whitespace() || c == '`');
            let package = words.next().unwrap_or_default();
            let (kind, name) = match (words.next(), words.next()) {
                (Some("--test"), Some(name)) => ("tests", name),
                (Some("--example"), Some(name)) => ("examples", name),
                _ => continue,
            };
            let folder = root().join("crates").join(package).join(kind);
            let paths = [folder.join(format!("{name}.rs")), folder.join(name).join("main.rs")];
            if !paths.iter().any(|path| path.is_file()) {
                missing.push(format!("{}: {package} has no {kind}/{name}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// The layers of ARCHITECTURE.md, each with the crates of the workspace that it may use.
const LAYERS: [(&str, &[&str]); 10] = [
    ("crates/rng", &[]),
    ("crates/serve", &[]),
    ("crates/testing", &[]),
    ("crates/gpu", &[]),
    ("crates/formats", &[]),
    ("crates/kernels", &["gpu", "formats"]),
    ("crates/gemma", &["rng", "gpu", "formats", "kernels"]),
    ("crates/classifier", &["rng", "formats", "gemma"]),
    ("crates/cli", &["rng", "serve", "gpu", "formats", "kernels", "gemma", "classifier"]),
    ("web", &["rng", "gpu", "formats", "kernels", "gemma", "classifier"]),
];

#[test]
fn nothing_points_back() {
    for (layer, allowed) in LAYERS {
        let path = root().join(layer).join("Cargo.toml");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // sections of tests and build scripts do not count
        let sections = text.split("\n[").filter(|section| {
            let name = section.split(']').next().unwrap_or_default();
            name.ends_with("dependencies") && !name.contains("dev-") && !name.contains("build-")
        });
        for line in sections.flat_map(str::lines) {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let known = name.strip_prefix("hearth-").is_none_or(|name| allowed.contains(&name));
            assert!(known, "{layer} may not use {name}");
            assert!(name != "wgpu" || layer == "crates/gpu", "{layer} may not use wgpu");
        }
    }
}

#[test]
fn planted_faults_fit_the_code() {
    let script = PathBuf::from("tools/planted_faults.py");
    let check = Command::new("python3").arg(&script).arg("--check").current_dir(root()).output();
    let Ok(check) = check else {
        return hearth_testing::skipped("python3 is not on this machine");
    };
    let told = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success(), "{} --check:\n{told}", script.display());
}
