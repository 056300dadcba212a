//! What time does to the store: jobs come due, attempts run out, things kept for a time go.

use std::sync::Arc;

use onefold_core::{Attempt, DurationMs, Event, JobId, QueueSettings, State, Timestamp, limits, rules};

use super::memory::QueueId;
use super::queue::Queue;
use super::store::Store;
use crate::error::StoreResult;
use crate::rows;

/// Jobs one tick moves at the most, of each sort, so that it never holds up the others for long.
const MOVES_PER_TICK: u64 = 2_000;
/// Finished jobs one tick purges: about a millisecond's work, since adds wait for it.
const PURGED_PER_TICK: usize = 512;
/// When to look again at a finished job that cannot be read: it may be repaired by then.
const PASSED_OVER: DurationMs = DurationMs::from_ms(24 * 3_600_000);
/// Ledger entries of one class one tick drops.
const KEYS_PER_TICK: u32 = 512;
/// Rows of events and receipts one tick looks at.
const ROWS_PER_TICK: usize = 2_000;
/// Timers of this many buckets ahead (about 9 minutes) are in memory.
const TIMER_BUCKETS_AHEAD: i64 = 2;

/// What a tick did.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) due: u64,
    pub(crate) ticks: u64,
    pub(crate) expired: u64,
    pub(crate) purged: u64,
    /// There is more to do at once.
    pub(crate) more: bool,
}

