//! The two ends of a transaction: everything changed is written before the commit; after it, or
//! after a rollback, memory is what the file is.

use onefold_core::{State, Timestamp, rules};

use super::memory::{QueueId, SetName};
use super::store::{Pending, Store};
use crate::error::StoreResult;
use crate::rows;

impl Store<'_> {
    /// Begins: the clock is read once for everything in it.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.now = now;
        self.timers_loaded_before = self.timers_loaded;
        self.in_turn = None;
        self.schedules.begin();
    }

    /// Writes changed job rows.
    pub(crate) fn flush_jobs(&mut self) -> StoreResult<()> {
        // Left in place until the end: a rollback forgets every job in it.
        self.touched.sort_unstable();
        self.touched.dedup();
        for seq in &self.touched {
            let Some(entry) = self.cache.get_mut(seq) else { continue };
            let stmt = match entry.pending {
                Pending::Nothing => continue,
                Pending::Insert => &mut self.stmts.job_insert,
                Pending::Update => &mut self.stmts.job_update,
            };
            rows::write_job(stmt, &entry.job, entry.queue, entry.retain, &mut self.buffer)?;
            entry.pending = Pending::Nothing;
        }
        Ok(())
    }

    /// Writes everything the transaction changed.
    pub(crate) fn flush(&mut self) -> StoreResult<()> {
        self.flush_jobs()?;
        self.flush_events()?;
        let dirty = self.mem.take_dirty();
        for (name, bucket) in dirty.sets {
            let (kind, queue, lane, priority) = name.columns();
            match self.mem.set(name).and_then(|set| set.stored(bucket)) {
                Some(members) => {
                    self.stmts.set_put.execute((kind, queue, lane, priority, bucket as i64, members))?
                }
                None => self.stmts.set_delete.execute((kind, queue, lane, priority, bucket as i64))?,
            };
        }
        for id in dirty.queues {
            self.shown.push(id);
            if let Some(queue) = self.mem.queue(id) {
                let (settings, counts, starts) = queue.stored()?;
                self.stmts.queue_update.execute((id, settings, counts, starts))?;
            }
        }
        for bucket in dirty.retention {
            match self.mem.retention(bucket) {
                Some(at) => self.stmts.retention_put.execute((bucket as i64, at.as_unix_ms()))?,
                None => self.stmts.retention_delete.execute([bucket as i64])?,
            };
        }
        if dirty.sealing {
            self.stmts.sealing_put.execute([self.mem.sealing().stored()?])?;
        }
        let numbers = (self.mem.counters, self.tokens.high_water());
        if numbers != self.stored {
            let (counters, token) = numbers;
            let columns = (counters.next_seq as i64, token as i64, counters.next_event as i64);
            self.stmts.meta_update.execute(columns)?;
        }
        Ok(())
    }

    /// How many events wait to be written.
    pub(crate) fn events_pending(&self) -> u32 {
        self.events.count()
    }

    /// Writes the events so far, so that a row never holds too many.
    pub(crate) fn flush_events(&mut self) -> StoreResult<()> {
        let count = self.events.count();
        if count > 0 {
            let first = self.mem.counters.next_event - u64::from(count);
            let columns = (first as i64, count, self.now.as_unix_ms(), self.events.bytes());
            self.stmts.event_insert.execute(columns)?;
            self.events.clear();
        }
        Ok(())
    }

    pub(crate) fn take_shown(&mut self) -> Vec<QueueId> {
        std::mem::take(&mut self.shown)
    }

    /// The transaction is durable. Running jobs stay in memory, others are read again when needed.
    pub(crate) fn committed(&mut self) {
        self.mem.commit();
        self.stored = (self.mem.counters, self.tokens.high_water());
        for seq in std::mem::take(&mut self.touched) {
            if let Some(entry) = self.cache.get_mut(&seq) {
                if entry.job.state == State::Running {
                    entry.spec = None;
                } else {
                    self.cache.remove(&seq);
                }
            }
        }
        self.finished.clear();
        self.ended.clear();
    }

    /// The transaction never happened: what it touched is read again when needed.
    pub(crate) fn rolled_back(&mut self) {
        let (counters, token) = self.stored;
        self.mem.roll_back(counters);
        self.timers_loaded = self.timers_loaded_before;
        self.look_at_effects();
        self.schedules.roll_back();
        self.tokens.rewind(token);
        for seq in std::mem::take(&mut self.touched) {
            self.cache.remove(&seq);
        }
        self.events.clear();
        self.shown.clear();
        self.to_tell.clear();
        self.finished.clear();
        self.ended.clear();
    }

    /// Takes a job that is being deleted out of memory.
    pub(crate) fn forget(&mut self, seq: u64) {
        self.cache.remove(&seq);
    }

    /// Gives every live lease its full length again.
    pub(crate) fn renew_running_leases(&mut self) -> StoreResult<()> {
        let running: Vec<u64> =
            self.mem.set(SetName::Running).map(|set| set.iter().collect()).unwrap_or_default();
        for seq in running {
            if self.mem.is_set_aside(seq) {
                continue;
            }
            let mut entry = self.take_in_turn(seq)?;
            let _ = self.change(&mut entry, None, |job, policy, _, now| {
                rules::renew_lease(job, policy.timeout, now);
                Ok::<_, ()>(())
            })?;
            self.put(entry);
            self.turn_over();
        }
        self.renew_effect_leases()
    }
}
