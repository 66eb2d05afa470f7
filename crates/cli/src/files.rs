//! Which files a model consists of.
//!
//! A model is named by a `.gguf` file (one piece of a split one stands for all), a `.safetensors` file (one shard stands for all), an
//! `.index.json`, a `config.json`, or a folder that holds such. `config.json` and `tokenizer.json`
//! are found beside.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use hearth_formats::{
    checkpoint::{is_model, is_piece},
    recognize::check_json,
    safetensors::Index,
    source::{ByteSource, FileSource},
};

/// The files of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFiles {
    /// Weights, index, `config.json`.
    pub parts: Vec<PathBuf>,
    /// `tokenizer.json` beside them.
    pub tokenizer: Option<PathBuf>,
}

impl ModelFiles {
    /// Finds the files of the model that `path` names.
    pub fn find(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::in_folder(path);
        }
        if !path.is_file() {
            bail!("{}: there is no such file or folder", path.display());
        }
        let (name, folder) = (name_of(path), folder_of(path));
        let weights = if name.ends_with(".index.json") {
            shards_of_index(path)?
        } else if name == "config.json" {
            return Self::in_folder(folder);
        } else if name.ends_with(".json") {
            bail!(
                "{}: this is not a model; give a .gguf or .safetensors file, or the model's folder",
                path.display()
            );
        } else if name.ends_with(".gguf") {
            pieces_beside(path)?
        } else {
            shards_beside(path)?
        };
        Ok(Self::with(weights, folder))
    }

    fn in_folder(folder: &Path) -> Result<Self> {
        let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .with_context(|| format!("{}: reading the folder", folder.display()))?;
        all.sort();
        all.retain(|path| path.is_file() && !name_of(path).starts_with("._"));
        let ending = |end: &str| {
            all.iter().filter(|p| name_of(p).ends_with(end)).cloned().collect::<Vec<_>>()
        };
        let (tensors, gguf) = (ending(".safetensors"), ending(".gguf"));
        // A projector and adapters may lie in the model's folder.
        let models = |files: &[PathBuf]| {
            files.iter().filter(|path| holds_model(path)).cloned().collect::<Vec<_>>()
        };
        let (models, gguf_models) = (models(&tensors), models(&gguf));
        let several = |files: &mut dyn Iterator<Item = &PathBuf>| {
            let names: Vec<String> = files.map(|path| name_of(path)).collect();
            anyhow::anyhow!(
                "{}: the folder holds several models ({}); name one of the files",
                folder.display(),
                names.join(", ")
            )
        };
        match (&models[..], &gguf_models[..]) {
            ([], []) => {
                Self::without_model(folder, &all, tensors.into_iter().chain(gguf).collect())
            }
            ([], [one]) => Ok(Self::with(vec![one.clone()], folder)),
            ([], [first, ..]) if gguf_models == pieces_beside(first)? => {
                Ok(Self::with(gguf_models, folder))
            }
            // pieces know their numbers, whatever they are called
            ([], [_, ..]) if gguf_models.iter().all(|path| holds_piece(path)) => {
                Ok(Self::with(gguf_models, folder))
            }
            (_, []) => match &ending(".safetensors.index.json")[..] {
                [] => Ok(Self::with(models, folder)),
                [index] => {
                    let parts = shards_of_index(index)?;
                    // A whole model beside the shards of one: no telling which is meant.
                    let other =
                        |path: &&PathBuf| !parts.contains(path) && !name_of(path).contains("-of-");
                    if models.iter().any(|path| other(&path)) {
                        return Err(several(
                            &mut std::iter::once(index).chain(models.iter().filter(other)),
                        ));
                    }
                    Ok(Self::with(parts, folder))
                }
                indexes => Err(several(&mut indexes.iter())),
            },
            _ => Err(several(&mut models.iter().chain(&gguf_models))),
        }
    }

    /// A folder without a model: what there is instead, which opening tells.
    fn without_model(folder: &Path, all: &[PathBuf], others: Vec<PathBuf>) -> Result<Self> {
        let kinds = [
            ".hearth",
            ".bin",
            ".pt",
            ".pth",
            ".ckpt",
            ".h5",
            ".keras",
            ".msgpack",
            ".npz",
            ".tflite",
            ".task",
            ".litertlm",
            ".zip",
            ".tar",
            ".gz",
        ];
        let known = all.iter().find(|path| kinds.iter().any(|kind| name_of(path).ends_with(kind)));
        match (&others[..], known) {
            ([], None) => {
                bail!("{}: the folder holds no .gguf or .safetensors file", folder.display())
            }
            ([], Some(known)) => Ok(Self { parts: vec![known.clone()], tokenizer: None }),
            _ => Ok(Self { parts: others, tokenizer: None }),
        }
    }

    /// Adds what lies beside.
    fn with(mut parts: Vec<PathBuf>, folder: &Path) -> Self {
        let beside = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        let is_gguf = parts.iter().all(|path| name_of(path).ends_with(".gguf"));
        if !is_gguf {
            parts.extend(beside("config.json"));
        }
        Self { parts, tokenizer: beside("tokenizer.json") }
    }

    /// Opens them.
    pub fn sources(&self) -> Result<Vec<Rc<dyn ByteSource>>> {
        let open = |path: &PathBuf| Ok(Rc::new(FileSource::open(path)?) as Rc<dyn ByteSource>);
        self.parts.iter().map(open).collect()
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The index and the files it names.
fn shards_of_index(index: &Path) -> Result<Vec<PathBuf>> {
    let json = std::fs::read(index).with_context(|| format!("{}: reading", index.display()))?;
    check_json(&index.display().to_string(), &json)?;
    let mut names: Vec<String> =
        Index::parse(&index.display().to_string(), &json)?.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    let beside = |name: &String| folder_of(index).join(name);
    let is_there =
        |name: &&String| Path::new(name).components().count() == 1 && beside(name).is_file();
    let missing: Vec<&str> =
        names.iter().filter(|name| !is_there(name)).map(String::as_str).collect();
    if !missing.is_empty() {
        bail!(
            "{}: it names {} files, but {} not beside it: {}; download what is missing",
            index.display(),
            names.len(),
            if missing.len() == 1 { "one is" } else { "several are" },
            missing.join(", ")
        );
    }
    Ok(std::iter::once(index.to_owned()).chain(names.iter().map(beside)).collect())
}

/// Whether a file holds a model: a projector and an adapter are none. PEFT's own name for an adapter says it even
/// of a file that cannot be read.
fn holds_model(path: &Path) -> bool {
    if name_of(path) == hearth_formats::peft::WEIGHTS_FILE {
        return false;
    }
    let Ok(source) = FileSource::open(path) else { return true };
    pollster::block_on(is_model(&source))
}

/// Whether a file is a piece of a model that was split.
fn holds_piece(path: &Path) -> bool {
    FileSource::open(path).is_ok_and(|source| pollster::block_on(is_piece(&source)))
}

/// The pieces that belong to `model-00001-of-00003.gguf`; any other file alone.
fn pieces_beside(path: &Path) -> Result<Vec<PathBuf>> {
    numbered_beside(path, ".gguf")
}

/// The files of the folder that are called like this one but for its number, in order.
fn numbered_beside(path: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let name = name_of(path);
    let parts = name
        .strip_suffix(end)
        .and_then(|stem| stem.rsplit_once("-of-"))
        .and_then(|(front, count)| Some((front.rsplit_once('-')?.0.to_owned(), count.to_owned())));
    let Some((front, count)) = parts else { return Ok(vec![path.to_owned()]) };
    let (front, end) = (format!("{front}-"), format!("-of-{count}{end}"));
    let is_number = |name: &str| {
        let number = name.strip_prefix(&front).and_then(|rest| rest.strip_suffix(&end));
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder_of(path))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_number(&name_of(path)))
        .collect();
    all.sort();
    Ok(all)
}

