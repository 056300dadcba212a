//! What the writer lets others see after each commit, and who waits for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use onefold_core::promise::{Promise, Resolver, promise};
use onefold_core::{EventCursor, QueueName, QueueSettings, Starts};

use crate::writer::queue::Queue;

/// A queue as readers see it.
#[derive(Debug, Clone)]
pub(crate) struct QueueSeen {
    pub(crate) name: QueueName,
    pub(crate) settings: Arc<QueueSettings>,
    pub(crate) running: u64,
    pub(crate) starts: Starts,
}

impl QueueSeen {
    pub(crate) fn of(queue: &Queue) -> QueueSeen {
        QueueSeen {
            name: queue.name.clone(),
            settings: Arc::clone(&queue.settings),
            running: queue.counts.running,
            starts: queue.starts.clone(),
        }
    }
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Shared {
    queues: RwLock<HashMap<i64, QueueSeen>>,
    last_event: AtomicU64,
    /// Counts commits after which there may have been a delivery to lease.
    deliveries: Mutex<(u64, Vec<Resolver<u64>>)>,
    finished_waiting: AtomicUsize,
    finished: Mutex<HashMap<u64, Vec<Resolver<()>>>>,
    events: Mutex<Vec<(EventCursor, Resolver<()>)>>,
    /// What the writer's connection prepares now is the user's.
    pub(crate) users_statements: Arc<AtomicBool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn queue(&self, id: i64) -> Option<QueueSeen> {
        self.queues.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn queue_name(&self, id: i64) -> Option<QueueName> {
        self.queues.read().unwrap_or_else(PoisonError::into_inner).get(&id).map(|queue| queue.name.clone())
    }

    /// Shows a queue as it is now, `None` if it is gone.
    pub(crate) fn show_queue(&self, id: i64, queue: Option<QueueSeen>) {
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        match queue {
            Some(queue) => queues.insert(id, queue),
            None => queues.remove(&id),
        };
    }

    /// Resolves when the job is reported finished. Ask first, then look whether it is already.
    pub(crate) fn wait_finished(&self, seq: u64) -> Promise<()> {
        let (resolver, promise) = promise();
        let mut waiting = lock(&self.finished);
        // Those who gave up are swept out as others come.
        if waiting.len() >= 64 && waiting.len().is_power_of_two() {
            waiting.retain(|_, waiters| {
                waiters.retain(|waiter| !waiter.is_abandoned());
                !waiters.is_empty()
            });
        }
        waiting.entry(seq).or_default().push(resolver);
        self.finished_waiting.store(waiting.len(), Ordering::SeqCst);
        promise
    }

    pub(crate) fn tell_finished(&self, seqs: &[u64]) {
        if self.finished_waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut told = Vec::new();
        let mut waiting = lock(&self.finished);
        for seq in seqs {
            told.extend(waiting.remove(seq).unwrap_or_default());
        }
        self.finished_waiting.store(waiting.len(), Ordering::SeqCst);
        drop(waiting);
        for waiter in told {
            let _ = waiter.resolve(());
        }
    }

    /// Resolves when there may be a delivery to lease that was not there when `seen` was told.
    pub(crate) fn wait_deliveries(&self, seen: u64) -> Promise<u64> {
        let (resolver, promise) = promise();
        let mut deliveries = lock(&self.deliveries);
        if deliveries.0 > seen {
            let _ = resolver.resolve(deliveries.0);
        } else {
            deliveries.1.retain(|waiter| !waiter.is_abandoned());
            deliveries.1.push(resolver);
        }
        promise
    }

    pub(crate) fn tell_deliveries(&self) {
        let mut deliveries = lock(&self.deliveries);
        deliveries.0 += 1;
        let (count, waiting) = (deliveries.0, std::mem::take(&mut deliveries.1));
        drop(deliveries);
        for waiter in waiting {
            let _ = waiter.resolve(count);
        }
    }

    /// Resolves when there is an event after `cursor`.
    pub(crate) fn wait_event(&self, cursor: EventCursor) -> Promise<()> {
        let (resolver, promise) = promise();
        let mut waiting = lock(&self.events);
        if self.last_event.load(Ordering::SeqCst) > cursor {
            let _ = resolver.resolve(());
        } else {
            waiting.retain(|(_, waiter)| !waiter.is_abandoned());
            waiting.push((cursor, resolver));
        }
        promise
    }

    pub(crate) fn tell_last_event(&self, last: EventCursor) {
        if self.last_event.swap(last, Ordering::SeqCst) == last {
            return;
        }
        let mut waiting = lock(&self.events);
        if waiting.is_empty() {
            return;
        }
        let (told, others): (Vec<_>, Vec<_>) = waiting.drain(..).partition(|(cursor, _)| *cursor < last);
        *waiting = others;
        drop(waiting);
        for (_, waiter) in told {
            let _ = waiter.resolve(());
        }
    }

    /// The store closed: nobody waits any more.
    pub(crate) fn close(&self) {
        lock(&self.finished).clear();
        lock(&self.events).clear();
        lock(&self.deliveries).1.clear();
    }
}
