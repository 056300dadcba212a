//! Backoff and budgets: when a failed job runs again, and when it no longer does.

use serde::{Deserialize, Serialize};

use crate::{DurationMs, Entropy, Timestamp, limits};

/// How long a job waits after each failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// After failure n: `d = min(max, base × 2^(n−1))`, of which half is waited and up to the
    /// other half is drawn, so that jobs that failed together do not come back together.
    Exponential {
        /// Wait after the first failure.
        base: DurationMs,
        /// No wait is longer.
        max: DurationMs,
    },
    /// The same wait after every failure.
    Fixed(DurationMs),
    /// The wait after the first, second, … failure; the last one repeats. Never empty.
    List(Vec<DurationMs>),
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::Exponential { base: limits::BACKOFF_BASE, max: limits::BACKOFF_MAX }
    }
}

impl Backoff {
    /// The longest wait after failure number `failure` (from 1).
    pub fn longest_wait(&self, failure: u32) -> DurationMs {
        let nth = failure.max(1) - 1;
        match self {
            Backoff::Exponential { base, max } => {
                let doubled =
                    1_u64.checked_shl(nth).map_or(u64::MAX, |factor| base.as_ms().saturating_mul(factor));
                DurationMs::from_ms(doubled.min(max.as_ms()))
            }
            Backoff::Fixed(wait) => *wait,
            Backoff::List(waits) => {
                waits.get(nth as usize).or(waits.last()).copied().unwrap_or(DurationMs::ZERO)
            }
        }
    }

    /// The wait after failure number `failure` (from 1).
    pub fn wait(&self, failure: u32, entropy: &dyn Entropy) -> DurationMs {
        let longest = self.longest_wait(failure);
        match self {
            Backoff::Exponential { .. } => {
                let half = longest.as_ms() / 2;
                DurationMs::from_ms(half + entropy.up_to(longest.as_ms() - half))
            }
            Backoff::Fixed(_) | Backoff::List(_) => longest,
        }
    }
}

/// `retry_until`: no automatic attempt starts after this (I11).
///
/// First start + the longer of what the retry policy can take (every wait at its longest and
/// every attempt at its hard limit) and [`limits::RETRY_FOR_MIN`].
pub fn retry_until(
    first_start: Timestamp,
    backoff: &Backoff,
    max_attempts: u32,
    timeout: DurationMs,
) -> Timestamp {
    let waits = (1..max_attempts).fold(0_u64, |sum, n| sum.saturating_add(backoff.longest_wait(n).as_ms()));
    let attempts = timeout.as_ms().saturating_mul(u64::from(max_attempts));
    let policy = waits.saturating_add(attempts).max(limits::RETRY_FOR_MIN.as_ms());
    first_start.saturating_add(DurationMs::from_ms(policy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn the_default_doubles_from_five_seconds_to_six_hours() {
        let backoff = Backoff::default();
        let waits: Vec<u64> =
            [1, 2, 3, 13, 14, 64, 65, u32::MAX].map(|n| backoff.longest_wait(n).as_ms()).to_vec();
        assert_eq!(waits, [5_000, 10_000, 20_000, 20_480_000, 6 * HOUR, 6 * HOUR, 6 * HOUR, 6 * HOUR]);
    }

    #[test]
    fn the_wait_is_drawn_from_the_upper_half() {
        let (backoff, entropy) = (Backoff::default(), SeededEntropy::new(1));
        let drawn: Vec<u64> = (0..1000).map(|_| backoff.wait(2, &entropy).as_ms()).collect();
        assert!(drawn.iter().all(|ms| (5_000..=10_000).contains(ms)));
        assert!(drawn.iter().any(|ms| *ms < 6_000) && drawn.iter().any(|ms| *ms > 9_000));
    }

    #[test]
    fn the_last_of_a_list_repeats() {
        let backoff = Backoff::List(vec![DurationMs::from_ms(1), DurationMs::from_ms(9)]);
        assert_eq!([1, 2, 3].map(|n| backoff.longest_wait(n).as_ms()), [1, 9, 9]);
    }

    #[test]
    fn i11_retry_until_covers_the_policy_and_at_least_a_week() {
        let start = Timestamp::from_unix_ms(0).unwrap();
        let timeout = limits::ATTEMPT_TIMEOUT;
        assert_eq!(retry_until(start, &Backoff::default(), 20, timeout).as_unix_ms(), 7 * 24 * HOUR as i64);
        let daily = Backoff::Fixed(DurationMs::from_ms(24 * HOUR));
        let expected = 19 * 24 * HOUR + 20 * timeout.as_ms();
        assert_eq!(retry_until(start, &daily, 20, timeout).as_unix_ms(), expected as i64);
    }
}
