//! What is written as jobs move: rows that come and go (places in line, timers, leases, lists that share a row), and jobs
//! to which the same happens.

use std::collections::BTreeMap;

use onefold_core::{Attempt, Outcome as AttemptOutcome, State, Timestamp};

use super::{Record, Stored};
use crate::floors::LinePlace;
use crate::params;
use crate::place::{FinishedRow, LeaseRow};
use crate::pool::Params;
use crate::rows::{LineNumber, QueueNumber, RowPlace, count_code, duration_code, leased_columns, more_json};
use crate::sql::{self, Sql};

pub(super) type Batch = Vec<(Sql, Params)>;

/// Rows to insert, to delete, and to change.
pub(super) struct Moves<T> {
    pub(super) gone: Vec<T>,
    pub(super) new: Vec<T>,
}

impl<T> Moves<T> {
    pub(super) const fn none() -> Moves<T> {
        Moves { gone: Vec::new(), new: Vec::new() }
    }
}

impl<T: PartialEq + Copy> Moves<T> {
    pub(super) fn note(&mut self, before: Option<T>, after: Option<T>) {
        if before != after {
            self.gone.extend(before);
            self.new.extend(after);
        }
    }
}

/// Segments.
#[derive(Default)]
pub(super) struct Pieces {
    pub(super) queues: Vec<QueueNumber>,
    pub(super) lanes: Vec<i32>,
    pub(super) priorities: Vec<i16>,
    pub(super) firsts: Vec<i64>,
    pub(super) lists: Lists,
}

impl Pieces {
    pub(super) fn push(&mut self, (queue, lane): LineNumber, (priority, first): LinePlace, seqs: &[i64]) {
        self.queues.push(queue);
        self.lanes.push(lane);
        self.priorities.push(priority);
        self.firsts.push(first);
        self.lists.push(seqs);
    }
}

pub(super) fn column<T, C>(rows: &[T], value: impl Fn(&T) -> C) -> Vec<C> {
    rows.iter().map(value).collect()
}

pub(super) fn write_moves(
    batch: &mut Batch,
    ready: &Moves<(LineNumber, i16, i64)>,
    timers: &Moves<(i64, i64, i16)>,
    finished: &Moves<(QueueNumber, FinishedRow, i64)>,
) {
    let ready_columns = |rows: &[(LineNumber, i16, i64)]| {
        params![
            column(rows, |r| r.0.0),
            column(rows, |r| r.0.1),
            column(rows, |r| r.1),
            column(rows, |r| r.2)
        ]
    };
    if !ready.gone.is_empty() {
        batch.push((sql::DELETE_READY, ready_columns(&ready.gone)));
    }
    if !ready.new.is_empty() {
        let mut all = ready_columns(&ready.new);
        all.extend(params![vec![false; ready.new.len()]]);
        batch.push((sql::INSERT_READY, all));
    }
    if !timers.gone.is_empty() {
        let gone = &timers.gone;
        batch.push((sql::DELETE_TIMERS, params![column(gone, |t| t.0), column(gone, |t| t.1)]));
    }
    if !timers.new.is_empty() {
        let new = &timers.new;
        let all = params![column(new, |t| t.0), column(new, |t| t.1), column(new, |t| t.2)];
        batch.push((sql::INSERT_TIMERS, all));
    }
    let finished_columns = |rows: &[(QueueNumber, FinishedRow, i64)]| {
        params![
            column(rows, |r| r.0),
            column(rows, |r| r.1.state),
            column(rows, |r| r.1.at),
            column(rows, |r| r.2)
        ]
    };
    if !finished.gone.is_empty() {
        batch.push((sql::DELETE_FINISHED, finished_columns(&finished.gone)));
    }
    if !finished.new.is_empty() {
        let mut all = finished_columns(&finished.new);
        all.extend(params![column(&finished.new, |r| r.1.own)]);
        batch.push((sql::INSERT_FINISHED, all));
    }
}

/// Lists of jobs one after the other in one array, by their first and last place in it from 1: a row each.
#[derive(Default)]
pub(crate) struct Lists {
    pub(crate) from: Vec<i32>,
    pub(crate) to: Vec<i32>,
    pub(crate) seqs: Vec<i64>,
}

impl Lists {
    pub(crate) fn push(&mut self, seqs: &[i64]) {
        let place = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        self.from.push(place(self.seqs.len() + 1));
        self.seqs.extend(seqs);
        self.to.push(place(self.seqs.len()));
    }
}

/// Jobs of a row at the most.
const LIST: usize = 250;

pub(super) fn write_lots(batch: &mut Batch, lots: BTreeMap<(QueueNumber, i64), Vec<i64>>) {
    if lots.is_empty() {
        return;
    }
    let (mut queues, mut times, mut lists) = (Vec::new(), Vec::new(), Lists::default());
    for ((queue, at), seqs) in lots {
        for piece in seqs.chunks(LIST) {
            queues.push(queue);
            times.push(at);
            lists.push(piece);
        }
    }
    batch.push((sql::INSERT_LOTS, params![queues, times, lists.from, lists.to, lists.seqs]));
}

pub(super) fn write_watches(batch: &mut Batch, opened: BTreeMap<(i64, Option<i64>), Vec<i64>>) {
    if opened.is_empty() {
        return;
    }
    let (mut checks, mut polls, mut lists) = (Vec::new(), Vec::new(), Lists::default());
    for ((check, poll), seqs) in opened {
        for piece in seqs.chunks(LIST) {
            checks.push(check);
            polls.push(poll);
            lists.push(piece);
        }
    }
    batch.push((sql::INSERT_WATCHES, params![checks, polls, lists.from, lists.to, lists.seqs]));
}

