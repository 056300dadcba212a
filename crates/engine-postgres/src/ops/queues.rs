//! Queues and the settings map.

use std::collections::BTreeMap;

use bytes::Bytes;
use onefold_core::{
    DeletedQueue, EventKind, ItemResult, JobId, OnDead, Outcome as AttemptOutcome, QueueCounts, QueueName,
    QueuePatch, QueueView, Refusal, Setting, State, Timestamp, limits,
};
use tokio_postgres::Row;

use super::add::make_queue;
use super::rates;
use crate::error::{Outcome, corrupt};
use crate::rows::{Coded, QueueNumber, duration_code, job_id, time};
use crate::work::Work;
use crate::{params, sql};

fn read_counts(row: &Row) -> Outcome<(QueueNumber, QueueCounts)> {
    let mut place = 0;
    let mut next = || -> Outcome<u64> {
        place += 1;
        Ok(u64::try_from(row.try_get::<_, i64>(place)?).unwrap_or(0))
    };
    let counts = QueueCounts {
        accepted: next()?,
        scheduled: next()?,
        available: next()?,
        running: next()?,
        retrying: next()?,
        completed: next()?,
        dead: next()?,
        cancelled: next()?,
        purged_retention: next()?,
        purged_deleted: next()?,
        duplicates: next()?,
        mismatches: next()?,
        late_writes: next()?,
    };
    Ok((row.try_get(0)?, counts))
}

async fn counts_of(
    work: &mut Work,
    queues: Option<Vec<QueueNumber>>,
) -> Outcome<BTreeMap<QueueNumber, QueueCounts>> {
    work.rows(sql::COUNTS, params![queues]).await?.iter().map(read_counts).collect()
}

/// The views of queues that were read. A queue that was deleted while a job was being added to it is there again.
async fn views(work: &mut Work, numbers: Vec<QueueNumber>) -> Outcome<Vec<QueueView>> {
    work.promote(numbers.clone()).await?;
    let mut counts = counts_of(work, Some(numbers.clone())).await?;
    let mut oldest: BTreeMap<QueueNumber, Timestamp> = BTreeMap::new();
    for row in work.rows(sql::OLDEST, params![numbers.clone()]).await? {
        oldest.insert(row.try_get(0)?, time(row.try_get(1)?)?);
    }
    let mut views = Vec::new();
    for number in numbers {
        let queue = work.queue(number)?;
        let counts = counts.remove(&number).unwrap_or_default();
        if queue.alive || counts.accepted > 0 {
            let oldest_available = oldest.remove(&number);
            let (name, settings) = (queue.name.clone(), queue.settings.clone());
            views.push(QueueView { name, settings, counts, oldest_available });
        }
    }
    Ok(views)
}

/// Whether a queue that was read is there: it may have been deleted while a job was being added to it.
pub(crate) async fn is_there(work: &mut Work, number: QueueNumber) -> Outcome<bool> {
    if work.queue(number)?.alive {
        return Ok(true);
    }
    let counts = counts_of(work, Some(vec![number])).await?;
    Ok(counts.get(&number).is_some_and(|counts| counts.accepted > 0))
}

pub(crate) async fn all(work: &mut Work) -> Outcome<Vec<QueueView>> {
    let rows = work.rows(sql::QUEUES, params![]).await?;
    let numbers = work.read_queues(&rows)?;
    views(work, numbers).await
}

pub(crate) async fn one(work: &mut Work, name: &QueueName) -> Outcome<Option<QueueView>> {
    let Some(number) = work.queue_number(name).await? else { return Ok(None) };
    Ok(views(work, vec![number]).await?.pop())
}

pub(crate) async fn set(work: &mut Work, name: &QueueName, patch: &QueuePatch) -> Outcome<QueueView> {
    let number = make_queue(work, name).await?;
    work.rows(sql::LOCK_QUEUES, params![vec![number]]).await?;
    work.queue_number(name).await?;
    let rate_before = work.queue(number)?.settings.rate;
    let changes_groups = patch.group_head.is_some() || patch.on_dead.is_some();
    let settings = &mut work.queue_mut(number)?.settings;
    patch.clone().apply_to(settings);
    let text = serde_json::to_string(settings).map_err(|error| corrupt(&error.to_string()))?;
    work.rows(sql::SET_QUEUE, params![number, text]).await?;
    if patch.on_dead.is_some() && work.on_dead(number) == OnDead::Continue {
        for row in work.rows(sql::LET_GO, params![number]).await? {
            let id = job_id(row.try_get(1)?, row.try_get(0)?)?;
            let attempt = u32::try_from(row.try_get::<_, i32>(2)?).unwrap_or(0);
            work.emit_of(EventKind::GroupPassed, number, id, attempt);
        }
    }
    if changes_groups {
        work.rows(sql::ALL_DIRTY, params![number]).await?;
    }
    if let Some(rate) = work.queue(number)?.settings.rate.filter(|rate| Some(*rate) != rate_before) {
        let starts = rates::starts(work, vec![number]).await?.remove(&number).unwrap_or_default();
        rates::keep(work, number, rate, &starts).await?;
    }
    work.emit(EventKind::QueueChanged, number, None);
    work.hint(number);
    work.effects.deliveries = true;
    work.flush().await?;
    let view = views(work, vec![number]).await?.pop();
    work.flush().await?;
    view.ok_or_else(|| corrupt("a queue that cannot be made"))
}

