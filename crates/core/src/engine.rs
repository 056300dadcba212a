//! The Engine contract: what every store does for the rest of Onefold, in job words.
//!
//! Each operation takes parameters and gives outcomes; batches give an outcome per item, so one
//! bad item never fails its neighbours. `Ok` for anything that changes state is returned only
//! once the change is durable (I1). An operation whose future is dropped may still happen.
//!
//! The contract is internal: it changes whenever that makes engines better, together with the
//! conformance suite in `testing/conformance`.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::schedule::{ScheduleEvent, Schedules};
use crate::state::words;
use crate::{
    Attempt, Backoff, DeadReason, Dedup, DurationMs, Effect, EffectName, EffectOp, EffectPage, EffectResult,
    End, Event, Exchange, FencingToken, Group, Job, JobId, JobSpec, JobView, Key, Kind, Label, Lane,
    ListEffects, Outcome, Progress, QueueName, Rate, State, Timestamp, WorkerName,
};

/// What an engine's operations return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// The outcome of a whole operation.
pub type EngineResult<T> = Result<T, EngineError>;
/// The outcome of one item.
pub type ItemResult<T> = Result<T, Refusal>;

/// A store of jobs.
///
/// Every operation takes parameters and gives outcomes, a batch one per item, so that one bad item never fails its
/// neighbours. `Ok` for anything that changes state is returned only once the change is durable (I1). An operation whose
/// future is dropped may still happen. The contract is internal: it changes whenever that makes engines better.
pub trait Engine: Schedules + Send + Sync + 'static {
    /// What this engine can do.
    fn capabilities(&self) -> Capabilities;

    /// Accepts jobs. One outcome per job, in order; with `atomic`, any refusal refuses all.
    fn add(&self, params: AddParams) -> BoxFuture<'_, EngineResult<Vec<ItemResult<Added>>>>;

    /// Hands out jobs under a lease each, parking up to `wait` if there are none. Dropping the
    /// future while it is parked takes the poll back: it is given nothing.
    fn lease(&self, params: LeaseParams) -> BoxFuture<'_, EngineResult<Vec<LeasedJob>>>;

    /// Hands out jobs that are delivered over HTTP, from every queue and lane in turn, as many as there are now: it never
    /// parks. What workers ask for is never given to this call, and what this call asks for never to workers.
    fn lease_deliveries(&self, params: DeliveryParams) -> BoxFuture<'_, EngineResult<Vec<LeasedJob>>>;

    /// Returns a number larger than `seen` when there may be a delivery to lease that was not there when `seen` was
    /// given: at once if that is so already. Begin with 0. A hint: look again, and look now and then without one.
    fn deliveries_after(&self, seen: u64) -> BoxFuture<'_, u64>;

    /// Does what holders of leases say: ends, extensions, progress, checkpoints, log lines.
    fn settle(&self, ops: Vec<SettleOp>) -> BoxFuture<'_, EngineResult<Vec<ItemResult<Settled>>>>;

    /// Cancels a job.
    fn cancel(&self, id: JobId, force: bool) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>>;

    /// Makes a dead, cancelled or retrying job run again.
    fn retry(&self, id: JobId, accept_duplicates: bool) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>>;

    /// Makes the dead or cancelled jobs of a queue run again, oldest first.
    fn redrive(&self, params: RedriveParams) -> BoxFuture<'_, EngineResult<ItemResult<Redriven>>>;

    /// Changes a job that has not started.
    fn edit(&self, id: JobId, edit: JobEdit) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>>;

    /// Deletes a finished job; its key stays held for the rest of its window. Gives its last view.
    fn delete(&self, id: JobId) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>>;

    /// Everything about a job.
    fn get(&self, id: JobId) -> BoxFuture<'_, EngineResult<Option<JobView>>>;

    /// Jobs, newest first. Looks at a bounded number of rows: a page may be short and still have
    /// a cursor.
    fn list(&self, params: ListParams) -> BoxFuture<'_, EngineResult<JobPage>>;

    /// Returns when the job is finished or gone, which may be a little later than it is. A hint:
    /// look again.
    fn finished(&self, id: JobId) -> BoxFuture<'_, EngineResult<()>>;

    /// All queues, by name.
    fn queues(&self) -> BoxFuture<'_, EngineResult<Vec<QueueView>>>;

    /// One queue.
    fn queue(&self, name: QueueName) -> BoxFuture<'_, EngineResult<Option<QueueView>>>;

    /// Makes the queue if there is none and changes the given settings.
    fn set_queue(&self, name: QueueName, patch: QueuePatch) -> BoxFuture<'_, EngineResult<QueueView>>;

    /// Deletes a queue, its jobs and the keys they hold. With unfinished jobs only by `force`.
    fn delete_queue(
        &self,
        name: QueueName,
        force: bool,
    ) -> BoxFuture<'_, EngineResult<ItemResult<DeletedQueue>>>;

    /// Who holds a key.
    fn key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, EngineResult<Option<KeyView>>>;

    /// Frees a key, leaving evidence. Gives who held it, `None` if nobody did.
    fn release_key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, EngineResult<Option<KeyView>>>;

    /// A named durable value with its version, `None` if never set. For settings above the engine.
    fn setting(&self, name: String) -> BoxFuture<'_, EngineResult<Option<Setting>>>;

    /// Sets a value if its version still is `expected` (0: there is none yet). Gives the new
    /// version, or the setting that is there instead.
    fn set_setting(
        &self,
        name: String,
        value: Bytes,
        expected: u64,
    ) -> BoxFuture<'_, EngineResult<Result<u64, Setting>>>;

    /// Begins, commits, extends, releases and resolves effects (I7). One outcome per operation, in order.
    fn effects(&self, ops: Vec<EffectOp>) -> BoxFuture<'_, EngineResult<Vec<EffectResult>>>;

    /// One effect, with its result.
    fn effect(&self, name: EffectName) -> BoxFuture<'_, EngineResult<Option<Effect>>>;

    /// Effects by scope and key. Looks at a bounded number of rows: a page may be short and still have a cursor.
    fn list_effects(&self, params: ListEffects) -> BoxFuture<'_, EngineResult<EffectPage>>;

    /// Events after `cursor`, oldest first.
    fn events(&self, params: EventsParams) -> BoxFuture<'_, EngineResult<EventPage>>;

    /// Returns when there may be an event after `cursor`. A hint: look again.
    fn events_after(&self, cursor: EventCursor) -> BoxFuture<'_, EngineResult<()>>;

    /// Does what is due: jobs whose time has come, ticks of schedules, deadlines of attempts, parked polls whose wait
    /// is over, retention. Only this moves time on in an engine. Does a bounded amount of work
    /// and says when to come again.
    fn tick(&self) -> BoxFuture<'_, EngineResult<Ticked>>;

    /// Returns when [`Engine::tick`] has to come earlier than it last said: at once if that is so
    /// already, however long ago it came about.
    fn tick_sooner(&self) -> BoxFuture<'_, ()>;

    /// Writes a consistent copy to a file that must not exist, beside running work.
    fn backup(&self, to: PathBuf) -> BoxFuture<'_, EngineResult<BackupDone>>;

    /// Figures of the store as a whole.
    fn stats(&self) -> BoxFuture<'_, EngineResult<StoreStats>>;

    /// No new leases: parked polls return empty, and so do new ones. Everything else goes on.
    fn drain(&self) -> BoxFuture<'_, EngineResult<()>>;

    /// Finishes what was begun and closes the store. Later calls get [`EngineError::Closed`].
    fn close(&self) -> BoxFuture<'_, EngineResult<()>>;
}

