//! The workspace's only seeded random number generator.
//!
//! SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). Its state is one
//! number, so a snapshot can hold it, and it gives the same numbers on every machine.

/// A seeded random number generator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng(u64);

impl Rng {
    /// A generator from a seed, or from a state that [`Rng::state`] returned.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The state, for [`Rng::new`].
    pub fn state(&self) -> u64 {
        self.0
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number below `n`, without bias (Lemire, "Fast random integer generation in an interval", 2019).
    /// 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(n);
            // the low half below 2^64 mod n marks the over-represented draws
            if n == 0 || (wide as u64) >= n.wrapping_neg() % n {
                return (wide >> 64) as usize;
            }
        }
    }

    /// Shuffles by the method of Fisher and Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn known_numbers() {
        let mut rng = Rng::new(1_234_567);
        let found = [rng.next_u64(), rng.next_u64(), rng.next_u64()];
        // published with the reference implementation
        assert_eq!(
            found,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn a_stored_state_continues_the_sequence() {
        let mut one = Rng::new(7);
        let first = one.next_u64();
        let mut two = Rng::new(one.state());
        assert_eq!(one.next_u64(), two.next_u64());
        assert_ne!(first, one.next_u64());
    }

    #[test]
    fn bounded_draws_are_even() {
        let (mut rng, mut counts) = (Rng::new(7), [0; 3]);
        (0..30_000).for_each(|_| counts[rng.below(3)] += 1);
        // five standard deviations of a binomial count
        assert!(counts.iter().all(|&c| i32::abs(c - 10_000) < 410), "{counts:?}");
        assert_eq!(rng.below(0), 0);
        assert!((0..1000).map(|_| rng.uniform()).all(|x| (0.0..1.0).contains(&x)));
    }

    #[test]
    fn a_shuffle_keeps_everything() {
        let mut items: Vec<usize> = (0..100).collect();
        Rng::new(3).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
