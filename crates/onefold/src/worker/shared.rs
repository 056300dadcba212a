//! What the parts of one running worker share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onefold_core::{Clock, DurationMs, End, FencingToken, QueueName, WorkerName};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::lease::{CancelReason, Lease};
use super::outbox::{Letter, Outbox};
use crate::backend::{Backend, Leased};
use crate::{Error, Onefold};

/// What was asked of the worker, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) queues: Vec<QueueName>,
    pub(crate) concurrency: usize,
    pub(crate) prefetch: usize,
    pub(crate) lease: DurationMs,
    pub(crate) name: WorkerName,
    pub(crate) fair: bool,
    pub(crate) grace: DurationMs,
}

impl Config {
    /// How often leases are extended.
    pub(crate) fn heartbeat(&self) -> DurationMs {
        DurationMs::from_ms(self.lease.as_ms() / 3)
    }

    /// How long before its deadline a lease that could not be extended counts as lost, and how
    /// long a handler that was told to stop may take before it is dropped: together they end at
    /// the deadline.
    pub(crate) fn margin(&self) -> DurationMs {
        DurationMs::from_ms((self.lease.as_ms() / 10).min(1_000))
    }

    /// How long a poll parks. No longer than a third of the lease: the lease of a job that is
    /// handed out at the end of the wait is counted from the start of it.
    pub(crate) fn wait(&self) -> DurationMs {
        DurationMs::from_ms((self.lease.as_ms() / 3).min(20_000))
    }
}

/// A leased job that waits for a free runner.
pub(crate) struct Ticket {
    pub(crate) job: Leased,
    pub(crate) lease: Arc<Lease>,
}

/// How many jobs a worker had, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerReport {
    /// Jobs leased.
    pub leased: u64,
    /// Jobs completed, the store agreeing.
    pub completed: u64,
    /// Jobs failed, panics included, the store agreeing.
    pub failed: u64,
    /// Jobs put off, the store agreeing.
    pub snoozed: u64,
    /// Jobs given back, the store agreeing.
    pub released: u64,
    /// Jobs whose lease was lost, and ends the store refused.
    pub lost: u64,
}

#[derive(Default)]
pub(crate) struct Counts {
    leased: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    snoozed: AtomicU64,
    released: AtomicU64,
    lost: AtomicU64,
}

