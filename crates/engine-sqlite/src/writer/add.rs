//! Adding jobs: one per key (I3).

use std::collections::HashMap;

use onefold_core::{
    AddParams, Added, Event, EventKind, EvidenceKind, Fingerprint, Hold, Holder, ItemResult, Job, JobId,
    JobSpec, JobStatus, Key, NewJob, Refusal, RepeatDecision, Seq, State, callback, decide_repeat, limits,
    replaced_run_at, rules, run_at,
};

use super::ledger::{SPACE_JOB, SPACE_REQUEST};
use super::memory::QueueId;
use super::store::{EVENTS_PER_ROW, Entry, Store};
use crate::error::{StoreError, StoreResult};

impl Store<'_> {
    pub(crate) fn add(&mut self, params: &AddParams) -> StoreResult<Vec<ItemResult<Added>>> {
        if params.atomic {
            // A queue that is not there yet holds no keys, and a refused batch does not make it.
            let queue = self.mem.queue_id(&params.queue).unwrap_or(self.mem.counters.next_queue);
            if let Some(refused) = self.refuse_atomic(queue, &params.jobs)? {
                return Ok(refused);
            }
        }
        let queue = self.queue_made(&params.queue)?;
        let mut outcomes = Vec::with_capacity(params.jobs.len());
        for job in &params.jobs {
            outcomes.push(self.add_one(queue, job)?);
            if self.events_pending() >= EVENTS_PER_ROW {
                self.flush_events()?;
            }
        }
        Ok(outcomes)
    }

    fn add_one(&mut self, queue: QueueId, given: &NewJob) -> StoreResult<ItemResult<Added>> {
        let mut new = given.clone();
        if let Some(found) = self.mem.queue(queue) {
            found.settings.apply_to(&mut new);
        }
        let Some(request) = new.request.take() else { return self.add_by_key(queue, new) };
        if let Some(row) = self.held(SPACE_REQUEST, queue, &request.key)? {
            return if row.hold.fingerprint == request.fingerprint {
                self.duplicate(queue, row.hold.job, None).map(Ok)
            } else {
                self.mismatch(queue, row.hold.job).map(Err)
            };
        }
        let added = match self.add_by_key(queue, new)? {
            Ok(added) => added,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let until = self.now.saturating_add(limits::REQUEST_IDENTITY_WINDOW);
        let hold =
            Hold { job: added.id, fingerprint: request.fingerprint, until, free_on: Default::default() };
        self.hold(SPACE_REQUEST, queue, &request.key, hold)?;
        Ok(Ok(added))
    }

    fn add_by_key(&mut self, queue: QueueId, new: NewJob) -> StoreResult<ItemResult<Added>> {
        let Some(key) = new.spec.key.clone() else { return self.insert(queue, new).map(Ok) };
        let Some(row) = self.held(SPACE_JOB, queue, &key)? else { return self.insert(queue, new).map(Ok) };
        let existing = row.hold.job;
        let fingerprint = new.spec.fingerprint.clone().unwrap_or_else(|| row.hold.fingerprint.clone());
        let (not_started, version) = self.holder(existing, new.spec.dedup.version.is_some())?;
        match decide_repeat(&new.spec.dedup, &fingerprint, Holder { hold: &row.hold, not_started, version }) {
            RepeatDecision::Return => self.duplicate(queue, existing, None).map(Ok),
            RepeatDecision::ReturnNotReplaced => self.duplicate(queue, existing, Some(false)).map(Ok),
            RepeatDecision::Replace => self.replace(queue, existing, new, fingerprint).map(Ok),
            RepeatDecision::RejectDuplicate => {
                self.duplicate(queue, existing, None)?;
                Ok(Err(Refusal::DuplicateKey { existing }))
            }
            RepeatDecision::RejectMismatch => self.mismatch(queue, existing).map(Err),
            RepeatDecision::RejectStaleVersion => Ok(Err(Refusal::VersionStale { existing })),
        }
    }

    /// Whether the holder of a key has not started, and its version if that is wanted.
    fn holder(&mut self, id: JobId, version_wanted: bool) -> StoreResult<(bool, Option<u64>)> {
        let Some(mut entry) = self.take_id(id)? else { return Ok((false, None)) };
        let not_started = entry.job.not_started();
        let version = if version_wanted {
            let spec = self.spec(&mut entry)?;
            let version = spec.dedup.version;
            entry.spec = Some(spec);
            version
        } else {
            None
        };
        self.put(entry);
        Ok((not_started, version))
    }

    /// Adds the jobs that tell of ends, in the transaction of those.
    pub(crate) fn tell_ends(&mut self) -> StoreResult<()> {
        for seq in std::mem::take(&mut self.to_tell) {
            let Some(mut ended) = self.take(seq)? else { continue };
            let spec = self.spec(&mut ended)?;
            let result = crate::reader::read_optional(&mut self.stmts.result_select, ended.job.id.seq())?;
            let told = callback(&ended.job, &spec, result.as_ref());
            let queue = ended.queue;
            ended.spec = Some(spec);
            self.put(ended);
            if let (Some(mut new), Some(found)) = (told, self.mem.queue(queue)) {
                found.settings.apply_to(&mut new);
                self.insert(queue, new)?;
            }
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, queue: QueueId, new: NewJob) -> StoreResult<Added> {
        let name = match self.mem.queue(queue) {
            Some(found) => found.name.clone(),
            None => return Err(StoreError::corrupt(format!("queue {queue} is not known"))),
        };
        let number = self.take_seq();
        let seq = Seq::new(number).unwrap_or(Seq::MAX);
        let id = JobId::new(self.now, seq);
        let run_at = run_at(new.when, self.now);
        let state = if run_at > self.now { State::Scheduled } else { State::Available };
        if let (Some(key), Some(fingerprint)) = (&new.spec.key, &new.spec.fingerprint) {
            let until = self.now.saturating_add(new.spec.dedup.window);
            let hold =
                Hold { job: id, fingerprint: fingerprint.clone(), until, free_on: new.spec.dedup.free_on };
            self.hold(SPACE_JOB, queue, key, hold)?;
        }
        crate::rows::write_spec(&mut self.stmts.spec_insert, seq, &new.spec)?;
        let job = Job {
            id,
            queue: name,
            state,
            reason: None,
            priority: new.priority,
            run_at,
            max_attempts: new.max_attempts.unwrap_or(limits::MAX_ATTEMPTS),
            failures: 0,
            lost_leases: 0,
            recent_losses: Vec::new(),
            retry_until: None,
            cancel_requested: false,
            finished_at: None,
            group_order: new.spec.group.as_ref().map(|_| number),
            attempt: None,
            duplicates: 0,
            mismatches: 0,
        };
        let mut entry = Box::new(Entry::new(job, queue, new.spec));
        self.enter(&mut entry)?;
        self.put(entry);
        Ok(Added {
            id,
            status: JobStatus::Known(state),
            run_at: Some(run_at),
            duplicate: false,
            replaced: None,
        })
    }

    fn duplicate(&mut self, queue: QueueId, id: JobId, replaced: Option<bool>) -> StoreResult<Added> {
        if let Some(counts) = self.mem.counts(queue) {
            counts.duplicates += 1;
        }
        let Some(mut entry) = self.take_id(id)? else {
            self.emit(EventKind::Duplicate, queue, None);
            return Ok(Added { id, status: JobStatus::Purged, run_at: None, duplicate: true, replaced });
        };
        entry.job.duplicates = entry.job.duplicates.saturating_add(1);
        entry.touch();
        self.note(entry.seq(), EvidenceKind::DuplicateAdd, entry.job.duplicates, None)?;
        self.emit(EventKind::Duplicate, queue, Some(&entry.job));
        let (status, run_at) = (JobStatus::Known(entry.job.state), Some(entry.job.run_at));
        self.put(entry);
        Ok(Added { id, status, run_at, duplicate: true, replaced })
    }

    fn mismatch(&mut self, queue: QueueId, id: JobId) -> StoreResult<Refusal> {
        if let Some(counts) = self.mem.counts(queue) {
            counts.mismatches += 1;
        }
        match self.take_id(id)? {
            Some(mut entry) => {
                entry.job.mismatches = entry.job.mismatches.saturating_add(1);
                entry.touch();
                self.note(entry.seq(), EvidenceKind::Mismatch, entry.job.mismatches, None)?;
                self.emit(EventKind::Mismatch, queue, Some(&entry.job));
                self.put(entry);
            }
            None => self.emit(EventKind::Mismatch, queue, None),
        }
        Ok(Refusal::KeyReused { existing: id })
    }

    /// Puts new content into a job that has not started.
    fn replace(
        &mut self,
        queue: QueueId,
        id: JobId,
        new: NewJob,
        fingerprint: Fingerprint,
    ) -> StoreResult<Added> {
        let Some(mut entry) = self.take_id(id)? else { return self.duplicate(queue, id, Some(false)) };
        let old = self.spec(&mut entry)?;
        let created_at = entry.job.created_at();
        let run_at = replaced_run_at(&new.spec.dedup, created_at, run_at(new.when, self.now));
        let mut spec = JobSpec { key: old.key.clone(), group: old.group.clone(), ..new.spec };
        spec.dedup.version = spec.dedup.version.or(old.dedup.version);
        spec.fingerprint = Some(fingerprint.clone());
        crate::rows::write_spec(&mut self.stmts.spec_update, id.seq(), &spec)?;
        if let Some(key) = &spec.key {
            let until = created_at.saturating_add(spec.dedup.window);
            self.rehold(queue, key, Hold { job: id, fingerprint, until, free_on: spec.dedup.free_on })?;
        }
        self.replace_terms(&mut entry, super::store::Terms::of(&spec))?;
        entry.retain = spec.retain;
        entry.spec = Some(spec);
        let (priority, max_attempts) = (new.priority, new.max_attempts.unwrap_or(limits::MAX_ATTEMPTS));
        let changed = self.change(&mut entry, Some(Event::Rescheduled), |job, _, _, now| {
            rules::reschedule(job, run_at, now)?;
            job.priority = priority;
            job.max_attempts = max_attempts;
            job.duplicates = job.duplicates.saturating_add(1);
            Ok::<_, onefold_core::IllegalTransition>(())
        })?;
        if let Some(counts) = self.mem.counts(queue) {
            counts.duplicates += 1;
        }
        self.note_next(entry.seq(), EvidenceKind::Replaced, None)?;
        self.note(entry.seq(), EvidenceKind::DuplicateAdd, entry.job.duplicates.max(1), None)?;
        let (status, run_at) = (JobStatus::Known(entry.job.state), Some(entry.job.run_at));
        self.put(entry);
        Ok(Added { id, status, run_at, duplicate: true, replaced: Some(changed.is_ok()) })
    }

    /// What an atomic add is refused with, if any of its jobs would be: looked up beforehand, so
    /// that nothing has to be taken back.
    fn refuse_atomic(
        &mut self,
        queue: QueueId,
        jobs: &[NewJob],
    ) -> StoreResult<Option<Vec<ItemResult<Added>>>> {
        let mut earlier: HashMap<Key, (JobId, Fingerprint, Option<u64>)> = HashMap::new();
        let mut requests: HashMap<Key, (JobId, Fingerprint)> = HashMap::new();
        let mut refusal = None;
        for (item, job) in jobs.iter().enumerate() {
            if let Some(refused) = self.would_refuse(queue, job, &mut earlier, &mut requests)? {
                refusal = Some((item, refused));
                break;
            }
        }
        let Some((item, refused)) = refusal else { return Ok(None) };
        let other = || Refusal::AtomicBatch { item };
        let all = (0..jobs.len()).map(|i| Err(if i == item { refused.clone() } else { other() }));
        Ok(Some(all.collect()))
    }

    fn would_refuse(
        &mut self,
        queue: QueueId,
        job: &NewJob,
        earlier: &mut HashMap<Key, (JobId, Fingerprint, Option<u64>)>,
        requests: &mut HashMap<Key, (JobId, Fingerprint)>,
    ) -> StoreResult<Option<Refusal>> {
        if let Some(request) = &job.request {
            let first = match requests.get(&request.key) {
                Some(first) => Some(first.clone()),
                None => {
                    let row = self.held(SPACE_REQUEST, queue, &request.key)?;
                    row.map(|row| (row.hold.job, row.hold.fingerprint))
                }
            };
            if let Some((existing, fingerprint)) = first {
                let reused = fingerprint != request.fingerprint;
                return Ok(reused.then_some(Refusal::KeyReused { existing }));
            }
        }
        let answered = match self.would_answer(queue, job, earlier)? {
            Ok(answered) => answered,
            Err(refusal) => return Ok(Some(refusal)),
        };
        if let Some(request) = &job.request {
            requests.insert(request.key.clone(), (answered, request.fingerprint.clone()));
        }
        Ok(None)
    }

    /// The job that an add of an atomic batch would be answered with, its request's identity aside.
    fn would_answer(
        &mut self,
        queue: QueueId,
        job: &NewJob,
        earlier: &mut HashMap<Key, (JobId, Fingerprint, Option<u64>)>,
    ) -> StoreResult<ItemResult<JobId>> {
        // An earlier job of the same batch has no id yet; the one it will get is not known.
        let unborn = JobId::new(self.now, Seq::new(self.mem.counters.next_seq).unwrap_or(Seq::MAX));
        let (Some(key), Some(fingerprint)) = (&job.spec.key, &job.spec.fingerprint) else {
            return Ok(Ok(unborn));
        };
        let (hold, not_started, version) = match earlier.get(key) {
            Some((job, fingerprint, version)) => {
                let hold = Hold {
                    job: *job,
                    fingerprint: fingerprint.clone(),
                    until: self.now,
                    free_on: Default::default(),
                };
                (hold, true, *version)
            }
            None => match self.held(SPACE_JOB, queue, key)? {
                Some(row) => {
                    let (not_started, version) = self.holder(row.hold.job, true)?;
                    (row.hold, not_started, version)
                }
                None => {
                    earlier.insert(key.clone(), (unborn, fingerprint.clone(), job.spec.dedup.version));
                    return Ok(Ok(unborn));
                }
            },
        };
        let existing = hold.job;
        let decision =
            decide_repeat(&job.spec.dedup, fingerprint, Holder { hold: &hold, not_started, version });
        Ok(match decision {
            RepeatDecision::Return | RepeatDecision::ReturnNotReplaced => Ok(existing),
            RepeatDecision::Replace => {
                let version = job.spec.dedup.version.or(version);
                earlier.insert(key.clone(), (existing, fingerprint.clone(), version));
                Ok(existing)
            }
            RepeatDecision::RejectDuplicate => Err(Refusal::DuplicateKey { existing }),
            RepeatDecision::RejectMismatch => Err(Refusal::KeyReused { existing }),
            RepeatDecision::RejectStaleVersion => Err(Refusal::VersionStale { existing }),
        })
    }
}
