//! Pieces by id and ids by piece, in little memory: 5 MB for Gemma 3's 262,144.

use std::hash::{DefaultHasher, Hasher};

use crate::gguf::header::Strings;

/// An empty place of the hash table.
const EMPTY: u32 = u32::MAX;

pub(super) struct Vocabulary {
    pieces: Strings,
    /// A hash table of ids with linear probing, at most half full. It holds no copy of the
    /// pieces, which a `HashMap<String, u32>` would.
    slots: Vec<u32>,
}

impl Vocabulary {
    /// The piece at place `id` has that id. Of equal pieces the first is found.
    pub(super) fn new(pieces: Strings) -> Self {
        let slots = vec![EMPTY; (pieces.len() * 2).next_power_of_two()];
        let mut vocabulary = Self { pieces, slots };
        for id in 0..vocabulary.pieces.len() {
            let piece = vocabulary.pieces.get(id).unwrap_or_default();
            let slot = vocabulary.slot(piece);
            if vocabulary.slots[slot] == EMPTY {
                vocabulary.slots[slot] = id as u32;
            }
        }
        vocabulary
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id as usize)
    }

    pub(super) fn id(&self, piece: &str) -> Option<u32> {
        Some(self.slots[self.slot(piece)]).filter(|id| *id != EMPTY)
    }

    /// Where a piece is, or where it would be.
    fn slot(&self, piece: &str) -> usize {
        // SipHash: no vocabulary makes all pieces collide, by chance or on purpose.
        let mut hasher = DefaultHasher::new();
        hasher.write(piece.as_bytes());
        let mask = self.slots.len() - 1;
        let mut slot = hasher.finish() as usize & mask;
        // Half of the places are empty, so this ends.
        while self.slots[slot] != EMPTY && self.piece(self.slots[slot]) != Some(piece) {
            slot = (slot + 1) & mask;
        }
        slot
    }
}
