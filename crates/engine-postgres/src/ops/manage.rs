//! What operators do to jobs and keys.

use onefold_core::{
    Event, EventKind, EvidenceKind, Hold, IllegalTransition, ItemResult, JobEdit, JobId, JobStatus, JobView,
    Key, KeyView, QueueName, RedriveParams, Redriven, Refusal, RetryRefusal, State, rules, transition,
};

use super::look::{filter_columns, get, state_codes};
use super::queues::is_there;
use crate::error::{Outcome, corrupt};
use crate::params;
use crate::rows::seq_code;
use crate::sql;
use crate::work::{KeyPlace, PURGED_DELETED, Space, Work};

async fn written(work: &mut Work, id: JobId) -> Outcome<ItemResult<JobView>> {
    work.flush().await?;
    Ok(get(work, id).await?.ok_or(Refusal::JobNotFound))
}

pub(crate) async fn cancel(work: &mut Work, id: JobId, force: bool) -> Outcome<ItemResult<JobView>> {
    let seq = seq_code(id);
    work.load(vec![seq]).await?;
    if work.find(id).is_none() {
        return Ok(Err(Refusal::JobNotFound));
    }
    work.lock_groups().await?;
    let (mut noted, mut requested) = (false, false);
    let done = work.change(seq, |record, now, _| {
        let changed = rules::cancel(&mut record.job, force, now)?;
        noted = changed;
        requested = changed && record.job.state == State::Running;
        Ok::<_, IllegalTransition>(
            (changed && record.job.state == State::Cancelled).then_some(Event::Cancelled),
        )
    })?;
    if let Err(illegal) = done {
        return Ok(Err(Refusal::JobFinished { state: illegal.from }));
    }
    if noted {
        work.note(seq, EvidenceKind::CancelRequested, None, force.then(|| "force".to_owned()));
    }
    if requested && let Some((queue, job)) = work.find(id).map(|record| (record.queue, record.job.clone())) {
        work.emit(EventKind::CancelRequested, queue, Some(&job));
    }
    written(work, id).await
}

pub(crate) async fn retry(
    work: &mut Work,
    id: JobId,
    accept_duplicates: bool,
) -> Outcome<ItemResult<JobView>> {
    load_to_retry(work, vec![seq_code(id)]).await?;
    if work.find(id).is_none() {
        return Ok(Err(Refusal::JobNotFound));
    }
    let mut orders = work.take_seqs(1).await?;
    if let Err(refusal) = retry_one(work, seq_code(id), accept_duplicates, &mut orders)? {
        return Ok(Err(refusal));
    }
    written(work, id).await
}

/// Locks jobs and what a retry of them needs.
async fn load_to_retry(work: &mut Work, seqs: Vec<i64>) -> Outcome<()> {
    work.load(seqs.clone()).await?;
    let place = |seq: &i64| -> Option<KeyPlace> {
        let record = work.record(*seq)?;
        Some((record.queue, Space::Job, record.spec.key.clone()?))
    };
    let places = seqs.iter().filter_map(place).collect();
    work.load_holds(places).await?;
    work.lock_groups().await
}

fn retry_one(
    work: &mut Work,
    seq: i64,
    accept_duplicates: bool,
    orders: &mut impl Iterator<Item = i64>,
) -> Outcome<ItemResult<()>> {
    let record = work.record(seq).ok_or_else(|| corrupt("a job that was not loaded"))?;
    let (id, state) = (record.job.id, record.job.state);
    let place = record.spec.key.clone().map(|key| (record.queue, Space::Job, key));
    if let Some(by) = place.as_ref().and_then(|place| work.held(place))
        && by.job != id
        && transition(state, Event::Retried).is_ok()
    {
        return Ok(Err(Refusal::KeyTaken { by: by.job }));
    }
    let done = work.change(seq, |record, now, _| {
        let was_finished = record.job.state.is_finished();
        let (job, policy) = record.split();
        rules::retry(job, policy, accept_duplicates, now)?;
        if was_finished && job.group_order.is_some() {
            job.group_order = orders.next().map(i64::cast_unsigned);
        }
        Ok(Some(Event::Retried))
    })?;
    if let Err(refusal) = done {
        return Ok(Err(match refusal {
            RetryRefusal::State(state) => Refusal::JobNotRetryable { state },
            RetryRefusal::WindowPassed(until) => Refusal::RetryWindowPassed { until },
        }));
    }
    work.put_result(seq, None);
    work.note(seq, EvidenceKind::Retried, None, None);
    let record = work.record(seq).ok_or_else(|| corrupt("a job that was not loaded"))?;
    if let (Some(place), Some(fingerprint)) = (place, record.spec.fingerprint.clone()) {
        let until = record.job.created_at().saturating_add(record.spec.dedup.window);
        let hold = Hold { job: id, fingerprint, until, free_on: record.spec.dedup.free_on };
        work.hold(place, Some(hold));
    }
    Ok(Ok(()))
}

