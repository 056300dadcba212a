//! How far this node has claimed in each line, so that a claim need not step over what was claimed before it: while
//! somebody's old transaction keeps dead rows alive, those are many.
//!
//! A floor is a hint. Whatever this node puts below one lowers it; what others put there is found by looking back: once
//! a second one claim begins where it was some seconds ago, since who commits late has a place from then, or at the start
//! of the line, which is done the more seldom the longer it takes. Sweeps that go from a time or a number on do alike.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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

/// Looks around that a claim looks back over.
const LOOKED_BACK: usize = 3;
/// A look at a whole line that took so long is not repeated with the next look around, but with one more for each time.
const WHOLE_LOOK: Duration = Duration::from_millis(20);
/// It is repeated after so many looks around at the latest.
const RESTS_MAX: u32 = 30;

#[derive(Debug, Clone, Copy)]
struct Floor {
    /// Everything up to here was claimed.
    at: LinePlace,
    /// Counts how often it was lowered.
    lowered: u64,
    /// Where it was at the looks around before, the latest first.
    before: [LinePlace; LOOKED_BACK],
    /// Where one claim is to begin.
    look_from: Option<LinePlace>,
    /// Looks around until a claim begins at the start.
    rests: u32,
    /// All of it was looked at since the last look around.
    looked_at: bool,
}

impl Floor {
    const NONE: Floor = Floor {
        at: START,
        lowered: 0,
        before: [START; LOOKED_BACK],
        look_from: None,
        rests: 0,
        looked_at: false,
    };

    fn forget(&mut self) {
        *self = Floor { lowered: self.lowered + 1, ..Floor::NONE };
    }

    fn lower(&mut self, at: LinePlace) {
        self.lowered += 1;
        self.at = at.min(self.at);
        self.before.iter_mut().for_each(|before| *before = at.min(*before));
    }

    fn look_back(&mut self) {
        let [.., oldest] = self.before;
        self.look_from = Some(if self.rests == 0 { START } else { oldest.min(self.at) });
        self.rests = self.rests.saturating_sub(1);
        self.looked_at = false;
        self.before.rotate_right(1);
        let [latest, ..] = &mut self.before;
        *latest = self.at;
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Floors {
    lines: Mutex<HashMap<PartOf, Floor>>,
    sweeps: Mutex<Sweeps>,
}

/// Where a claim begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct From {
    pub(crate) at: LinePlace,
    /// How often the floor had been lowered.
    pub(crate) lowered: u64,
    /// It looks for whoever was put below.
    pub(crate) looks_back: bool,
    /// To look at all of it takes long, and was done since the last look around. Who finds nobody else looks at all of it, so
    /// that a job which is due waits for no longer than that for an idle worker.
    pub(crate) was_looked_at: bool,
}

/// What a claim did to a part of a line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claimed {
    pub(crate) from: From,
    pub(crate) to: LinePlace,
    /// Nobody was left behind.
    pub(crate) ended: bool,
}

/// Below what sweeps have nothing to do.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sweeps {
    /// Changes of counts that are folded.
    pub(crate) folded: i64,
    /// Until when it was looked whether jobs still run.
    pub(crate) watched_ms: i64,
    /// Sweeps since one began at the start.
    since_whole: u32,
}

/// One sweep of so many begins at the start.
const SWEEPS_WHOLE: u32 = 30;

/// What a transaction did to lines.
#[derive(Debug, Default)]
pub(crate) struct LineMoves {
    /// How far it claimed.
    pub(crate) claimed: BTreeMap<PartOf, Claimed>,
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
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the next claim begins.
    pub(crate) fn of(&self, line: LineNumber, part: Part) -> From {
        let mut floors = self.lock();
        let floor = floors.entry((line, part)).or_insert(Floor::NONE);
        let (look_from, was_looked_at) = (floor.look_from.take(), floor.rests > 0 && floor.looked_at);
        let (at, looks_back) = (look_from.unwrap_or(floor.at), look_from.is_some());
        From { at, lowered: floor.lowered, looks_back, was_looked_at }
    }

