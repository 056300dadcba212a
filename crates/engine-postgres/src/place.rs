//! Where a job stands beside its own row: everything here follows from the job, so what a
//! transaction has to write is the difference between before and after.

use onefold_core::{DurationMs, Job, State};

use crate::rows::{Coded, duration_code};

/// It may run.
pub(crate) const TIMER_RUN: i16 = 0;
/// It may no longer start.
pub(crate) const TIMER_EXPIRE: i16 = 1;
/// Its own retention is over.
pub(crate) const TIMER_PURGE: i16 = 2;

/// Phases of a member of a group.
pub(crate) const WAITS: i16 = 0;
pub(crate) const AVAILABLE: i16 = 1;
pub(crate) const RUNNING: i16 = 2;
pub(crate) const BLOCKS: i16 = 3;

/// The row of an open attempt, times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub(crate) lease: i64,
    pub(crate) until: i64,
    pub(crate) deadline: i64,
    pub(crate) poll: Option<i64>,
}

impl LeaseRow {
    /// When it ends if nothing happens.
    pub(crate) fn check(self) -> i64 {
        self.until.min(self.deadline)
    }
}

/// The row of a finished job: its state, when it finished, and whether it has its own retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FinishedRow {
    pub(crate) state: i16,
    pub(crate) at: i64,
    pub(crate) own: bool,
}

impl FinishedRow {
    /// It completed and is kept as long as its queue says: then it is in a lot, and not in a row of its own.
    pub(crate) fn is_in_lot(self) -> bool {
        self.state == State::Completed.code() && !self.own
    }
}

/// See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Places {
    /// In line by itself, with its lane and priority.
    pub(crate) ready: Option<(i32, i16)>,
    /// When it becomes due, and for what.
    pub(crate) timer: Option<(i64, i16)>,
    pub(crate) lease: Option<LeaseRow>,
    pub(crate) finished: Option<FinishedRow>,
    /// Order in its group and phase.
    pub(crate) member: Option<(u64, i16)>,
}

impl Places {
    pub(crate) fn of(job: &Job, blocks: bool, retain: Option<DurationMs>, lane: i32) -> Places {
        let finished = job.finished_at.filter(|_| job.state.is_finished()).map(|at| at.as_unix_ms());
        let timer = match job.state {
            State::Scheduled | State::Retrying => Some((job.run_at.as_unix_ms(), TIMER_RUN)),
            State::Available => {
                job.retry_until.map(|until| (until.as_unix_ms().saturating_add(1), TIMER_EXPIRE))
            }
            State::Running => None,
            State::Completed | State::Dead | State::Cancelled => {
                finished.zip(retain).map(|(at, keep)| (at.saturating_add(duration_code(keep)), TIMER_PURGE))
            }
        };
        let lease = job.attempt.as_ref().filter(|_| job.state == State::Running).map(|attempt| LeaseRow {
            lease: duration_code(attempt.lease),
            until: attempt.lease_until.as_unix_ms(),
            deadline: attempt.deadline.as_unix_ms(),
            poll: attempt.poll.map(u64::cast_signed),
        });
        let phase = match job.state {
            State::Scheduled | State::Retrying => Some(WAITS),
            State::Available => Some(AVAILABLE),
            State::Running => Some(RUNNING),
            State::Completed | State::Dead | State::Cancelled => blocks.then_some(BLOCKS),
        };
        Places {
            ready: (job.state == State::Available && job.group_order.is_none())
                .then_some((lane, job.priority)),
            timer,
            lease,
            finished: finished.map(|at| FinishedRow { state: job.state.code(), at, own: retain.is_some() }),
            member: job.group_order.zip(phase),
        }
    }
}
