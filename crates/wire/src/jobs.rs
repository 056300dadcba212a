//! Jobs: looking at them and changing them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Backoff, Dedup, Effect, Headers, Problem, Span, Target, Text, present};

/// Everything about a job. In a list, and where nothing else is said, without `payload`, `result`,
/// `checkpoint`, `attempts`, `history` and `effects`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Job<'a> {
    /// Its name for ever.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// The queue it is in.
    #[serde(borrow)]
    pub queue: Text<'a>,
    /// `scheduled`, `available`, `running`, `retrying`, `completed`, `dead` or `cancelled`.
    #[serde(borrow)]
    pub state: Text<'a>,
    /// Why it is dead: `attempts`, `permanent`, `crash_loop`, `expired` or `indeterminate`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text<'a>>,
    /// Why it is available and not leased: `group`, `paused`, `concurrency` or `rate`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Text<'a>>,
    /// What sort of work it is.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Text<'a>>,
    /// What it carries, if that is JSON.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value, required = false))]
    pub payload: Option<&'a RawValue>,
    /// What it carries, if that is not JSON, in base64.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<Text<'a>>,
    /// Media type of `payload_base64`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Text<'a>>,
    /// The dedup key.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<'a>>,
    /// What is compared when the key is used again: 66 hex digits.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Text<'a>>,
    /// What happens when the key is used again.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<Dedup<'a>>,
    /// Its group.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Text<'a>>,
    /// Lower runs first.
    pub priority: i16,
    /// When it was accepted.
    #[serde(borrow)]
    pub created_at: Text<'a>,
    /// When it may run, or last became available.
    #[serde(borrow)]
    pub run_at: Text<'a>,
    /// When it finished.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Text<'a>>,
    /// No automatic attempt starts later; known from the first start on.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub retry_until: Option<Text<'a>>,
    /// A cancel was asked for while it ran.
    #[serde(default)]
    pub cancel_requested: bool,
    /// The number of its latest attempt; 0 before the first.
    pub attempt: u32,
    /// Failures since it was added or last retried by an operator.
    pub failures: u32,
    /// Leases lost since then.
    pub lost_leases: u32,
    /// Failures and lost leases that end it.
    pub max_attempts: u32,
    /// Backoff, unless it is the default.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff<'a>>,
    /// Hard limit of one attempt, unless it is the default.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span<'a>>,
    /// How long it is kept once finished, unless its queue says so.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<Span<'a>>,
    /// Where it is delivered, unless workers lease it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target<'a>>,
    /// Told once it completed.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub on_success: Option<Target<'a>>,
    /// Told once it is dead or cancelled.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Target<'a>>,
    /// Headers handed on to the handler.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers<'a>>,
    /// Words to find it by.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Text<'a>>,
    /// W3C trace context.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Text<'a>>,
    /// Adds that were answered with this job.
    pub duplicates: u32,
    /// Adds that were refused because this job holds their key with another fingerprint.
    pub mismatches: u32,
    /// Ends that came with an old token and were refused; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_writes: Option<u32>,
    /// The error of the latest attempt, if it failed.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub error: Option<AttemptError<'a>>,
    /// What the handler returned.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value, required = false))]
    pub result: Option<&'a RawValue>,
    /// What the next attempt will be handed.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value, required = false))]
    pub checkpoint: Option<&'a RawValue>,
    /// Every attempt, oldest first.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Vec<Attempt<'a>>>,
    /// What happened to it beside attempts, oldest first.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Evidence<'a>>>,
    /// Its effects by key, without their results.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub effects: Option<Vec<Effect<'a>>>,
}

/// One HTTP delivery. What the target answered is a stranger's words: escape it wherever it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Exchange<'a> {
    /// How the target was asked.
    #[serde(borrow)]
    pub method: Text<'a>,
    /// Where.
    #[serde(borrow)]
    pub url: Text<'a>,
    /// The other end of the connection the request went over, once there was one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Text<'a>>,
    /// Whether an earlier delivery had used that connection.
    pub reused: bool,
    /// Connections that did not come about, in order: address, and the code of why.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub dials: Vec<(Text<'a>, Text<'a>)>,
    /// The answer's status, if its head was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The answer's headers, up to 8 KiB.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(Text<'a>, Text<'a>)>,
    /// The beginning of the answer's body, up to 16 KiB; that of a completed job is in its result.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Text<'a>>,
    /// Instead of `body`, if that is not UTF-8.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<Text<'a>>,
    /// Bytes of the body that came.
    pub body_bytes: u64,
    /// The code of why there was no whole answer.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Text<'a>>,
    /// How long each part took.
    pub timing_ms: ExchangeTiming,
}

/// How long the parts of a delivery took, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

/// Why an attempt failed, in the handler's words.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AttemptError<'a> {
    /// For people.
    #[serde(borrow)]
    pub message: Text<'a>,
    /// The handler's own word for the class of error.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Text<'a>>,
}

