//! One job per key (I3): the options of an add and the decision about a repeat.

use serde::{Deserialize, Serialize};

use crate::state::words;
use crate::{DurationMs, Fingerprint, JobId, State, Timestamp, limits};

words! {
    /// What a repeat with the same key gets.
    OnDuplicate {
        /// The first job.
        Return = "return",
        /// A refusal, `duplicate-key`.
        Reject = "reject",
        /// While the first job is not started: replaces everything but id, key and group.
        Replace = "replace",
    }
}

words! {
    /// What a repeat with the same key and another fingerprint gets.
    OnMismatch {
        /// A refusal, `key-reused`.
        Reject = "reject",
        /// The first job all the same.
        Return = "return",
    }
}

/// The ends of a job that free its key before its window is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FreeOn {
    /// Success frees it.
    pub completed: bool,
    /// A dead letter frees it.
    pub dead: bool,
    /// A cancel frees it.
    pub cancelled: bool,
}

impl FreeOn {
    /// `until: "done"`: every end frees the key.
    pub const DONE: FreeOn = FreeOn { completed: true, dead: true, cancelled: true };

    /// Whether a job that is now in `state` frees its key.
    pub const fn frees(self, state: State) -> bool {
        match state {
            State::Completed => self.completed,
            State::Dead => self.dead,
            State::Cancelled => self.cancelled,
            State::Scheduled | State::Available | State::Running | State::Retrying => false,
        }
    }

    /// As three bits, for storage.
    pub const fn bits(self) -> u8 {
        self.completed as u8 | (self.dead as u8) << 1 | (self.cancelled as u8) << 2
    }

    /// From three bits.
    pub const fn from_bits(bits: u8) -> FreeOn {
        FreeOn { completed: bits & 1 != 0, dead: bits & 2 != 0, cancelled: bits & 4 != 0 }
    }
}

/// The dedup options of an add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedup {
    /// How long the key is held from acceptance, even if the job ends earlier.
    pub window: DurationMs,
    /// Ends that free it earlier.
    pub free_on: FreeOn,
    /// For a repeat.
    pub on_duplicate: OnDuplicate,
    /// For a repeat with another fingerprint; not asked under `replace`.
    pub on_mismatch: OnMismatch,
    /// Under `replace`: a repeat with a smaller version than the job has is refused.
    pub version: Option<u64>,
    /// Under `replace`: `run_at` never moves later than acceptance + this.
    pub max_delay: Option<DurationMs>,
}

impl Default for Dedup {
    fn default() -> Dedup {
        Dedup {
            window: limits::DEDUP_WINDOW,
            free_on: FreeOn::default(),
            on_duplicate: OnDuplicate::Return,
            on_mismatch: OnMismatch::Reject,
            version: None,
            max_delay: None,
        }
    }
}

/// An entry of the dedup ledger: the durable record of a key, kept apart from job rows and
/// outliving them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The job that holds the key.
    pub job: JobId,
    /// What it was added with.
    pub fingerprint: Fingerprint,
    /// Acceptance + window. The key is held longer if the job is not finished by then.
    pub until: Timestamp,
    /// Ends that free it earlier.
    pub free_on: FreeOn,
}

impl Hold {
    /// Whether the key is still held. `job` is the holder's state, `None` if its row is gone.
    pub fn is_held(&self, job: Option<State>, now: Timestamp) -> bool {
        now < self.until || job.is_some_and(|state| !state.is_finished())
    }
}

/// What the holder of a key looks like to a repeat.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// The ledger entry.
    pub hold: &'a Hold,
    /// Whether the holding job has not started.
    pub not_started: bool,
    /// The version it was last added or replaced with.
    pub version: Option<u64>,
}

/// What becomes of an add whose key is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepeatDecision {
    /// Answer with the first job.
    Return,
    /// Put the new content into the first job.
    Replace,
    /// `replace` was asked for, but the job has started: answer with it, saying so.
    ReturnNotReplaced,
    /// `duplicate-key`.
    RejectDuplicate,
    /// `key-reused`.
    RejectMismatch,
    /// `version-stale`: a newer version is there already.
    RejectStaleVersion,
}

/// Decides about an add with options `dedup` and `fingerprint` that met `holder` (I3).
pub fn decide_repeat(dedup: &Dedup, fingerprint: &Fingerprint, holder: Holder<'_>) -> RepeatDecision {
    if dedup.on_duplicate == OnDuplicate::Replace {
        let stale = matches!((dedup.version, holder.version), (Some(new), Some(old)) if new < old);
        return match (stale, holder.not_started) {
            (true, _) => RepeatDecision::RejectStaleVersion,
            (false, true) => RepeatDecision::Replace,
            (false, false) => RepeatDecision::ReturnNotReplaced,
        };
    }
    let mismatch = *fingerprint != holder.hold.fingerprint;
    if mismatch && dedup.on_mismatch == OnMismatch::Reject {
        return RepeatDecision::RejectMismatch;
    }
    match dedup.on_duplicate {
        OnDuplicate::Reject => RepeatDecision::RejectDuplicate,
        OnDuplicate::Return | OnDuplicate::Replace => RepeatDecision::Return,
    }
}