/// What an engine can do. A thing it cannot do is never an error in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Survives the process.
    pub durable: bool,
    /// Several processes may serve one store.
    pub multi_process: bool,
    /// Can write a backup.
    pub backup: bool,
}

/// Why a whole operation did not happen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The disk is full: adding is refused, finishing and deleting still work.
    #[error(
        "the disk is full: nothing new is accepted until there is space again; finishing and deleting still work"
    )]
    DiskFull,
    /// Storage failed; the engine has stopped so as not to pretend. Restart recovers what was
    /// acknowledged.
    #[error("storage failed and the engine has stopped: {0}; restart the server once the cause is fixed")]
    Poisoned(String),
    /// What was read is not what was written.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// Too much is waiting already.
    #[error("too many requests are waiting for the store; try again")]
    Busy,
    /// The store cannot be reached, or does not let us in, and was not changed. It is asked again with each call.
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
    /// Being closed.
    #[error("the store is closed")]
    Closed,
    /// A commit whose outcome is unknown: repeat with the same key.
    #[error(
        "the connection was lost during the commit; repeat the request with the same key to learn the outcome"
    )]
    OutcomeUnknown,
    /// The store has no tokens left, 2^53 leases after it was made: nothing can be leased any more.
    #[error("the store has handed out every fencing token there is: move the unfinished jobs to a new one")]
    TokensExhausted,
    /// A file operation that has nothing to do with the store's own files.
    #[error("{0}")]
    Io(String),
}

