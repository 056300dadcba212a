//! What is due. Every node may do all of it at any time: rows somebody else is at are passed by.

use std::collections::{BTreeMap, BTreeSet};

use onefold_core::{DurationMs, Event, IllegalTransition, QueueSettings, State, Timestamp, limits, rules};

use crate::error::Outcome;
use crate::ops::rates;
use crate::place::{TIMER_EXPIRE, TIMER_PURGE, TIMER_RUN};
use crate::rows::{Coded, QueueNumber, duration_code};
use crate::work::{Lists, PURGED_RETENTION, Work};
use crate::{params, sql};

/// Jobs moved by one transaction.
const BATCH: i64 = 500;
/// Rows swept by one transaction.
const SWEPT: i64 = 5_000;
/// Rows of jobs that were leased together, looked at by one transaction; and of jobs that completed together.
const WATCHES: i64 = 20;
const LOTS: i64 = 4;
/// How long before their time those rows of the first kind may go of which all jobs ended, and how many a sweep.
const NEAR: DurationMs = DurationMs::from_ms(20_000);
const NEAR_SWEPT: i64 = 200;

/// What committed so much later than it began is found by the next sweep that begins at the start.
const LATE: DurationMs = DurationMs::from_ms(10_000);
const LATE_IDS: i64 = 10_000;

/// When to look again at what somebody is at, or what is damaged; at jobs that are only kept too long.
const LOOK_AGAIN: DurationMs = DurationMs::from_ms(1_000);
const RETIRE_AGAIN: i64 = 60_000;

/// What a part of a tick did, and whether there is more of it.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) due: u64,
    pub(crate) expired: u64,
    pub(crate) purged: u64,
    pub(crate) more: bool,
}

impl Done {
    fn and(self, other: Done) -> Done {
        Done {
            due: self.due + other.due,
            expired: self.expired + other.expired,
            purged: self.purged + other.purged,
            more: self.more || other.more,
        }
    }
}

/// Everything that is due of jobs, a bounded number of each kind, in one transaction: what becomes leasable is handed
/// out when all of it is in line.
pub(crate) async fn jobs(work: &mut Work, retires: bool) -> Outcome<Done> {
    work.floors.begin_sweeps();
    let due = timers(work).await?;
    rates::open(work).await?;
    let lost = deadlines(work).await?.and(watched(work).await?);
    let retired =
        if retires { retention(work).await?.and(retired_lots(work).await?) } else { Done::default() };
    Ok(due.and(lost).and(retired))
}

fn seqs_of(rows: &[tokio_postgres::Row]) -> Outcome<Vec<i64>> {
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?)
}

