//! Workers: leasing jobs and saying what became of them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{AttemptError, Headers, Span, Text, present};

/// `POST /v1/leases`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest<'a> {
    /// Where from, in this order unless `fair`: 1 to 1,000.
    #[serde(borrow)]
    pub queues: Vec<Text<'a>>,
    /// At most this many: 1 (default) to 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// How long to wait for a job if there is none: at most 60 s; 0 unless given.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Span<'a>>,
    /// How long each lease is: 100 ms to 1 h; 30 s unless given.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Span<'a>>,
    /// Who asks, for people: 1 to 255 characters; `anonymous` unless given.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Text<'a>>,
    /// Takes from each queue in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fair: Option<bool>,
    /// Makes a repeat of the call safe: the jobs of that poll that are still held are handed out
    /// again. At most 64 bytes; scoped to the API token and `worker`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub poll_id: Option<Text<'a>>,
}

/// The answer to [`LeaseRequest`]: empty if there was nothing until the wait was over.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Leased<'a> {
    /// The jobs, each under a lease of its own.
    #[serde(borrow)]
    pub jobs: Vec<LeasedJob<'a>>,
}

/// A job under lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeasedJob<'a> {
    /// The job.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// The queue it is in.
    #[serde(borrow)]
    pub queue: Text<'a>,
    /// What sort of work it is.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Text<'a>>,
    /// What it carries, if that is JSON: the bytes that were sent.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value, required = false))]
    pub payload: Option<&'a RawValue>,
    /// What it carries, if that is not JSON, in base64.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<Text<'a>>,
    /// Media type of `payload_base64`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Text<'a>>,
    /// Proof of the lease, larger for every lease; an integer below 2^53.
    pub fencing_token: u64,
    /// From 1, counting up over the job's whole life.
    pub attempt: u32,
    /// Failures so far.
    pub failures: u32,
    /// Failures and lost leases that end it.
    pub max_attempts: u32,
    /// Its dedup key.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<'a>>,
    /// Its group.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Text<'a>>,
    /// Headers handed on with it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers<'a>>,
    /// Words to find it by.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Text<'a>>,
    /// What an earlier attempt left for this one.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value, required = false))]
    pub checkpoint: Option<&'a RawValue>,
    /// The hard limit of this attempt, in milliseconds.
    pub timeout: Span<'a>,
    /// When it was accepted.
    #[serde(borrow)]
    pub created_at: Text<'a>,
    /// Until when the lease runs by the server's clock.
    #[serde(borrow)]
    pub lease_until: Text<'a>,
    /// How long the lease is, in milliseconds: count from before the request was sent.
    pub lease_ms: u64,
    /// No automatic attempt starts later: how long receivers must remember the job's key.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub retry_until: Option<Text<'a>>,
    /// W3C trace context.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Text<'a>>,
}

/// `POST /v1/leases/settle`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SettleRequest<'a> {
    /// What to do, at most 10,000.
    #[serde(borrow)]
    pub ops: Vec<SettleOp<'a>>,
}

/// One thing the holder of a lease says. Which members belong to which `op` is said at each; others
/// are refused.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SettleOp<'a> {
    /// `complete`, `fail`, `snooze`, `release`, `extend`, `progress`, `checkpoint` or `log`.
    #[serde(borrow)]
    pub op: Text<'a>,
    /// The job.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// The lease.
    pub fencing_token: u64,
    /// `complete`: what the handler returned, any JSON up to 1 MiB.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value, required = false))]
    pub result: Option<&'a RawValue>,
    /// `fail`: why.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub error: Option<OpError<'a>>,
    /// `fail`: waits this long instead of the backoff.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub retry_in: Option<Span<'a>>,
    /// `extend`: the lease runs this long from now, 100 ms to 1 h.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Span<'a>>,
    /// `snooze`: again after this.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span<'a>>,
    /// `progress`: 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// `progress`: in words.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Text<'a>>,
    /// `checkpoint`: handed to the next attempt, any JSON up to 1 MiB.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value, required = false))]
    pub value: Option<&'a RawValue>,
    /// `log`: appended to the attempt's lines.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<Text<'a>>>,
}

