//! What an evaluation has to add: ticks that are due, and those that were missed.

use serde::{Deserialize, Serialize};

use super::{Pattern, Tick, Timing};
use crate::state::words;
use crate::{DurationMs, Timestamp};

words! {
    /// What becomes of ticks that were noticed more than [`Timing::ON_TIME`] late, because nobody served the store.
    Missed {
        /// One job for all of them, unless a later tick is on time and stands for them.
        Once = "once",
        /// None.
        Skip = "skip",
        /// A job for each of the latest [`Timing::DUE_MAX`].
        All = "all",
    }
}

impl Default for Missed {
    /// The work is done, and not more often than once.
    fn default() -> Missed {
        Missed::Once
    }
}

/// Up to when a schedule's ticks are settled: each of them has its job, or was dropped. It never goes back, so that no
/// tick comes twice, whatever the clock does (I9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settled(Timestamp);

impl Settled {
    /// Everything up to `time` is settled: when a schedule is made, `time` is now, and when one is read, its `last_tick`.
    pub const fn up_to(time: Timestamp) -> Settled {
        Settled(time)
    }

    /// The time.
    pub const fn time(self) -> Timestamp {
        self.0
    }

    /// After the schedule was resumed or its timing changed at `now`: what the pause or the new timing would have
    /// wanted before is nobody's tick.
    #[must_use]
    pub fn renewed(self, now: Timestamp) -> Settled {
        Settled(self.0.max(now))
    }
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Ticks that want a job, oldest first, at most [`Timing::DUE_MAX`].
    pub run: Vec<Tick>,
    /// Ticks that get none. They are reported.
    pub dropped: Option<Dropped>,
    /// To be stored in the transaction that adds the jobs.
    pub settled: Settled,
    /// The next tick: when to evaluate again. `None` if there will be none.
    pub next: Option<Tick>,
}

/// Ticks that get no job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// How many, or [`Timing::COUNTED_MAX`] if there are more.
    pub count: u64,
    /// Whether there are more.
    pub more: bool,
    /// The oldest of them.
    pub first: Tick,
    /// The latest of them.
    pub last: Tick,
}

impl Timing {
    /// A tick noticed less late than this is on time: whoever restarts a server meanwhile has missed nothing.
    pub const ON_TIME: DurationMs = DurationMs::from_ms(60_000);
    /// Jobs that one evaluation adds, at the most.
    pub const DUE_MAX: usize = 1_000;
    /// Up to how many dropped ticks of a cron expression are counted. Those of an interval are always counted.
    pub const COUNTED_MAX: u64 = 1_000;

    /// What has to be done at `now`, when ticks up to `settled` are settled. Nothing if the clock was set back behind it.
    ///
    /// It takes time in proportion to the ticks it returns and counts, not to those that were missed.
    pub fn due(&self, missed: Missed, settled: Settled, now: Timestamp) -> Due {
        let first = self.next_after(settled.time());
        let (Some(first), Some(latest)) = (first, self.latest_until(now)) else {
            return Due { run: Vec::new(), dropped: None, settled, next: first };
        };
        if latest < first {
            return Due { run: Vec::new(), dropped: None, settled, next: Some(first) };
        }
        let mut run = Vec::new();
        let mut older = Some(latest);
        while let Some(tick) = older.filter(|tick| *tick >= first && run.len() < Timing::DUE_MAX) {
            let on_time = now.since(tick.at()) < Timing::ON_TIME;
            let wanted = match missed {
                Missed::All => true,
                Missed::Once => on_time || run.is_empty(),
                Missed::Skip => on_time,
            };
            if !wanted {
                break;
            }
            run.push(tick);
            older = self.before(tick);
        }
        run.reverse();
        let dropped = older.filter(|last| *last >= first).map(|last| self.dropped(first, last));
        Due { run, dropped, settled: Settled(latest.at()), next: self.next_after(latest.at().max(now)) }
    }

    /// All ticks from `first` to `last`.
    fn dropped(&self, first: Tick, last: Tick) -> Dropped {
        match self.pattern() {
            Pattern::Every(interval) => {
                let count = interval.count(first.at(), last.at());
                Dropped { count, more: false, first, last }
            }
            Pattern::Cron { .. } => {
                let up_to_last = std::iter::successors(Some(first), |tick| self.next_after(tick.at()))
                    .take_while(|tick| *tick <= last);
                let count = up_to_last.take(Timing::COUNTED_MAX as usize + 1).count() as u64;
                Dropped {
                    count: count.min(Timing::COUNTED_MAX),
                    more: count > Timing::COUNTED_MAX,
                    first,
                    last,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
