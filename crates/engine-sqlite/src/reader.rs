//! Reading beside the writer: short queries on connections of their own.

use bytes::Bytes;
use onefold_core::{
    EventPage, EventsParams, Evidence, Job, JobId, JobPage, JobSpec, JobSummary, JobView, Lane, ListParams,
    Payload, QueueName, Seq, Setting, State, StoreEvent, Timestamp, Waiting, limits,
};
use rusqlite::{Connection, OptionalExtension, Row, Statement};

use crate::error::{StoreError, StoreResult};
use crate::rows::{self, JobRow};
use crate::sets::{SeqSet, bucket_of};
use crate::shared::{QueueSeen, Shared};

/// Rows a page of a list reads at a time.
const PAGE_ROWS: u32 = 512;

/// Why an available job waits. `leasable`: it stands in the ready set.
pub(crate) fn waiting(leasable: bool, queue: &QueueSeen, now: Timestamp) -> Option<Waiting> {
    let settings = &queue.settings;
    let full = settings.concurrency.is_some_and(|limit| queue.running >= u64::from(limit));
    if !leasable {
        Some(Waiting::Group)
    } else if settings.paused {
        Some(Waiting::Paused)
    } else if full {
        Some(Waiting::Concurrency)
    } else if settings.rate.is_some_and(|rate| queue.starts.room(rate, now) == 0) {
        Some(Waiting::Rate)
    } else {
        None
    }
}

/// A result or checkpoint, if there is one.
pub(crate) fn read_optional(stmt: &mut Statement<'_>, seq: Seq) -> StoreResult<Option<Bytes>> {
    let mut found = stmt.query([seq.get() as i64])?;
    found.next()?.map(|row| rows::read_value(row, seq)).transpose()
}

pub(crate) fn read_evidence(stmt: &mut Statement<'_>, seq: Seq) -> StoreResult<Vec<Evidence>> {
    let mut evidence = Vec::new();
    let mut found = stmt.query([seq.get() as i64])?;
    while let Some(row) = found.next()? {
        evidence.push(Evidence {
            kind: rows::evidence_of(row.get(0)?)?,
            number: row.get(1)?,
            at: Timestamp::from_unix_ms(row.get(2)?).unwrap_or(Timestamp::EPOCH),
            note: row.get(3)?,
        });
    }
    Ok(evidence)
}

pub(crate) fn read_setting(stmt: &mut Statement<'_>, name: &str) -> StoreResult<Option<Setting>> {
    let setting = |row: &Row<'_>| {
        Ok(Setting { value: Bytes::from(row.get::<_, Vec<u8>>(0)?), version: row.get::<_, i64>(1)? as u64 })
    };
    Ok(stmt.query_row([name], setting).optional()?)
}

fn read_job(conn: &Connection, row: &Row<'_>, shared: &Shared) -> StoreResult<JobRow> {
    rows::read_job(row, |id| shared.queue_name(id).or_else(|| stored_queue_name(conn, id)))
}

/// A queue's name in the moment `conn` reads: it may have been made or deleted since it was shown.
fn stored_queue_name(conn: &Connection, id: i64) -> Option<QueueName> {
    let mut stmt = conn.prepare_cached(include_str!("../sql/queue_name.sql")).ok()?;
    let name: String = stmt.query_row([id], |row| row.get(0)).ok()?;
    QueueName::new(name).ok()
}

pub(crate) fn read_spec(conn: &Connection, seq: Seq) -> StoreResult<JobSpec> {
    let mut stmt = conn.prepare_cached(include_str!("../sql/spec_select.sql"))?;
    let mut found = stmt.query([seq.get() as i64])?;
    match found.next()? {
        Some(row) => rows::read_spec(row),
        None => Err(StoreError::corrupt(format!("job {} has no record of what was asked for", seq.get()))),
    }
}

fn job_waiting(
    conn: &Connection,
    shared: &Shared,
    row: &JobRow,
    lane: Lane,
    now: Timestamp,
) -> StoreResult<Option<Waiting>> {
    if row.job.state != State::Available {
        return Ok(None);
    }
    let Some(queue) = shared.queue(row.queue) else { return Ok(None) };
    let leasable = row.job.group_order.is_none() || in_ready_set(conn, &row.job, row.queue, lane)?;
    Ok(waiting(leasable, &queue, now))
}

