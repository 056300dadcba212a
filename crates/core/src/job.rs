//! The job: what was asked for ([`JobSpec`]), where it stands ([`Job`]), and its attempts.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::state::words;
use crate::{
    Backoff, DeadReason, Dedup, DurationMs, FencingToken, Fingerprint, Group, HttpTarget, JobId, Key, Kind,
    Label, QueueName, State, Target, Timestamp, TraceParent, WorkerName, limits,
};

/// What a job carries, as the bytes that were sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Payload {
    /// None.
    #[default]
    Absent,
    /// A JSON text, checked when it was accepted.
    Json(Bytes),
    /// Anything else.
    Raw {
        /// The bytes.
        bytes: Bytes,
        /// Their media type.
        content_type: String,
    },
}

impl Payload {
    /// The bytes, empty if there are none.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Absent => &[],
            Payload::Json(bytes) | Payload::Raw { bytes, .. } => bytes,
        }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the caller asked for. Changed only before the first start, by `replace` or an edit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobSpec {
    /// What sort of work it is.
    pub kind: Option<Kind>,
    /// What it carries.
    pub payload: Payload,
    /// The dedup key, unique in the queue while held (I3).
    pub key: Option<Key>,
    /// The fingerprint compared when the key is used again; there is one whenever there is a key.
    pub fingerprint: Option<Fingerprint>,
    /// What to do when the key is used again.
    pub dedup: Dedup,
    /// The group whose jobs run one at a time, in order (I8).
    pub group: Option<Group>,
    /// Backoff, or the default.
    pub backoff: Option<Backoff>,
    /// Hard limit of one attempt, or the default.
    pub timeout: Option<DurationMs>,
    /// Where it runs.
    pub target: Target,
    /// Told once it completed, by a job of its own.
    pub on_success: Option<Arc<HttpTarget>>,
    /// Told once it is dead or cancelled, by a job of its own.
    pub on_failure: Option<Arc<HttpTarget>>,
    /// Headers handed on to the handler.
    pub headers: Vec<(String, String)>,
    /// Words to find it by.
    pub labels: Vec<Label>,
    /// How long it is kept once finished, or the queue's retention.
    pub retain: Option<DurationMs>,
    /// Carried for tracing.
    pub traceparent: Option<TraceParent>,
}

impl JobSpec {
    /// The hard limit of one attempt.
    pub fn attempt_timeout(&self) -> DurationMs {
        let default = || self.target.http().map_or(limits::ATTEMPT_TIMEOUT, HttpTarget::attempt_timeout);
        self.timeout.unwrap_or_else(default)
    }
}

/// Where a job stands. Everything here changes over its life; its [`JobSpec`] does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its name for ever.
    pub id: JobId,
    /// The queue it is in.
    pub queue: QueueName,
    /// Its state.
    pub state: State,
    /// Why it is dead; there is one exactly when it is.
    pub reason: Option<DeadReason>,
    /// Lower runs first.
    pub priority: i16,
    /// When it may run: its time while scheduled or retrying, else when it last became available.
    pub run_at: Timestamp,
    /// Failures plus lost leases that end it.
    pub max_attempts: u32,
    /// Failures since it was added or last retried by an operator.
    pub failures: u32,
    /// Leases lost since it was added or last retried by an operator.
    pub lost_leases: u32,
    /// When the latest leases were lost, within the crash-loop window.
    pub recent_losses: Vec<Timestamp>,
    /// No automatic attempt starts later; known from the first start on (I11).
    pub retry_until: Option<Timestamp>,
    /// A cancel was asked for while it ran.
    pub cancel_requested: bool,
    /// When it finished; there is one exactly when it is finished.
    pub finished_at: Option<Timestamp>,
    /// Its place in its group, if it has one.
    pub group_order: Option<u64>,
    /// The latest attempt, open while running. Earlier ones are kept apart.
    pub attempt: Option<Attempt>,
    /// Adds that were answered with this job.
    pub duplicates: u32,
    /// Adds that were refused because this job holds their key with another fingerprint.
    pub mismatches: u32,
}

impl Job {
    /// When it was accepted.
    pub fn created_at(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.id.accepted_unix_ms()).unwrap_or(Timestamp::EPOCH)
    }

    /// The number of its latest attempt; 0 before the first. Never reset.
    pub fn attempts(&self) -> u32 {
        self.attempt.as_ref().map_or(0, |attempt| attempt.number)
    }

    /// Whether no attempt has started yet and none is about to: only then may it be edited or replaced.
    pub fn not_started(&self) -> bool {
        self.attempt.is_none() && matches!(self.state, State::Scheduled | State::Available)
    }

    /// Whether `token` is the current one.
    pub fn held_by(&self, token: FencingToken) -> bool {
        self.state == State::Running && self.attempt.as_ref().is_some_and(|attempt| attempt.token == token)
    }
}

words! {
    /// How an attempt ended.
    Outcome {
        /// Completed by its holder.
        Completed = "completed",
        /// Failed by its holder.
        Failed = "failed",
        /// Ended by the hard attempt limit, which is a failure.
        TimedOut = "timed_out",
        /// Put off by its holder.
        Snoozed = "snoozed",
        /// Given back by its holder.
        Released = "released",
        /// Its lease ran out.
        LeaseLost = "lease_lost",
        /// Revoked by a forced cancel.
        Revoked = "revoked",
    }
}

