//! Tells the store what the outbox holds: one settle at a time, everything that came up
//! meanwhile in the next one.

use std::sync::Arc;
use std::time::Duration;

use onefold_core::{Refusal, SettleAction, Settled, limits};
use tokio::time::Instant;

use super::lease::CancelReason;
use super::outbox::{Batch, Receipt, ReceiptOf};
use super::retry::Retry;
use super::shared::Shared;
use crate::Error;
use crate::time::to_std;

/// Pause before the end of an attempt is told again whose job somebody's open transaction holds.
const IN_PROGRESS_PAUSE: Duration = Duration::from_secs(1);

/// Runs until the outbox is closed and empty.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut retry = Retry::new();
    let (mut later, mut told_again_at) = (Batch::default(), Instant::now());
    loop {
        let batch = tokio::select! {
            batch = shared.outbox.next(limits::SETTLE_OPS_MAX) => batch,
            () = tokio::time::sleep_until(told_again_at), if !later.ops.is_empty() => {
                Some(std::mem::take(&mut later))
            }
        };
        let Some(batch) = batch else { break };
        if later.ops.is_empty() {
            told_again_at = Instant::now() + IN_PROGRESS_PAUSE;
        }
        send(&shared, batch, &mut retry, &mut later).await;
    }
    abandon(&shared, later, &Refusal::JobInProgress.into());
}

/// Sends a batch until it is answered. Repeating it is safe (I6). A batch that is refused as a
/// whole is sent in halves, so that one bad operation costs only itself.
async fn send(shared: &Shared, batch: Batch, retry: &mut Retry, later: &mut Batch) {
    let mut stack = vec![batch];
    while let Some(mut batch) = stack.pop() {
        if batch.ops.is_empty() {
            continue;
        }
        let asked_at = shared.clock().monotonic();
        match shared.backend().settle(&batch.ops).await {
            Ok(results) => {
                retry.succeeded();
                answered(shared, batch, results, asked_at, later);
            }
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, ops = batch.ops.len(), "settling failed; it is tried again");
                let pause = retry.pause(shared.onefold.entropy());
                tokio::select! {
                    () = tokio::time::sleep(to_std(pause)) => stack.push(batch),
                    () = shared.giving_up.cancelled() => abandon(shared, batch, &error),
                }
            }
            Err(error) if error.is_final() || batch.ops.len() == 1 => {
                if error.is_final() {
                    shared.fail(error.clone());
                }
                abandon(shared, batch, &error);
            }
            Err(_refused) => {
                let second = batch.split_off_half();
                stack.push(second);
                stack.push(batch);
            }
        }
    }
}

fn answered(
    shared: &Shared,
    batch: Batch,
    results: Vec<Result<Settled, Error>>,
    asked_at: onefold_core::DurationMs,
    later: &mut Batch,
) {
    let (batch, results) = put_off(batch, results, asked_at, later);
    shared.let_go(batch.receipts.iter().filter(|r| matches!(r.of, ReceiptOf::End)).map(|r| r.lease.as_ref()));
    for ((receipt, op), result) in batch.receipts.into_iter().zip(batch.ops).zip(results) {
        let Receipt { lease, of } = receipt;
        let lost = match &result {
            Ok(settled) if settled.cancel && !lease.has_ended() => {
                lease.signal(CancelReason::Requested);
                false
            }
            Err(Error::Refused(Refusal::LeaseLost { .. } | Refusal::JobNotFound)) => true,
            Ok(_) | Err(_) => false,
        };
        if lost && !lease.has_ended() {
            lease.signal(CancelReason::LeaseLost);
        }
        match of {
            ReceiptOf::End => match (result, op.action) {
                (Ok(_), SettleAction::End(end)) => shared.counts.count_end(&end),
                (result, _) => {
                    shared.counts.count_lost();
                    let error = result.err();
                    tracing::warn!(job = %lease.id, token = %lease.token, ?error, "the end of an attempt was refused");
                }
            },
            ReceiptOf::Extension { length, answer } => {
                if result.is_ok() {
                    lease.extended(asked_at, length);
                }
                tell(answer, result);
            }
            ReceiptOf::Answer(answer) => tell(Some(answer), result),
            ReceiptOf::Note => {}
        }
    }
}

/// Takes out the ends whose jobs somebody's open transaction holds, as long as the lease lasts: they are told again.
fn put_off(
    batch: Batch,
    results: Vec<Result<Settled, Error>>,
    asked_at: onefold_core::DurationMs,
    later: &mut Batch,
) -> (Batch, Vec<Result<Settled, Error>>) {
    let (mut answered, mut answers) = (Batch::default(), Vec::with_capacity(results.len()));
    for ((receipt, op), result) in batch.receipts.into_iter().zip(batch.ops).zip(results) {
        let in_progress = matches!(result, Err(Error::Refused(Refusal::JobInProgress)));
        if in_progress && matches!(receipt.of, ReceiptOf::End) && receipt.lease.deadline() > asked_at {
            later.receipts.push(receipt);
            later.ops.push(op);
        } else {
            answered.receipts.push(receipt);
            answered.ops.push(op);
            answers.push(result);
        }
    }
    (answered, answers)
}

/// Nobody waits for an answer whose handler was dropped.
fn tell(
    answer: Option<tokio::sync::oneshot::Sender<Result<Settled, Error>>>,
    result: Result<Settled, Error>,
) {
    if let Some(answer) = answer {
        let _ = answer.send(result);
    }
}

/// What cannot be told is left: leases that were to end run out, and their jobs come back.
fn abandon(shared: &Shared, batch: Batch, error: &Error) {
    if batch.ops.is_empty() {
        return;
    }
    tracing::error!(%error, ops = batch.ops.len(), "settling failed; leases that were to end will run out");
    shared.let_go(batch.receipts.iter().filter(|r| matches!(r.of, ReceiptOf::End)).map(|r| r.lease.as_ref()));
    for receipt in batch.receipts {
        match receipt.of {
            ReceiptOf::End => shared.counts.count_lost(),
            ReceiptOf::Extension { answer, .. } => tell(answer, Err(error.clone())),
            ReceiptOf::Answer(answer) => tell(Some(answer), Err(error.clone())),
            ReceiptOf::Note => {}
        }
    }
}
