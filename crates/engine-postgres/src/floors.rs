//! How far this node has claimed in each line, so that a claim need not step over what was claimed before it: while
//! somebody's old transaction keeps dead rows alive, those are many.
//!
//! A floor is a hint. Whatever this node puts below one lowers it; what others put there is found when a claim that
//! began at a floor ends with too little, and once a second, when all floors are forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::rows::{LineNumber, QueueNumber};

/// What a line is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// One job a row.
    Rows,
    /// Some dozens, at the place of the first.
    Segments,
}

/// A part of a line.
pub(crate) type PartOf = (LineNumber, Part);

/// A place in a line: priority, then sequence.
pub(crate) type LinePlace = (i16, i64);

/// Before the first of a line.
pub(crate) const START: LinePlace = (i16::MIN, 0);

#[derive(Debug, Clone, Copy)]
struct Floor {
    /// Everything up to here was claimed.
    at: LinePlace,
    /// Counts how often it was lowered.
    lowered: u64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Floors(Mutex<HashMap<PartOf, Floor>>);

/// What a transaction did to lines.
#[derive(Debug, Default)]
pub(crate) struct LineMoves {
    /// How far it claimed, and how often the floor had been lowered when it began.
    pub(crate) claimed: BTreeMap<PartOf, (LinePlace, u64)>,
    /// The first place at which it left or put somebody.
    pub(crate) put: BTreeMap<PartOf, LinePlace>,
    /// Queues in which heads of groups may have been put anywhere in any line.
    pub(crate) published: BTreeSet<QueueNumber>,
}

impl LineMoves {
    pub(crate) fn put(&mut self, part: PartOf, at: LinePlace) {
        let first = self.put.entry(part).or_insert(at);
        *first = at.min(*first);
    }
}

impl Floors {
    fn lock(&self) -> MutexGuard<'_, HashMap<PartOf, Floor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to begin, and how often that was lowered.
    pub(crate) fn of(&self, line: LineNumber, part: Part) -> (LinePlace, u64) {
        let floors = self.lock();
        floors.get(&(line, part)).map_or((START, 0), |floor| (floor.at, floor.lowered))
    }

    /// Queues this node claimed in.
    pub(crate) fn queues(&self) -> BTreeSet<QueueNumber> {
        self.lock().keys().map(|((queue, _), _)| *queue).collect()
    }

    /// Takes in what a transaction did that is durable now.
    pub(crate) fn committed(&self, moves: &LineMoves) {
        let mut floors = self.lock();
        for (part, (at, lowered)) in &moves.claimed {
            let floor = floors.entry(*part).or_insert(Floor { at: START, lowered: 0 });
            // If somebody was put below meanwhile, this claim may have passed them by.
            if floor.lowered == *lowered {
                floor.at = floor.at.max(*at);
            }
        }
        for (((queue, _), _), floor) in floors.iter_mut() {
            if moves.published.contains(queue) {
                floor.lowered += 1;
                floor.at = START;
            }
        }
        for (part, at) in &moves.put {
            let floor = floors.entry(*part).or_insert(Floor { at: START, lowered: 0 });
            if *at <= floor.at || floor.at == START {
                floor.lowered += 1;
                floor.at = (at.0, at.1.saturating_sub(1)).min(floor.at);
            }
        }
    }

    /// Begins at the start again: of what others did nothing is known.
    pub(crate) fn forget(&self) {
        for floor in self.lock().values_mut() {
            floor.lowered += 1;
            floor.at = START;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(queue: QueueNumber, at: LinePlace, lowered: u64) -> LineMoves {
        LineMoves { claimed: [(((queue, 0), Part::Rows), (at, lowered))].into(), ..LineMoves::default() }
    }

    fn put(queue: QueueNumber, at: LinePlace) -> LineMoves {
        let mut moves = LineMoves::default();
        moves.put(((queue, 0), Part::Rows), at);
        moves
    }

    /// Whoever is put below a floor is found by the next claim.
    #[test]
    fn a_floor_is_lowered_by_whoever_is_put_below() {
        let floors = Floors::default();
        floors.committed(&claim(1, (0, 100), 0));
        assert_eq!(floors.of((1, 0), Part::Rows), ((0, 100), 0));
        floors.committed(&put(1, (0, 101)));
        assert_eq!(floors.of((1, 0), Part::Rows), ((0, 100), 0), "above it");
        floors.committed(&put(1, (0, 50)));
        assert_eq!(floors.of((1, 0), Part::Rows), ((0, 49), 1));
        floors.committed(&put(1, (-1, 200)));
        assert_eq!(floors.of((1, 0), Part::Rows), ((-1, 199), 2));
        assert_eq!(floors.of((2, 0), Part::Rows), (START, 0));
    }

    /// A claim that began before somebody was put below it does not raise the floor over them.
    #[test]
    fn a_claim_does_not_pass_by_who_came_meanwhile() {
        let floors = Floors::default();
        let (_, lowered) = floors.of((1, 0), Part::Rows);
        floors.committed(&put(1, (0, 7)));
        floors.committed(&claim(1, (0, 9), lowered));
        assert_eq!(floors.of((1, 0), Part::Rows).0, START);
        let (_, lowered) = floors.of((1, 0), Part::Rows);
        floors.committed(&claim(1, (0, 9), lowered));
        assert_eq!(floors.of((1, 0), Part::Rows).0, (0, 9));
        floors.forget();
        assert_eq!(floors.of((1, 0), Part::Rows).0, START);
    }
}
