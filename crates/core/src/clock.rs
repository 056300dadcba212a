//! Time and randomness as parameters. Nothing else in the project asks the machine for either.

use std::sync::Mutex;

use crate::{DurationMs, Timestamp};

/// The clocks an engine lives by.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, which people may set.
    fn now(&self) -> Timestamp;
    /// Time that only goes forward while the machine is awake, from an arbitrary start. Against
    /// it a step of the wall clock shows.
    fn monotonic(&self) -> DurationMs;
}

/// A source of unpredictable numbers.
pub trait Entropy: Send + Sync + 'static {
    /// The next 64 bits.
    fn next_u64(&self) -> u64;

    /// A number from 0 to `max`, both included.
    fn up_to(&self, max: u64) -> u64 {
        match max.checked_add(1) {
            // The bias of the remainder is below 2^-20 for every duration we draw.
            Some(span) => self.next_u64() % span,
            None => self.next_u64(),
        }
    }
}

/// A clock that stands still until told otherwise, for tests and simulation.
#[derive(Debug)]
pub struct ManualClock {
    hands: Mutex<(Timestamp, DurationMs)>,
}

impl ManualClock {
    /// A clock showing `now`.
    pub fn at(now: Timestamp) -> ManualClock {
        ManualClock { hands: Mutex::new((now, DurationMs::ZERO)) }
    }

    /// Lets time pass: both clocks go forward.
    pub fn advance(&self, by: DurationMs) {
        let mut hands = self.lock();
        *hands = (hands.0.saturating_add(by), hands.1.saturating_add(by));
    }

    /// Sets the wall clock, as an operator or a broken time server would.
    pub fn step_to(&self, now: Timestamp) {
        self.lock().0 = now;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Timestamp, DurationMs)> {
        self.hands.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().0
    }
    fn monotonic(&self) -> DurationMs {
        self.lock().1
    }
}

/// Numbers that only look random: the same seed gives the same numbers, for tests and simulation.
/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug)]
pub struct SeededEntropy {
    state: Mutex<u64>,
}

impl SeededEntropy {
    /// Starts at `seed`.
    pub fn new(seed: u64) -> SeededEntropy {
        SeededEntropy { state: Mutex::new(seed) }
    }
}

impl Entropy for SeededEntropy {
    fn next_u64(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Notices that the wall clock was set: compares how far it moved with how far the monotonic
/// clock did.
#[derive(Debug, Clone)]
pub struct StepDetector {
    last: (Timestamp, DurationMs),
}

impl StepDetector {
    /// Starts watching.
    pub fn new(clock: &dyn Clock) -> StepDetector {
        StepDetector { last: (clock.now(), clock.monotonic()) }
    }

    /// Whether the wall clock was stepped by at least [`crate::limits::CLOCK_STEP`] since the last call.
    pub fn stepped(&mut self, clock: &dyn Clock) -> bool {
        let (now, monotonic) = (clock.now(), clock.monotonic());
        let passed = monotonic.as_ms().saturating_sub(self.last.1.as_ms());
        let expected = self.last.0.as_unix_ms().saturating_add_unsigned(passed);
        let off = now.as_unix_ms().abs_diff(expected);
        self.last = (now, monotonic);
        off >= crate::limits::CLOCK_STEP.as_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_from_time_passing() {
        let clock = ManualClock::at(Timestamp::from_unix_ms(1_000_000_000_000).unwrap());
        let mut detector = StepDetector::new(&clock);
        clock.advance(DurationMs::from_ms(3_600_000));
        assert!(!detector.stepped(&clock));
        clock.step_to(clock.now().saturating_add(DurationMs::from_ms(2_000)));
        assert!(detector.stepped(&clock));
        clock.step_to(clock.now().saturating_sub(DurationMs::from_ms(600_000)));
        assert!(detector.stepped(&clock));
        assert!(!detector.stepped(&clock));
    }
}
