//! What the accept loop counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client closed it, or the network broke it.
    Client,
    /// An answer was its last: the client asked for that, or left a body unread.
    Answered,
    /// No byte came within [`first_byte`](super::AcceptLimits::first_byte).
    FirstByte,
    /// A head took longer than [`header_read`](super::AcceptLimits::header_read); answered with 408.
    HeaderRead,
    /// A body broke a rule of [`BodyPace`](super::BodyPace).
    SlowBody,
    /// No request came within [`keep_alive_idle`](super::AcceptLimits::keep_alive_idle).
    Idle,
    /// The client took no byte of an answer for [`write_stall`](super::AcceptLimits::write_stall).
    WriteStall,
    /// It was silent or idle, and its place was needed.
    Evicted,
    /// What came was not HTTP/1.1, or could be read in two ways; answered with a 4xx.
    Malformed,
    /// The server drains.
    Drained,
    /// The server drained and the answer was not there in time, or `serve` was dropped.
    Dropped,
    /// The handler panicked.
    Panicked,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: [CloseReason; 12] = [
        CloseReason::Client,
        CloseReason::Answered,
        CloseReason::FirstByte,
        CloseReason::HeaderRead,
        CloseReason::SlowBody,
        CloseReason::Idle,
        CloseReason::WriteStall,
        CloseReason::Evicted,
        CloseReason::Malformed,
        CloseReason::Drained,
        CloseReason::Dropped,
        CloseReason::Panicked,
    ];

    /// The value of a metric's label; never changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            CloseReason::Client => "client",
            CloseReason::Answered => "answered",
            CloseReason::FirstByte => "first-byte",
            CloseReason::HeaderRead => "header-read",
            CloseReason::SlowBody => "slow-body",
            CloseReason::Idle => "idle",
            CloseReason::WriteStall => "write-stall",
            CloseReason::Evicted => "evicted",
            CloseReason::Malformed => "malformed",
            CloseReason::Drained => "drained",
            CloseReason::Dropped => "dropped",
            CloseReason::Panicked => "panicked",
        }
    }
}

/// Counters of an accept loop, for `/metrics`. All but [`open`](AcceptStats::open) only grow.
#[derive(Debug, Default)]
pub struct AcceptStats {
    open: AtomicU64,
    accepted: AtomicU64,
    accept_errors: AtomicU64,
    slow_bodies: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
}

impl AcceptStats {
    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Connections accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Times the system refused to hand over a connection, for want of file descriptors as a rule.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Relaxed)
    }

    /// Bodies that broke a rule of [`BodyPace`](super::BodyPace), whatever became of their connection.
    pub fn slow_bodies(&self) -> u64 {
        self.slow_bodies.load(Relaxed)
    }

    /// Connections closed for this reason.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize].load(Relaxed)
    }

    pub(super) fn connection_opened(&self) {
        self.accepted.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
    }

    pub(super) fn connection_closed(&self, reason: CloseReason) {
        self.closed[reason as usize].fetch_add(1, Relaxed);
        self.open.fetch_sub(1, Relaxed);
    }

    pub(super) fn accept_failed(&self) {
        self.accept_errors.fetch_add(1, Relaxed);
    }

    pub(super) fn body_was_slow(&self) {
        self.slow_bodies.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_label() {
        let stats = AcceptStats::default();
        for reason in CloseReason::ALL {
            stats.connection_opened();
            stats.connection_closed(reason);
        }
        assert!(CloseReason::ALL.iter().all(|reason| stats.closed(*reason) == 1));
        let labels: std::collections::HashSet<_> = CloseReason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(labels.len(), CloseReason::ALL.len());
        assert_eq!((stats.open(), stats.accepted()), (0, 12));
    }
}
