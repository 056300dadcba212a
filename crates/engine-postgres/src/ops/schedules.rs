//! Schedules. Whoever changes or evaluates one holds its row; who evaluates waits for nobody's.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use onefold_core::schedule::{
    Admission, Due, ListSchedules, NewSchedule, PutSchedule, Schedule, ScheduleEvent, ScheduleId,
    SchedulePage, ScheduleView, Tick, tz_database_version,
};
use onefold_core::{DurationMs, EventKind, ItemResult, JobId, JobSpec, QueueName, Refusal, State};
use tokio_postgres::Row;

use super::add::{insert, make_queue};
use super::look::states;
use crate::error::{Fault, Outcome, corrupt};
use crate::rows::{QueueNumber, ScheduleRow, read_schedule, read_spec, schedule_columns, spec_columns};
use crate::work::{KeyPlace, NO_QUEUE, Space, Work};
use crate::{params, sql};

/// Jobs that one evaluation adds; the last schedule may go beyond by what is due of it.
const JOBS: usize = 2_000;
/// Payloads of any size.
const ALL_BYTES: i32 = i32::MAX;
/// When to look again at a schedule that cannot be read.
const PASSED_OVER: DurationMs = DurationMs::from_ms(60_000);

/// What an evaluation did.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Evaluated {
    /// Jobs it added.
    pub(crate) ticks: u64,
    /// There may be more to evaluate.
    pub(crate) more: bool,
}

async fn lock(work: &mut Work, id: &ScheduleId) -> Outcome<Option<ScheduleRow>> {
    let rows = work.rows(sql::LOCK_SCHEDULE, params![id.as_str().to_owned()]).await?;
    rows.first().map(read_schedule).transpose()
}

/// The specs of templates, with their payloads up to a size.
async fn templates(work: &mut Work, seqs: Vec<i64>, bytes: i32) -> Outcome<HashMap<i64, JobSpec>> {
    let rows = work.rows(sql::LOAD_SPECS, params![seqs, bytes]).await?;
    rows.iter().map(|row| read_spec(row).map(|loaded| (loaded.seq, loaded.spec))).collect()
}

async fn view(work: &mut Work, row: ScheduleRow) -> Outcome<ScheduleView> {
    let job = templates(work, vec![row.template], ALL_BYTES).await?.remove(&row.template);
    let job = job.ok_or_else(|| corrupt("a schedule without its job"))?;
    Ok(ScheduleView { schedule: row.schedule, job })
}

fn note_next(work: &mut Work, row: &ScheduleRow) {
    let next = row.schedule.next().map(Tick::at);
    work.effects.due = [work.effects.due, next].into_iter().flatten().min();
}

async fn update(work: &mut Work, rows: &[ScheduleRow]) -> Outcome<()> {
    if !rows.is_empty() {
        work.rows(sql::UPDATE_SCHEDULES, schedule_columns(rows)?).await?;
    }
    Ok(())
}

async fn tell(work: &mut Work, kind: EventKind, schedule: &Schedule) -> Outcome<()> {
    let queue = make_queue(work, &schedule.queue).await?;
    work.emit_schedule(kind, queue, ScheduleEvent { id: schedule.id.clone(), dropped: None });
    Ok(())
}

pub(crate) async fn put(work: &mut Work, id: &ScheduleId, new: &NewSchedule) -> Outcome<PutSchedule> {
    let before = lock(work, id).await?;
    let old = match &before {
        Some(row) => templates(work, vec![row.template], ALL_BYTES).await?.remove(&row.template),
        None => None,
    };
    let job = new.job.spec.clone();
    let same_job = old.as_ref() == Some(&job);
    let mut schedule = match &before {
        None => Schedule::new(id.clone(), new, work.now),
        Some(row) => row.schedule.redefined(new, work.now),
    };
    if let Some(row) = &before {
        let same = Schedule { changed_at: row.schedule.changed_at, ..schedule.clone() };
        if same_job && same == row.schedule {
            schedule = same;
            return Ok(PutSchedule { view: ScheduleView { schedule, job }, created: false });
        }
    }
    tell(work, EventKind::ScheduleChanged, &schedule).await?;
    let template = match &before {
        Some(row) if same_job => row.template,
        _ => {
            let seq =
                work.take_seqs(1).await?.next().ok_or_else(|| corrupt("a sequence that gave nothing"))?;
            work.rows(sql::INSERT_SPECS, spec_columns(&[(seq, &job)], true)).await?;
            seq
        }
    };
    let row = ScheduleRow { schedule, template };
    let created = before.is_none();
    match before {
        Some(old) => {
            if old.template != template {
                work.rows(sql::PURGE_SPECS, params![vec![old.template]]).await?;
            }
            update(work, std::slice::from_ref(&row)).await?;
        }
        None => {
            let replies = work.tx.pipeline(vec![(sql::INSERT_SCHEDULE, row.columns()?)]).await?;
            if replies.first().is_none_or(|reply| reply.affected != 1) {
                return Err(Fault::Again("a schedule was made meanwhile".to_owned()));
            }
        }
    }
    note_next(work, &row);
    work.flush().await?;
    Ok(PutSchedule { view: ScheduleView { schedule: row.schedule, job }, created })
}

