//! `cargo xtask npm`: the npm package. Its engine is the page's worker as it was built; `web/npm` has the modules that
//! speak to it, and their types come from the Rust sources.

use crate::{cargo, page, root, run, tools};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The page's files that the package has too.
const ENGINE: [&str; 2] = ["worker.js", "worker_bg.wasm"];
const MANIFEST: &str = "package.json";
/// The messages' types.
const PROTOCOL: &str = "protocol.d.ts";
/// How the modules are checked and their declarations are made.
const TYPESCRIPT: [&str; 11] = [
    "--allowJs",
    "--checkJs",
    "--strict",
    "--declaration",
    "--emitDeclarationOnly",
    "--target",
    "esnext",
    "--lib",
    "esnext,dom,dom.iterable,dom.asynciterable",
    "--module",
    "nodenext",
];

#[derive(clap::Args)]
pub struct Options {
    /// Take the page's engine as it was built last (`trunk build --release`), without building it again
    #[arg(long)]
    built: bool,
    /// The folder to write; it must not be there yet, or be empty, or hold an earlier package
    #[arg(long, value_name = "DIR", default_value = "npm-package")]
    out: PathBuf,
}

/// Writes the package as a folder and as an archive, and says where the archive is.
pub fn npm(options: &Options) -> Result<()> {
    let path = tools::for_page()?;
    let page = if options.built { page::dist() } else { page::build(&path)? };
    println!("{}", write(&page, &options.out)?.display());
    Ok(())
}

/// Writes the package into a folder and packs it there. Returns the archive's path.
pub fn write(page: &Path, out: &Path) -> Result<PathBuf> {
    let sources = root().join("web/npm");
    let mut manifest = manifest(&sources)?;
    clear(out, &manifest)?;
    let entries = fs::read_dir(&sources).with_context(|| sources.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        copy(&path, &out.join(path.file_name().unwrap_or_default()))?;
    }
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        copy(&root().join(name), &out.join(name))?;
    }
    for name in ENGINE {
        copy(&page.join(name), &out.join(name))
            .context("there is no built page: leave out --built, and it is built")?;
    }
    // one version for all of Hearth
    manifest["version"] = env!("CARGO_PKG_VERSION").into();
    let text = serde_json::to_string_pretty(&manifest)? + "\n";
    let at = out.join(MANIFEST);
    fs::write(&at, text).with_context(|| format!("cannot write {}", at.display()))?;
    types(out)?;
    let mut pack = Command::new(tools::NPM);
    let packed =
        pack.args(["pack", "--json"]).current_dir(out).output().context("cannot start npm")?;
    let told = String::from_utf8_lossy(&packed.stderr);
    ensure!(packed.status.success(), "npm pack: {told}");
    let list: Value = serde_json::from_slice(&packed.stdout).context("npm pack wrote no list")?;
    let name = list[0]["filename"].as_str().context("npm pack named no file")?;
    Ok(out.join(name))
}

/// The messages' types out of Rust, and the declarations of the modules, which are checked against them.
fn types(out: &Path) -> Result<()> {
    let out = std::path::absolute(out)?;
    // with the packages that the native tests are built with, whose dependencies are there then: alone it would have
    // other features, and all of wgpu would be compiled again
    let mut build = cargo();
    build.args(["build", "--quiet", "--locked", "--workspace", "--example", "protocol_types"]);
    run(build.args(["--features", "hearth-web/typescript"]))?;
    let program = crate::dist::program_of("dev").with_file_name("examples").join("protocol_types");
    let program = program.with_extension(std::env::consts::EXE_EXTENSION);
    run(Command::new(program).arg(out.join(PROTOCOL)))?;
    let compiler = tools::node_packages()?.join("typescript/bin/tsc");
    let mut check = Command::new("node");
    check.arg(compiler).args(TYPESCRIPT).arg("index.js").current_dir(&out);
    run(&mut check).context("web/npm does not fit the messages of web/src/protocol")
}

/// The package's description.
fn manifest(folder: &Path) -> Result<Value> {
    let path = folder.join(MANIFEST);
    let words = || format!("cannot read {}", path.display());
    let text = fs::read_to_string(&path).with_context(words)?;
    serde_json::from_str(&text).with_context(words)
}

/// Makes the folder, or empties it where it holds an earlier package.
fn clear(out: &Path, package: &Value) -> Result<()> {
    let words = || format!("cannot write the folder {}", out.display());
    if out.exists() {
        let empty = fs::read_dir(out).with_context(words)?.next().is_none();
        let ours = manifest(out).is_ok_and(|there| there["name"] == package["name"]);
        ensure!(
            empty || ours,
            "--out {}: the folder holds other files; name a new one",
            out.display()
        );
        fs::remove_dir_all(out).with_context(words)?;
    }
    fs::create_dir_all(out).with_context(words)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let words = || format!("cannot copy {} to {}", from.display(), to.display());
    fs::copy(from, to).map(|_| ()).with_context(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_other_files_is_kept() {
        let folder = std::env::temp_dir().join(format!("hearth-npm-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let package = manifest(&root().join("web/npm")).unwrap();
        let other = folder.join("thesis.txt");
        fs::write(&other, "mine").unwrap();
        let error = clear(&folder, &package).unwrap_err().to_string();
        assert!(error.contains("holds other files") && other.is_file(), "{error}");
        // another package is somebody's, too
        fs::write(folder.join(MANIFEST), r#"{ "name": "other" }"#).unwrap();
        assert!(clear(&folder, &package).is_err() && other.is_file());
        // an earlier one is written anew
        fs::write(folder.join(MANIFEST), package.to_string()).unwrap();
        clear(&folder, &package).unwrap();
        assert!(!other.exists() && folder.is_dir());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_example_is_short() {
        let example = fs::read_to_string(root().join("web/npm/example.html")).unwrap();
        let script = example.split("<script").nth(1).unwrap();
        assert!(script.lines().count() <= 20, "{script}");
    }
}
