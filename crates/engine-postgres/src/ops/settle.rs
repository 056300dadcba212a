//! What holders of leases say.

use std::collections::BTreeMap;

use onefold_core::{
    End, Event, FencingToken, IllegalTransition, ItemResult, JobId, Refusal, SettleAction, SettleOp, Settled,
    State, rules,
};

use crate::error::{Outcome, corrupt};
use crate::params;
use crate::rows::{Coded, job_id, seq_code};
use crate::sql;
use crate::work::Work;

/// A first answer whose job is gone.
struct Receipt {
    job: JobId,
    content: u64,
    state: State,
}

type Receipts = BTreeMap<FencingToken, Receipt>;

/// Does what several calls say, in order.
pub(crate) async fn settle_calls(
    work: &mut Work,
    calls: &[&[SettleOp]],
) -> Outcome<Vec<Vec<ItemResult<Settled>>>> {
    let mut outcomes = settle(work, &calls.concat()).await?.into_iter();
    Ok(calls.iter().map(|call| outcomes.by_ref().take(call.len()).collect()).collect())
}

pub(crate) async fn settle(work: &mut Work, ops: &[SettleOp]) -> Outcome<Vec<ItemResult<Settled>>> {
    work.load_for_ends(ops.iter().map(|op| seq_code(op.id)).collect()).await?;
    if ops.iter().any(|op| matches!(op.action, SettleAction::End(_))) {
        work.lock_groups().await?;
    }
    let mut strange: Vec<i64> = ops
        .iter()
        .filter(|op| {
            let attempt = work.find(op.id).and_then(|record| record.job.attempt.as_ref());
            attempt.is_some_and(|attempt| attempt.token != op.token)
        })
        .map(|op| seq_code(op.id))
        .collect();
    strange.sort_unstable();
    strange.dedup();
    work.load_history(strange).await?;
    let receipts = receipts(work, ops).await?;
    let mut outcomes = Vec::with_capacity(ops.len());
    for op in ops {
        outcomes.push(settle_one(work, op, &receipts)?);
    }
    work.flush().await?;
    Ok(outcomes)
}

/// The first answers to ends whose jobs are gone.
async fn receipts(work: &mut Work, ops: &[SettleOp]) -> Outcome<Receipts> {
    let gone =
        ops.iter().filter(|op| work.find(op.id).is_none() && matches!(op.action, SettleAction::End(_)));
    let tokens: Vec<i64> = gone.map(|op| op.token.get().cast_signed()).collect();
    if tokens.is_empty() {
        return Ok(Receipts::new());
    }
    let now = work.now.as_unix_ms();
    let rows = work.rows(sql::RECEIPTS_OF, params![tokens, now]).await?;
    rows.iter()
        .map(|row| {
            let token = u64::try_from(row.try_get::<_, i64>(0)?).ok().and_then(FencingToken::new);
            let receipt = Receipt {
                job: job_id(row.try_get(2)?, row.try_get(1)?)?,
                content: row.try_get::<_, i64>(3)?.cast_unsigned(),
                state: State::of(row.try_get(4)?)?,
            };
            Ok((token.ok_or_else(|| corrupt("a fencing token out of range"))?, receipt))
        })
        .collect()
}

fn settle_one(work: &mut Work, op: &SettleOp, receipts: &Receipts) -> Outcome<ItemResult<Settled>> {
    let Some(record) = work.find(op.id) else { return Ok(settle_purged(op, receipts)) };
    if !record.job.held_by(op.token) {
        let state = record.job.state;
        let answer = |state| Settled { state, cancel: false, lease_until: None };
        return Ok(work.late(op).map(answer).ok_or(Refusal::LeaseLost { state }));
    }
    let seq = seq_code(op.id);
    match &op.action {
        SettleAction::End(End::Complete { result: Some(result) }) => {
            work.put_result(seq, Some(result.clone()))
        }
        SettleAction::Checkpoint(value) => work.put_checkpoint(seq, value.clone()),
        _ => {}
    }
    let done = work.change(seq, |record, now, entropy| {
        let event = match &op.action {
            SettleAction::End(end) => {
                let (job, policy) = record.split();
                rules::end(job, policy, end, now, entropy)?;
                Some(match end {
                    End::Complete { .. } => Event::Completed,
                    End::Fail { .. } => Event::Failed,
                    End::Snooze { .. } => Event::Snoozed,
                    End::Release => Event::Released,
                })
            }
            SettleAction::Extend(lease) => {
                rules::extend(&mut record.job, *lease, now);
                None
            }
            SettleAction::Progress(progress) => {
                rules::record_progress(&mut record.job, progress.clone());
                None
            }
            SettleAction::Log(lines) => {
                rules::append_log(&mut record.job, lines);
                None
            }
            SettleAction::Exchange(exchange) => {
                rules::record_exchange(&mut record.job, exchange.as_ref().clone());
                None
            }
            SettleAction::Checkpoint(_) => None,
        };
        Ok::<_, IllegalTransition>(event)
    })?;
    done.map_err(|illegal| corrupt(&illegal.to_string()))?;
    let job = work.find(op.id).map(|record| &record.job).ok_or_else(|| corrupt("a job that is gone"))?;
    let lease_until =
        job.attempt.as_ref().filter(|_| job.state == State::Running).map(|attempt| attempt.lease_until);
    Ok(Ok(Settled { state: job.state, cancel: job.cancel_requested, lease_until }))
}

fn settle_purged(op: &SettleOp, receipts: &Receipts) -> ItemResult<Settled> {
    let SettleAction::End(end) = &op.action else { return Err(Refusal::JobNotFound) };
    match receipts.get(&op.token).filter(|receipt| receipt.job == op.id) {
        Some(first) if first.content == end.content() => {
            Ok(Settled { state: first.state, cancel: false, lease_until: None })
        }
        Some(first) => Err(Refusal::LeaseLost { state: first.state }),
        None => Err(Refusal::JobNotFound),
    }
}
