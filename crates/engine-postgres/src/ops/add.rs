//! Accepting jobs.

use std::collections::BTreeMap;

use onefold_core::{
    AddParams, Added, Event, EvidenceKind, Fingerprint, Hold, Holder, ItemResult, Job, JobId, JobSpec,
    JobStatus, Key, NewJob, QueueName, Refusal, RepeatDecision, State, callback, decide_repeat, limits,
    replaced_run_at, rules, run_at,
};

use crate::error::{Outcome, corrupt};
use crate::node::Verdict;
use crate::params;
use crate::rows::{QueueNumber, seq_code};
use crate::sql;
use crate::work::{KeyPlace, Space, Work};

/// Adds the jobs of several calls, none of them atomic.
pub(crate) async fn add(work: &mut Work, calls: &[&AddParams]) -> Outcome<Vec<Vec<ItemResult<Added>>>> {
    Ok(match add_calls(work, calls).await? {
        Ok(outcomes) => outcomes,
        Err(_) => return Err(corrupt("an atomic call among others")),
    })
}

/// Adds the jobs of one call. `Err` in the result of an atomic call: nothing may be committed.
pub(crate) async fn add_alone(
    work: &mut Work,
    params: &AddParams,
) -> Outcome<Result<Vec<ItemResult<Added>>, AtomicRefused>> {
    let done = add_calls(work, &[params]).await?;
    Ok(done.map(|mut outcomes| outcomes.pop().unwrap_or_default()))
}

/// Adds the jobs of one call, all or none.
pub(crate) async fn add_atomic(
    work: &mut Work,
    params: &AddParams,
) -> Outcome<Verdict<Vec<ItemResult<Added>>>> {
    Ok(match add_alone(work, params).await? {
        Ok(outcomes) => Verdict::Commit(outcomes),
        Err(refused) => Verdict::RollBack(refused.outcomes(params.jobs.len())),
    })
}

async fn add_calls(
    work: &mut Work,
    calls: &[&AddParams],
) -> Outcome<Result<Vec<Vec<ItemResult<Added>>>, AtomicRefused>> {
    let mut queues: BTreeMap<&QueueName, QueueNumber> = BTreeMap::new();
    let mut jobs: Vec<(QueueNumber, Vec<NewJob>)> = Vec::with_capacity(calls.len());
    for call in calls {
        let queue = match queues.get(&call.queue) {
            Some(queue) => *queue,
            None => make_queue(work, &call.queue).await?,
        };
        queues.insert(&call.queue, queue);
        let settings = work.queue(queue)?.settings.clone();
        let mut new = call.jobs.clone();
        new.iter_mut().for_each(|job| settings.apply_to(job));
        jobs.push((queue, new));
    }
    load(work, &jobs).await?;
    let count = jobs.iter().map(|(_, jobs)| jobs.len()).sum();
    let mut seqs = work.take_seqs(count).await?;
    let mut outcomes = Vec::with_capacity(calls.len());
    for ((queue, jobs), call) in jobs.into_iter().zip(calls) {
        let mut of_call = Vec::with_capacity(jobs.len());
        for (item, job) in jobs.into_iter().enumerate() {
            let seq =
                seqs.as_slice().first().copied().ok_or_else(|| corrupt("a sequence that gave too little"))?;
            let outcome = add_one(work, queue, job, work.new_id(seq)?)?;
            if call.atomic
                && let Err(refusal) = outcome
            {
                return Ok(Err(AtomicRefused { item, refusal }));
            }
            // A sequence that went to no job goes to the next.
            if outcome.as_ref().is_ok_and(|added| !added.duplicate) {
                seqs.next();
            }
            of_call.push(outcome);
        }
        outcomes.push(of_call);
    }
    work.flush().await?;
    Ok(Ok(outcomes))
}

/// Which item of an atomic call was refused, and why.
#[derive(Debug)]
pub(crate) struct AtomicRefused {
    pub(crate) item: usize,
    pub(crate) refusal: Refusal,
}