impl Counts {
    pub(crate) fn count_leased(&self, jobs: usize) {
        self.leased.fetch_add(jobs as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_end(&self, end: &End) {
        let count = match end {
            End::Complete { .. } => &self.completed,
            End::Fail { .. } => &self.failed,
            End::Snooze { .. } => &self.snoozed,
            End::Release => &self.released,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn report(&self) -> WorkerReport {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        WorkerReport {
            leased: read(&self.leased),
            completed: read(&self.completed),
            failed: read(&self.failed),
            snoozed: read(&self.snoozed),
            released: read(&self.released),
            lost: read(&self.lost),
        }
    }
}

pub(crate) struct Shared {
    pub(crate) config: Config,
    /// Keeps an embedded store served while the worker runs.
    pub(crate) onefold: Onefold,
    pub(crate) outbox: Outbox,
    pub(crate) counts: Counts,
    /// Fired when the worker begins to stop: nothing more is leased.
    pub(crate) stopping: CancellationToken,
    /// Fired when the worker no longer waits for the store: what cannot be settled is left.
    pub(crate) giving_up: CancellationToken,
    /// Why the worker cannot go on.
    pub(crate) fatal: watch::Sender<Option<Error>>,
    /// Leases whose end the store has not answered yet.
    held: Mutex<HashMap<FencingToken, Arc<Lease>>>,
    /// How many of them have handlers that are not done: waiting or running.
    open: AtomicUsize,
    waiting: Mutex<VecDeque<Ticket>>,
    /// A permit for each waiting job.
    ready: Semaphore,
    /// Told when there is room for more jobs.
    room: Notify,
    /// Told when leases came in that cannot wait for the next heartbeat.
    pub(crate) urgent: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(config: Config, onefold: Onefold) -> Shared {
        Shared {
            config,
            onefold,
            outbox: Outbox::default(),
            counts: Counts::default(),
            stopping: CancellationToken::new(),
            giving_up: CancellationToken::new(),
            fatal: watch::Sender::new(None),
            held: Mutex::default(),
            open: AtomicUsize::new(0),
            waiting: Mutex::default(),
            ready: Semaphore::new(0),
            room: Notify::new(),
            urgent: Notify::new(),
        }
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        self.onefold.backend().as_ref()
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.onefold.clock().as_ref()
    }

    /// The worker cannot go on.
    pub(crate) fn fail(&self, error: Error) {
        self.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            fatal.get_or_insert(error);
            first
        });
    }

    /// How many jobs to ask for, waiting until it is worth it: while enough jobs wait for a
    /// runner, asking for a few more would only make many small calls.
    pub(crate) async fn room(&self) -> usize {
        let low_water = (self.config.prefetch - self.config.concurrency) / 2;
        loop {
            let room = self.room_now();
            if room > 0 && lock(&self.waiting).len() <= low_water {
                return room;
            }
            self.room.notified().await;
        }
    }

    /// Jobs whose handlers are done make room at once, or the time of a settle would be lost; but
    /// a store that does not answer must not be asked for more and more.
    fn room_now(&self) -> usize {
        let prefetch = self.config.prefetch;
        let open = prefetch.saturating_sub(self.open.load(Ordering::Acquire));
        let held = prefetch.saturating_mul(2).saturating_sub(lock(&self.held).len());
        open.min(held)
    }

    /// Takes leased jobs in hand.
    pub(crate) fn take_in(&self, tickets: Vec<Ticket>) {
        let count = tickets.len();
        let next_beat_at_the_latest = self.clock().monotonic().saturating_add(self.config.heartbeat());
        let needed_until = next_beat_at_the_latest.saturating_add(self.config.margin());
        let urgent =
            tickets.iter().any(|Ticket { lease, .. }| lease.deadline().min(lease.start_by) <= needed_until);
        self.counts.count_leased(count);
        self.open.fetch_add(count, Ordering::AcqRel);
        lock(&self.held).extend(tickets.iter().map(|ticket| (ticket.lease.token, Arc::clone(&ticket.lease))));
        lock(&self.waiting).extend(tickets);
        self.ready.add_permits(count);
        if urgent {
            self.urgent.notify_one();
        }
    }

    /// The next job for a free runner; `None` when the worker stops.
    pub(crate) async fn next_job(&self) -> Option<Ticket> {
        loop {
            self.ready.acquire().await.ok()?.forget();
            let ticket = lock(&self.waiting).pop_front();
            self.room.notify_one();
            // There is a permit too many for each job that was given back while it waited.
            if ticket.is_some() {
                return ticket;
            }
        }
    }

    /// Takes away the jobs that have waited too long for a runner. Beside them, when the next
    /// one will have.
    pub(crate) fn take_overdue(&self, now: DurationMs) -> (Vec<Ticket>, Option<DurationMs>) {
        let mut waiting = lock(&self.waiting);
        let due = |ticket: &Ticket| ticket.lease.start_by <= now;
        let mut overdue = Vec::new();
        for _ in 0..waiting.len() {
            let Some(ticket) = waiting.pop_front() else { break };
            if due(&ticket) {
                overdue.push(ticket);
            } else {
                waiting.push_back(ticket);
            }
        }
        (overdue, waiting.iter().map(|ticket| ticket.lease.start_by).min())
    }

    /// No runner gets another job.
    pub(crate) fn stop_runners(&self) {
        self.ready.close();
    }

    /// The jobs that wait for a runner, of which there are none any more.
    pub(crate) fn take_waiting(&self) -> VecDeque<Ticket> {
        std::mem::take(&mut *lock(&self.waiting))
    }

    /// Sends the end of an attempt on its way.
    pub(crate) fn end(&self, lease: Arc<Lease>, end: End) {
        self.done(&lease);
        self.outbox.post(Letter::End { lease, end });
    }

    /// A handler is done whose lease is lost: there is nothing to tell.
    pub(crate) fn end_lost(&self, lease: &Lease) {
        self.done(lease);
        self.counts.count_lost();
        self.let_go(std::iter::once(lease));
    }

    fn done(&self, lease: &Lease) {
        lease.end();
        self.open.fetch_sub(1, Ordering::AcqRel);
        self.room.notify_one();
    }

    /// The store has answered these ends, or will not be asked any more.
    pub(crate) fn let_go<'a>(&self, leases: impl Iterator<Item = &'a Lease>) {
        let mut held = lock(&self.held);
        for lease in leases {
            held.remove(&lease.token);
        }
        drop(held);
        self.room.notify_one();
    }

    /// Every lease whose handler is not done.
    pub(crate) fn open_leases(&self) -> Vec<Arc<Lease>> {
        lock(&self.held).values().filter(|lease| !lease.has_ended()).cloned().collect()
    }

    /// Tells every handler to stop.
    pub(crate) fn signal_all(&self, reason: CancelReason) {
        for lease in self.open_leases() {
            lease.signal(reason);
        }
    }
}
