//! A GGUF model, whole or in pieces.

use std::collections::BTreeMap;

use super::{Source, add, file_name, several};
use crate::checkpoint::{Checkpoint, CheckpointError, Format, Part, Storage, Tensor};
use crate::gguf::Role;
use crate::gguf::blocks::layout_of;
use crate::gguf::header::Header;
use crate::names;

/// A model of a thousand gigabytes in pieces of one gigabyte has fewer.
const MOST_PIECES: u32 = 1000;

type Piece = (Source, Header, Role);

impl Checkpoint {
    pub(super) fn from_gguf(files: Vec<Piece>) -> Result<Self, CheckpointError> {
        if files.len() > 1 && files.iter().any(|(.., role)| *role == Role::Model) {
            return Err(several(files.iter().map(|(source, ..)| source.name())));
        }
        let files = in_order(files)?;
        let names_of_files: Vec<String> =
            files.iter().map(|(source, ..)| source.name().to_owned()).collect();
        let mut headers = vec![];
        let mut sources = vec![];
        let mut tensors = BTreeMap::new();
        let Some(architecture) =
            files.first().map(|(_, header, _)| header.require("general.architecture"))
        else {
            return Err(CheckpointError::Empty);
        };
        let architecture: String = architecture.map(str::to_owned)?;
        let mut whole: Option<Header> = None;
        for (index, (source, header, _)) in files.into_iter().enumerate() {
            for info in header.tensors() {
                let columns = info.shape.last().copied().unwrap_or(1);
                let part = Part {
                    source: index,
                    offset: info.offset,
                    row_bytes: columns / info.kind.block_weights() * info.kind.block_bytes(),
                };
                let layout = layout_of(info.kind);
                let tensor = Tensor {
                    name: names::from_gguf(&info.name, &architecture),
                    shape: info.shape.clone(),
                    layout,
                    storage: match layout {
                        Some(_) => Storage::Blocks(info.kind, part),
                        None => Storage::Other(info.kind.to_string(), part),
                    },
                };
                let there = tensors.get(&tensor.name).map(Tensor::source);
                let other = there.map_or("", |other| names_of_files[other].as_str());
                add(&mut tensors, tensor, header.file(), other)?;
            }
            headers.push((index, header.data_start().min(source.len())));
            sources.push(source);
            match &mut whole {
                None => whole = Some(header),
                Some(whole) => whole.join(header)?,
            }
        }
        Ok(Self {
            sources,
            headers,
            format: Format::Gguf,
            tensors,
            gguf: whole,
            config: None,
            norms_are_gains: true,
            notes: vec![],
        })
    }
}

/// The pieces in order of their numbers; all must be of one split, and none may be missing.
fn in_order(mut files: Vec<Piece>) -> Result<Vec<Piece>, CheckpointError> {
    let Some(first) = files.first() else { return Ok(files) };
    let &Role::Piece { count, .. } = &first.2 else { return Ok(files) };
    let index = |role: &Role| match role {
        Role::Piece { index, .. } => *index,
        _ => 0,
    };
    let wrong = |file: &str, message: String| {
        Err(CheckpointError::Files { file: file.to_owned(), message })
    };
    files.sort_by_key(|(.., role)| index(role));
    for (source, _, role) in &files {
        if !matches!(role, Role::Piece { count: other, .. } if *other == count) {
            return wrong(
                source.name(),
                format!(
                    "the pieces are of different models: one is cut into {count}; give the pieces of one model"
                ),
            );
        }
    }
    if let Some(pair) = files.windows(2).find(|pair| index(&pair[0].2) == index(&pair[1].2)) {
        let (a, b) = (pair[0].0.name(), pair[1].0.name());
        return wrong(
            b,
            format!(
                "this is piece {} of {count}, and so is {a}; give one of them",
                index(&pair[0].2) + 1
            ),
        );
    }
    let there: Vec<u32> = files.iter().map(|(.., role)| index(role)).collect();
    if let Some(beyond) = files.iter().find(|(.., role)| index(role) >= count) {
        let message = format!(
            "'split.no' is {}, but there are {count} pieces, counted from 0",
            index(&beyond.2)
        );
        return wrong(beyond.0.name(), message);
    }
    if count > MOST_PIECES {
        let message = format!("'split.count' is {count}; {MOST_PIECES} pieces at most are read");
        return wrong(files[0].0.name(), message);
    }
    let missing: Vec<String> = (0..count)
        .filter(|i| !there.contains(i))
        .map(|i| piece_name(files[0].0.name(), i, count))
        .collect();
    if !missing.is_empty() {
        return wrong(
            files[0].0.name(),
            format!(
                "this model is split into {count} files, and of these {} missing; give all of them",
                are(&missing)
            ),
        );
    }
    let expected = files[0].1.get::<u64>("split.tensors.count")?;
    let found: u64 = files.iter().map(|(_, header, _)| header.tensors().len() as u64).sum();
    match expected {
        Some(expected) if expected != found => wrong(
            files[0].0.name(),
            format!(
                "the pieces hold {found} tensors, but the model has {expected}: one of them is of another version; fetch all of them again"
            ),
        ),
        _ => Ok(files),
    }
}

/// "A is", "A and B are", shortened if there are very many.
pub(super) fn are(names: &[String]) -> String {
    let shown = names.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len() {
        1 => format!("{shown} is"),
        2..=8 => format!("{shown} are"),
        more => format!("{shown} and {} more are", more - 8),
    }
}

/// What piece `index` of the model is called (`llama-gguf-split`): `model-00002-of-00003.gguf`.
fn piece_name(other: &str, index: u32, count: u32) -> String {
    let end = format!("-of-{count:05}.gguf");
    let stem = file_name(other).strip_suffix(&end).and_then(|stem| Some(stem.rsplit_once('-')?.0));
    match stem {
        Some(stem) => format!("{stem}-{:05}{end}", index + 1),
        None => format!("piece {} of {count}", index + 1),
    }
}
