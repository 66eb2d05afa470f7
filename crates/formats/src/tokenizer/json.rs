//! `tokenizer.json`. Its list of merges goes to the BPE of the `tokenizers` crate; everything else
//! has to be what Gemma's tokenizers have, which is checked here.
//!
//! The crate's own reader of the whole file is not used: it panics if the file is truncated,
//! and takes 300 MB for Gemma 3's 33 MB, more than twice as much as this.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::models::bpe::BPE;

use super::{
    AddedTokens, MARKERS, Pairs, Parts, SPACE, Strings, TokenizerError, Vocabulary,
    is_control_name, untyped_note,
};
use crate::recognize::check_json;

const FILE: &str = "tokenizer.json";

/// The parts of the file that matter here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Token>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Token {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default, rename = "type")]
    kind: Value,
    #[serde(default)]
    dropout: Value,
    #[serde(default)]
    byte_fallback: Value,
    #[serde(default)]
    continuing_subword_prefix: Value,
    #[serde(default)]
    end_of_word_suffix: Value,
    #[serde(default)]
    ignore_merges: Value,
    #[serde(default)]
    vocab: HashMap<String, u32>,
    #[serde(default)]
    merges: Vec<Merge>,
}

/// A merge: `["a", "b"]`, or in older files `"a b"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Joined(String),
}

pub(super) fn read(bytes: &[u8]) -> Result<Parts, TokenizerError> {
    check_json(FILE, bytes)?;
    let File { added_tokens, normalizer, pre_tokenizer, model } =
        serde_json::from_slice(bytes).map_err(not_a_tokenizer)?;
    let to_underline = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    // Gemma 3 splits at spaces, of which none are left.
    let at_spaces = json!({
        "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false
    });
    // A missing key counts as null and as false.
    let unset = [Value::Null, json!(false)];
    for (part, found, allowed) in [
        ("normalizer", &normalizer, &[to_underline][..]),
        ("pre_tokenizer", &pre_tokenizer, &[Value::Null, at_spaces]),
        ("model.type", &model.kind, &[json!("BPE")]),
        ("model.dropout", &model.dropout, &unset[..1]),
        ("model.byte_fallback", &model.byte_fallback, &[json!(true)]),
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix, &unset[..1]),
        ("model.end_of_word_suffix", &model.end_of_word_suffix, &unset[..1]),
        ("model.ignore_merges", &model.ignore_merges, &unset),
    ] {
        if !allowed.contains(found) {
            let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
            return Err(unsupported(part, &allowed.join(" or "), found.to_string()));
        }
    }

    let vocabulary = Vocabulary::new(pieces_by_id(&model.vocab, &added_tokens)?);
    let mut added = Vec::new();
    let mut untyped = Vec::new();
    for marker in MARKERS {
        let token = added_tokens.iter().find(|token| token.content == marker);
        // The turn markers of the first Gemmas are listed without being special.
        let is_marked = token.is_some_and(|token| token.special || marker.ends_with("_of_turn>"));
        if let (Some(id), false) = (vocabulary.id(marker), is_marked) {
            untyped.push(marker);
            if token.is_none() {
                added.push((marker.to_owned(), id, true));
            }
        }
    }
    for token in added_tokens {
        if token.single_word || token.lstrip || token.rstrip || token.normalized {
            let expected = "tokens without single_word, lstrip, rstrip and normalized";
            return Err(unsupported("added_tokens", expected, format!("'{}'", token.content)));
        }
        let control = token.special || is_control_name(&token.content);
        added.push((token.content, token.id, control));
    }
    let merges = model.merges.into_iter().map(Merge::pair).collect::<Result<Vec<_>, _>>()?;
    let bpe = BPE::builder()
        .vocab_and_merges(model.vocab.into_iter().collect::<HashMap<_, _, _>>(), merges)
        .byte_fallback(true)
        .cache_capacity(0)
        .build()
        .map_err(not_a_tokenizer)?;
    Ok(Parts {
        file: FILE.to_owned(),
        vocabulary,
        added: AddedTokens::new(added),
        pairs: Pairs::Merges(Box::new(bpe)),
        bos: None,
        eos: None,
        notes: untyped_note(FILE, &untyped).into_iter().collect(),
    })
}

impl Merge {
    fn pair(self) -> Result<(String, String), TokenizerError> {
        match self {
            Self::Pair(left, right) => Ok((left, right)),
            Self::Joined(joined) => match joined.split_once(' ') {
                Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
                None => Err(unsupported("model.merges", "two pieces", format!("'{joined}'"))),
            },
        }
    }
}

/// All pieces in the order of their ids, which run from 0 without gaps. An added token may be in
/// the model's vocabulary too, with the same id.
fn pieces_by_id(vocab: &HashMap<String, u32>, added: &[Token]) -> Result<Strings, TokenizerError> {
    let beyond = added.iter().filter(|token| !vocab.contains_key(&token.content));
    let beyond: Vec<(&String, u32)> = beyond.map(|token| (&token.content, token.id)).collect();
    let mut pieces = vec![None; vocab.len() + beyond.len()];
    let in_model = vocab.iter().map(|(piece, id)| (piece, *id));
    for (piece, id) in in_model.chain(beyond) {
        match pieces.get_mut(id as usize) {
            Some(slot @ None) => *slot = Some(piece),
            _ => {
                let expected = "ids from 0 without gaps, each once";
                return Err(unsupported("model.vocab", expected, format!("'{piece}': {id}")));
            }
        }
    }
    for token in added {
        if pieces.get(token.id as usize) != Some(&Some(&token.content)) {
            let expected = format!("the id of '{}' in the vocabulary", token.content);
            return Err(unsupported("added_tokens", &expected, token.id.to_string()));
        }
    }
    // As many pieces as slots, and no slot filled twice: no slot is empty.
    Ok(pieces.into_iter().flatten().collect())
}

fn not_a_tokenizer(error: impl ToString) -> TokenizerError {
    TokenizerError::Json { file: FILE.to_owned(), found: error.to_string() }
}

fn unsupported(part: &str, expected: &str, mut found: String) -> TokenizerError {
    if let Some((end, _)) = found.char_indices().nth(200) {
        found.truncate(end);
    }
    TokenizerError::Unsupported {
        file: FILE.to_owned(),
        part: part.to_owned(),
        expected: expected.to_owned(),
        found,
    }
}
