//! What the container's file and the release's workflow name is there: packages, versions, files and commands.

use crate::{Cli, root, tools};
use clap::Parser;
use std::fs;
use std::process::Command;

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The words behind `install` and its options, up to the next command.
fn packages(container: &str) -> Vec<String> {
    let lines = container.replace("\\\n", " ");
    let install = lines.split("apt-get install").nth(1).expect("the container installs packages");
    let words = install.split("&&").next().unwrap_or_default().split_whitespace();
    words.filter(|word| !word.starts_with('-')).map(str::to_owned).collect()
}

#[test]
fn the_container_has_what_native_tests_need() {
    let found = packages(&read("Containerfile"));
    assert_eq!(found, tools::VULKAN.packages);
    // Debian knows them; only a machine with its lists can tell
    let Ok(list) = Command::new("apt-cache").arg("show").args(&found).output() else {
        return hearth_testing::skipped("apt-cache is not on this machine");
    };
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    if !list.contains("Package: ") {
        return hearth_testing::skipped("this machine has no lists of Debian's packages");
    }
    for name in found {
        assert!(list.lines().any(|line| line == format!("Package: {name}")), "no package {name}");
    }
}

#[test]
fn the_container_builds_with_the_pinned_toolchain_what_it_copies() {
    let (container, toolchain) = (read("Containerfile"), read("rust-toolchain.toml"));
    let channel = toolchain.split("channel = \"").nth(1).and_then(|rest| rest.split('"').next());
    let image = format!("rust:{}-slim-trixie", channel.expect("the toolchain has a channel"));
    assert!(container.contains(&image), "the first image is not {image}");
    // both images have one C library
    assert!(container.contains("debian:trixie-slim"));
    let build =
        container.lines().find_map(|line| line.strip_prefix("RUN cargo ")).expect("a build");
    let metadata = crate::cargo()
        .args(["metadata", "--no-deps", "--format-version=1"])
        .output()
        .expect("cargo runs");
    let metadata = String::from_utf8_lossy(&metadata.stdout).into_owned();
    let package = build.split("--package ").nth(1).expect("it names a package");
    assert!(metadata.contains(&format!("\"name\":\"{package}\"")), "no package {package}");
    let copied = container.split("/source/target/release/").nth(1).expect("it copies the program");
    assert!(copied.starts_with("hearth ") && build.contains("--release"), "{copied}");
    // what is left out of the build is what git ignores, or git's own
    for line in read(".containerignore").lines().filter(|line| *line != ".git") {
        let path = line.replace("**/", "web/e2e/");
        let ignored = Command::new("git")
            .args(["check-ignore", "--quiet", &path])
            .current_dir(root())
            .status()
            .expect("git runs");
        assert!(ignored.success(), "{path} belongs to the source");
    }
}

#[test]
fn commands_of_workflows_exist() {
    for name in ["pages.yml", "release.yml"] {
        let text = read(&format!(".github/workflows/{name}"));
        let commands =
            text.lines().filter_map(|line| line.trim().strip_prefix("- run: cargo xtask "));
        let mut found = 0;
        for command in commands {
            found += 1;
            let words = ["xtask"].into_iter().chain(command.split_whitespace());
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{name}: cargo xtask {command}: {error}");
            }
        }
        assert!(found > 0, "{name} runs nothing");
    }
}
