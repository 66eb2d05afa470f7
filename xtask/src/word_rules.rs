//! What users read keeps to the glossary, `docs/words.md`: no word that it bans, and every term where it says.

use crate::source_rules::files;
use std::path::Path;

const GLOSSARY: &str = "docs/words.md";

/// Sources whose string literals users read: page, engine, loader, command line, report.
const READ: [&str; 3] = ["web/src/", "crates/cli/src/", "crates/classifier/src/"];

/// Attributes whose values nobody reads.
const UNSEEN: [&str; 6] = ["class=", "data-test=", "test=", "id=", "data-state=", "data-line="];

/// Where the glossary says that a term is used, and the sources that are meant.
const PLACES: [(&str, &[&str]); 8] = [
    ("Model", &["web/src/page/model", "web/src/cards.rs"]),
    ("Data", &["web/src/page/data"]),
    ("Train", &["web/src/page/train", "crates/classifier/src/recipe.rs"]),
    ("Results", &["web/src/page/results"]),
    // how a table is read is chosen with the same controls as under Data
    ("Use", &["web/src/page/using", "web/src/page/data/reading.rs"]),
    ("messages", &["web/src/"]),
    ("report", &["crates/classifier/src/report", "crates/classifier/src/plots"]),
    ("command line", &["crates/cli/src/"]),
];

/// A text that users may read, and the line where it begins.
pub(crate) type Text = (usize, String);

/// The string literals of a Rust source, up to its tests.
pub(crate) fn literals(source: &str) -> Vec<Text> {
    let end = source.find("#[cfg(test)]").unwrap_or(source.len());
    let source = &source[..end];
    let (mut texts, mut at) = (Vec::new(), 0);
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let length = match rest.chars().next() {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("r\"") || rest.starts_with("r#\"") => {
                let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
                let close = format!("\"{}", "#".repeat(hashes));
                let open = hashes + 2;
                rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
            }
            Some('"') => 1 + quoted(&rest[1..]),
            // a quote as a character opens no string
            Some('\'') if rest.starts_with("'\"'") => 3,
            Some('\'') if rest.starts_with("'\\\"'") => 4,
            Some(c) => c.len_utf8(),
            None => break,
        };
        if rest.starts_with('"') && !UNSEEN.iter().any(|name| source[..at].ends_with(name)) {
            let line = source[..at].matches('\n').count() + 1;
            texts.push((line, joined(&rest[1..length.max(2) - 1])));
        }
        at += length;
    }
    texts
}

/// A literal on one line: long ones are broken by a backslash.
pub(crate) fn joined(literal: &str) -> String {
    literal.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Bytes of a string literal behind its opening quote, the closing one included.
pub(crate) fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// The help texts of the command line: clap takes them from doc comments.
fn help(source: &str) -> impl Iterator<Item = Text> + '_ {
    let line = |(n, line): (usize, &str)| {
        Some((n + 1, line.trim_start().strip_prefix("/// ")?.to_owned()))
    };
    source.lines().enumerate().filter_map(line)
}

/// Every text that users may read, with its file.
fn texts() -> Vec<(String, Text)> {
    let read = |path: &str| {
        let tests = path.contains("/tests") || path.ends_with("tests.rs");
        !tests && READ.iter().any(|folder| path.starts_with(folder))
    };
    let mut all = Vec::new();
    for (path, source) in files(&["rs"]) {
        let path = path.display().to_string();
        if read(&path) {
            let helps = path.starts_with("crates/cli/").then(|| help(&source));
            all.extend(helps.into_iter().flatten().map(|text| (path.clone(), text)));
            all.extend(literals(&source).into_iter().map(|text| (path.clone(), text)));
        }
    }
    let mut plain = files(&["html", "webmanifest", "md"]);
    plain.retain(|(path, _)| {
        // the glossary names what it bans, and fixtures come with texts of others
        path != Path::new(GLOSSARY) && !path.starts_with("crates") && !path.starts_with("tools")
    });
    for (path, source) in plain {
        let lines = source.lines().enumerate().map(|(n, line)| (n + 1, line.to_owned()));
        all.extend(lines.map(|text| (path.display().to_string(), text)));
    }
    all
}

/// Whether the words occur in the text as whole words, in any case.
fn says(text: &str, words: &str) -> bool {
    let (text, words) = (text.to_lowercase(), words.to_lowercase());
    text.match_indices(&words).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + words.len()..].chars().next();
        ![before, after].into_iter().flatten().any(char::is_alphanumeric)
    })
}

/// The cells of the table under a heading of the glossary.
fn table(heading: &str) -> Vec<Vec<String>> {
    let all = files(&["md"]);
    let glossary = all.iter().find(|(path, _)| path == Path::new(GLOSSARY));
    let text = glossary.map_or("", |(_, text)| text.as_str());
    let section = text.split("\n## ").find(|section| section.starts_with(heading));
    let rows = section.unwrap_or_default().lines().filter(|line| line.starts_with("| "));
    let rows: Vec<Vec<String>> = rows
        .skip(1)
        .filter(|line| !line.starts_with("| ---"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(!rows.is_empty(), "{GLOSSARY} has no table under {heading}");
    rows
}

#[test]
fn texts_use_the_words_of_the_glossary() {
    let mut found = Vec::new();
    let texts = texts();
    for row in table("Words that are not used") {
        let [banned, instead] = row.as_slice() else { panic!("two cells in {row:?}") };
        for words in banned.split('`').skip(1).step_by(2) {
            for (path, (line, text)) in &texts {
                // commands are for those who work on Hearth, who read no page
                let meant = path.starts_with("web/") || !words.starts_with("cargo");
                if meant && says(text, words) {
                    found.push(format!("{path}:{line}: `{words}` in {text:?}; say {instead}"));
                }
            }
        }
    }
    assert!(found.is_empty(), "{} places:\n{}", found.len(), found.join("\n"));
}

#[test]
fn terms_of_the_glossary_are_where_it_says() {
    let texts = texts();
    let mut missing = Vec::new();
    for row in table("Terms") {
        let [term, meaning, places] = row.as_slice() else { panic!("three cells in {row:?}") };
        assert!(meaning.ends_with('.'), "{term}: a meaning is a sentence");
        for place in places.split(", ") {
            let sources = PLACES.iter().find(|(name, _)| *name == place);
            let Some((_, sources)) = sources else { panic!("{term}: no place is called {place}") };
            let used = |(path, (_, text)): &(String, Text)| {
                sources.iter().any(|source| path.starts_with(source)) && says(text, term)
            };
            if !texts.iter().any(used) {
                missing.push(format!("{term} is not used in {place}"));
            }
        }
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

#[test]
fn literals_are_found_and_comments_are_not() {
    let source = concat!(
        "// \"no\"\nlet a = \"one \\\" two\"; // \"no\"\nlet c = '\"';\nclass=\"no\"\n",
        "let b = r#\"a \"raw\" one\"#;\n\"three\"\n#[cfg(test)]\n\"no\""
    );
    assert_eq!(literals(source), [(2, "one \\\" two".to_owned()), (6, "three".to_owned())]);
    assert!(says("It goes on.", "goes on") && !says("forgoes on", "goes on"));
}
