//! The pages of `docs/errors/`, carried along.

use onefold_wire::ErrorCode;

/// What happened, why, and what to do.
pub(crate) fn page(code: ErrorCode) -> &'static str {
    macro_rules! page {
        ($code:literal) => {
            include_str!(concat!("../../../docs/errors/", $code, ".md"))
        };
    }
    match code {
        ErrorCode::InvalidJson => page!("invalid-json"),
        ErrorCode::InvalidUtf8 => page!("invalid-utf8"),
        ErrorCode::NestingTooDeep => page!("nesting-too-deep"),
        ErrorCode::DuplicateMember => page!("duplicate-member"),
        ErrorCode::IncompleteBody => page!("incomplete-body"),
        ErrorCode::InvalidIdempotencyKey => page!("invalid-idempotency-key"),
        ErrorCode::InvalidUrl => page!("invalid-url"),
        ErrorCode::MalformedRequest => page!("malformed-request"),
        ErrorCode::Unauthorized => page!("unauthorized"),
        ErrorCode::HostNotAllowed => page!("host-not-allowed"),
        ErrorCode::OriginNotAllowed => page!("origin-not-allowed"),
        ErrorCode::RouteNotFound => page!("route-not-found"),
        ErrorCode::JobNotFound => page!("job-not-found"),
        ErrorCode::QueueNotFound => page!("queue-not-found"),
        ErrorCode::KeyNotFound => page!("key-not-found"),
        ErrorCode::MethodNotAllowed => page!("method-not-allowed"),
        ErrorCode::RequestTimeout => page!("request-timeout"),
        ErrorCode::DuplicateKey => page!("duplicate-key"),
        ErrorCode::KeyTaken => page!("key-taken"),
        ErrorCode::VersionStale => page!("version-stale"),
        ErrorCode::LeaseLost => page!("lease-lost"),
        ErrorCode::QueueNotEmpty => page!("queue-not-empty"),
        ErrorCode::JobStarted => page!("job-started"),
        ErrorCode::JobFinished => page!("job-finished"),
        ErrorCode::JobNotFinished => page!("job-not-finished"),
        ErrorCode::JobNotRetryable => page!("job-not-retryable"),
        ErrorCode::RetryWindowPassed => page!("retry-window-passed"),
        ErrorCode::AtomicBatch => page!("atomic-batch"),
        ErrorCode::JobDead => page!("job-dead"),
        ErrorCode::JobCancelled => page!("job-cancelled"),
        ErrorCode::PayloadTooLarge => page!("payload-too-large"),
        ErrorCode::RequestTooLarge => page!("request-too-large"),
        ErrorCode::ResultTooLarge => page!("result-too-large"),
        ErrorCode::CheckpointTooLarge => page!("checkpoint-too-large"),
        ErrorCode::TooManyItems => page!("too-many-items"),
        ErrorCode::UnsupportedMediaType => page!("unsupported-media-type"),
        ErrorCode::KeyReused => page!("key-reused"),
        ErrorCode::UnknownField => page!("unknown-field"),
        ErrorCode::MissingField => page!("missing-field"),
        ErrorCode::InvalidField => page!("invalid-field"),
        ErrorCode::ConflictingFields => page!("conflicting-fields"),
        ErrorCode::InvalidQueueName => page!("invalid-queue-name"),
        ErrorCode::InvalidKey => page!("invalid-key"),
        ErrorCode::InvalidFingerprint => page!("invalid-fingerprint"),
        ErrorCode::InvalidDuration => page!("invalid-duration"),
        ErrorCode::InvalidTime => page!("invalid-time"),
        ErrorCode::InvalidBackoff => page!("invalid-backoff"),
        ErrorCode::InvalidHeader => page!("invalid-header"),
        ErrorCode::InvalidCursor => page!("invalid-cursor"),
        ErrorCode::IdempotencyKeyOnArray => page!("idempotency-key-on-array"),
        ErrorCode::NoDeliverer => page!("no-deliverer"),
        ErrorCode::NotYet => page!("not-yet"),
        ErrorCode::HeadTooLarge => page!("head-too-large"),
        ErrorCode::Internal => page!("internal"),
        ErrorCode::StoreDamaged => page!("store-damaged"),
        ErrorCode::NotSupported => page!("not-supported"),
        ErrorCode::NotReady => page!("not-ready"),
        ErrorCode::DiskFull => page!("disk-full"),
        ErrorCode::StoreStopped => page!("store-stopped"),
        ErrorCode::Busy => page!("busy"),
        ErrorCode::Closing => page!("closing"),
        ErrorCode::OutcomeUnknown => page!("outcome-unknown"),
        ErrorCode::TokensExhausted => page!("tokens-exhausted"),
        // Only codes of a newer wire crate than this was built with.
        _ => "",
    }
}
