//! The tokenizer inside a GGUF file: pieces with scores (SentencePiece's BPE) and no merges.
//!
//! The reference derives a list of merges from the scores (huggingface/transformers,
//! `convert_slow_tokenizer.py`, `generate_merges`): every way to cut a piece into two pieces,
//! highest score first. Equal scores are ordered
//! - in Gemma 3 by the number of characters on the left, then on the right, longest first;
//! - in Gemma 1 and 2, made by an older version, by the id of the piece, then of its left and of
//!   its right part, lowest first.
//!
//! Among positions with the same merge, the leftmost comes first. This gives exactly the 514,906
//! merges of Gemma 3's `tokenizer.json` and the 580,604 of Gemma 1's. They are not listed: two
//! neighbours merge if together they are a piece, and the order is compared only when it matters. So
//! only a table of the pieces has to be built, which takes 20 ms.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::kind::{CONTROL, NORMAL, UNKNOWN, USER_DEFINED};
use super::{
    AddedTokens, Header, MARKERS, Pairs, Parts, SPACE, Strings, TokenizerError, Vocabulary,
    is_control_name, untyped_note,
};

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";
const SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";

/// The rank of a piece that is never the result of a merge.
const NEVER: u32 = u32::MAX;
/// No neighbour, or no piece.
const NONE: usize = usize::MAX;

pub(super) struct Scores {
    /// For each id its rank by score, 0 the highest; equal scores are equal in Gemma 3.
    ranks: Vec<u32>,
    ties: Ties,
    /// Length in bytes of the longest piece.
    longest: usize,
}

/// Reads the vocabulary of a GGUF file.
pub(super) fn read(header: &Header) -> Result<Parts, TokenizerError> {
    let unsupported = |key: &str, expected: &str, found: String| TokenizerError::Unsupported {
        file: header.file().to_owned(),
        part: format!("key '{key}'"),
        expected: expected.to_owned(),
        found,
    };
    let model: &str = header.require(MODEL)?;
    if model != "llama" {
        return Err(unsupported(MODEL, "'llama'", format!("'{model}'")));
    }
    // llama.cpp's default is true, but no Gemma has it, and the first files do not state it.
    if header.get(SPACE_PREFIX)? == Some(true) {
        return Err(unsupported(SPACE_PREFIX, "false", "true".to_owned()));
    }
    let tokens: &Strings = header.require(TOKENS)?;
    let scores: Cow<[f32]> = header.require(SCORES)?;
    let types: Vec<i64> = header.require(TYPES)?;
    for (key, length) in [(SCORES, scores.len()), (TYPES, types.len())] {
        if length != tokens.len() {
            let expected = format!("{} values, one for each token", tokens.len());
            return Err(unsupported(key, &expected, length.to_string()));
        }
    }
    if let Some(id) = scores.iter().position(|score| score.is_nan()) {
        return Err(unsupported(SCORES, "numbers", format!("NaN for token {id}")));
    }
    // Ollama's files list tokens for images that the embedding has no rows for.
    let rows = header.tensor("token_embd.weight").ok().map(|embedding| embedding.shape[0] as usize);
    let known = rows.map_or(tokens.len(), |rows| rows.min(tokens.len()));
    let beyond = || (known..tokens.len()).filter_map(|id| tokens.get(id));
    let mut notes = vec![];
    if known < tokens.len() && beyond().all(|token| token.starts_with('<') && token.ends_with('>'))
    {
        notes.push(format!(
            "{}: the vocabulary has {} tokens, the embedding {known}: those beyond it ({}) are left out",
            header.file(),
            tokens.len(),
            beyond().take(4).collect::<Vec<_>>().join(", ")
        ));
    }
    let known = if notes.is_empty() { tokens.len() } else { known };

    let ties = match header.get("general.architecture")? {
        Some("gemma" | "gemma2") => Ties::LowestId,
        _ => Ties::Longest,
    };
    let mut added = Vec::new();
    let mut kinds = Vec::with_capacity(known);
    let mut untyped = Vec::new();
    let pieces: Strings = tokens
        .iter()
        .zip(&types)
        .take(known)
        .enumerate()
        .map(|(id, (token, kind))| {
            // A token with one of these names is that marker, whatever its type says (llama.cpp overrides it too).
            let overridden = MARKERS.contains(&token) && !matches!(*kind, UNKNOWN | CONTROL);
            if overridden {
                untyped.push(token);
            }
            let kind = if overridden { CONTROL } else { *kind };
            kinds.push(kind);
            // llama.cpp's converter writes runs of '▁' as spaces, in these tokens only.
            let piece = match kind {
                USER_DEFINED => token.replace(' ', SPACE),
                _ => token.to_owned(),
            };
            if matches!(kind, UNKNOWN | CONTROL | USER_DEFINED) {
                let control = kind != USER_DEFINED || is_control_name(&piece);
                added.push((piece.clone(), id as u32, control));
            }
            piece
        })
        .collect();
    notes.extend(untyped_note(header.file(), &untyped));
    Ok(Parts {
        file: header.file().to_owned(),
        pairs: Pairs::Scores(Scores::new(&pieces, &scores, &kinds, ties)),
        vocabulary: Vocabulary::new(pieces),
        added: AddedTokens::new(added),
        bos: header.get("tokenizer.ggml.bos_token_id")?,
        eos: header.get("tokenizer.ggml.eos_token_id")?,
        notes,
    })
}