fn in_ready_set(conn: &Connection, job: &Job, queue: i64, lane: Lane) -> StoreResult<bool> {
    let seq = job.id.seq().get();
    let bucket = bucket_of(seq);
    let mut stmt = conn.prepare_cached(include_str!("../sql/set_select.sql"))?;
    let stored: Option<Vec<u8>> =
        stmt.query_row((0, queue, lane.get(), job.priority, bucket as i64), |row| row.get(0)).optional()?;
    let mut set = SeqSet::default();
    Ok(stored.is_some_and(|stored| set.load(bucket, &stored).is_some() && set.contains(seq)))
}

/// Everything about a job.
pub(crate) fn get(
    conn: &Connection,
    shared: &Shared,
    id: JobId,
    now: Timestamp,
) -> StoreResult<Option<JobView>> {
    // One read transaction, so that all parts are of one moment.
    let conn = conn.unchecked_transaction()?;
    let seq = id.seq();
    let row = {
        let mut stmt = conn.prepare_cached(include_str!("../sql/job_select.sql"))?;
        let mut found = stmt.query([seq.get() as i64])?;
        match found.next()? {
            Some(row) => read_job(&conn, row, shared)?,
            None => return Ok(None),
        }
    };
    if row.job.id != id {
        return Ok(None);
    }
    let mut attempts = Vec::new();
    {
        let mut stmt = conn.prepare_cached(include_str!("../sql/attempt_select.sql"))?;
        let mut found = stmt.query([seq.get() as i64])?;
        while let Some(row) = found.next()? {
            attempts.push(rows::read_attempt(row, seq)?);
        }
    }
    attempts.extend(row.job.attempt.clone());
    let spec = read_spec(&conn, seq)?;
    let waiting = job_waiting(&conn, shared, &row, spec.target.lane(), now)?;
    let evidence =
        read_evidence(&mut *conn.prepare_cached(include_str!("../sql/evidence_select.sql"))?, seq)?;
    let result = read_optional(&mut *conn.prepare_cached(include_str!("../sql/result_select.sql"))?, seq)?;
    let checkpoint =
        read_optional(&mut *conn.prepare_cached(include_str!("../sql/checkpoint_select.sql"))?, seq)?;
    let effects =
        crate::effects::of_job(&mut *conn.prepare_cached(include_str!("../sql/effects_of_job.sql"))?, seq)?;
    Ok(Some(JobView { job: row.job, spec, attempts, evidence, waiting, result, checkpoint, effects }))
}

/// A page of jobs, newest first, looking at a bounded number of rows.
pub(crate) fn list(
    conn: &Connection,
    shared: &Shared,
    params: &ListParams,
    now: Timestamp,
) -> StoreResult<JobPage> {
    let conn = conn.unchecked_transaction()?;
    let mut page = JobPage::default();
    let mut before = params.before.map_or(i64::MAX, |seq| seq.get() as i64);
    let mut scanned = 0;
    loop {
        let rows = page_rows(&conn, shared, before)?;
        let full_chunk = rows.len() as u32 == PAGE_ROWS;
        for row in rows {
            if page.jobs.len() as u32 >= params.limit || scanned >= limits::LIST_ROWS_SCANNED_MAX {
                page.next = Seq::new(before as u64);
                return Ok(page);
            }
            scanned += 1;
            let seq = row.job.id.seq();
            before = seq.get() as i64;
            let rough = params.filter.queue.as_ref().is_none_or(|queue| *queue == row.job.queue)
                && (params.filter.states.is_empty() || params.filter.states.contains(&row.job.state));
            if !rough {
                continue;
            }
            let mut spec = read_spec(&conn, seq)?;
            if params.filter.matches(&row.job, &spec) {
                spec.payload = Payload::Absent;
                let waiting = job_waiting(&conn, shared, &row, spec.target.lane(), now)?;
                page.jobs.push(JobSummary { job: row.job, spec, waiting });
            }
        }
        if !full_chunk {
            return Ok(page);
        }
    }
}

fn page_rows(conn: &Connection, shared: &Shared, before: i64) -> StoreResult<Vec<JobRow>> {
    let mut stmt = conn.prepare_cached(include_str!("../sql/job_page.sql"))?;
    let mut found = stmt.query((before, PAGE_ROWS))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        rows.push(read_job(conn, row, shared)?);
    }
    Ok(rows)
}

