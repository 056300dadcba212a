//! External effects: a step that is executed, recorded, and replayed afterwards (I7).

use std::fmt;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use onefold_core::{
    BeginEffect, DurationMs, EffectAction, EffectDone, EffectName, EffectOp, EffectPolicy, EffectRefusal,
    FencingToken, ForgottenEarly, JobClaim, Key, ReleaseOutcome, limits,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::Context;
use super::outcome::{BoxError, HandlerError};
use super::retry::Retry;
use crate::time::{to_ms, to_std};
use crate::{Error, ErrorCode, Invalid, Refusal};

/// A step of a job that has an effect elsewhere: an e-mail sent, a card charged. Made by [`Context::once`].
///
/// Before the step is executed the store records that it begins, and afterwards what it returned; a later attempt of the
/// job is given that instead of executing it again. The one gap that is left is between the effect and its record: whoever
/// dies there leaves a doubt, and the [policy](Once::policy) says what is done about it. Hand the receiver
/// [`Context::idempotency_key`], and there is no gap for as long as it remembers.
#[must_use = "a step is executed by `run`"]
pub struct Once {
    context: Context,
    step: String,
    policy: EffectPolicy,
    key_valid_for: Option<Duration>,
}

/// Why an effect failed, and whether it may have happened all the same.
///
/// `?` turns any error into [`EffectError::unknown`], which promises nothing.
pub struct EffectError {
    class: Class,
    error: BoxError,
    retry_in: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    NotApplied,
    Unknown,
    Permanent,
}

impl EffectError {
    /// It certainly did not happen: the connection was refused, say. It is executed again with the job's next attempt,
    /// under either policy.
    pub fn not_applied(error: impl Into<BoxError>) -> EffectError {
        EffectError::of(Class::NotApplied, error)
    }

    /// It may have happened: no answer came, say. Under `at_least_once` it is executed again; under `at_most_once` it becomes
    /// indeterminate and the job dies with that reason.
    pub fn unknown(error: impl Into<BoxError>) -> EffectError {
        EffectError::of(Class::Unknown, error)
    }

    /// It did not happen and never will: the receiver refused it for good. The job dies; should somebody make it run again,
    /// the effect is executed.
    pub fn permanent(error: impl Into<BoxError>) -> EffectError {
        EffectError::of(Class::Permanent, error)
    }

    /// Tries the job again after `delay` instead of its backoff. Nothing to a permanent failure.
    pub fn retry_in(mut self, delay: Duration) -> EffectError {
        self.retry_in = Some(delay);
        self
    }

    fn of(class: Class, error: impl Into<BoxError>) -> EffectError {
        EffectError { class, error: error.into(), retry_in: None }
    }

    fn into_handler_error(self) -> HandlerError {
        match (self.class, self.retry_in) {
            (Class::Permanent, _) => HandlerError::permanent(self.error),
            (_, Some(delay)) => HandlerError::retry_in(delay, self.error),
            (_, None) => HandlerError::retry(self.error),
        }
    }
}

impl<E: Into<BoxError>> From<E> for EffectError {
    fn from(error: E) -> EffectError {
        EffectError::unknown(error)
    }
}

impl fmt::Debug for EffectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EffectError").field("class", &self.class).field("error", &self.error).finish()
    }
}

impl Once {
    pub(super) fn new(context: Context, step: String) -> Once {
        Once { context, step, policy: EffectPolicy::AtLeastOnce, key_valid_for: None }
    }

    /// What is done if an execution ended and nobody knows how: executed again (the default), or never, until somebody has
    /// found out (`onefold effects resolve`).
    pub fn policy(mut self, policy: EffectPolicy) -> Once {
        self.policy = policy;
        self
    }

    /// How long the receiver remembers the idempotency key, counted from the first execution: afterwards a step that is in
    /// doubt is not executed again, but becomes indeterminate. A time shorter than the job may be tried for is warned about.
    pub fn key_valid_for(mut self, remembered: Duration) -> Once {
        self.key_valid_for = Some(remembered);
        self
    }

    /// Executes the step, or gives what it returned when it was executed.
    ///
    /// The result is stored as JSON, up to 1 MiB. If it cannot be stored, the step is recorded as done without it: a later
    /// attempt fails for good rather than doing it twice. When the lease is lost, the step is dropped where it stands.
    ///
    /// # Errors
    /// To be handed on with `?`: what the step failed with; a snooze at no cost if somebody is executing it; and, when the
    /// lease is lost or the step indeterminate, an error that is not told, for the job is somebody else's by then, or dead.
    pub async fn run<R, F, Fut>(self, effect: F) -> Result<R, HandlerError>
    where
        R: Serialize + DeserializeOwned,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<R, EffectError>>,
    {
        let step = self.checked()?;
        let token = match self.begin(&step).await? {
            Begun::Execute(token) => token,
            Begun::Replay(result) => return replay(&self.step, result.as_ref()),
        };
        let lost = self.context.lease().lost();
        let outcome = tokio::select! {
            biased;
            () = lost.cancelled() => return Err(HandlerError::retry(Error::lease_lost())),
            outcome = effect() => outcome,
        };
        match outcome {
            Ok(value) => {
                let result = self.stored(&value);
                self.tell(&step, EffectAction::Commit { token, result })
                    .await
                    .map_err(|error| self.told(error))?;
                Ok(value)
            }
            Err(error) => Err(self.failed(&step, token, error).await),
        }
    }

