//! The built page: where it is, how it is built, and its files in packed form.

use crate::{root, run};
use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes from which a file is packed.
const WORTH_PACKING: usize = 1024;
/// Files that are packed already, or not read by a browser.
const PACKED: [&str; 4] = ["gz", "br", "png", "webp"];

/// Where the page is built.
pub fn dist() -> PathBuf {
    root().join("dist")
}

/// Builds the page for release. Returns the folder to serve.
pub fn build(path: &OsStr) -> Result<PathBuf> {
    let mut trunk = Command::new("trunk");
    trunk.args(["build", "--release"]).current_dir(root()).env("PATH", path);
    // any value but true and false of it stops Trunk
    trunk.env_remove("NO_COLOR");
    run(&mut trunk)?;
    let page = dist();
    pack(&page)?;
    Ok(page)
}

/// Writes every file of a page in gzip form beside it, for the server and for programs that carry the page.
pub fn pack(page: &Path) -> Result<()> {
    for name in files(page)? {
        let path = page.join(&name);
        let kind = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        if PACKED.contains(&kind) {
            continue;
        }
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let packed = page.join(format!("{name}.gz"));
        if bytes.len() < WORTH_PACKING {
            // of an earlier, longer file of this name
            let _ = fs::remove_file(&packed);
            continue;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bytes)?;
        let words = || format!("cannot write {}", packed.display());
        fs::write(&packed, encoder.finish()?).with_context(words)?;
    }
    Ok(())
}

/// The names of all files below a folder, sorted, with `/` between folders.
pub fn files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    collect(folder, "", &mut names)?;
    names.sort();
    Ok(names)
}

fn collect(folder: &Path, above: &str, names: &mut Vec<String>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = format!("{above}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{name}/"), names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    #[test]
    fn long_files_are_packed_beside_themselves() {
        let page = std::env::temp_dir().join(format!("hearth-pack-{}", std::process::id()));
        fs::create_dir_all(page.join("samples")).unwrap();
        let long = "warm ".repeat(1000);
        fs::write(page.join("samples/a.csv"), &long).unwrap();
        fs::write(page.join("short.js"), "1").unwrap();
        fs::write(page.join("short.js.gz"), "of an earlier build").unwrap();
        fs::write(page.join("picture.png"), &long).unwrap();
        // twice: what is packed is not packed again
        pack(&page).unwrap();
        pack(&page).unwrap();
        let expected = ["picture.png", "samples/a.csv", "samples/a.csv.gz", "short.js"];
        assert_eq!(files(&page).unwrap(), expected);
        let packed = fs::read(page.join("samples/a.csv.gz")).unwrap();
        let mut text = String::new();
        GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, long);
        assert!(packed.len() < long.len() / 10);
        fs::remove_dir_all(&page).unwrap();
    }
}
