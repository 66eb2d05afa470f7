//! A hash of what training computes with, by which a run knows its build: all shaders, and the Rust code
//! that decides a run's numbers.
//!
//! Words do not count: comments, documentation, error texts, formatting and tests may change without
//! stranding a run. Anything else may change a number, so it counts, a new file included.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use sha2::{Digest, Sha256};

/// Folders and files, from the root of the repository.
pub const SOURCES: [&str; 17] = [
    "shaders",
    "crates/rng/src",
    "crates/kernels/src",
    "crates/gemma/src",
    "crates/formats/src/convert.rs",
    "crates/formats/src/layout.rs",
    "crates/formats/src/mlx.rs",
    "crates/formats/src/quantize.rs",
    "crates/formats/src/row.rs",
    "crates/formats/src/gguf/blocks.rs",
    "crates/classifier/src/calibration.rs",
    "crates/classifier/src/curves.rs",
    "crates/classifier/src/fit",
    "crates/classifier/src/history.rs",
    "crates/classifier/src/metrics.rs",
    "crates/classifier/src/recipe.rs",
    "crates/classifier/src/scoring.rs",
];

/// Parts of these folders that compute nothing in a run.
pub const LEFT_OUT: [&str; 10] = [
    "shaders/ceilings",
    "crates/kernels/src/testing.rs",
    "crates/gemma/src/adapter_file.rs",
    "crates/gemma/src/config/write.rs",
    "crates/gemma/src/error.rs",
    "crates/gemma/src/generate.rs",
    "crates/gemma/src/plan.rs",
    "crates/gemma/src/snapshot.rs",
    "crates/gemma/src/verify.rs",
    "crates/gemma/src/verify",
];

/// Attributes that hold words, or tell the compiler what to complain about.
const WORDS: [&str; 7] = ["doc", "error", "expect", "allow", "warn", "deny", "must_use"];

/// The hash over all sources, whatever their names are and in whatever order they come.
///
/// # Errors
/// A file that is not there or is no Rust.
pub fn of(root: &Path) -> Result<String, String> {
    let mut hashes = Vec::new();
    for file in files(root)? {
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = fs::read_to_string(&file).map_err(|e| at(&e))?;
        let meaning = match file.extension().and_then(|e| e.to_str()) {
            Some("wgsl") => wgsl(&text),
            Some("rs") => rust(&text).map_err(|e| at(&e))?,
            _ => continue,
        };
        hashes.push(Sha256::digest(meaning).to_vec());
    }
    hashes.sort_unstable();
    let all = Sha256::digest(hashes.concat());
    Ok(all.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// The files that count.
///
/// # Errors
/// A source that is not there.
pub fn files(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for source in SOURCES {
        collect(root, &root.join(source), &mut found)?;
    }
    Ok(found)
}

fn collect(root: &Path, path: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let left_out = LEFT_OUT.iter().any(|part| path == root.join(part));
    // Tests that have a file of their own.
    let tests = path.file_stem().is_some_and(|stem| stem == "tests");
    if left_out || tests {
        return Ok(());
    }
    if !path.is_dir() {
        if !path.is_file() {
            return Err(format!(
                "{} is gone: set it right in crates/classifier/build/fingerprint.rs",
                path.display()
            ));
        }
        found.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
    for entry in entries {
        let entry = entry.map_err(|e| format!("{}: {e}", path.display()))?;
        collect(root, &entry.path(), found)?;
    }
    Ok(())
}

/// WGSL without comments and spacing.
pub fn wgsl(text: &str) -> String {
    let mut meaning = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("/*") {
        let line = rest.find("//").unwrap_or(usize::MAX);
        // `//` first: what follows on its line opens nothing.
        let (before, after) = if line < at {
            let end = rest[line..].find('\n').map_or(rest.len(), |n| line + n);
            (&rest[..line], &rest[end..])
        } else {
            let end = rest[at..].find("*/").map_or(rest.len(), |n| at + n + 2);
            (&rest[..at], &rest[end..])
        };
        meaning.push_str(before);
        meaning.push(' ');
        rest = after;
    }
    meaning.push_str(rest);
    let code = meaning.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// The tokens of Rust code, without words and tests.
///
/// # Errors
/// Text that is no Rust.
pub fn rust(text: &str) -> Result<String, String> {
    let tokens: TokenStream = text.parse().map_err(|e| format!("{e}"))?;
    let mut meaning = String::new();
    write(tokens, &mut meaning);
    Ok(meaning)
}

fn write(tokens: TokenStream, meaning: &mut String) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if let Some((attribute, end)) = attribute(&tokens[at..]) {
            let text = attribute.to_string();
            let mut names = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            let name = names.next().unwrap_or_default();
            let of_tests = names.any(|name| name == "test");
            if name == "cfg" && of_tests {
                at = item_end(&tokens, at + end);
                continue;
            }
            if WORDS.contains(&name) || (name == "cfg_attr" && of_tests) {
                at += end;
                continue;
            }
        }
        match &tokens[at] {
            // A comma at the end is the formatter's.
            TokenTree::Punct(comma) if comma.as_char() == ',' && at + 1 == tokens.len() => break,
            TokenTree::Group(group) => {
                let [open, close] = match group.delimiter() {
                    Delimiter::Parenthesis => ["(", ")"],
                    Delimiter::Brace => ["{", "}"],
                    Delimiter::Bracket => ["[", "]"],
                    Delimiter::None => ["", ""],
                };
                meaning.push_str(open);
                write(group.stream(), meaning);
                meaning.push_str(close);
            }
            TokenTree::Literal(literal) => {
                let literal = literal.to_string();
                // Text with spaces is for people; names of tensors and constants have none.
                let is_text = literal.contains('"') && literal.contains(char::is_whitespace);
                meaning.push_str(if is_text { "\"\"" } else { &literal });
            }
            other => meaning.push_str(&other.to_string()),
        }
        meaning.push(' ');
        at += 1;
    }
}

/// What is in the attribute that begins here, and how many tokens it has.
fn attribute(tokens: &[TokenTree]) -> Option<(TokenStream, usize)> {
    let punct = |at: usize, c: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == c);
    if !punct(0, '#') {
        return None;
    }
    let at = if punct(1, '!') { 2 } else { 1 };
    match tokens.get(at) {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => {
            Some((group.stream(), at + 1))
        }
        _ => None,
    }
}

/// Where the item ends that begins at `at`, further attributes included.
fn item_end(tokens: &[TokenTree], mut at: usize) -> usize {
    while let Some((_, end)) = attribute(&tokens[at..]) {
        at += end;
    }
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
            TokenTree::Punct(end) if end.as_char() == ';' => break,
            _ => {}
        }
    }
    at
}