/// Why an attempt failed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OpError<'a> {
    /// For people.
    #[serde(borrow)]
    pub message: Text<'a>,
    /// The handler's own word for the class of error.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Text<'a>>,
    /// Whether trying again can help; yes unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
}

impl<'a> From<AttemptError<'a>> for OpError<'a> {
    fn from(error: AttemptError<'a>) -> OpError<'a> {
        OpError { message: error.message, kind: error.kind, retryable: None }
    }
}

impl<'a> SettleOp<'a> {
    fn named(op: &'static str, id: impl Into<Text<'a>>, fencing_token: u64) -> SettleOp<'a> {
        SettleOp { op: Text::from(op), id: id.into(), fencing_token, ..SettleOp::default() }
    }

    /// It is done.
    pub fn complete(id: impl Into<Text<'a>>, fencing_token: u64, result: Option<&'a RawValue>) -> Self {
        SettleOp { result, ..SettleOp::named("complete", id, fencing_token) }
    }

    /// It went wrong.
    pub fn fail(
        id: impl Into<Text<'a>>,
        fencing_token: u64,
        error: OpError<'a>,
        retry_in: Option<Span<'a>>,
    ) -> Self {
        SettleOp { error: Some(error), retry_in, ..SettleOp::named("fail", id, fencing_token) }
    }

    /// Again later, at no cost.
    pub fn snooze(id: impl Into<Text<'a>>, fencing_token: u64, delay: Span<'a>) -> Self {
        SettleOp { delay: Some(delay), ..SettleOp::named("snooze", id, fencing_token) }
    }

    /// Given back, at no cost.
    pub fn release(id: impl Into<Text<'a>>, fencing_token: u64) -> Self {
        SettleOp::named("release", id, fencing_token)
    }

    /// Still at it.
    pub fn extend(id: impl Into<Text<'a>>, fencing_token: u64, lease: Span<'a>) -> Self {
        SettleOp { lease: Some(lease), ..SettleOp::named("extend", id, fencing_token) }
    }

    /// How far it is.
    pub fn progress(
        id: impl Into<Text<'a>>,
        fencing_token: u64,
        percent: Option<u8>,
        message: Option<Text<'a>>,
    ) -> Self {
        SettleOp { percent, message, ..SettleOp::named("progress", id, fencing_token) }
    }

    /// For the next attempt.
    pub fn checkpoint(id: impl Into<Text<'a>>, fencing_token: u64, value: &'a RawValue) -> Self {
        SettleOp { value: Some(value), ..SettleOp::named("checkpoint", id, fencing_token) }
    }

    /// Log lines.
    pub fn log(id: impl Into<Text<'a>>, fencing_token: u64, lines: Vec<Text<'a>>) -> Self {
        SettleOp { lines: Some(lines), ..SettleOp::named("log", id, fencing_token) }
    }
}

/// The answer to [`SettleRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Settled<'a> {
    /// One per op, in order.
    #[serde(borrow)]
    pub results: Vec<SettleResult<'a>>,
}

/// What became of one op.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SettleResult<'a> {
    /// Whether it was done. If not, `code` and `detail` say why.
    pub ok: bool,
    /// The job's state afterwards; for a repeated end, that of the first answer. If refused: its state,
    /// where that is the reason.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Text<'a>>,
    /// A cancel was asked for: stop. Whatever end is said is `cancelled`, unless it is `complete`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
    /// The server hands out no more leases: finish what you hold, and poll another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
    /// Until when the lease runs now, while it does.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Text<'a>>,
    /// Why it was refused.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Text<'a>>,
    /// What happened this time.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Text<'a>>,
    /// The member that is wrong.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Text<'a>>,
}
