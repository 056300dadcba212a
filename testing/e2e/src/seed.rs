//! Randomness that can be had again.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// What everything random in a test is drawn from.
pub struct Rng(StdRng);

/// The seed of this run: `ONEFOLD_SEED`, or another one every time. Printed, so that a failed run can be had again.
pub fn seed(test: &str) -> u64 {
    let given =
        std::env::var("ONEFOLD_SEED").ok().map(|text| text.parse().expect("ONEFOLD_SEED is a number"));
    let seed = given.unwrap_or_else(|| rand::random_range(0..1_000_000));
    eprintln!("{test}: seed {seed}; again with ONEFOLD_SEED={seed}");
    seed
}

/// How many times the usual amount is asked for: 1, or more in the long runs (`ONEFOLD_LONG=1`).
pub fn long() -> u64 {
    if std::env::var_os("ONEFOLD_LONG").is_some_and(|value| value != "0") { 10 } else { 1 }
}

impl Rng {
    /// The generator of one thread of a test.
    pub fn new(seed: u64, thread: u64) -> Rng {
        Rng(StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(thread)))
    }

    /// A number in `range`.
    pub fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.within(0..n) == 0
    }
}
