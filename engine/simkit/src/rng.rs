//! Numbers from a seed: xoshiro256++ (Blackman and Vigna, "Scrambled linear
//! pseudorandom number generators", 2021), its state filled by splitmix64.
//!
//! Our own thirty lines rather than a library's, because a seed printed today
//! must give the same world after a dependency was updated.

/// A stream of numbers that depends on its seed alone.
#[derive(Clone, Debug)]
pub struct SimRng([u64; 4]);

/// One step of splitmix64.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl SimRng {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self([(); 4].map(|()| splitmix(&mut state)))
    }

    /// A stream of its own for one part of a world, so that a draw more in one
    /// part does not move every other part.
    #[must_use]
    pub fn fork(&mut self, part: u64) -> Self {
        Self::new(self.next_u64() ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// Less than `end`. The bias of the multiplication is below 2^-32 for every
    /// bound a simulation uses.
    ///
    /// # Panics
    /// When `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "no number is below 0");
        let wide = u128::from(self.next_u64()) * u128::from(end);
        u64::try_from(wide >> 64).expect("the upper half of a product of two u64")
    }

    /// Less than `end`, for indexing.
    ///
    /// # Panics
    /// When `end` is 0.
    pub fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("below a usize")
    }

    /// From `first` to `last`, both included.
    ///
    /// # Panics
    /// When `last` is less than `first`.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        assert!(first <= last, "{first} to {last} holds no number");
        match (last - first).checked_add(1) {
            Some(width) => first + self.below(width),
            None => self.next_u64(),
        }
    }

    /// True once in `n` times on average; never when `n` is 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.next_u64() >> 63 == 1
    }

    /// One of them.
    ///
    /// # Panics
    /// When there are none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_published_numbers() {
        // Reference: splitmix64 of 0 begins e220a8397b1dcdaf (Vigna's own
        // test value); xoshiro256++ of the state {1, 2, 3, 4} begins 41943041.
        let mut state = 0;
        assert_eq!(splitmix(&mut state), 0xe220_a839_7b1d_cdaf);
        let mut rng = SimRng([1, 2, 3, 4]);
        assert_eq!(rng.next_u64(), 41_943_041);
        assert_eq!(rng.next_u64(), 58_720_359);
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_gives_others() {
        let draw = |seed| {
            let mut rng = SimRng::new(seed);
            let mut part = rng.fork(1);
            (0..8).map(|_| part.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn bounds_hold_and_every_value_below_them_comes() {
        let mut rng = SimRng::new(3);
        let mut seen = [0_u32; 5];
        for _ in 0..500 {
            seen[rng.index(5)] += 1;
            assert!((10..=12).contains(&rng.between(10, 12)));
        }
        assert!(seen.iter().all(|n| *n > 50), "{seen:?}");
        assert_eq!(rng.between(9, 9), 9);
        assert!(!rng.one_in(0));
        assert!(rng.one_in(1));
    }
}