pub(crate) async fn one(work: &mut Work, id: &ScheduleId) -> Outcome<Option<ScheduleView>> {
    let rows = work.rows(sql::SCHEDULE, params![id.as_str().to_owned()]).await?;
    let Some(row) = rows.first().map(read_schedule).transpose()? else { return Ok(None) };
    let template = row.template;
    match view(work, row).await {
        // Between the two looks it may have been given another job, or deleted.
        Err(_) => {
            let rows = work.rows(sql::LOCK_SCHEDULE, params![id.as_str().to_owned()]).await?;
            match rows.first().map(read_schedule).transpose()? {
                Some(row) if row.template == template => Err(corrupt("a schedule without its job")),
                Some(row) => view(work, row).await.map(Some),
                None => Ok(None),
            }
        }
        view => view.map(Some),
    }
}

pub(crate) async fn page(work: &mut Work, params: &ListSchedules) -> Outcome<SchedulePage> {
    let after = params.after.as_ref().map_or("", ScheduleId::as_str).to_owned();
    let mut rows = work.rows(sql::SCHEDULES, params![after, i64::from(params.limit) + 1]).await?;
    let more = rows.len() > params.limit as usize;
    rows.truncate(params.limit as usize);
    let rows = rows.iter().map(read_schedule).collect::<Outcome<Vec<_>>>()?;
    let mut jobs = templates(work, rows.iter().map(|row| row.template).collect(), -1).await?;
    let schedules = rows.into_iter().filter_map(|row| {
        // One that was deleted, or given another job, between the two looks is left to the next page.
        let mut job = jobs.remove(&row.template)?;
        job.payload = onefold_core::Payload::Absent;
        Some(ScheduleView { schedule: row.schedule, job })
    });
    Ok(SchedulePage { schedules: schedules.collect(), more })
}

pub(crate) async fn pause(
    work: &mut Work,
    id: &ScheduleId,
    paused: bool,
) -> Outcome<ItemResult<ScheduleView>> {
    let Some(mut row) = lock(work, id).await? else { return Ok(Err(Refusal::ScheduleNotFound)) };
    if row.schedule.set_paused(paused, work.now) {
        tell(work, EventKind::ScheduleChanged, &row.schedule).await?;
        update(work, std::slice::from_ref(&row)).await?;
        note_next(work, &row);
        work.flush().await?;
    }
    view(work, row).await.map(Ok)
}

pub(crate) async fn delete(work: &mut Work, id: &ScheduleId) -> Outcome<ItemResult<ScheduleView>> {
    let Some(row) = lock(work, id).await? else { return Ok(Err(Refusal::ScheduleNotFound)) };
    let template = row.template;
    let view = view(work, row).await?;
    tell(work, EventKind::ScheduleDeleted, &view.schedule).await?;
    work.rows(sql::DELETE_SCHEDULE, params![id.as_str().to_owned()]).await?;
    work.rows(sql::PURGE_SPECS, params![vec![template]]).await?;
    work.flush().await?;
    Ok(Ok(view))
}