/// Why one item was refused. The others of its batch are not touched.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The key was used with another fingerprint.
    #[error(
        "the key was first used for another job ({existing}) with different content; use another key, or send the same content"
    )]
    KeyReused {
        /// The job that holds it.
        existing: JobId,
    },
    /// `on_duplicate: reject`, and the key is held.
    #[error("the key is held by {existing}")]
    DuplicateKey {
        /// The job that holds it.
        existing: JobId,
    },
    /// A `replace` with an older version than the job has.
    #[error("{existing} already has a newer version than the one given")]
    VersionStale {
        /// The job that holds the key.
        existing: JobId,
    },
    /// The job's key was claimed by another job since it ended.
    #[error("the job's key is held by {by} by now; finish or delete that one, or free the key")]
    KeyTaken {
        /// The job that holds it.
        by: JobId,
    },
    /// Somebody's open transaction holds the key: whether it will be held, nobody knows yet. Only on stores that others
    /// write to in transactions of their own.
    #[error("an open transaction is using the key, and did not end while we waited; try again once it has")]
    KeyInProgress,
    /// Somebody's open transaction holds the job.
    #[error(
        "an open transaction is changing the job, and did not end while we waited; try again once it has"
    )]
    JobInProgress,
    /// Another item of an atomic batch was refused.
    #[error("not added because item {item} of the atomic request was refused")]
    AtomicBatch {
        /// Which, from 0.
        item: usize,
    },
    /// The token is not the job's current one.
    #[error("the lease is gone: the job was leased again, ended or cancelled; stop working on it")]
    LeaseLost {
        /// Where the job stands.
        state: State,
    },
    /// No such job, or no longer.
    #[error("there is no such job")]
    JobNotFound,
    /// No such queue.
    #[error("there is no such queue")]
    QueueNotFound,
    /// The queue still has unfinished jobs.
    #[error("the queue has {unfinished} unfinished jobs; cancel them first or delete with force")]
    QueueNotEmpty {
        /// How many.
        unfinished: u64,
    },
    /// Only jobs that have not started can be edited.
    #[error("only a job that has not started can be edited; this one is {state}")]
    JobStarted {
        /// Where it stands.
        state: State,
    },
    /// The job is completed or dead.
    #[error("the job is {state} already")]
    JobFinished {
        /// How it ended.
        state: State,
    },
    /// Only finished jobs are deleted.
    #[error("only a finished job can be deleted; this one is {state}: cancel it first")]
    JobNotFinished {
        /// Where it stands.
        state: State,
    },
    /// Only dead, cancelled and retrying jobs can be retried.
    #[error("only dead, cancelled and retrying jobs can be retried; this one is {state}")]
    JobNotRetryable {
        /// Where it stands.
        state: State,
    },
    /// No such schedule.
    #[error("there is no such schedule")]
    ScheduleNotFound,
    /// The schedule's last job is unfinished, and its `overlap` is `skip`.
    #[error(
        "{job}, the last job of the schedule, is unfinished, and its overlap is skip; let it end or cancel it first"
    )]
    ScheduleJobUnfinished {
        /// The job.
        job: JobId,
    },
    /// `retry_until` has passed: receivers may no longer know the job's key.
    #[error(
        "the job could be retried until {until}; receivers may have forgotten its key by now, so running it again needs accept_duplicates"
    )]
    RetryWindowPassed {
        /// When it ended.
        until: Timestamp,
    },
}

