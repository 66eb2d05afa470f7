//! A batch as one packed list of tokens: no padding, and the prefix that all rows share is stored
//! once.
//!
//! The prefix is the root of a tree and the rows are its branches. A token attends to the prefix
//! and to its own row up to itself, and positions continue from the prefix. Because attention is
//! causal, the result equals that of rows computed one by one, forward and backward.

use std::ops::Range;

use hearth_kernels::attention::TokenMeta;

use crate::ModelError;

/// A packed list of tokens on the host; the workspace uploads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packed {
    /// Token ids, `(T)`: the prefix (if it is not cached), then the rows in order.
    pub tokens: Vec<u32>,
    /// What each token attends to, `(T)`.
    pub meta: Vec<TokenMeta>,
    /// The range of each row's own tokens in the list.
    pub rows: Vec<Range<usize>>,
    /// Number of prefix tokens at the start of the list.
    pub prefix: usize,
    /// Number of cached keys that precede the list.
    pub cached: usize,
    /// A number for each token that depends only on its row's identity and its position, so that
    /// dropout does not depend on how rows are packed.
    pub dropout_keys: Vec<u32>,
}

/// One row of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// All ids of the row, including the shared prefix.
    pub tokens: &'a [u32],
    /// The row's identity in the data set, for dropout.
    pub id: u32,
}

impl Packed {
    /// Packs rows whose first `prefix` ids are equal. Every row must have at least one id of its
    /// own.
    ///
    /// # Errors
    /// No rows, or a row without tokens of its own.
    pub fn new(rows: &[Row], prefix: usize) -> Result<Self, ModelError> {
        let Some(first) = rows.first() else {
            return Err(ModelError::Empty("a batch needs at least one row"));
        };
        if rows.iter().any(|row| row.tokens.len() <= prefix) {
            return Err(ModelError::Empty(
                "every row of a batch needs a token of its own after the shared prefix",
            ));
        }
        debug_assert!(rows.iter().all(|row| row.tokens[..prefix] == first.tokens[..prefix]));
        let mut packed = Self { prefix, ..Self::default() };
        let total: usize = prefix + rows.iter().map(|row| row.tokens.len() - prefix).sum::<usize>();
        for (position, &token) in first.tokens[..prefix].iter().enumerate() {
            packed.push(token, position, 0, 0, total, u32::MAX);
        }
        packed.push_rows(rows, prefix, prefix);
        Ok(packed)
    }

    /// Packs rows that continue the tokens of a cache that holds `cached` keys: `rows` do not
    /// include the cached tokens, and each row attends to the whole cache.
    ///
    /// # Errors
    /// No rows, or an empty one.
    pub fn after_cache(rows: &[Row], cached: usize) -> Result<Self, ModelError> {
        if rows.is_empty() || rows.iter().any(|row| row.tokens.is_empty()) {
            return Err(ModelError::Empty("a batch needs at least one row, and every row a token"));
        }
        let mut packed = Self { cached, ..Self::default() };
        packed.push_rows(rows, 0, cached);
        Ok(packed)
    }

    fn push_rows(&mut self, rows: &[Row], skip: usize, prefix_end: usize) {
        for row in rows {
            let start = self.tokens.len();
            let own = &row.tokens[skip..];
            let end = self.cached + start + own.len();
            for (i, &token) in own.iter().enumerate() {
                self.push(token, prefix_end + i, prefix_end, self.cached + start, end, row.id);
            }
            self.rows.push(start..start + own.len());
        }
    }

    fn push(
        &mut self,
        token: u32,
        position: usize,
        prefix_end: usize,
        own_start: usize,
        seen_until: usize,
        id: u32,
    ) {
        self.tokens.push(token);
        self.meta.push(TokenMeta {
            position: position as u32,
            prefix_end: prefix_end as u32,
            own_start: own_start as u32,
            seen_until: seen_until as u32,
        });
        // Odd multipliers keep neighbours distinct; the dropout kernel hashes this further.
        self.dropout_keys
            .push(id.wrapping_mul(0x9e37_79b1) ^ (position as u32).wrapping_mul(0x85eb_ca77));
    }

    /// T, the number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Index in the list of a row's token at `position` in the row (prefix included).
    pub fn index(&self, row: usize, position: usize) -> usize {
        let front = self.prefix + self.cached;
        if position < front {
            position - self.cached
        } else {
            self.rows[row].start + position - front
        }
    }