pub(crate) async fn delete(
    work: &mut Work,
    name: &QueueName,
    force: bool,
) -> Outcome<ItemResult<DeletedQueue>> {
    let Some(number) = work.queue_number(name).await? else { return Ok(Err(Refusal::QueueNotFound)) };
    work.rows(sql::LOCK_QUEUES, params![vec![number]]).await?;
    work.queue_number(name).await?;
    let counts = counts_of(work, Some(vec![number])).await?.remove(&number).unwrap_or_default();
    if !work.queue(number)?.alive && counts.accepted == 0 {
        return Ok(Err(Refusal::QueueNotFound));
    }
    let counted = counts.unfinished();
    if counted > 0 && !force {
        return Ok(Err(Refusal::QueueNotEmpty { unfinished: counted }));
    }
    let rows = work.rows(sql::JOBS_OF_QUEUE, params![number]).await?;
    let mut ids: Vec<JobId> = Vec::new();
    let mut seqs: Vec<i64> = Vec::new();
    let (mut unfinished, mut running) = (0, 0);
    for row in &rows {
        ids.push(job_id(row.try_get(1)?, row.try_get(0)?)?);
        seqs.push(row.try_get(0)?);
        let state = State::of(row.try_get(2)?)?;
        unfinished += u64::from(!state.is_finished());
        running += u64::from(state == State::Running);
    }
    // Some may have been added, or run again, since they were counted.
    if unfinished > 0 && !force {
        return Ok(Err(Refusal::QueueNotEmpty { unfinished }));
    }
    let jobs = seqs.len() as u64;
    let (now, replay) = (work.now.as_unix_ms(), duration_code(limits::FINISH_REPLAY));
    let by_job = [
        sql::DROP_TIMERS,
        sql::PURGE_SPECS,
        sql::PURGE_ATTEMPTS,
        sql::PURGE_EVIDENCE,
        sql::PURGE_RESULTS,
        sql::PURGE_CHECKPOINTS,
        sql::PURGE_JOBS,
        // Last: whoever held the job until now may have begun one.
        sql::PURGE_EFFECTS,
    ];
    // What stands for a job that is still there is of one that came meanwhile: it stays.
    let by_queue = [
        sql::DROP_READY,
        sql::DROP_SEGMENTS,
        sql::DROP_LEASES,
        sql::DROP_FINISHED,
        sql::DROP_LOTS,
        sql::DROP_MEMBERS,
        sql::DROP_DIRTY,
        sql::DROP_GROUPS,
        sql::DROP_STARTS,
        sql::LOCK_QUEUE_KEYS,
        sql::DROP_KEYS,
    ];
    let mut batch = vec![(sql::RECEIPTS, params![seqs.clone(), now, replay])];
    batch.extend(by_job.map(|table| (table, params![seqs.clone()])));
    batch.extend(by_queue.map(|table| (table, params![number])));
    batch.push((sql::LOCK_COUNTS, params![]));
    batch.extend([sql::RECOUNT, sql::BURY_QUEUE].map(|table| (table, params![number])));
    work.tx.pipeline(batch).await?;
    if running > 0 {
        *work.effects.outcomes.entry(AttemptOutcome::Revoked).or_default() += running;
    }
    work.effects.finished.extend(ids);
    work.emit(EventKind::QueueDeleted, number, None);
    work.flush().await?;
    Ok(Ok(DeletedQueue { jobs }))
}

pub(crate) async fn setting(work: &mut Work, name: &str) -> Outcome<Option<Setting>> {
    let rows = work.rows(sql::GET_SETTING, params![name.to_owned()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let value = Bytes::from(row.try_get::<_, Vec<u8>>(0)?);
    Ok(Some(Setting { value, version: row.try_get::<_, i64>(1)?.cast_unsigned() }))
}

pub(crate) async fn set_setting(
    work: &mut Work,
    name: &str,
    value: &Bytes,
    expected: u64,
) -> Outcome<Result<u64, Setting>> {
    let (text, bytes) = (name.to_owned(), value.to_vec());
    let done = if expected == 0 {
        work.tx.run(sql::INSERT_SETTING, params![text, bytes]).await?
    } else {
        work.tx.run(sql::UPDATE_SETTING, params![text, bytes, expected.cast_signed()]).await?
    };
    if done.affected == 1 {
        return Ok(Ok(expected + 1));
    }
    let there = setting(work, name).await?;
    Ok(Err(there.unwrap_or(Setting { value: Bytes::new(), version: 0 })))
}
