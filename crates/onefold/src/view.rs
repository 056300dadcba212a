//! Jobs and queues as they are shown.

use std::time::Duration;

use bytes::Bytes;
use onefold_core::{
    DeadReason, Evidence, FencingToken, JobError, JobId, Outcome, Progress, QueueCounts, QueueSettings,
    Refusal, State, Timestamp, Waiting,
};

use crate::RawPayload;

/// Everything there is to say about a job.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct JobView {
    /// Its name for ever.
    pub id: JobId,
    /// The queue it is in.
    pub queue: String,
    /// Where it stands.
    pub state: State,
    /// Why it is dead, if it is.
    pub reason: Option<DeadReason>,
    /// Why it waits, if it is available and does.
    pub waiting: Option<Waiting>,
    /// A cancel was asked for while it ran.
    pub cancel_requested: bool,
    /// What sort of work it is.
    pub kind: Option<String>,
    /// What it carries. Lists leave it out.
    pub payload: RawPayload,
    /// Its dedup key.
    pub key: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// Lower runs first.
    pub priority: i16,
    /// Headers handed to the handler.
    pub headers: Vec<(String, String)>,
    /// Words to find it by.
    pub labels: Vec<String>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it may run, or became available.
    pub run_at: Timestamp,
    /// When it finished.
    pub finished_at: Option<Timestamp>,
    /// No automatic attempt starts later; known from the first start on.
    pub retry_until: Option<Timestamp>,
    /// Failures so far.
    pub failures: u32,
    /// Leases lost so far.
    pub lost_leases: u32,
    /// Failures plus lost leases that end it.
    pub max_attempts: u32,
    /// The number of its latest attempt; 0 before the first.
    pub attempt: u32,
    /// The error of its latest attempt, if that failed.
    pub error: Option<JobError>,
    /// Its attempts that are still kept, oldest first. Lists leave them out.
    pub attempts: Vec<AttemptView>,
    /// What happened to it beside attempts, oldest first. Lists leave it out.
    pub history: Vec<Evidence>,
    /// Adds that were answered with this job.
    pub duplicates: u32,
    /// Ends that came after their lease was gone. Lists leave them out.
    pub late_writes: u32,
    /// What the handler returned: a JSON text. Lists leave it out.
    pub result: Option<Bytes>,
}

impl JobView {
    /// The error of the latest of its attempts that failed.
    pub fn last_error(&self) -> Option<&JobError> {
        self.attempts.iter().rev().find_map(|attempt| attempt.error.as_ref())
    }
}

/// One lease of a job.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AttemptView {
    /// From 1, never reset.
    pub number: u32,
    /// The fencing token of its lease.
    pub fencing_token: FencingToken,
    /// Who held it.
    pub worker: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended; `None` while it is open.
    pub ended_at: Option<Timestamp>,
    /// How it ended; `None` while it is open.
    pub outcome: Option<Outcome>,
    /// Why it failed.
    pub error: Option<JobError>,
    /// How far it said it was.
    pub progress: Option<Progress>,
    /// What it said.
    pub log: Vec<String>,
    /// Completes that came after the lease was gone.
    pub late_success: u32,
    /// Failures that came after the lease was gone.
    pub late_failure: u32,
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobList {
    /// The jobs, newest first.
    pub jobs: Vec<JobView>,
    /// Hand it to [`List::cursor`](crate::List::cursor) to go on; `None` at the end. A page may
    /// be short or empty and still have one.
    pub cursor: Option<String>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListQuery {
    pub(crate) filter: onefold_core::JobFilter,
    pub(crate) limit: Option<u32>,
    pub(crate) cursor: Option<String>,
}

/// Which jobs of a queue to run again.
#[derive(Debug, Clone)]
pub(crate) struct RedriveQuery {
    pub(crate) filter: onefold_core::JobFilter,
    pub(crate) states: Vec<State>,
    pub(crate) limit: Option<u32>,
    pub(crate) accept_duplicates: bool,
}

/// What became of a redrive.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Redriven {
    /// Jobs that will run again.
    pub redriven: u64,
    /// Jobs that will not, and why.
    pub refused: Vec<(JobId, Refusal)>,
}

/// A queue.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: QueueSettings,
    /// Its jobs, counted by state, and what became of all it ever had.
    pub counts: QueueCounts,
    /// How long its oldest available job has been there.
    pub oldest_age: Option<Duration>,
}

/// A held key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyView {
    /// The job that holds it.
    pub job: JobId,
    /// Where that job stands; `None` if it was deleted and only its key is remembered.
    pub state: Option<State>,
    /// Until when it is held at the least; longer while the job is unfinished.
    pub until: Timestamp,
}
