//! What the tests and the page need beside cargo, and how it gets here.
//!
//! On Debian as root everything is installed. Elsewhere one line says what to install.

use crate::{cache_dir, cargo, root, run};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const WASM: &str = "wasm32-unknown-unknown";
/// 0.22 wants a newer Rust than the pinned one.
const TRUNK: &str = "0.21.14";

/// The program of npm.
pub const NPM: &str = if cfg!(windows) { "npm.cmd" } else { "npm" };

/// Something of the system that has to be there.
pub struct Need {
    what: &'static str,
    pub packages: &'static [&'static str],
    present: fn() -> bool,
}

pub const VULKAN: Need = Need {
    what: "a Vulkan driver",
    packages: &["mesa-vulkan-drivers", "libvulkan1"],
    present: || !cfg!(target_os = "linux") || has_vulkan(),
};
const BROWSER: Need = Need {
    what: "Chromium with chromedriver",
    packages: &["chromium", "chromium-driver"],
    present: || on_path("chromedriver").is_some() && browser().is_some(),
};
const FIREFOX: Need =
    Need { what: "Firefox", packages: &["firefox-esr"], present: || firefox().is_some() };
const NODE: Need = Need {
    what: "Node 18 or later with npm",
    packages: &["nodejs", "npm"],
    present: || on_path("node").is_some() && on_path("npm").is_some(),
};
const PIP: Need = Need {
    what: "Python 3 with pip",
    packages: &["python3-pip"],
    present: || {
        let pip = Command::new("python3").args(["-m", "pip", "--version"]).output();
        pip.is_ok_and(|output| output.status.success())
    },
};

/// What native tests need: a GPU, in software where there is no other.
pub fn for_native_tests() -> Result<()> {
    ensure(&[&VULKAN])
}

/// What tests in the browser need. Returns the PATH on which the wasm-bindgen tools come first.
pub fn for_browser_tests() -> Result<OsString> {
    ensure(&[&BROWSER])?;
    wasm_target()?;
    path_with(&[wasm_bindgen()?])
}

/// What building the page needs. Returns the PATH on which its tools come first.
pub fn for_page() -> Result<OsString> {
    ensure(&[&NODE])?;
    wasm_target()?;
    let node_modules = node_packages()?;
    path_with(&[wasm_bindgen()?, trunk()?, Some(node_modules.join(".bin"))])
}

/// The Firefox that the page's tests run in too, with the Vulkan driver that it computes on.
pub fn for_firefox_tests() -> Result<PathBuf> {
    ensure(&[&FIREFOX, &VULKAN])?;
    firefox().context("Firefox is gone")
}

/// Python with pip, for the model's second source.
pub fn python_with_pip() -> Result<()> {
    ensure(&[&PIP])
}

/// The Chromium or Chrome on PATH, or the one that the environment variable CHROMIUM names.
pub fn browser() -> Option<PathBuf> {
    named("CHROMIUM", &["chromium", "chromium-browser", "google-chrome"])
}

/// The Firefox on PATH, or the one that the environment variable FIREFOX names.
fn firefox() -> Option<PathBuf> {
    named("FIREFOX", &["firefox-esr", "firefox"])
}

/// The program that an environment variable names, or the first of these on PATH.
fn named(variable: &str, programs: &[&str]) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.or_else(|| programs.iter().copied().find_map(on_path))
}

fn is_debian() -> bool {
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    os_release.lines().any(|line| line == "ID=debian")
}

/// Installs the packages of what is missing, or says in one line what to install.
fn ensure(needs: &[&Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().copied().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    if !is_debian() {
        let what: Vec<&str> = missing.iter().map(|need| need.what).collect();
        bail!("please install {}, then run this again", what.join(" and "));
    }
    if !is_root() {
        bail!("please run: sudo apt-get install {}", packages.join(" "));
    }
    println!("installing {}", packages.join(" "));
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        run(apt.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet=2").args(arguments))
    };
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], packages.as_slice()].concat())?;
    match missing.iter().find(|need| !(need.present)()) {
        Some(need) => {
            bail!("{} is still missing after installing {}", need.what, packages.join(" "))
        }
        None => Ok(()),
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// A Vulkan loader and at least one driver for it.
fn has_vulkan() -> bool {
    let driver = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
        || ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"]
            .iter()
            .any(|folder| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()));
    let loader = Command::new("ldconfig")
        .arg("-p")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("libvulkan.so.1"));
    driver && loader
}