impl AtomicRefused {
    /// The outcomes of the whole call.
    pub(crate) fn outcomes(self, count: usize) -> Vec<ItemResult<Added>> {
        let other = Refusal::AtomicBatch { item: self.item };
        (0..count)
            .map(|item| Err(if item == self.item { self.refusal.clone() } else { other.clone() }))
            .collect()
    }
}

/// The number of a queue, which is made or brought back to life if need be.
pub(crate) async fn make_queue(work: &mut Work, name: &QueueName) -> Outcome<QueueNumber> {
    if let Some(number) = work.queue_number(name).await?
        && work.queue(number)?.alive
    {
        return Ok(number);
    }
    work.rows(sql::MAKE_QUEUE, params![name.as_str().to_owned()]).await?;
    work.queue_number(name).await?.ok_or_else(|| corrupt("a queue that cannot be made"))
}

/// Locks everything these adds may meet.
async fn load(work: &mut Work, calls: &[(QueueNumber, Vec<NewJob>)]) -> Outcome<()> {
    let jobs = || calls.iter().flat_map(|(queue, jobs)| jobs.iter().map(move |job| (*queue, job)));
    let keys = jobs().filter_map(|(queue, job)| Some((queue, Space::Job, job.spec.key.clone()?)));
    let requests =
        jobs().filter_map(|(queue, job)| Some((queue, Space::Request, job.request.as_ref()?.key.clone())));
    work.load_holds(keys.chain(requests).collect()).await?;
    work.lock_groups().await
}

fn add_one(work: &mut Work, queue: QueueNumber, mut new: NewJob, id: JobId) -> Outcome<ItemResult<Added>> {
    let Some(request) = new.request.take() else { return add_by_key(work, queue, new, id) };
    let place: KeyPlace = (queue, Space::Request, request.key);
    if let Some(hold) = work.held(&place) {
        return Ok(if hold.fingerprint == request.fingerprint {
            Ok(repeated(work, queue, hold.job, None))
        } else {
            work.mismatch(queue, hold.job);
            Err(Refusal::KeyReused { existing: hold.job })
        });
    }
    let added = add_by_key(work, queue, new, id)?;
    if let Ok(added) = &added {
        let until = work.now.saturating_add(limits::REQUEST_IDENTITY_WINDOW);
        let hold =
            Hold { job: added.id, fingerprint: request.fingerprint, until, free_on: Default::default() };
        work.hold(place, Some(hold));
    }
    Ok(added)
}

fn add_by_key(work: &mut Work, queue: QueueNumber, new: NewJob, id: JobId) -> Outcome<ItemResult<Added>> {
    let Some(key) = new.spec.key.clone() else { return Ok(Ok(insert(work, queue, new, id)?)) };
    let Some(hold) = work.held(&(queue, Space::Job, key.clone())) else {
        return Ok(Ok(insert(work, queue, new, id)?));
    };
    let fingerprint = new.spec.fingerprint.clone().unwrap_or_else(|| hold.fingerprint.clone());
    let record = work.find(hold.job);
    let holder = Holder {
        hold: &hold,
        not_started: record.is_some_and(|record| record.job.not_started()),
        version: record.and_then(|record| record.spec.dedup.version),
    };
    Ok(match decide_repeat(&new.spec.dedup, &fingerprint, holder) {
        RepeatDecision::Return => Ok(repeated(work, queue, hold.job, None)),
        RepeatDecision::ReturnNotReplaced => Ok(repeated(work, queue, hold.job, Some(false))),
        RepeatDecision::Replace => Ok(replace(work, queue, key, hold.job, new, fingerprint)?),
        RepeatDecision::RejectDuplicate => {
            work.duplicate(queue, hold.job);
            Err(Refusal::DuplicateKey { existing: hold.job })
        }
        RepeatDecision::RejectMismatch => {
            work.mismatch(queue, hold.job);
            Err(Refusal::KeyReused { existing: hold.job })
        }
        RepeatDecision::RejectStaleVersion => Err(Refusal::VersionStale { existing: hold.job }),
    })
}