    /// Checks ids and lengths against a model.
    ///
    /// # Errors
    /// A token beyond the vocabulary, or a row that is too long.
    pub fn check(&self, vocab: usize, max_positions: usize) -> Result<(), ModelError> {
        for (&token, meta) in self.tokens.iter().zip(&self.meta) {
            let position = meta.position as usize;
            if token as usize >= vocab {
                return Err(ModelError::Token { token, position, vocab });
            }
            if position >= max_positions {
                return Err(ModelError::TooLong { tokens: position + 1, max: max_positions });
            }
        }
        Ok(())
    }
}

/// The number of leading ids that all rows share, leaving each row at least one of its own.
pub fn shared_prefix<'a>(rows: impl IntoIterator<Item = &'a [u32]>) -> usize {
    let mut rows = rows.into_iter();
    let Some(first) = rows.next() else { return 0 };
    let most = first.len().saturating_sub(1);
    rows.fold(most, |shared, row| {
        let equal = first.iter().zip(row).take_while(|(a, b)| a == b).count();
        shared.min(equal).min(row.len().saturating_sub(1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tokens: &[u32]) -> Row<'_> {
        Row { tokens, id: 7 }
    }

    #[test]
    fn rows_share_the_prefix_once() {
        let packed = Packed::new(&[row(&[2, 5, 6, 7]), row(&[2, 5, 8])], 2).unwrap();
        assert_eq!(packed.tokens, [2, 5, 6, 7, 8]);
        assert_eq!(packed.rows, [2..4, 4..5]);
        let meta: Vec<_> = packed
            .meta
            .iter()
            .map(|m| [m.position, m.prefix_end, m.own_start, m.seen_until])
            .collect();
        assert_eq!(meta, [[0, 0, 0, 5], [1, 0, 0, 5], [2, 2, 2, 4], [3, 2, 2, 4], [2, 2, 4, 5]]);
        assert_eq!((packed.index(0, 1), packed.index(0, 3), packed.index(1, 2)), (1, 3, 4));
        // The same row packed alone has the same dropout keys.
        let alone = Packed::new(&[row(&[2, 5, 8])], 2).unwrap();
        assert_eq!(alone.dropout_keys[2], packed.dropout_keys[4]);
        assert_eq!(alone.dropout_keys[..2], packed.dropout_keys[..2]);
    }

    #[test]
    fn rows_after_a_cache_start_after_it() {
        let packed = Packed::after_cache(&[row(&[6, 7]), row(&[8])], 10).unwrap();
        let meta: Vec<_> = packed
            .meta
            .iter()
            .map(|m| [m.position, m.prefix_end, m.own_start, m.seen_until])
            .collect();
        assert_eq!(meta, [[10, 10, 10, 12], [11, 10, 10, 12], [10, 10, 12, 13]]);
        assert_eq!((packed.index(0, 11), packed.index(1, 10)), (1, 2));
    }

    #[test]
    fn a_shared_prefix_leaves_every_row_a_token() {
        let share = |rows: &[&[u32]]| shared_prefix(rows.iter().copied());
        assert_eq!(share(&[&[1, 2, 3], &[1, 2, 4, 5]]), 2);
        assert_eq!(share(&[&[1, 2], &[1, 2, 4]]), 1);
        assert_eq!(share(&[&[1, 2, 3]]), 2);
        assert_eq!(share(&[&[1], &[2]]), 0);
        assert_eq!(share(&[]), 0);
    }

    #[test]
    fn bad_batches_are_errors() {
        assert!(Packed::new(&[], 0).is_err());
        assert!(Packed::new(&[row(&[1, 2]), row(&[1, 2, 3])], 2).is_err());
        assert!(Packed::after_cache(&[row(&[])], 3).is_err());
        let packed = Packed::new(&[row(&[1, 9])], 0).unwrap();
        assert!(matches!(
            packed.check(9, 10),
            Err(ModelError::Token { token: 9, position: 1, vocab: 9 })
        ));
        assert!(matches!(packed.check(10, 1), Err(ModelError::TooLong { tokens: 2, max: 1 })));
        assert!(packed.check(10, 2).is_ok());
    }
}