/// Jobs to add to a queue.
#[derive(Debug, Clone)]
pub struct AddParams {
    /// Where to.
    pub queue: QueueName,
    /// The jobs.
    pub jobs: Vec<NewJob>,
    /// All or none.
    pub atomic: bool,
}

/// One job to add.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewJob {
    /// What it is.
    pub spec: JobSpec,
    /// When it may run.
    pub when: When,
    /// Lower first.
    pub priority: i16,
    /// Failures plus lost leases that end it, or the queue's setting, or the default.
    pub max_attempts: Option<u32>,
    /// Whether `spec.dedup.window` was given by the caller; if not, the queue's setting counts.
    pub window_given: bool,
    /// The identity of the request beside the key: answered again from its record for a day.
    pub request: Option<RequestIdentity>,
}

/// The identity of a request: an `Idempotency-Key` that is not the job's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestIdentity {
    /// The header's value.
    pub key: Key,
    /// Over everything that was asked for.
    pub fingerprint: crate::Fingerprint,
}

/// When a new job may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum When {
    /// Now.
    #[default]
    Now,
    /// This long after it is accepted.
    After(DurationMs),
    /// At this time; now if that has passed.
    At(Timestamp),
}

/// The state of a job as an answer to an add: its row may be gone already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStatus {
    /// There it is.
    Known(State),
    /// It ended and was deleted; only its key is remembered.
    Purged,
}

/// An accepted add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// The job, new or first.
    pub id: JobId,
    /// Its current state.
    pub status: JobStatus,
    /// When it may run, `None` if its row is gone.
    pub run_at: Option<Timestamp>,
    /// It was there already.
    pub duplicate: bool,
    /// Under `replace`, for a duplicate: whether its content was replaced.
    pub replaced: Option<bool>,
}

/// A call for jobs.
#[derive(Debug, Clone)]
pub struct LeaseParams {
    /// Where from, in this order unless `fair`.
    pub queues: Vec<QueueName>,
    /// At most this many.
    pub max: u32,
    /// How long each lease is.
    pub lease: DurationMs,
    /// Who asks.
    pub worker: WorkerName,
    /// Takes from each queue in turn.
    pub fair: bool,
    /// How long to park when there are none. Ended by a tick.
    pub wait: DurationMs,
    /// Makes a repeat of the call safe: a hash of API token, worker and the poll's id.
    pub poll: Option<u64>,
}

/// A call for jobs to deliver.
#[derive(Debug, Clone)]
pub struct DeliveryParams {
    /// At most this many.
    pub max: u32,
    /// At most this many of each lane that is not in `room`.
    pub per_lane: u32,
    /// At most this many of these lanes.
    pub room: HashMap<Lane, u32>,
    /// How long each lease is.
    pub lease: DurationMs,
    /// Who asks.
    pub worker: WorkerName,
}

impl DeliveryParams {
    /// At most this many of `lane`.
    pub fn room_of(&self, lane: Lane) -> u32 {
        self.room.get(&lane).copied().unwrap_or(self.per_lane)
    }
}

/// A job under lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedJob {
    /// The job, running; its attempt has the token.
    pub job: Job,
    /// What to do.
    pub spec: JobSpec,
    /// What an earlier attempt left for this one.
    pub checkpoint: Option<Bytes>,
}

impl LeasedJob {
    /// The attempt this lease is; every leased job has one.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.job.attempt.as_ref()
    }
}

/// One thing the holder of a lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettleOp {
    /// The job.
    pub id: JobId,
    /// The lease.
    pub token: FencingToken,
    /// What.
    pub action: SettleAction,
}

/// See [`SettleOp`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleAction {
    /// The attempt is over.
    End(End),
    /// Still at it: the lease runs this long from now.
    Extend(DurationMs),
    /// How far it is.
    Progress(Progress),
    /// For the next attempt, should there be one: a JSON text.
    Checkpoint(Bytes),
    /// Log lines.
    Log(Vec<String>),
    /// What an HTTP delivery was.
    Exchange(Box<Exchange>),
}

/// An accepted settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The job's state afterwards; for a repeated end, that of the first answer.
    pub state: State,
    /// A cancel was asked for: stop, whatever end is said is `cancelled`, unless it is complete.
    pub cancel: bool,
    /// Until when the lease runs now, while it does.
    pub lease_until: Option<Timestamp>,
}

