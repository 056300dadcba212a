//! Queues: looking at them and their settings.

use serde::{Deserialize, Serialize};

use crate::{Backoff, Span, Text, present};

/// `PUT /v1/queues/{queue}`: what is not given stays, `null` goes back to the default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::option_option, reason = "absent, null and a value are three different wishes")]
pub struct QueuePatch<'a> {
    /// Nothing is leased while set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// At most this many jobs run at once.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Option<u32>>,
    /// At most so many leases begin in a time.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub rate: Option<Option<Rate<'a>>>,
    /// What the head of a group does to those behind it.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub group_policy: Option<Option<GroupPolicy<'a>>>,
    /// For jobs that do not say.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub retry: Option<Option<Retry<'a>>>,
    /// How long keys are held, for jobs that do not say.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub dedup_window: Option<Option<Span<'a>>>,
    /// How long finished jobs are kept.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub retention: Option<Option<Retention<'a>>>,
}

/// At most so many in any stretch of time of a length, wherever it begins.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Rate<'a> {
    /// How many.
    pub limit: u32,
    /// How long, 100 ms to 31 d.
    #[serde(borrow)]
    pub per: Span<'a>,
}

/// What the head of a group does to those behind it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::option_option, reason = "absent, null and a value are three different wishes")]
pub struct GroupPolicy<'a> {
    /// While it is delayed, retrying or snoozed: `hold` (default) or `skip`.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub head: Option<Option<Text<'a>>>,
    /// Once it is dead or cancelled: `continue` (default) or `block`.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub on_dead: Option<Option<Text<'a>>>,
}

/// How jobs that do not say it are tried again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::option_option, reason = "absent, null and a value are three different wishes")]
pub struct Retry<'a> {
    /// Failures and lost leases that end a job.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<Option<u32>>,
    /// How long it waits after failures.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Option<Backoff<'a>>>,
}

/// How long finished jobs are kept, with their attempts and results.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::option_option, reason = "absent, null and a value are three different wishes")]
pub struct Retention<'a> {
    /// Completed ones: 7 d unless given.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub completed: Option<Option<Span<'a>>>,
    /// Cancelled ones: 30 d unless given.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<Option<Span<'a>>>,
    /// Dead ones: 90 d unless given.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub dead: Option<Option<Span<'a>>>,
}

/// A queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Queue<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// Nothing is leased while set.
    pub paused: bool,
    /// At most this many jobs run at once; absent: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// At most so many leases begin in a time; absent: any number.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate<'a>>,
    /// What the head of a group does to those behind it, as far as it was set.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub group_policy: Option<GroupPolicy<'a>>,
    /// For jobs that do not say, as far as it was set.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry<'a>>,
    /// How long keys are held, for jobs that do not say.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub dedup_window: Option<Span<'a>>,
    /// How long finished jobs are kept, as far as it was set.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention<'a>>,
    /// Its jobs.
    pub counts: QueueCounts,
    /// When the oldest available job was accepted.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub oldest_available_at: Option<Text<'a>>,
    /// How long ago that is, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_available_age_ms: Option<u64>,
}

/// How many jobs a queue has had and what became of them:
/// `accepted = scheduled + available + running + retrying + completed + dead + cancelled + purged`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct QueueCounts {
    /// Ever accepted.
    pub accepted: u64,
    /// Waiting for their time.
    pub scheduled: u64,
    /// Available, leasable or not.
    pub available: u64,
    /// Leased.
    pub running: u64,
    /// Waiting for their backoff.
    pub retrying: u64,
    /// Kept as completed.
    pub completed: u64,
    /// Kept as dead.
    pub dead: u64,
    /// Kept as cancelled.
    pub cancelled: u64,
    /// Deleted, by retention or by request.
    pub purged: u64,
    /// Of `purged`: because their retention was over.
    pub purged_retention: u64,
    /// Of `purged`: by request.
    pub purged_deleted: u64,
    /// Adds answered with an earlier job.
    pub duplicates: u64,
    /// Adds refused because of a different fingerprint.
    pub mismatches: u64,
    /// Writes refused because of an old token.
    pub late_writes: u64,
}

/// `GET /v1/queues`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueueList<'a> {
    /// All queues, by name.
    #[serde(borrow)]
    pub queues: Vec<Queue<'a>>,
}

/// `DELETE /v1/queues/{queue}`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeletedQueue {
    /// Jobs that went with it.
    pub jobs: u64,
}
