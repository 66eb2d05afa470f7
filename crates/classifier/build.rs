//! Gives the crate a hash of what training computes with; see `build/fingerprint.rs`.

#![allow(clippy::print_stdout, reason = "this is how a build script speaks to Cargo")]

#[path = "build/fingerprint.rs"]
mod fingerprint;

use std::path::Path;

fn main() -> Result<(), String> {
    // as it is run: clones that share a build folder share this program too
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo names no CARGO_MANIFEST_DIR")?;
    let root = Path::new(&package).join("../..");
    for source in fingerprint::SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rustc-env=HEARTH_TRAINING_CODE={}", fingerprint::of(&root)?);
    Ok(())
}