/// Adds the jobs that tell of ends, in the transaction of those.
pub(crate) async fn tell_ends(work: &mut Work) -> Outcome<()> {
    let mut told = Vec::new();
    for seq in work.take_to_tell() {
        let Some(record) = work.record(seq) else { continue };
        let queue = record.queue;
        if let Some(mut new) = callback(&record.job, &record.spec, work.new_result(seq)) {
            work.queue(queue)?.settings.apply_to(&mut new);
            told.push((queue, new));
        }
    }
    let seqs = work.take_seqs(told.len()).await?;
    for ((queue, new), seq) in told.into_iter().zip(seqs) {
        insert(work, queue, new, work.new_id(seq)?)?;
    }
    Ok(())
}

pub(super) fn insert(work: &mut Work, queue: QueueNumber, new: NewJob, id: JobId) -> Outcome<Added> {
    let run_at = run_at(new.when, work.now);
    let state = if run_at > work.now { State::Scheduled } else { State::Available };
    if let (Some(key), Some(fingerprint)) = (&new.spec.key, &new.spec.fingerprint) {
        let until = work.now.saturating_add(new.spec.dedup.window);
        let hold = Hold { job: id, fingerprint: fingerprint.clone(), until, free_on: new.spec.dedup.free_on };
        work.hold((queue, Space::Job, key.clone()), Some(hold));
    }
    let job = Job {
        id,
        queue: work.queue(queue)?.name.clone(),
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
        group_order: new.spec.group.as_ref().map(|_| id.seq().get()),
        attempt: None,
        duplicates: 0,
        mismatches: 0,
    };
    work.insert(queue, job, new.spec);
    Ok(Added { id, status: JobStatus::Known(state), run_at: Some(run_at), duplicate: false, replaced: None })
}

fn repeated(work: &mut Work, queue: QueueNumber, id: JobId, replaced: Option<bool>) -> Added {
    work.duplicate(queue, id);
    answer(work, id, replaced)
}

fn answer(work: &Work, id: JobId, replaced: Option<bool>) -> Added {
    let job = work.find(id).map(|record| &record.job);
    let status = job.map_or(JobStatus::Purged, |job| JobStatus::Known(job.state));
    Added { id, status, run_at: job.map(|job| job.run_at), duplicate: true, replaced }
}

fn replace(
    work: &mut Work,
    queue: QueueNumber,
    key: Key,
    id: JobId,
    new: NewJob,
    fingerprint: Fingerprint,
) -> Outcome<Added> {
    let Some(record) = work.find(id) else { return Ok(repeated(work, queue, id, Some(false))) };
    let created = record.job.created_at();
    let run_at = replaced_run_at(&new.spec.dedup, created, run_at(new.when, work.now));
    let old = &record.spec;
    let mut spec = JobSpec { key: old.key.clone(), group: old.group.clone(), ..new.spec };
    spec.dedup.version = spec.dedup.version.or(old.dedup.version);
    let until = created.saturating_add(spec.dedup.window);
    let hold = Hold { job: id, fingerprint, until, free_on: spec.dedup.free_on };
    let seq = seq_code(id);
    work.put_spec(seq, spec);
    work.note(seq, EvidenceKind::Replaced, None, None);
    work.count_on(seq, EvidenceKind::DuplicateAdd);
    work.hold((queue, Space::Job, key), Some(hold));
    work.count(queue, crate::work::DUPLICATES, 1);
    let (priority, max_attempts) = (new.priority, new.max_attempts.unwrap_or(limits::MAX_ATTEMPTS));
    let _ = work.change(seq, |record, now, _| {
        (record.job.priority, record.job.max_attempts) = (priority, max_attempts);
        rules::reschedule(&mut record.job, run_at, now).map(|()| Some(Event::Rescheduled))
    })?;
    Ok(answer(work, id, Some(true)))
}
