//! Which job of a queue is next: the first of the ready sets that is not set aside.

use super::memory::{Memory, QueueId, SetName};
use crate::sets::SeqSet;

impl Memory {
    /// The next leasable job of a queue: smallest priority, then oldest.
    pub(crate) fn first_ready(&self, queue: QueueId) -> Option<u64> {
        let all = SetName::Ready(queue, i16::MIN)..=SetName::Ready(queue, i16::MAX);
        self.sets.range(all).find_map(|(_, set)| self.first_readable(set))
    }

    /// The oldest leasable job of a queue, whatever its priority.
    pub(crate) fn oldest_ready(&self, queue: QueueId) -> Option<u64> {
        let all = SetName::Ready(queue, i16::MIN)..=SetName::Ready(queue, i16::MAX);
        self.sets.range(all).filter_map(|(_, set)| self.first_readable(set)).min()
    }

    /// How many leasable jobs of a queue, up to `max`, follow each other without a gap from the
    /// first.
    pub(crate) fn ready_run(&self, queue: QueueId, max: usize) -> u64 {
        let all = SetName::Ready(queue, i16::MIN)..=SetName::Ready(queue, i16::MAX);
        let Some((set, first)) =
            self.sets.range(all).find_map(|(_, set)| self.first_readable(set).map(|first| (set, first)))
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
