//! Every shader, checked without a GPU: valid WGSL, within WebGPU's default limits, and the same
//! as its Rust side in names, bindings and structs. All failures are reported together.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

mod limits;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use hearth_gpu::{Access, Kernel};
use hearth_kernels::list;
use limits::{MAX_STORAGE_BUFFERS, over_limits, parse};
use naga::{AddressSpace, Module, ScalarKind, StorageAccess, TypeInner};

fn folder(relative: &str) -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join(relative)
}

/// Files with an extension in a folder and its sub-folders, sorted.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[track_caller]
fn report(failures: &[String]) {
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_shader_is_valid_and_equals_its_rust_side() {
    let sources = RustSources::read();
    report(&list::all().iter().flat_map(|kernel| check(kernel, &sources)).collect::<Vec<_>>());
}

/// All that is wrong with a kernel.
fn check(kernel: &Kernel, sources: &RustSources) -> Vec<String> {
    let mut failures = Vec::new();
    let mut fail = |what: String| failures.push(format!("{}: {what}", kernel.label));
    match parse(kernel) {
        Ok(valid) => {
            let module = &valid.0;
            check_names(kernel, module, &mut fail);
            check_bindings(kernel, module, &mut fail);
            check_structs(kernel, module, sources, &mut fail);
            over_limits(kernel, &valid, &[]).into_iter().for_each(&mut fail);
        }
        Err(error) => fail(error),
    }
    failures
}

/// Checks copies of a valid kernel, each with one fault.
#[test]
fn the_checks_find_what_is_wrong() {
    let sources = RustSources::read();
    let sound = list::all().into_iter().find(|kernel| kernel.name == "rms_norm").unwrap();
    assert_eq!(check(sound, &sources), Vec::<String>::new());
    for (from, to, complaint) in [
        ("let scale = ", "let scale: u32 = ", "rms_norm"),
        ("fn rms_norm(", "fn another(", "entry points"),
        ("@binding(3)", "@binding(4)", "bindings differ"),
        ("var<storage, read_write> y", "var<storage, read> y", "rms_norm"),
        ("var<storage, read> gain", "var<storage, read_write> gain", "bindings differ"),
        ("    eps: f32,", "    eps: f32,\n    more: u32,", "struct Params differs"),
        ("columns4", "columns5", "struct Params differs"),
        ("array<f32, WG>", "array<f32, 64u * WG>", ""),
        ("array<f32, WG>", "array<f32, 65u * WG>", "workgroup memory"),
        ("WG: u32 = 64u", "WG: u32 = 512u", "invocations"),
        ("WG: u32 = 64u", "WG: u32", "overrides"),
    ] {
        let source = sound.source.replace(from, to);
        assert_ne!(source, sound.source, "{from}");
        let bad = Kernel { source: source.leak(), ..*sound };
        let found = check(&bad, &sources);
        let as_expected = if complaint.is_empty() {
            found.is_empty()
        } else {
            found.iter().any(|failure| failure.contains(complaint))
        };
        assert!(as_expected, "{from} -> {to}: {found:?}");
    }
}

/// Limits are those of the constants that a launch uses, whatever the WGSL says.
#[test]
fn limits_follow_the_constants() {
    let kernel = list::all().into_iter().find(|kernel| kernel.label == "matmul_tiled_f32").unwrap();
    let valid = parse(kernel).unwrap();
    let over =
        |gm, gn, bk| over_limits(kernel, &valid, &[("GM", gm), ("GN", gn), ("BK", bk)]).join("; ");
    assert_eq!(over(16, 16, 2), "");
    assert!(over(32, 16, 1).contains("[16, 32, 1] invocations"), "{}", over(32, 16, 1));
    assert!(over(16, 16, 4).contains("bytes of workgroup memory"), "{}", over(16, 16, 4));
}

#[test]
fn every_shader_file_is_registered_and_has_a_module() {
    let registered: BTreeSet<&str> = list::all().iter().map(|kernel| kernel.name).collect();
    let sources = RustSources::read();
    let mut failures = Vec::new();
    for path in files(&folder("../../shaders"), "wgsl") {
        // Shared pieces and weight decoders are in sub-folders.
        if path.parent() != Some(&folder("../../shaders")) {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy();
        if !registered.contains(&*name) {
            failures.push(format!("no module in crates/kernels/src declares shaders/{name}.wgsl"));
        }
        if sources.module(&name).is_none() {
            failures.push(format!("no module in crates/kernels/src embeds shaders/{name}.wgsl"));
        }
    }
    report(&failures);
}

#[test]
fn every_kernel_has_a_reference_that_a_test_of_its_module_uses() {
    let sources = RustSources::read();
    let names: BTreeSet<&str> = list::all().iter().map(|kernel| kernel.name).collect();
    report(
        &names.into_iter().flat_map(|name| without_reference(name, &sources)).collect::<Vec<_>>(),
    );
}

#[test]
fn a_kernel_without_a_reference_is_found() {
    let test = "#[cfg(test)]\nmod tests {";
    let sound = format!("pub fn reference(x: f64) {{}}\n{test} reference(1.0) }}");
    for (text, complaint) in [
        (sound.clone(), None),
        (
            sound.replace("pub fn reference", "pub fn other"),
            Some("op.rs has no `pub fn reference`"),
        ),
        (sound.replace("reference(1.0)", "other(1.0)"), Some("op.rs: no test calls `reference`")),
        (
            "pub fn reference() {}\n#[cfg(test)]\nmod tests;".to_owned(),
            Some("op.rs: no test calls `reference`"),
        ),
    ] {
        let found = without_reference("op", &RustSources(vec![(PathBuf::from("src/op.rs"), text)]));
        assert_eq!(found.as_deref(), complaint);
    }
}

/// What is missing from a kernel's reference on the CPU.
fn without_reference(shader: &str, sources: &RustSources) -> Option<String> {
    let (path, text) = sources.file(shader)?;
    // Some tests share their cases with others of the crate.
    let own = ["#[cfg(test)]\nmod tests", "#[cfg(test)]\npub(crate) mod tests"];
    let (code, tests) = own.iter().find_map(|words| text.split_once(words)).unwrap_or((text, ""));
    let beside = sources.0.iter().find(|(p, _)| *p == path.with_extension("").join("tests.rs"));
    let tests = [tests, beside.map_or("", |(_, text)| text)].concat();
    let file = path.file_name()?.display();
    if !code.contains("pub fn reference(") {
        return Some(format!("{file} has no `pub fn reference`"));
    }
    let call =
        |(at, _): (usize, &str)| !tests[..at].ends_with("fn ") && !tests[..at].ends_with("::");
    let called = tests.match_indices("reference(").any(call);
    (!called).then(|| format!("{file}: no test calls `reference`"))
}

#[test]
fn labels_are_unique() {
    let mut seen = BTreeSet::new();
    let twice = list::all().into_iter().filter(|k| !seen.insert(k.label));
    report(&twice.map(|kernel| kernel.label.to_owned()).collect::<Vec<_>>());
}

#[test]
fn shaders_leave_out_what_is_not_portable() {
    let mut failures = Vec::new();
    for path in files(&folder("../../shaders"), "wgsl") {
        let file = path.file_name().unwrap().display().to_string();
        for (number, line) in (1..).zip(fs::read_to_string(&path).unwrap().lines()) {
            failures.extend(not_portable(line).iter().map(|why| format!("{file}:{number}: {why}")));
        }
    }
    report(&failures);
}

#[test]
fn what_is_not_portable_is_found() {
    for bad in [
        "let a = sin(x);",
        "let a = cos( x );",
        "let a = pow(x, 2.0);",
        "loop {",
        "while i < n {",
        "let h = unpack2x16float(word);",
        "atomicAdd(&sum, 1u);",
        "var<storage, read_write> sum: atomic<u32>;",
        "let y = tanh(x);",
        "for (;;) {",
        "for (var i = 0u; ; i++) {",
    ] {
        assert_eq!(not_portable(bad).len(), 1, "{bad}");
    }
    for good in [
        "// sin, cos and pow have no place in a loop",
        "let cosine = cos_table[i];",
        "let y = tanh(clamp(x, -15.0, 15.0));",
        "for (var i = 0u; i < n; i++) {",
    ] {
        assert!(not_portable(good).is_empty(), "{good}");
    }
}

/// What drivers get wrong in a line of WGSL, or what would make a result depend on scheduling.
fn not_portable(line: &str) -> Vec<&'static str> {
    const BANNED: [(&str, &str); 6] = [
        ("sin", "sin: WGSL promises it to 2^-11 only; tables come from the host"),
        ("cos", "cos: WGSL promises it to 2^-11 only; tables come from the host"),
        ("pow", "pow: as exact as exp2(y * log2(x)) only; multiply, or send the value"),
        ("loop", "loop: loops count to a bound, the guard against endless ones is off"),
        ("while", "while: loops count to a bound, the guard against endless ones is off"),
        ("unpack2x16float", "unpack2x16float: it may flush subnormals; use half()"),
    ];
    let code = line.split("//").next().unwrap_or("");
    let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let mut found: Vec<_> =
        BANNED.iter().filter(|(word, _)| words.contains(word)).map(|(_, why)| *why).collect();
    if words.iter().any(|word| word.starts_with("atomic")) {
        found.push("atomics: the order of a sum would depend on scheduling");
    }
    // Some drivers compute tanh from exponentials that overflow.
    if code.matches("tanh(").count() != code.matches("tanh(clamp(").count() {
        found.push("the argument of tanh is not clamped: write tanh(clamp(x, -15.0, 15.0))");
    }
    if let Some((_, header)) = code.split_once("for (")
        && header.split(';').nth(1).is_none_or(|condition| condition.trim().is_empty())
    {
        found.push("a for loop without a bound on its line");
    }
    found
}

fn check_names(kernel: &Kernel, module: &Module, fail: &mut impl FnMut(String)) {
    let entries: Vec<_> = module.entry_points.iter().map(|entry| entry.name.as_str()).collect();
    if entries != [kernel.name] {
        fail(format!("entry points are {entries:?}, not the file's name alone"));
    }
    if !kernel.label.starts_with(kernel.name) {
        fail(format!("the label does not start with the name {}", kernel.name));
    }
}

fn check_bindings(kernel: &Kernel, module: &Module, fail: &mut impl FnMut(String)) {
    let mut found = Vec::new();
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = variable.binding else { continue };
        let name = variable.name.clone().unwrap_or_default();
        if binding.group != 0 {
            fail(format!("{name} is in group {}, everything is in group 0", binding.group));
        }
        let access = match variable.space {
            AddressSpace::Uniform => Access::Params,
            AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => {
                Access::Write
            }
            _ => Access::Read,
        };
        found.push((binding.binding, access, name));
    }
    found.sort_by_key(|(number, ..)| *number);
    let in_wgsl: Vec<_> = found.iter().map(|(number, access, _)| (*number, *access)).collect();
    let in_rust: Vec<_> = (0..).zip(kernel.bindings.iter().copied()).collect();
    if in_wgsl != in_rust {
        fail(format!("bindings differ:\n  Rust {in_rust:?}\n  WGSL {found:?}"));
    }
    let storage = kernel.bindings.iter().filter(|access| **access != Access::Params).count();
    if storage > MAX_STORAGE_BUFFERS {
        fail(format!("{storage} storage buffers, WebGPU's default is {MAX_STORAGE_BUFFERS}"));
    }
}