/// Timers: jobs whose time came, available ones that may no longer start, finished ones with a retention of their own.
async fn timers(work: &mut Work) -> Outcome<Done> {
    let now = work.now;
    let rows = work.rows(sql::DUE, params![now.as_unix_ms(), BATCH]).await?;
    work.load_free(seqs_of(&rows)?).await?;
    work.lock_groups().await?;
    let is_full = rows.len() as i64 == BATCH;
    let mut done = Done { more: is_full, ..Done::default() };
    let (mut purge, mut stale, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let (seq, kind, due): (i64, i16, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let Some((job, timer)) = work.record(seq).map(|record| (record.job.clone(), record.places().timer))
        else {
            missing.push((due, seq, kind));
            continue;
        };
        match (kind, job.state) {
            (TIMER_RUN, State::Scheduled | State::Retrying) if job.run_at <= now => {
                let _ = work.change(seq, |record, now, _| {
                    rules::come_due(&mut record.job, now).map(|()| Some(Event::Due))
                })?;
                done.due += 1;
            }
            (TIMER_EXPIRE, State::Available) if rules::is_expired(&job, now) => work.expire(seq)?,
            // Its timer may be an old one that was put off, and the job kept anew since.
            (TIMER_PURGE, _)
                if timer.is_some_and(|(at, kind)| kind == TIMER_PURGE && at <= now.as_unix_ms()) =>
            {
                work.tell_group_unblocked(seq);
                purge.push(seq);
            }
            _ => stale.push((due, seq)),
        }
    }
    if !missing.is_empty() {
        // Somebody is at the job; or it is gone, and nobody would ever come for its timer.
        let states = work
            .rows(sql::STATES, params![missing.iter().map(|(_, seq, _)| *seq).collect::<Vec<_>>()])
            .await?;
        let there: BTreeSet<i64> = seqs_of(&states)?.into_iter().collect();
        let (held, gone): (Vec<_>, Vec<_>) = missing.into_iter().partition(|(_, seq, _)| there.contains(seq));
        stale.extend(gone.into_iter().map(|(due, seq, _)| (due, seq)));
        if is_full && !held.is_empty() {
            // So many at once are put off, and are in nobody's way. If the job changes meanwhile, a timer is left that is stale
            // when it comes.
            let later = now.saturating_add(LOOK_AGAIN).as_unix_ms();
            let (seqs, kinds): (Vec<i64>, Vec<i16>) = held.iter().map(|(_, seq, kind)| (*seq, *kind)).unzip();
            work.rows(sql::INSERT_TIMERS, params![vec![later; held.len()], seqs, kinds]).await?;
            stale.extend(held.into_iter().map(|(due, seq, _)| (due, seq)));
        }
    }
    if !stale.is_empty() {
        let (times, seqs): (Vec<i64>, Vec<i64>) = stale.into_iter().unzip();
        work.rows(sql::DELETE_TIMERS, params![times, seqs]).await?;
    }
    done.purged = purge.len() as u64;
    work.purge(purge, PURGED_RETENTION).await?;
    work.flush().await?;
    Ok(done)
}

/// Attempts whose deadline passed.
async fn deadlines(work: &mut Work) -> Outcome<Done> {
    let now = work.now;
    let rows = work.rows(sql::LOST, params![now.as_unix_ms(), BATCH]).await?;
    let seqs = seqs_of(&rows)?;
    work.load_free(seqs.clone()).await?;
    work.lock_groups().await?;
    let is_full = rows.len() as i64 == BATCH;
    let mut done = Done { more: is_full, ..Done::default() };
    let (mut extended, mut held) = (Vec::new(), Vec::new());
    for seq in seqs {
        let Some(record) = work.record(seq) else {
            held.push(seq);
            continue;
        };
        let Some(attempt) = record.job.attempt.as_ref().filter(|_| record.job.state == State::Running) else {
            continue;
        };
        if attempt.lease_until.min(attempt.deadline) > now {
            extended.push(seq);
            continue;
        }
        lose(work, seq)?;
        done.expired += 1;
    }
    work.flush().await?;
    work.look_later(&extended).await?;
    if is_full && !held.is_empty() {
        // So many at once that others could not be reached.
        let later = now.saturating_add(LOOK_AGAIN).as_unix_ms();
        work.rows(sql::PUT_OFF_LEASES, params![held, later]).await?;
    }
    Ok(done)
}

/// Jobs leased together that were not extended since: those that still run have lost their leases. What is not one's
/// own to look at is left for the next time.
async fn watched(work: &mut Work) -> Outcome<Done> {
    let now = work.now;
    let rows = work.rows(sql::WATCHED, params![now.as_unix_ms(), WATCHES, watched_from(work)]).await?;
    if rows.is_empty() {
        work.floors.sweep_from(|sweeps| sweeps.watched_ms = now.as_unix_ms());
        return Ok(Done::default());
    }
    let mut watches: Vec<(i64, i64, Vec<i64>)> = Vec::new();
    for row in &rows {
        watches.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    let all: Vec<i64> = watches.iter().flat_map(|(_, _, seqs)| seqs.iter().copied()).collect();
    let running = work.rows(sql::STILL_RUNNING, params![all]).await?;
    let mut left: BTreeSet<i64> = seqs_of(&running)?.into_iter().collect();
    let looked: Vec<i64> = left.iter().copied().take(BATCH as usize).collect();
    let unlooked: BTreeSet<i64> = left.iter().copied().skip(BATCH as usize).collect();
    work.load_free(looked.clone()).await?;
    work.lock_groups().await?;
    let mut done =
        Done { more: rows.len() as i64 == WATCHES || left.len() > looked.len(), ..Done::default() };
    for seq in looked {
        let Some(record) = work.record(seq) else { continue };
        left.remove(&seq);
        let Some(attempt) = record.job.attempt.as_ref().filter(|_| record.job.state == State::Running) else {
            continue;
        };
        // Else it was extended, or leased again, and is looked at for that.
        if attempt.lease_until.min(attempt.deadline) <= now {
            lose(work, seq)?;
            done.expired += 1;
        }
    }
    let (mut gone, mut stay) =
        ((Vec::new(), Vec::new()), (Vec::new(), Vec::new(), Vec::new(), Lists::default()));
    // Those somebody is at are in nobody's way.
    let later = now.saturating_add(LOOK_AGAIN).as_unix_ms();
    for (check, id, mut seqs) in watches {
        seqs.retain(|seq| left.contains(seq));
        if seqs.is_empty() {
            gone.0.push(check);
            gone.1.push(id);
        } else {
            stay.0.push(check);
            stay.1.push(id);
            stay.2.push(if seqs.iter().any(|seq| unlooked.contains(seq)) { check } else { later });
            stay.3.push(&seqs);
        }
    }
    if !gone.0.is_empty() {
        work.rows(sql::DELETE_WATCHES, params![gone.0, gone.1]).await?;
    }
    if !stay.0.is_empty() {
        let (checks, ids, nexts, lists) = stay;
        work.rows(sql::UPDATE_WATCHES, params![checks, ids, nexts, lists.from, lists.to, lists.seqs]).await?;
    }
    work.flush().await?;
    Ok(done)
}

/// Before it nobody is to be looked at, but for whoever committed very late: those are found by the next whole sweep.
fn watched_from(work: &Work) -> i64 {
    let late = duration_code(LATE);
    work.floors.swept().watched_ms.min(work.now.as_unix_ms()).saturating_sub(late)
}

/// Ends an attempt whose deadline passed.
fn lose(work: &mut Work, seq: i64) -> Outcome<()> {
    let _ = work.change(seq, |record, now, entropy| {
        let (job, policy) = record.split();
        rules::deadline_passed(job, policy, now, entropy)?;
        let timed_out = job.state == State::Retrying;
        Ok::<_, IllegalTransition>(Some(if timed_out { Event::Failed } else { Event::LeaseLost }))
    })?;
    Ok(())
}

/// Jobs that completed together and were kept as long as their queue says.
async fn retired_lots(work: &mut Work) -> Outcome<Done> {
    let rows = work.rows(sql::QUEUES, params![]).await?;
    let numbers = work.read_queues(&rows)?;
    let now = work.now.as_unix_ms();
    let mut times = Vec::with_capacity(numbers.len());
    for number in &numbers {
        let keep = duration_code(work.queue(*number)?.settings.retention(State::Completed));
        times.push(now.saturating_sub(keep));
    }
    let rows = work.rows(sql::RETIRED_LOTS, params![numbers.clone(), times.clone(), LOTS]).await?;
    let mut lots: Vec<(QueueNumber, i64, i64, Vec<i64>)> = Vec::new();
    for row in &rows {
        lots.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?));
    }
    let all: Vec<i64> = lots.iter().flat_map(|(_, _, _, seqs)| seqs.iter().copied()).collect();
    if all.is_empty() {
        return Ok(Done::default());
    }
    let states = work.rows(sql::STATES, params![all.clone()]).await?;
    let there: BTreeSet<i64> = seqs_of(&states)?.into_iter().collect();
    let free = work.load_free(all).await?;
    work.lock_groups().await?;
    let (mut purge, mut gone) = (Vec::new(), (Vec::new(), Vec::new(), Vec::new()));
    let mut stay = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Lists::default());
    let up_to: BTreeMap<QueueNumber, i64> = numbers.into_iter().zip(times).collect();
    for (queue, at, id, seqs) in lots {
        let (ours, left): (Vec<i64>, Vec<i64>) =
            seqs.into_iter().filter(|seq| there.contains(seq)).partition(|seq| free.contains(seq));
        purge.extend(
            ours.into_iter()
                .filter(|seq| work.record(*seq).is_some_and(|record| record.job.state == State::Completed)),
        );
        if left.is_empty() {
            gone.0.push(queue);
            gone.1.push(at);
            gone.2.push(id);
        } else {
            stay.0.push(queue);
            stay.1.push(at);
            stay.2.push(id);
            stay.3.push(up_to.get(&queue).map_or(at, |up_to| up_to.saturating_add(RETIRE_AGAIN)));
            stay.4.push(&left);
        }
    }
    if !gone.0.is_empty() {
        work.rows(sql::DELETE_LOTS, params![gone.0, gone.1, gone.2]).await?;
    }
    if !stay.0.is_empty() {
        let (queues, times, ids, nexts, lists) = stay;
        let moved = params![queues, times, ids, nexts, lists.from, lists.to, lists.seqs];
        work.rows(sql::UPDATE_LOTS, moved).await?;
    }
    let purged = purge.len() as u64;
    work.purge(purge, PURGED_RETENTION).await?;
    work.flush().await?;
    Ok(Done { purged, more: rows.len() as i64 == LOTS, ..Done::default() })
}

