//! What a handler may say instead of success.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use onefold_core::{DurationMs, End, JobError, limits, rules};
use serde::Serialize;

use crate::time::to_ms;

/// An error of any type, or a sentence.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// Why a handler did not succeed, and what should happen to the job.
///
/// `?` turns any error into a failure that is tried again after the job's backoff:
///
/// ```
/// use onefold::HandlerError;
/// fn handler(amount: &str) -> Result<u32, HandlerError> {
///     Ok(amount.parse()?)
/// }
/// assert!(handler("a lot").is_err());
/// ```
pub struct HandlerError {
    end: End,
}

impl HandlerError {
    /// It failed; it is tried again after the job's backoff, until its attempts are used up.
    pub fn retry(error: impl Into<BoxError>) -> HandlerError {
        HandlerError::fail(error.into(), true, None)
    }

    /// It failed; it is tried again after `delay` instead of the backoff.
    pub fn retry_in(delay: Duration, error: impl Into<BoxError>) -> HandlerError {
        HandlerError::fail(error.into(), true, Some(clamp(delay)))
    }

    /// It failed, and trying again cannot help: the job dies.
    pub fn permanent(error: impl Into<BoxError>) -> HandlerError {
        HandlerError::fail(error.into(), false, None)
    }

    /// Not now: again after `delay`, without costing an attempt.
    pub fn snooze(delay: Duration) -> HandlerError {
        HandlerError { end: End::Snooze { delay: clamp(delay) } }
    }

    /// Not me: another worker may have it at once, without costing an attempt.
    pub fn release() -> HandlerError {
        HandlerError { end: End::Release }
    }

    /// Names the class of a failure, for filters and alerts. Nothing to [`HandlerError::snooze`]
    /// and [`HandlerError::release`].
    pub fn kind(mut self, kind: impl Into<String>) -> HandlerError {
        if let End::Fail { error, .. } = &mut self.end {
            error.kind = Some(kind.into());
        }
        self
    }

    fn fail(error: BoxError, retryable: bool, retry_in: Option<DurationMs>) -> HandlerError {
        let message = with_sources(error.as_ref());
        HandlerError { end: End::Fail { error: JobError { message, kind: None }, retryable, retry_in } }
    }

    pub(crate) fn into_end(self) -> End {
        self.end
    }
}

/// What is longer than the store's longest duration means "as late as possible".
fn clamp(delay: Duration) -> DurationMs {
    to_ms("delay", delay).unwrap_or(DurationMs::MAX)
}

fn with_sources(error: &(dyn StdError + 'static)) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message.push_str(": ");
        message.push_str(&error.to_string());
        source = error.source();
    }
    message
}

impl<E: Into<BoxError>> From<E> for HandlerError {
    fn from(error: E) -> HandlerError {
        HandlerError::retry(error)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.end, f)
    }
}

/// The end of an attempt whose handler returned.
pub(crate) fn returned<R: Serialize>(outcome: Result<R, HandlerError>) -> End {
    match outcome {
        Ok(value) => completed(&value),
        Err(error) => error.into_end(),
    }
}

/// The work is done. If its result cannot be stored, doing it again would not help.
fn completed<R: Serialize>(value: &R) -> End {
    match serde_json::to_vec(value) {
        Err(error) => permanent("result", format!("the result cannot be written as JSON: {error}")),
        Ok(text) if text.len() > limits::RESULT_BYTES_MAX => {
            let max = limits::RESULT_BYTES_MAX;
            permanent("result", format!("the result has {} bytes; at most {max} are kept", text.len()))
        }
        Ok(text) if text == b"null" => End::Complete { result: None },
        Ok(text) => End::Complete { result: Some(Bytes::from(text)) },
    }
}

/// The payload is not what the handler takes.
pub(crate) fn unreadable_payload(why: &str) -> End {
    permanent("payload", format!("the payload is not what the handler takes: {why}"))
}

fn permanent(kind: &str, message: String) -> End {
    fail(kind, message, false)
}

/// The handler panicked.
pub(crate) fn panicked(payload: &(dyn Any + Send)) -> End {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    fail("panic", format!("the handler panicked: {}", text.unwrap_or("without a message")), true)
}

fn fail(kind: &str, message: String, retryable: bool) -> End {
    let error = JobError { message, kind: Some(kind.to_owned()) };
    End::Fail { error, retryable, retry_in: None }
}

/// Cuts what is longer than the store keeps.
pub(crate) fn fit(mut end: End) -> End {
    if let End::Fail { error, .. } = &mut end {
        let message = rules::cut(&error.message, limits::ERROR_MESSAGE_BYTES_MAX);
        if message.len() < error.message.len() {
            error.message = message.to_owned();
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(end: End) -> (String, Option<String>, bool) {
        match end {
            End::Fail { error, retryable, .. } => (error.message, error.kind, retryable),
            other => panic!("{other:?} is not a failure"),
        }
    }

    #[test]
    fn errors_and_sentences_become_failures_that_are_retried() {
        #[derive(Debug, thiserror::Error)]
        #[error("the receiver did not answer")]
        struct Outer(#[source] std::num::ParseIntError);
        let inner = "x".parse::<u8>().unwrap_err();
        let (message, kind, retryable) = failure(HandlerError::from(Outer(inner)).into_end());
        assert_eq!(message, "the receiver did not answer: invalid digit found in string");
        assert_eq!((kind, retryable), (None, true));
        let (message, kind, retryable) = failure(HandlerError::permanent("gone").kind("http-410").into_end());
        assert_eq!((message.as_str(), kind.as_deref(), retryable), ("gone", Some("http-410"), false));
    }

    #[test]
    fn a_result_is_kept_as_json_and_nothing_as_nothing() {
        assert_eq!(returned(Ok(7)), End::Complete { result: Some(Bytes::from("7")) });
        assert_eq!(returned(Ok(())), End::Complete { result: None });
    }

    #[test]
    fn a_result_over_the_limit_is_a_permanent_failure() {
        let largest = "x".repeat(limits::RESULT_BYTES_MAX - 2);
        assert!(matches!(returned(Ok(&largest)), End::Complete { result: Some(_) }));
        let (message, kind, retryable) = failure(returned(Ok(format!("{largest}x"))));
        assert_eq!((kind.as_deref(), retryable), (Some("result"), false), "{message}");
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let (message, ..) =
            failure(fit(HandlerError::retry("é".repeat(limits::ERROR_MESSAGE_BYTES_MAX)).into_end()));
        assert_eq!(message.len(), limits::ERROR_MESSAGE_BYTES_MAX);
    }
}