/// The shards that belong to `model-00001-of-00003.safetensors`; any other file alone.
fn shards_beside(path: &Path) -> Result<Vec<PathBuf>> {
    let name = name_of(path);
    let front = name
        .strip_suffix(".safetensors")
        .and_then(|stem| Some(stem.rsplit_once("-of-")?.0.rsplit_once('-')?.0));
    let Some(front) = front else { return Ok(vec![path.to_owned()]) };
    let index = folder_of(path).join(format!("{front}.safetensors.index.json"));
    if index.is_file() {
        return shards_of_index(&index);
    }
    numbered_beside(path, ".safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files; the index names the two shards.
    fn folder(test: &str, files: &[&str]) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("hearth-files-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for file in files {
            let map = r#"{"weight_map":{"a":"m-00001-of-00002.safetensors","b":"m-00002-of-00002.safetensors"}}"#;
            std::fs::write(folder.join(file), if file.contains("index") { map } else { "" })
                .unwrap();
        }
        folder
    }

    fn names(files: &ModelFiles) -> Vec<String> {
        files.parts.iter().map(|p| name_of(p)).collect()
    }

    const SHARDS: [&str; 2] = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"];

    #[test]
    fn one_shard_stands_for_all() {
        let dir = folder(
            "shards",
            &[
                SHARDS[0],
                SHARDS[1],
                "config.json",
                "tokenizer.json",
                "x-00001-of-00002.safetensors",
            ],
        );
        let found = ModelFiles::find(&dir.join(SHARDS[1])).unwrap();
        assert_eq!(names(&found), [SHARDS[0], SHARDS[1], "config.json"]);
        assert_eq!(found.tokenizer, Some(dir.join("tokenizer.json")));
        let index = "m.safetensors.index.json";
        let dir = folder("index", &[SHARDS[0], SHARDS[1], index, "config.json"]);
        for given in ["", index, SHARDS[0], "config.json"] {
            let found = ModelFiles::find(&dir.join(given)).unwrap();
            assert_eq!(names(&found), [index, SHARDS[0], SHARDS[1], "config.json"], "{given}");
        }
        std::fs::remove_file(dir.join(SHARDS[1])).unwrap();
        let error = ModelFiles::find(&dir).unwrap_err().to_string();
        assert!(error.contains(SHARDS[1]) && error.contains("not beside"), "{error}");
    }

    #[test]
    fn folders_with_one_model_and_with_several() {
        let dir = folder("one", &["a.gguf", "config.json"]);
        assert_eq!(names(&ModelFiles::find(&dir).unwrap()), ["a.gguf"]);
        let dir = folder(
            "safetensors",
            &["model.safetensors", "adapter_model.safetensors", "config.json"],
        );
        assert_eq!(names(&ModelFiles::find(&dir).unwrap()), ["model.safetensors", "config.json"]);
        let dir = folder("two", &["a.gguf", "b.gguf"]);
        let error = ModelFiles::find(&dir).unwrap_err().to_string();
        assert!(error.contains("a.gguf, b.gguf"), "{error}");
        let dir = folder("none", &["notes.txt", "tokenizer.json"]);
        assert!(ModelFiles::find(&dir).unwrap_err().to_string().contains("no .gguf"));
        assert!(
            ModelFiles::find(&dir.join("tokenizer.json"))
                .unwrap_err()
                .to_string()
                .contains("not a model")
        );
        assert!(
            ModelFiles::find(&dir.join("absent")).unwrap_err().to_string().contains("no such file")
        );
    }

    #[test]
    fn pieces_projectors_and_adapters_of_a_folder() {
        let pieces = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
        let dir = folder("pieces", &[pieces[0], pieces[1], "tokenizer.json", "._m.gguf"]);
        for given in ["", pieces[0], pieces[1]] {
            assert_eq!(names(&ModelFiles::find(&dir.join(given)).unwrap()), pieces, "{given}");
        }
        let clip = hearth_testing::gguf::GgufFile::default().text("general.architecture", "clip");
        let clip = clip.floats("v.x", &[1], &[0.0]).bytes();
        // Nothing but its content says what it is.
        let dir = folder("projector", &["a.gguf", "b.gguf"]);
        std::fs::write(dir.join("a.gguf"), &clip).unwrap();
        assert_eq!(names(&ModelFiles::find(&dir).unwrap()), ["b.gguf"]);
        // Alone it is handed on: opening says what it is.
        let dir = folder("projector-alone", &["a.gguf"]);
        std::fs::write(dir.join("a.gguf"), &clip).unwrap();
        assert_eq!(names(&ModelFiles::find(&dir).unwrap()), ["a.gguf"]);
        let dir = folder("run", &["classifier.hearth", "metrics.json"]);
        assert_eq!(names(&ModelFiles::find(&dir).unwrap()), ["classifier.hearth"]);
        let dir = folder("pickled", &["pytorch_model.bin", "config.json"]);
        assert_eq!(names(&ModelFiles::find(&dir).unwrap()), ["pytorch_model.bin"]);
    }

    #[test]
    fn a_model_beside_the_shards_of_one_is_asked_about() {
        let index = "m.safetensors.index.json";
        let dir = folder("both", &[SHARDS[0], SHARDS[1], index, "model.safetensors"]);
        let error = ModelFiles::find(&dir).unwrap_err().to_string();
        assert!(error.contains("several models") && error.contains("model.safetensors"), "{error}");
        // A stale shard is left alone.
        let dir = folder("stale", &[SHARDS[0], SHARDS[1], index, "m-00003-of-00003.safetensors"]);
        assert_eq!(names(&ModelFiles::find(&dir).unwrap()), [index, SHARDS[0], SHARDS[1]]);
    }
}