/// Finished jobs that were kept as long as their queue says, and not longer than `slack` beyond.
async fn retention(work: &mut Work) -> Outcome<Done> {
    let rows = work.rows(sql::QUEUES, params![]).await?;
    let numbers = work.read_queues(&rows)?;
    let now = work.now;
    let up_to = |settings: &QueueSettings, state| {
        let keep = duration_code(settings.retention(state));
        now.as_unix_ms().saturating_sub(keep)
    };
    let (mut queues, mut states, mut times): (Vec<QueueNumber>, Vec<i16>, Vec<i64>) = Default::default();
    for number in numbers {
        let settings = &work.queue(number)?.settings;
        for state in [State::Completed, State::Dead, State::Cancelled] {
            queues.push(number);
            states.push(state.code());
            times.push(up_to(settings, state));
        }
    }
    let rows = work.rows(sql::RETIRED, params![queues, states, times, BATCH]).await?;
    let mut purge = seqs_of(&rows)?;
    work.load_free(purge.clone()).await?;
    work.lock_groups().await?;
    purge.retain(|seq| {
        work.record(*seq).is_some_and(|record| {
            let keep = work.queue(record.queue).map(|queue| queue.settings.retention(record.job.state));
            let over = |at: Timestamp| keep.as_ref().is_ok_and(|keep| at.saturating_add(*keep) <= now);
            record.spec.retain.is_none()
                && record.job.state.is_finished()
                && record.job.finished_at.is_some_and(over)
        })
    });
    let purged = purge.len() as u64;
    for seq in &purge {
        work.tell_group_unblocked(*seq);
    }
    work.purge(purge, PURGED_RETENTION).await?;
    work.flush().await?;
    // As long as somebody holds all of them, more of it would be none.
    Ok(Done { purged, more: rows.len() as i64 == BATCH && purged > 0, ..Done::default() })
}

