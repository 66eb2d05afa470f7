//! Pieces by id and ids by piece, in little memory: 5 MB for Gemma 3's 262,144.

use std::hash::Hasher;

use hashbrown::HashTable;
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher13;

use crate::gguf::header::Strings;

pub(super) struct Vocabulary {
    pieces: Strings,
    /// Ids by the hash of their piece. It holds no copy of the pieces, which a `HashMap<String, u32>` would.
    ids: HashTable<u32>,
    /// Key of the hash: a digest of all pieces. A file can be made whose pieces collide under a known key,
    /// but not one whose pieces collide under the key that they themselves determine.
    key: [u8; 16],
}

impl Vocabulary {
    /// The piece at index `id` has that id. Of equal pieces the first is found.
    pub(super) fn new(pieces: Strings) -> Self {
        let mut digest = Sha256::new();
        for id in 0..pieces.len() {
            let piece = pieces.get(id).unwrap_or_default();
            digest.update((piece.len() as u64).to_le_bytes());
            digest.update(piece);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&digest.finalize()[..16]);
        let mut ids = HashTable::with_capacity(pieces.len());
        for id in 0..pieces.len() {
            let piece = pieces.get(id).unwrap_or_default();
            let rehash = |&id: &u32| hash(&key, pieces.get(id as usize).unwrap_or_default());
            let is_equal = |&other: &u32| pieces.get(other as usize) == Some(piece);
            ids.entry(hash(&key, piece), is_equal, rehash).or_insert(id as u32);
        }
        Self { pieces, ids, key }
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id as usize)
    }

    pub(super) fn id(&self, piece: &str) -> Option<u32> {
        let is_equal = |&id: &u32| self.piece(id) == Some(piece);
        self.ids.find(hash(&self.key, piece), is_equal).copied()
    }
}

fn hash(key: &[u8; 16], piece: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_key(key);
    hasher.write(piece.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn vocabulary(pieces: &[String]) -> Vocabulary {
        Vocabulary::new(pieces.iter().collect())
    }

    /// Pieces that an attacker chose such that the hash that anyone can compute, SipHash with a key of zeros, puts
    /// all of them into one of 4,096 buckets.
    #[test]
    fn pieces_that_collide_under_a_known_key_do_not_collide_here() {
        let place = |key: &[u8; 16], piece: &str| hash(key, piece) % 4096;
        let all = (0..).map(|i: u32| format!("piece {i}"));
        let chosen: Vec<String> = all.filter(|p| place(&[0; 16], p) == 7).take(200).collect();
        let hostile = vocabulary(&chosen);
        let places: BTreeSet<u64> = chosen.iter().map(|p| place(&hostile.key, p)).collect();
        // 200 of 4,096 at random: about five collide with another one
        assert!(places.len() > 180, "{} places of 200 pieces", places.len());
        for (id, piece) in chosen.iter().enumerate() {
            assert_eq!(hostile.id(piece), Some(id as u32));
        }
        assert_eq!(hostile.id("piece"), None);
        assert_ne!(hostile.key, vocabulary(&chosen[1..]).key, "one piece fewer is another key");
    }

    #[test]
    fn of_equal_pieces_the_first_is_found() {
        let twice = vocabulary(&["a", "b", "a"].map(String::from));
        assert_eq!((twice.id("a"), twice.id("b"), twice.len()), (Some(0), Some(1), 3));
        assert_eq!(twice.piece(2), Some("a"));
    }
}