/// One lease of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attempt<'a> {
    /// From 1, counting up over the job's whole life.
    pub number: u32,
    /// The fencing token of its lease.
    pub fencing_token: u64,
    /// Who holds or held it.
    #[serde(borrow)]
    pub worker: Text<'a>,
    /// When the lease was handed out.
    #[serde(borrow)]
    pub started_at: Text<'a>,
    /// Until when the lease runs, or ran.
    #[serde(borrow)]
    pub lease_until: Text<'a>,
    /// When it ended; absent while it is open.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Text<'a>>,
    /// How it ended: `completed`, `failed`, `timed_out`, `snoozed`, `released`, `lease_lost` or `revoked`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Text<'a>>,
    /// The state its end led to.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Text<'a>>,
    /// The error, after a failure.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub error: Option<AttemptError<'a>>,
    /// What the handler last said about how far it is.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress<'a>>,
    /// What was sent where and what came back, if it was an HTTP delivery.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Box<Exchange<'a>>>,
    /// The handler's last log lines.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<Text<'a>>,
    /// Completes that came after the lease was gone.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub late_success: Option<LateWrites<'a>>,
    /// Failures that came after the lease was gone.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub late_failure: Option<LateWrites<'a>>,
}

/// How far a handler says it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Progress<'a> {
    /// 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// In words.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Text<'a>>,
}

/// Writes that came with an old token, counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LateWrites<'a> {
    /// How many.
    pub count: u32,
    /// When the first came.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub first_at: Option<Text<'a>>,
    /// When the last came.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Text<'a>>,
}

/// One thing that happened to a job beside its attempts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Evidence<'a> {
    /// What: `duplicate_add`, `mismatch`, `replaced`, `edited`, `cancel_requested`, `retried`, `key_released`,
    /// `foreign_token`, `effect_taken_over`, `effect_replayed`, `effect_indeterminate`, `effect_resolved` or `late_effect`.
    #[serde(borrow)]
    pub kind: Text<'a>,
    /// Its number among those of its kind; of many only the first and the last are kept.
    pub number: u32,
    /// When.
    #[serde(borrow)]
    pub at: Text<'a>,
    /// Anything more.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Text<'a>>,
}

/// A page of jobs, newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobList<'a> {
    /// The jobs. There may be fewer than asked for, even none, and still more to come.
    #[serde(borrow)]
    pub jobs: Vec<Job<'a>>,
    /// For the next page, with the same filters; absent at the end.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Text<'a>>,
}

/// `200` of `GET /v1/jobs/{id}/result`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobResult<'a> {
    /// What the handler returned; `null` also if it returned nothing.
    #[serde(borrow)]
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    pub result: Option<&'a RawValue>,
}

/// `202` of `GET /v1/jobs/{id}/result`: not finished yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobPending<'a> {
    /// Where it stands.
    #[serde(borrow)]
    pub state: Text<'a>,
}

/// `PATCH /v1/jobs/{id}`: what is not given stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct JobPatch<'a> {
    /// Another time (RFC 3339).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Text<'a>>,
    /// Another priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Other labels.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<Text<'a>>>,
}

/// `POST /v1/jobs/{id}/cancel`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Revokes the lease of a running job at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}

/// `POST /v1/jobs/{id}/retry`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RetryRequest {
    /// Also after `retry_until`, when receivers may have forgotten the job's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_duplicates: Option<bool>,
}

/// `POST /v1/queues/{queue}/redrive`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RedriveRequest<'a> {
    /// `dead` (default), `cancelled`, or both.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub states: Option<Vec<Text<'a>>>,
    /// At most this many: 1 to 10,000 (default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only these.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<RedriveFilter<'a>>,
    /// Also those whose `retry_until` has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_duplicates: Option<bool>,
}

/// Which jobs to redrive; every given condition must hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RedriveFilter<'a> {
    /// Of this kind.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Text<'a>>,
    /// With this label.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Text<'a>>,
    /// Added with this key.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<'a>>,
    /// Of this group.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Text<'a>>,
    /// Accepted at or after (RFC 3339).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Text<'a>>,
    /// Accepted before (RFC 3339).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Text<'a>>,
}

/// The answer to a redrive.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Redriven<'a> {
    /// Jobs that will run again.
    pub redriven: u64,
    /// Jobs that will not.
    #[serde(borrow)]
    pub refused: Vec<NotRedriven<'a>>,
}

/// A job that was not redriven.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NotRedriven<'a> {
    /// Which.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// Why.
    pub error: Problem,
}

/// Who holds a key: `GET` and `DELETE /v1/queues/{queue}/keys/{key}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeldKey<'a> {
    /// In this queue.
    #[serde(borrow)]
    pub queue: Text<'a>,
    /// The key.
    #[serde(borrow)]
    pub key: Text<'a>,
    /// The job that holds it, or held it until now.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// Where that job stands; `purged` if it ended and was deleted.
    #[serde(borrow)]
    pub state: Text<'a>,
    /// Until when it is held at the least; longer while the job is unfinished.
    #[serde(borrow)]
    pub held_until: Text<'a>,
    /// Ends of the job that free it earlier.
    #[serde(borrow)]
    pub free_on: Vec<Text<'a>>,
}
