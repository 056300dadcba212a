//! Jobs taken from the file into memory to be worked on, and given back.

use onefold_core::{JobId, JobSpec, JobView, State};

use super::memory::SetName;
use super::store::{Entry, Places, Store};
use crate::error::{StoreError, StoreResult};
use crate::rows;
use crate::shared::QueueSeen;

/// Payload read ahead at the most, the last job's aside.
const RUN_BYTES_MAX: usize = 1024 * 1024;

impl Store<'_> {
    /// Takes a job out to be worked on; give it back with [`Store::put`]. `None`: there is none.
    pub(crate) fn take(&mut self, seq: u64) -> StoreResult<Option<Box<Entry>>> {
        if let Some(entry) = self.cache.remove(&seq) {
            return Ok(Some(entry));
        }
        let Some(row) = self.read_job(seq)? else { return Ok(None) };
        let spec = self.read_spec(seq)?;
        Ok(Some(Box::new(Entry::read(row, spec))))
    }

    /// Reads the jobs from `first` to `last` together. What cannot be read is left to
    /// [`Store::take`], which says so; so is what follows a very large payload.
    pub(super) fn read_run(&mut self, first: u64, last: u64) -> StoreResult<()> {
        let mem = &self.mem;
        let range = (first as i64, last as i64);
        let mut read = Vec::with_capacity((last - first + 1) as usize);
        let (mut jobs, mut specs) = (self.stmts.job_run.query(range)?, self.stmts.spec_run.query(range)?);
        let mut bytes = 0;
        while let (Some(job), Some(spec)) = (jobs.next()?, specs.next()?) {
            // Jobs added in this transaction have no row yet.
            if job.get::<_, i64>(0)? != spec.get::<_, i64>(0)? {
                break;
            }
            let name = |id| mem.queue(id).map(|queue| queue.name.clone());
            let (Ok(row), Ok(spec)) = (rows::read_job(job, name), rows::read_spec(spec)) else { break };
            bytes += spec.payload.len();
            read.push((row, spec));
            if bytes > RUN_BYTES_MAX {
                break;
            }
        }
        drop((jobs, specs));
        for (row, spec) in read {
            let seq = row.job.id.seq().get();
            self.touched.push(seq);
            self.cache.entry(seq).or_insert_with(|| Box::new(Entry::read(row, spec)));
        }
        Ok(())
    }

    /// Like [`Store::take`], for a job whose turn it is by where it stands: it must be there. Call
    /// [`Store::turn_over`] once all is well.
    pub(crate) fn take_in_turn(&mut self, seq: u64) -> StoreResult<Box<Entry>> {
        self.in_turn = Some(seq);
        self.take(seq)?.ok_or_else(|| StoreError::corrupt(format!("job {seq} has no row")))
    }

    pub(crate) fn turn_over(&mut self) {
        self.in_turn = None;
    }

    /// Passes over the job whose turn it was when a transaction failed over damaged rows. `None`:
    /// there was none, and who asked has to be told.
    pub(crate) fn set_turn_aside(&mut self) -> Option<u64> {
        self.in_turn.take().filter(|seq| self.mem.set_aside(*seq))
    }

    /// Like [`Store::take`], by id: a job of another time with the same sequence is not meant.
    pub(crate) fn take_id(&mut self, id: JobId) -> StoreResult<Option<Box<Entry>>> {
        match self.take(id.seq().get())? {
            Some(entry) if entry.job.id == id => Ok(Some(entry)),
            Some(other) => {
                self.put(other);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    pub(crate) fn put(&mut self, entry: Box<Entry>) {
        let seq = entry.seq();
        self.touched.push(seq);
        self.cache.insert(seq, entry);
    }

    /// Puts a running job into memory when the store is opened.
    pub(crate) fn load_running(&mut self, seq: u64) -> StoreResult<()> {
        let Some(mut entry) = self.take(seq)? else {
            return Err(StoreError::corrupt(format!("running job {seq} has no row")));
        };
        let places = Places::of(&entry.job);
        if let Some(deadline) = places.deadline {
            self.mem.insert_deadline(deadline, seq);
        }
        if let Some(group) = &entry.terms.group {
            self.mem.set_group_runs(entry.queue, group, true);
        }
        entry.spec = None;
        self.put(entry);
        Ok(())
    }

    /// A job's state, if it is there.
    pub(crate) fn state_of(&mut self, id: JobId) -> StoreResult<Option<State>> {
        let seq = id.seq().get();
        if let Some(entry) = self.cache.get(&seq) {
            return Ok(Some(&entry.job).filter(|job| job.id == id).map(|job| job.state));
        }
        Ok(self.read_job(seq)?.filter(|row| row.job.id == id).map(|row| row.job.state))
    }

    pub(super) fn read_job(&mut self, seq: u64) -> StoreResult<Option<rows::JobRow>> {
        let mem = &self.mem;
        let mut found = self.stmts.job_select.query([seq as i64])?;
        match found.next()? {
            Some(row) => rows::read_job(row, |id| mem.queue(id).map(|queue| queue.name.clone())).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn read_spec(&mut self, seq: u64) -> StoreResult<JobSpec> {
        let mut found = self.stmts.spec_select.query([seq as i64])?;
        match found.next()? {
            Some(row) => rows::read_spec(row),
            None => Err(StoreError::corrupt(format!("job {seq} has no record of what was asked for"))),
        }
    }

    /// A job's spec: the one at hand, or read again.
    pub(crate) fn spec(&mut self, entry: &mut Entry) -> StoreResult<JobSpec> {
        match entry.spec.take() {
            Some(spec) => Ok(spec),
            None => self.read_spec(entry.seq()),
        }
    }

    /// Everything about a job.
    pub(crate) fn view(&mut self, entry: &mut Entry) -> StoreResult<JobView> {
        let id = entry.job.id.seq();
        let spec = self.spec(entry)?;
        entry.spec = Some(spec.clone());
        let mut attempts = Vec::new();
        let mut found = self.stmts.attempt_select.query([id.get() as i64])?;
        while let Some(row) = found.next()? {
            attempts.push(rows::read_attempt(row, id)?);
        }
        drop(found);
        attempts.extend(entry.job.attempt.clone());
        let evidence = crate::reader::read_evidence(&mut self.stmts.evidence_select, id)?;
        let result = crate::reader::read_optional(&mut self.stmts.result_select, id)?;
        let checkpoint = crate::reader::read_optional(&mut self.stmts.checkpoint_select, id)?;
        let waiting = match self.mem.queue(entry.queue) {
            Some(queue) if entry.job.state == State::Available => {
                let ready = self.mem.set(SetName::Ready(entry.line(), entry.job.priority));
                let leasable = ready.is_some_and(|set| set.contains(entry.seq()));
                crate::reader::waiting(leasable, &QueueSeen::of(queue), self.now)
            }
            _ => None,
        };
        let effects = crate::effects::of_job(&mut self.stmts.effects_of_job, id)?;
        Ok(JobView { job: entry.job.clone(), spec, attempts, evidence, waiting, result, checkpoint, effects })
    }
}
