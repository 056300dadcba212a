//! Keeps away from a target that does not work, without an attempt being spent on finding out.

use onefold_core::{DurationMs, Entropy};

use crate::Health;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct BreakerLimits {
    /// Failures in a row that open it.
    pub failures: u32,
    /// The same while a target recovers.
    pub failures_recovering: u32,
    /// The first time of rest; each further one without a recovery in between is twice as long.
    pub rest: DurationMs,
    /// No rest is longer.
    pub rest_max: DurationMs,
}

impl Default for BreakerLimits {
    /// 10 failures in a row, 3 while recovering; rests of 30 s to 10 min.
    fn default() -> BreakerLimits {
        BreakerLimits {
            failures: 10,
            failures_recovering: 3,
            rest: DurationMs::from_ms(30_000),
            rest_max: DurationMs::from_ms(600_000),
        }
    }
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    phase: Phase,
    failures: u32,
    /// Rests since the target last worked at full width.
    rests: u32,
    /// Deliveries that may run at once; less than the lane's limit while the target recovers.
    width: u32,
    /// Counts changes of phase: what started under an earlier one says nothing about this one.
    era: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Closed,
    /// Nothing starts until then.
    Open(DurationMs),
    /// One delivery is asking whether the target works again.
    Probing,
}

impl Breaker {
    pub(super) fn new(width: u32) -> Breaker {
        Breaker { phase: Phase::Closed, failures: 0, rests: 0, width, era: 0 }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn era(&self) -> u32 {
        self.era
    }

    /// How many deliveries may run at once while closed.
    pub(super) fn width(&self) -> u32 {
        self.width
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_fresh(&self, full: u32) -> bool {
        self.phase == Phase::Closed && self.failures == 0 && self.rests == 0 && self.width >= full
    }

    /// A delivery starts: the first one after a rest is the probe.
    pub(super) fn start(&mut self, now: DurationMs) {
        if matches!(self.phase, Phase::Open(until) if until <= now) {
            self.phase = Phase::Probing;
            self.era = self.era.wrapping_add(1);
        }
    }

    /// A delivery that started in `era` ended.
    pub(super) fn end(
        &mut self,
        era: u32,
        health: Health,
        full: u32,
        limits: &BreakerLimits,
        now: DurationMs,
        entropy: &dyn Entropy,
    ) {
        if era != self.era {
            return;
        }
        match (self.phase, health) {
            (Phase::Open(_), _) => {}
            (Phase::Probing, Health::Well) => {
                (self.phase, self.failures, self.width) = (Phase::Closed, 0, 1);
                self.era = self.era.wrapping_add(1);
            }
            // Nothing was learned: the next one asks.
            (Phase::Probing, Health::Unknown | Health::Gone) => self.phase = Phase::Open(now),
            (Phase::Probing, Health::Unwell) => self.open(limits, now, entropy),
            (Phase::Closed, Health::Well) => {
                self.failures = 0;
                self.width = self.width.saturating_add(1).min(full);
                if self.width >= full {
                    self.rests = 0;
                }
            }
            (Phase::Closed, Health::Unknown | Health::Gone) => {}
            (Phase::Closed, Health::Unwell) => {
                self.failures = self.failures.saturating_add(1);
                let recovering = self.width < full;
                if self.failures >= if recovering { limits.failures_recovering } else { limits.failures } {
                    self.open(limits, now, entropy);
                }
            }
        }
    }

    fn open(&mut self, limits: &BreakerLimits, now: DurationMs, entropy: &dyn Entropy) {
        let doubled = limits.rest.as_ms().saturating_mul(1_u64.checked_shl(self.rests).unwrap_or(u64::MAX));
        let longest = doubled.min(limits.rest_max.as_ms());
        // Drawn from the upper half, so that many nodes do not ask at once.
        let rest = DurationMs::from_ms(longest / 2 + entropy.up_to(longest - longest / 2));
        self.phase = Phase::Open(now.saturating_add(rest));
        (self.failures, self.rests) = (0, self.rests.saturating_add(1));
        self.era = self.era.wrapping_add(1);
    }
}
