//! What the library needs of a store, be it an engine in this process or a server.

mod engine;
#[cfg(feature = "remote")]
mod remote;

use bytes::Bytes;
use onefold_core::schedule::{Missed, Overlap, ScheduleId, Timing};
use onefold_core::{
    Added, BoxFuture, DurationMs, EffectDone, EffectOp, FencingToken, Group, JobEdit, JobId, Key, Kind,
    Label, LeaseParams, NewJob, QueueName, QueuePatch, SettleOp, Settled, State, Timestamp, TraceParent,
};

pub(crate) use engine::EngineBackend;
#[cfg(feature = "remote")]
pub(crate) use remote::RemoteBackend;

use crate::check::Wants;
use crate::schedule::ScheduleView;
use crate::view::{JobList, JobView, KeyView, ListQuery, QueueView, RedriveQuery, Redriven};
use crate::{Error, RawPayload};

/// The outcome of one call, or of one item of it.
pub(crate) type Outcome<T> = Result<T, Error>;

/// A store as the library sees it. Batches give an outcome per item, in order; ids of jobs and
/// names have been checked by their types.
pub(crate) trait Backend: Send + Sync + 'static {
    /// What jobs it is sent must be like.
    fn wants(&self) -> Wants;

    /// Adds one job; concurrent calls share a round trip or a commit.
    fn add(&self, queue: QueueName, job: ToAdd) -> BoxFuture<'_, Outcome<Added>>;

    /// Adds jobs, all or none if `atomic`.
    fn add_many(
        &self,
        queue: QueueName,
        jobs: Vec<ToAdd>,
        atomic: bool,
    ) -> BoxFuture<'_, Outcome<Vec<Outcome<Added>>>>;

    /// Hands out jobs, parking if there are none.
    fn lease(&self, call: LeaseParams) -> BoxFuture<'_, Outcome<Vec<Leased>>>;

    /// Whether a lease call whose answer was lost must be repeated with its poll id to get its
    /// jobs. Otherwise dropping the call gives them back.
    fn repeats_polls(&self) -> bool;

    /// Settles. May be repeated with the same operations if the outcome is unknown (I6).
    fn settle<'a>(&'a self, ops: &'a [SettleOp]) -> BoxFuture<'a, Outcome<Vec<Outcome<Settled>>>>;

    /// Does one thing with an effect. May be repeated if the outcome is unknown.
    fn effect<'a>(&'a self, op: &'a EffectOp) -> BoxFuture<'a, Outcome<EffectDone>>;

    /// Everything about a job.
    fn get(&self, id: JobId) -> BoxFuture<'_, Outcome<Option<JobView>>>;

    /// The result of a job once it is finished, at the latest after `wait`.
    fn result(&self, id: JobId, wait: DurationMs) -> BoxFuture<'_, Outcome<JobResult>>;

    /// Cancels.
    fn cancel(&self, id: JobId, force: bool) -> BoxFuture<'_, Outcome<JobView>>;

    /// Makes a finished or retrying job run again.
    fn retry(&self, id: JobId, accept_duplicates: bool) -> BoxFuture<'_, Outcome<JobView>>;

    /// Changes a job that has not started.
    fn edit(&self, id: JobId, edit: JobEdit) -> BoxFuture<'_, Outcome<JobView>>;

    /// Deletes a finished job.
    fn delete(&self, id: JobId) -> BoxFuture<'_, Outcome<JobView>>;

    /// Jobs, newest first.
    fn list(&self, query: ListQuery) -> BoxFuture<'_, Outcome<JobList>>;

    /// Makes dead or cancelled jobs of a queue run again.
    fn redrive(&self, queue: QueueName, query: RedriveQuery) -> BoxFuture<'_, Outcome<Redriven>>;

    /// All queues.
    fn queues(&self) -> BoxFuture<'_, Outcome<Vec<QueueView>>>;

    /// One queue.
    fn queue(&self, name: QueueName) -> BoxFuture<'_, Outcome<Option<QueueView>>>;

    /// Makes or changes a queue.
    fn set_queue(&self, name: QueueName, patch: QueuePatch) -> BoxFuture<'_, Outcome<QueueView>>;

    /// Deletes a queue with its jobs and keys, with unfinished jobs only by force. Gives the number of jobs.
    fn delete_queue(&self, name: QueueName, force: bool) -> BoxFuture<'_, Outcome<u64>>;

    /// Makes a schedule, or puts another in its place.
    fn put_schedule(&self, id: ScheduleId, schedule: ToSchedule) -> BoxFuture<'_, Outcome<ScheduleView>>;

    /// One schedule.
    fn schedule(&self, id: ScheduleId) -> BoxFuture<'_, Outcome<Option<ScheduleView>>>;

    /// All schedules, by their ids.
    fn schedules(&self) -> BoxFuture<'_, Outcome<Vec<ScheduleView>>>;

    /// Pauses a schedule or resumes it.
    fn pause_schedule(&self, id: ScheduleId, paused: bool) -> BoxFuture<'_, Outcome<ScheduleView>>;

    /// Adds a schedule's job now.
    fn run_schedule(&self, id: ScheduleId) -> BoxFuture<'_, Outcome<JobId>>;

    /// Deletes a schedule.
    fn delete_schedule(&self, id: ScheduleId) -> BoxFuture<'_, Outcome<ScheduleView>>;

    /// Who holds a key.
    fn key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, Outcome<Option<KeyView>>>;

    /// Frees a key.
    fn release_key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, Outcome<Option<KeyView>>>;
}

/// A job to add, checked.
#[derive(Debug)]
pub(crate) struct ToAdd {
    pub(crate) job: NewJob,
    /// The fingerprint of the caller's own, as it was given: a server hashes it itself.
    pub(crate) fingerprint: Option<String>,
}

/// A schedule to put, checked.
#[derive(Debug)]
pub(crate) struct ToSchedule {
    pub(crate) timing: Timing,
    pub(crate) queue: QueueName,
    pub(crate) missed: Missed,
    pub(crate) overlap: Overlap,
    pub(crate) job: ToAdd,
}

/// A job under lease, as a worker needs it.
#[derive(Debug, Clone)]
pub(crate) struct Leased {
    pub(crate) id: JobId,
    pub(crate) token: FencingToken,
    pub(crate) attempt: u32,
    pub(crate) queue: QueueName,
    pub(crate) kind: Option<Kind>,
    pub(crate) payload: RawPayload,
    pub(crate) key: Option<Key>,
    pub(crate) group: Option<Group>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) labels: Vec<Label>,
    pub(crate) failures: u32,
    pub(crate) max_attempts: u32,
    /// The hard limit of the attempt, from its start.
    pub(crate) timeout: DurationMs,
    pub(crate) created_at: Timestamp,
    pub(crate) retry_until: Option<Timestamp>,
    pub(crate) checkpoint: Option<Bytes>,
    pub(crate) traceparent: Option<TraceParent>,
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobResult {
    /// It completed with this JSON text, if any.
    Completed(Option<Bytes>),
    /// It is not finished.
    Unfinished(State),
}
