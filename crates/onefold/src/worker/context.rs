//! What a handler has at hand beside its job.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onefold_core::{Entropy, FencingToken, JobId, Progress, SettleAction, Settled, Timestamp, limits, rules};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::lease::{CancelReason, Lease};
use super::once::Once;
use super::outbox::Letter;
use super::shared::Shared;
use crate::backend::{Backend, Leased};
use crate::time::to_ms;
use crate::{Error, ErrorCode, Invalid, check};

/// The lease a handler runs under. Cheap to clone; may be sent to other tasks. Once the lease is
/// lost or the handler is done, everything that speaks to the store is refused with
/// `lease-lost`.
#[derive(Clone)]
pub struct Context {
    shared: Arc<Shared>,
    lease: Arc<Lease>,
    attempt: u32,
    retry_until: Option<Timestamp>,
    checkpoint: Option<Bytes>,
}

impl Context {
    pub(crate) fn new(shared: Arc<Shared>, lease: Arc<Lease>, job: &Leased) -> Context {
        Context {
            shared,
            lease,
            attempt: job.attempt,
            retry_until: job.retry_until,
            checkpoint: job.checkpoint.clone(),
        }
    }

    /// The job, the same in every attempt.
    pub fn job_id(&self) -> JobId {
        self.lease.id
    }

    /// The number of this attempt, from 1, never reset.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The token of this lease: larger for every lease there ever was. A receiver that remembers
    /// the largest it has seen for a job can refuse an older holder.
    pub fn fencing_token(&self) -> FencingToken {
        self.lease.token
    }

    /// No automatic attempt starts later: a receiver that remembers idempotency keys at least
    /// until then sees no repeat it does not know.
    pub fn retry_until(&self) -> Option<Timestamp> {
        self.retry_until
    }

    /// A key for one step of this job's work, to hand to a receiver that takes idempotency keys:
    /// the same in every attempt, different for every job and step.
    pub fn idempotency_key(&self, step: &str) -> String {
        idempotency_key(self.lease.id, step)
    }

    /// A step of this job's work that has an effect elsewhere: executed once, recorded, and replayed by later attempts.
    ///
    /// ```
    /// use onefold::{Context, EffectError, HandlerError};
    /// # async fn charge(key: String) -> Result<String, std::io::Error> { Ok(key) }
    /// async fn handler(ctx: Context) -> Result<String, HandlerError> {
    ///     let key = ctx.idempotency_key("charge");
    ///     let receipt: String = ctx.once("charge").run(|| async { Ok(charge(key).await?) }).await?;
    ///     Ok(receipt)
    /// }
    /// ```
    pub fn once(&self, step: impl Into<String>) -> Once {
        Once::new(self.clone(), step.into())
    }

    /// What an earlier attempt left with [`Context::checkpoint`]; `None` if nothing.
    ///
    /// # Errors
    /// [`Error::Mistyped`] if it is no `C`.
    pub fn last_checkpoint<C: DeserializeOwned>(&self) -> Result<Option<C>, Error> {
        let read = |text: &Bytes| serde_json::from_slice(text);
        self.checkpoint.as_ref().map(read).transpose().map_err(|error| Error::Mistyped(error.to_string()))
    }

    /// Leaves a value for the next attempt, should there be one. It is durable when this returns.
    ///
    /// # Errors
    /// `lease-lost`; `checkpoint-too-large` over 1 MiB; the store's.
    pub async fn checkpoint<C: Serialize>(&self, value: &C) -> Result<(), Error> {
        let text = serde_json::to_vec(value).map_err(|error| Invalid::Unserializable(error.to_string()))?;
        let max = limits::CHECKPOINT_BYTES_MAX;
        check::check_size(ErrorCode::CheckpointTooLarge, "the checkpoint", text.len(), max)?;
        self.ask(SettleAction::Checkpoint(text.into())).await.map(drop)
    }

    /// Makes the lease last this long from now, between 100 ms and 1 h. Not needed for handlers
    /// that merely take long: their leases are extended by the worker. It is for those that keep
    /// their thread from other tasks, heartbeats among them.
    ///
    /// # Errors
    /// `lease-lost`, and the store's.
    pub async fn extend(&self, lease: Duration) -> Result<(), Error> {
        let lease = to_ms("lease", lease)?;
        if !(limits::LEASE_MIN..=limits::LEASE_MAX).contains(&lease) {
            let rule = format!("must be {} to {}", limits::LEASE_MIN, limits::LEASE_MAX);
            return Err(Invalid::value("lease", rule).into());
        }
        self.ask(SettleAction::Extend(lease)).await.map(drop)
    }

