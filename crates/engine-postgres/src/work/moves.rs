//! Rows that come and go as jobs move: places in line, timers, leases, and lists that share a row.

use std::collections::BTreeMap;

use crate::floors::LinePlace;
use crate::params;
use crate::place::{FinishedRow, LeaseRow};
use crate::pool::Params;
use crate::rows::{LineNumber, QueueNumber};
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
