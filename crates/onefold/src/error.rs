//! What can go wrong, with a stable code each: those the HTTP API answers with.

use onefold_core::{DeadReason, EffectRefusal, EngineError, InvalidName, JobId, Refusal, State};
use thiserror::Error;

pub use onefold_wire::ErrorCode;

use crate::local_code;

/// Why something did not happen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The store refused it; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store refused something about an effect.
    #[error(transparent)]
    Effect(#[from] EffectRefusal),
    /// The store as a whole could not do it.
    #[error(transparent)]
    Store(#[from] EngineError),
    /// It was not even sent: something about it is not allowed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The job whose result was asked for is a dead letter.
    #[error("{id} is dead ({reason}): there is no result")]
    JobDead {
        /// The job.
        id: JobId,
        /// Why.
        reason: DeadReason,
    },
    /// The job whose result was asked for was cancelled.
    #[error("{id} was cancelled: there is no result")]
    JobCancelled {
        /// The job.
        id: JobId,
    },
    /// What was stored cannot be read as the type that was asked for.
    #[error("the stored value does not have the type that was asked for: {0}")]
    Mistyped(String),
    /// The server could not be reached: it has not heard of the call, or the call only reads.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// The server refused the call in a way that has no variant here.
    #[error("{detail} ({code})")]
    Answered {
        /// The stable word for why; it may be one of a newer server.
        code: String,
        /// The HTTP status.
        status: u16,
        /// What happened this time.
        detail: String,
    },
}

/// Why something was not sent to the store.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Invalid {
    /// The name of a queue, a key, a group, a kind, a label or a worker.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The value has no JSON form.
    #[error("the value cannot be written as JSON: {0}")]
    Unserializable(String),
    /// Outside its range, or not well formed.
    #[error("{what} {rule}")]
    Value {
        /// The stable word for it.
        code: ErrorCode,
        /// What.
        what: &'static str,
        /// What it has to be.
        rule: String,
    },
}

impl Invalid {
    pub(crate) fn value(what: &'static str, rule: impl Into<String>) -> Invalid {
        Invalid::coded(ErrorCode::InvalidField, what, rule)
    }

    pub(crate) fn coded(code: ErrorCode, what: &'static str, rule: impl Into<String>) -> Invalid {
        Invalid::Value { code, what, rule: rule.into() }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Invalid::Name(InvalidName::Queue) => ErrorCode::InvalidQueueName,
            Invalid::Name(
                InvalidName::Blank { what: "key" }
                | InvalidName::TooLong { what: "key", .. }
                | InvalidName::Control { what: "key" },
            ) => ErrorCode::InvalidKey,
            Invalid::Name(_) => ErrorCode::InvalidField,
            Invalid::Unserializable(_) => ErrorCode::InvalidJson,
            Invalid::Value { code, .. } => *code,
        }
    }
}

impl From<InvalidName> for Error {
    fn from(error: InvalidName) -> Error {
        Error::Invalid(error.into())
    }
}

impl Error {
    /// The stable word for what went wrong, the same for an embedded store and a server's. Beside
    /// those of the HTTP API there are `mistyped` and `unreachable`. What to do about each stands in
    /// `docs/errors/`.
    pub fn code(&self) -> &str {
        match self {
            Error::Refused(refusal) => refusal_code(refusal).as_str(),
            Error::Effect(refusal) => effect_code(refusal).as_str(),
            Error::Store(error) => store_code(error).as_str(),
            Error::Invalid(invalid) => invalid.code().as_str(),
            Error::JobDead { .. } => ErrorCode::JobDead.as_str(),
            Error::JobCancelled { .. } => ErrorCode::JobCancelled.as_str(),
            Error::Mistyped(_) => local_code::MISTYPED,
            Error::Unreachable(_) => local_code::UNREACHABLE,
            Error::Answered { code, .. } => code,
        }
    }

    pub(crate) fn lease_lost() -> Error {
        Error::Refused(Refusal::LeaseLost { state: State::Running })
    }

