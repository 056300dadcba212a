//! Whether a tick's job may be added beside an unfinished one.

use serde::{Deserialize, Serialize};

use crate::State;
use crate::state::words;

words! {
    /// What a tick does while the job of an earlier tick of its schedule is unfinished.
    Overlap {
        /// Its job is added all the same, and both may run at once.
        Allow = "allow",
        /// It is dropped, and that is reported.
        Skip = "skip",
        /// Its job is added, and leased only after the earlier ones ended.
        Queue = "queue",
    }
}

/// What is to be done about a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Admission {
    /// Its job is added.
    Add,
    /// Its job is added to the schedule's own group, whose jobs are leased one at a time, in order (I8).
    AddInTurn,
    /// No job is added: the tick is settled, and reported as skipped because `previous` is unfinished.
    Drop,
}

impl Default for Overlap {
    /// As cron does: ticks know nothing of each other.
    fn default() -> Overlap {
        Overlap::Allow
    }
}

impl Overlap {
    /// What to do about a tick, given where the job of the last tick that added one stands: `None` if there was
    /// none or its row is gone. Ticks that are due together are admitted one after another, each the previous of the next.
    ///
    /// Jobs of a schedule under [`Overlap::Queue`] are always added to its group, so that one that comes while nothing
    /// runs still holds back the next.
    pub fn admit(self, previous: Option<State>) -> Admission {
        let unfinished = previous.is_some_and(|state| !state.is_finished());
        match (self, unfinished) {
            (Overlap::Allow, _) | (Overlap::Skip, false) => Admission::Add,
            (Overlap::Skip, true) => Admission::Drop,
            (Overlap::Queue, _) => Admission::AddInTurn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T-12: every policy beside every state a job can be in.
    #[test]
    fn an_unfinished_job_lets_the_next_run_beside_it_drops_it_or_holds_it_back() {
        let previous = State::ALL.iter().copied().map(Some).chain([None]);
        for state in previous {
            let unfinished = match state {
                Some(State::Scheduled | State::Available | State::Running | State::Retrying) => true,
                Some(State::Completed | State::Dead | State::Cancelled) | None => false,
            };
            assert_eq!(Overlap::Allow.admit(state), Admission::Add);
            let skip = if unfinished { Admission::Drop } else { Admission::Add };
            assert_eq!(Overlap::Skip.admit(state), skip, "{state:?}");
            assert_eq!(Overlap::Queue.admit(state), Admission::AddInTurn);
        }
    }
}
