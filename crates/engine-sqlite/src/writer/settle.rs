//! What holders of leases say. Every write compares the token; an old one changes nothing and
//! leaves evidence (I5), a repeated end gets its first answer (I6).

use onefold_core::{
    Attempt, End, Event, EventKind, EvidenceKind, ItemResult, Refusal, Seq, SettleAction, SettleOp, Settled,
    State, rules,
};

use super::store::{Entry, Store};
use crate::error::StoreResult;
use crate::rows;

impl Store<'_> {
    pub(crate) fn settle(&mut self, ops: &[SettleOp]) -> StoreResult<Vec<ItemResult<Settled>>> {
        ops.iter().map(|op| self.settle_one(op)).collect()
    }

    fn settle_one(&mut self, op: &SettleOp) -> StoreResult<ItemResult<Settled>> {
        let Some(mut entry) = self.take_id(op.id)? else { return self.settle_purged(op) };
        let outcome = if entry.job.held_by(op.token) {
            self.settle_held(&mut entry, op)?
        } else {
            self.settle_stale(&mut entry, op)?
        };
        self.put(entry);
        Ok(outcome)
    }

    fn settle_held(&mut self, entry: &mut Entry, op: &SettleOp) -> StoreResult<ItemResult<Settled>> {
        let seq = op.id.seq();
        match &op.action {
            SettleAction::End(end) => {
                let event = match end {
                    End::Complete { .. } => Event::Completed,
                    End::Fail { .. } => Event::Failed,
                    End::Snooze { .. } => Event::Snoozed,
                    End::Release => Event::Released,
                };
                let ended = self.change(entry, Some(event), |job, policy, entropy, now| {
                    rules::end(job, policy, end, now, entropy)
                })?;
                if ended.is_err() {
                    return Ok(Err(Refusal::LeaseLost { state: entry.job.state }));
                }
                if let End::Complete { result: Some(result) } = end {
                    let crc = rows::value_crc(seq.get(), result);
                    self.stmts.result_put.execute((seq.get() as i64, &result[..], crc))?;
                }
            }
            SettleAction::Extend(lease) => {
                let _ = self.change(entry, None, |job, _, _, now| {
                    rules::extend(job, *lease, now);
                    Ok::<_, ()>(())
                })?;
            }
            SettleAction::Progress(progress) => {
                rules::record_progress(&mut entry.job, progress.clone());
                entry.touch();
            }
            SettleAction::Exchange(exchange) => {
                rules::record_exchange(&mut entry.job, exchange.as_ref().clone());
                entry.touch();
            }
            SettleAction::Checkpoint(value) => {
                let crc = rows::value_crc(seq.get(), value);
                self.stmts.checkpoint_put.execute((seq.get() as i64, &value[..], crc))?;
            }
            SettleAction::Log(lines) => {
                rules::append_log(&mut entry.job, lines);
                entry.touch();
            }
        }
        let job = &entry.job;
        let running = job.attempt.as_ref().filter(|_| job.state == State::Running);
        let lease_until = running.map(|attempt| attempt.lease_until);
        Ok(Ok(Settled { state: job.state, cancel: job.cancel_requested, lease_until }))
    }

    fn settle_stale(&mut self, entry: &mut Entry, op: &SettleOp) -> StoreResult<ItemResult<Settled>> {
        let state = entry.job.state;
        let seq = op.id.seq();
        let own = entry.job.attempt.as_mut().filter(|attempt| attempt.token == op.token);
        match own {
            Some(attempt) => {
                if let Some(first) = replay_or_record(attempt, op, self.now) {
                    return Ok(Ok(first));
                }
                entry.touch();
            }
            None => match self.earlier_attempt(seq, op)? {
                Some(mut attempt) => {
                    if let Some(first) = replay_or_record(&mut attempt, op, self.now) {
                        return Ok(Ok(first));
                    }
                    rows::write_attempt(&mut self.stmts.attempt_insert, seq, &attempt)?;
                }
                None => self.note_next(seq.get(), EvidenceKind::ForeignToken, None)?,
            },
        }
        if let Some(counts) = self.mem.counts(entry.queue) {
            counts.late_writes += 1;
        }
        self.emit(EventKind::LateWrite, entry.queue, Some(&entry.job));
        Ok(Err(Refusal::LeaseLost { state }))
    }

    fn earlier_attempt(&mut self, seq: Seq, op: &SettleOp) -> StoreResult<Option<Attempt>> {
        let mut found = self.stmts.attempt_select.query([seq.get() as i64])?;
        while let Some(row) = found.next()? {
            if row.get::<_, i64>(0)? as u64 == op.token.get() {
                return rows::read_attempt(row, seq).map(Some);
            }
        }
        Ok(None)
    }

    /// A job whose row is gone: the first answer is remembered for a day.
    fn settle_purged(&mut self, op: &SettleOp) -> StoreResult<ItemResult<Settled>> {
        let SettleAction::End(end) = &op.action else { return Ok(Err(Refusal::JobNotFound)) };
        let columns = (op.token.get() as i64, op.id.seq().get() as i64, op.id.accepted_unix_ms());
        let mut found = self.stmts.receipt_select.query(columns)?;
        let Some(row) = found.next()? else { return Ok(Err(Refusal::JobNotFound)) };
        let same = row.get::<_, i64>(0)? as u64 == end.content();
        let state = rows::state_of(row.get(1)?)?;
        let kept = self.now.as_unix_ms() < row.get::<_, i64>(2)?;
        Ok(match (kept, same) {
            (true, true) => Ok(Settled { state, cancel: false, lease_until: None }),
            (true, false) => Err(Refusal::LeaseLost { state }),
            (false, _) => Err(Refusal::JobNotFound),
        })
    }
}

/// The first answer, if the same end comes again; else the late write is recorded.
fn replay_or_record(attempt: &mut Attempt, op: &SettleOp, now: onefold_core::Timestamp) -> Option<Settled> {
    let SettleAction::End(end) = &op.action else { return None };
    if let Some(state) = attempt.replay(end) {
        return Some(Settled { state, cancel: false, lease_until: None });
    }
    if let Some(evidence) = end.late_evidence() {
        attempt.record_late(evidence, now);
    }
    None
}
