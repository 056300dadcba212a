//! The machine's clocks and randomness: the one place in the project that asks for them.

#![allow(clippy::disallowed_methods, reason = "this is the clock that is injected everywhere else")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use onefold_core::{Clock, DurationMs, Entropy, Timestamp};

/// The clocks of the machine.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        wall_clock()
    }

    fn monotonic(&self) -> DurationMs {
        to_ms(self.start.elapsed())
    }
}

/// A clock that follows the timers of tokio: it shows the machine's time from its start on, but
/// stands still and leaps with them under `tokio::time::pause`. For stores in memory and for
/// tests, where hours of backoff then pass in no time. It never shows a step of the wall clock.
#[derive(Debug, Clone)]
pub struct TokioClock {
    started_at: Timestamp,
    start: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that shows the machine's time now.
    pub fn new() -> TokioClock {
        TokioClock::at(wall_clock())
    }

    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> TokioClock {
        TokioClock { started_at: now, start: tokio::time::Instant::now() }
    }
}

impl Default for TokioClock {
    fn default() -> TokioClock {
        TokioClock::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.started_at.saturating_add(self.monotonic())
    }

    fn monotonic(&self) -> DurationMs {
        to_ms(self.start.elapsed())
    }
}

/// Unpredictable numbers from the operating system, through a generator seeded by it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}

fn wall_clock() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_unix_ms(ms).unwrap_or(Timestamp::EPOCH)
}

fn to_ms(duration: std::time::Duration) -> DurationMs {
    DurationMs::from_ms(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_shows_this_century_and_goes_forward() {
        let clock = SystemClock::new();
        let (wall, monotonic) = (clock.now(), clock.monotonic());
        assert!(wall.as_unix_ms() > 1_700_000_000_000);
        assert!(clock.monotonic() >= monotonic);
    }

    #[tokio::test(start_paused = true)]
    async fn the_tokio_clock_leaps_with_tokios_timers() {
        let clock = TokioClock::at(Timestamp::EPOCH);
        tokio::time::advance(std::time::Duration::from_secs(3600)).await;
        assert_eq!(clock.now().as_unix_ms(), 3_600_000);
        assert_eq!(clock.monotonic().as_ms(), 3_600_000);
    }

    #[test]
    fn system_entropy_does_not_repeat_itself() {
        assert_ne!(SystemEntropy.next_u64(), SystemEntropy.next_u64());
    }
}
