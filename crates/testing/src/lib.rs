//! What tests share: where the real model is, and whether slow tests run.
//!
//! The tests of this crate prove that a GPU answers, natively and in the browser.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// File name of the real model, Gemma 3 270M, in [`cache_dir`].
pub const REAL_MODEL: &str = "gemma-3-270m-q4_k_m.gguf";

/// SHA-256 of [`REAL_MODEL`], in hexadecimal.
pub const REAL_MODEL_SHA256: &str =
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";

/// Where downloads and installed tools are kept: `hearth` in the user's cache folder.
/// `None` where the environment names no home folder (in a browser, say).
pub fn cache_dir() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(env::home_dir()?.join(".cache")))
        .map(|cache| cache.join("hearth"))
}

/// The real model, if it is on this machine: the file that `HEARTH_MODEL` names, otherwise the one
/// that `cargo xtask test --real` fetched. A test that gets `None` returns at once.
pub fn real_model() -> Option<PathBuf> {
    env::var_os("HEARTH_MODEL")
        .map(PathBuf::from)
        .or_else(|| Some(cache_dir()?.join(REAL_MODEL)))
        .filter(|path| path.is_file())
}

/// Whether tests that take minutes run: true under `cargo xtask test --real`, which sets `HEARTH_REAL=1`.
pub fn slow() -> bool {
    env::var_os("HEARTH_REAL").is_some_and(|value| value == "1")
}

/// The commands in a Markdown text's `sh` blocks, one per line (those over several lines joined), without comments
/// and without what they print.
pub fn commands_in(markdown: &str) -> Vec<String> {
    let joined = markdown.replace("\\\n", " ");
    let mut inside = false;
    let lines = joined.lines().filter(|line| {
        if line.starts_with("```") {
            inside = line.starts_with("```sh");
        }
        inside && (line.starts_with("cargo ") || line.starts_with("hearth "))
    });
    lines.map(|line| line.split(" #").next().unwrap_or_default().trim_end().to_owned()).collect()
}

/// A program of the tests, started by the program that the environment variable `HEARTH_RUNNER` names where there is
/// one: `cargo xtask test` brings a Vulkan driver of its own that way.
pub fn program(path: &str) -> Command {
    match env::var_os("HEARTH_RUNNER") {
        Some(runner) => {
            let mut command = Command::new(runner);
            command.arg(path);
            command
        }
        None => Command::new(path),
    }
}
