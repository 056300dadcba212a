//! Looking at jobs and keys without locking them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use onefold_core::{
    Evidence, EvidenceKind, GroupHead, JobFilter, JobId, JobPage, JobStatus, JobSummary, JobView, Key,
    KeyView, Kind, Label, ListParams, QueueName, State, Timestamp, Waiting, limits,
};

use crate::error::{Outcome, corrupt};
use crate::ops::rates;
use crate::pool::Params;
use crate::rows::{Coded, JobRow, QueueNumber, fill, read_attempt_row, read_job, seq, seq_code, time};
use crate::work::{Space, Work};
use crate::{params, sql};

/// Everything about a job.
pub(crate) async fn get(work: &mut Work, id: JobId) -> Outcome<Option<JobView>> {
    let seq = vec![seq_code(id)];
    let batch = vec![
        (sql::LOAD_JOBS, params![seq.clone()]),
        (sql::QUEUES_OF_JOBS, params![seq.clone()]),
        (sql::PAYLOADS, params![seq.clone()]),
        (sql::ATTEMPTS, params![seq]),
        (sql::EVIDENCE, params![seq_code(id)]),
        (sql::RESULT, params![seq_code(id)]),
        (sql::EFFECTS_OF_JOB, params![seq_code(id), i64::from(limits::EFFECTS_SHOWN_MAX)]),
    ];
    let mut replies = work.tx.pipeline(batch).await?.into_iter();
    let mut next = || replies.next().map(|reply| reply.rows).unwrap_or_default();
    let (jobs, queues, contents, earlier, evidence, results, effects) =
        (next(), next(), next(), next(), next(), next(), next());
    work.read_queues(&queues)?;
    let Some(mut row) = jobs.first().map(read_job).transpose()?.filter(|row| row.job.id == id) else {
        return Ok(None);
    };
    let mut checkpoint = None;
    if let Some(content) = contents.first() {
        fill(&mut row.spec.payload, content.try_get(1)?);
        checkpoint = content.try_get::<_, Option<Vec<u8>>>(2)?.map(Bytes::from);
    }
    let mut attempts = Vec::new();
    for attempt in &earlier {
        attempts.push(read_attempt_row(attempt)?.1);
    }
    attempts.extend(row.job.attempt.clone());
    let mut seen = Vec::new();
    for row in &evidence {
        seen.push(Evidence {
            kind: EvidenceKind::of(row.try_get(0)?)?,
            number: u32::try_from(row.try_get::<_, i32>(1)?).map_err(|_| corrupt("a negative number"))?,
            at: time(row.try_get(2)?)?,
            note: row.try_get(3)?,
        });
    }
    seen.sort_by_key(|e| (e.at, e.kind, e.number));
    let result = results.first().map(|row| row.try_get::<_, Vec<u8>>(0)).transpose()?.map(Bytes::from);
    let waiting = waiting(work, std::slice::from_ref(&row)).await?.remove(&seq_code(id));
    let effects = super::effects::of_job(&effects)?;
    Ok(Some(JobView {
        job: row.job,
        spec: row.spec,
        attempts,
        evidence: seen,
        waiting,
        result,
        checkpoint,
        effects,
    }))
}

/// Why jobs wait whose queues were read, if they are available and do.
async fn waiting(work: &mut Work, rows: &[JobRow]) -> Outcome<BTreeMap<i64, Waiting>> {
    let mut reasons = BTreeMap::new();
    let available: Vec<&JobRow> = rows.iter().filter(|row| row.job.state == State::Available).collect();
    let mut full: BTreeMap<QueueNumber, bool> = BTreeMap::new();
    let mut used_up: BTreeMap<QueueNumber, bool> = BTreeMap::new();
    for row in &available {
        let settings = work.queue(row.queue)?.settings.clone();
        if let (Some(limit), false) = (settings.concurrency, full.contains_key(&row.queue)) {
            let counted = work.rows(sql::RUNNING, params![row.queue, i64::from(limit)]).await?;
            let running: i64 = counted.first().ok_or_else(|| corrupt("a count without a row"))?.try_get(0)?;
            full.insert(row.queue, running >= i64::from(limit));
        }
        if let (Some(rate), false) = (settings.rate, used_up.contains_key(&row.queue)) {
            let starts = rates::starts(work, vec![row.queue]).await?.remove(&row.queue).unwrap_or_default();
            used_up.insert(row.queue, starts.room(rate, work.now) == 0);
        }
        if settings.paused {
            reasons.insert(seq_code(row.job.id), Waiting::Paused);
        } else if full.get(&row.queue) == Some(&true) {
            reasons.insert(seq_code(row.job.id), Waiting::Concurrency);
        } else if used_up.get(&row.queue) == Some(&true) {
            reasons.insert(seq_code(row.job.id), Waiting::Rate);
        }
    }
    let grouped: Vec<&&JobRow> = available.iter().filter(|row| row.job.group_order.is_some()).collect();
    if !grouped.is_empty() {
        let skips = |row: &&&JobRow| {
            work.queue(row.queue).is_ok_and(|queue| queue.settings.group_head == Some(GroupHead::Skip))
        };
        let group = |row: &&&JobRow| row.spec.group.as_ref().map(|group| group.as_str().to_owned());
        let asked: Params = params![
            grouped.iter().map(|row| seq_code(row.job.id)).collect::<Vec<_>>(),
            grouped.iter().map(|row| row.queue).collect::<Vec<_>>(),
            grouped.iter().map(group).collect::<Vec<_>>(),
            grouped.iter().map(|row| row.job.group_order.map(u64::cast_signed)).collect::<Vec<_>>(),
            grouped.iter().map(skips).collect::<Vec<bool>>(),
        ];
        for row in work.rows(sql::GROUP_WAITING, asked).await? {
            reasons.insert(row.try_get(0)?, Waiting::Group);
        }
    }
    Ok(reasons)
}