/// What is kept for a time only, and what is folded together.
pub(crate) async fn sweep(work: &mut Work) -> Outcome<Done> {
    let now = work.now.as_unix_ms();
    let events_from = work.now.saturating_sub(limits::EVENTS_KEPT).as_unix_ms();
    let near = work.now.saturating_add(NEAR).as_unix_ms();
    let batch = vec![
        (sql::OLD_RECEIPTS, params![now, SWEPT]),
        (sql::OLD_EVENTS, params![events_from, SWEPT]),
        (sql::FOLD_COUNTS, params![SWEPT, work.floors.swept().folded]),
        (sql::OLD_WATCHES, params![near, NEAR_SWEPT, watched_from(work)]),
        (sql::FOLD_REPEATS, params![SWEPT as i32]),
        (sql::NODES_FORGOTTEN, params![]),
    ];
    let replies = work.tx.pipeline(batch).await?;
    let more = replies.iter().take(2).any(|reply| reply.affected as i64 == SWEPT);
    let folded: Option<i64> = match replies.get(2).and_then(|reply| reply.rows.first()) {
        Some(row) => row.try_get(0)?,
        None => None,
    };
    if let Some(folded) = folded {
        work.floors.sweep_from(|sweeps| sweeps.folded = folded.saturating_sub(LATE_IDS));
    }
    Ok(Done { more, ..Done::default() })
}

/// Keys nobody holds any more, groups without jobs.
pub(crate) async fn old_keys(work: &mut Work) -> Outcome<Done> {
    let now = work.now.as_unix_ms();
    let batch = vec![(sql::OLD_KEYS, params![now, SWEPT]), (sql::OLD_GROUPS, params![SWEPT])];
    let replies = work.tx.pipeline(batch).await?;
    Ok(Done { more: replies.iter().any(|reply| reply.affected as i64 == SWEPT), ..Done::default() })
}

/// When something becomes due, if anything does.
pub(crate) async fn next_due(work: &mut Work) -> Outcome<Option<Timestamp>> {
    let now = work.now.as_unix_ms();
    let rows = work.rows(sql::NEXT_DUE, params![now, watched_from(work)]).await?;
    let due: Option<i64> = match rows.first() {
        Some(row) => row.try_get(0)?,
        None => None,
    };
    due.map(crate::rows::time).transpose()
}
