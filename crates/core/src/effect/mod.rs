//! Effects: named steps of a job, or any keyed operations, whose outcome is recorded once and replayed afterwards (I7).
//!
//! [`apply`] is the whole of it: what an operation makes of a record, as a pure function. Engines load the record and
//! the job it belongs to, apply, and store what comes out in one transaction; they decide nothing.
//!
//! ```text
//!             begin                 commit
//!   (none) ─────────▶ executing ─────────────▶ completed ──▶ replayed by every later begin
//!                      │  ▲  │
//!        release       │  │  │ the holder is gone, or does not know, and
//!   ┌──────────────────┘  │  │ · at_most_once, or the receiver has forgotten the key: ──▶ indeterminate ──▶ resolve
//!   ▼      begin          │  │ · at_least_once: the next begin takes over
//! released ───────────────┘──┘
//! ```
//!
//! Tokens decide safety, leases only liveness: whoever holds the current token is believed, however late it is.

mod begin;
mod record;
mod rest;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::state::words;
use crate::{DurationMs, EventKind, EvidenceKind, FencingToken, Fingerprint, JobId, Key, State, Timestamp};

pub use crate::names::EffectScope;
pub use record::{Due, Effect, Resolution, come_due, renew_lease};

words! {
    /// What is done about an execution whose outcome nobody knows.
    EffectPolicy {
        /// It is executed again.
        AtLeastOnce = "at_least_once",
        /// It becomes `indeterminate`: a person or a reconciler says what happened.
        AtMostOnce = "at_most_once",
    }
}

words! {
    /// Where an effect stands.
    EffectState {
        /// Begun, and nobody has said how it ended.
        Executing = "executing",
        /// Done; its result is replayed.
        Completed = "completed",
        /// To be executed by the next begin.
        Released = "released",
        /// It happened or it did not, and may not be tried: to be resolved by somebody who finds out.
        Indeterminate = "indeterminate",
    }
}

words! {
    /// What a holder that gives an effect back knows of it.
    ReleaseOutcome {
        /// It certainly did not happen.
        NotApplied = "not_applied",
        /// It may have happened.
        Unknown = "unknown",
    }
}

words! {
    /// What somebody found out about an indeterminate effect.
    ResolveOutcome {
        /// It happened: it is not executed again.
        Completed = "completed",
        /// It did not happen: the next begin executes it.
        Released = "released",
    }
}

/// The name of an effect. For a step of a job the scope is usually the job's id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectName {
    /// What the key is unique in.
    pub scope: EffectScope,
    /// Which of them.
    pub key: Key,
}

impl EffectName {
    /// The name of a step of a job.
    pub fn of_step(job: JobId, step: Key) -> EffectName {
        EffectName { scope: EffectScope::of_job(job), key: step }
    }
}

/// Something to be done with an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectOp {
    /// Which.
    pub name: EffectName,
    /// What.
    pub action: EffectAction,
}

/// See [`EffectOp`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectAction {
    /// May I execute it?
    Begin(BeginEffect),
    /// It is done.
    Commit {
        /// The token it was begun under.
        token: FencingToken,
        /// What is replayed: a JSON text.
        result: Option<Bytes>,
    },
    /// Still at it. A job's effect has no lease of its own: that of the job counts.
    Extend {
        /// The token it was begun under.
        token: FencingToken,
        /// The lease runs this long from now.
        lease: DurationMs,
    },
    /// It is not done.
    Release {
        /// The token it was begun under.
        token: FencingToken,
        /// Whether it may have happened all the same.
        outcome: ReleaseOutcome,
    },
    /// Somebody found out what became of it.
    Resolve {
        /// What.
        outcome: ResolveOutcome,
        /// What is replayed, if it happened: a JSON text.
        result: Option<Bytes>,
        /// Who found out, and how.
        note: String,
    },
}

