//! The newest software Vulkan driver for native tests: Mesa's lavapipe from the next Debian's backports.
//!
//! Debian 12's own lavapipe (Mesa 22.3) needs 4 to 15 times as long on some processors. The newer one wants a newer
//! C library, so nothing is installed: its packages are unpacked into the user's cache, and a runner starts programs
//! by the newer dynamic loader, whose libraries they then use.

use super::{cache_dir, run};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release whose backports have it.
const SUITE: &str = "trixie";
const PACKAGES: [&str; 2] = ["mesa-vulkan-drivers", "libvulkan1"];
/// Where Debian puts libraries on amd64, the only one that is tried.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "ld-linux-x86-64.so.2";
const DRIVER: &str = "libvulkan_lvp.so";

/// The program that starts another one on the newest lavapipe, fetched first if it is missing. `None` where the
/// system's own driver is used: the user named one, there is a GPU, or this is no Debian on amd64.
pub fn runner() -> Option<PathBuf> {
    let chosen =
        ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].iter().any(|n| std::env::var_os(n).is_some());
    if chosen || has_gpu() || !is_debian() {
        return None;
    }
    match fetched() {
        Ok(runner) => Some(runner),
        Err(error) => {
            println!("without the newest lavapipe, on the system's own driver: {error:#}");
            None
        }
    }
}

fn has_gpu() -> bool {
    Path::new("/dev/dri/renderD128").exists() || Path::new("/dev/nvidia0").exists()
}

fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let line = |wanted: &str| release.lines().any(|line| line.replace('"', "") == wanted);
    cfg!(all(target_os = "linux", target_arch = "x86_64"))
        && line("ID=debian")
        && (line("VERSION_ID=12") || line("VERSION_ID=13"))
}

fn fetched() -> Result<PathBuf> {
    let home = cache_dir()?.join("lavapipe");
    let runner = home.join("run");
    if runner.is_file() {
        return Ok(runner);
    }
    println!("fetching Mesa's lavapipe of {SUITE}-backports (60 MB) into {}", home.display());
    let fresh = home.with_extension("new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).context("cannot remove an unfinished download")?;
    }
    unpack(&fresh)?;
    fs::write(fresh.join("lavapipe.json"), driver_file(&home))?;
    fs::write(fresh.join("run"), script(&home))?;
    make_executable(&fresh.join("run"))?;
    if home.exists() {
        fs::remove_dir_all(&home).context("cannot remove an older lavapipe")?;
    }
    fs::rename(&fresh, &home).with_context(|| format!("cannot make {}", home.display()))?;
    Ok(runner)
}

/// Downloads the packages by an apt of our own, which knows nothing of this machine, and unpacks their libraries.
fn unpack(folder: &Path) -> Result<()> {
    let apt = folder.join("apt");
    for name in ["lists/partial", "archives/partial", "parts"] {
        fs::create_dir_all(apt.join(name)).with_context(|| format!("no {}", apt.display()))?;
    }
    fs::write(apt.join("status"), "")?;
    fs::write(apt.join("sources.list"), sources()?)?;
    apt_get(&apt, &["update", "--option", "APT::Update::Error-Mode=any"])?;
    let backports = format!("{SUITE}-backports");
    let install = ["install", "--yes", "--download-only", "--target-release", &backports];
    apt_get(&apt, &[&install[..], &PACKAGES].concat())?;
    for entry in fs::read_dir(apt.join("archives"))? {
        let package = entry?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(folder))?;
        }
    }
    let libraries = folder.join(LIBRARIES);
    for needed in [LOADER, DRIVER] {
        if !libraries.join(needed).exists() {
            bail!("the packages hold no {needed}");
        }
    }
    // the other drivers take as much space again
    for entry in fs::read_dir(&libraries)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("libvulkan_") && name != DRIVER {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir_all(&apt).context("cannot remove the downloaded packages")
}

/// This machine's own mirrors, with the suites that are wanted.
fn sources() -> Result<String> {
    let format = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)";
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", format, "Created-By: Packages"]);
    let output = targets.output().context("cannot start apt-get")?;
    let sources = sources_of(&String::from_utf8_lossy(&output.stdout));
    if sources.is_empty() {
        bail!("apt's sources name no Debian mirror");
    }
    Ok(sources)
}