/// Which jobs. Every given condition must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// In this queue.
    pub queue: Option<QueueName>,
    /// In one of these states; empty: any.
    pub states: Vec<State>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// With this label.
    pub label: Option<Label>,
    /// Added with this key.
    pub key: Option<Key>,
    /// Of this group.
    pub group: Option<Group>,
    /// Accepted at or after.
    pub since: Option<Timestamp>,
    /// Accepted before.
    pub until: Option<Timestamp>,
}

impl JobFilter {
    /// Whether a job is meant.
    pub fn matches(&self, job: &Job, spec: &JobSpec) -> bool {
        let created = job.created_at();
        self.queue.as_ref().is_none_or(|queue| *queue == job.queue)
            && (self.states.is_empty() || self.states.contains(&job.state))
            && self.kind.as_ref().is_none_or(|kind| spec.kind.as_ref() == Some(kind))
            && self.label.as_ref().is_none_or(|label| spec.labels.contains(label))
            && self.key.as_ref().is_none_or(|key| spec.key.as_ref() == Some(key))
            && self.group.as_ref().is_none_or(|group| spec.group.as_ref() == Some(group))
            && self.since.is_none_or(|since| created >= since)
            && self.until.is_none_or(|until| created < until)
    }
}

/// A page of jobs to look up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListParams {
    /// Which.
    pub filter: JobFilter,
    /// At most this many.
    pub limit: u32,
    /// Only jobs accepted before this one: the cursor of the page before.
    pub before: Option<crate::Seq>,
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSummary {
    /// Where it stands.
    pub job: Job,
    /// What was asked for, its payload left out.
    pub spec: JobSpec,
    /// Why it waits.
    pub waiting: Option<crate::Waiting>,
}

/// A page of jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobPage {
    /// The jobs, newest first.
    pub jobs: Vec<JobSummary>,
    /// Where to go on; `None` at the end.
    pub next: Option<crate::Seq>,
}

/// Which jobs to run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedriveParams {
    /// In this queue; its `queue` and `states` are ignored.
    pub filter: JobFilter,
    /// The queue.
    pub queue: QueueName,
    /// Also cancelled ones.
    pub states: Vec<State>,
    /// At most this many.
    pub limit: u32,
    /// Also those whose `retry_until` has passed.
    pub accept_duplicates: bool,
}

/// What became of a redrive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Jobs that will run again.
    pub redriven: u64,
    /// Jobs that will not, and why.
    pub refused: Vec<(JobId, Refusal)>,
}

/// A change to a job that has not started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobEdit {
    /// Another time.
    pub run_at: Option<Timestamp>,
    /// Another priority.
    pub priority: Option<i16>,
    /// Other labels.
    pub labels: Option<Vec<Label>>,
}

words! {
    /// What a waiting head of a group does to those behind it (I8).
    GroupHead {
        /// They wait for it.
        Hold = "hold",
        /// They pass it.
        Skip = "skip",
    }
}

words! {
    /// What a dead or cancelled head of a group does to those behind it (I8).
    OnDead {
        /// They go on.
        Continue = "continue",
        /// They wait until it is retried or deleted.
        Block = "block",
    }
}

/// The settings of a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueSettings {
    /// Nothing is leased while set.
    pub paused: bool,
    /// At most this many jobs run at once.
    pub concurrency: Option<u32>,
    /// At most so many leases begin in a time.
    pub rate: Option<Rate>,
    /// What a delayed, retrying or snoozed head of a group does.
    pub group_head: Option<GroupHead>,
    /// What a dead or cancelled head of a group does.
    pub on_dead: Option<OnDead>,
    /// For jobs that do not say.
    pub max_attempts: Option<u32>,
    /// For jobs that do not say.
    pub backoff: Option<Backoff>,
    /// For jobs that do not say.
    pub dedup_window: Option<DurationMs>,
    /// How long completed jobs are kept.
    pub retain_completed: Option<DurationMs>,
    /// How long cancelled jobs are kept.
    pub retain_cancelled: Option<DurationMs>,
    /// How long dead jobs are kept.
    pub retain_dead: Option<DurationMs>,
}

