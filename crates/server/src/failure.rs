//! Every way a request fails, as a problem document.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use onefold_core::canonical::{CanonicalError, CanonicalErrorKind};
use onefold_core::{EffectRefusal, EffectState, EngineError, JobId, NotAllowed, Refusal, State};
use onefold_wire::{ErrorCode, Fault, Problem, ReadError};

/// Why a request, or one item of it, was refused.
#[derive(Debug, Clone)]
pub(crate) struct Failure(pub(crate) Box<Problem>);

/// What a handler returns.
pub(crate) type Answer = Result<Response, Failure>;

impl Failure {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Failure {
        Failure(Box::new(Problem::new(code, detail)))
    }

    /// A member or parameter that is wrong.
    pub(crate) fn field(code: ErrorCode, field: impl Into<String>, why: impl std::fmt::Display) -> Failure {
        let field = field.into();
        let mut failure = Failure::new(code, format!("`{field}`: {why}"));
        failure.0.field = Some(field);
        failure
    }

    /// A member or parameter that is not known.
    pub(crate) fn unknown(field: impl Into<String>) -> Failure {
        Failure::field(
            ErrorCode::UnknownField,
            field,
            "there is no such field here; check its spelling, or leave it out",
        )
    }

    /// A member that must be there.
    pub(crate) fn missing(field: impl Into<String>) -> Failure {
        Failure::field(ErrorCode::MissingField, field, "this must be given")
    }

    /// Two members of which only one can be given.
    pub(crate) fn conflict(field: impl Into<String>, other: &str) -> Failure {
        Failure::field(ErrorCode::ConflictingFields, field, format_args!("give this or `{other}`, not both"))
    }

    /// JSON that was refused when its content was looked at.
    pub(crate) fn json(field: &str, error: CanonicalError) -> Failure {
        let code = match error.kind {
            CanonicalErrorKind::NotUtf8 => ErrorCode::InvalidUtf8,
            CanonicalErrorKind::TooDeep { .. } => ErrorCode::NestingTooDeep,
            CanonicalErrorKind::DuplicateName => ErrorCode::DuplicateMember,
            _ => ErrorCode::InvalidJson,
        };
        if field.is_empty() {
            Failure::new(code, error.to_string())
        } else {
            Failure::field(code, field, error)
        }
    }

    /// A member that breaks a rule of the core.
    pub(crate) fn not_allowed(field: impl Into<String>, why: NotAllowed) -> Failure {
        let code = match why {
            NotAllowed::Labels | NotAllowed::MediaType | NotAllowed::Number { .. } => ErrorCode::InvalidField,
            NotAllowed::Header(_) => ErrorCode::InvalidHeader,
            NotAllowed::PayloadTooLarge { .. } => ErrorCode::PayloadTooLarge,
            NotAllowed::Json(error) => return Failure::json(&field.into(), error),
            NotAllowed::Timeout | NotAllowed::RatePer => ErrorCode::InvalidDuration,
            NotAllowed::Backoff(_) => ErrorCode::InvalidBackoff,
            NotAllowed::OnlyReplace { .. } => ErrorCode::ConflictingFields,
        };
        Failure::field(code, field, why)
    }

    pub(crate) fn internal(detail: impl Into<Cow<'static, str>>) -> Failure {
        Failure::new(ErrorCode::Internal, detail)
    }

    pub(crate) fn job_not_found() -> Failure {
        Refusal::JobNotFound.into()
    }

    pub(crate) fn queue_not_found() -> Failure {
        Refusal::QueueNotFound.into()
    }

    pub(crate) fn schedule_not_found() -> Failure {
        Refusal::ScheduleNotFound.into()
    }

    /// The same of a member of `outer`.
    pub(crate) fn within(mut self, outer: &str) -> Failure {
        if let Some(field) = &self.0.field {
            let whole = format!("{outer}.{field}");
            self.0.detail = self.0.detail.replacen(&format!("`{field}`"), &format!("`{whole}`"), 1).into();
            self.0.field = Some(whole);
        }
        self
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.0.error_code().unwrap_or(ErrorCode::Internal)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        let code = match error.fault {
            Fault::Syntax(_) => ErrorCode::InvalidJson,
            Fault::UnknownField => ErrorCode::UnknownField,
            Fault::MissingField => ErrorCode::MissingField,
            Fault::DuplicateField => ErrorCode::DuplicateMember,
            Fault::Invalid(_) => ErrorCode::InvalidField,
            Fault::TooMany => ErrorCode::TooManyItems,
        };
        let mut failure = Failure::new(code, error.to_string());
        failure.0.field = Some(error.field()).filter(|field| !field.is_empty());
        failure
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let (code, about) = told(&refusal);
        let mut failure = Failure::new(code, refusal.to_string());
        let problem = &mut failure.0;
        match about {
            About::Nothing => {}
            About::Existing(id) => problem.existing_id = Some(id.to_string()),
            About::State(state) => problem.state = Some(Cow::Borrowed(state.as_str())),
            About::Item(item) => problem.item = Some(item as u64),
            About::Unfinished(count) => problem.unfinished = Some(count),
            About::RetryUntil(until) => problem.retry_until = Some(until.to_string()),
        }
        failure
    }
}

enum About {
    Nothing,
    Existing(JobId),
    State(State),
    Item(usize),
    Unfinished(u64),
    RetryUntil(onefold_core::Timestamp),
}