pub(crate) async fn redrive(work: &mut Work, params: &RedriveParams) -> Outcome<ItemResult<Redriven>> {
    let Some(number) = work.queue_number(&params.queue).await? else {
        return Ok(Err(Refusal::QueueNotFound));
    };
    if !is_there(work, number).await? {
        return Ok(Err(Refusal::QueueNotFound));
    }
    let mut states = params.states.clone();
    states.retain(|state| matches!(state, State::Dead | State::Cancelled));
    if states.is_empty() {
        return Ok(Ok(Redriven::default()));
    }
    let mut asked = params![number, state_codes(&states)];
    asked.extend(filter_columns(&params.filter));
    asked.extend(params![i64::from(params.limit)]);
    let rows = work.rows(sql::REDRIVABLE, asked).await?;
    let seqs = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    load_to_retry(work, seqs.clone()).await?;
    let mut orders = work.take_seqs(seqs.len()).await?;
    let mut done = Redriven::default();
    for seq in seqs {
        // Somebody else may have run it again meanwhile.
        let still = work.record(seq).filter(|record| states.contains(&record.job.state));
        let Some(id) = still.map(|record| record.job.id) else { continue };
        match retry_one(work, seq, params.accept_duplicates, &mut orders)? {
            Ok(()) => done.redriven += 1,
            Err(refusal) => done.refused.push((id, refusal)),
        }
    }
    work.flush().await?;
    Ok(Ok(done))
}

pub(crate) async fn edit(work: &mut Work, id: JobId, edit: &JobEdit) -> Outcome<ItemResult<JobView>> {
    let seq = seq_code(id);
    work.load(vec![seq]).await?;
    let Some(record) = work.find(id) else { return Ok(Err(Refusal::JobNotFound)) };
    let state = record.job.state;
    if !record.job.not_started() {
        return Ok(Err(Refusal::JobStarted { state }));
    }
    work.lock_groups().await?;
    let done = work.change(seq, |record, now, _| {
        if let Some(run_at) = edit.run_at {
            rules::reschedule(&mut record.job, run_at, now)?;
        }
        record.job.priority = edit.priority.unwrap_or(record.job.priority);
        Ok::<_, IllegalTransition>(Some(Event::Rescheduled))
    })?;
    if let Err(illegal) = done {
        return Ok(Err(Refusal::JobStarted { state: illegal.from }));
    }
    if let Some(labels) = &edit.labels {
        work.put_labels(seq, labels.clone());
    }
    work.note(seq, EvidenceKind::Edited, None, None);
    written(work, id).await
}

pub(crate) async fn delete(work: &mut Work, id: JobId) -> Outcome<ItemResult<JobView>> {
    let seq = seq_code(id);
    work.load(vec![seq]).await?;
    let Some(record) = work.find(id) else { return Ok(Err(Refusal::JobNotFound)) };
    let (queue, job) = (record.queue, record.job.clone());
    if !job.state.is_finished() {
        return Ok(Err(Refusal::JobNotFinished { state: job.state }));
    }
    work.lock_groups().await?;
    let view = get(work, id).await?;
    work.emit(EventKind::Deleted, queue, Some(&job));
    work.tell_group_unblocked(seq);
    work.purge(vec![seq], PURGED_DELETED).await?;
    work.flush().await?;
    Ok(view.ok_or(Refusal::JobNotFound))
}

pub(crate) async fn release_key(work: &mut Work, queue: &QueueName, key: Key) -> Outcome<Option<KeyView>> {
    let Some(number) = work.queue_number(queue).await? else { return Ok(None) };
    let place = (number, Space::Job, key);
    work.load_holds(vec![place.clone()]).await?;
    let Some(hold) = work.held(&place) else { return Ok(None) };
    work.hold(place, None);
    let job = work.find(hold.job).map(|record| record.job.clone());
    if job.is_some() {
        work.note(seq_code(hold.job), EvidenceKind::KeyReleased, None, None);
    }
    work.emit(EventKind::KeyReleased, number, job.as_ref());
    work.flush().await?;
    let status = job.map_or(JobStatus::Purged, |job| JobStatus::Known(job.state));
    Ok(Some(KeyView { job: hold.job, status, until: hold.until, free_on: hold.free_on }))
}
