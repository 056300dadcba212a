#![allow(unreachable_pub, reason = "parts of `Op`, which is told in a failure and made only here")]
//! The operations of a case. They name jobs, leases, keys and times by small numbers that find
//! something whatever came before, so that a list stays playable when operations are left out.

use onefold_core::{DurationMs, EffectPolicy, JobId, Rate, ReleaseOutcome, ResolveOutcome, Seq, Timestamp};

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Adds jobs.
    Add {
        /// Where to.
        queue: u8,
        /// Which.
        jobs: Vec<Item>,
        /// All or none.
        atomic: bool,
    },
    /// Leases without waiting.
    Lease(Call),
    /// Parks a call for jobs.
    Park {
        /// The call; only its first queue counts.
        call: Call,
        /// For how long.
        wait: DurationMs,
    },
    /// Takes a parked call back.
    Unpark(Pick),
    /// Says things about leases.
    Settle(Vec<Write>),
    /// Does things with effects.
    Effects(Vec<Touch>),
    /// Cancels a job.
    Cancel(Pick, bool),
    /// Retries a job, accepting duplicates or not.
    Retry(Pick, bool),
    /// Redrives a queue.
    Redrive {
        /// Which.
        queue: u8,
        /// Cancelled jobs too.
        cancelled: bool,
        /// At most.
        limit: u32,
        /// Accepting duplicates.
        accept: bool,
    },
    /// Edits a job.
    Edit {
        /// Which.
        job: Pick,
        /// To this long from now; negative: before.
        run_in_ms: Option<i64>,
        /// Its priority.
        priority: Option<i16>,
        /// Its labels.
        label: Option<u8>,
    },
    /// Deletes a job.
    Delete(Pick),
    /// Changes a queue's settings.
    Set(u8, Change),
    /// Deletes a queue.
    DeleteQueue(u8, bool),
    /// Frees a key.
    ReleaseKey(u8, u8),
    /// Writes a setting, expecting its version to be this much behind.
    Put(u8, u64),
    /// Makes a schedule, or changes it.
    PutSchedule(u8, Rhythm),
    /// Pauses a schedule or resumes it.
    PauseSchedule(u8, bool),
    /// Adds the job of a schedule now.
    RunSchedule(u8),
    /// Deletes a schedule.
    DeleteSchedule(u8),
    /// Lets time pass and ticks.
    Pass(DurationMs),
    /// Lets time pass unnoticed.
    Wait(DurationMs),
    /// Sets the wall clock.
    Step(i64),
    /// Crashes and opens again.
    Crash,
    /// Closes and opens again.
    Reopen,
}

/// A schedule to put.
#[derive(Debug, Clone, PartialEq)]
pub struct Rhythm {
    pub(super) timing: u8,
    /// It ends this long from now.
    pub(super) ends: Option<DurationMs>,
    pub(super) queue: u8,
    pub(super) missed: u8,
    pub(super) overlap: u8,
    pub(super) job: Item,
}

/// A job to add.
#[derive(Clone, PartialEq, Default)]
pub struct Item {
    pub(super) key: Option<u8>,
    pub(super) content: u8,
    pub(super) request: Option<u8>,
    pub(super) delay: Option<DurationMs>,
    pub(super) priority: i16,
    pub(super) group: Option<u8>,
    pub(super) max_attempts: Option<u32>,
    pub(super) backoff: Option<u8>,
    pub(super) timeout: Option<DurationMs>,
    pub(super) retain: Option<DurationMs>,
    pub(super) window: Option<DurationMs>,
    pub(super) free_on: u8,
    pub(super) on_duplicate: u8,
    pub(super) return_mismatch: bool,
    pub(super) version: Option<u64>,
    pub(super) max_delay: Option<DurationMs>,
}