impl QueueSettings {
    /// How long a job that ended in `state` is kept, unless it says so itself.
    pub fn retention(&self, state: State) -> DurationMs {
        use crate::limits::{RETAIN_CANCELLED, RETAIN_COMPLETED, RETAIN_DEAD};
        match state {
            State::Cancelled => self.retain_cancelled.unwrap_or(RETAIN_CANCELLED),
            State::Dead => self.retain_dead.unwrap_or(RETAIN_DEAD),
            State::Completed | State::Scheduled | State::Available | State::Running | State::Retrying => {
                self.retain_completed.unwrap_or(RETAIN_COMPLETED)
            }
        }
    }

    /// Puts the queue's defaults into a job that does not say itself.
    pub fn apply_to(&self, job: &mut NewJob) {
        job.max_attempts = job.max_attempts.or(self.max_attempts);
        if job.spec.backoff.is_none() {
            job.spec.backoff.clone_from(&self.backoff);
        }
        if let (false, Some(window)) = (job.window_given, self.dedup_window) {
            job.spec.dedup.window = window;
        }
    }
}

/// A change of a queue's settings: what is `None` stays, `Some(None)` goes back to the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::option_option, reason = "absent, null and a value are three different wishes")]
pub struct QueuePatch {
    /// See [`QueueSettings::paused`].
    pub paused: Option<bool>,
    /// See [`QueueSettings::concurrency`].
    pub concurrency: Option<Option<u32>>,
    /// See [`QueueSettings::rate`].
    pub rate: Option<Option<Rate>>,
    /// See [`QueueSettings::group_head`].
    pub group_head: Option<Option<GroupHead>>,
    /// See [`QueueSettings::on_dead`].
    pub on_dead: Option<Option<OnDead>>,
    /// See [`QueueSettings::max_attempts`].
    pub max_attempts: Option<Option<u32>>,
    /// See [`QueueSettings::backoff`].
    pub backoff: Option<Option<Backoff>>,
    /// See [`QueueSettings::dedup_window`].
    pub dedup_window: Option<Option<DurationMs>>,
    /// See [`QueueSettings::retain_completed`].
    pub retain_completed: Option<Option<DurationMs>>,
    /// See [`QueueSettings::retain_cancelled`].
    pub retain_cancelled: Option<Option<DurationMs>>,
    /// See [`QueueSettings::retain_dead`].
    pub retain_dead: Option<Option<DurationMs>>,
}

impl QueuePatch {
    /// Applies the change.
    pub fn apply_to(self, settings: &mut QueueSettings) {
        fn put<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        put(&mut settings.paused, self.paused);
        put(&mut settings.concurrency, self.concurrency);
        put(&mut settings.rate, self.rate);
        put(&mut settings.group_head, self.group_head);
        put(&mut settings.on_dead, self.on_dead);
        put(&mut settings.max_attempts, self.max_attempts);
        put(&mut settings.backoff, self.backoff);
        put(&mut settings.dedup_window, self.dedup_window);
        put(&mut settings.retain_completed, self.retain_completed);
        put(&mut settings.retain_cancelled, self.retain_cancelled);
        put(&mut settings.retain_dead, self.retain_dead);
    }
}

/// How many jobs a queue has had and what became of them. Conservation (I2) is
/// `accepted = unfinished + completed + dead + cancelled + purged`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueCounts {
    /// Ever accepted.
    pub accepted: u64,
    /// Now scheduled.
    pub scheduled: u64,
    /// Now available, leasable or not.
    pub available: u64,
    /// Now running.
    pub running: u64,
    /// Now retrying.
    pub retrying: u64,
    /// Now kept as completed.
    pub completed: u64,
    /// Now kept as dead.
    pub dead: u64,
    /// Now kept as cancelled.
    pub cancelled: u64,
    /// Deleted when their retention was over.
    pub purged_retention: u64,
    /// Deleted by request.
    pub purged_deleted: u64,
    /// Adds answered with an earlier job.
    pub duplicates: u64,
    /// Adds refused because of a different fingerprint.
    pub mismatches: u64,
    /// Writes refused because of an old token.
    pub late_writes: u64,
}

