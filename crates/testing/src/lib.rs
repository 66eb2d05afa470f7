//! What tests share: where the real model is, whether slow tests run, how a test reports that it was
//! skipped, and small GGUF files.
//!
//! A test runner counts a test that returns early as passed. So a test that asks here for something that is not on this
//! machine, and gets nothing, is recorded as skipped: see [`skipped`].
//!
//! The tests of this crate prove that a GPU works, natively and in the browser.

pub mod gguf;

use std::path::PathBuf;
use std::process::{self, Command};
use std::{env, fs, io::Write, thread};

/// File name of the real model, Gemma 3 270M, in [`cache_dir`].
pub const REAL_MODEL: &str = "gemma-3-270m-q4_k_m.gguf";

/// SHA-256 of [`REAL_MODEL`], in hexadecimal.
pub const REAL_MODEL_SHA256: &str =
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";

/// Environment variable that names the folder of the records of [`skipped`].
pub const SKIPPED_FOLDER: &str = "HEARTH_SKIPPED";

/// Where downloads and installed tools are kept: `hearth` in the user's cache folder.
/// `None` if the environment names no home folder (in a browser, say).
pub fn cache_dir() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(env::home_dir()?.join(".cache")))
        .map(|cache| cache.join("hearth"))
}

/// The real model, if it is on this machine: the file that `HEARTH_MODEL` names, otherwise the one
/// that `cargo xtask test --real` fetched. Tests call [`real_model`].
pub fn find_real_model() -> Option<PathBuf> {
    env::var_os("HEARTH_MODEL")
        .map(PathBuf::from)
        .or_else(|| Some(cache_dir()?.join(REAL_MODEL)))
        .filter(|path| path.is_file())
}

/// The real model for a test. With `None` the test is recorded as skipped and returns at once.
pub fn real_model() -> Option<PathBuf> {
    let model = find_real_model();
    if model.is_none() {
        skipped("the real model is not here; `cargo xtask test --real` fetches it");
    }
    model
}

/// The contents of a file in [`cache_dir`] for a test; `source` says where the file is from. With
/// `None` the test is recorded as skipped and returns at once.
pub fn cached(name: &str, source: &str) -> Option<Vec<u8>> {
    let bytes = cache_dir().and_then(|folder| fs::read(folder.join(name)).ok());
    if bytes.is_none() {
        skipped(&format!("{name} is not in the cache folder; it is {source}"));
    }
    bytes
}

/// The value of an environment variable for a test. With `None` the test is recorded as skipped
/// and returns at once.
pub fn variable(name: &str) -> Option<String> {
    let value = env::var(name).ok();
    if value.is_none() {
        skipped(&format!("{name} is not set"));
    }
    value
}

/// A Python that has these packages, for a test: the program that `HEARTH_PYTHON` names, otherwise `python3`. With `None`
/// the test is recorded as skipped and returns at once.
pub fn python_with(packages: &[&str]) -> Option<String> {
    let python = env::var("HEARTH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let imports = format!("import {}", packages.join(", "));
    let ran = Command::new(&python).args(["-c", &imports]).output();
    let found = ran.is_ok_and(|output| output.status.success());
    if !found {
        skipped(&format!(
            "{python} has not all of {}; HEARTH_PYTHON names another one",
            packages.join(", ")
        ));
    }
    found.then_some(python)
}

/// Whether tests that take minutes run: true under `cargo xtask test --real`, which sets
/// `HEARTH_REAL=1`. With `false` the test is recorded as skipped and returns at once.
pub fn slow() -> bool {
    let slow = env::var_os("HEARTH_REAL").is_some_and(|value| value == "1");
    if !slow {
        skipped("it takes minutes; `cargo xtask test --real` runs it");
    }
    slow
}

/// Records that the calling test, or a part of it, did not run. One line
///
/// ```text
/// skipped: PACKAGE/BINARY::TEST: WHY
/// ```
///
/// goes to standard error (which test runners show for failing tests only) and, where
/// `HEARTH_SKIPPED` names a folder, to the end of a file `PROCESS.txt` there. Whoever runs the
/// tests creates an empty folder before and counts the lines of all its files afterwards. BINARY is
/// `lib` for unit tests, otherwise a file in the package's `tests/`.
pub fn skipped(why: &str) {
    let line = format!("skipped: {}: {}\n", test_name(), why.replace('\n', " "));
    eprint!("{line}");
    if let Some(folder) = env::var_os(SKIPPED_FOLDER).filter(|folder| !folder.is_empty()) {
        let file = PathBuf::from(folder).join(format!("{}.txt", process::id()));
        let opened = fs::File::options().create(true).append(true).open(&file);
        // One write per line: tests of one process run in parallel.
        if let Err(error) = opened.and_then(|mut file| file.write_all(line.as_bytes())) {
            panic!("{SKIPPED_FOLDER}: {}: {error}", file.display());
        }
    }
}

/// The program that is running, as it was started. (Under a runner that starts it with another dynamic loader,
/// `current_exe` names that loader.)
pub fn own_program() -> Option<PathBuf> {
    env::args_os().next().map(PathBuf::from).filter(|path| path.is_file())
}

/// PACKAGE/BINARY::TEST of the running thread.
fn test_name() -> String {
    let package = env::var("CARGO_PKG_NAME").unwrap_or_default();
    // cargo names test programs like `real-0123456789abcdef`
    let program = own_program();
    let stem = program.as_deref().and_then(|path| path.file_stem()?.to_str()).unwrap_or_default();
    let binary = stem.rsplit_once('-').map_or(stem, |(name, _)| name);
    let binary = if binary == package.replace('-', "_") { "lib" } else { binary };
    // libtest runs every test in a thread with the test's name, unless it runs one at a time
    let thread = thread::current();
    let test = thread.name().filter(|name| *name != "main").unwrap_or("?");
    format!("{package}/{binary}::{test}")
}

/// The commands in a Markdown text's `sh` blocks, one per line (commands over several lines joined), without comments
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

/// A program of the tests, started through the program that the environment variable `HEARTH_RUNNER` names if it is
/// set: this is how `cargo xtask test` brings its own Vulkan driver.
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
