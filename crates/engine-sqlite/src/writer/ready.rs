//! Which job of a queue is next: the first of the ready sets that is not set aside.

use std::ops::Bound;

use super::memory::{Line, Memory, QueueId, SetName};
use crate::sets::SeqSet;

impl Memory {
    /// The next leasable job of a line: smallest priority, then oldest.
    pub(crate) fn first_ready(&self, line: Line) -> Option<u64> {
        self.sets.range(line.sets()).find_map(|(_, set)| self.first_readable(set))
    }

    /// The oldest leasable job of a queue, whatever its priority.
    pub(crate) fn oldest_ready(&self, queue: QueueId) -> Option<u64> {
        self.sets.range(Line::sets_of(queue)).filter_map(|(_, set)| self.first_readable(set)).min()
    }

    /// Up to `max` lines of deliveries, beginning after `last` and going round.
    pub(crate) fn delivery_lines(
        &self,
        last: Option<Line>,
        max: usize,
        wanted: impl Fn(Line) -> bool,
    ) -> Vec<Line> {
        let start = last.map_or(Bound::Unbounded, |last| Bound::Excluded(SetName::Ready(last, i16::MAX)));
        let end = last.map_or(Bound::Excluded(SetName::Running), |last| {
            Bound::Included(SetName::Ready(last, i16::MAX))
        });
        let behind = self.sets.range((start, Bound::Unbounded));
        let before = self.sets.range((Bound::Unbounded, end)).take_while(|_| last.is_some());
        let mut lines: Vec<Line> = Vec::new();
        for (name, _) in behind.chain(before) {
            let SetName::Ready(line, _) = *name else { continue };
            if line.lane.is_http() && lines.last() != Some(&line) && wanted(line) {
                if lines.len() == max {
                    break;
                }
                lines.push(line);
            }
        }
        lines
    }

    /// How many leasable jobs of a line, up to `max`, follow each other without a gap from the
    /// first.
    pub(crate) fn ready_run(&self, line: Line, max: usize) -> u64 {
        let Some((set, first)) = self
            .sets
            .range(line.sets())
            .find_map(|(_, set)| self.first_readable(set).map(|first| (set, first)))
        else {
            return 0;
        };
        (first..).take(max).take_while(|seq| set.contains(*seq) && !self.is_set_aside(*seq)).count() as u64
    }

    fn first_readable(&self, set: &SeqSet) -> Option<u64> {
        if self.set_aside.is_empty() { set.first() } else { set.iter().find(|seq| !self.is_set_aside(*seq)) }
    }

    /// Passes a job over from now on, whatever becomes of the transaction. False: it is already.
    pub(crate) fn set_aside(&mut self, seq: u64) -> bool {
        self.set_aside.insert(seq)
    }

    pub(crate) fn is_set_aside(&self, seq: u64) -> bool {
        self.set_aside.contains(&seq)
    }
}