/// Events after a cursor.
pub(crate) fn events(conn: &Connection, params: &EventsParams) -> StoreResult<EventPage> {
    let conn = conn.unchecked_transaction()?;
    let oldest: Option<i64> =
        conn.prepare_cached(include_str!("../sql/event_oldest.sql"))?.query_row([], |r| r.get(0))?;
    let next_event: i64 =
        conn.prepare_cached(include_str!("../sql/event_next.sql"))?.query_row([], |row| row.get(0))?;
    let last = next_event as u64 - 1;
    let after = params.after.min(last);
    let mut events: Vec<StoreEvent> = Vec::new();
    let mut names: std::collections::HashMap<i64, QueueName> = std::collections::HashMap::new();
    let mut stmt = conn.prepare_cached(include_str!("../sql/event_page.sql"))?;
    let mut found = stmt.query((after as i64, params.limit))?;
    while let Some(row) = found.next()? {
        let first: i64 = row.get(0)?;
        let at = Timestamp::from_unix_ms(row.get(2)?).unwrap_or(Timestamp::EPOCH);
        if names.is_empty() {
            names = queue_names(&conn)?;
        }
        let bytes = row.get_ref(3)?.as_blob()?;
        let stored = crate::events::read(first as u64, at, bytes, |id| names.get(&id).cloned())?;
        events.extend(stored.into_iter().filter(|event| event.cursor > after));
        if events.len() >= params.limit as usize {
            break;
        }
    }
    events.truncate(params.limit as usize);
    let next = events.last().map_or(after, |event| event.cursor);
    drop(found);
    Ok(EventPage { events, next, oldest: oldest.map_or(last + 1, |oldest| oldest as u64) })
}

fn queue_names(conn: &Connection) -> StoreResult<std::collections::HashMap<i64, QueueName>> {
    let mut stmt = conn.prepare_cached(include_str!("../sql/queue_names.sql"))?;
    let mut found = stmt.query([])?;
    let mut names = std::collections::HashMap::new();
    while let Some(row) = found.next()? {
        let name: String = row.get(1)?;
        let name = QueueName::new(&name)
            .map_err(|_| StoreError::corrupt("a stored queue name cannot be read".to_owned()))?;
        names.insert(row.get(0)?, name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use onefold_core::{AddParams, Engine, EventKind, ManualClock, NewJob, SeededEntropy};

    use super::*;
    use crate::events::{EventLog, NewEvent};
    use crate::{Options, SqliteEngine};

    async fn store(dir: &std::path::Path) -> (JobId, Connection) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_unix_ms(1_795_253_400_000).unwrap()));
        let engine = SqliteEngine::open(dir, Options::new(clock, Arc::new(SeededEntropy::new(1)))).unwrap();
        let jobs = vec![NewJob::default()];
        let add = AddParams { queue: QueueName::new("q").unwrap(), jobs, atomic: false };
        let id = engine.add(add).await.unwrap().remove(0).unwrap().id;
        drop(engine);
        (id, Connection::open(dir.join("onefold.db")).unwrap())
    }

    /// A queue the writer has not shown yet, or shows no more, is no damage.
    #[tokio::test]
    async fn a_job_of_a_queue_made_a_moment_ago_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (id, conn) = store(dir.path()).await;
        let nothing_shown = Shared::default();
        assert_eq!(
            get(&conn, &nothing_shown, id, Timestamp::EPOCH).unwrap().unwrap().job.queue.as_str(),
            "q"
        );
        let params = ListParams { limit: 10, ..ListParams::default() };
        assert_eq!(list(&conn, &nothing_shown, &params, Timestamp::EPOCH).unwrap().jobs.len(), 1);
    }

    /// A row of events is found by any of them, however many it holds.
    #[tokio::test]
    async fn every_event_of_a_very_long_row_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (_, conn) = store(dir.path()).await;
        let now = Timestamp::from_unix_ms(1_795_253_400_000).unwrap();
        let mut log = EventLog::default();
        let count = 70_000;
        for _ in 0..count {
            let kind = EventKind::QueueChanged;
            log.push(NewEvent { kind, queue: 1, job: None, reason: None, attempt: 0, schedule: None }, now);
        }
        let row = (100, count, now.as_unix_ms(), log.bytes());
        conn.execute(include_str!("../sql/event_insert.sql"), row).unwrap();
        conn.execute("UPDATE onefold_meta SET next_event = ?1", [100 + count]).unwrap();
        for after in [99_u64, 100, 66_000, 70_098] {
            let page = events(&conn, &EventsParams { after, limit: 1 }).unwrap();
            assert_eq!(page.events.first().map(|event| event.cursor), Some(after + 1));
        }
    }
}
