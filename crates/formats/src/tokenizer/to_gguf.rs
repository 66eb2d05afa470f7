//! The vocabulary of a `tokenizer.json` as GGUF has it: pieces with scores and types, and no merges.
//!
//! A GGUF reader merges the two neighbours whose piece has the highest score. The scores follow from the list of
//! merges if that was made from scores ([`scores`](super::scores)): then no way to make a piece is missing, and the
//! merges of pieces of one score stand together.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::kind::{BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, is_byte};
use super::{MARKERS, SPACE, TokenizerError, is_control_name};
use crate::gguf::write::Metadata;

const FILE: &str = "tokenizer.json";

/// Adds the vocabulary of a `tokenizer.json` to the metadata of a GGUF file. `rows` is the number of rows of the
/// embedding: a longer one is filled with unused pieces, as llama.cpp's converter does.
///
/// # Errors
/// [`TokenizerError`] if it is not one of Gemma's kind, has more tokens than the embedding has rows, or has merges that
/// do not follow from scores.
pub fn write(json: &[u8], rows: usize, out: &mut Metadata) -> Result<(), TokenizerError> {
    // whatever is wrong with the file is said by its reader
    let tokenizer = super::Tokenizer::from_json(json)?;
    let file: Value = serde_json::from_slice(json)
        .map_err(|error| unsupported("JSON", "a tokenizer", error.to_string()))?;
    let count = tokenizer.vocab_size();
    if count > rows {
        return Err(unsupported(
            "the vocabulary",
            &format!("at most {rows} tokens, the rows of the embedding"),
            count.to_string(),
        ));
    }
    let scores = scores(&file, &tokenizer)?;
    let special: HashMap<u32, bool> = added(&file).collect();
    let unknown = file["model"]["unk_token"].as_str().unwrap_or("<unk>").to_owned();
    let kind = |id: u32, piece: &str| match special.get(&id) {
        _ if piece == unknown => UNKNOWN,
        Some(true) => CONTROL,
        // what the reader takes for control tokens, whatever the file says
        Some(false) if MARKERS.contains(&piece) || is_control_name(piece) => CONTROL,
        Some(false) => USER_DEFINED,
        None if is_byte(piece) => BYTE,
        None => NORMAL,
    };
    let (mut pieces, mut kinds) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for id in 0..rows as u32 {
        match tokenizer.token(id) {
            Some(piece) if (id as usize) < count => {
                let kind = kind(id, piece);
                // llama.cpp writes runs of '▁' as spaces, in these tokens only
                let spaced = kind == USER_DEFINED;
                pieces.push(if spaced { piece.replace(SPACE, " ") } else { piece.to_owned() });
                kinds.push(kind);
            }
            _ => {
                pieces.push(format!("[PAD{id}]"));
                kinds.push(UNUSED);
            }
        }
    }
    let last = -(scores.len() as f32) - 1.0;
    let score = |piece: &String| scores.get(piece).copied().unwrap_or(last);
    out.text("tokenizer.ggml.model", "llama");
    out.texts("tokenizer.ggml.tokens", pieces.iter().map(String::as_str));
    out.floats("tokenizer.ggml.scores", pieces.iter().map(score));
    out.integers("tokenizer.ggml.token_type", kinds.iter().map(|&kind| kind as i32));
    out.number("tokenizer.ggml.bos_token_id", tokenizer.bos());
    out.number("tokenizer.ggml.eos_token_id", tokenizer.eos());
    for (key, piece) in [("unknown", unknown.as_str()), ("padding", "<pad>")] {
        if let Some(id) = tokenizer.id_of(piece) {
            out.number(&format!("tokenizer.ggml.{key}_token_id"), id);
        }
    }
    if let Some(id) = tokenizer.end_of_turn() {
        out.number("tokenizer.ggml.eot_token_id", id);
    }
    out.flag("tokenizer.ggml.add_bos_token", true);
    out.flag("tokenizer.ggml.add_eos_token", false);
    out.flag("tokenizer.ggml.add_space_prefix", false);
    Ok(())
}

fn unsupported(part: &str, expected: &str, found: String) -> TokenizerError {
    TokenizerError::Unsupported {
        file: FILE.to_owned(),
        part: part.to_owned(),
        expected: expected.to_owned(),
        found,
    }
}

/// The added tokens, and whether each is special.
fn added(file: &Value) -> impl Iterator<Item = (u32, bool)> {
    let all = file["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    all.iter().filter_map(|token| {
        let id = u32::try_from(token["id"].as_u64()?).ok()?;
        Some((id, token["special"].as_bool().unwrap_or(false)))
    })
}

/// Where the merges that make a piece are in the list.
struct Span {
    first: usize,
    last: usize,
    count: usize,
}

/// The score of every piece that merges make, none above 0. Pieces of one score have their merges mixed, the longest
/// left part first, then the longest right part, which is how readers break ties.
fn scores(
    file: &Value,
    tokenizer: &super::Tokenizer,
) -> Result<HashMap<String, f32>, TokenizerError> {
    let merges = file["model"]["merges"].as_array().map_or(&[][..], Vec::as_slice);
    let not_by_score = |found: String| {
        let expected = "merges that follow from scores; give a GGUF file of this model as the tokenizer (--tokenizer)";
        unsupported("'merges'", expected, found)
    };
    let (mut spans, mut lengths) = (HashMap::<String, Span>::new(), Vec::new());
    for (place, merge) in merges.iter().enumerate() {
        let pair = match (merge.as_str(), merge.as_array().map(Vec::as_slice)) {
            (Some(joined), _) => joined.split_once(' '),
            (_, Some([left, right])) => left.as_str().zip(right.as_str()),
            _ => None,
        };
        let Some((left, right)) = pair else { return Err(not_by_score(merge.to_string())) };
        lengths.push((left.chars().count(), right.chars().count()));
        let new = Span { first: place, last: place, count: 0 };
        let span = spans.entry(format!("{left}{right}")).or_insert(new);
        (span.last, span.count) = (place, span.count + 1);
    }
    if let Some((piece, span)) = spans.iter().find(|(piece, s)| s.count != ways(piece, tokenizer)) {
        return Err(not_by_score(format!("{} of the ways to make {piece:?}", span.count)));
    }
    let mut in_order: Vec<(String, Span)> = spans.into_iter().collect();
    in_order.sort_by_key(|(_, span)| span.first);
    let (mut scores, mut score, mut end, mut start) = (HashMap::new(), 0.0, 0, 0);
    for (piece, span) in in_order {
        if span.first >= end {
            (score, start) = (score - 1.0, span.first);
        }
        if span.first < end || span.last + 1 > span.first + span.count {
            // one score for several pieces
            let mixed = &lengths[start..end.max(span.last + 1)];
            if !mixed.is_sorted_by(|a, b| a >= b) {
                return Err(not_by_score(format!("another order of those that make {piece:?}")));
            }
        }
        end = end.max(span.last + 1);
        scores.insert(piece, score);
    }
    Ok(scores)
}

/// In how many ways a piece is two pieces.
fn ways(piece: &str, tokenizer: &super::Tokenizer) -> usize {
    let cuts: HashSet<usize> =
        piece.char_indices().map(|(at, _)| at).filter(|&at| at > 0).collect();
    let both = |at: &usize| {
        let (left, right) = piece.split_at(*at);
        tokenizer.id_of(left).is_some() && tokenizer.id_of(right).is_some()
    };
    cuts.iter().filter(|at| both(at)).count()
}
