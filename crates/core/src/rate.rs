//! How many jobs may start in a time, exactly, over any window of that length.
//!
//! A token bucket lets twice its size through around a refill, a fixed window twice its limit around its edge. A
//! [`Rate`] holds for every window, wherever it begins: what started is remembered, in [`SLOTS`] slots a window and not one by
//! one, so that it stays small. A slot counts as if all of it had started at its last moment: never too much is
//! allowed, and room comes back by one slot's length late at the most.

use serde::{Deserialize, Serialize};

use crate::{DurationMs, Timestamp};

/// Slots of a window.
pub const SLOTS: u64 = 60;

/// At most so many starts in any window of a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many; at least one.
    pub limit: u32,
    /// How long the window is; not zero.
    pub per: DurationMs,
}

/// What started lately, oldest first: the last moment of a slot, and how many in it.
///
/// ```
/// # use onefold_core::{DurationMs, Rate, Starts, Timestamp};
/// let rate = Rate { limit: 2, per: DurationMs::from_ms(1_000) };
/// let at = |ms| Timestamp::EPOCH.saturating_add(DurationMs::from_ms(ms));
/// let mut starts = Starts::default();
/// starts.add(rate, at(0), 1);
/// starts.add(rate, at(700), 1);
/// assert_eq!(starts.room(rate, at(900)), 0);
/// assert_eq!(starts.full_until(rate, at(900)), Some(at(1_000)));
/// assert_eq!(starts.room(rate, at(1_000)), 1);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Starts(Vec<(Timestamp, u32)>);

impl Starts {
    /// How many more may start at `now`.
    pub fn room(&self, rate: Rate, now: Timestamp) -> u32 {
        let counted = self.counted(rate, now).fold(0_u32, |sum, (_, count)| sum.saturating_add(count));
        rate.limit.saturating_sub(counted)
    }

    /// Until when there is no room; `None` if there is.
    pub fn full_until(&self, rate: Rate, now: Timestamp) -> Option<Timestamp> {
        let mut room = i64::from(rate.limit);
        let counted: Vec<_> = self.counted(rate, now).collect();
        room -= counted.iter().map(|(_, count)| i64::from(*count)).sum::<i64>();
        let mut until = None;
        for (at, count) in counted {
            if room > 0 {
                break;
            }
            room += i64::from(count);
            until = Some(at.saturating_add(rate.per));
        }
        until
    }

    /// Remembers `count` starts at `now`, and forgets what no window from now on has in it.
    pub fn add(&mut self, rate: Rate, now: Timestamp, count: u32) {
        self.0 = self.counted(rate, now).collect();
        let slot = (rate.per.as_ms() / SLOTS).max(1);
        let slot_of = |at: Timestamp| at.as_unix_ms().div_euclid(i64::try_from(slot).unwrap_or(i64::MAX));
        match self.0.last_mut() {
            Some((at, counted)) if slot_of(*at) == slot_of(now) => {
                *at = now;
                *counted = counted.saturating_add(count);
            }
            _ => self.0.push((now, count)),
        }
    }

    /// What the window up to `now` has in it. What started in a future that was taken back with the clock counts from
    /// now on: nobody waits for longer than a window.
    fn counted(&self, rate: Rate, now: Timestamp) -> impl Iterator<Item = (Timestamp, u32)> {
        let starts = self.0.iter().map(move |(at, count)| ((*at).min(now), *count));
        starts.filter(move |(at, _)| at.saturating_add(rate.per) > now)
    }

    /// When the latest of them was.
    pub fn last(&self) -> Option<Timestamp> {
        self.0.iter().map(|(at, _)| *at).max()
    }

    /// Brings what started in a future that was taken back with the clock to `now`. To be kept, so that it is over one
    /// window after the clock was set.
    pub fn settle(&mut self, now: Timestamp) {
        self.0.iter_mut().for_each(|(at, _)| *at = (*at).min(now));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test a broken expectation is a failed test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::EPOCH.saturating_add(DurationMs::from_ms(1_000_000 + ms))
    }

    proptest! {
        /// Limits: no window of the length, wherever it begins, has more starts than the limit; there is room for one
        /// again a slot after the window at the latest, and `full_until` says when.
        #[test]
        fn no_window_has_more_than_the_limit(
            limit in 1_u32..20,
            per in 1_u64..5_000,
            steps in proptest::collection::vec((0_u64..400, 1_u32..8), 1..200),
        ) {
            let rate = Rate { limit, per: DurationMs::from_ms(per) };
            let (mut starts, mut all, mut now) = (Starts::default(), Vec::<u64>::new(), 0);
            for (wait, wanted) in steps {
                now += wait;
                let room = starts.room(rate, at(now));
                let in_window = all.iter().filter(|start| **start + per > now).count() as u32;
                prop_assert!(in_window + room <= limit);
                let recent = all.iter().filter(|start| **start + per + per / SLOTS + 1 > now).count() as u32;
                prop_assert!(recent + room >= limit, "room comes back in time");
                match starts.full_until(rate, at(now)) {
                    Some(until) => {
                        prop_assert_eq!(room, 0);
                        prop_assert!(starts.room(rate, until) > 0);
                        prop_assert_eq!(starts.room(rate, until.saturating_sub(DurationMs::from_ms(1))), 0);
                    }
                    None => prop_assert!(room > 0),
                }
                let taken = room.min(wanted);
                if taken > 0 {
                    starts.add(rate, at(now), taken);
                    all.extend(std::iter::repeat_n(now, taken as usize));
                }
                prop_assert!(starts.0.len() as u64 <= SLOTS + 2, "it stays small");
            }
        }
    }

    /// Limits: a clock that was set back costs one window at the most.
    #[test]
    fn a_clock_set_back_costs_one_window() {
        let rate = Rate { limit: 1, per: DurationMs::from_ms(1_000) };
        let mut starts = Starts::default();
        starts.add(rate, at(3_600_000), 1);
        assert_eq!(starts.full_until(rate, at(0)), Some(at(1_000)));
        assert_eq!(starts.last(), Some(at(3_600_000)));
        starts.settle(at(0));
        assert_eq!(starts.last(), Some(at(0)));
        assert_eq!(starts.room(rate, at(999)), 0);
        assert_eq!(starts.room(rate, at(1_000)), 1);
    }

    /// Limits: a limit that was lowered counts what started before.
    #[test]
    fn a_lowered_limit_counts_what_started_before() {
        let per = DurationMs::from_ms(1_000);
        let mut starts = Starts::default();
        for ms in 0..5 {
            starts.add(Rate { limit: 5, per }, at(ms * 100), 1);
        }
        let rate = Rate { limit: 2, per };
        assert_eq!(starts.room(rate, at(500)), 0);
        assert_eq!(starts.full_until(rate, at(500)), Some(at(1_300)));
    }
}