impl std::fmt::Debug for Item {
    /// What is not said is left out: most is not.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Item");
        let mut show = |name: &str, value: Option<&dyn std::fmt::Debug>| {
            if let Some(value) = value {
                shown.field(name, value);
            }
        };
        show("key", self.key.as_ref().map(|v| v as _));
        show("content", (self.content > 0).then_some(&self.content));
        show("request", self.request.as_ref().map(|v| v as _));
        show("delay", self.delay.as_ref().map(|v| v as _));
        show("priority", (self.priority != 0).then_some(&self.priority));
        show("group", self.group.as_ref().map(|v| v as _));
        show("max_attempts", self.max_attempts.as_ref().map(|v| v as _));
        show("backoff", self.backoff.as_ref().map(|v| v as _));
        show("timeout", self.timeout.as_ref().map(|v| v as _));
        show("retain", self.retain.as_ref().map(|v| v as _));
        show("window", self.window.as_ref().map(|v| v as _));
        show("free_on", (self.free_on > 0).then_some(&self.free_on));
        show("on_duplicate", (self.on_duplicate > 0).then_some(&self.on_duplicate));
        show("return_mismatch", self.return_mismatch.then_some(&self.return_mismatch));
        show("version", self.version.as_ref().map(|v| v as _));
        show("max_delay", self.max_delay.as_ref().map(|v| v as _));
        shown.finish()
    }
}

/// A call for jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub(super) queues: Vec<u8>,
    pub(super) max: u32,
    pub(super) lease: DurationMs,
    pub(super) fair: bool,
    pub(super) poll: Option<u64>,
}

/// One thing a holder says.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    pub(super) lease: Pick,
    /// With the token of this lease instead.
    pub(super) crossed: Option<Pick>,
    pub(super) what: What,
}

/// See [`Write`].
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Complete(Option<u8>),
    Fail { retry_in: Option<DurationMs> },
    Die,
    Snooze(DurationMs),
    Release,
    Extend(DurationMs),
    Progress(u8),
    Checkpoint(u8),
    Log(u8),
}

/// One thing done with an effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Touch {
    pub(super) scope: Scope,
    pub(super) key: u8,
    /// The lease whose token is told; of an effect that is no job's, a place among the tokens of such effects.
    pub(super) token: Pick,
    pub(super) act: Act,
}

/// What an effect's key is unique in.
#[derive(Debug, Clone, PartialEq)]
pub enum Scope {
    /// The job of this lease.
    Step(Pick),
    /// No job's.
    Free(u8),
}

/// See [`Touch`].
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    Begin(Beginning),
    Commit(Option<u8>),
    Extend(DurationMs),
    Release(ReleaseOutcome),
    Resolve(ResolveOutcome),
}

/// See [`Act`].
#[derive(Debug, Clone, PartialEq)]
pub struct Beginning {
    pub(super) policy: EffectPolicy,
    pub(super) fingerprint: Option<u8>,
    pub(super) lease: DurationMs,
    pub(super) ttl: DurationMs,
    pub(super) key_valid_for: Option<DurationMs>,
    pub(super) call: Option<u64>,
}

/// A change of a queue's settings.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Pause(bool),
    Concurrency(Option<u32>),
    Rate(Option<Rate>),
    Skip(Option<bool>),
    Block(Option<bool>),
    MaxAttempts(Option<u32>),
    Backoff(Option<u8>),
    Window(Option<DurationMs>),
    Retain(u8, Option<DurationMs>),
}

/// One of what there is: mostly one of the latest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pick(pub(super) u16);

impl std::fmt::Debug for Pick {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl Pick {
    /// How many of the latest things are picked from, by the last digit in base 5.
    const LATEST: [usize; 5] = [usize::MAX, 2, 4, 4, 10];

    /// A place in a list of `len`, `None` if it is empty.
    pub(super) fn of(self, len: usize) -> Option<usize> {
        let number = usize::from(self.0);
        let from = len.min(Pick::LATEST[number % 5]);
        (number / 5).checked_rem(from).map(|back| len - 1 - back)
    }
}

/// A job id that no store gives out.
pub(super) fn unknown_job() -> JobId {
    JobId::new(Timestamp::EPOCH, Seq::MAX)
}
