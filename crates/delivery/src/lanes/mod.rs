//! Which delivery may start next. A lane a target, each with its own slots, breaker and pauses; lanes that can start
//! something take turns. Pure: no I/O, and the time is told.
//!
//! A lane that is full, resting, paused or parked stands in no queue and costs nothing: a target that hangs holds its
//! own slots and no others.

mod breaker;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use onefold_core::{DurationMs, Entropy};

pub use self::breaker::BreakerLimits;
use self::breaker::{Breaker, Phase};
use crate::{Health, LaneNews};

/// How much runs and waits.
#[derive(Debug, Clone, Copy)]
pub struct LaneLimits {
    /// Deliveries that run at once, over all lanes.
    pub slots: u32,
    /// Deliveries of one lane that run at once. A tenth of `slots` unless that is more; never more than `slots`.
    pub per_lane: u32,
    /// Deliveries of one lane that wait here.
    pub waiting_per_lane: usize,
    /// When to keep away from a target.
    pub breaker: BreakerLimits,
}

impl Default for LaneLimits {
    /// 256 slots, 10 a lane, 100 waiting.
    fn default() -> LaneLimits {
        LaneLimits { slots: 256, per_lane: 10, waiting_per_lane: 100, breaker: BreakerLimits::default() }
    }
}

/// A delivery that may start now.
#[derive(Debug)]
#[must_use = "a slot is held until `finish` gets the pass back"]
pub struct Started<K, T> {
    /// Its lane.
    pub lane: K,
    /// What was offered.
    pub item: T,
    /// To be handed back when it ended.
    pub pass: Pass,
}

/// A slot, held. Given back to [`Lanes::finish`].
#[derive(Debug)]
#[must_use = "a slot is held until `finish` gets the pass back"]
pub struct Pass {
    era: u32,
}

/// What a lane looks like, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneView {
    /// Whether it starts anything.
    pub state: LaneState,
    /// Deliveries that run.
    pub running: u32,
    /// Deliveries that wait here.
    pub waiting: usize,
}

/// Whether a lane starts anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneState {
    /// It does.
    Open,
    /// Its target asked for a pause, until then.
    Paused(DurationMs),
    /// Its target does not work; one delivery will ask again then.
    Resting(DurationMs),
    /// One delivery is asking whether its target works again.
    Probing,
    /// Its target said that it is gone, or somebody parked it.
    Parked,
}

/// What a lane could take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneRoom {
    /// Deliveries that could start now, beside those that wait.
    pub free: u32,
    /// Deliveries that wait.
    pub waiting: u32,
    /// It starts whatever there is a slot for.
    pub steady: bool,
    /// When it will be open again, if it is paused or rests.
    pub opens_at: Option<DurationMs>,
}

struct Lane<T> {
    waiting: VecDeque<T>,
    running: u32,
    breaker: Breaker,
    paused_until: DurationMs,
    parked: bool,
    /// Whether it stands in the ring.
    in_turn: bool,
    /// Where it stands among those that wait for a time.
    timed: Option<DurationMs>,
}

/// What a lane may do.
enum Readiness {
    Now,
    At(DurationMs),
    /// When something else happens.
    Later,
}

/// See the module.
pub struct Lanes<K, T> {
    limits: LaneLimits,
    per_lane: u32,
    entropy: Arc<dyn Entropy>,
    lanes: HashMap<K, Lane<T>>,
    /// Lanes that can start something, in turn.
    turns: VecDeque<K>,
    /// Lanes that could if it were later.
    timed: BTreeSet<(DurationMs, K)>,
    running: u32,
    waiting: usize,
}

impl<K: Clone + Eq + Hash + Ord, T> Lanes<K, T> {
    /// No lanes yet.
    pub fn new(limits: LaneLimits, entropy: Arc<dyn Entropy>) -> Lanes<K, T> {
        let slots = limits.slots.max(1);
        let per_lane = limits.per_lane.min((slots / 10).max(1)).max(1);
        Lanes {
            limits: LaneLimits { slots, ..limits },
            per_lane,
            entropy,
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            timed: BTreeSet::new(),
            running: 0,
            waiting: 0,
        }
    }

    /// Lines up `item` in `lane`.
    ///
    /// # Errors
    /// `item`, if as many as may are waiting there already.
    pub fn offer(&mut self, lane: K, item: T, now: DurationMs) -> Result<(), T> {
        let (per_lane, limit) = (self.per_lane, self.limits.waiting_per_lane);
        let entry = self.lanes.entry(lane.clone()).or_insert_with(|| Lane::new(per_lane));
        if entry.waiting.len() >= limit {
            return Err(item);
        }
        entry.waiting.push_back(item);
        self.waiting += 1;
        self.line_up(&lane, now);
        Ok(())
    }

