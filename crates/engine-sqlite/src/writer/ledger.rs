//! The dedup ledger: who holds a key (I3).

use std::collections::HashSet;

use onefold_core::{Hold, JobId, JobStatus, Key, KeyView, Timestamp};

use super::memory::QueueId;
use super::store::{Entry, Store};
use super::tick::runs;
use crate::error::StoreResult;
use crate::key_index::KeyHash;
use crate::ledger_id::LedgerId;
use crate::rows::LedgerRow;

/// Keys of jobs.
pub(crate) const SPACE_JOB: u8 = 0;
/// Identities of requests.
pub(crate) const SPACE_REQUEST: u8 = 1;
/// Ticks of schedules. They belong to no queue: a tick is the same whichever its schedule adds to.
pub(crate) const SPACE_TICK: u8 = 2;
/// The queue of keys that belong to none.
pub(crate) const NO_QUEUE: QueueId = 0;

/// The class of a ledger entry: windows of one class differ by less than a factor of two, so
/// that entries of a class expire nearly in the order they were written.
fn class_of(until: Timestamp, now: Timestamp) -> u16 {
    let window = (until.as_unix_ms() - now.as_unix_ms()).max(1).unsigned_abs();
    (64 - window.leading_zeros()) as u16
}

/// Entries whose window is over but whose job is not finished go to a class of their own, one for
/// the hour (modulo 64) in which they are looked at again.
const OVERDUE: u16 = 128;
/// Classes there can be.
pub(crate) const LEDGER_CLASSES: u16 = OVERDUE + 64;
const HOUR_MS: i64 = 3_600_000;

fn overdue_class(now: Timestamp) -> u16 {
    OVERDUE + ((now.as_unix_ms() / HOUR_MS + 1) % 64) as u16
}

/// Whether entries of a class may be looked at: all but those of an hour still to come.
fn may_look(class: u16, now: Timestamp) -> bool {
    let hour = (now.as_unix_ms() / HOUR_MS % 64) as u16;
    class < OVERDUE || (64 + hour - (class - OVERDUE) % 64) % 64 < 32
}

/// Jobs this far apart are looked up by one range.
const NEIGHBOURS: u64 = 16;

