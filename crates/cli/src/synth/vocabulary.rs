//! The vocabulary that a GGUF holds: pieces, scores and kinds.

use std::path::Path;

use anyhow::{Context, Result, bail};
use hearth_formats::tokenizer::kind::{BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, is_byte};
use serde_json::Value;

/// Piece and kind of every id. The score of a piece is minus its id: in Gemma's vocabularies the
/// pieces stand in the order of their merges.
pub struct Vocabulary(pub Vec<(String, i64)>);

/// The vocabulary of a tokenizer.json, or a synthetic one.
pub fn of(size: usize, json: Option<&[u8]>, path: Option<&Path>) -> Result<Vocabulary> {
    let Some(json) = json else { return Ok(made_up(size)) };
    let name = path.map_or(String::new(), |path| path.display().to_string());
    let json: Value =
        serde_json::from_slice(json).with_context(|| format!("{name}: reading it"))?;
    let Some(pieces) = json["model"]["vocab"].as_object() else {
        bail!("{name}: 'model.vocab' with pieces and their ids was expected");
    };
    let mut all = vec![(String::new(), NORMAL); size];
    let mut put = |piece: &str, id: &Value, kind: i64| {
        let Some(slot) = id.as_u64().and_then(|id| all.get_mut(id as usize)) else {
            bail!("{name}: piece {piece:?} has id {id}, but the model has {size} tokens");
        };
        *slot = (piece.to_owned(), kind);
        Ok(())
    };
    for (piece, id) in pieces {
        put(piece, id, if is_byte(piece) { BYTE } else { NORMAL })?;
    }
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        let piece = added["content"].as_str().unwrap_or_default();
        let kind = match added["special"].as_bool() {
            _ if piece == "<unk>" => UNKNOWN,
            Some(true) => CONTROL,
            _ => USER_DEFINED,
        };
        put(piece, &added["id"], kind)?;
    }
    // Ids without a piece need distinct names, as every real file has them.
    for (id, (piece, kind)) in all.iter_mut().enumerate().filter(|(_, (p, _))| p.is_empty()) {
        (*piece, *kind) = (format!("<unused-id{id}>"), CONTROL);
    }
    Ok(Vocabulary(all))
}

/// Special tokens, bytes, letters, and then words as a counter would spell them.
fn made_up(size: usize) -> Vocabulary {
    let mut all: Vec<(String, i64)> =
        [("<pad>", CONTROL), ("<eos>", CONTROL), ("<bos>", CONTROL), ("<unk>", UNKNOWN)]
            .map(|(piece, kind)| (piece.to_owned(), kind))
            .to_vec();
    all.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), BYTE)));
    all.push(("▁".to_owned(), NORMAL));
    for number in 0..size.saturating_sub(all.len()) {
        // Bijective base 26: a, …, z, aa, ab, …; every second of the long ones begins a word.
        let (mut rest, mut word) = (number + 1, Vec::new());
        while rest > 0 {
            rest -= 1;
            word.push(b'a' + (rest % 26) as u8);
            rest /= 26;
        }
        let word: String = word.iter().rev().map(|b| char::from(*b)).collect();
        let front = if number >= 26 && number % 2 == 0 { "▁" } else { "" };
        all.push((format!("{front}{word}"), NORMAL));
    }
    all.truncate(size);
    Vocabulary(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_distinct_and_as_many_as_asked_for() {
        let Vocabulary(pieces) = made_up(3000);
        let distinct: std::collections::BTreeSet<_> = pieces.iter().map(|(p, _)| p).collect();
        assert_eq!((pieces.len(), distinct.len()), (3000, 3000));
        assert_eq!(pieces[4 + 65], ("<0x41>".to_owned(), BYTE));
    }

    #[test]
    fn a_tokenizers_pieces_keep_their_ids() {
        let json = br#"{"model": {"vocab": {"<bos>": 1, "a": 3, "<0x0A>": 0}},
            "added_tokens": [{"id": 1, "content": "<bos>", "special": true}]}"#;
        let Vocabulary(pieces) = of(4, Some(json), None).unwrap();
        let wanted =
            [("<0x0A>", BYTE), ("<bos>", CONTROL), ("<unused-id2>", CONTROL), ("a", NORMAL)];
        assert_eq!(pieces, wanted.map(|(p, k)| (p.to_owned(), k)));
        assert!(of(3, Some(json), None).is_err());
        assert!(of(3, Some(b"{}"), None).is_err());
    }
}
