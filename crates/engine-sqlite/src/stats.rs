//! Figures since the store was opened.

use std::collections::BTreeMap;
use std::time::Instant;

use onefold_core::{Outcome, StoreStats};

/// Upper bounds of the commit-time histogram, in microseconds.
const MICROS: [u64; 14] =
    [100, 200, 300, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, u64::MAX];
/// Upper bounds of the batch-size histogram.
const SIZES: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 1_024, u64::MAX];

#[derive(Debug, Default)]
pub(crate) struct Stats {
    attempts: BTreeMap<Outcome, u64>,
    commits: u64,
    committed_ops: u64,
    micros: [u64; MICROS.len()],
    micros_sum: u64,
    sizes: [u64; SIZES.len()],
}

impl Stats {
    /// The start of a commit. A measurement of this machine, so not of the injected clock.
    #[allow(clippy::disallowed_methods, reason = "measures how long a commit takes, decides nothing")]
    pub(crate) fn start() -> Instant {
        Instant::now()
    }

    pub(crate) fn committed(&mut self, started: Instant, ops: usize) {
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.commits += 1;
        self.committed_ops += ops as u64;
        self.micros_sum = self.micros_sum.saturating_add(micros);
        count(&MICROS, &mut self.micros, micros);
        count(&SIZES, &mut self.sizes, ops as u64);
    }

    pub(crate) fn attempts_ended(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            *self.attempts.entry(*outcome).or_default() += 1;
        }
    }

    pub(crate) fn report(&self) -> StoreStats {
        StoreStats {
            attempts: self.attempts.iter().map(|(outcome, count)| (*outcome, *count)).collect(),
            commits: self.commits,
            committed_ops: self.committed_ops,
            commit_micros: MICROS.into_iter().zip(self.micros).collect(),
            commit_micros_sum: self.micros_sum,
            batch_sizes: SIZES.into_iter().zip(self.sizes).collect(),
            ..StoreStats::default()
        }
    }
}

fn count(bounds: &[u64], counts: &mut [u64], value: u64) {
    let at = bounds.iter().position(|bound| value <= *bound);
    if let Some(count) = at.and_then(|at| counts.get_mut(at)) {
        *count += 1;
    }
}
