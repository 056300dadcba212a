//! Where a job stands in line: names of sets.

use std::ops::RangeInclusive;

use onefold_core::Lane;

/// A queue's number in the file.
pub(crate) type QueueId = i64;

/// A line of jobs that could be leased: those of a queue for workers, or for one origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Line {
    pub(crate) queue: QueueId,
    pub(crate) lane: Lane,
}

impl Line {
    /// That of the workers.
    pub(crate) fn pull(queue: QueueId) -> Line {
        Line { queue, lane: Lane::PULL }
    }

    /// The names of its sets.
    pub(crate) fn sets(self) -> RangeInclusive<SetName> {
        SetName::Ready(self, i16::MIN)..=SetName::Ready(self, i16::MAX)
    }

    /// The names of the sets of all lines of a queue.
    pub(crate) fn sets_of(queue: QueueId) -> RangeInclusive<SetName> {
        let last = Line { queue, lane: Lane::MAX };
        SetName::Ready(Line::pull(queue), i16::MIN)..=SetName::Ready(last, i16::MAX)
    }
}

/// Which set of sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SetName {
    /// Jobs of a line and priority that could be leased now.
    Ready(Line, i16),
    /// Jobs that run.
    Running,
}

impl SetName {
    /// Kind, queue, lane and priority as stored.
    pub(crate) fn columns(self) -> (i64, QueueId, u32, i16) {
        match self {
            SetName::Ready(line, priority) => (0, line.queue, line.lane.get(), priority),
            SetName::Running => (1, 0, 0, 0),
        }
    }

    pub(crate) fn from_columns(kind: i64, queue: QueueId, lane: u32, priority: i16) -> Option<SetName> {
        match kind {
            0 => Some(SetName::Ready(Line { queue, lane: Lane::new(lane)? }, priority)),
            1 => Some(SetName::Running),
            _ => None,
        }
    }
}
