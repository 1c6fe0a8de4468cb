//! Requests drawn from a Zipf distribution, the same for the same seed.

/// xorshift64*, good enough to draw requests and the same everywhere.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator; `seed` 0 is taken as 1.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// `requests` keys of `0..keys`, key `k` with a probability proportional to
/// `1 / (k + 1)^s`, drawn independently.
///
/// # Panics
/// With no keys, or more than 2^32.
#[must_use]
pub fn zipf(keys: u32, s: f64, requests: usize, seed: u64) -> Vec<u32> {
    assert!(keys > 0, "a trace needs keys");
    let mut total = 0.0;
    let cumulative: Vec<f64> = (1..=keys)
        .map(|rank| {
            total += f64::from(rank).powf(-s);
            total
        })
        .collect();
    let mut rng = Rng::new(seed);
    (0..requests)
        .map(|_| {
            let at = rng.unit() * total;
            let rank = cumulative.partition_point(|&sum| sum <= at);
            u32::try_from(rank).expect("ranks are u32").min(keys - 1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popularity_falls_as_the_exponent_says() {
        let trace = zipf(1000, 1.0, 400_000, 7);
        let count = |key| trace.iter().filter(|&&k| k == key).count() as f64;
        for (key, rank) in [(1, 2.0), (9, 10.0), (99, 100.0)] {
            let ratio = count(0) / count(key);
            assert!((ratio / rank - 1.0).abs() < 0.15, "rank {rank}: {ratio}");
        }
        assert_eq!(trace, zipf(1000, 1.0, 400_000, 7), "same seed, same trace");
    }
}
