//! The states of a job and the finite table of what may follow what.

use serde::{Deserialize, Serialize};
use thiserror::Error;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// Every variant, in order of declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word used in API, SQL, docs and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }

            /// The variant named by `word`.
            pub fn parse(word: &str) -> Option<$name> {
                match word { $($word => Some($name::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where a job stands.
    State {
        /// Waits for its `run_at`.
        Scheduled = "scheduled",
        /// May be leased; why it is not yet is told by [`crate::Waiting`].
        Available = "available",
        /// Leased.
        Running = "running",
        /// Waits for its backoff after a failure.
        Retrying = "retrying",
        /// Ended with success.
        Completed = "completed",
        /// Ended without success: a dead letter, with a [`DeadReason`].
        Dead = "dead",
        /// Ended by request.
        Cancelled = "cancelled",
    }
}

words! {
    /// Why a job is dead.
    DeadReason {
        /// Failures and lost leases used up `max_attempts`.
        Attempts = "attempts",
        /// A failure that said it cannot be retried.
        Permanent = "permanent",
        /// Its lease was lost too often in a day.
        CrashLoop = "crash_loop",
        /// Its next attempt would have started after `retry_until`.
        Expired = "expired",
        /// An effect may or may not have happened, and may happen at most once.
        Indeterminate = "indeterminate",
    }
}

words! {
    /// What can happen to a job.
    Event {
        /// Its `run_at` came.
        Due = "due",
        /// It was moved to another time before its first start.
        Rescheduled = "rescheduled",
        /// A worker or the deliverer took it.
        Leased = "leased",
        /// The holder completed it.
        Completed = "completed",
        /// The holder failed it, and it may be tried again.
        Failed = "failed",
        /// It ended as a dead letter.
        Died = "died",
        /// The holder asked to have it later.
        Snoozed = "snoozed",
        /// The holder gave it back.
        Released = "released",
        /// Nobody extended its lease in time.
        LeaseLost = "lease_lost",
        /// It was cancelled.
        Cancelled = "cancelled",
        /// An operator made it run again.
        Retried = "retried",
    }
}

impl State {
    /// Whether nothing more will happen to the job by itself.
    pub const fn is_finished(self) -> bool {
        matches!(self, State::Completed | State::Dead | State::Cancelled)
    }
}

/// Every transition there is: from, event, to. What is not here cannot happen.
pub const TRANSITIONS: &[(State, Event, State)] = &[
    (State::Scheduled, Event::Due, State::Available),
    (State::Scheduled, Event::Rescheduled, State::Scheduled),
    (State::Available, Event::Rescheduled, State::Scheduled),
    (State::Available, Event::Leased, State::Running),
    (State::Running, Event::Completed, State::Completed),
    (State::Running, Event::Failed, State::Retrying),
    (State::Running, Event::Snoozed, State::Scheduled),
    (State::Running, Event::Released, State::Available),
    (State::Running, Event::LeaseLost, State::Available),
    (State::Running, Event::Died, State::Dead),
    (State::Running, Event::Cancelled, State::Cancelled),
    (State::Retrying, Event::Due, State::Available),
    (State::Retrying, Event::Retried, State::Available),
    (State::Scheduled, Event::Died, State::Dead),
    (State::Available, Event::Died, State::Dead),
    (State::Retrying, Event::Died, State::Dead),
    (State::Scheduled, Event::Cancelled, State::Cancelled),
    (State::Available, Event::Cancelled, State::Cancelled),
    (State::Retrying, Event::Cancelled, State::Cancelled),
    (State::Dead, Event::Retried, State::Available),
    (State::Cancelled, Event::Retried, State::Available),
];

/// A transition the table does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a {from} job cannot be {event}")]
pub struct IllegalTransition {
    /// The state the job was in.
    pub from: State,
    /// What was to happen.
    pub event: Event,
}

/// What `event` makes of a job in state `from`.
///
/// # Errors
/// [`IllegalTransition`] if [`TRANSITIONS`] has no such row.
pub fn transition(from: State, event: Event) -> Result<State, IllegalTransition> {
    TRANSITIONS
        .iter()
        .find(|(f, e, _)| *f == from && *e == event)
        .map(|(_, _, to)| *to)
        .ok_or(IllegalTransition { from, event })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_a_function() {
        for (i, (from, event, _)) in TRANSITIONS.iter().enumerate() {
            let again = TRANSITIONS.iter().skip(i + 1).any(|(f, e, _)| f == from && e == event);
            assert!(!again, "{from} + {event} twice");
        }
    }

    #[test]
    fn a_completed_job_is_never_run_again() {
        assert!(Event::ALL.iter().all(|event| transition(State::Completed, *event).is_err()));
    }

    #[test]
    fn only_available_jobs_are_leased_and_only_running_jobs_complete() {
        for state in State::ALL {
            assert_eq!(transition(*state, Event::Leased).is_ok(), *state == State::Available);
            assert_eq!(transition(*state, Event::Completed).is_ok(), *state == State::Running);
        }
    }

    #[test]
    fn every_unfinished_state_can_be_cancelled_and_reaches_an_end() {
        for state in State::ALL.iter().filter(|s| !s.is_finished()) {
            assert_eq!(transition(*state, Event::Cancelled), Ok(State::Cancelled));
            assert_eq!(transition(*state, Event::Died), Ok(State::Dead));
        }
    }

    #[test]
    fn words_parse_back() {
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), Some(*state));
        }
    }
}
