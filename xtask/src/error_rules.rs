//! What users read when something fails says what to do about it.

use crate::source_rules::files;
use crate::word_rules::{joined, literals, quoted};
use std::path::Path;

/// Crates whose error types reach users.
const CRATES: [&str; 4] =
    ["crates/classifier/src/", "crates/formats/src/", "crates/gemma/src/", "crates/gpu/src/"];

/// What a user is told to do, or what is accepted.
const DIRECTIONS: [&str; 35] = [
    "add",
    "again",
    "allow",
    "change",
    "check",
    "choose",
    "close",
    "convert",
    "correct",
    "enable",
    "expected",
    "export",
    "fetch",
    "free",
    "give",
    "install",
    "keep",
    "leave",
    "load",
    "lower",
    "make",
    "name",
    "raise",
    "rename",
    "save",
    "set",
    "shorten",
    "supported",
    "take",
    "train",
    "try",
    "update",
    "use",
    "which",
    "write",
];

/// Texts that only a mistake in this program could show, or an asked-for end.
const INTERNAL: [&str; 14] = [
    "stopped",
    "needs a number of columns that is a multiple of",
    "is not the name of a weight layout",
    "rows {begin} to {end} were asked for",
    "the row has {found} bytes or weights",
    "class {label} of {classes}",
    "class {found} of {classes}",
    "cells and {probabilities} probabilities",
    "cannot draw the plot",
    "writing the tensors",
    "the GPU refused a command",
    "workgroups in one dimension",
    "bindings recorded",
    "matches {wanted:?}; available: {available}",
];

/// The text of a string literal that begins behind its quote, and what follows it.
fn literal(rest: &str) -> (String, &str) {
    let (text, behind) = rest.split_at(quoted(rest));
    (joined(text.strip_suffix('"').unwrap_or(text)), behind)
}

/// Whether a text has words of its own, beside what is put into it.
fn has_words(text: &str) -> bool {
    let mut depth = 0;
    text.chars().any(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0 && c.is_alphabetic()
    })
}

fn directs(text: &str) -> bool {
    let told = ["{advice}", "{hint}", "{todo}", "{fault}", "{source}", "{message}", "{0}"];
    // what is put into it is not its own
    let own: Vec<&str> =
        text.split('{').map(|part| part.split_once('}').map_or(part, |p| p.1)).collect();
    let mut words = own.iter().flat_map(|part| part.split(|c: char| !c.is_alphanumeric()));
    let directs = words.any(|word| DIRECTIONS.contains(&word.to_lowercase().as_str()));
    directs || told.iter().any(|other| text.ends_with(other))
}

/// The texts of `#[error("…")]` that say nothing of what to do.
fn without_direction(source: &str) -> Vec<String> {
    let errors = source.split("#[error(").skip(1);
    let texts = errors.filter_map(|rest| Some(literal(rest.trim_start().strip_prefix('"')?)));
    let texts = texts.map(|(text, _)| text).filter(|text| has_words(text));
    texts
        .filter(|text| !directs(text) && !INTERNAL.iter().any(|known| text.contains(known)))
        .collect()
}

/// What `Failure::new` and `Problem::new` of the page are given, where that is a text without an advice.
fn without_advice(source: &str) -> Vec<String> {
    let source = &source[..source.find("#[cfg(test)]").unwrap_or(source.len())];
    let calls =
        ["Failure::new(", "Problem::new("].into_iter().flat_map(|call| source.split(call).skip(1));
    let texts = calls.filter_map(|rest| {
        let rest = rest.trim_start();
        let (text, behind) =
            literal(rest.strip_prefix("format!(").unwrap_or(rest).trim_start().strip_prefix('"')?);
        // up to the end of the call: the first `;` is behind it, as no advice holds one that matters here
        let call = &behind[..behind.find(';').unwrap_or(behind.len())];
        (has_words(&text) && call.contains("\"\"")).then_some(text)
    });
    texts.collect()
}

#[test]
fn errors_say_what_to_do() {
    let mut found = Vec::new();
    for (path, text) in files(&["rs"]) {
        let within = |folder: &&str| path.starts_with(Path::new(folder));
        let texts = match &path {
            _ if CRATES.iter().any(within) => without_direction(&text),
            _ if within(&"web/src") && !path.ends_with("tests.rs") => without_advice(&text),
            _ => continue,
        };
        found.extend(texts.into_iter().map(|text| format!("{}: {text}", path.display())));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Options that other programs have.
const OPTIONS_OF_OTHERS: [&str; 1] = ["--bigendian"];

/// Whether a text names an option of the command line other than in parentheses that begin with one, which the page
/// leaves out (`web/src/protocol/on_page.rs`).
fn has_open_option(text: &str) -> bool {
    text.match_indices("--").any(|(at, _)| {
        let (before, option) = text.split_at(at);
        let is_option = option[2..].starts_with(|c: char| c.is_ascii_lowercase());
        let inside = before.rfind('(').filter(|open| before[*open..].find(')').is_none());
        let grouped = inside.is_some_and(|open| text[open + 1..].starts_with("--"));
        is_option && !grouped && !OPTIONS_OF_OTHERS.iter().any(|other| option.starts_with(other))
    })
}

#[test]
fn what_the_page_shows_too_has_options_in_parentheses_only() {
    let mut found = Vec::new();
    for (path, text) in files(&["rs"]) {
        let shown = CRATES.iter().any(|folder| path.starts_with(Path::new(folder)));
        if shown && !path.ends_with("tests.rs") {
            let open = literals(&text).into_iter().filter(|(_, text)| has_open_option(text));
            found.extend(open.map(|(line, text)| format!("{}:{line}: {text}", path.display())));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn open_options_are_found() {
    assert!(has_open_option("x; --label sets it") && has_open_option("x (a) --label (b)"));
    assert!(
        !has_open_option("x (--label or --text) -- y") && !has_open_option("without --bigendian")
    );
}

#[test]
fn errors_that_do_not_are_found() {
    let told = r##"#[error("{file}: damaged; fetch it again")] A, #[error(transparent)] B, #[error("{file}: {source}")] C"##;
    assert!(without_direction(told).is_empty());
    let silent = "#[error(\n    \"{file}: \\\n damaged\"\n)]";
    assert_eq!(without_direction(silent), ["{file}: damaged"]);
    let calls = "Problem::new(format!(\"no {row}\"), \"\"); Failure::new(\"no\", \"Try again.\"); Failure::new(what, \"\");";
    assert_eq!(without_advice(calls), ["no {row}"]);
}