    /// Queues this node claimed in.
    pub(crate) fn queues(&self) -> BTreeSet<QueueNumber> {
        self.lock().keys().map(|((queue, _), _)| *queue).collect()
    }

    /// How long it took to find the first of a line from its start.
    pub(crate) fn walked(&self, line: LineNumber, part: Part, took: Duration) {
        if let Some(floor) = self.lock().get_mut(&(line, part)) {
            let rests = took.as_millis() / WHOLE_LOOK.as_millis();
            floor.rests = u32::try_from(rests).unwrap_or(u32::MAX).min(RESTS_MAX);
            floor.looked_at = true;
        }
    }

    /// Takes in what a transaction did that is durable now.
    pub(crate) fn committed(&self, moves: &LineMoves) {
        let mut floors = self.lock();
        for (part, Claimed { from, to, ended }) in &moves.claimed {
            let floor = floors.entry(*part).or_insert(Floor::NONE);
            // If somebody was put below meanwhile, this claim may have passed them by.
            if floor.lowered != from.lowered {
                continue;
            }
            // Who looked back and found somebody below does not know of those between.
            if from.looks_back && *to < floor.at && !ended {
                floor.lower(*to);
            } else {
                floor.at = floor.at.max(*to);
            }
        }
        for (((queue, _), _), floor) in floors.iter_mut() {
            if moves.published.contains(queue) {
                floor.forget();
            }
        }
        for (part, at) in &moves.put {
            let floor = floors.entry(*part).or_insert(Floor::NONE);
            if *at <= floor.at || floor.at == START {
                floor.lower((at.0, at.1.saturating_sub(1)));
            }
        }
    }

    /// Begins at the start again: of what was done nothing is known.
    pub(crate) fn forget(&self) {
        self.lock().values_mut().for_each(Floor::forget);
        self.sweeps().since_whole = SWEEPS_WHOLE;
    }

    /// Looks for what others did.
    pub(crate) fn look_back(&self) {
        self.lock().values_mut().for_each(Floor::look_back);
    }

    fn sweeps(&self) -> MutexGuard<'_, Sweeps> {
        self.sweeps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where sweeps begin until the next call.
    pub(crate) fn begin_sweeps(&self) {
        let mut sweeps = self.sweeps();
        sweeps.since_whole += 1;
        if sweeps.since_whole > SWEEPS_WHOLE {
            *sweeps = Sweeps::default();
        }
    }

    /// Where a sweep begins.
    pub(crate) fn swept(&self) -> Sweeps {
        *self.sweeps()
    }

