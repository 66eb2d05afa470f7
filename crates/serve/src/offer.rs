//! Models that the page can load from here, and their list `models/index.json`.

use crate::ServeError;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// Characters of a file's name that mean something else in a URL.
const NOT_IN_URLS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// A model that the page can load from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Names it in the browser's storage and in URLs: lower-case ASCII letters, digits, dots and dashes.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// Its files.
    pub files: Vec<OfferedFile>,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its SHA-256 in hexadecimal, if known; the browser compares.
    pub sha256: Option<String>,
}

impl OfferedFile {
    /// Its name, without folders.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Offer {
    /// A model of one file.
    pub fn file(name: &str, path: &Path, sha256: Option<String>) -> Self {
        let file = OfferedFile { path: path.to_owned(), sha256 };
        Self { key: key_of(&file.name()), name: name.to_owned(), files: vec![file] }
    }

    /// Where this file is on the server, relative to the page: `./models/KEY/FILE`.
    pub fn url(&self, file: &OfferedFile) -> String {
        format!("./models/{}/{}", self.key, utf8_percent_encode(&file.name(), NOT_IN_URLS))
    }
}

/// What the page keeps a model under: the same file picked from the disk gets the same.
pub fn key_of(file: &str) -> String {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '-' };
    let key: String = stem.to_lowercase().chars().map(plain).collect();
    match key.trim_matches(['.', '-']) {
        "" => "model".to_owned(),
        key => key.to_owned(),
    }
}

/// Gives every model a key of its own: two files of the same name may lie in two folders.
pub(crate) fn distinct(mut models: Vec<Offer>) -> Vec<Offer> {
    for at in 1..models.len() {
        let plain = models[at].key.clone();
        let mut number = 1;
        while models[..at].iter().any(|other| other.key == models[at].key) {
            number += 1;
            models[at].key = format!("{plain}-{number}");
        }
    }
    models
}

/// The list of models as the page's loader takes it, in JSON. An error names a file that cannot be read.
pub fn index(models: &[Offer]) -> Result<Vec<u8>, ServeError> {
    let mut list = Vec::new();
    for model in models {
        let mut files = Vec::new();
        for file in &model.files {
            let metadata = fs::metadata(&file.path)
                .map_err(|source| ServeError::Model { file: file.path.clone(), source })?;
            files.push(json!({
                "name": file.name(),
                "url": model.url(file),
                "bytes": metadata.len(),
                "sha256": file.sha256,
            }));
        }
        list.push(json!({ "key": model.key, "name": model.name, "files": files }));
    }
    // with a space after every colon, for people who look
    Ok(format!("{:#}", serde_json::Value::Array(list)).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_plain_and_distinct() {
        assert_eq!(key_of("gemma-3-270m-q4_k_m.gguf"), "gemma-3-270m-q4-k-m");
        assert_eq!(key_of("Größe 1.5.gguf"), "gr--e-1.5");
        assert_eq!(key_of("..gguf"), "model");
        let model = || Offer::file("M", Path::new("a/model.safetensors"), None);
        let keys: Vec<String> =
            distinct(vec![model(), model(), model()]).into_iter().map(|model| model.key).collect();
        assert_eq!(keys, ["model", "model-2", "model-3"]);
    }

    #[test]
    fn a_list_names_every_file_with_its_address() {
        let folder = std::env::temp_dir().join(format!("hearth-offer-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("my model #1.gguf");
        fs::write(&path, "GGUF").unwrap();
        let offer = Offer::file("Mine", &path, Some("ab".to_owned()));
        let list: serde_json::Value = serde_json::from_slice(&index(&[offer]).unwrap()).unwrap();
        let file = json!({
            "name": "my model #1.gguf",
            "url": "./models/my-model--1/my%20model%20%231.gguf",
            "bytes": 4,
            "sha256": "ab",
        });
        assert_eq!(list, json!([{ "key": "my-model--1", "name": "Mine", "files": [file] }]));
        fs::remove_dir_all(&folder).unwrap();
        let gone = Offer::file("Mine", &path, None);
        assert!(index(&[gone]).unwrap_err().to_string().contains("my model #1.gguf"));
        assert_eq!(index(&[]).unwrap(), b"[]");
    }
}