/// What a filter asks of the columns that are filtered by SQL, the queue and the states aside.
pub(crate) fn filter_columns(filter: &JobFilter) -> Params {
    params![
        filter.kind.as_ref().map(|kind: &Kind| kind.as_str().to_owned()),
        filter.label.as_ref().map(|label: &Label| label.as_str().to_owned()),
        filter.key.as_ref().map(|key| key.as_str().to_owned()),
        filter.group.as_ref().map(|group| group.as_str().to_owned()),
        filter.since.map(Timestamp::as_unix_ms),
        filter.until.map(Timestamp::as_unix_ms),
    ]
}

pub(crate) fn state_codes(states: &[State]) -> Vec<i16> {
    states.iter().map(|state| state.code()).collect()
}

/// A page of jobs.
pub(crate) async fn list(work: &mut Work, params: &ListParams) -> Outcome<JobPage> {
    let before = params.before.map_or(i64::MAX, |before| before.get().cast_signed());
    let scanned = i64::from(limits::LIST_ROWS_SCANNED_MAX);
    let mut asked = params![
        before,
        scanned,
        params.filter.queue.as_ref().map(|queue| queue.as_str().to_owned()),
        state_codes(&params.filter.states),
    ];
    asked.extend(filter_columns(&params.filter));
    asked.extend(params![i64::from(params.limit) + 1]);
    let rows = work.rows(sql::LIST_JOBS, asked).await?;
    let mut jobs = rows.iter().map(read_job).collect::<Outcome<Vec<JobRow>>>()?;
    let full = jobs.len() > params.limit as usize;
    jobs.truncate(params.limit as usize);
    let next = if full {
        jobs.last().map(|row| row.job.id.seq())
    } else {
        // The scan may have ended before the jobs did.
        let rows = work.rows(sql::LIST_END, params![before, scanned]).await?;
        let end = rows.first().ok_or_else(|| corrupt("a count without a row"))?;
        let (count, last): (i64, Option<i64>) = (end.try_get(0)?, end.try_get(1)?);
        last.filter(|_| count == scanned).map(seq).transpose()?
    };
    let mut numbers: Vec<QueueNumber> = jobs.iter().map(|row| row.queue).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let queues = work.rows(sql::QUEUES_BY_NUMBER, params![numbers]).await?;
    work.read_queues(&queues)?;
    let mut waiting = waiting(work, &jobs).await?;
    let jobs = jobs.into_iter().map(|row| {
        let waiting = waiting.remove(&seq_code(row.job.id));
        let mut spec = row.spec;
        spec.payload = onefold_core::Payload::Absent;
        JobSummary { job: row.job, spec, waiting }
    });
    Ok(JobPage { jobs: jobs.collect(), next })
}

/// The states of jobs that are there.
pub(crate) async fn states(work: &mut Work, ids: &BTreeSet<JobId>) -> Outcome<BTreeMap<JobId, State>> {
    let seqs: Vec<i64> = ids.iter().copied().map(seq_code).collect();
    let rows = work.rows(sql::STATES, params![seqs]).await?;
    let mut states = BTreeMap::new();
    for row in &rows {
        let id = crate::rows::job_id(row.try_get(1)?, row.try_get(0)?)?;
        states.insert(id, State::of(row.try_get(2)?)?);
    }
    Ok(states)
}

/// Who holds a key.
pub(crate) async fn key(work: &mut Work, queue: &QueueName, key: Key) -> Outcome<Option<KeyView>> {
    let Some(number) = work.queue_number(queue).await? else { return Ok(None) };
    let Some(hold) = work.peek_key((number, Space::Job, key)).await? else { return Ok(None) };
    let state = states(work, &BTreeSet::from([hold.job])).await?.remove(&hold.job);
    let status = state.map_or(JobStatus::Purged, JobStatus::Known);
    let held = hold.is_held(state, work.now);
    Ok(held.then_some(KeyView { job: hold.job, status, until: hold.until, free_on: hold.free_on }))
}