pub(super) fn lease_update(leases: &[(QueueNumber, i64, LeaseRow)], recheck: bool) -> Params {
    params![
        column(leases, |l| l.1),
        column(leases, |l| l.2.lease),
        column(leases, |l| l.2.until),
        column(leases, |l| l.2.deadline),
        column(leases, |l| l.2.check()),
        vec![recheck; leases.len()],
    ]
}

pub(super) fn write_leases(
    batch: &mut Batch,
    closed: Vec<i64>,
    moved: &[(QueueNumber, i64, LeaseRow)],
    extended: &[(QueueNumber, i64, LeaseRow)],
) {
    if !closed.is_empty() {
        batch.push((sql::DELETE_LEASES, params![closed]));
    }
    if !moved.is_empty() {
        batch.push((sql::UPDATE_LEASES, lease_update(moved, false)));
    }
    if !extended.is_empty() {
        let all = params![
            column(extended, |l| l.0),
            column(extended, |l| l.1),
            column(extended, |l| l.2.lease),
            column(extended, |l| l.2.until),
            column(extended, |l| l.2.deadline),
            column(extended, |l| l.2.check()),
            column(extended, |l| l.2.poll),
        ];
        batch.push((sql::INSERT_LEASES, all));
    }
}

/// What became of a stored job, where it is something that happens to many.
pub(super) enum Change<'a> {
    /// It was leased; until when it may run again.
    Leased(i64, &'a Attempt),
    /// Its attempt completed, with this content.
    Completed(Option<i64>),
    Other,
}

pub(super) fn change_of<'a>(stored: &Stored, record: &'a Record, now: Timestamp) -> Change<'a> {
    let (Some(attempt), false) = (&record.job.attempt, record.is_extended || stored.blocks != record.blocks)
    else {
        return Change::Other;
    };
    let mut like = stored.job.clone();
    (like.state, like.attempt) = (record.job.state, record.job.attempt.clone());
    match (record.job.state, record.job.retry_until, &attempt.end) {
        (State::Running, Some(until), None) if attempt.started_at == now && more_json(attempt).is_none() => {
            like.retry_until = Some(until);
            if like == record.job { Change::Leased(until.as_unix_ms(), attempt) } else { Change::Other }
        }
        (State::Completed, _, Some(end)) if end.at == now && end.outcome == AttemptOutcome::Completed => {
            like.finished_at = Some(now);
            // Of the attempt nothing but its end is new.
            like.attempt = stored.job.attempt.clone();
            if let Some(attempt) = &mut like.attempt {
                attempt.end = Some(end.clone());
            }
            let is_all = like == record.job && end.error.is_none() && end.state == State::Completed;
            if is_all { Change::Completed(end.content.map(u64::cast_signed)) } else { Change::Other }
        }
        _ => Change::Other,
    }
}

/// A value is found by going through an array, so in one of so many.
const ALIKE_MAX: usize = 1_000;

/// Rows that are locked and to be changed alike are found where they are, which costs half of joining them with values.
/// `places` are those of all of them, or there is one that is to be found by its key.
pub(super) fn leased_statement(
    now: Timestamp,
    leased: &[(i64, i64, &Attempt)],
    places: Vec<RowPlace>,
) -> (Sql, Params) {
    let alike = |(one, other): (&(i64, i64, &Attempt), &(i64, i64, &Attempt))| {
        let ((_, until, a), (_, other_until, b)) = (one, other);
        until == other_until
            && (a.number, &a.worker, a.poll) == (b.number, &b.worker, b.poll)
            && (a.lease, a.lease_until, a.deadline) == (b.lease, b.lease_until, b.deadline)
    };
    let are_alike = places.len() == leased.len()
        && leased.len() <= ALIKE_MAX
        && leased.iter().zip(leased.iter().skip(1)).all(alike);
    let Some((_, until, attempt)) = leased.first().filter(|_| are_alike) else {
        return (sql::UPDATE_LEASED, leased_columns(now, leased));
    };
    let all = params![
        count_code(attempt.number),
        column(leased, |(_, _, attempt)| attempt.token.get().cast_signed()),
        column(leased, |(seq, _, _)| *seq),
        attempt.worker.as_str().to_owned(),
        now.as_unix_ms(),
        duration_code(attempt.lease),
        attempt.lease_until.as_unix_ms(),
        attempt.deadline.as_unix_ms(),
        attempt.poll.map(u64::cast_signed),
        *until,
        places,
    ];
    (sql::UPDATE_LEASED_ALIKE, all)
}

/// See [`leased_statement`].
pub(super) fn completed_statement(
    now: Timestamp,
    completed: Vec<(i64, Option<i64>)>,
    places: Vec<RowPlace>,
) -> (Sql, Params) {
    let now = now.as_unix_ms();
    let (seqs, contents): (Vec<i64>, Vec<Option<i64>>) = completed.into_iter().unzip();
    match contents.first() {
        Some(content) if places.len() == seqs.len() && contents.iter().all(|other| other == content) => {
            (sql::UPDATE_COMPLETED_ALIKE, params![now, *content, places])
        }
        _ => (sql::UPDATE_COMPLETED, params![now, seqs, contents]),
    }
}
