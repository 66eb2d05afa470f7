//! The assignment of rows to batches: a pure function of seed and epoch, so that a resumed run needs no state
//! for it.

use hearth_rng::Rng;

/// Batches whose rows are sorted by length together, when rows are grouped by length.
const GROUP: usize = 8;

/// The batches of an epoch (from 0), as indices into rows of these lengths. Every row occurs once; the last
/// batch may be smaller.
pub(super) fn batches(
    lengths: &[usize],
    batch: usize,
    grouped: bool,
    seed: u64,
    epoch: usize,
) -> Vec<Vec<usize>> {
    // two rounds of the generator keep neighbouring seeds and epochs apart
    let mut rng = Rng::new(Rng::new(seed).next_u64() ^ epoch as u64);
    let mut rng = Rng::new(rng.next_u64());
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    rng.shuffle(&mut order);
    if grouped {
        order.chunks_mut(GROUP * batch).for_each(|group| group.sort_by_key(|&i| lengths[i]));
    }
    let mut batches: Vec<Vec<usize>> = order.chunks(batch).map(<[usize]>::to_vec).collect();
    if grouped {
        rng.shuffle(&mut batches);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_once_and_another_order_each_epoch_and_seed() {
        let lengths: Vec<usize> = (0..50).map(|i| i * 7 % 23).collect();
        for grouped in [false, true] {
            let of = |seed, epoch| batches(&lengths, 8, grouped, seed, epoch);
            let mut all = of(1, 0).concat();
            all.sort_unstable();
            assert_eq!(all, (0..50).collect::<Vec<_>>());
            assert_eq!((of(1, 0).len(), of(1, 0)), (7, of(1, 0)));
            assert_ne!(of(1, 0), of(1, 1));
            assert_ne!(of(1, 0), of(2, 0));
            assert_ne!(of(1, 1), of(0, 0));
        }
    }

    #[test]
    fn groups_have_rows_of_like_length() {
        let lengths: Vec<usize> = (0..64).collect();
        let spread = |grouped| -> usize {
            let spread = |b: &Vec<usize>| b.iter().max().unwrap() - b.iter().min().unwrap();
            batches(&lengths, 8, grouped, 3, 0).iter().map(spread).sum()
        };
        assert_eq!(spread(true), 8 * 7);
        assert!(spread(false) > 5 * spread(true));
    }
}
