//! Stopwatches and what they showed.

use std::time::{Duration, Instant};

/// Runs from its making on. For figures that are printed and decide nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopwatch(Instant);

impl Stopwatch {
    #[allow(clippy::disallowed_methods, reason = "a measurement that is printed and decides nothing")]
    pub(super) fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    pub(super) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    pub(super) fn micros(self) -> u64 {
        u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// How long many things of a kind took.
#[derive(Debug, Default)]
pub(super) struct Latencies(Vec<u64>);

impl Latencies {
    pub(super) fn record(&mut self, micros: u64) {
        self.0.push(micros);
    }

    pub(super) fn extend(&mut self, other: Latencies) {
        self.0.extend(other.0);
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// What `percent` of them did not exceed, in milliseconds; `None` if there are none.
    pub(super) fn percentile_ms(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).map(|micros| *micros as f64 / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_so_many_do_not_exceed() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile_ms(50), None);
        for micros in (1..=200).rev() {
            latencies.record(micros * 1_000);
        }
        assert_eq!((latencies.percentile_ms(50), latencies.percentile_ms(99)), (Some(100.0), Some(198.0)));
    }
}