/// The wasm32 standard library of the toolchain in use.
fn wasm_target() -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", WASM])
        .current_dir(root())
        .output()
        .context("cannot start rustc")?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && libraries.is_dir() {
        return Ok(());
    }
    if on_path("rustup").is_none() {
        bail!("please install the Rust target {WASM} for the toolchain of rust-toolchain.toml");
    }
    run(Command::new("rustup").args(["target", "add", WASM]).current_dir(root()))
}

/// The wasm-bindgen tools of Cargo.lock's version: a folder to put on PATH, or `None` when PATH has them.
fn wasm_bindgen() -> Result<Option<PathBuf>> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let version =
        locked_version(&lock, "wasm-bindgen").context("Cargo.lock has no wasm-bindgen")?;
    // with --locked its 0.2.130 fails on a missing crate
    let options = ["--no-default-features"];
    cargo_tool("wasm-bindgen-cli", version, &["wasm-bindgen", "wasm-bindgen-test-runner"], &options)
}

fn trunk() -> Result<Option<PathBuf>> {
    let options = ["--locked", "--no-default-features", "--features", "rustls"];
    cargo_tool("trunk", TRUNK, &["trunk"], &options)
}

/// Finds programs of an exact version on PATH or in the cache, or installs them into the cache.
fn cargo_tool(
    package: &str,
    version: &str,
    programs: &[&str],
    options: &[&str],
) -> Result<Option<PathBuf>> {
    let right = |folder: Option<&Path>| {
        programs.iter().all(|program| {
            let path = folder.map_or_else(|| PathBuf::from(program), |folder| folder.join(program));
            let output = Command::new(path).arg("--version").output();
            output.is_ok_and(|output| {
                String::from_utf8_lossy(&output.stdout)
                    .split_whitespace()
                    .any(|word| word == version)
            })
        })
    };
    if right(None) {
        return Ok(None);
    }
    let home = cache_dir()?.join("tools").join(format!("{package}-{version}"));
    let bin = home.join("bin");
    if right(Some(&bin)) {
        return Ok(Some(bin));
    }
    // two runs that begin together share one installation: the later one waits, and finds the programs
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    let lock = fs::File::create(home.join(".lock")).context("cannot make a lock file")?;
    lock.lock().context("cannot lock the tool's folder")?;
    if right(Some(&bin)) {
        return Ok(Some(bin));
    }
    println!("installing {package} {version} into {}", home.display());
    // built once and run briefly: what counts is the time to build it
    let mut install = cargo();
    install
        .args(["install", "--quiet", package, "--version", version, "--root"])
        .arg(&home)
        .arg("--target-dir")
        .arg(home.join("build"))
        .args(options)
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    run(&mut install)?;
    fs::remove_dir_all(home.join("build")).context("cannot remove the build folder")?;
    if !right(Some(&bin)) {
        bail!("{} does not hold {package} {version} after installing it", bin.display());
    }
    Ok(Some(bin))
}

fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

/// The npm packages of the end-to-end tests and of the release build, installed from their lock file.
pub fn node_packages() -> Result<PathBuf> {
    let folder = root().join("web/e2e");
    let modules = folder.join("node_modules");
    // npm writes its own copy of the lock into node_modules when it is done
    let changed = |path: PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let installed = changed(modules.join(".package-lock.json"));
    if installed.is_none() || installed < changed(folder.join("package-lock.json")) {
        let options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
        run(Command::new(NPM).args(options).current_dir(&folder))?;
    }
    Ok(modules)
}

/// A program on PATH.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program).with_extension(std::env::consts::EXE_EXTENSION))
        .find(|file| file.is_file())
}

fn path_with(folders: &[Option<PathBuf>]) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = folders.iter().flatten().cloned().chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("a folder of PATH cannot be joined")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locked_version_is_that_of_the_exact_package() {
        let lock = "[[package]]\nname = \"wasm-bindgen-futures\"\nversion = \"0.4.80\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\n";
        assert_eq!(locked_version(lock, "wasm-bindgen"), Some("0.2.130"));
        assert_eq!(locked_version(lock, "wasm"), None);
    }
}