impl Store<'_> {
    /// The entry that holds a key now. One that holds it no longer is dropped on the way.
    pub(crate) fn held(&mut self, space: u8, queue: QueueId, key: &Key) -> StoreResult<Option<LedgerRow>> {
        let hash = self.hasher.hash(space, queue, key.as_str());
        for lid in self.candidates(hash)? {
            let Some(row) = self.ledger_row(lid)? else { continue };
            if row.space != space || row.queue != queue || row.key != *key {
                continue;
            }
            if self.is_held(&row)? {
                return Ok(Some(row));
            }
            self.drop_entry(&row)?;
        }
        Ok(None)
    }

    fn ledger_row(&mut self, lid: LedgerId) -> StoreResult<Option<LedgerRow>> {
        let mut found = self.stmts.ledger_select.query([lid.stored()])?;
        found.next()?.map(LedgerRow::read).transpose()
    }

    fn is_held(&mut self, row: &LedgerRow) -> StoreResult<bool> {
        if self.now < row.hold.until {
            return Ok(true);
        }
        let state = if row.space == SPACE_JOB { self.state_of(row.hold.job)? } else { None };
        Ok(row.hold.is_held(state, self.now))
    }

    fn drop_entry(&mut self, row: &LedgerRow) -> StoreResult<()> {
        self.stmts.ledger_delete.execute([row.lid.stored()])?;
        self.forget_key(KeyHash::from_stored(row.hash), row.lid)
    }

    /// Records that `hold.job` holds a key.
    pub(crate) fn hold(&mut self, space: u8, queue: QueueId, key: &Key, hold: Hold) -> StoreResult<()> {
        let hash = self.hasher.hash(space, queue, key.as_str());
        let lid = self.mem.next_lid(class_of(hold.until, self.now));
        let row = LedgerRow { lid, space, queue, key: key.clone(), hold, hash: hash.stored(lid) };
        row.write(&mut self.stmts.ledger_insert)?;
        self.mem.insert_key(hash, lid);
        Ok(())
    }

    /// Replaces what is recorded about a key.
    pub(crate) fn rehold(&mut self, queue: QueueId, key: &Key, hold: Hold) -> StoreResult<()> {
        if let Some(row) = self.held(SPACE_JOB, queue, key)? {
            self.drop_entry(&row)?;
        }
        self.hold(SPACE_JOB, queue, key, hold)
    }

    /// Frees the key a job holds, if it does.
    pub(crate) fn free_key_of(&mut self, entry: &Entry) -> StoreResult<()> {
        let Some(key) = &entry.terms.key else { return Ok(()) };
        self.free_key(entry.queue, key, entry.job.id).map(drop)
    }

    /// Frees a key if `job` holds it.
    pub(crate) fn free_key(&mut self, queue: QueueId, key: &Key, job: JobId) -> StoreResult<bool> {
        let hash = self.hasher.hash(SPACE_JOB, queue, key.as_str());
        for lid in self.candidates(hash)? {
            let row = match self.ledger_row(lid) {
                Ok(Some(row)) => row,
                Ok(None) => continue,
                // Its key stays held; the job ends all the same.
                Err(error) if error.is_damage() => {
                    tracing::error!(%error, "a damaged entry of the dedup ledger is kept");
                    continue;
                }
                Err(error) => return Err(error),
            };
            if row.space == SPACE_JOB && row.queue == queue && row.key == *key && row.hold.job == job {
                self.drop_entry(&row)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Drops entries from the heads of the classes that hold nothing any more; those that still
    /// do, because their job is not finished, are looked at again in an hour. At most `limit` a
    /// class; whether there are more.
    pub(crate) fn retire_ledger(&mut self, limit: u32) -> StoreResult<bool> {
        let now = self.now;
        let classes: Vec<u16> =
            self.mem.ledger_tails.keys().copied().filter(|class| may_look(*class, now)).collect();
        let mut more = false;
        for class in classes {
            let range = (LedgerId::new(class, 0).stored(), LedgerId::last_of(class).stored());
            let mut heads = Vec::new();
            let mut found = self.stmts.ledger_head.query((range.0, range.1, limit))?;
            while let Some(row) = found.next()? {
                let lid = LedgerId::from_stored(row.get(0)?);
                let row = match LedgerRow::read(row) {
                    Ok(row) => row,
                    // It goes on holding its key, and adding that key is refused.
                    Err(error) => {
                        if self.damaged_entries.insert(lid) {
                            tracing::error!(%error, "a damaged entry of the dedup ledger is kept");
                        }
                        continue;
                    }
                };
                if now < row.hold.until {
                    break;
                }
                heads.push(row);
            }
            drop(found);
            more |= heads.len() == limit as usize;
            self.drop_over(heads)?;
        }
        Ok(more)
    }

    /// Drops entries whose window is over. Those whose job is not finished are entered anew.
    fn drop_over(&mut self, rows: Vec<LedgerRow>) -> StoreResult<()> {
        let unfinished = self.unfinished_holders(&rows)?;
        for (first, last) in runs(rows.iter().map(|row| row.lid.bits())) {
            self.stmts.ledger_delete_run.execute((first as i64, last as i64))?;
        }
        for row in rows {
            let hash = KeyHash::from_stored(row.hash);
            self.forget_key(hash, row.lid)?;
            if row.space == SPACE_JOB && unfinished.contains(&row.hold.job.seq().get()) {
                let lid = self.mem.next_lid(overdue_class(self.now));
                LedgerRow { lid, hash: hash.stored(lid), ..row }.write(&mut self.stmts.ledger_insert)?;
                self.mem.insert_key(hash, lid);
            }
        }
        Ok(())
    }

    /// Which jobs that these entries name may not be finished, by sequence. Rows are not verified
    /// here: one damaged number says nothing, and whoever adds the key is told of the damage.
    fn unfinished_holders(&mut self, rows: &[LedgerRow]) -> StoreResult<HashSet<u64>> {
        self.flush_jobs()?;
        let mut seqs: Vec<u64> = rows.iter().map(|row| row.hold.job.seq().get()).collect();
        seqs.sort_unstable();
        let mut unfinished = HashSet::new();
        // Entries of one time mostly name neighbouring jobs; a range may well span some others.
        for range in seqs.chunk_by(|one, next| next - one < NEIGHBOURS) {
            let (Some(first), Some(last)) = (range.first(), range.last()) else { continue };
            let mut found = self.stmts.jobs_unfinished.query((*first as i64, *last as i64))?;
            while let Some(row) = found.next()? {
                unfinished.insert(row.get::<_, i64>(0)? as u64);
            }
        }
        Ok(unfinished)
    }

    /// What a person is told about a held key.
    pub(crate) fn key_view(&mut self, row: &LedgerRow) -> StoreResult<KeyView> {
        let hold = &row.hold;
        Ok(KeyView {
            job: hold.job,
            status: self.status(hold.job)?,
            until: hold.until,
            free_on: hold.free_on,
        })
    }

    /// Where a job stands, for an answer about its key.
    pub(crate) fn status(&mut self, id: JobId) -> StoreResult<JobStatus> {
        Ok(self.state_of(id)?.map_or(JobStatus::Purged, JobStatus::Known))
    }
}
