//! Every limit and default, each with its unit, in one place. A test stands at each limit and
//! one above it where the limit is enforced.

use crate::DurationMs;

const fn seconds(n: u64) -> DurationMs {
    DurationMs::from_ms(n * 1000)
}
const fn days(n: u64) -> DurationMs {
    seconds(n * 86_400)
}

/// Characters of a queue name.
pub const QUEUE_NAME_CHARS_MAX: usize = 128;
/// Unicode scalars of a key or group.
pub const KEY_CHARS_MAX: usize = 255;
/// Unicode scalars of a kind.
pub const KIND_CHARS_MAX: usize = 128;
/// Unicode scalars of a label.
pub const LABEL_CHARS_MAX: usize = 64;
/// Labels of a job.
pub const LABELS_MAX: usize = 16;
/// Headers of a job.
pub const HEADERS_MAX: usize = 64;
/// Bytes of one header, name and value together.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a payload unless configured otherwise.
pub const PAYLOAD_BYTES_DEFAULT: usize = 1024 * 1024;
/// Bytes of a payload at the most.
pub const PAYLOAD_BYTES_MAX: usize = 50 * 1024 * 1024;
/// Bytes of a request body, or twice the payload limit if that is more.
pub const REQUEST_BYTES_DEFAULT: usize = 16 * 1024 * 1024;
/// Nesting of JSON.
pub const JSON_DEPTH_MAX: usize = 128;
/// Jobs of one add request.
pub const ADD_JOBS_MAX: usize = 10_000;
/// Operations of one settle request.
pub const SETTLE_OPS_MAX: usize = 10_000;
/// Jobs of one lease request.
pub const LEASE_JOBS_MAX: u32 = 1_000;
/// Queues of one lease request.
pub const LEASE_QUEUES_MAX: usize = 1_000;
/// Bytes of payloads and checkpoints of one lease reply; its first job is always handed out.
pub const LEASE_REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a result.
pub const RESULT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a checkpoint.
pub const CHECKPOINT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of an error message; longer ones are cut at a character.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 8 * 1024;
/// Log lines kept of one attempt: the last ones.
pub const LOG_LINES_MAX: usize = 100;
/// Bytes of one log line; longer ones are cut at a character.
pub const LOG_LINE_BYTES_MAX: usize = 1024;
/// Bytes of a poll id.
pub const POLL_ID_BYTES_MAX: usize = 64;
/// Repeated evidence kept on one job: the first and the last of each kind.
pub const EVIDENCE_KEPT: u32 = 20;
/// Attempts a job may be given.
pub const MAX_ATTEMPTS_MAX: u32 = 1_000;
/// Entries of a backoff list.
pub const BACKOFF_LIST_MAX: usize = 1_000;
/// Jobs of one page of a list.
pub const LIST_JOBS_MAX: u32 = 1_000;
/// Jobs of one page of a list unless asked otherwise.
pub const LIST_JOBS_DEFAULT: u32 = 100;
/// Rows one page of a list may look at.
pub const LIST_ROWS_SCANNED_MAX: u32 = 20_000;
/// Jobs one redrive moves at the most.
pub const REDRIVE_JOBS_MAX: u32 = 10_000;
/// Running jobs a queue may be limited to.
pub const CONCURRENCY_MAX: u32 = 1_000_000;
/// Leases a rate may allow in its time.
pub const RATE_LIMIT_MAX: u32 = 1_000_000;

/// Shortest time of a rate.
pub const RATE_PER_MIN: DurationMs = DurationMs::from_ms(100);
/// Longest time of a rate.
pub const RATE_PER_MAX: DurationMs = days(31);

/// Effects of a job that are shown with it.
pub const EFFECTS_SHOWN_MAX: u32 = 1_000;
/// Effects of one page of a list.
pub const LIST_EFFECTS_MAX: u32 = 1_000;
/// Bytes of the note an indeterminate effect is resolved with.
pub const RESOLVE_NOTE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of the id of a call that begins an effect.
pub const BEGIN_ID_BYTES_MAX: usize = 64;
/// How long a standalone effect is kept after its end unless asked otherwise.
pub const EFFECT_TTL: DurationMs = days(7);
/// Shortest time a standalone effect is kept.
pub const EFFECT_TTL_MIN: DurationMs = seconds(1);
/// When to begin an effect again that the same attempt is executing.
pub const EFFECT_RETRY_AFTER: DurationMs = seconds(1);
/// Length of a lease unless asked otherwise.
pub const LEASE_DEFAULT: DurationMs = seconds(30);
/// Shortest lease.
pub const LEASE_MIN: DurationMs = DurationMs::from_ms(100);
/// Longest lease.
pub const LEASE_MAX: DurationMs = seconds(3600);
/// How long a poll or a wait for a result may park.
pub const WAIT_MAX: DurationMs = seconds(60);
/// How often an SDK heartbeats.
pub const HEARTBEAT: DurationMs = seconds(10);
/// Hard attempt limit: `timeout` unless given.
pub const ATTEMPT_TIMEOUT: DurationMs = seconds(15 * 60);
/// Deadline of one HTTP delivery unless given.
pub const DELIVERY_TIMEOUT: DurationMs = seconds(30);
/// What the hard limit of an attempt leaves a delivery beside its deadline: the wait for its turn, and writing it down.
pub const DELIVERY_MARGIN: DurationMs = seconds(30);
/// Longest deadline of one HTTP delivery.
pub const DELIVERY_TIMEOUT_MAX: DurationMs = seconds(3600);
/// Failures and lost leases together that end a job.
pub const MAX_ATTEMPTS: u32 = 20;
/// Lost leases within [`CRASH_LOOP_WINDOW`] that are still borne.
pub const CRASH_LOOP_LOSSES: usize = 5;
/// See [`CRASH_LOOP_LOSSES`].
pub const CRASH_LOOP_WINDOW: DurationMs = days(1);
/// How long a key is held after acceptance.
pub const DEDUP_WINDOW: DurationMs = days(7);
/// How long a request's identity (an `Idempotency-Key` beside a key) is remembered.
pub const REQUEST_IDENTITY_WINDOW: DurationMs = days(1);
/// The least a job may be retried for, from its first start.
pub const RETRY_FOR_MIN: DurationMs = days(7);
/// A receiver's wish to be retried later counts up to this.
pub const RETRY_AFTER_MAX: DurationMs = days(1);
/// How long the first answer to an end of an attempt is repeated, at the least (I6).
pub const FINISH_REPLAY: DurationMs = days(1);
/// How long events can be resumed.
pub const EVENTS_KEPT: DurationMs = days(1);
/// Completed jobs are kept this long.
pub const RETAIN_COMPLETED: DurationMs = days(7);
/// Cancelled jobs are kept this long.
pub const RETAIN_CANCELLED: DurationMs = days(30);
/// Dead jobs are kept this long.
pub const RETAIN_DEAD: DurationMs = days(90);
/// First wait of the default backoff.
pub const BACKOFF_BASE: DurationMs = seconds(5);
/// Longest wait of the default backoff.
pub const BACKOFF_MAX: DurationMs = seconds(6 * 3600);
/// A difference between wall and monotonic clock that counts as a step of the wall clock.
pub const CLOCK_STEP: DurationMs = seconds(2);