/// See [`EffectAction::Begin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginEffect {
    /// Compared with that of the first begin; that there is none is compared, too.
    pub fingerprint: Option<Fingerprint>,
    /// What is done if nobody knows how the execution ended.
    pub policy: EffectPolicy,
    /// How long the lease is; not for a job's effect.
    pub lease: DurationMs,
    /// How long the record is kept after its end; a job's effect is kept with its job.
    pub ttl: DurationMs,
    /// How long the receiver remembers the key, from the first begin: afterwards an unfinished effect is never executed
    /// again (I11).
    pub key_valid_for: Option<DurationMs>,
    /// The job whose step it is, and the lease it is begun under.
    pub job: Option<JobClaim>,
    /// Makes a repeat of the call safe: the holder is answered again as it was.
    pub call: Option<u64>,
}

/// A job, as the holder of its lease names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobClaim {
    /// The job.
    pub id: JobId,
    /// The lease.
    pub token: FencingToken,
}

/// What of a job the fate of its effects depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HolderJob {
    /// The job.
    pub id: JobId,
    /// Where it stands.
    pub state: State,
    /// The token of its lease, while it runs.
    pub token: Option<FencingToken>,
    /// The number of its latest attempt.
    pub attempt: u32,
    /// No automatic attempt starts later.
    pub retry_until: Option<Timestamp>,
}

impl From<&crate::Job> for HolderJob {
    fn from(job: &crate::Job) -> HolderJob {
        let running = job.attempt.as_ref().filter(|_| job.state == State::Running);
        HolderJob {
            id: job.id,
            state: job.state,
            token: running.map(|attempt| attempt.token),
            attempt: job.attempts(),
            retry_until: job.retry_until,
        }
    }
}

/// What an operation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectDone {
    /// It is yours to execute.
    Execute {
        /// To be handed on to whoever is called, and given with commit, extend and release.
        token: FencingToken,
        /// The receiver forgets the key while the job may still be tried (I11).
        forgotten_early: Option<ForgottenEarly>,
    },
    /// It was done before; this is what was returned, byte for byte.
    Replay {
        /// The result of the one commit.
        result: Option<Bytes>,
    },
    /// Where it stands now.
    Standing {
        /// Its state; for a repeated commit or release, that of the first answer.
        state: EffectState,
        /// Until when its lease runs, if it has one of its own.
        lease_until: Option<Timestamp>,
    },
}

/// A key that is forgotten by its receiver while the job may still be tried (I11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgottenEarly {
    /// Until when the receiver knows it.
    pub key_valid_until: Timestamp,
    /// Until when attempts may start.
    pub retry_until: Timestamp,
}

/// Why an operation on an effect was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EffectRefusal {
    /// The name was used with another fingerprint, by another job, or by none.
    #[error(
        "the key was first used for something else in this scope; use another key, or begin it as it was begun first"
    )]
    KeyReused {
        /// The job whose effect it is.
        job: Option<JobId>,
    },
    /// Somebody is executing it.
    #[error("somebody is executing this effect; begin it again later, nothing was done")]
    InProgress {
        /// When to look again.
        retry_after: DurationMs,
    },
    /// It happened or it did not, and may not be tried.
    #[error(
        "nobody knows whether this effect happened, and it may not be executed again; find out, and say so with resolve"
    )]
    Indeterminate,
    /// The token is not the current one.
    #[error("the lease is gone: somebody else has taken over, or it ended; stop working on it")]
    LeaseLost {
        /// Where the job stands whose effect it is.
        job: Option<State>,
        /// Where the effect stands, if there is one.
        effect: Option<EffectState>,
    },
    /// Only indeterminate effects are resolved.
    #[error("only an indeterminate effect can be resolved; this one is {state}")]
    NotIndeterminate {
        /// Where it stands.
        state: EffectState,
    },
    /// No such effect, or no longer.
    #[error("there is no such effect")]
    NotFound,
    /// Somebody's open transaction holds the job or the effect.
    #[error(
        "an open transaction is using the job or the effect, and did not end while we waited; try again once it has"
    )]
    JobInProgress,
    /// The job it was to be a step of is not there.
    #[error("there is no such job")]
    JobNotFound,
}

/// The outcome of one operation.
pub type EffectResult = Result<EffectDone, EffectRefusal>;

/// What an operation changes, to be stored in one transaction, and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The record as it is now; `None`: as it was.
    pub record: Option<Effect>,
    /// Whether the record's result changed, too.
    pub result_changed: bool,
    /// What the history of its job gets to know.
    pub note: Option<EffectNote>,
    /// The job it belongs to ends here: [`crate::rules::end_indeterminate`].
    pub job_dies: bool,
    /// What is said.
    pub answer: EffectResult,
}

