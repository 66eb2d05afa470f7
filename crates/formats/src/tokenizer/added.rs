//! Tokens that are cut out of a text before anything else.

use std::collections::{BTreeMap, HashMap};

pub(super) struct AddedTokens {
    tokens: HashMap<String, Added>,
    /// Lengths in bytes of the tokens that start with a byte, longest first. Gemma 3 has 6,415
    /// tokens but few first bytes and few lengths.
    lengths: BTreeMap<u8, Vec<usize>>,
    /// Ids of the control tokens, sorted.
    control: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Added {
    id: u32,
    control: bool,
}

/// A token in a text.
pub(super) struct Found {
    pub(super) id: u32,
    pub(super) control: bool,
    /// Index of the first byte.
    pub(super) start: usize,
    /// Index after the last byte.
    pub(super) end: usize,
}

impl AddedTokens {
    /// From content, id and whether it is a control token. Empty content is skipped.
    pub(super) fn new(tokens: impl IntoIterator<Item = (String, u32, bool)>) -> Self {
        let mut all = Self { tokens: HashMap::new(), lengths: BTreeMap::new(), control: vec![] };
        for (content, id, control) in tokens {
            let Some(first) = content.bytes().next() else { continue };
            let lengths = all.lengths.entry(first).or_default();
            if let Err(place) = lengths.binary_search_by(|length| content.len().cmp(length)) {
                lengths.insert(place, content.len());
            }
            if control {
                all.control.push(id);
            }
            all.tokens.insert(content, Added { id, control });
        }
        all.control.sort_unstable();
        all
    }

    pub(super) fn is_control(&self, id: u32) -> bool {
        self.control.binary_search(&id).is_ok()
    }

    /// The tokens in a text: leftmost first, the longest at each index, none overlapping.
    pub(super) fn find<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Found> + 'a {
        let mut start = 0;
        std::iter::from_fn(move || {
            while start < text.len() {
                if let Some(found) = self.at(text, start) {
                    start = found.end;
                    return Some(found);
                }
                start += 1;
            }
            None
        })
    }

    /// The longest token at an index. Tokens are whole characters: none starts inside a character.
    fn at(&self, text: &str, start: usize) -> Option<Found> {
        let lengths = self.lengths.get(&text.as_bytes()[start])?;
        lengths.iter().find_map(|length| {
            let end = start + length;
            let Added { id, control } = *self.tokens.get(text.get(start..end)?)?;
            Some(Found { id, control, start, end })
        })
    }
}
