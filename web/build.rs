//! Gives page and workers the name of their build, by which they notice that they do not belong together.

use std::process::Command;

fn main() {
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let named = std::env::var("HEARTH_BUILD").ok().filter(|name| !name.is_empty());
    let commit = || {
        let out = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    // a source archive has no history: the version alone must do
    let build = named.or_else(|| Some(format!("{version}+{}", commit()?))).unwrap_or(version);
    println!("cargo::rustc-env=HEARTH_BUILD={build}");
    println!("cargo::rerun-if-env-changed=HEARTH_BUILD");
    for watched in ["../.git/HEAD", "../.git/logs/HEAD"] {
        if std::path::Path::new(watched).exists() {
            println!("cargo::rerun-if-changed={watched}");
        }
    }
}
