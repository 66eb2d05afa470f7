//! The archive of a release: the program with what packages install beside it, and its checksum.

use crate::{model, root, run};
use anyhow::{Context, Result, ensure};
use flate2::{Compression, GzBuilder};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Completions by shell, and the names that the shells look for.
const COMPLETIONS: [(&str, &str); 5] = [
    ("bash", "hearth.bash"),
    ("elvish", "hearth.elv"),
    ("fish", "hearth.fish"),
    ("powershell", "_hearth.ps1"),
    ("zsh", "_hearth"),
];
/// Documents of the repository that go along.
const DOCUMENTS: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"];

/// The name of a release's folder and archive, as `package.metadata.binstall` in crates/cli/Cargo.toml has it.
fn name(target: &str) -> String {
    format!("hearth-{}-{target}", env!("CARGO_PKG_VERSION"))
}

/// The target that the compiler builds for by itself.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").current_dir(root()).output();
    let said = String::from_utf8(output.context("cannot start rustc")?.stdout)?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say which target it builds for")?.to_owned())
}

/// Writes the archive of a built program into a folder, and its checksum beside it. Returns the archive's path.
pub fn write(program: &Path, out: &Path) -> Result<PathBuf> {
    let name = name(&host()?);
    let folder = out.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    gather(program, &folder)?;
    let archive = out.join(format!("{name}.tar.gz"));
    pack(&folder, &name, &archive)?;
    fs::remove_dir_all(&folder)?;
    // as `sha256sum --check` reads it
    let line = format!("{}  {name}.tar.gz\n", model::sha256(&archive)?);
    let checksum = out.join(format!("{name}.tar.gz.sha256"));
    fs::write(&checksum, line).with_context(|| format!("cannot write {}", checksum.display()))?;
    Ok(archive)
}

/// Puts everything into a folder.
fn gather(program: &Path, folder: &Path) -> Result<()> {
    let completions = folder.join("completions");
    fs::create_dir_all(&completions)
        .with_context(|| format!("cannot make {}", completions.display()))?;
    let copy = |from: &Path, name: &Path| {
        let words = || format!("cannot copy {} to {}", from.display(), folder.display());
        fs::copy(from, folder.join(name)).map(|_| ()).with_context(words)
    };
    copy(program, Path::new(program.file_name().unwrap_or_default()))?;
    for name in DOCUMENTS {
        copy(&root().join(name), Path::new(name))?;
    }
    for (shell, name) in COMPLETIONS {
        let output = Command::new(program).args(["completions", shell]).output();
        let output = output.with_context(|| format!("cannot start {}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "hearth completions {shell}: {said}");
        fs::write(completions.join(name), output.stdout)?;
    }
    run(Command::new(program).arg("man").arg(folder.join("man")))
}

/// Packs a folder: the same files give the same bytes, whoever packs them and when.
fn pack(folder: &Path, name: &str, archive: &Path) -> Result<()> {
    let words = || format!("cannot write {}", archive.display());
    let file = fs::File::create(archive).with_context(words)?;
    let mut tar = tar::Builder::new(GzBuilder::new().write(file, Compression::best()));
    tar.mode(tar::HeaderMode::Deterministic);
    for path in crate::page::files(folder)? {
        tar.append_path_with_name(folder.join(&path), format!("{name}/{path}"))
            .with_context(words)?;
    }
    tar.into_inner().and_then(|gzip| gzip.finish()).map(|_| ()).with_context(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read;

    fn folder(test: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("hearth-archive-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A program that does what the archive asks of `hearth`.
    #[cfg(unix)]
    fn program(folder: &Path, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join("hearth");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[cfg(unix)]
    #[test]
    fn an_archive_has_everything_and_is_the_same_each_time() {
        let folder = folder("whole");
        let text = r#"if [ "$1" = man ]; then mkdir "$2" && echo page > "$2/hearth.1"; else echo "for $2"; fi"#;
        let program = program(&folder, text);
        let archive = write(&program, &folder.join("a")).unwrap();
        let bytes = fs::read(&archive).unwrap();
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(flate2::read::GzDecoder::new(&*bytes)).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.insert(path, (entry.header().mode().unwrap(), text));
        }
        let name = name(&host().unwrap());
        let at =
            |path: &str| found.get(&format!("{name}/{path}")).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(at("hearth").0 & 0o111, 0o111, "the program cannot be started");
        assert_eq!(at("completions/_hearth").1, "for zsh\n");
        assert_eq!(at("man/hearth.1").1, "page\n");
        assert!(at("LICENSE-MIT").1.contains("MIT"));
        assert_eq!(found.len(), 1 + DOCUMENTS.len() + COMPLETIONS.len() + 1);
        // the checksum is that of the archive, and names it
        let checksum = fs::read_to_string(archive.with_extension("gz.sha256")).unwrap();
        let expected = format!("{}  {name}.tar.gz\n", model::sha256(&archive).unwrap());
        assert_eq!(checksum, expected);
        let again = write(&program, &folder.join("b")).unwrap();
        assert!(bytes == fs::read(again).unwrap(), "two archives of the same files differ");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_fails_makes_no_archive() {
        let folder = folder("fails");
        let program = program(&folder, "echo broken >&2; exit 2");
        let error = format!("{:#}", write(&program, &folder.join("out")).unwrap_err());
        assert!(error.contains("hearth completions bash: broken"), "{error}");
        assert!(!folder.join("out").join(name(&host().unwrap()) + ".tar.gz").exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn binstall_finds_the_archive() {
        let manifest = fs::read_to_string(root().join("crates/cli/Cargo.toml")).unwrap();
        let field = |name: &str| {
            let rest = manifest.split(&format!("\n{name} = \"")).nth(1).expect(name);
            let text = rest.split('"').next().unwrap_or_default();
            text.replace("{ version }", env!("CARGO_PKG_VERSION")).replace("{ target }", "t")
        };
        assert!(
            field("pkg-url").ends_with(&format!("/{}.tar.gz", name("t"))),
            "{}",
            field("pkg-url")
        );
        assert_eq!(field("bin-dir"), format!("{}/{{ bin }}{{ binary-ext }}", name("t")));
    }
}