    /// The next delivery to start, if there is one and a slot for it.
    pub fn start(&mut self, now: DurationMs) -> Option<Started<K, T>> {
        self.wake(now);
        while self.running < self.limits.slots {
            let key = self.turns.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.in_turn = false;
            // Things may have changed since it was lined up.
            let item = match lane.readiness(now) {
                Readiness::Now => lane.waiting.pop_front(),
                Readiness::At(_) | Readiness::Later => None,
            };
            let Some(item) = item else {
                self.line_up(&key, now);
                continue;
            };
            lane.breaker.start(now);
            lane.running += 1;
            let pass = Pass { era: lane.breaker.era() };
            self.running += 1;
            self.waiting -= 1;
            self.line_up(&key, now);
            return Some(Started { lane: key, item, pass });
        }
        None
    }

    /// A delivery ended. Tells whether its target said that it is gone: its lane was parked by that.
    pub fn finish(&mut self, lane: &K, pass: Pass, news: LaneNews, now: DurationMs) -> bool {
        let Some(entry) = self.lanes.get_mut(lane) else { return false };
        entry.running = entry.running.saturating_sub(1);
        self.running = self.running.saturating_sub(1);
        entry.breaker.end(pass.era, news.health, self.per_lane, &self.limits.breaker, now, &*self.entropy);
        if let Some(pause) = news.pause {
            entry.paused_until = entry.paused_until.max(now.saturating_add(pause));
        }
        let parked = news.health == Health::Gone && !entry.parked;
        entry.parked |= news.health == Health::Gone;
        self.line_up(lane, now);
        parked
    }

    /// When [`Lanes::start`] may give something that it does not give now, if only time has to pass.
    pub fn wake_at(&self) -> Option<DurationMs> {
        self.timed.first().map(|(at, _)| *at)
    }

    /// Starts nothing more in `lane` until it is resumed.
    pub fn park(&mut self, lane: K) {
        let per_lane = self.per_lane;
        self.lanes.entry(lane).or_insert_with(|| Lane::new(per_lane)).parked = true;
    }

    /// Starts again what was parked, as if its target had never failed.
    pub fn resume(&mut self, lane: &K, now: DurationMs) {
        let Some(entry) = self.lanes.get_mut(lane) else { return };
        entry.parked = false;
        entry.paused_until = DurationMs::ZERO;
        entry.breaker = Breaker::new(self.per_lane);
        self.line_up(lane, now);
    }

    /// Gives back everything that waits in `lane`.
    pub fn take_waiting(&mut self, lane: &K) -> VecDeque<T> {
        let Some(entry) = self.lanes.get_mut(lane) else { return VecDeque::new() };
        self.waiting -= entry.waiting.len();
        std::mem::take(&mut entry.waiting)
    }

    /// Forgets lanes that there is nothing to remember of. To be called now and then.
    pub fn forget_idle(&mut self, now: DurationMs) {
        let full = self.per_lane;
        let (lanes, timed) = (&mut self.lanes, &mut self.timed);
        lanes.retain(|key, lane| {
            let rested = match lane.breaker.phase() {
                // Its rests are forgotten when it was left alone for as long as a rest can be.
                Phase::Open(until) => until.saturating_add(self.limits.breaker.rest_max) <= now,
                Phase::Closed => lane.breaker.is_fresh(full),
                Phase::Probing => false,
            };
            let needed = !lane.waiting.is_empty()
                || lane.running > 0
                || lane.parked
                || lane.in_turn
                || lane.paused_until > now
                || !rested;
            if !needed && let Some(at) = lane.timed {
                timed.remove(&(at, key.clone()));
            }
            needed
        });
    }

    /// Room for more in `lane`: what it can hold less what waits in it. None where it starts nothing for now, so that
    /// nobody fetches what would only wait.
    pub fn room(&self, lane: &K, now: DurationMs) -> usize {
        let Some(entry) = self.lanes.get(lane) else { return self.limits.waiting_per_lane };
        match entry.state(now) {
            LaneState::Open => self.limits.waiting_per_lane.saturating_sub(entry.waiting.len()),
            LaneState::Paused(_) | LaneState::Resting(_) | LaneState::Probing | LaneState::Parked => 0,
        }
    }

    /// The lanes that are remembered, and what each could take.
    pub fn rooms(&self, now: DurationMs) -> impl Iterator<Item = (&K, LaneRoom)> {
        self.lanes.iter().map(move |(key, lane)| (key, lane.room(now)))
    }

