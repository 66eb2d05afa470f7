//! The last step of a build: the page gets its policy, and its service worker the list of all files.

use crate::{page, root};
use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use hearth_serve::SERVICE_WORKER;
use hearth_serve::policy::{Policies, with_policy};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Options {
    /// The folder of the built page; without it, the one that Trunk is building
    page: Option<PathBuf>,
}

/// Writes policy and service worker into a built page.
pub fn offline(options: &Options) -> Result<()> {
    let trunks = std::env::var_os("TRUNK_STAGING_DIR").map(PathBuf::from);
    let page = options.page.clone().or(trunks).context("name the folder of a built page")?;
    let source = root().join("web").join(SERVICE_WORKER);
    let source = fs::read_to_string(&source).with_context(|| format!("no {}", source.display()))?;
    let start = page.join("index.html");
    let html = fs::read_to_string(&start).with_context(|| format!("no {}", start.display()))?;
    write(&start, &with_policy(&html))?;
    write(&page.join(SERVICE_WORKER), &service_worker(&page, &source)?)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The service worker for the files that lie here.
fn service_worker(page: &Path, source: &str) -> Result<String> {
    let start = page.join("index.html");
    let html = fs::read_to_string(&start).with_context(|| format!("no {}", start.display()))?;
    let policies = Policies::of(&html, &[]);
    let mut files = page::files(page)?;
    files.retain(|name| name != SERVICE_WORKER && !name.ends_with(".br") && !name.ends_with(".gz"));
    let (mut build, mut hashes) = (Sha256::new(), BTreeMap::new());
    build.update(source);
    for name in &files {
        let bytes = fs::read(page.join(name)).with_context(|| format!("cannot read {name}"))?;
        build.update(format!("{name} {} ", bytes.len()));
        build.update(&bytes);
        // the page itself is asked for by its folder
        let name = if name == "index.html" { "" } else { name };
        hashes.insert(name, STANDARD.encode(Sha256::digest(&bytes)));
    }
    let build = format!("{:x}", build.finalize());
    let constants = [
        ("BUILD", json!(build[..16])),
        ("FILES", json!(hashes)),
        ("MODELS", json!("models/index.json")),
        ("POLICY", json!(policies.for_file(""))),
        ("LOADER", json!(policies.for_file("loader.js"))),
    ];
    let constants = constants.map(|(name, value)| format!("const {name} = {value};\n")).concat();
    Ok(constants + source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_kept_and_every_change_is_a_new_build() {
        let page = std::env::temp_dir().join(format!("hearth-offline-{}", std::process::id()));
        fs::create_dir_all(page.join("samples")).unwrap();
        for name in ["index.html", "app-1.js", "app-1.js.br", "samples/a.csv", SERVICE_WORKER] {
            fs::write(page.join(name), name).unwrap();
        }
        let first = service_worker(&page, "// source\n").unwrap();
        let hash = STANDARD.encode(Sha256::digest("app-1.js"));
        assert!(first.contains("const FILES = {\"\":\""), "{first}");
        assert!(
            first.contains(&format!("\"app-1.js\":\"{hash}\",\"samples/a.csv\":\"")),
            "{first}"
        );
        assert!(first.contains("connect-src 'self';") && first.ends_with("// source\n"), "{first}");
        assert!(first.contains("https://huggingface.co"), "{first}");
        assert_eq!(service_worker(&page, "// source\n").unwrap(), first);
        let build = |text: &str| text.lines().next().unwrap().to_owned();
        fs::write(page.join("app-1.js"), "changed").unwrap();
        assert_ne!(build(&service_worker(&page, "// source\n").unwrap()), build(&first));
        fs::remove_dir_all(&page).unwrap();
    }
}
