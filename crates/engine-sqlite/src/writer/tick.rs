//! What time does to the store: jobs come due, attempts run out, things kept for a time go.

use onefold_core::{Attempt, Event, JobId, QueueSettings, State, Timestamp, limits, rules};

use super::memory::QueueId;
use super::store::Store;
use crate::error::StoreResult;
use crate::rows;

/// Jobs one tick moves at the most, of each sort, so that it never holds up the others for long.
const MOVES_PER_TICK: u64 = 2_000;
/// Buckets of finished jobs one tick looks at.
const BUCKETS_PER_TICK: usize = 2;
/// Ledger entries of one class one tick drops.
const KEYS_PER_TICK: u32 = 4_000;
/// Timers of this many buckets ahead (about 9 minutes) are in memory.
const TIMER_BUCKETS_AHEAD: i64 = 2;

/// What a tick did.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) due: u64,
    pub(crate) expired: u64,
    pub(crate) purged: u64,
    /// There is more to do at once.
    pub(crate) more: bool,
}

impl Store<'_> {
    /// Does what is due, a bounded amount.
    pub(crate) fn tick(&mut self, retention_slack_ms: u64) -> StoreResult<Work> {
        let mut work = Work::default();
        self.load_timers()?;
        self.fire_timers(&mut work)?;
        self.pass_deadlines(&mut work)?;
        self.retire_jobs(&mut work, retention_slack_ms)?;
        work.more |= self.retire_ledger(KEYS_PER_TICK)?;
        self.stmts.receipt_retire.execute([self.now.as_unix_ms()])?;
        let events_until = self.now.saturating_sub(limits::EVENTS_KEPT).as_unix_ms();
        self.stmts.event_retire.execute([events_until])?;
        self.stmts.queue_forget.execute([events_until])?;
        Ok(work)
    }

    /// Brings the timers of the near future into memory.
    pub(crate) fn load_timers(&mut self) -> StoreResult<()> {
        let until = Self::timer_bucket(self.now) + TIMER_BUCKETS_AHEAD;
        if until <= self.timers_loaded {
            return Ok(());
        }
        let mut found = self.stmts.timer_scan.query((self.timers_loaded + 1, until))?;
        while let Some(row) = found.next()? {
            let at = Timestamp::from_unix_ms(row.get(1)?).unwrap_or(Timestamp::EPOCH);
            self.mem.insert_timer(at, row.get::<_, i64>(0)? as u64);
        }
        drop(found);
        self.timers_loaded = until;
        Ok(())
    }

    fn fire_timers(&mut self, work: &mut Work) -> StoreResult<()> {
        let mut overdue = Vec::new();
        while let Some((at, seq)) = self.mem.first_timer().filter(|(at, _)| *at <= self.now) {
            if work.due >= MOVES_PER_TICK {
                work.more = true;
                break;
            }
            let Some(mut entry) = self.take(seq)? else {
                return Err(crate::error::StoreError::corrupt(format!("timed job {seq} has no row")));
            };
            match entry.job.state {
                State::Scheduled | State::Retrying => {
                    let _ = self
                        .change(&mut entry, Some(Event::Due), |job, _, _, now| rules::come_due(job, now))?;
                    work.due += 1;
                }
                // The timer of an available job is that of its last moment to start.
                State::Available => overdue.push(seq),
                State::Running | State::Completed | State::Dead | State::Cancelled => {}
            }
            let stays = self.mem.first_timer() == Some((at, seq));
            self.put(entry);
            if stays {
                self.mem.remove_timer(at, seq);
            }
        }
        overdue.sort_unstable();
        for seq in overdue {
            if let Some(mut entry) = self.take(seq)? {
                self.expire(&mut entry)?;
                self.put(entry);
            }
        }
        Ok(())
    }

    fn pass_deadlines(&mut self, work: &mut Work) -> StoreResult<()> {
        while let Some((_, seq)) = self.mem.first_deadline().filter(|(at, _)| *at <= self.now) {
            if work.expired >= MOVES_PER_TICK {
                work.more = true;
                break;
            }
            let Some(mut entry) = self.take(seq)? else {
                return Err(crate::error::StoreError::corrupt(format!("running job {seq} has no row")));
            };
            let timed_out = entry.job.attempt.as_ref().is_some_and(Attempt::ends_at_hard_limit);
            let event = if timed_out { Event::Failed } else { Event::LeaseLost };
            let _ = self.change(&mut entry, Some(event), |job, policy, entropy, now| {
                rules::deadline_passed(job, policy, now, entropy)
            })?;
            self.put(entry);
            work.expired += 1;
        }
        Ok(())
    }

    fn retire_jobs(&mut self, work: &mut Work, slack_ms: u64) -> StoreResult<()> {
        let slack = onefold_core::DurationMs::from_ms(slack_ms);
        let due = |at: Timestamp, now: Timestamp| at == Timestamp::EPOCH || at.saturating_add(slack) <= now;
        let now = self.now;
        let mut buckets: Vec<u64> =
            self.mem.retention_buckets().filter(|(_, at)| due(*at, now)).map(|(bucket, _)| bucket).collect();
        work.more |= buckets.len() > BUCKETS_PER_TICK;
        buckets.truncate(BUCKETS_PER_TICK);
        for bucket in buckets {
            work.purged += self.retire_bucket(bucket)?;
        }
        Ok(())
    }

    /// Deletes the jobs of a bucket whose retention is over and notes when to look again.
    fn retire_bucket(&mut self, bucket: u64) -> StoreResult<u64> {
        self.flush_jobs()?;
        let (first, last) = (bucket << 12, (bucket << 12) | 0xfff);
        let mut over: Vec<u64> = Vec::new();
        let mut next: Option<Timestamp> = None;
        let mut kept: Option<(QueueId, std::sync::Arc<QueueSettings>)> = None;
        let mut found = self.stmts.job_retention.query((first as i64, last as i64))?;
        while let Some(row) = found.next()? {
            let (seq, queue): (i64, QueueId) = (row.get(0)?, row.get(1)?);
            let state = rows::state_of(row.get(2)?)?;
            let finished_at = Timestamp::from_unix_ms(row.get(3)?).unwrap_or(Timestamp::EPOCH);
            let own: Option<i64> = row.get(4)?;
            if kept.as_ref().is_none_or(|(id, _)| *id != queue) {
                kept = self.mem.queue(queue).map(|q| (queue, std::sync::Arc::clone(&q.settings)));
            }
            let keep = match (own, &kept) {
                (Some(own), _) => onefold_core::DurationMs::from_ms(own.unsigned_abs()),
                (None, Some((_, settings))) => settings.retention(state),
                (None, None) => limits::RETAIN_COMPLETED,
            };
            let at = finished_at.saturating_add(keep);
            if at <= self.now {
                over.push(seq as u64);
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        drop(found);
        let count = over.len() as u64;
        for run in runs(&over) {
            self.purge_run(run)?;
        }
        self.mem.set_retention(bucket, next);
        Ok(count)
    }

    /// Deletes neighbouring finished jobs, counting each.
    fn purge_run(&mut self, (first, last): (u64, u64)) -> StoreResult<()> {
        for seq in first..=last {
            let (id, queue, state, ended_at, grouped) = self.finished_row(seq)?;
            let recent = ended_at.saturating_add(limits::FINISH_REPLAY) > self.now;
            if recent || grouped {
                if let Some(entry) = self.take_id(id)? {
                    self.unblock_group(&entry)?;
                    self.keep_receipts(&entry)?;
                    self.put(entry);
                }
            }
            if let Some(counts) = self.mem.counts(queue) {
                counts.shift(Some(state), None);
                counts.purged_retention += 1;
            }
        }
        self.delete_rows(first, last)
    }

    fn finished_row(&mut self, seq: u64) -> StoreResult<(JobId, QueueId, State, Timestamp, bool)> {
        let mut found = self.stmts.job_finished.query([seq as i64])?;
        let Some(row) = found.next()? else {
            return Err(crate::error::StoreError::corrupt(format!("finished job {seq} has no row")));
        };
        let created = Timestamp::from_unix_ms(row.get(0)?).unwrap_or(Timestamp::EPOCH);
        let ended_at = Timestamp::from_unix_ms(row.get(3)?).unwrap_or(Timestamp::EPOCH);
        let id = JobId::new(created, rows::seq(seq as i64)?);
        Ok((id, row.get(1)?, rows::state_of(row.get(2)?)?, ended_at, row.get::<_, Option<i64>>(4)?.is_some()))
    }

    /// The next time a tick has something to do, parked polls aside.
    pub(crate) fn next_due(&mut self, retention_slack_ms: u64) -> Timestamp {
        let slack = onefold_core::DurationMs::from_ms(retention_slack_ms);
        let load_timers = Self::timer_bucket_start(self.timers_loaded - TIMER_BUCKETS_AHEAD + 1);
        let a_minute = self.now.saturating_add(limits::WAIT_MAX);
        let timer = self.mem.first_timer().map(|(at, _)| at);
        let deadline = self.mem.first_deadline().map(|(at, _)| at);
        let retention = self.mem.retention_buckets().map(|(_, at)| at.saturating_add(slack)).min();
        [timer, deadline, retention].into_iter().flatten().fold(a_minute.min(load_timers), Timestamp::min)
    }
}

/// The runs of neighbours in a sorted list, as first and last.
fn runs(sorted: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for seq in sorted {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *seq => *last = *seq,
            _ => runs.push((*seq, *seq)),
        }
    }
    runs
}
