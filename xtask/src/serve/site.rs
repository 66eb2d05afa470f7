//! What is served: the built page, and the models with a list of them.

use super::policy;
use crate::{model, root};
use anyhow::{Context, Result};
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The fixture model, and its name for people.
const FIXTURE: (&str, &str) = ("web/fixtures/tiny-gemma3.gguf", "Tiny Gemma 3, for tests");
const REAL_NAME: &str = "Gemma 3 270M (Q4_K_M)";

/// A model that the page can load from here.
pub struct Offer {
    pub name: String,
    pub file: PathBuf,
    pub sha256: String,
}

impl Offer {
    /// The real model, fetched first if it is not on this machine.
    pub fn real() -> Result<Self> {
        let file = model::fetch()?;
        let sha256 = hearth_testing::REAL_MODEL_SHA256.to_owned();
        Ok(Self { name: REAL_NAME.to_owned(), file, sha256 })
    }

    /// The tiny model of the tests.
    pub fn fixture() -> Result<Self> {
        let file = root().join(FIXTURE.0);
        let sha256 = model::sha256(&file)?;
        Ok(Self { name: FIXTURE.1.to_owned(), file, sha256 })
    }

    fn file_name(&self) -> String {
        self.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// What to serve, and how strictly.
#[derive(Default)]
pub struct Plan {
    pub models: Vec<Offer>,
    /// Origins that the loader may fetch weights from, beside the usual ones.
    pub weight_hosts: Vec<String>,
    /// Send no policy, as a host of plain files.
    pub without_policy: bool,
    /// A line for every request goes here.
    pub log: Option<PathBuf>,
}

pub struct Site {
    page: PathBuf,
    models: Vec<Offer>,
    index: Vec<u8>,
    policies: Option<policy::Policies>,
    log: Option<Mutex<File>>,
}

/// What a URL leads to.
pub enum Found {
    File(PathBuf),
    /// Made here, of this type.
    Made(Vec<u8>, &'static str),
}

impl Site {
    /// A site of this built page.
    pub fn new(page: &Path, plan: Plan) -> Result<Self> {
        let start = page.join("index.html");
        let html = fs::read_to_string(&start).with_context(|| format!("no {}", start.display()))?;
        let log = plan.log.map(|path| {
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))
        });
        Ok(Self {
            page: page.to_owned(),
            index: index(&plan.models)?,
            models: plan.models,
            policies: (!plan.without_policy)
                .then(|| policy::Policies::of(&html, &plan.weight_hosts)),
            log: log.transpose()?.map(Mutex::new),
        })
    }

    /// What a URL means; `None` if it would lie outside.
    pub fn find(&self, url: &str) -> Option<Found> {
        let name = name_of(url)?;
        if name == "models/index.json" {
            return Some(Found::Made(self.index.clone(), "application/json"));
        }
        if let Some(name) = name.strip_prefix("models/") {
            let model = self.models.iter().find(|model| model.file_name() == name)?;
            return Some(Found::File(model.file.clone()));
        }
        Some(Found::File(self.page.join(name)))
    }

    /// The policy that a URL's answer carries.
    pub fn policy(&self, url: &str) -> Option<&str> {
        Some(self.policies.as_ref()?.for_file(name_of(url).unwrap_or_default()))
    }

    /// Notes a request.
    pub fn note(&self, method: &str, url: &str) {
        let Some(Ok(mut log)) = self.log.as_ref().map(Mutex::lock) else { return };
        // a full disk must not end the serving
        let _ = writeln!(log, "{method} {url}");
    }
}

/// What the page keeps a model under: the same file picked from the disk gets the same.
fn key_of(file: &str) -> String {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '-' };
    stem.to_lowercase().chars().map(plain).collect()
}

/// The list of models, as the page's loader takes it.
fn index(models: &[Offer]) -> Result<Vec<u8>> {
    let list: Result<Vec<_>> = models
        .iter()
        .map(|model| {
            let name = model.file_name();
            let size = fs::metadata(&model.file)
                .with_context(|| format!("no {}", model.file.display()))?
                .len();
            Ok(json!({
                "key": key_of(&name),
                "name": model.name,
                "files": [{
                    "name": name,
                    "url": format!("./models/{name}"),
                    "bytes": size,
                    "sha256": model.sha256,
                }],
            }))
        })
        .collect();
    Ok(serde_json::to_vec_pretty(&list?)?)
}

/// The path that a URL names, inside the site; `None` if it would lie outside.
fn name_of(url: &str) -> Option<&str> {
    let path = url.split(['?', '#']).next()?.strip_prefix('/')?;
    let inside = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '%'])
    };
    match path {
        "" => Some("index.html"),
        _ => path.split('/').all(inside).then_some(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_served() {
        assert_eq!(name_of("/"), Some("index.html"));
        assert_eq!(name_of("/a/b.js?x=1"), Some("a/b.js"));
        for url in [
            "/../secret",
            "/a/../../b",
            "//etc/passwd",
            "/%2e%2e/x",
            "/C:/x",
            "/a\\b",
            "x",
            "",
            "/samples/../x",
            "/models/./x",
            "/a/",
            "http://other/x",
        ] {
            assert_eq!(name_of(url), None, "{url}");
        }
    }

    #[test]
    fn models_are_listed_as_the_loader_takes_them() {
        let fixture = Offer::fixture().unwrap();
        let sum = fixture.sha256.clone();
        let list: serde_json::Value = serde_json::from_slice(&index(&[fixture]).unwrap()).unwrap();
        let file = &list[0]["files"][0];
        assert_eq!(list[0]["key"], "tiny-gemma3");
        assert_eq!(key_of(hearth_testing::REAL_MODEL), "gemma-3-270m-q4-k-m");
        assert_eq!(file["url"], "./models/tiny-gemma3.gguf");
        assert_eq!(file["sha256"], sum);
        assert!(file["bytes"].as_u64().unwrap() < 1_000_000, "{file}");
        assert_eq!(index(&[]).unwrap(), b"[]");
    }
}
