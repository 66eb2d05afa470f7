//! `hearth completions` and `hearth man`: what packages install beside the program, made of its own commands.

use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::{Shell, generate};

use crate::{Outcome, output};

/// Print a shell's completions of `hearth`
///
/// For bash: `hearth completions bash > ~/.local/share/bash-completion/completions/hearth`
#[derive(Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Write the manual pages, one per command, into a folder
///
/// For this user: `hearth man ~/.local/share/man/man1`, then `man hearth-train`
#[derive(Args)]
pub struct Man {
    /// The folder, which is made where it is missing
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub fn completions(args: &Completions, mut commands: Command) -> Result<Outcome> {
    let mut script = Vec::new();
    generate(args.shell, &mut commands, "hearth", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}

pub fn man(args: &Man, commands: Command) -> Result<Outcome> {
    let folder = &args.folder;
    let written = || -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(commands, folder)
    };
    written().with_context(|| format!("cannot write manual pages into {}", folder.display()))?;
    Ok(Outcome::Done)
}
