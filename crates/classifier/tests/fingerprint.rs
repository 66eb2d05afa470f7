//! The hash by which a run knows its build: words do not count, numbers do.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../build/fingerprint.rs"]
mod fingerprint;

use std::path::{Path, PathBuf};

use fingerprint::{LEFT_OUT, SOURCES, files, of, rust, wgsl};

fn root() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..")
}

/// A copy of what counts, to change.
fn copy(name: &str) -> PathBuf {
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&to);
    let root = root();
    for source in SOURCES {
        if root.join(source).is_dir() {
            std::fs::create_dir_all(to.join(source)).unwrap();
        }
    }
    for file in files(&root).unwrap() {
        let target = to.join(file.strip_prefix(&root).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, &target).unwrap();
    }
    to
}

#[test]
fn words_change_nothing_and_numbers_do() {
    let tree = copy("fingerprint");
    let before = of(&tree).unwrap();
    assert_eq!(before, of(&root()).unwrap(), "tests and what is left out count");
    let change = |file: &str, from: &str, to: &str| {
        let path = tree.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let after = of(&tree).unwrap();
        std::fs::write(&path, text).unwrap();
        after
    };
    let same = [
        ("shaders/adamw.wgsl", "// ", "// In other words: "),
        ("shaders/adamw.wgsl", "\n", "\n\n/* a block\n * of words */\n"),
        ("crates/kernels/src/adamw.rs", "//! ", "//! In other words: "),
        ("crates/kernels/src/adamw.rs", "mod tests {", "mod tests { const N: u32 = 7;"),
        ("crates/gemma/src/train.rs", "a batch needs targets", "give a batch targets"),
        ("crates/gemma/src/schedule.rs", "\n}", "\n\n    // words\n}"),
    ];
    for (file, from, to) in same {
        assert_eq!(change(file, from, to), before, "{file}: {to}");
    }
    let other = [
        ("shaders/adamw.wgsl", "1.0 - p.beta1", "1.1 - p.beta1"),
        ("shaders/shared/step.wgsl", "0x7f800000u", "0x7f000000u"),
        ("crates/kernels/src/square_sum.rs", "PARTS: u32 = 64", "PARTS: u32 = 32"),
        ("crates/gemma/src/schedule.rs", "0.5 * (1.0", "0.4 * (1.0"),
        ("crates/classifier/src/fit/run.rs", "AVERAGED: usize = 64", "AVERAGED: usize = 32"),
    ];
    for (file, from, to) in other {
        assert_ne!(change(file, from, to), before, "{file}: {to}");
    }
    let new = tree.join("shaders/new.wgsl");
    std::fs::write(&new, "fn new() {}").unwrap();
    assert_ne!(of(&tree).unwrap(), before, "a new kernel");
    std::fs::remove_file(&new).unwrap();
    // a file may move
    std::fs::rename(tree.join("shaders/adamw.wgsl"), tree.join("shaders/b.wgsl")).unwrap();
    assert_eq!(of(&tree).unwrap(), before);
}

#[test]
fn what_is_left_out_is_there() {
    for part in LEFT_OUT {
        assert!(root().join(part).exists(), "{part} is gone: take it off the list");
    }
    let gone = copy("fingerprint-gone");
    std::fs::remove_file(gone.join("crates/formats/src/row.rs")).unwrap();
    assert!(of(&gone).unwrap_err().contains("row.rs is gone"));
}

#[test]
fn wgsl_loses_comments_and_spacing_only() {
    assert_eq!(wgsl("a // b /* c\nd /* e // f\n*/ g\n\n  h"), "a d g h");
    assert_eq!(wgsl("a/**/b"), "a b");
    assert_eq!(wgsl("a /* never closed"), "a");
}

#[test]
fn rust_loses_words_and_tests_only() {
    let same = |a: &str, b: &str| assert_eq!(rust(a).unwrap(), rust(b).unwrap());
    let other = |a: &str, b: &str| assert_ne!(rust(a).unwrap(), rust(b).unwrap());
    same("/// Adds.\nfn f(a: u32) {}", "fn f(\n    a: u32,\n) {}");
    same("#[error(\"bad\")] A", "#[error(\"worse\")] A");
    same("f(\"two words\")", "f(\"other words\")");
    same("#![cfg_attr(test, allow(x))] fn f() {}", "fn f() {}");
    same("#[cfg(all(test, unix))] #[path = \"x\"] mod tests; fn f() {}", "fn f() {}");
    same("#[cfg(test)] fn g() -> u32 { 3 } fn f() {}", "fn f() {}");
    other("#[cfg(feature = \"latest\")] fn g() {}", "");
    other("f(\"q_proj\")", "f(\"k_proj\")");
    other("#[repr(C)] struct A;", "struct A;");
    other("f(1.0)", "f(1.5)");
    other("a + b", "a - b");
}