/// A field of a struct of numbers: name, scalar type, bytes, offset.
type Field = (String, String, u32, u32);

/// The structs that bindings hold have the same fields with the same types at the same offsets as
/// those of the same name in Rust.
fn check_structs(
    kernel: &Kernel,
    module: &Module,
    sources: &RustSources,
    fail: &mut impl FnMut(String),
) {
    for (_, variable) in module.global_variables.iter().filter(|(_, v)| v.binding.is_some()) {
        let mut ty = &module.types[variable.ty];
        if let TypeInner::Array { base, .. } = ty.inner {
            ty = &module.types[base];
        }
        let (Some(name), TypeInner::Struct { members, span }) = (&ty.name, &ty.inner) else {
            continue;
        };
        let in_wgsl: Vec<Field> = members
            .iter()
            .map(|member| {
                let inner = &module.types[member.ty].inner;
                let kind = match inner.scalar_kind() {
                    Some(ScalarKind::Float) => "f32",
                    Some(ScalarKind::Sint) => "i32",
                    Some(ScalarKind::Uint) => "u32",
                    _ => "another type",
                };
                let bytes = inner.size(module.to_ctx());
                (member.name.clone().unwrap_or_default(), kind.to_owned(), bytes, member.offset)
            })
            .collect();
        let found = sources.structs(kernel.name, name);
        let Some(in_rust) = found.iter().find(|f| **f == in_wgsl).or(found.first()) else {
            fail(format!("no `#[repr(C)] struct {name}` in Rust"));
            continue;
        };
        if *in_rust != in_wgsl {
            fail(format!("struct {name} differs:\n  Rust {in_rust:?}\n  WGSL {in_wgsl:?}"));
        }
        // Parameters are written into larger slots; elements of arrays must be contiguous.
        let bytes = in_rust.last().map_or(0, |(.., bytes, offset)| offset + bytes);
        if name != "Params" && bytes != *span {
            fail(format!("struct {name} has {bytes} bytes in Rust, {span} in WGSL"));
        }
    }
}

