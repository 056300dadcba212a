//! One lease this worker holds: what its handler, its heartbeats and its settles know of it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use onefold_core::{DurationMs, FencingToken, JobId, Progress, limits};
use tokio_util::sync::CancellationToken;

/// Why a handler should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelReason {
    /// Somebody cancelled the job. Whatever the handler returns now, the job is cancelled, unless
    /// it returns `Ok`. It is not stopped if it goes on.
    Requested,
    /// The lease is lost, or cannot be held to be ours any longer: somebody else may be running
    /// the job. The handler is dropped after a moment.
    LeaseLost,
    /// The worker stops and its grace period is over. The handler is dropped after a moment and
    /// the job released.
    Shutdown,
}

const REQUESTED: u8 = 1;
const LOST: u8 = 2;
const STOPPED: u8 = 4;

pub(crate) struct Lease {
    pub(crate) id: JobId,
    pub(crate) token: FencingToken,
    /// Until when it is ours for certain, in milliseconds of the monotonic clock.
    deadline: AtomicU64,
    /// The hard limit of the attempt, by the same clock; no extension goes beyond.
    hard_limit: u64,
    /// When a quarter of the hard limit has passed: a job that has waited this long for a runner is
    /// given back, or its handler would have too little time left.
    pub(crate) start_by: DurationMs,
    signals: AtomicU8,
    /// Its handler is done, and its end on its way.
    ended: AtomicBool,
    /// Of the task that runs the handler.
    runner: AtomicWaker,
    rest: Mutex<Rest>,
}

/// What few handlers use.
#[derive(Default)]
struct Rest {
    cancellation: Option<CancellationToken>,
    lost: Option<CancellationToken>,
    notes: Notes,
    notes_queued: bool,
}

/// What a handler says about itself, collected until it can be sent. May be lost.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) progress: Option<Progress>,
    pub(crate) log: Vec<String>,
}

impl Lease {
    /// A lease that was asked for at `asked_at` for `length`, and got at `got_at`.
    pub(crate) fn new(
        id: JobId,
        token: FencingToken,
        asked_at: DurationMs,
        got_at: DurationMs,
        length: DurationMs,
        timeout: DurationMs,
    ) -> Lease {
        // Counted from before the question, it cannot end earlier for the store than for us.
        let hard_limit = got_at.as_ms().saturating_add(timeout.as_ms());
        let deadline = asked_at.as_ms().saturating_add(length.as_ms()).min(hard_limit);
        Lease {
            id,
            token,
            deadline: AtomicU64::new(deadline),
            hard_limit,
            start_by: got_at.saturating_add(DurationMs::from_ms(timeout.as_ms() / 4)),
            signals: AtomicU8::new(0),
            ended: AtomicBool::new(false),
            runner: AtomicWaker::new(),
            rest: Mutex::default(),
        }
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn deadline(&self) -> DurationMs {
        DurationMs::from_ms(self.deadline.load(Ordering::Relaxed))
    }

    /// An extension by `length` that was asked for at `asked_at` was granted.
    pub(crate) fn extended(&self, asked_at: DurationMs, length: DurationMs) {
        let deadline = asked_at.as_ms().saturating_add(length.as_ms()).min(self.hard_limit);
        self.deadline.store(deadline, Ordering::Relaxed);
    }

    /// Tells the handler to stop.
    pub(crate) fn signal(&self, reason: CancelReason) {
        let bit = match reason {
            CancelReason::Requested => REQUESTED,
            CancelReason::LeaseLost => LOST,
            CancelReason::Shutdown => STOPPED,
        };
        let rest = self.rest();
        self.signals.fetch_or(bit, Ordering::Release);
        if let Some(cancellation) = &rest.cancellation {
            cancellation.cancel();
        }
        if let (CancelReason::LeaseLost, Some(lost)) = (reason, &rest.lost) {
            lost.cancel();
        }
        drop(rest);
        self.runner.wake();
    }

    /// Why the handler should stop; the gravest reason if there are several.
    pub(crate) fn cancelled(&self) -> Option<CancelReason> {
        match self.signals.load(Ordering::Acquire) {
            0 => None,
            signals if signals & LOST != 0 => Some(CancelReason::LeaseLost),
            signals if signals & STOPPED != 0 => Some(CancelReason::Shutdown),
            _ => Some(CancelReason::Requested),
        }
    }

    /// Whether the handler is dropped if it goes on.
    pub(crate) fn must_stop(&self) -> bool {
        self.signals.load(Ordering::Acquire) & (LOST | STOPPED) != 0
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.signals.load(Ordering::Acquire) & LOST != 0
    }

    /// A token that fires when the handler should stop.
    pub(crate) fn cancellation(&self) -> CancellationToken {
        let mut rest = self.rest();
        let token = rest.cancellation.get_or_insert_default().clone();
        if self.signals.load(Ordering::Acquire) != 0 {
            token.cancel();
        }
        token
    }

    /// A token that fires when the lease is lost.
    pub(crate) fn lost(&self) -> CancellationToken {
        let mut rest = self.rest();
        let token = rest.lost.get_or_insert_default().clone();
        if self.is_lost() {
            token.cancel();
        }
        token
    }

    /// Has the running task woken by signals.
    pub(crate) fn wake_on_signal(&self, waker: &Waker) {
        self.runner.register(waker);
    }

    /// The handler is done.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Takes down what the handler says about itself. Whether somebody must come for it.
    pub(crate) fn note(&self, note: impl FnOnce(&mut Notes)) -> bool {
        let mut rest = self.rest();
        note(&mut rest.notes);
        let over = rest.notes.log.len().saturating_sub(limits::LOG_LINES_MAX);
        rest.notes.log.drain(..over);
        !std::mem::replace(&mut rest.notes_queued, true)
    }

    /// What the handler said since the last time.
    pub(crate) fn take_notes(&self) -> Notes {
        let mut rest = self.rest();
        rest.notes_queued = false;
        std::mem::take(&mut rest.notes)
    }
}