pub(crate) async fn run(work: &mut Work, id: &ScheduleId) -> Outcome<ItemResult<JobId>> {
    let Some(mut row) = lock(work, id).await? else { return Ok(Err(Refusal::ScheduleNotFound)) };
    if let Some(job) = row.schedule.last_job {
        let state = states(work, &BTreeSet::from([job])).await?.remove(&job);
        if row.schedule.overlap.admit(state) == Admission::Drop {
            return Ok(Err(Refusal::ScheduleJobUnfinished { job }));
        }
    }
    let spec = view(work, row.clone()).await?.job;
    let queue = make_queue(work, &row.schedule.queue).await?;
    let seq = work.take_seqs(1).await?.next().ok_or_else(|| corrupt("a sequence that gave nothing"))?;
    let job = add(work, &row.schedule, &spec, None, queue, seq)?;
    row.schedule.last_job = Some(job);
    update(work, std::slice::from_ref(&row)).await?;
    work.flush().await?;
    Ok(Ok(job))
}

fn add(
    work: &mut Work,
    schedule: &Schedule,
    spec: &JobSpec,
    tick: Option<Tick>,
    queue: QueueNumber,
    seq: i64,
) -> Outcome<JobId> {
    let mut new = schedule.job(spec, tick);
    work.queue(queue)?.settings.apply_to(&mut new);
    let id = work.new_id(seq)?;
    insert(work, queue, new, id)?;
    if let Some(tick) = tick {
        let key = schedule.id.key_of(tick);
        work.hold((NO_QUEUE, Space::Tick, key.to_key()), Some(key.hold(id, work.now)));
    }
    Ok(id)
}

/// Schedules that are due, whoever is at them.
pub(crate) async fn due(work: &mut Work, limit: i64) -> Outcome<Vec<ScheduleId>> {
    let rows = work.rows(sql::DUE_SCHEDULE_IDS, params![work.now.as_unix_ms(), limit]).await?;
    let mut ids = Vec::with_capacity(rows.len());
    for row in &rows {
        ids.extend(row.try_get::<_, &str>(0)?.parse().ok());
    }
    Ok(ids)
}

/// Looks at a schedule later, whatever its next tick is.
pub(crate) async fn put_off(work: &mut Work, id: &ScheduleId, by: DurationMs) -> Outcome<()> {
    put_off_row(work, id.as_str(), by).await
}

async fn put_off_row(work: &mut Work, id: &str, by: DurationMs) -> Outcome<()> {
    let at = work.now.saturating_add(by).as_unix_ms();
    work.rows(sql::PUT_OFF_SCHEDULE, params![id.to_owned(), at]).await.map(drop)
}

/// Adds the jobs of schedules that are due and that nobody else is at.
pub(crate) async fn evaluate(work: &mut Work, limit: i64) -> Outcome<Evaluated> {
    let rows = work.rows(sql::DUE_SCHEDULES, params![work.now.as_unix_ms(), limit]).await?;
    let evaluated = evaluate_rows(work, &rows).await?;
    Ok(Evaluated { more: evaluated.more || rows.len() as i64 == limit, ..evaluated })
}

/// The same for one of them.
pub(crate) async fn evaluate_one(work: &mut Work, id: &ScheduleId) -> Outcome<Evaluated> {
    let rows =
        work.rows(sql::LOCK_DUE_SCHEDULE, params![id.as_str().to_owned(), work.now.as_unix_ms()]).await?;
    evaluate_rows(work, &rows).await
}

