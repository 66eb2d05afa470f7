//! Modules of a crate that use each other in a circle: none of them can be read, tested or moved without the others.

use crate::root;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Crates without circles. `crates/gpu` and `crates/gemma` are not among them: methods of `Gpu`, `Model` and `Config`
/// are spread over the modules that they are about.
const CRATES: [&str; 8] = [
    "crates/classifier",
    "crates/cli",
    "crates/formats",
    "crates/kernels",
    "crates/rng",
    "crates/testing",
    "web",
    "xtask",
];

/// The code of every module of a crate's root by its name, and the root's own.
type Modules = (BTreeMap<String, String>, String);

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let circles: Vec<String> = CRATES
        .iter()
        .filter_map(|of| Some(format!("{of}: {}", circle(&read(&root().join(of).join("src")))?)))
        .collect();
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

#[test]
fn circles_are_found() {
    let modules = |texts: [(&str, &str); 3], root: &str| {
        let own = texts.map(|(name, text)| (name.to_owned(), code(text)));
        circle(&(BTreeMap::from(own), root.to_owned()))
    };
    let line =
        [("a", "use crate::{b::{X, c}, c::Y};"), ("b", "use crate::c;"), ("c", "// crate::a")];
    assert_eq!(modules(line, ""), None);
    let two = [("a", "use crate::b::X;"), ("b", "fn f() { crate::a::g() }"), ("c", "")];
    assert_eq!(modules(two, "").as_deref(), Some("a -> b -> a"));
    let three =
        [("a", "use crate::{b, other::c};"), ("b", "use crate::C;"), ("c", "use crate::a::f;")];
    assert_eq!(modules(three, "pub use c::{B, C};").as_deref(), Some("a -> b -> c -> a"));
    let in_tests =
        [("a", "use crate::b;"), ("b", "#[cfg(test)]\nmod tests { use crate::a; }"), ("c", "")];
    assert_eq!(modules(in_tests, ""), None);
}

fn read(src: &Path) -> Modules {
    let (mut modules, mut own) = (BTreeMap::<String, String>::new(), String::new());
    for path in rust_files(src) {
        let below = path.strip_prefix(src).expect("it is in the folder").with_extension("");
        let mut parts = below.iter().map(|part| part.to_string_lossy().into_owned());
        let first = parts.next().expect("a file has a name");
        let tests = parts.next_back().is_some_and(|last| last == "tests");
        let text = code(&fs::read_to_string(&path).expect("the file is text"));
        match first.as_str() {
            "lib" | "main" => own.push_str(&text),
            _ if tests => {}
            _ => modules.entry(first).or_default().push_str(&text),
        }
    }
    (modules, own)
}

fn rust_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("the folder is readable").path());
    let files = |path: std::path::PathBuf| match path.is_dir() {
        true => rust_files(&path),
        false => vec![path],
    };
    paths.flat_map(files).filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}

/// The text without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let line = |line: &str| [line.split("//").next().unwrap_or_default(), "\n"].concat();
    text.lines().map(line).collect()
}

/// The first circle, as `a -> b -> a`.
fn circle((modules, root): &Modules) -> Option<String> {
    // what the root exports again, by its name
    let mut exported = BTreeMap::new();
    for path in root.split("use ").skip(1) {
        if let Some((module, names)) = path.split(';').next().and_then(|path| path.split_once("::"))
        {
            exported.extend(words(names).map(|name| (name, module)));
        }
    }
    let uses: BTreeMap<&str, BTreeSet<&str>> = modules
        .iter()
        .map(|(module, text)| {
            let found = text.split("crate::").skip(1).flat_map(heads);
            let found = found.map(|name| exported.get(name).copied().unwrap_or(name));
            let others = found.filter(|name| *name != module && modules.contains_key(*name));
            (module.as_str(), others.collect())
        })
        .collect();
    let mut done = BTreeSet::new();
    uses.keys().find_map(|module| walk(module, &uses, &mut Vec::new(), &mut done))
}

fn walk<'a>(
    module: &'a str,
    uses: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<String> {
    if let Some(start) = way.iter().position(|other| *other == module) {
        return Some([&way[start..], &[module]].concat().join(" -> "));
    }
    if !done.insert(module) {
        return None;
    }
    way.push(module);
    let found = uses[module].iter().find_map(|other| walk(other, uses, way, done));
    way.pop();
    found
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The first names of a path or a tree of paths: `a` and `c` of `{a::{b, d}, c::e}`.
fn heads(path: &str) -> Vec<&str> {
    let Some(tree) = path.strip_prefix('{') else { return words(path).take(1).collect() };
    let (mut depth, mut found, mut start) = (0, Vec::new(), 0);
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                found.extend(words(&tree[start..at]).next());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}
