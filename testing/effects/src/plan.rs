//! What goes wrong, and when: a function of the seed, the attempt and the moment.

use onefold_e2e::Rng;

/// A moment of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It is begun, and nothing has happened.
    Begun,
    /// It has happened, and there is no record of that.
    Happened,
    /// It is recorded.
    Recorded,
}

/// What happens at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, for longer than the lease or not quite as long.
    Stop,
    /// The step says that it certainly did not happen.
    NotApplied,
    /// The step says that it does not know.
    Unknown,
    /// The step says that it never will.
    Permanent,
    /// The handler fails.
    Fail,
    /// The handler panics.
    Panic,
}

/// From this attempt on nothing goes wrong, or there would be no end.
const CALM_FROM: u32 = 10;

/// The faults of one run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    seed: u64,
}

impl Plan {
    /// That of a seed.
    pub fn new(seed: u64) -> Plan {
        Plan { seed }
    }

    /// Attempts the job may have: often too few, so that it dies and has to be redriven.
    pub fn max_attempts(self) -> u32 {
        let few = Rng::new(self.seed, 0).within(1..12);
        u32::try_from(few).expect("below 12")
    }

    /// Whether the receiver of the mail forgets its key at once, so that a doubt is not tried again (I11).
    pub fn is_forgotten(self) -> bool {
        Rng::new(self.seed, 1).one_in(8)
    }

    /// Whether the rows and the completion are one transaction.
    pub fn completes_in_rows(self) -> bool {
        self.seed.is_multiple_of(2)
    }

    /// What goes wrong at a moment of a step (0, 1, 2).
    pub fn fault(self, attempt: u32, step: u64, moment: Moment) -> Option<Fault> {
        if attempt >= CALM_FROM {
            return None;
        }
        let place = (u64::from(attempt) * 3 + step) * 3 + moment as u64;
        let mut random = Rng::new(self.seed, 100 + place);
        Some(match (random.within(0..1_000), moment) {
            (0..4, _) => Fault::Kill,
            (4..8, Moment::Begun) | (4..5, _) => Fault::Stop,
            (8..45, Moment::Begun) => Fault::NotApplied,
            (45..48, Moment::Begun) => Fault::Permanent,
            (48..60, Moment::Begun) | (5..60, Moment::Happened) => Fault::Unknown,
            (5..60, Moment::Recorded) => Fault::Fail,
            (60..70, _) => Fault::Panic,
            _ => return None,
        })
    }
}