/// The crate's own text. The layout of a `repr(C)` struct of four-byte numbers can be read from its
/// text, which needs neither public fields nor a macro around every struct.
struct RustSources(Vec<(PathBuf, String)>);

impl RustSources {
    fn read() -> Self {
        let read = |path: PathBuf| (path.clone(), fs::read_to_string(path).unwrap());
        Self(files(&folder("src"), "rs").into_iter().map(read).collect())
    }

    /// The text of a shader's module.
    fn module(&self, shader: &str) -> Option<&str> {
        self.file(shader).map(|(_, text)| text.as_str())
    }

    /// The module of a shader: the file of its name, or the one that names it.
    fn file(&self, shader: &str) -> Option<&(PathBuf, String)> {
        let quoted = format!("{shader:?}");
        let of_its_name = self.0.iter().find(|(path, _)| stem(path) == shader);
        let naming = || self.0.iter().find(|(_, text)| text.contains(&quoted));
        of_its_name.or_else(naming)
    }

    /// The fields of a struct of the shader's module; if that declares none of this name, of all
    /// the files that it names.
    fn structs(&self, shader: &str, name: &str) -> Vec<Vec<Field>> {
        let Some(own) = self.module(shader) else { return vec![] };
        let named = || self.0.iter().filter(|(path, _)| own.contains(&stem(path)));
        match fields(own, name) {
            Some(fields) => vec![fields],
            None => named().filter_map(|(_, text)| fields(text, name)).collect(),
        }
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// The fields of `struct NAME` in a Rust text, if it is there and `repr(C)`.
fn fields(text: &str, name: &str) -> Option<Vec<Field>> {
    let (before, after) = text.split_once(&format!("struct {name} {{"))?;
    if !before.rsplit("\n\n").next()?.contains("#[repr(C)]") {
        return None;
    }
    let mut offset = 0;
    let body = after.split_once("\n}")?.0.lines().map(str::trim);
    body.filter(|line| !line.starts_with("//") && line.contains(": "))
        .map(|line| {
            let (field, kind) = line.trim_end_matches(',').split_once(": ")?;
            let (kind, count) = match kind.strip_prefix('[') {
                Some(array) => array.trim_end_matches(']').split_once("; ")?,
                None => (kind, "1"),
            };
            let field = field.rsplit(' ').next()?.to_owned();
            let bytes = 4 * count.parse::<u32>().ok()?;
            offset += bytes;
            Some((field, kind.to_owned(), bytes, offset - bytes))
        })
        .collect()
}
