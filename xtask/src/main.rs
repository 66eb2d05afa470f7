//! The two commands of the README, `serve` and `test`, and what they need.
#![allow(clippy::print_stdout, reason = "a command for people")]

mod archive;
#[cfg(test)]
mod container_rules;
mod dist;
#[cfg(test)]
mod document_rules;
#[cfg(test)]
mod error_rules;
mod lavapipe;
mod model;
#[cfg(test)]
mod module_circles;
mod npm;
mod offline;
mod page;
mod pictures;
mod runner_output;
mod serve;
mod site;
#[cfg(test)]
mod source_rules;
mod steps;
mod test;
mod tools;
#[cfg(test)]
mod word_rules;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Hearth's own commands: serve, test, site, npm, dist, bench, golden, pictures"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the page and serve it on this machine, with the headers that keep data in the tab
    Serve(serve::Options),
    /// Install what is missing and run every test, native and in the browser
    Test(test::Options),
    /// Build the page into a folder for any static host, or for a stick
    Site(site::Options),
    /// Build the npm package, with which any page opens and trains classifiers
    Npm(npm::Options),
    /// Build the program `hearth` with the page inside, for `hearth serve`
    Dist(dist::Options),
    /// Build in release and run `hearth bench`; everything after `bench` goes to it
    Bench {
        /// Arguments of `hearth bench`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Write the service worker of a built page; Trunk calls it at the end of a build
    Offline(offline::Options),
    /// Make the pictures in docs/pictures again, from the page in headless Chromium
    Pictures(pictures::Options),
    /// Make the committed fixtures again with the Python scripts in tools/fixtures
    Golden {
        /// Only scripts whose name contains this
        filter: Option<String>,
    },
}

fn main() -> Result<ExitCode> {
    match Cli::parse().task {
        Task::Serve(options) => serve::serve(&options).map(|()| ExitCode::SUCCESS),
        Task::Test(options) => test::test(&options),
        Task::Site(options) => site::site(&options).map(|()| ExitCode::SUCCESS),
        Task::Npm(options) => npm::npm(&options).map(|()| ExitCode::SUCCESS),
        Task::Dist(options) => dist::dist(&options).map(|()| ExitCode::SUCCESS),
        Task::Offline(options) => offline::offline(&options).map(|()| ExitCode::SUCCESS),
        Task::Pictures(options) => pictures::pictures(&options).map(|()| ExitCode::SUCCESS),
        Task::Bench { args } => {
            let mut bench = cargo();
            bench.args(["run", "--release", "--package", "hearth-cli", "--", "bench"]).args(args);
            run(&mut bench).map(|()| ExitCode::SUCCESS)
        }
        Task::Golden { filter } => {
            golden(filter.as_deref().unwrap_or_default()).map(|()| ExitCode::SUCCESS)
        }
    }
}

/// The repository's root folder, found when it runs: a program built in one clone may be run in another.
fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        // cargo names the package's folder to what it runs
        let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let here = here.or_else(|| std::env::current_dir().ok()).unwrap_or_default();
        workspace_above(&here).unwrap_or(&here).to_owned()
    })
}

/// The nearest folder, from this one upwards, that holds Hearth's workspace.
fn workspace_above(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|above| above.join("xtask/src/main.rs").is_file())
}

/// Hearth's folder in the user's cache.
fn cache_dir() -> Result<PathBuf> {
    hearth_testing::cache_dir().context("no home folder: set XDG_CACHE_HOME to an absolute path")
}

/// The cargo that runs this program, in the repository's root.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Runs a command to its end; a failing exit status is an error that names it.
fn run(command: &mut Command) -> Result<()> {
    let name = steps::describe(command);
    let status = command.status().with_context(|| format!("cannot start `{name}`"))?;
    if !status.success() {
        bail!("`{name}` ended with {status}");
    }
    Ok(())
}

/// Runs the fixture scripts in a virtual environment of their own, with the pinned requirements.
fn golden(filter: &str) -> Result<()> {
    let folder = root().join("tools/fixtures");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(filter)))
        .collect();
    scripts.sort();
    if scripts.is_empty() {
        bail!("no script in {} has '{filter}' in its name", folder.display());
    }
    let environment = cache_dir()?.join("fixtures-venv");
    let python = if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" };
    let python = environment.join(python);
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    }
    let requirements = folder.join("requirements.txt");
    if requirements.exists() {
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "-r"])
            .arg(&requirements))?;
    }
    for script in scripts {
        println!("{}", script.display());
        run(Command::new(&python).arg(&script).current_dir(root()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_from_any_folder_inside() {
        let root = root();
        assert!(root.join("Cargo.lock").is_file(), "{}", root.display());
        for inside in ["", "xtask", "xtask/src", "crates/gpu/src"] {
            assert_eq!(workspace_above(&root.join(inside)), Some(root), "{inside}");
        }
        assert_eq!(workspace_above(&std::env::temp_dir()), None);
    }
}