impl QueueCounts {
    /// The number of jobs in `state`.
    pub fn of(&self, state: State) -> u64 {
        let mut copy = *self;
        *copy.of_mut(state)
    }

    /// The number of jobs in `state`, to be changed.
    pub fn of_mut(&mut self, state: State) -> &mut u64 {
        match state {
            State::Scheduled => &mut self.scheduled,
            State::Available => &mut self.available,
            State::Running => &mut self.running,
            State::Retrying => &mut self.retrying,
            State::Completed => &mut self.completed,
            State::Dead => &mut self.dead,
            State::Cancelled => &mut self.cancelled,
        }
    }

    /// Counts a job moving from one state to another; `None` is outside the queue.
    pub fn shift(&mut self, from: Option<State>, to: Option<State>) {
        if let Some(from) = from {
            let count = self.of_mut(from);
            *count = count.saturating_sub(1);
        }
        if let Some(to) = to {
            *self.of_mut(to) += 1;
        }
    }

    /// Jobs that are not finished.
    pub fn unfinished(&self) -> u64 {
        self.scheduled + self.available + self.running + self.retrying
    }

    /// Whether nothing has left by another way out (I2).
    pub fn conserved(&self) -> bool {
        let kept = self.unfinished() + self.completed + self.dead + self.cancelled;
        self.accepted == kept + self.purged_retention + self.purged_deleted
    }
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueView {
    /// Its name.
    pub name: QueueName,
    /// Its settings.
    pub settings: QueueSettings,
    /// Its jobs, counted.
    pub counts: QueueCounts,
    /// When the available job was accepted that came first of those in line; jobs behind the head of
    /// their group are not in line yet.
    pub oldest_available: Option<Timestamp>,
}

/// A queue that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletedQueue {
    /// Jobs that went with it, counted as purged by request.
    pub jobs: u64,
}

/// A held key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// Who holds it.
    pub job: JobId,
    /// Where that job stands.
    pub status: JobStatus,
    /// Until when it is held at the least; longer while the job is unfinished.
    pub until: Timestamp,
    /// Its options.
    pub free_on: crate::FreeOn,
}

/// A durable value of the settings map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The value.
    pub value: Bytes,
    /// Counts up from 1 with every change.
    pub version: u64,
}

/// A place in the events of a store; 0 is before the first.
pub type EventCursor = u64;

/// Which events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsParams {
    /// After this one.
    pub after: EventCursor,
    /// At most this many.
    pub limit: u32,
}

words! {
    /// What an event is about.
    EventKind {
        /// A job was accepted.
        Added = "job.added",
        /// An add was answered with an earlier job.
        Duplicate = "job.duplicate",
        /// An add was refused because of a different fingerprint.
        Mismatch = "job.mismatch",
        /// A job that had not started was replaced or edited.
        Edited = "job.edited",
        /// A job became available.
        Available = "job.available",
        /// A job was leased.
        Leased = "job.leased",
        /// A job completed.
        Completed = "job.completed",
        /// An attempt failed and will be tried again.
        Retrying = "job.retrying",
        /// A job was snoozed.
        Snoozed = "job.snoozed",
        /// A lease was given back.
        Released = "job.released",
        /// A lease was lost.
        LeaseLost = "job.lease_lost",
        /// A job died.
        Dead = "job.dead",
        /// A cancel was asked for.
        CancelRequested = "job.cancel_requested",
        /// A job was cancelled.
        Cancelled = "job.cancelled",
        /// An operator made a job run again.
        Retried = "job.retried",
        /// A job was deleted by request.
        Deleted = "job.deleted",
        /// A write came with an old token and was refused.
        LateWrite = "job.late_write",
        /// A key was freed by an operator.
        KeyReleased = "key.released",
        /// A group went on past a dead or cancelled head.
        GroupPassed = "group.passed",
        /// A queue's settings were changed.
        QueueChanged = "queue.changed",
        /// A queue was deleted.
        QueueDeleted = "queue.deleted",
        /// A job's effect was executed again: nobody knows how the attempt before left it.
        EffectTakenOver = "effect.taken_over",
        /// A job's effect was not executed: its stored result was replayed.
        EffectReplayed = "effect.replayed",
        /// Nobody knows whether a job's effect happened, and it may not be executed again.
        EffectIndeterminate = "effect.indeterminate",
        /// Somebody found out what became of a job's indeterminate effect.
        EffectResolved = "effect.resolved",
        /// A schedule was made, changed, paused or resumed.
        ScheduleChanged = "schedule.changed",
        /// A schedule was deleted.
        ScheduleDeleted = "schedule.deleted",
        /// Ticks of a schedule got no job.
        TicksDropped = "schedule.ticks_dropped",
    }
}

