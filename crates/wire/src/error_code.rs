//! Why something was refused, as a word that never changes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $title:literal;)+) => {
        /// Why something was refused. The word, [`ErrorCode::as_str`], never changes; what to do
        /// about it stands in `docs/errors/` under that word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode { $($(#[$doc])* $variant,)+ }

        impl ErrorCode {
            /// Every code, in order of status.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)+];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$variant => $code,)+ }
            }

            /// The HTTP status it is answered with.
            pub const fn status(self) -> u16 {
                match self { $(ErrorCode::$variant => $status,)+ }
            }

            /// The same sentence whenever it occurs.
            pub const fn title(self) -> &'static str {
                match self { $(ErrorCode::$variant => $title,)+ }
            }

            /// Where the server tells what to do about it: a problem's `type`.
            pub const fn page(self) -> &'static str {
                match self { $(ErrorCode::$variant => concat!("/errors/", $code),)+ }
            }

            /// The code spelled `word`; `None` for one of a newer server.
            pub fn parse(word: &str) -> Option<ErrorCode> {
                match word { $($code => Some(ErrorCode::$variant),)+ _ => None }
            }
        }
    };
}

codes! {
    /// Not JSON.
    InvalidJson = "invalid-json", 400, "The body is not JSON";
    /// Not UTF-8.
    InvalidUtf8 = "invalid-utf8", 400, "The body is not UTF-8";
    /// Too many arrays and objects inside each other.
    NestingTooDeep = "nesting-too-deep", 400, "The JSON is nested too deep";
    /// A name twice in one object.
    DuplicateMember = "duplicate-member", 400, "Two members of one object have the same name";
    /// The connection ended before the body did.
    IncompleteBody = "incomplete-body", 400, "The body did not arrive";
    /// An `Idempotency-Key` header that cannot be read, or two of them.
    InvalidIdempotencyKey = "invalid-idempotency-key", 400, "The Idempotency-Key header cannot be read";
    /// A path or query that cannot be decoded.
    InvalidUrl = "invalid-url", 400, "The URL cannot be read";
    /// Not HTTP/1.1, or a request that could be read in two ways.
    MalformedRequest = "malformed-request", 400, "This is not a request that can be read in one way";
    /// No token, or not the right one.
    Unauthorized = "unauthorized", 401, "A valid token is needed";
    /// Without a token only this machine is served, by its own name.
    HostNotAllowed = "host-not-allowed", 403, "Only this machine is served without a token";
    /// A page of another site.
    OriginNotAllowed = "origin-not-allowed", 403, "Pages of other sites are not served without a token";
    /// No such route.
    RouteNotFound = "route-not-found", 404, "There is no such route";
    /// No such job, or no longer.
    JobNotFound = "job-not-found", 404, "There is no such job";
    /// No such queue.
    QueueNotFound = "queue-not-found", 404, "There is no such queue";
    /// No such schedule.
    ScheduleNotFound = "schedule-not-found", 404, "There is no such schedule";
    /// Nobody holds the key.
    KeyNotFound = "key-not-found", 404, "No job holds the key";
    /// No such effect, or no longer.
    EffectNotFound = "effect-not-found", 404, "There is no such effect";
    /// The route has other methods.
    MethodNotAllowed = "method-not-allowed", 405, "The route does not have this method";
    /// The head or the body came too slowly.
    RequestTimeout = "request-timeout", 408, "The request came too slowly";
    /// `on_duplicate: reject`, and the key is held.
    DuplicateKey = "duplicate-key", 409, "The key is held by another job";
    /// The job's key was claimed by another job since it ended.
    KeyTaken = "key-taken", 409, "The job's key was taken by another job";
    /// An open transaction is using the key.
    KeyInProgress = "key-in-progress", 409, "An open transaction is using the key";
    /// An open transaction is changing the job.
    JobInProgress = "job-in-progress", 409, "An open transaction is changing the job";
    /// A `replace` with an older version than the job has.
    VersionStale = "version-stale", 409, "The job has a newer version";
    /// The token is not the job's current one.
    LeaseLost = "lease-lost", 409, "The lease is gone";
    /// Somebody is executing the effect.
    EffectInProgress = "effect-in-progress", 409, "The effect is being executed";
    /// Nobody knows whether the effect happened.
    EffectIndeterminate = "effect-indeterminate", 409, "Nobody knows whether the effect happened";
    /// Only indeterminate effects are resolved.
    EffectNotIndeterminate = "effect-not-indeterminate", 409, "The effect is not indeterminate";
    /// The queue still has unfinished jobs.
    QueueNotEmpty = "queue-not-empty", 409, "The queue has unfinished jobs";
    /// The last job of a schedule is unfinished, and its `overlap` is `skip`.
    ScheduleJobUnfinished = "schedule-job-unfinished", 409, "The last job of the schedule is unfinished";
    /// Only jobs that have not started can be edited.
    JobStarted = "job-started", 409, "The job has started";
    /// The job has ended already.
    JobFinished = "job-finished", 409, "The job is finished";
    /// Only finished jobs are deleted.
    JobNotFinished = "job-not-finished", 409, "The job is not finished";
    /// Only dead, cancelled and retrying jobs are retried.
    JobNotRetryable = "job-not-retryable", 409, "The job cannot be retried";
    /// Receivers may have forgotten the job's key.
    RetryWindowPassed = "retry-window-passed", 409, "The job is too old to be retried without risk";
    /// Another item of an atomic request was refused.
    AtomicBatch = "atomic-batch", 409, "Another item of the atomic request was refused";
    /// There is no result: the job is a dead letter.
    JobDead = "job-dead", 410, "The job is dead";
    /// There is no result: the job was cancelled.
    JobCancelled = "job-cancelled", 410, "The job was cancelled";
    /// A payload over the limit.
    PayloadTooLarge = "payload-too-large", 413, "The payload is too large";
    /// A body over the limit.
    RequestTooLarge = "request-too-large", 413, "The request is too large";
    /// A result over the limit.
    ResultTooLarge = "result-too-large", 413, "The result is too large";
    /// A checkpoint over the limit.
    CheckpointTooLarge = "checkpoint-too-large", 413, "The checkpoint is too large";
    /// More items than one request may have.
    TooManyItems = "too-many-items", 413, "The request has too many items";
    /// A body that is not `application/json`, or is compressed.
    UnsupportedMediaType = "unsupported-media-type", 415, "The body must be application/json";
    /// The key was used with another fingerprint.
    KeyReused = "key-reused", 422, "The key was used for something else";
    /// A member or parameter that is not known.
    UnknownField = "unknown-field", 422, "A field is not known";
    /// A member or parameter that must be there.
    MissingField = "missing-field", 422, "A field is missing";
    /// A value of the wrong type or out of range.
    InvalidField = "invalid-field", 422, "A field has a value it cannot have";
    /// Fields that cannot be given together.
    ConflictingFields = "conflicting-fields", 422, "Two fields cannot be given together";
    /// A queue name outside `[A-Za-z0-9._-]{1,128}`.
    InvalidQueueName = "invalid-queue-name", 422, "This cannot be the name of a queue";
    /// Not `[A-Za-z0-9._-]{1,128}`.
    InvalidScheduleId = "invalid-schedule-id", 422, "This cannot be the id of a schedule";
    /// A cron expression that cannot be read, or never ticks.
    InvalidCron = "invalid-cron", 422, "This is not a cron expression";
    /// Not a name of the IANA time zone database.
    InvalidTimeZone = "invalid-time-zone", 422, "There is no such time zone";
    /// A schedule that never ticks, or whose job has what only a tick may say.
    InvalidSchedule = "invalid-schedule", 422, "This cannot be a schedule";
    /// A key that is blank, too long or has control characters.
    InvalidKey = "invalid-key", 422, "This cannot be a key";
    /// A fingerprint of the caller's own that is empty or too long.
    InvalidFingerprint = "invalid-fingerprint", 422, "This cannot be a fingerprint";
    /// A duration that cannot be read, or is out of range.
    InvalidDuration = "invalid-duration", 422, "A duration cannot be used";
    /// A time that cannot be read.
    InvalidTime = "invalid-time", 422, "A time cannot be read";
    /// A backoff that cannot be followed.
    InvalidBackoff = "invalid-backoff", 422, "The backoff cannot be used";
    /// A header handed on with the job that HTTP cannot carry.
    InvalidHeader = "invalid-header", 422, "A header cannot be used";
    /// A cursor that was not given out for this list.
    InvalidCursor = "invalid-cursor", 422, "The cursor does not belong to this list";
    /// An `Idempotency-Key` header on an array.
    IdempotencyKeyOnArray = "idempotency-key-on-array", 422, "An array cannot have an Idempotency-Key header";
    /// A target or callback, and nobody who could deliver.
    NoDeliverer = "no-deliverer", 422, "There is nobody to deliver to HTTP targets";
    /// The URL or the method of a target is not one that can be delivered to.
    InvalidTarget = "invalid-target", 422, "A target that cannot be delivered to";
    /// Known, but not built yet.
    NotYet = "not-yet", 422, "This is not built yet";
    /// A request line and headers over the limit.
    HeadTooLarge = "head-too-large", 431, "The head of the request is too large";
    /// A mistake of ours.
    Internal = "internal", 500, "Something went wrong inside the server";
    /// What was read is not what was written.
    StoreDamaged = "store-damaged", 500, "Stored data is damaged";
    /// The engine cannot do it.
    NotSupported = "not-supported", 501, "This store cannot do that";
    /// New work is not welcome now, or not yet.
    NotReady = "not-ready", 503, "The server takes no new work now";
    /// The disk is full.
    DiskFull = "disk-full", 503, "The disk is full";
    /// Storage failed and the engine stopped.
    StoreStopped = "store-stopped", 503, "The store has stopped";
    /// Too much is waiting.
    Busy = "busy", 503, "Too many requests are waiting";
    /// The database cannot be reached, or refuses us.
    StoreUnavailable = "store-unavailable", 503, "The store cannot be used now";
    /// The server is being shut down.
    Closing = "closing", 503, "The server is shutting down";
    /// A commit whose outcome is unknown.
    OutcomeUnknown = "outcome-unknown", 503, "The outcome is unknown";
    /// The store has handed out every fencing token there is.
    TokensExhausted = "tokens-exhausted", 503, "The store has no fencing tokens left";
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ErrorCode, D::Error> {
        let word = crate::Text::deserialize(deserializer)?;
        ErrorCode::parse(&word).ok_or_else(|| serde::de::Error::custom(format!("no error code {:?}", &*word)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own_kebab_case_word_with_an_error_status() {
        let mut words: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        for (code, word) in ErrorCode::ALL.iter().zip(&words) {
            assert!(
                word.bytes().all(|b| b == b'-' || b.is_ascii_lowercase() || b.is_ascii_digit()),
                "{word}"
            );
            assert_eq!(ErrorCode::parse(word), Some(*code));
            assert_eq!(code.page(), format!("/errors/{word}"));
            assert!((400..600).contains(&code.status()));
        }
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), ErrorCode::ALL.len());
    }
}
