//! Puts the page into the program where `HEARTH_PAGE` names the folder of a built one, as `cargo xtask dist` does.
//! Without it the program has no page, and `hearth serve` says so.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs, io};

fn main() {
    println!("cargo::rerun-if-env-changed=HEARTH_PAGE");
    let page = env::var_os("HEARTH_PAGE").filter(|page| !page.is_empty()).map(PathBuf::from);
    let text = match &page {
        None => Ok("None".to_owned()),
        Some(page) => {
            println!("cargo::rerun-if-changed={}", page.display());
            embedded(page)
        }
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    if let Err(error) = text.and_then(|text| fs::write(out.join("page.rs"), text)) {
        let page = page.unwrap_or_default();
        println!("cargo::error=HEARTH_PAGE is {}: {error}", page.display());
    }
}

/// The page as a Rust expression: its files and the time of this build.
pub fn embedded(page: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    collect(page, "", &mut files)?;
    files.sort();
    if !files.iter().any(|(name, _)| name == "index.html" || name == "index.html.gz") {
        return Err(io::Error::other("there is no index.html: name the folder of a built page"));
    }
    let built = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut text = "Some((&[\n".to_owned();
    for (name, path) in files {
        let path = fs::canonicalize(path)?;
        text += &format!("EmbeddedFile {{ name: {name:?}, bytes: include_bytes!({path:?}) }},\n");
    }
    Ok(text + &format!("], {built}))"))
}

/// Every file once: in gzip form where that is there.
fn collect(folder: &Path, above: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let packed = folder.join(format!("{name}.gz"));
        if path.is_dir() {
            collect(&path, &format!("{above}{name}/"), files)?;
        } else if !name.ends_with(".br") && !packed.is_file() {
            files.push((format!("{above}{name}"), path));
        }
    }
    Ok(())
}