    /// Says how far the work is, in percent. Of several in a row only the last may be kept, and
    /// none survives a crash for certain.
    ///
    /// # Errors
    /// `lease-lost`; `invalid-field` above 100.
    pub fn progress(&self, percent: u8) -> Result<(), Error> {
        self.note_progress(percent, None)
    }

    /// Like [`Context::progress`], with a word about it.
    ///
    /// # Errors
    /// As there.
    pub fn progress_with(&self, percent: u8, message: impl Into<String>) -> Result<(), Error> {
        self.note_progress(percent, Some(message.into()))
    }

    /// Appends a line to the attempt's log. The last 100 are kept, of 1 KiB each; none survives
    /// a crash for certain.
    ///
    /// # Errors
    /// `lease-lost`.
    pub fn log(&self, line: impl AsRef<str>) -> Result<(), Error> {
        let line = rules::cut(line.as_ref(), limits::LOG_LINE_BYTES_MAX).to_owned();
        self.note(|notes| notes.log.push(line))
    }

    /// Waits until the handler should stop. It need not look: see [`CancelReason`] for what
    /// happens if it goes on.
    pub async fn cancelled(&self) {
        self.lease.cancellation().cancelled().await;
    }

    /// Whether the handler should stop, and why.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.lease.cancelled()
    }

    /// A token that fires when the handler should stop, for code that takes one.
    pub fn cancellation_token(&self) -> CancellationToken {
        self.lease.cancellation()
    }

    /// Waits until the worker begins to stop. Handlers then have its grace period to finish;
    /// one that takes longer may leave a checkpoint and return
    /// [`HandlerError::release`](crate::HandlerError::release).
    pub async fn shutting_down(&self) {
        self.shared.stopping.cancelled().await;
    }

    /// Whether the worker has begun to stop.
    pub fn is_shutting_down(&self) -> bool {
        self.shared.stopping.is_cancelled()
    }

    fn note_progress(&self, percent: u8, message: Option<String>) -> Result<(), Error> {
        if percent > 100 {
            return Err(Invalid::value("progress", format!("must be 0 to 100 percent, not {percent}")).into());
        }
        self.note(|notes| notes.progress = Some(Progress { percent: Some(percent), message }))
    }

    fn note(&self, note: impl FnOnce(&mut super::lease::Notes)) -> Result<(), Error> {
        self.still_ours()?;
        if self.lease.note(note) {
            self.shared.outbox.post(Letter::Notes { lease: Arc::clone(&self.lease) });
        }
        Ok(())
    }

    async fn ask(&self, action: SettleAction) -> Result<Settled, Error> {
        self.still_ours()?;
        let (answer, answered) = oneshot::channel();
        self.shared.outbox.post(Letter::Ask { lease: Arc::clone(&self.lease), action, answer });
        // Without an answer the worker is gone, and the lease with it.
        let settled = answered.await.unwrap_or_else(|_gone| Err(Error::lease_lost()))?;
        self.still_ours()?;
        Ok(settled)
    }

    /// The attempt is over in the store: there is nothing left to say about it.
    pub(crate) fn over(&self) {
        self.lease.signal(CancelReason::LeaseLost);
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        self.shared.backend()
    }

    pub(super) fn entropy(&self) -> &dyn Entropy {
        self.shared.onefold.entropy()
    }

    pub(super) fn still_ours(&self) -> Result<(), Error> {
        if self.lease.is_lost() || self.lease.has_ended() { Err(Error::lease_lost()) } else { Ok(()) }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("job", &self.lease.id)
            .field("attempt", &self.attempt)
            .field("fencing_token", &self.lease.token)
            .field("cancelled", &self.lease.cancelled())
            .finish_non_exhaustive()
    }
}

/// The digits of the job and half of SHA-256 over them and the step: 65 characters that fit
/// everywhere keys are taken.
pub(crate) fn idempotency_key(job: JobId, step: &str) -> String {
    let digits = job.digits();
    let mut hash = Sha256::new();
    hash.update(digits.as_bytes());
    hash.update(step.as_bytes());
    let half = hash.finalize().iter().take(16).fold(0_u128, |half, byte| half << 8 | u128::from(*byte));
    format!("{digits}-{half:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idempotency_key_depends_on_job_and_step_only_and_never_changes() {
        let job: JobId = "job_01a1fe047dc070008000000000000007".parse().unwrap();
        let other: JobId = "job_01a1fe047dc070008000000000000008".parse().unwrap();
        let key = idempotency_key(job, "charge");
        assert_eq!(key, "01a1fe047dc070008000000000000007-509740bb35094a0175489228eb7faeda");
        assert_ne!(key, idempotency_key(job, "refund"));
        assert_ne!(key, idempotency_key(other, "charge"));
    }
}
