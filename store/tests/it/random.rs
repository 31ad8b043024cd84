//! Randomness that can be had again: splitmix64 from a printed seed.

use std::time::Duration;

/// A small generator; no cryptography, no crate, the same numbers everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From `HUB_TEST_SEED` or a fresh seed, printed so that a failure can be repeated.
    pub fn from_env() -> Self {
        let seed = std::env::var("HUB_TEST_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        eprintln!("HUB_TEST_SEED={seed}");
        Self(seed)
    }

    /// From this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another generator, for a task of its own.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True this often in a hundred.
    pub fn percent(&mut self, often: u64) -> bool {
        self.below(100) < often
    }

    /// Up to this many milliseconds, in steps of a tenth.
    pub fn millis_below(&mut self, bound: u64) -> Duration {
        Duration::from_micros(self.below(bound * 10) * 100)
    }
}