    /// Takes out of all lanes what is waiting there and `wanted`.
    pub fn withdraw(&mut self, wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let mut withdrawn = Vec::new();
        for lane in self.lanes.values_mut().filter(|lane| !lane.waiting.is_empty()) {
            let (gone, stay): (VecDeque<T>, VecDeque<T>) =
                std::mem::take(&mut lane.waiting).into_iter().partition(&wanted);
            lane.waiting = stay;
            withdrawn.extend(gone);
        }
        self.waiting -= withdrawn.len();
        withdrawn
    }

    /// Deliveries of one lane that run at once, at the most.
    pub fn per_lane(&self) -> u32 {
        self.per_lane
    }

    /// What `lane` looks like.
    pub fn view(&self, lane: &K, now: DurationMs) -> Option<LaneView> {
        let lane = self.lanes.get(lane)?;
        Some(LaneView { state: lane.state(now), running: lane.running, waiting: lane.waiting.len() })
    }

    /// Deliveries that run, over all lanes.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Deliveries that wait, over all lanes.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Lanes that are remembered.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether no lane is remembered.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Puts a lane where it belongs: in turn, among those that wait for a time, or nowhere.
    fn line_up(&mut self, key: &K, now: DurationMs) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        if let Some(at) = lane.timed.take() {
            self.timed.remove(&(at, key.clone()));
        }
        match lane.readiness(now) {
            Readiness::Now if lane.in_turn => {}
            Readiness::Now => {
                lane.in_turn = true;
                self.turns.push_back(key.clone());
            }
            Readiness::At(at) => {
                lane.timed = Some(at);
                self.timed.insert((at, key.clone()));
            }
            Readiness::Later => {}
        }
    }

    /// Lines up lanes whose time has come.
    fn wake(&mut self, now: DurationMs) {
        while let Some((_, key)) = self.timed.first().filter(|(at, _)| *at <= now).cloned() {
            self.line_up(&key, now);
        }
    }
}

impl<T> Lane<T> {
    fn new(width: u32) -> Lane<T> {
        Lane {
            waiting: VecDeque::new(),
            running: 0,
            breaker: Breaker::new(width),
            paused_until: DurationMs::ZERO,
            parked: false,
            in_turn: false,
            timed: None,
        }
    }

    fn state(&self, now: DurationMs) -> LaneState {
        if self.parked {
            return LaneState::Parked;
        }
        match self.breaker.phase() {
            Phase::Probing => LaneState::Probing,
            Phase::Open(until) if until > now.max(self.paused_until) => LaneState::Resting(until),
            Phase::Open(_) | Phase::Closed if self.paused_until > now => LaneState::Paused(self.paused_until),
            Phase::Open(until) if until > now => LaneState::Resting(until),
            Phase::Open(_) | Phase::Closed => LaneState::Open,
        }
    }

    fn room(&self, now: DurationMs) -> LaneRoom {
        let (state, waiting) = (self.state(now), u32::try_from(self.waiting.len()).unwrap_or(u32::MAX));
        let slots = match (state, self.breaker.phase()) {
            (LaneState::Open, Phase::Closed) => self.breaker.width().saturating_sub(self.running),
            // The one that asks whether the target works again.
            (LaneState::Open, Phase::Open(_) | Phase::Probing) => 1,
            (LaneState::Paused(_) | LaneState::Resting(_) | LaneState::Probing | LaneState::Parked, _) => 0,
        };
        let opens_at = match state {
            LaneState::Paused(until) | LaneState::Resting(until) => Some(until),
            LaneState::Open | LaneState::Probing | LaneState::Parked => None,
        };
        let steady = state == LaneState::Open && self.breaker.phase() == Phase::Closed;
        LaneRoom { free: slots.saturating_sub(waiting), waiting, steady, opens_at }
    }

    fn readiness(&self, now: DurationMs) -> Readiness {
        if self.waiting.is_empty() {
            return Readiness::Later;
        }
        match (self.state(now), self.breaker.phase()) {
            (LaneState::Parked | LaneState::Probing, _) => Readiness::Later,
            (LaneState::Paused(until) | LaneState::Resting(until), _) => Readiness::At(until),
            // The one that asks whether the target works again.
            (LaneState::Open, Phase::Open(_) | Phase::Probing) => Readiness::Now,
            (LaneState::Open, Phase::Closed) if self.running < self.breaker.width() => Readiness::Now,
            (LaneState::Open, Phase::Closed) => Readiness::Later,
        }
    }
}

impl<K, T> fmt::Debug for Lanes<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes")
            .field("lanes", &self.lanes.len())
            .field("running", &self.running)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