async fn evaluate_rows(work: &mut Work, found: &[Row]) -> Outcome<Evaluated> {
    if found.is_empty() {
        return Ok(Evaluated::default());
    }
    let now = work.now;
    let seqs = found.iter().map(|row| row.try_get(1)).collect::<Result<Vec<i64>, _>>()?;
    let mut specs: HashMap<i64, JobSpec> = HashMap::new();
    for row in &work.rows(sql::LOAD_SPECS, params![seqs, ALL_BYTES]).await? {
        specs.extend(read_spec(row).ok().map(|loaded| (loaded.seq, loaded.spec)));
    }
    let mut rows = Vec::with_capacity(found.len());
    for row in found {
        match read_schedule(row) {
            Ok(row) if specs.contains_key(&row.template) => rows.push(row),
            read => {
                let id: &str = row.try_get(0)?;
                tracing::error!(id, ?read, "a damaged schedule is passed over");
                put_off_row(work, id, PASSED_OVER).await?;
            }
        }
    }
    let states = last_states(work, &rows).await?;
    let (mut dues, mut wanted): (Vec<Option<Due>>, usize) = (Vec::with_capacity(rows.len()), 0);
    for row in &rows {
        if wanted >= JOBS {
            break;
        }
        let due = row.schedule.due(now);
        wanted += due.as_ref().map_or(0, |due| due.run.len());
        dues.push(due);
    }
    let more = dues.len() < rows.len();
    // What is left stays due.
    rows.truncate(dues.len());
    let held = held(work, &rows, &dues).await?;
    let mut queues: BTreeMap<QueueName, QueueNumber> = BTreeMap::new();
    for row in &rows {
        if !queues.contains_key(&row.schedule.queue) {
            queues.insert(row.schedule.queue.clone(), make_queue(work, &row.schedule.queue).await?);
        }
    }
    let mut decided = Vec::new();
    for ((row, due), held) in rows.iter().zip(&dues).zip(&held) {
        let previous = row.schedule.last_job.and_then(|job| states.get(&job).copied());
        decided.push(due.as_ref().map(|due| row.schedule.decide(due, previous, held)));
    }
    let jobs = decided.iter().flatten().map(|decision| decision.add.len()).sum();
    let mut seqs = work.take_seqs(jobs).await?;
    for ((row, due), decision) in rows.iter_mut().zip(&dues).zip(&decided) {
        let (Some(due), Some(decision)) = (due, decision) else { continue };
        let queue =
            queues.get(&row.schedule.queue).copied().ok_or_else(|| corrupt("a queue that is not there"))?;
        let Some(spec) = specs.remove(&row.template) else {
            return Err(corrupt("a schedule without its job"));
        };
        let mut last_job = None;
        for tick in &decision.add {
            let seq = seqs.next().ok_or_else(|| corrupt("a sequence that gave too little"))?;
            last_job = Some(add(work, &row.schedule, &spec, Some(*tick), queue, seq)?);
        }
        for dropped in &decision.dropped {
            let about = ScheduleEvent { id: row.schedule.id.clone(), dropped: Some(*dropped) };
            work.emit_schedule(EventKind::TicksDropped, queue, about);
        }
        row.schedule.settle(due, decision, last_job);
    }
    update(work, &rows).await?;
    rows.iter().for_each(|row| note_next(work, row));
    work.flush().await?;
    Ok(Evaluated { ticks: jobs as u64, more })
}

async fn last_states(work: &mut Work, rows: &[ScheduleRow]) -> Outcome<BTreeMap<JobId, State>> {
    let jobs: BTreeSet<JobId> = rows.iter().filter_map(|row| row.schedule.last_job).collect();
    if jobs.is_empty() { Ok(BTreeMap::new()) } else { states(work, &jobs).await }
}

/// Of each schedule the due ticks that have their job already.
async fn held(work: &mut Work, rows: &[ScheduleRow], dues: &[Option<Due>]) -> Outcome<Vec<BTreeSet<Tick>>> {
    let mut places: Vec<KeyPlace> = Vec::new();
    let mut ticks: Vec<(usize, Tick)> = Vec::new();
    for (number, (row, due)) in rows.iter().zip(dues).enumerate() {
        for tick in due.iter().flat_map(|due| &due.run) {
            places.push((NO_QUEUE, Space::Tick, row.schedule.id.key_of(*tick).to_key()));
            ticks.push((number, *tick));
        }
    }
    let mut held = vec![BTreeSet::new(); rows.len()];
    for place in work.look_at_holds(&places).await? {
        if let Some((number, tick)) = ticks.get(place)
            && let Some(held) = held.get_mut(*number)
        {
            held.insert(*tick);
        }
    }
    Ok(held)
}

/// Computes next ticks anew that another release of the time zone database gave. Whether there may be more.
pub(crate) async fn follow_tz(work: &mut Work, limit: i64) -> Outcome<bool> {
    let found = work.rows(sql::OTHER_TZ, params![tz_database_version().to_owned(), limit]).await?;
    let mut rows: Vec<ScheduleRow> = Vec::new();
    // One that cannot be read is told of when its time comes.
    rows.extend(found.iter().filter_map(|row| read_schedule(row).ok()));
    update(work, &rows).await?;
    Ok(found.len() as i64 == limit && !rows.is_empty())
}
