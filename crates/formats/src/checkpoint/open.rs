//! Opening: identifies each file.

mod foreign;
mod gguf;
mod safetensors;
mod shards;
mod tensors;

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Checkpoint, CheckpointError, Tensor};
use crate::gguf::header::Header as GgufHeader;
use crate::gguf::{Role, projector, role};
use crate::recognize::{Content, WrongFile, check_json, content_of};
use crate::safetensors::{Header, Index};
use crate::source::{ByteSource, read_vec};

/// Longest `config.json` and index that are read; real ones have a few kilobytes and a megabyte.
const JSON_LIMIT: u64 = 16 << 20;

const NO_MODEL: &str = "this is not a model that Hearth reads: neither GGUF nor safetensors; choose the .gguf file of a \
                        Gemma model, or its .safetensors files with config.json and tokenizer.json";

type Source = Rc<dyn ByteSource>;

/// The files of a model, sorted by kind.
#[derive(Default)]
struct Sorted {
    config: Option<String>,
    index: Option<(String, Index)>,
    /// Text models, or pieces of one.
    gguf: Vec<(Source, GgufHeader, Role)>,
    projectors: Vec<String>,
    safetensors: Vec<(Source, Header)>,
    /// Files that go with a model but are not one, or are something else.
    wrong: Vec<CheckpointError>,
    /// Why the first file that was not recognized is not a model.
    unknown: Option<CheckpointError>,
}

impl Checkpoint {
    /// Opens a model from its files in any order: a GGUF or all pieces of a split one, or one or several
    /// safetensors with `config.json` and, where sharded, `model.safetensors.index.json`. Files are
    /// identified by their first bytes, metadata and tensor names. Other JSON files (tokenizers) are ignored; so are a
    /// model's projector and adapters next to it, which [`notes`](Self::notes) reports.
    ///
    /// # Errors
    /// [`CheckpointError`] says what a wrong file is, and names the file and tensor that is damaged, missing
    /// or duplicated.
    pub async fn open(sources: Vec<Rc<dyn ByteSource>>) -> Result<Self, CheckpointError> {
        let mut sorted = Sorted::default();
        for source in sources {
            sorted.add(source).await?;
        }
        let mut notes = vec![];
        let mut model = match (sorted.gguf.len(), sorted.safetensors.len()) {
            (0, 0) => return Err(sorted.none()),
            (_, 0) => Self::from_gguf(sorted.gguf)?,
            (0, _) => Self::from_safetensors(sorted.safetensors, sorted.index, sorted.config)?,
            _ => {
                let gguf = sorted.gguf.iter().map(|(source, ..)| source.name());
                let names = gguf.chain(sorted.safetensors.iter().map(|(source, _)| source.name()));
                return Err(several(names));
            }
        };
        for file in &sorted.projectors {
            notes.push(format!(
                "{file} is a vision or audio projector (mmproj): it is not used, Hearth reads text"
            ));
        }
        notes.extend(sorted.wrong.iter().map(|wrong| format!("not used: {wrong}")));
        model.notes.splice(0..0, notes);
        model.settle_head().await?;
        Ok(model)
    }
}

impl Sorted {
    async fn add(&mut self, source: Source) -> Result<(), CheckpointError> {
        let name = file_name(source.name());
        if name == "config.json" {
            let json = read_json(&*source).await?;
            self.config = Some(String::from_utf8(json).map_err(|error| CheckpointError::Json {
                file: source.name().to_owned(),
                message: error.to_string(),
            })?);
        } else if name.ends_with(".index.json") {
            let json = read_json(&*source).await?;
            self.index = Some((source.name().to_owned(), Index::parse(source.name(), &json)?));
        } else if !name.ends_with(".json") {
            self.add_model(source).await?;
        }
        Ok(())
    }

    async fn add_model(&mut self, source: Source) -> Result<(), CheckpointError> {
        let name = source.name().to_owned();
        if file_name(&name).starts_with("._") {
            // macOS stores a file's metadata next to it under such a name.
            return Ok(());
        }
        if let Some(wrong) = unfinished(&name) {
            return Err(wrong.into());
        }
        let called_model =
            [".gguf", ".safetensors"].iter().any(|end| file_name(&name).ends_with(end));
        match content_of(&*source).await? {
            Content::Gguf => {
                let header = GgufHeader::read(&*source).await?;
                match role(&header)? {
                    Role::Projector => self.projectors.push(name),
                    Role::Other(wrong) => self.wrong.push(wrong.into()),
                    role => self.gguf.push((source, header, role)),
                }
                return Ok(());
            }
            Content::Safetensors => {}
            Content::Wrong(wrong) if called_model => return Err(wrong.into()),
            Content::Wrong(wrong) => {
                // A folder's README and licence may be among the files.
                self.unknown.get_or_insert(wrong.into());
                return Ok(());
            }
            _ if file_name(&name).ends_with(".safetensors") => {}
            _ => {
                let error = CheckpointError::Files { file: name, message: NO_MODEL.to_owned() };
                if called_model {
                    return Err(error);
                }
                self.unknown.get_or_insert(error);
                return Ok(());
            }
        }
        let header = Header::read(&*source).await?;
        match safetensors::wrong(&header) {
            Some(wrong) => self.wrong.push(wrong.into()),
            None => self.safetensors.push((source, header)),
        }
        Ok(())
    }