fn told(refusal: &Refusal) -> (ErrorCode, About) {
    match refusal {
        Refusal::KeyReused { existing } => (ErrorCode::KeyReused, About::Existing(*existing)),
        Refusal::DuplicateKey { existing } => (ErrorCode::DuplicateKey, About::Existing(*existing)),
        Refusal::VersionStale { existing } => (ErrorCode::VersionStale, About::Existing(*existing)),
        Refusal::KeyTaken { by } => (ErrorCode::KeyTaken, About::Existing(*by)),
        Refusal::KeyInProgress => (ErrorCode::KeyInProgress, About::Nothing),
        Refusal::JobInProgress => (ErrorCode::JobInProgress, About::Nothing),
        Refusal::AtomicBatch { item } => (ErrorCode::AtomicBatch, About::Item(*item)),
        Refusal::LeaseLost { state } => (ErrorCode::LeaseLost, About::State(*state)),
        Refusal::JobNotFound => (ErrorCode::JobNotFound, About::Nothing),
        Refusal::QueueNotFound => (ErrorCode::QueueNotFound, About::Nothing),
        Refusal::QueueNotEmpty { unfinished } => (ErrorCode::QueueNotEmpty, About::Unfinished(*unfinished)),
        Refusal::ScheduleNotFound => (ErrorCode::ScheduleNotFound, About::Nothing),
        Refusal::ScheduleJobUnfinished { job } => (ErrorCode::ScheduleJobUnfinished, About::Existing(*job)),
        Refusal::JobStarted { state } => (ErrorCode::JobStarted, About::State(*state)),
        Refusal::JobFinished { state } => (ErrorCode::JobFinished, About::State(*state)),
        Refusal::JobNotFinished { state } => (ErrorCode::JobNotFinished, About::State(*state)),
        Refusal::JobNotRetryable { state } => (ErrorCode::JobNotRetryable, About::State(*state)),
        Refusal::RetryWindowPassed { until } => (ErrorCode::RetryWindowPassed, About::RetryUntil(*until)),
    }
}

impl From<EffectRefusal> for Failure {
    fn from(refusal: EffectRefusal) -> Failure {
        let code = match &refusal {
            EffectRefusal::KeyReused { .. } => ErrorCode::KeyReused,
            EffectRefusal::InProgress { .. } => ErrorCode::EffectInProgress,
            EffectRefusal::Indeterminate => ErrorCode::EffectIndeterminate,
            EffectRefusal::LeaseLost { .. } => ErrorCode::LeaseLost,
            EffectRefusal::NotIndeterminate { .. } => ErrorCode::EffectNotIndeterminate,
            EffectRefusal::NotFound => ErrorCode::EffectNotFound,
            EffectRefusal::JobInProgress => ErrorCode::JobInProgress,
            EffectRefusal::JobNotFound => ErrorCode::JobNotFound,
        };
        let mut failure = Failure::new(code, refusal.to_string());
        let problem = &mut failure.0;
        match refusal {
            EffectRefusal::KeyReused { job } => problem.existing_id = job.map(|id| id.to_string()),
            EffectRefusal::InProgress { retry_after } => problem.retry_after_ms = Some(retry_after.as_ms()),
            EffectRefusal::LeaseLost { job, effect } => {
                let state = job.map(State::as_str).or(effect.map(EffectState::as_str));
                problem.state = state.map(Cow::Borrowed);
            }
            EffectRefusal::NotIndeterminate { state } => problem.state = Some(Cow::Borrowed(state.as_str())),
            EffectRefusal::Indeterminate
            | EffectRefusal::NotFound
            | EffectRefusal::JobInProgress
            | EffectRefusal::JobNotFound => {}
        }
        failure
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        let code = match &error {
            EngineError::DiskFull => ErrorCode::DiskFull,
            EngineError::Poisoned(_) => ErrorCode::StoreStopped,
            EngineError::Corrupt(_) => ErrorCode::StoreDamaged,
            EngineError::Busy => ErrorCode::Busy,
            EngineError::Unavailable(_) => ErrorCode::StoreUnavailable,
            EngineError::Closed => ErrorCode::Closing,
            EngineError::OutcomeUnknown => ErrorCode::OutcomeUnknown,
            EngineError::TokensExhausted => ErrorCode::TokensExhausted,
            EngineError::Io(_) => ErrorCode::Internal,
        };
        match &error {
            EngineError::Poisoned(_)
            | EngineError::Corrupt(_)
            | EngineError::TokensExhausted
            | EngineError::Io(_) => {
                tracing::error!(code = code.as_str(), "{error}");
            }
            // Passing states that may meet every request; `/readyz` and `/metrics` tell of them, too.
            EngineError::DiskFull
            | EngineError::Busy
            | EngineError::Unavailable(_)
            | EngineError::Closed
            | EngineError::OutcomeUnknown => {
                tracing::debug!(code = code.as_str(), "{error}");
            }
        }
        Failure::new(code, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = self.code();
        let mut response = crate::answer::json(status(code), &self.0);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
        match code {
            ErrorCode::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"onefold\""));
            }
            ErrorCode::Busy
            | ErrorCode::Closing
            | ErrorCode::DiskFull
            | ErrorCode::StoreUnavailable
            | ErrorCode::KeyInProgress
            | ErrorCode::JobInProgress => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            ErrorCode::EffectInProgress => {
                let seconds = self.0.retry_after_ms.unwrap_or_default().div_ceil(1_000).max(1);
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            _ => {}
        }
        response
    }
}

fn status(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