fn sources_of(targets: &str) -> String {
    let own = ["bookworm", "trixie", "stable", "oldstable"];
    let mut lines = String::new();
    for target in targets.lines() {
        let mut fields = target.split('|');
        let mut field = || fields.next().unwrap_or_default();
        let (mirror, release, component, key) = (field(), field(), field(), field());
        // apt leaves what it does not know as it stands
        let key = Some(key).filter(|key| key.starts_with('/'));
        if component == "main" && own.contains(&release) && !lines.contains(mirror) {
            let options = key.map_or_else(String::new, |key| format!("[signed-by={key}] "));
            for suite in [SUITE.to_owned(), format!("{SUITE}-backports")] {
                lines += &format!("deb {options}{mirror} {suite} main\n");
            }
        }
    }
    lines
}

fn apt_get(folder: &Path, arguments: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.arg("--quiet=2").args(["--option", "APT::Install-Recommends=false"]);
    apt.args(["--option", "Acquire::Languages=none", "--option", "APT::Sandbox::User=root"]);
    for (name, place) in [
        ("Etc::SourceList", "sources.list"),
        ("Etc::SourceParts", "parts"),
        ("Etc::PreferencesParts", "parts"),
        ("State", ""),
        ("State::Lists", "lists"),
        ("State::Status", "status"),
        ("Cache", ""),
        ("Cache::Archives", "archives"),
    ] {
        apt.arg("--option").arg(format!("Dir::{name}={}", folder.join(place).display()));
    }
    run(apt.args(arguments))
}

fn driver_file(home: &Path) -> String {
    let driver = home.join(LIBRARIES).join(DRIVER);
    let icd = serde_json::json!({"library_path": driver, "api_version": "1.4.0"});
    serde_json::json!({"file_format_version": "1.0.1", "ICD": icd}).to_string()
}

/// The runner: `run PROGRAM [ARGUMENT...]`.
fn script(home: &Path) -> String {
    let libraries = home.join(LIBRARIES);
    format!(
        "#!/bin/sh\n\
         # Starts a program by the newer dynamic loader, with lavapipe as its only Vulkan driver.\n\
         export VK_DRIVER_FILES='{driver}' VK_LOADER_LAYERS_DISABLE='~implicit~'\n\
         export DRIRC_CONFIGDIR='{home}/usr/share/drirc.d'\n\
         exec '{libraries}/{LOADER}' --argv0 \"$1\" --library-path \
         '{libraries}:/{LIBRARIES}:/lib/x86_64-linux-gnu'\"${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\" \"$@\"\n",
        driver = home.join("lavapipe.json").display(),
        home = home.display(),
        libraries = libraries.display(),
    )
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).context("cannot set permissions")
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_mirror_is_asked_for_the_newer_suites() {
        let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let targets = format!(
            "http://mirror/debian/|bookworm|main|$(SIGNED_BY)\n\
             http://mirror/debian/|bookworm|contrib|$(SIGNED_BY)\n\
             http://mirror/debian/|bookworm-updates|main|$(SIGNED_BY)\n\
             http://mirror/security/|bookworm-security|main|$(SIGNED_BY)\n\
             http://other/debian/|stable|main|{key}\n"
        );
        let expected = format!(
            "deb http://mirror/debian/ trixie main\n\
             deb http://mirror/debian/ trixie-backports main\n\
             deb [signed-by={key}] http://other/debian/ trixie main\n\
             deb [signed-by={key}] http://other/debian/ trixie-backports main\n"
        );
        assert_eq!(sources_of(&targets), expected);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_runner_passes_arguments_and_the_driver_on() {
        let home = std::env::temp_dir().join(format!("hearth-lavapipe-{}", std::process::id()));
        let libraries = home.join(LIBRARIES);
        fs::create_dir_all(&libraries).unwrap();
        // in the loader's place: what it is given
        fs::write(libraries.join(LOADER), "#!/bin/sh\necho \"$VK_DRIVER_FILES\" \"$@\"\n").unwrap();
        fs::write(home.join("run"), script(&home)).unwrap();
        for path in [libraries.join(LOADER), home.join("run")] {
            make_executable(&path).unwrap();
        }
        let ran = Command::new(home.join("run")).args(["program", "a b", "c"]).output().unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        assert!(
            said.starts_with(&format!("{}/lavapipe.json --argv0 program", home.display())),
            "{said}"
        );
        assert!(said.trim_end().ends_with("program a b c"), "{said}");
        fs::remove_dir_all(&home).unwrap();
    }
}