    /// The error if there is no model among the files.
    fn none(mut self) -> CheckpointError {
        if !self.wrong.is_empty() {
            return self.wrong.remove(0);
        }
        if let Some(file) = self.projectors.first() {
            return projector(file).into();
        }
        self.unknown.unwrap_or(CheckpointError::Empty)
    }
}

/// Whether a file holds a model or a piece of one, for choosing among the files of a folder. What cannot be read counts
/// as one: opening it reports what is wrong.
pub async fn is_model(source: &dyn ByteSource) -> bool {
    match content_of(source).await {
        Ok(Content::Gguf) => match GgufHeader::read(source).await {
            Ok(header) => matches!(role(&header), Ok(Role::Model | Role::Piece { .. }) | Err(_)),
            Err(_) => true,
        },
        Ok(Content::Safetensors) => match Header::read(source).await {
            Ok(header) => safetensors::wrong(&header).is_none(),
            Err(_) => true,
        },
        _ => true,
    }
}

/// Whether a file is a piece of a split model, whatever its name.
pub async fn is_piece(source: &dyn ByteSource) -> bool {
    matches!(content_of(source).await, Ok(Content::Gguf))
        && GgufHeader::read(source)
            .await
            .is_ok_and(|header| matches!(role(&header), Ok(Role::Piece { .. })))
}

/// Recognizes by name a piece of a file that was split without regard to its contents, or an unfinished download.
fn unfinished(name: &str) -> Option<WrongFile> {
    let lower = file_name(name).to_ascii_lowercase();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let part = lower.rsplit_once(".part").is_some_and(|(_, rest)| match rest.split_once("of") {
        Some((number, count)) => digits(number) && digits(count),
        None => digits(rest),
    });
    let split = lower.rsplit_once("-split-").is_some_and(|(_, rest)| rest.len() == 1);
    if part || split {
        return Some(WrongFile::new(
            name,
            "a piece of a file that was cut",
            "join all pieces in their order first (cat PIECES > model.gguf)",
        ));
    }
    let goes_on = [".part", ".crdownload", ".download", ".incomplete", ".aria2"];
    goes_on.iter().any(|end| lower.ends_with(end)).then(|| {
        WrongFile::new(
            name,
            "a download that has not finished",
            "wait for it, or fetch the file again",
        )
    })
}

/// The error for several models, of which only one can be read.
fn several<'a>(names: impl Iterator<Item = &'a str>) -> CheckpointError {
    let names: Vec<&str> = names.collect();
    CheckpointError::Files {
        file: names.first().copied().unwrap_or_default().to_owned(),
        message: format!(
            "{} models were given ({}); give one of them",
            names.len(),
            names.join(", ")
        ),
    }
}

/// The last part of a path or address, without a query.
fn file_name(name: &str) -> &str {
    let path = name.split(['?', '#']).next().unwrap_or(name);
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

async fn read_json(source: &dyn ByteSource) -> Result<Vec<u8>, CheckpointError> {
    if source.len() > JSON_LIMIT {
        return Err(CheckpointError::JsonLength {
            file: source.name().to_owned(),
            bytes: source.len(),
            limit: JSON_LIMIT,
        });
    }
    let json = read_vec(source, 0, source.len()).await?;
    check_json(source.name(), &json)?;
    Ok(json)
}

fn add(
    tensors: &mut BTreeMap<String, Tensor>,
    tensor: Tensor,
    file: &str,
    other: &str,
) -> Result<(), CheckpointError> {
    let name = tensor.name.clone();
    match tensors.insert(name.clone(), tensor) {
        None => Ok(()),
        Some(_) => Err(CheckpointError::Duplicate {
            file: file.to_owned(),
            other: other.to_owned(),
            tensor: name,
        }),
    }
}

impl From<WrongFile> for CheckpointError {
    fn from(wrong: WrongFile) -> Self {
        Self::Wrong(wrong)
    }
}
