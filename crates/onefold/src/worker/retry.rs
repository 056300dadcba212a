//! Pauses between tries of a call that failed for a reason that may pass.

use onefold_core::{DurationMs, Entropy};

const FIRST_MS: u64 = 50;
const LONGEST_MS: u64 = 5_000;

/// Doubling pauses, of which half is drawn, so that workers that failed together do not come back
/// together.
pub(crate) struct Retry {
    failed: u32,
}

impl Retry {
    pub(crate) fn new() -> Retry {
        Retry { failed: 0 }
    }

    pub(crate) fn succeeded(&mut self) {
        self.failed = 0;
    }

    /// The next pause.
    pub(crate) fn pause(&mut self, entropy: &dyn Entropy) -> DurationMs {
        let longest = (FIRST_MS << self.failed.min(16)).min(LONGEST_MS);
        self.failed += 1;
        DurationMs::from_ms(longest / 2 + entropy.up_to(longest / 2))
    }
}