    /// Whether the same call may succeed later, whatever is in it.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Error::Store(error) => {
                matches!(
                    error,
                    EngineError::DiskFull
                        | EngineError::Busy
                        | EngineError::Unavailable(_)
                        | EngineError::OutcomeUnknown
                )
            }
            Error::Unreachable(_) => true,
            Error::Answered { status, .. } => matches!(status, 408 | 429 | 502..=504),
            Error::Refused(_)
            | Error::Effect(_)
            | Error::Invalid(_)
            | Error::JobDead { .. }
            | Error::JobCancelled { .. }
            | Error::Mistyped(_) => false,
        }
    }

    /// Whether it is about some of what is stored only, and the rest may still be served.
    pub(crate) fn is_partial(&self) -> bool {
        match self {
            Error::Store(error) => matches!(error, EngineError::Corrupt(_) | EngineError::Io(_)),
            Error::Answered { status, .. } => *status == 500,
            _ => false,
        }
    }

    /// Whether nothing will succeed any more, whatever is in the call.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Error::Store(error) => {
                matches!(error, EngineError::Closed | EngineError::Poisoned(_) | EngineError::TokensExhausted)
            }
            Error::Answered { status, .. } => matches!(status, 401 | 403),
            _ => false,
        }
    }
}

fn refusal_code(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::KeyReused { .. } => ErrorCode::KeyReused,
        Refusal::DuplicateKey { .. } => ErrorCode::DuplicateKey,
        Refusal::VersionStale { .. } => ErrorCode::VersionStale,
        Refusal::KeyTaken { .. } => ErrorCode::KeyTaken,
        Refusal::KeyInProgress => ErrorCode::KeyInProgress,
        Refusal::JobInProgress => ErrorCode::JobInProgress,
        Refusal::AtomicBatch { .. } => ErrorCode::AtomicBatch,
        Refusal::LeaseLost { .. } => ErrorCode::LeaseLost,
        Refusal::JobNotFound => ErrorCode::JobNotFound,
        Refusal::QueueNotFound => ErrorCode::QueueNotFound,
        Refusal::QueueNotEmpty { .. } => ErrorCode::QueueNotEmpty,
        Refusal::ScheduleNotFound => ErrorCode::ScheduleNotFound,
        Refusal::ScheduleJobUnfinished { .. } => ErrorCode::ScheduleJobUnfinished,
        Refusal::JobStarted { .. } => ErrorCode::JobStarted,
        Refusal::JobFinished { .. } => ErrorCode::JobFinished,
        Refusal::JobNotFinished { .. } => ErrorCode::JobNotFinished,
        Refusal::JobNotRetryable { .. } => ErrorCode::JobNotRetryable,
        Refusal::RetryWindowPassed { .. } => ErrorCode::RetryWindowPassed,
    }
}

fn effect_code(refusal: &EffectRefusal) -> ErrorCode {
    match refusal {
        EffectRefusal::KeyReused { .. } => ErrorCode::KeyReused,
        EffectRefusal::InProgress { .. } => ErrorCode::EffectInProgress,
        EffectRefusal::Indeterminate => ErrorCode::EffectIndeterminate,
        EffectRefusal::LeaseLost { .. } => ErrorCode::LeaseLost,
        EffectRefusal::NotIndeterminate { .. } => ErrorCode::EffectNotIndeterminate,
        EffectRefusal::NotFound => ErrorCode::EffectNotFound,
        EffectRefusal::JobInProgress => ErrorCode::JobInProgress,
        EffectRefusal::JobNotFound => ErrorCode::JobNotFound,
    }
}

fn store_code(error: &EngineError) -> ErrorCode {
    match error {
        EngineError::DiskFull => ErrorCode::DiskFull,
        EngineError::Poisoned(_) => ErrorCode::StoreStopped,
        EngineError::Corrupt(_) => ErrorCode::StoreDamaged,
        EngineError::Busy => ErrorCode::Busy,
        EngineError::Unavailable(_) => ErrorCode::StoreUnavailable,
        EngineError::Closed => ErrorCode::Closing,
        EngineError::OutcomeUnknown => ErrorCode::OutcomeUnknown,
        EngineError::TokensExhausted => ErrorCode::TokensExhausted,
        EngineError::Io(_) => ErrorCode::Internal,
    }
}
