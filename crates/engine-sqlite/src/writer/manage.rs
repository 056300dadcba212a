//! What operators do: cancel, retry, redrive, edit, delete, and the settings of queues.

use std::sync::Arc;

use bytes::Bytes;
use onefold_core::{
    DeletedQueue, Event, EventKind, EvidenceKind, Hold, IllegalTransition, ItemResult, JobEdit, JobFilter,
    JobId, JobView, Key, KeyView, QueueName, QueuePatch, QueueView, RedriveParams, Redriven, Refusal,
    RetryRefusal, Setting, State, Timestamp, limits, rules, transition,
};

use super::ledger::SPACE_JOB;
use super::memory::QueueId;
use super::store::{Entry, Store};
use crate::error::StoreResult;
use crate::key_index::KeyHash;
use crate::ledger_id::LedgerId;
use crate::rows;

/// Rows an operation over a whole queue reads at a time.
const CHUNK_ROWS: i64 = 4096;

impl Store<'_> {
    pub(crate) fn cancel(&mut self, id: JobId, force: bool) -> StoreResult<ItemResult<Box<JobView>>> {
        let Some(mut entry) = self.take_id(id)? else { return Ok(Err(Refusal::JobNotFound)) };
        let state = entry.job.state;
        // A request to a running job is no transition.
        let event = (state != State::Running && state != State::Cancelled
            || force && state == State::Running)
            .then_some(Event::Cancelled);
        let mut changed = false;
        let cancelled = self.change(&mut entry, event, |job, _, _, now| {
            changed = rules::cancel(job, force, now)?;
            Ok::<_, IllegalTransition>(())
        })?;
        let outcome = match cancelled {
            Err(illegal) => Err(Refusal::JobFinished { state: illegal.from }),
            Ok(()) => {
                if changed {
                    self.note_next(entry.seq(), EvidenceKind::CancelRequested, force.then_some("force"))?;
                }
                if changed && entry.job.state == State::Running {
                    self.emit(EventKind::CancelRequested, entry.queue, Some(&entry.job));
                }
                Ok(Box::new(self.view(&mut entry)?))
            }
        };
        self.put(entry);
        Ok(outcome)
    }

    pub(crate) fn retry(
        &mut self,
        id: JobId,
        accept_duplicates: bool,
    ) -> StoreResult<ItemResult<Box<JobView>>> {
        let Some(mut entry) = self.take_id(id)? else { return Ok(Err(Refusal::JobNotFound)) };
        let outcome = match self.retry_entry(&mut entry, accept_duplicates)? {
            Ok(()) => Ok(Box::new(self.view(&mut entry)?)),
            Err(refusal) => Err(refusal),
        };
        self.put(entry);
        Ok(outcome)
    }

    fn retry_entry(&mut self, entry: &mut Entry, accept_duplicates: bool) -> StoreResult<ItemResult<()>> {
        let (queue, id) = (entry.queue, entry.job.id);
        let was_finished = entry.job.state.is_finished();
        let key = entry.terms.key.clone();
        let mut holder = None;
        if let (Some(key), Ok(_)) = (&key, transition(entry.job.state, Event::Retried)) {
            holder = self.held(SPACE_JOB, queue, key)?.map(|row| row.hold.job);
            if let Some(by) = holder.filter(|by| *by != id) {
                return Ok(Err(Refusal::KeyTaken { by }));
            }
        }
        let retried = self.change(entry, Some(Event::Retried), |job, policy, _, now| {
            rules::retry(job, policy, accept_duplicates, now)
        })?;
        if let Err(refusal) = retried {
            return Ok(Err(match refusal {
                RetryRefusal::State(state) => Refusal::JobNotRetryable { state },
                RetryRefusal::WindowPassed(until) => Refusal::RetryWindowPassed { until },
            }));
        }
        if was_finished {
            self.requeue_in_group(entry)?;
            let seq = entry.seq() as i64;
            self.stmts.results_delete.execute((seq, seq))?;
        }
        self.note_next(entry.seq(), EvidenceKind::Retried, None)?;
        if let (Some(key), None) = (key, holder) {
            let spec = self.spec(entry)?;
            if let Some(fingerprint) = spec.fingerprint.clone() {
                let until = entry.job.created_at().saturating_add(spec.dedup.window);
                let hold = Hold { job: id, fingerprint, until, free_on: spec.dedup.free_on };
                self.hold(SPACE_JOB, queue, &key, hold)?;
            }
            entry.spec = Some(spec);
        }
        Ok(Ok(()))
    }

    pub(crate) fn redrive(&mut self, params: &RedriveParams) -> StoreResult<ItemResult<Redriven>> {
        let Some(queue) = self.mem.queue_id(&params.queue) else { return Ok(Err(Refusal::QueueNotFound)) };
        let mut filter = JobFilter { queue: Some(params.queue.clone()), ..params.filter.clone() };
        filter.states = params.states.clone();
        filter.states.retain(|state| matches!(state, State::Dead | State::Cancelled));
        let mut done = Redriven::default();
        if filter.states.is_empty() {
            return Ok(Ok(done));
        }
        let mut after = 0;
        while let Some(chunk) = self.chunk(queue, after)? {
            after = chunk.last;
            for (seq, state) in chunk.jobs {
                if !state.is_some_and(|state| filter.states.contains(&state)) {
                    continue;
                }
                if done.redriven + done.refused.len() as u64 >= u64::from(params.limit) {
                    return Ok(Ok(done));
                }
                if self.mem.is_set_aside(seq) {
                    continue;
                }
                let mut entry = self.take_in_turn(seq)?;
                let spec = self.spec(&mut entry)?;
                self.turn_over();
                if filter.matches(&entry.job, &spec) {
                    match self.retry_entry(&mut entry, params.accept_duplicates)? {
                        Ok(()) => done.redriven += 1,
                        Err(refusal) => done.refused.push((entry.job.id, refusal)),
                    }
                    // There may be very many, with large payloads.
                    entry.spec = None;
                    self.put(entry);
                }
            }
        }
        Ok(Ok(done))
    }

    pub(crate) fn edit(&mut self, id: JobId, edit: &JobEdit) -> StoreResult<ItemResult<Box<JobView>>> {
        let Some(mut entry) = self.take_id(id)? else { return Ok(Err(Refusal::JobNotFound)) };
        let state = entry.job.state;
        if !entry.job.not_started() {
            self.put(entry);
            return Ok(Err(Refusal::JobStarted { state }));
        }
        if let Some(labels) = &edit.labels {
            let mut spec = self.spec(&mut entry)?;
            spec.labels.clone_from(labels);
            rows::write_spec(&mut self.stmts.spec_update, id.seq(), &spec)?;
            entry.spec = Some(spec);
        }
        let edited = self.change(&mut entry, Some(Event::Rescheduled), |job, _, _, now| {
            if let Some(run_at) = edit.run_at {
                rules::reschedule(job, run_at, now)?;
            }
            job.priority = edit.priority.unwrap_or(job.priority);
            Ok::<_, IllegalTransition>(())
        })?;
        let outcome = match edited {
            Ok(()) => {
                self.note_next(entry.seq(), EvidenceKind::Edited, None)?;
                Ok(Box::new(self.view(&mut entry)?))
            }
            Err(illegal) => Err(Refusal::JobStarted { state: illegal.from }),
        };
        self.put(entry);
        Ok(outcome)
    }

    pub(crate) fn delete(&mut self, id: JobId) -> StoreResult<ItemResult<Box<JobView>>> {
        let Some(mut entry) = self.take_id(id)? else { return Ok(Err(Refusal::JobNotFound)) };
        let state = entry.job.state;
        if !state.is_finished() {
            self.put(entry);
            return Ok(Err(Refusal::JobNotFinished { state }));
        }
        let view = self.view(&mut entry)?;
        self.emit(EventKind::Deleted, entry.queue, Some(&entry.job));
        self.tell_group_unblocked(&entry)?;
        self.unblock_group(&entry)?;
        if let Some(counts) = self.mem.counts(entry.queue) {
            counts.shift(Some(state), None);
            counts.purged_deleted += 1;
        }
        self.keep_receipts(&entry)?;
        self.put(entry);
        self.delete_rows(id.seq().get(), id.seq().get())?;
        Ok(Ok(Box::new(view)))
    }

    /// Remembers the first answers to a job's ends that are younger than a day (I6).
    pub(crate) fn keep_receipts(&mut self, entry: &Entry) -> StoreResult<()> {
        let seq = entry.job.id.seq();
        let mut attempts = Vec::new();
        if entry.job.attempts() > 1 {
            let mut found = self.stmts.attempt_select.query([seq.get() as i64])?;
            while let Some(row) = found.next()? {
                attempts.push(rows::read_attempt(row, seq)?);
            }
        }
        attempts.extend(entry.job.attempt.clone());
        for attempt in attempts {
            let Some(end) = &attempt.end else { continue };
            let until = end.at.saturating_add(limits::FINISH_REPLAY);
            let Some(content) = end.content.filter(|_| self.now < until) else { continue };
            self.stmts.receipt_put.execute((
                attempt.token.get() as i64,
                seq.get() as i64,
                entry.job.id.accepted_unix_ms(),
                content as i64,
                rows::state_code(end.state),
                until.as_unix_ms(),
            ))?;
        }
        Ok(())
    }

    /// Deletes everything kept about the jobs from `first` to `last`.
    pub(crate) fn delete_rows(&mut self, first: u64, last: u64) -> StoreResult<()> {
        for seq in first..=last {
            self.forget(seq);
        }
        let range = (first as i64, last as i64);
        self.stmts.jobs_delete.execute(range)?;
        self.stmts.specs_delete.execute(range)?;
        self.stmts.attempts_delete.execute(range)?;
        self.stmts.results_delete.execute(range)?;
        self.stmts.checkpoints_delete.execute(range)?;
        self.stmts.evidence_delete.execute(range)?;
        self.stmts.effects_delete.execute(range)?;
        Ok(())
    }

    // Queues.

    pub(crate) fn queue_view(&mut self, id: QueueId) -> StoreResult<Option<QueueView>> {
        let Some(queue) = self.mem.queue(id).cloned() else { return Ok(None) };
        let oldest = self.mem.oldest_ready(id);
        let oldest_available = match oldest {
            Some(seq) => {
                let entry = self.take_in_turn(seq)?;
                let created_at = entry.job.created_at();
                self.put(entry);
                self.turn_over();
                Some(created_at)
            }
            None => None,
        };
        let settings = queue.settings.as_ref().clone();
        Ok(Some(QueueView { name: queue.name, settings, counts: queue.counts, oldest_available }))
    }

    pub(crate) fn queue_views(&mut self) -> StoreResult<Vec<QueueView>> {
        let ids: Vec<QueueId> = self.mem.queue_ids().collect();
        let mut views = Vec::with_capacity(ids.len());
        for id in ids {
            views.extend(self.queue_view(id)?);
        }
        views.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(views)
    }

    pub(crate) fn set_queue(
        &mut self,
        name: &QueueName,
        patch: &QueuePatch,
    ) -> StoreResult<Option<QueueView>> {
        let id = self.queue_made(name)?;
        let Some(mut queue) = self.mem.queue(id).cloned() else { return Ok(None) };
        let old = Arc::clone(&queue.settings);
        let mut settings = old.as_ref().clone();
        patch.clone().apply_to(&mut settings);
        let keeps_less = [State::Completed, State::Cancelled, State::Dead]
            .iter()
            .any(|state| settings.retention(*state) < old.retention(*state));
        let opens = settings.concurrency != old.concurrency
            || settings.rate != old.rate
            || settings.paused != old.paused;
        queue.settings = Arc::new(settings);
        self.mem.put_queue(id, Some(queue));
        self.regroup_queue(id, &old)?;
        if keeps_less {
            let buckets: Vec<u64> = self.mem.retention_buckets().map(|(bucket, _)| bucket).collect();
            for bucket in buckets {
                self.mem.set_retention(bucket, Some(Timestamp::EPOCH));
            }
        }
        if opens {
            self.mem.wake(id);
        }
        self.emit(EventKind::QueueChanged, id, None);
        self.queue_view(id)
    }

    pub(crate) fn delete_queue(
        &mut self,
        name: &QueueName,
        force: bool,
    ) -> StoreResult<ItemResult<DeletedQueue>> {
        let Some(id) = self.mem.queue_id(name) else { return Ok(Err(Refusal::QueueNotFound)) };
        let unfinished = self.mem.queue(id).map_or(0, |queue| queue.counts.unfinished());
        if unfinished > 0 && !force {
            return Ok(Err(Refusal::QueueNotEmpty { unfinished }));
        }
        let mut jobs = 0;
        let mut after = 0;
        while let Some(chunk) = self.chunk(id, after)? {
            after = chunk.last;
            for (seq, _) in chunk.jobs {
                self.delete_any(id, seq)?;
                jobs += 1;
            }
        }
        self.drop_keys_of(id)?;
        self.stmts.groups_delete_queue.execute([id])?;
        self.emit(EventKind::QueueDeleted, id, None);
        self.stmts.queue_bury.execute((id, self.now.as_unix_ms()))?;
        self.mem.put_queue(id, None);
        Ok(Ok(DeletedQueue { jobs }))
    }

    /// Deletes a job in whatever state, with its queue; also one that cannot be read.
    fn delete_any(&mut self, queue: QueueId, seq: u64) -> StoreResult<()> {
        match self.delete_readable(seq) {
            Err(error) if error.is_damage() => {
                tracing::warn!(seq, %error, "a damaged job is deleted with its queue");
                self.mem.remove_everywhere(queue, seq);
                self.stmts.timers_delete_job.execute([seq as i64])?;
                self.delete_rows(seq, seq)
            }
            deleted => deleted,
        }
    }

    fn delete_readable(&mut self, seq: u64) -> StoreResult<()> {
        let Some(mut entry) = self.take(seq)? else { return Ok(()) };
        if !entry.job.state.is_finished() {
            let _ =
                self.change(&mut entry, None, |job, _, _, now| rules::cancel(job, true, now).map(drop))?;
        }
        self.unblock_group(&entry)?;
        self.keep_receipts(&entry)?;
        self.put(entry);
        self.delete_rows(seq, seq)
    }

    fn drop_keys_of(&mut self, queue: QueueId) -> StoreResult<()> {
        let mut dropped = Vec::new();
        let mut found = self.stmts.ledger_delete_queue.query([queue])?;
        while let Some(row) = found.next()? {
            dropped.push((KeyHash::from_stored(row.get(1)?), LedgerId::from_stored(row.get(0)?)));
        }
        drop(found);
        dropped.into_iter().try_for_each(|(hash, lid)| self.forget_key(hash, lid))
    }

    /// The next jobs of a queue after a sequence; `None` at the end.
    fn chunk(&mut self, queue: QueueId, after: u64) -> StoreResult<Option<Chunk>> {
        self.flush_jobs()?;
        let mut chunk = Chunk { jobs: Vec::new(), last: after };
        let mut rows_read = 0;
        let mut found = self.stmts.job_numbers.query((after as i64, CHUNK_ROWS))?;
        while let Some(row) = found.next()? {
            rows_read += 1;
            chunk.last = row.get::<_, i64>(0)? as u64;
            if row.get::<_, i64>(1)? == queue {
                // Not verified: a state that is none means damage, told to who needs the job.
                chunk.jobs.push((chunk.last, rows::state_of(row.get(2)?).ok()));
            }
        }
        Ok((rows_read > 0).then_some(chunk))
    }

    // Keys and settings.

    pub(crate) fn key(&mut self, queue: &QueueName, key: &Key) -> StoreResult<Option<KeyView>> {
        let Some(id) = self.mem.queue_id(queue) else { return Ok(None) };
        match self.held(SPACE_JOB, id, key)? {
            Some(row) => self.key_view(&row).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn release_key(&mut self, queue: &QueueName, key: &Key) -> StoreResult<Option<KeyView>> {
        let Some(id) = self.mem.queue_id(queue) else { return Ok(None) };
        let Some(row) = self.held(SPACE_JOB, id, key)? else { return Ok(None) };
        let view = self.key_view(&row)?;
        self.free_key(id, key, row.hold.job)?;
        match self.take_id(row.hold.job)? {
            Some(entry) => {
                self.note_next(entry.seq(), EvidenceKind::KeyReleased, None)?;
                self.emit(EventKind::KeyReleased, id, Some(&entry.job));
                self.put(entry);
            }
            None => self.emit(EventKind::KeyReleased, id, None),
        }
        Ok(Some(view))
    }

    pub(crate) fn set_setting(
        &mut self,
        name: &str,
        value: &Bytes,
        expected: u64,
    ) -> StoreResult<Result<u64, Setting>> {
        let stored = crate::reader::read_setting(&mut self.stmts.setting_select, name)?;
        let there = stored.unwrap_or(Setting { value: Bytes::new(), version: 0 });
        if there.version != expected {
            return Ok(Err(there));
        }
        self.stmts.setting_put.execute((name, &value[..], (expected + 1) as i64))?;
        Ok(Ok(expected + 1))
    }
}

struct Chunk {
    jobs: Vec<(u64, Option<State>)>,
    last: u64,
}