    fn checked(&self) -> Result<Step, HandlerError> {
        let invalid = |why: Invalid| HandlerError::permanent(Error::from(why));
        let key = Key::new(&self.step).map_err(|why| invalid(why.into()))?;
        let key_valid_for =
            self.key_valid_for.map(|time| to_ms("key_valid_for", time)).transpose().map_err(invalid)?;
        Ok(Step { name: EffectName::of_step(self.context.job_id(), key), key_valid_for })
    }

    async fn begin(&self, step: &Step) -> Result<Begun, HandlerError> {
        let job = JobClaim { id: self.context.job_id(), token: self.context.fencing_token() };
        let begin = BeginEffect {
            fingerprint: None,
            policy: self.policy,
            lease: limits::LEASE_DEFAULT,
            ttl: limits::EFFECT_TTL,
            key_valid_for: step.key_valid_for,
            job: Some(job),
            call: Some(self.context.entropy().next_u64()),
        };
        match self.tell(step, EffectAction::Begin(begin)).await {
            Ok(EffectDone::Execute { token, forgotten_early }) => {
                if let Some(ForgottenEarly { key_valid_until, retry_until }) = forgotten_early {
                    tracing::warn!(
                        job = %self.context.job_id(), step = self.step, %key_valid_until, %retry_until,
                        "the receiver forgets the key while the job may still be tried"
                    );
                }
                Ok(Begun::Execute(token))
            }
            Ok(EffectDone::Replay { result }) => Ok(Begun::Replay(result)),
            Ok(EffectDone::Standing { .. }) => {
                Err(HandlerError::retry(Error::Mistyped("a begin was answered with a state".to_owned())))
            }
            Err(error) => Err(self.told(error)),
        }
    }

    /// What the step returned, as it is stored.
    fn stored<R: Serialize>(&self, value: &R) -> Option<Bytes> {
        let why = match serde_json::to_vec(value) {
            Ok(text) if text.len() <= limits::RESULT_BYTES_MAX => return Some(text.into()),
            Ok(text) => format!("it has {} bytes", text.len()),
            Err(error) => error.to_string(),
        };
        tracing::error!(
            job = %self.context.job_id(), step = self.step, why,
            "the step is recorded as done without its result, which cannot be stored: a later attempt fails for good"
        );
        None
    }

    async fn failed(&self, step: &Step, token: FencingToken, error: EffectError) -> HandlerError {
        let outcome = match error.class {
            Class::NotApplied | Class::Permanent => ReleaseOutcome::NotApplied,
            Class::Unknown => ReleaseOutcome::Unknown,
        };
        match self.tell(step, EffectAction::Release { token, outcome }).await {
            Ok(EffectDone::Standing { state: onefold_core::EffectState::Indeterminate, .. }) => {
                self.over();
                error.into_handler_error()
            }
            Ok(_) => error.into_handler_error(),
            Err(lost) => self.told(lost),
        }
    }

    /// Says something about the step, again while the store is in trouble and the lease is ours.
    async fn tell(&self, step: &Step, action: EffectAction) -> Result<EffectDone, Error> {
        let begins = matches!(action, EffectAction::Begin(_));
        let op = EffectOp { name: step.name.clone(), action };
        let mut retry = Retry::new();
        loop {
            self.context.still_ours()?;
            let error = match self.context.backend().effect(&op).await {
                Ok(done) => {
                    self.context.still_ours()?;
                    return Ok(done);
                }
                Err(error) => error,
            };
            // Nothing new is begun on a full disk.
            let may_pass = error.is_transient() && !(begins && error.code() == ErrorCode::DiskFull.as_str())
                || matches!(
                    error,
                    Error::Refused(Refusal::JobInProgress) | Error::Effect(EffectRefusal::JobInProgress)
                );
            if !may_pass {
                return Err(error);
            }
            let (pause, lost) = (to_std(retry.pause(self.context.entropy())), self.context.lease().lost());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = lost.cancelled() => return Err(Error::lease_lost()),
            }
        }
    }

    /// What a handler says of an answer that was none of the good ones.
    fn told(&self, error: Error) -> HandlerError {
        if let Error::Effect(EffectRefusal::InProgress { retry_after }) = &error {
            return HandlerError::snooze(to_std(*retry_after));
        }
        match ErrorCode::parse(error.code()) {
            Some(ErrorCode::LeaseLost | ErrorCode::JobNotFound | ErrorCode::EffectIndeterminate) => {
                self.over();
                HandlerError::retry(error)
            }
            Some(ErrorCode::KeyReused) => HandlerError::permanent(error),
            _ => HandlerError::retry(error),
        }
    }

    /// The attempt is over in the store: there is nothing left to say about it.
    fn over(&self) {
        self.context.over();
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("step", &self.step).field("policy", &self.policy).finish_non_exhaustive()
    }
}

struct Step {
    name: EffectName,
    key_valid_for: Option<DurationMs>,
}

enum Begun {
    Execute(FencingToken),
    Replay(Option<Bytes>),
}

fn replay<R: DeserializeOwned>(step: &str, result: Option<&Bytes>) -> Result<R, HandlerError> {
    let text: &[u8] = result.map_or(b"null", |text| text);
    serde_json::from_slice(text).map_err(|why| {
        let what = format!("step {step} was done, but what it returned is no such value: {why}");
        HandlerError::permanent(Error::Mistyped(what)).kind("result")
    })
}
