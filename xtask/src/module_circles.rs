//! Modules of a crate that use each other in a circle: none of them can be read, tested or moved without the others.

use crate::root;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Crates without circles. `crates/gpu` and `crates/gemma` are not among them: methods of `Gpu`, `Model` and `Config`
/// are spread over the modules that they are about.
const CRATES: [&str; 9] = [
    "crates/classifier",
    "crates/cli",
    "crates/formats",
    "crates/kernels",
    "crates/rng",
    "crates/serve",
    "crates/testing",
    "web",
    "xtask",
];

/// Modules whose own modules have no circles either.
const FOLDERS: [&str; 4] = ["web/src/engine", "web/src/loader", "web/src/page", "web/src/storage"];

/// The code of every module of a crate's root by its name, and the root's own.
type Modules = (BTreeMap<String, String>, String);

/// The modules that each module uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let circles: Vec<String> = CRATES
        .iter()
        .filter_map(|of| Some(format!("{of}: {}", circle(&read(&root().join(of).join("src")))?)))
        .collect();
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

#[test]
fn no_modules_of_a_folder_use_each_other_in_a_circle() {
    let of = |folder: &&str| {
        let path = root().join(folder);
        Some(format!("{folder}: {}", circle_of(&uses_within(&path, &read_folder(&path)))?))
    };
    let circles: Vec<String> = FOLDERS.iter().filter_map(of).collect();
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

#[test]
fn circles_of_a_folder_are_found() {
    let circle = |texts: [(&str, usize, &str); 3]| {
        let files = texts.map(|(name, depth, text)| (name.to_owned(), depth, code(text)));
        circle_of(&uses_within(Path::new("src/page"), &files))
    };
    let line = [
        ("a", 1, "use super::{b::X, c};"),
        ("b", 1, "use crate::{page::c, a};"),
        ("c", 2, "use super::a;"),
    ];
    assert_eq!(circle(line), None);
    let two = [("a", 1, "use super::b;"), ("b", 2, "use super::super::a;"), ("c", 1, "")];
    assert_eq!(circle(two).as_deref(), Some("a -> b -> a"));
    let through =
        [("a", 1, "super::b::f()"), ("b", 1, "use crate::{page::{c}};"), ("c", 1, "use super::a;")];
    assert_eq!(circle(through).as_deref(), Some("a -> b -> c -> a"));
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

/// The files of a folder: the module that each belongs to, how deep it lies, its code.
fn read_folder(folder: &Path) -> Vec<(String, usize, String)> {
    let file = |path: std::path::PathBuf| {
        let below = path.strip_prefix(folder).expect("it is in the folder").with_extension("");
        let names: Vec<_> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let text = code(&fs::read_to_string(&path).expect("the file is text"));
        (names.last()? != "tests").then(|| (names[0].clone(), names.len(), text))
    };
    rust_files(folder).into_iter().filter_map(file).collect()
}

/// Which modules of a folder use which: by `super` as often as the file is deep, or by the folder's name.
fn uses_within(folder: &Path, files: &[(String, usize, String)]) -> Uses {
    let own = format!("{}::", folder.file_name().unwrap_or_default().to_string_lossy());
    let mut uses = Uses::new();
    for (module, ..) in files {
        uses.entry(module.clone()).or_default();
    }
    for (module, depth, text) in files {
        let up = "super::".repeat(*depth);
        let found = [up.as_str(), own.as_str()].into_iter().flat_map(|by| text.split(by).skip(1));
        for name in found.flat_map(heads).filter(|name| name != module) {
            if uses.contains_key(name) {
                uses.entry(module.clone()).or_default().insert(name.to_owned());
            }
        }
    }
    uses
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

/// The first circle of a crate.
fn circle((modules, root): &Modules) -> Option<String> {
    // what the root exports again, by its name
    let mut exported = BTreeMap::new();
    for path in root.split("use ").skip(1) {
        if let Some((module, names)) = path.split(';').next().and_then(|path| path.split_once("::"))
        {
            exported.extend(words(names).map(|name| (name, module)));
        }
    }
    let uses: Uses = modules
        .iter()
        .map(|(module, text)| {
            let found = text.split("crate::").skip(1).flat_map(heads);
            let found = found.map(|name| exported.get(name).copied().unwrap_or(name));
            let others = found.filter(|name| *name != module && modules.contains_key(*name));
            (module.clone(), others.map(str::to_owned).collect())
        })
        .collect();
    circle_of(&uses)
}

/// The first circle, as `a -> b -> a`.
fn circle_of(uses: &Uses) -> Option<String> {
    let mut done = BTreeSet::new();
    uses.keys().find_map(|module| walk(module, uses, &mut Vec::new(), &mut done))
}

fn walk<'a>(
    module: &'a str,
    uses: &'a Uses,
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