impl Change {
    fn none(answer: EffectResult) -> Change {
        Change { record: None, result_changed: false, note: None, job_dies: false, answer }
    }
}

/// Something about an effect that belongs into the history of its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectNote {
    /// What.
    pub kind: EffectNoteKind,
    /// Which effect, and how.
    pub text: String,
}

/// See [`EffectNote`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectNoteKind {
    /// A later attempt executes it again, for nobody knows how the one before ended.
    TakenOver,
    /// A later attempt was given the stored result.
    Replayed,
    /// Nobody knows whether it happened.
    Indeterminate,
    /// Somebody found out.
    Resolved,
    /// A write came with an old token and was refused.
    LateWrite,
}

impl EffectNoteKind {
    /// What it is in a job's history.
    pub const fn evidence(self) -> EvidenceKind {
        match self {
            EffectNoteKind::TakenOver => EvidenceKind::EffectTakenOver,
            EffectNoteKind::Replayed => EvidenceKind::EffectReplayed,
            EffectNoteKind::Indeterminate => EvidenceKind::EffectIndeterminate,
            EffectNoteKind::Resolved => EvidenceKind::EffectResolved,
            EffectNoteKind::LateWrite => EvidenceKind::LateEffect,
        }
    }

    /// The event that tells of it.
    pub const fn event(self) -> EventKind {
        match self {
            EffectNoteKind::TakenOver => EventKind::EffectTakenOver,
            EffectNoteKind::Replayed => EventKind::EffectReplayed,
            EffectNoteKind::Indeterminate => EventKind::EffectIndeterminate,
            EffectNoteKind::Resolved => EventKind::EffectResolved,
            EffectNoteKind::LateWrite => EventKind::LateWrite,
        }
    }
}

/// Which effects to list. Every given condition must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListEffects {
    /// In this scope.
    pub scope: Option<EffectScope>,
    /// In one of these states; empty: any.
    pub states: Vec<EffectState>,
    /// At most this many.
    pub limit: u32,
    /// Only those after this one: the last of the page before.
    pub after: Option<EffectName>,
}

/// A page of effects, by scope and key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EffectPage {
    /// The effects, without their results.
    pub effects: Vec<Effect>,
    /// Where to go on; `None` at the end. A page may be short and still have one.
    pub next: Option<EffectName>,
}

/// The job an operation on an effect has to be decided with: the one it names, or the one the record belongs to.
pub fn job_of(record: Option<&Effect>, action: &EffectAction) -> Option<JobId> {
    match action {
        EffectAction::Begin(begin) => begin.job.map(|claim| claim.id),
        EffectAction::Commit { .. }
        | EffectAction::Extend { .. }
        | EffectAction::Release { .. }
        | EffectAction::Resolve { .. } => record.and_then(|record| record.job),
    }
}

/// What an operation makes of a record.
///
/// `job` is that of [`job_of`], `None` if its row is gone; `take_token` gives the store's next token and is called at the
/// most once, for an effect that has a lease of its own. If it has none left, `None` is returned.
pub fn apply(
    record: Option<Effect>,
    op: EffectOp,
    job: Option<HolderJob>,
    take_token: impl FnOnce() -> Option<FencingToken>,
    now: Timestamp,
) -> Option<Change> {
    let EffectOp { name, action } = op;
    let begun = match action {
        EffectAction::Begin(params) => return begin::begin(record, name, params, job, take_token, now),
        EffectAction::Commit { token, result } => record.map(|r| rest::commit(r, token, result, job, now)),
        EffectAction::Extend { token, lease } => record.map(|r| rest::extend(r, token, lease, job, now)),
        EffectAction::Release { token, outcome } => {
            record.map(|r| rest::release(r, token, outcome, job, now))
        }
        EffectAction::Resolve { outcome, result, note } => {
            record.map(|r| rest::resolve(r, outcome, result, note, now))
        }
    };
    Some(begun.unwrap_or_else(|| Change::none(Err(EffectRefusal::NotFound))))
}
