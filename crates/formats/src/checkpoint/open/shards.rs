//! Which safetensors files belong together, and which tensors they hold.

use std::collections::{BTreeMap, BTreeSet};

use super::file_name;
use super::gguf::are;
use crate::checkpoint::CheckpointError;
use crate::safetensors::{Header, Index, TensorInfo};

/// A tensor and the source it is in.
pub(super) type Place = (usize, TensorInfo);

/// The tensors that the index names.
pub(super) fn by_index(
    file: &str,
    index: &Index,
    headers: &[Header],
    notes: &mut Vec<String>,
) -> Result<Vec<Place>, CheckpointError> {
    let wrong = |message: String| CheckpointError::Files { file: file.to_owned(), message };
    let named: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    let source = |shard: &str| headers.iter().position(|header| file_name(header.file()) == shard);
    let missing: Vec<String> = named
        .iter()
        .filter(|shard| source(shard).is_none())
        .map(|shard| (*shard).to_owned())
        .collect();
    if !missing.is_empty() {
        return Err(wrong(format!(
            "it names {} files, and of these {} missing (not given, or not in the folder); fetch what is missing, or \
             take the index that came with these files",
            named.len(),
            are(&missing)
        )));
    }
    let mut found = vec![];
    for (tensor, shard) in &index.weight_map {
        let Some(source) = source(shard) else { continue };
        let Ok(info) = headers[source].tensor(tensor) else {
            return Err(wrong(format!(
                "it says that '{shard}' holds tensor '{tensor}', but it does not: index and file are of different \
                 versions of the model; fetch both again"
            )));
        };
        found.push((source, info.clone()));
    }
    for header in headers {
        let name = file_name(header.file());
        if !named.contains(name) {
            notes.push(format!("{name} is not used: {} does not name it", file_name(file)));
            continue;
        }
        let unnamed = header
            .tensors()
            .iter()
            .filter(|t| index.weight_map.get(&t.name).map(String::as_str) != Some(name));
        if let Some(first) = unnamed.clone().next() {
            return Err(wrong(format!(
                "'{name}' holds {} tensors that it does not place there ('{}' first): index and file are of different \
                 versions of the model; fetch both again",
                unnamed.count(),
                first.name
            )));
        }
    }
    Ok(found)
}

/// All tensors of files that came without an index. If one set of numbered shards is complete, what is
/// left over from another version is not used.
pub(super) fn all_tensors(
    headers: &[Header],
    notes: &mut Vec<String>,
) -> Result<Vec<Place>, CheckpointError> {
    // Prefix and count of a set → number and source of its shards.
    let mut sets: BTreeMap<(String, usize), Vec<(usize, usize)>> = BTreeMap::new();
    let mut others = vec![];
    for (source, header) in headers.iter().enumerate() {
        match shard_of(file_name(header.file())) {
            Some((front, number, count)) => {
                sets.entry((front.to_owned(), count)).or_default().push((number, source));
            }
            None => others.push(source),
        }
    }
    let is_whole = |count: usize, shards: &[(usize, usize)]| {
        let numbers: BTreeSet<usize> = shards.iter().map(|(number, _)| *number).collect();
        count < 10_000 && (1..=count).all(|number| numbers.contains(&number))
    };
    let whole: Vec<_> =
        sets.iter().filter(|((_, count), shards)| is_whole(*count, shards)).collect();
    let used: Vec<usize> = match (&whole[..], &others[..], sets.len()) {
        (_, others, 0) => others.to_vec(),
        ([(_, shards)], [], _) => shards.iter().map(|(_, source)| *source).collect(),
        ([], ..) => return Err(incomplete(headers, &sets)),
        _ => {
            let names: Vec<&str> = headers.iter().map(|header| file_name(header.file())).collect();
            return Err(CheckpointError::Files {
                file: headers[0].file().to_owned(),
                message: format!(
                    "these files are several models, or versions of one ({}); keep the files of one",
                    names.join(", ")
                ),
            });
        }
    };
    let mut found = vec![];
    for (source, header) in headers.iter().enumerate() {
        if used.contains(&source) {
            found.extend(header.tensors().iter().map(|info| (source, info.clone())));
        } else {
            notes.push(format!(
                "{} is not used: it is left over of a set of shards that is not whole",
                file_name(header.file())
            ));
        }
    }
    Ok(found)
}

fn incomplete(
    headers: &[Header],
    sets: &BTreeMap<(String, usize), Vec<(usize, usize)>>,
) -> CheckpointError {
    let Some(((front, count), shards)) = sets.iter().next() else { return CheckpointError::Empty };
    let mut there = BTreeSet::new();
    for (number, source) in shards {
        if !there.insert(*number) {
            let other =
                shards.iter().find(|(other, _)| other == number).map_or(0, |(_, source)| *source);
            return CheckpointError::Files {
                file: headers[*source].file().to_owned(),
                message: format!(
                    "this file is there twice (also as {}); give one of them",
                    headers[other].file()
                ),
            };
        }
    }
    let width = 5;
    let missing: Vec<String> = (1..=(*count).min(10_000))
        .filter(|number| !there.contains(number))
        .map(|number| format!("{front}-{number:0width$}-of-{count:0width$}.safetensors"))
        .collect();
    CheckpointError::Files {
        file: headers[shards[0].1].file().to_owned(),
        message: format!(
            "the name says that the model has {count} safetensors files, and of these {} missing; give all of them",
            are(&missing)
        ),
    }
}

/// Prefix, number and count of `model-00001-of-00003.safetensors`.
fn shard_of(name: &str) -> Option<(&str, usize, usize)> {
    let (front, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (front, number) = front.rsplit_once('-')?;
    Some((front, number.parse().ok()?, count.parse().ok()?))
}