/// Why an attempt failed, in the handler's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// For people.
    pub message: String,
    /// For filters and alerts: the handler's own word for the class of error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// One lease of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1, counting up over the job's whole life.
    pub number: u32,
    /// The fencing token of its lease.
    pub token: FencingToken,
    /// Who holds or held it.
    pub worker: WorkerName,
    /// When the lease was handed out.
    pub started_at: Timestamp,
    /// The length of the lease; each extension counts from the moment it is made.
    pub lease: DurationMs,
    /// Until when the lease runs, or ran.
    pub lease_until: Timestamp,
    /// The hard limit: when the attempt ends as a failure, however often its lease is extended.
    pub deadline: Timestamp,
    /// The poll it was handed to, if that gave an id: a hash of API token, worker and poll id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<u64>,
    /// How it ended; `None` while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<AttemptEnd>,
    /// What the handler last said about how far it is. May be lost in a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What was sent where, and what came back, if the attempt was an HTTP delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Box<Exchange>>,
    /// The handler's last log lines. May be lost in a crash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// Completes that came after the lease was gone (I5).
    #[serde(default, skip_serializing_if = "LateWrites::is_empty")]
    pub late_success: LateWrites,
    /// Failures that came after the lease was gone (I5).
    #[serde(default, skip_serializing_if = "LateWrites::is_empty")]
    pub late_failure: LateWrites,
}

/// One HTTP delivery: what was sent where, and what came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// How the target was asked.
    pub method: String,
    /// Where.
    pub url: String,
    /// The other end of the connection the request went over, once there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whether an earlier delivery had used that connection.
    #[serde(default)]
    pub reused: bool,
    /// Connections that did not come about, in order: address, and the code of why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dials: Vec<(String, String)>,
    /// The answer's status, if its head was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The answer's headers, 8 KiB of them. A stranger's words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The beginning of the answer's body, at most 16 KiB; that of a completed job is its result. A stranger's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Instead of `body`, if that is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Bytes of the body that came.
    #[serde(default)]
    pub body_bytes: u64,
    /// The code of why there was no whole answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How long each part took, in milliseconds: names, connecting, TLS, to the end of the answer's head, its body, all.
    pub timing: ExchangeTiming,
}

/// How long the parts of a delivery took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExchangeTiming {
    /// Looking the host up.
    pub dns: u64,
    /// Connecting, over all addresses tried.
    pub connect: u64,
    /// The TLS handshake.
    pub tls: u64,
    /// From sending the request to the end of the head of the answer.
    pub head: u64,
    /// Reading the body.
    pub body: u64,
    /// All of it.
    pub total: u64,
}

/// How far a handler says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The end of an attempt, with what is needed to repeat the first answer to it (I6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// When.
    pub at: Timestamp,
    /// How.
    pub outcome: Outcome,
    /// The error, after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// The job's state that the end led to: the first answer.
    pub state: State,
    /// Tells whether an end that comes again is the same one; `None` when the engine ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<u64>,
}

/// Writes that came with an old token, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LateWrites {
    /// How many.
    pub count: u32,
    /// When the first came.
    pub first_at: Option<Timestamp>,
    /// When the last came.
    pub last_at: Option<Timestamp>,
}

impl LateWrites {
    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Counts one more.
    pub fn record(&mut self, now: Timestamp) {
        self.count = self.count.saturating_add(1);
        self.first_at = self.first_at.or(Some(now));
        self.last_at = Some(now);
    }
}

words! {
    /// Something that happened to a job beside its attempts.
    EvidenceKind {
        /// An add was answered with this job.
        DuplicateAdd = "duplicate_add",
        /// An add was refused: same key, other fingerprint.
        Mismatch = "mismatch",
        /// An add replaced what this job carries.
        Replaced = "replaced",
        /// Its time, priority or labels were edited.
        Edited = "edited",
        /// A cancel was asked for.
        CancelRequested = "cancel_requested",
        /// An operator made it run again.
        Retried = "retried",
        /// Its key was freed by an operator.
        KeyReleased = "key_released",
        /// A write came with a token that never was this job's.
        ForeignToken = "foreign_token",
        /// An effect was executed again: nobody knows how the attempt before left it.
        EffectTakenOver = "effect_taken_over",
        /// An effect was not executed: its stored result was replayed.
        EffectReplayed = "effect_replayed",
        /// Nobody knows whether an effect happened, and it may not be executed again.
        EffectIndeterminate = "effect_indeterminate",
        /// Somebody found out what became of an indeterminate effect.
        EffectResolved = "effect_resolved",
        /// A write to an effect came with an old token.
        LateEffect = "late_effect",
    }
}

/// One thing that happened to a job beside its attempts. Of each kind all are counted and the
/// first and last [`crate::limits::EVIDENCE_KEPT`] kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What.
    pub kind: EvidenceKind,
    /// Its number among those of its kind, from 1.
    pub number: u32,
    /// When.
    pub at: Timestamp,
    /// Anything more a person would want to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

words! {
    /// Why an available job is not leased.
    Waiting {
        /// An earlier job of its group is not done.
        Group = "group",
        /// Its queue is paused.
        Paused = "paused",
        /// Its queue runs as many jobs as it may.
        Concurrency = "concurrency",
        /// Its queue's or flow's rate is used up.
        Rate = "rate",
    }
}

/// Everything there is to say about a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// Where it stands, with its latest attempt.
    pub job: Job,
    /// What was asked for.
    pub spec: JobSpec,
    /// Every attempt kept, oldest first; the last is `job.attempt`.
    pub attempts: Vec<Attempt>,
    /// What happened beside attempts, oldest first.
    pub evidence: Vec<Evidence>,
    /// Why it waits, if it is available and does.
    pub waiting: Option<Waiting>,
    /// What the handler returned.
    pub result: Option<Bytes>,
    /// What the next attempt will be handed.
    pub checkpoint: Option<Bytes>,
    /// Its effects by key, without their results; of very many the first [`crate::limits::EFFECTS_SHOWN_MAX`].
    pub effects: Vec<crate::Effect>,
}