    /// Everything below was swept.
    pub(crate) fn sweep_from(&self, change: impl FnOnce(&mut Sweeps)) {
        change(&mut self.sweeps());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(queue: QueueNumber, from: From, to: LinePlace) -> LineMoves {
        let claimed = Claimed { from, to, ended: false };
        LineMoves { claimed: [(((queue, 0), Part::Rows), claimed)].into(), ..LineMoves::default() }
    }

    fn put(queue: QueueNumber, at: LinePlace) -> LineMoves {
        let mut moves = LineMoves::default();
        moves.put(((queue, 0), Part::Rows), at);
        moves
    }

    fn of(floors: &Floors, queue: QueueNumber) -> From {
        floors.of((queue, 0), Part::Rows)
    }

    /// Whoever is put below a floor is found by the next claim.
    #[test]
    fn a_floor_is_lowered_by_whoever_is_put_below() {
        let floors = Floors::default();
        floors.committed(&claim(1, of(&floors, 1), (0, 100)));
        assert_eq!(of(&floors, 1).at, (0, 100));
        floors.committed(&put(1, (0, 101)));
        assert_eq!((of(&floors, 1).at, of(&floors, 1).lowered), ((0, 100), 0), "above it");
        floors.committed(&put(1, (0, 50)));
        assert_eq!((of(&floors, 1).at, of(&floors, 1).lowered), ((0, 49), 1));
        floors.committed(&put(1, (-1, 200)));
        assert_eq!((of(&floors, 1).at, of(&floors, 1).lowered), ((-1, 199), 2));
        assert_eq!(of(&floors, 2).at, START);
    }

    /// A claim that began before somebody was put below it does not raise the floor over them.
    #[test]
    fn a_claim_does_not_pass_by_who_came_meanwhile() {
        let floors = Floors::default();
        let before = of(&floors, 1);
        floors.committed(&put(1, (0, 7)));
        floors.committed(&claim(1, before, (0, 9)));
        assert_eq!(of(&floors, 1).at, START);
        floors.committed(&claim(1, of(&floors, 1), (0, 9)));
        assert_eq!(of(&floors, 1).at, (0, 9));
        floors.forget();
        assert_eq!(of(&floors, 1).at, START);
    }

    /// What others put below a floor is found with a look around: by one claim that begins at the start, while others
    /// go on from where they were; and if it finds somebody, all go on from there.
    #[test]
    fn a_look_back_has_one_claim_begin_at_the_start() {
        let floors = Floors::default();
        for at in [100, 200, 300, 400, 500] {
            floors.committed(&claim(1, of(&floors, 1), (0, at)));
        }
        floors.look_back();
        let (first, second) = (of(&floors, 1), of(&floors, 1));
        assert_eq!((first.at, second.at), (START, (0, 500)));
        floors.committed(&claim(1, first, (0, 20)));
        floors.committed(&claim(1, second, (0, 600)));
        assert_eq!(of(&floors, 1).at, (0, 20), "those between 20 and 500 may be there, too");
        floors.look_back();
        let whole = of(&floors, 1);
        assert_eq!(whole.at, START);
        let to_the_end = Claimed { from: whole, to: START, ended: true };
        let nobody =
            LineMoves { claimed: [(((1, 0), Part::Rows), to_the_end)].into(), ..LineMoves::default() };
        floors.committed(&nobody);
        assert_eq!(of(&floors, 1).at, (0, 20), "nobody was found below");
    }

    /// Where looking at a whole line takes long, it is done the more seldom; in between it is looked back over the last
    /// seconds.
    #[test]
    fn whole_lines_are_looked_at_for_a_small_part_of_the_time() {
        let floors = Floors::default();
        let mut whole = 0;
        for look in 1..=44_i64 {
            let from = of(&floors, 1);
            if from.at == START {
                floors.walked((1, 0), Part::Rows, 10 * WHOLE_LOOK);
                whole += 1;
            } else {
                let before = 100 * (look - 1 - LOOKED_BACK as i64);
                assert_eq!(from.at, (0, before), "as it was three looks before");
            }
            floors.committed(&claim(1, of(&floors, 1), (0, 100 * look)));
            floors.look_back();
        }
        assert_eq!(
            whole,
            4 + 3,
            "until it is known how far it was claimed, and then with each eleventh look"
        );
        assert!(!of(&floors, 1).was_looked_at, "who finds nobody else may look once in each second");
        floors.walked((1, 0), Part::Rows, 10 * WHOLE_LOOK);
        assert!(of(&floors, 1).was_looked_at);
        floors.committed(&put(1, (0, 7)));
        assert_eq!(of(&floors, 1).at, (0, 6), "our own are known at once");
    }

    /// A sweep that begins where the last one ended begins at the start now and then.
    #[test]
    fn sweeps_begin_at_the_start_now_and_then() {
        let floors = Floors::default();
        let mut from_the_start = 0;
        for _ in 0..(3 * SWEEPS_WHOLE) {
            floors.begin_sweeps();
            from_the_start += u32::from(floors.swept().folded == 0);
            floors.sweep_from(|sweeps| sweeps.folded = 7);
        }
        assert_eq!(from_the_start, 3);
        floors.forget();
        floors.begin_sweeps();
        assert_eq!(floors.swept().folded, 0, "of what was done nothing is known");
    }
}
