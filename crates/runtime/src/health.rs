//! What can be told about a store from outside.

use onefold_core::{EngineError, Ticked, Timestamp};

/// How a store is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Where it stands.
    pub phase: Phase,
    /// When the last tick that succeeded was made.
    pub last_tick: Option<Timestamp>,
    /// Ticks that succeeded.
    pub ticks: u64,
    /// Jobs whose time came.
    pub due: u64,
    /// Attempts whose deadline passed.
    pub expired: u64,
    /// Jobs deleted because their retention was over.
    pub purged: u64,
    /// Steps of the wall clock that were noticed.
    pub clock_steps: u64,
    /// Ticks that failed since the last one that succeeded.
    pub failing: u64,
    /// Why the last one of those failed.
    pub error: Option<EngineError>,
}

/// Where a served store stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Not ticked yet.
    Starting,
    /// At work.
    Serving,
    /// Hands out no more leases.
    Draining,
    /// Stopped by request.
    Stopped,
    /// The engine is closed or has stopped itself; nothing more will happen in this process.
    Failed(EngineError),
}

impl Phase {
    /// Whether ticking has ended.
    pub const fn is_over(&self) -> bool {
        matches!(self, Phase::Stopped | Phase::Failed(_))
    }
}

impl Health {
    pub(crate) fn starting() -> Health {
        Health {
            phase: Phase::Starting,
            last_tick: None,
            ticks: 0,
            due: 0,
            expired: 0,
            purged: 0,
            clock_steps: 0,
            failing: 0,
            error: None,
        }
    }

    /// Whether new work is welcome: ticked at least once, not draining, stopped or failed.
    pub fn is_serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    pub(crate) fn ticked(&mut self, ticked: &Ticked, now: Timestamp) {
        if self.phase == Phase::Starting {
            self.phase = Phase::Serving;
        }
        self.last_tick = Some(now);
        self.ticks += 1;
        self.due += ticked.due;
        self.expired += ticked.expired;
        self.purged += ticked.purged;
        self.clock_steps += u64::from(ticked.clock_stepped);
        self.failing = 0;
        self.error = None;
    }

    pub(crate) fn failed(&mut self, error: EngineError) {
        self.failing += 1;
        self.error = Some(error);
    }

    pub(crate) fn draining(&mut self) -> bool {
        let changes = matches!(self.phase, Phase::Starting | Phase::Serving);
        if changes {
            self.phase = Phase::Draining;
        }
        changes
    }

    pub(crate) fn over(&mut self, phase: Phase) {
        if !self.phase.is_over() {
            self.phase = phase;
        }
    }
}
