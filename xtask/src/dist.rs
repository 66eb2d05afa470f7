//! `cargo xtask dist`: the program `hearth` with the page inside.

use crate::{archive, cargo, page, run, tools};
use anyhow::{Result, ensure};
use std::path::PathBuf;

/// Names the folder of a built page to the build script of `hearth-cli`.
const PAGE: &str = "HEARTH_PAGE";

#[derive(clap::Args)]
pub struct Options {
    /// Put in the page as it was built last (`trunk build --release`), without building it again
    #[arg(long)]
    built: bool,
    /// The profile that cargo builds the program with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Install the program where `cargo install` puts programs
    #[arg(long, conflicts_with = "archive")]
    install: bool,
    /// Write the archive of a release into this folder: the program, completions, manual pages, and a checksum
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
}

/// Builds page and program, and says where the program is.
pub fn dist(options: &Options) -> Result<()> {
    let page = if options.built { page::dist() } else { page::build(&tools::for_page()?)? };
    let start = page.join("index.html");
    ensure!(start.is_file(), "no {}: leave out --built, and it is built", start.display());
    page::pack(&page)?;
    let mut program = cargo();
    if options.install {
        program.args(["install", "--locked", "--path", "crates/cli"]);
    } else {
        program.args(["build", "--locked", "--package", "hearth-cli"]);
    }
    if options.archive.is_some() {
        // whoever downloads it has no use for names in backtraces
        program.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    }
    run(program.args(["--profile", &options.profile]).env(PAGE, page))?;
    let program = program_of(&options.profile);
    if let Some(out) = &options.archive {
        println!("{}", archive::write(&program, out)?.display());
    } else if !options.install {
        println!("{}", program.display());
    }
    Ok(())
}

/// Where cargo puts the program.
pub fn program_of(profile: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| crate::root().join("target"));
    let folder = if profile == "dev" { "debug" } else { profile };
    target.join(folder).join("hearth").with_extension(std::env::consts::EXE_EXTENSION)
}