impl EventKind {
    /// Whether it is about a schedule: its event says which.
    pub const fn is_of_schedule(self) -> bool {
        matches!(self, EventKind::ScheduleChanged | EventKind::ScheduleDeleted | EventKind::TicksDropped)
    }

    /// The event that tells of a transition.
    pub const fn of(event: Event) -> EventKind {
        match event {
            Event::Due => EventKind::Available,
            Event::Rescheduled => EventKind::Edited,
            Event::Leased => EventKind::Leased,
            Event::Completed => EventKind::Completed,
            Event::Failed => EventKind::Retrying,
            Event::Died => EventKind::Dead,
            Event::Snoozed => EventKind::Snoozed,
            Event::Released => EventKind::Released,
            Event::LeaseLost => EventKind::LeaseLost,
            Event::Cancelled => EventKind::Cancelled,
            Event::Retried => EventKind::Retried,
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreEvent {
    /// Its place.
    pub cursor: EventCursor,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// In which queue.
    pub queue: QueueName,
    /// To which job.
    pub job: Option<JobId>,
    /// Why, for a dead job.
    pub reason: Option<DeadReason>,
    /// In which attempt, where there is one.
    pub attempt: Option<u32>,
    /// Of which schedule, for an event of one.
    pub schedule: Option<ScheduleEvent>,
}

/// A page of events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventPage {
    /// The events, oldest first.
    pub events: Vec<StoreEvent>,
    /// Where to go on.
    pub next: EventCursor,
    /// The oldest that is still kept: a cursor before it has missed some.
    pub oldest: EventCursor,
}

/// What a tick did and wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticked {
    /// Come again at this time at the latest; now or earlier: at once, there is more to do.
    pub next: Timestamp,
    /// Jobs whose time came.
    pub due: u64,
    /// Jobs that ticks of schedules added.
    pub ticks: u64,
    /// Attempts whose deadline passed.
    pub expired: u64,
    /// Jobs deleted because their retention was over.
    pub purged: u64,
    /// The wall clock had been stepped, and every live lease got its full length again.
    pub clock_stepped: bool,
}

/// A finished backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupDone {
    /// Size of the file.
    pub bytes: u64,
}

/// Figures of a store since it was opened, and of its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Attempts by outcome.
    pub attempts: Vec<(Outcome, u64)>,
    /// Durable commits.
    pub commits: u64,
    /// Operations in them.
    pub committed_ops: u64,
    /// How long commits took, fsync included: (upper bound in microseconds, count), then the rest.
    pub commit_micros: Vec<(u64, u64)>,
    /// Sum of the above in microseconds.
    pub commit_micros_sum: u64,
    /// How many operations each commit took together: (upper bound, count).
    pub batch_sizes: Vec<(u64, u64)>,
    /// Parked polls.
    pub parked_polls: u64,
    /// Keys held in memory.
    pub keys_in_memory: u64,
    /// Keys in all.
    pub keys: u64,
    /// Bytes of the store's files.
    pub file_bytes: u64,
    /// Bytes of the write-ahead log.
    pub wal_bytes: u64,
    /// Adding is refused because the disk is full.
    pub disk_full: bool,
}

/// Resolves the options of a [`NewJob`] against the time of acceptance.
pub fn run_at(when: When, now: Timestamp) -> Timestamp {
    match when {
        When::Now => now,
        When::After(delay) => now.saturating_add(delay),
        When::At(at) => at.max(now),
    }
}

/// The time a rolling delay under `replace` moves to: never later than acceptance + `max_delay`.
pub fn replaced_run_at(dedup: &Dedup, created_at: Timestamp, run_at: Timestamp) -> Timestamp {
    dedup.max_delay.map_or(run_at, |max| run_at.min(created_at.saturating_add(max)))
}