/// How equal scores are ordered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ties {
    /// Gemma 3.
    Longest,
    /// Gemma 1 and 2.
    LowestId,
}

impl Scores {
    fn new(pieces: &Strings, scores: &[f32], types: &[i64], ties: Ties) -> Self {
        // SentencePiece gives user-defined pieces 0, the highest; the converter overwrites it.
        let score = |id: u32| match types[id as usize] {
            USER_DEFINED => 0.0,
            _ => scores[id as usize],
        };
        let mut order: Vec<u32> = (0..pieces.len() as u32)
            .filter(|id| matches!(types[*id as usize], NORMAL | USER_DEFINED))
            .collect();
        order
            .sort_by(|a, b| score(*b).partial_cmp(&score(*a)).unwrap_or(std::cmp::Ordering::Equal));
        let mut ranks = vec![NEVER; pieces.len()];
        let mut rank = 0;
        for (place, id) in order.iter().enumerate() {
            let differs = |before: u32| score(*id) != score(before) || ties == Ties::LowestId;
            if place > 0 && differs(order[place - 1]) {
                rank += 1;
            }
            ranks[*id as usize] = rank;
        }
        Self { ranks, ties, longest: pieces.iter().map(str::len).max().unwrap_or(0) }
    }

    /// Appends the ids of a text without spaces and added tokens.
    pub(super) fn encode(
        &self,
        vocabulary: &Vocabulary,
        bytes: &[u32; 256],
        text: &str,
        ids: &mut Vec<u32>,
    ) {
        let mut word =
            Word { scores: self, vocabulary, text, symbols: vec![], merges: BinaryHeap::new() };
        word.split();
        word.merge();
        let mut place = 0;
        while place != NONE {
            let symbol = word.symbols[place];
            match symbol.id {
                Some(id) => ids.push(id),
                None => {
                    let character = &text.as_bytes()[symbol.start..symbol.end];
                    ids.extend(character.iter().map(|byte| bytes[usize::from(*byte)]));
                }
            }
            place = symbol.next;
        }
    }

    /// The piece with this text, if it takes part in merges.
    fn piece(&self, vocabulary: &Vocabulary, text: &str) -> Option<u32> {
        if text.len() > self.longest {
            return None;
        }
        vocabulary.id(text).filter(|id| self.ranks[*id as usize] != NEVER)
    }
}

/// A text while it is being merged.
struct Word<'a> {
    scores: &'a Scores,
    vocabulary: &'a Vocabulary,
    text: &'a str,
    /// In the order of the text, linked by index; a merge keeps the left one.
    symbols: Vec<Symbol>,
    merges: BinaryHeap<Reverse<Merge>>,
}

#[derive(Clone, Copy)]
struct Symbol {
    /// `None`: a character that is not a piece.
    id: Option<u32>,
    /// Bytes of the text; empty once it is merged into its left neighbour.
    start: usize,
    end: usize,
    characters: u32,
    previous: usize,
    next: usize,
}

/// Two neighbours that may merge. The order of the fields is the order of the merges.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Merge {
    rank: u32,
    /// Ids of the left and right part, or the largest number minus their lengths.
    parts: [u32; 2],
    id: u32,
    /// Index of the left symbol.
    place: usize,
    /// Where the right symbol ends, which tells whether the merge is still valid.
    end: usize,
}

impl Word<'_> {
    fn split(&mut self) {
        for (start, character) in self.text.char_indices() {
            let end = start + character.len_utf8();
            let place = self.symbols.len();
            let last = end == self.text.len();
            self.symbols.push(Symbol {
                id: self.scores.piece(self.vocabulary, &self.text[start..end]),
                start,
                end,
                characters: 1,
                previous: if place == 0 { NONE } else { place - 1 },
                next: if last { NONE } else { place + 1 },
            });
        }
        for place in 0..self.symbols.len() {
            self.consider(place);
        }
    }

    fn merge(&mut self) {
        while let Some(Reverse(merge)) = self.merges.pop() {
            let left = self.symbols[merge.place];
            // The left one may be gone, or either may have merged with another.
            if left.start == left.end || left.next == NONE {
                continue;
            }
            let right = self.symbols[left.next];
            if right.end != merge.end {
                continue;
            }
            let symbol = &mut self.symbols[merge.place];
            symbol.id = Some(merge.id);
            symbol.end = right.end;
            symbol.characters += right.characters;
            symbol.next = right.next;
            self.symbols[left.next].end = right.start;
            if right.next != NONE {
                self.symbols[right.next].previous = merge.place;
            }
            if left.previous != NONE {
                self.consider(left.previous);
            }
            self.consider(merge.place);
        }
    }

    /// Queues the merge of a symbol and its right neighbour, if together they are a piece.
    fn consider(&mut self, place: usize) {
        let left = self.symbols[place];
        if left.next == NONE {
            return;
        }
        let right = self.symbols[left.next];
        let (Some(left_id), Some(right_id)) = (left.id, right.id) else {
            return;
        };
        let text = &self.text[left.start..right.end];
        if let Some(id) = self.scores.piece(self.vocabulary, text) {
            self.merges.push(Reverse(Merge {
                rank: self.scores.ranks[id as usize],
                parts: match self.scores.ties {
                    Ties::Longest => [u32::MAX - left.characters, u32::MAX - right.characters],
                    Ties::LowestId => [left_id, right_id],
                },
                id,
                place,
                end: right.end,
            }));
        }
    }
}
