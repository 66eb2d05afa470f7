//! One seeded generator for everything that is random on the host.

/// SplitMix64 (Steele, Lea, Flood 2014): tiny, and its whole state is one number, so that a
/// snapshot can hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng(u64);

impl Rng {
    /// Starts from a seed, or goes on from a stored state.
    pub fn new(state: u64) -> Self {
        Self(state)
    }

    /// The state, for [`Rng::new`].
    pub fn state(&self) -> u64 {
        self.0
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..n; the bias is below n / 2⁶⁴.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Fisher and Yates.
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
    fn a_stored_state_goes_on_where_it_was() {
        let mut one = Rng::new(7);
        let first = one.bits();
        let mut two = Rng::new(one.state());
        assert_eq!(one.bits(), two.bits());
        // The published first output of SplitMix64 for seed 1234567 is 6457827717110365317.
        assert_eq!(Rng::new(1_234_567).bits(), 6_457_827_717_110_365_317);
        assert_ne!(first, one.bits());
    }

    #[test]
    fn a_shuffle_keeps_all_and_moves_some() {
        let mut items: Vec<u32> = (0..50).collect();
        Rng::new(1).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