impl Store<'_> {
    /// Does what is due, a bounded amount; nothing new unless `adds`.
    pub(crate) fn tick(&mut self, retention_slack_ms: u64, adds: bool) -> StoreResult<Work> {
        let mut work = Work::default();
        if adds {
            self.evaluate_schedules(&mut work)?;
        }
        self.load_timers()?;
        self.fire_timers(&mut work)?;
        self.pass_deadlines(&mut work)?;
        self.open_rates();
        self.retire_jobs(&mut work, retention_slack_ms)?;
        work.more |= self.retire_ledger(KEYS_PER_TICK)?;
        work.more |= self.retire_effects()?;
        work.more |= self.retire_history()?;
        Ok(work)
    }

    /// Drops receipts and events whose time is over, and the names that only those events needed.
    fn retire_history(&mut self) -> StoreResult<bool> {
        let receipts = self.stmts.receipt_retire.execute((self.now.as_unix_ms(), ROWS_PER_TICK as i64))?;
        let events_until = self.now.saturating_sub(limits::EVENTS_KEPT).as_unix_ms();
        let events = self.stmts.event_retire.execute((events_until, ROWS_PER_TICK as i64))?;
        let more = receipts == ROWS_PER_TICK || events == ROWS_PER_TICK;
        if !more {
            self.stmts.queue_forget.execute([events_until])?;
        }
        Ok(more)
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
            if work.due + overdue.len() as u64 >= MOVES_PER_TICK {
                work.more = true;
                break;
            }
            if self.mem.is_set_aside(seq) {
                self.mem.remove_timer(at, seq);
                continue;
            }
            let mut entry = self.take_in_turn(seq)?;
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
            self.turn_over();
        }
        overdue.sort_unstable();
        for seq in overdue {
            let mut entry = self.take_in_turn(seq)?;
            self.expire(&mut entry)?;
            // Those behind it may be leased now.
            self.mem.wake(entry.queue);
            self.put(entry);
            self.turn_over();
        }
        Ok(())
    }

    fn pass_deadlines(&mut self, work: &mut Work) -> StoreResult<()> {
        while let Some((at, seq)) = self.mem.first_deadline().filter(|(at, _)| *at <= self.now) {
            if work.expired >= MOVES_PER_TICK {
                work.more = true;
                break;
            }
            if self.mem.is_set_aside(seq) {
                self.mem.remove_deadline(at, seq);
                continue;
            }
            let mut entry = self.take_in_turn(seq)?;
            let timed_out = entry.job.attempt.as_ref().is_some_and(Attempt::ends_at_hard_limit);
            let event = if timed_out { Event::Failed } else { Event::LeaseLost };
            let changed = self.change(&mut entry, Some(event), |job, policy, entropy, now| {
                rules::deadline_passed(job, policy, now, entropy)
            })?;
            if changed.is_err() {
                // A deadline nothing follows from must not come up again and again.
                self.mem.remove_deadline(at, seq);
            }
            self.put(entry);
            self.turn_over();
            work.expired += 1;
        }
        Ok(())
    }

    /// Lets polls be looked at again where a rate has room for them.
    fn open_rates(&mut self) {
        let now = self.now;
        let ahead: Vec<QueueId> = self
            .mem
            .rated()
            .filter(|(_, queue)| queue.starts.last().is_some_and(|last| last > now))
            .map(|(id, _)| id)
            .collect();
        for id in ahead {
            if let Some(starts) = self.mem.starts(id) {
                starts.settle(now);
            }
        }
        let has_room = |queue: &Queue| queue.counts.available > 0 && queue.full_until(now).is_none();
        let open: Vec<QueueId> =
            self.mem.rated().filter(|(_, queue)| has_room(queue)).map(|(id, _)| id).collect();
        open.into_iter().for_each(|id| self.mem.wake(id));
    }

    fn retire_jobs(&mut self, work: &mut Work, slack_ms: u64) -> StoreResult<()> {
        let slack = DurationMs::from_ms(slack_ms);
        let due = |at: Timestamp, now: Timestamp| at == Timestamp::EPOCH || at.saturating_add(slack) <= now;
        let now = self.now;
        let buckets: Vec<u64> =
            self.mem.retention_buckets().filter(|(_, at)| due(*at, now)).map(|(bucket, _)| bucket).collect();
        let mut left = PURGED_PER_TICK;
        for bucket in buckets {
            if left == 0 {
                work.more = true;
                break;
            }
            let purged = self.retire_bucket(bucket, left)?;
            left -= purged;
            work.purged += purged as u64;
        }
        Ok(())
    }

    /// Deletes up to `limit` jobs of a bucket whose retention is over and notes when to look again.
    fn retire_bucket(&mut self, bucket: u64, limit: usize) -> StoreResult<usize> {
        self.flush_jobs()?;
        let (first, last) = (bucket << 12, (bucket << 12) | 0xfff);
        let mut over: Vec<Finished> = Vec::new();
        let mut next: Option<Timestamp> = None;
        let again = self.now.saturating_add(PASSED_OVER);
        let mut settings: Option<(QueueId, Arc<QueueSettings>)> = None;
        let mut found = self.stmts.job_retention.query((first as i64, last as i64))?;
        while let Some(row) = found.next()? {
            let seq = row.get::<_, i64>(0)? as u64;
            if self.mem.is_set_aside(seq) {
                next = Some(next.map_or(again, |next| next.min(again)));
                continue;
            }
            self.in_turn = Some(seq);
            let job = Finished::read(row)?;
            self.in_turn = None;
            if settings.as_ref().is_none_or(|(id, _)| *id != job.queue) {
                settings = self.mem.queue(job.queue).map(|queue| (job.queue, Arc::clone(&queue.settings)));
            }
            let queue_keeps = settings.as_ref().map(|(_, settings)| settings.retention(job.state));
            let keep = job.retain.or(queue_keeps).unwrap_or(limits::RETAIN_COMPLETED);
            let at = job.finished_at.saturating_add(keep);
            if at <= self.now && over.len() == limit {
                next = Some(Timestamp::EPOCH);
                break;
            }
            if at <= self.now {
                over.push(job);
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        drop(found);
        for job in &over {
            self.in_turn = Some(job.id.seq().get());
            self.purge(job)?;
            self.turn_over();
        }
        for (first, last) in runs(over.iter().map(|job| job.id.seq().get())) {
            self.delete_rows(first, last)?;
        }
        self.mem.set_retention(bucket, next);
        Ok(over.len())
    }

    /// Counts a finished job out, and keeps what must outlive its rows.
    fn purge(&mut self, job: &Finished) -> StoreResult<()> {
        let recent = job.finished_at.saturating_add(limits::FINISH_REPLAY) > self.now;
        if (recent || job.grouped)
            && let Some(entry) = self.take_id(job.id)?
        {
            self.tell_group_unblocked(&entry)?;
            self.unblock_group(&entry)?;
            self.keep_receipts(&entry)?;
            self.put(entry);
        }
        if let Some(counts) = self.mem.counts(job.queue) {
            counts.shift(Some(job.state), None);
            counts.purged_retention += 1;
        }
        Ok(())
    }

    /// The next time a tick has something to do, parked polls aside.
    pub(crate) fn next_due(&mut self, retention_slack_ms: u64, adds: bool) -> Timestamp {
        let slack = DurationMs::from_ms(retention_slack_ms);
        let load_timers = Self::timer_bucket_start(self.timers_loaded - TIMER_BUCKETS_AHEAD + 1);
        let a_minute = self.now.saturating_add(limits::WAIT_MAX);
        let timer = self.mem.first_timer().map(|(at, _)| at);
        let deadline = self.mem.first_deadline().map(|(at, _)| at);
        let retention = self.mem.retention_buckets().map(|(_, at)| at.saturating_add(slack)).min();
        let waits = self.mem.rated().filter(|(_, queue)| queue.counts.available > 0);
        let rate = waits.filter_map(|(_, queue)| queue.full_until(self.now)).min();
        let tick = self.schedules.next().filter(|_| adds);
        [timer, deadline, retention, rate, self.effects_due, tick]
            .into_iter()
            .flatten()
            .fold(a_minute.min(load_timers), Timestamp::min)
    }
}

/// What of a finished job its retention depends on.
struct Finished {
    id: JobId,
    queue: QueueId,
    state: State,
    finished_at: Timestamp,
    retain: Option<DurationMs>,
    grouped: bool,
}

impl Finished {
    fn read(row: &rusqlite::Row<'_>) -> StoreResult<Finished> {
        let time = |ms: i64| Timestamp::from_unix_ms(ms).unwrap_or(Timestamp::EPOCH);
        Ok(Finished {
            id: JobId::new(time(row.get(1)?), rows::seq(row.get(0)?)?),
            queue: row.get(2)?,
            state: rows::state_of(row.get(3)?)?,
            finished_at: time(row.get(4)?),
            retain: row.get::<_, Option<i64>>(5)?.map(|ms| DurationMs::from_ms(ms.unsigned_abs())),
            grouped: row.get(6)?,
        })
    }
}

/// The runs of neighbours among growing numbers, as first and last.
pub(super) fn runs(growing: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for seq in growing {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == seq => *last = seq,
            _ => runs.push((seq, seq)),
        }
    }
    runs
}
