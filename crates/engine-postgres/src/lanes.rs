//! Calls that come together go together: what waits while a transaction runs is the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onefold_core::promise::{Promise, Resolver, promise};
use onefold_core::{BoxFuture, EngineError, EngineResult};
use tokio::runtime::Handle;

use crate::node::Failed;

/// Calls that may wait for their transaction; more are refused.
const WAITING_MAX: usize = 10_000;

/// What a call asks for.
pub(crate) trait Call: Send + Sync + 'static {
    /// Its answer.
    type Answer: Send + 'static;

    /// How much of a transaction it takes.
    fn weight(&self) -> usize;
}

/// Does the calls of one transaction, all of them or none, and gives as many answers. It waits but a moment for rows that
/// somebody holds.
pub(crate) type Together<C> =
    Arc<dyn Fn(Arc<Vec<C>>) -> BoxFuture<'static, Result<Vec<<C as Call>::Answer>, Failed>> + Send + Sync>;

/// Does one call that could not be done with others, outside the lanes.
pub(crate) type Apart<C> =
    Arc<dyn Fn(C) -> BoxFuture<'static, EngineResult<<C as Call>::Answer>> + Send + Sync>;

struct Waiting<C: Call> {
    call: C,
    answer: Resolver<EngineResult<C::Answer>>,
}

struct Inner<C: Call> {
    waiting: Vec<Waiting<C>>,
    busy: usize,
}

/// Transactions of one kind, a few at a time.
pub(crate) struct Lanes<C: Call> {
    inner: Mutex<Inner<C>>,
    together: Together<C>,
    apart: Apart<C>,
    lanes: usize,
    /// Weight of one transaction at the most; a call that weighs more goes alone.
    full: usize,
    runtime: Handle,
}

impl<C: Call> Lanes<C> {
    pub(crate) fn new(
        lanes: usize,
        full: usize,
        runtime: Handle,
        together: Together<C>,
        apart: Apart<C>,
    ) -> Arc<Lanes<C>> {
        let inner = Mutex::new(Inner { waiting: Vec::new(), busy: 0 });
        Arc::new(Lanes { inner, together, apart, lanes, full, runtime })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<C>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a call, whether or not its answer is awaited.
    pub(crate) fn call(self: &Arc<Self>, call: C) -> Promise<EngineResult<C::Answer>> {
        let (answer, promised) = promise();
        let mut inner = self.lock();
        if inner.waiting.len() >= WAITING_MAX {
            drop(inner);
            let _ = answer.resolve(Err(EngineError::Busy));
            return promised;
        }
        inner.waiting.push(Waiting { call, answer });
        if inner.busy < self.lanes {
            inner.busy += 1;
            self.runtime.spawn(Arc::clone(self).work());
        }
        promised
    }

    /// What goes into the next transaction, in order of arrival; nothing when this lane is done.
    fn next(&self) -> Vec<Waiting<C>> {
        let mut inner = self.lock();
        let mut weight = 0;
        let fits = |waiting: &&Waiting<C>| {
            weight += waiting.call.weight();
            weight <= self.full
        };
        let count = inner.waiting.iter().take_while(fits).count().max(1).min(inner.waiting.len());
        if count == 0 {
            inner.busy -= 1;
        }
        inner.waiting.drain(..count).collect()
    }

    async fn work(self: Arc<Self>) {
        loop {
            let (calls, answers): (Vec<C>, Vec<_>) =
                self.next().into_iter().map(|waiting| (waiting.call, waiting.answer)).unzip();
            if calls.is_empty() {
                return;
            }
            let calls = Arc::new(calls);
            match (self.together)(Arc::clone(&calls)).await {
                Ok(done) => {
                    for (answer, done) in answers.into_iter().zip(done) {
                        // Nobody may be left to hear of it.
                        let _ = answer.resolve(Ok(done));
                    }
                }
                Err(Failed::Engine(error)) if answers.len() == 1 || !may_be_one_of_them(&error) => {
                    for answer in answers {
                        let _ = answer.resolve(Err(error.clone()));
                    }
                }
                // One of them cannot be done, or waits for somebody: each is on its own now, so that it keeps nobody,
                // nor the lane.
                Err(Failed::Locked | Failed::Engine(_)) => self.set_apart(calls, answers),
            }
        }
    }

    fn set_apart(&self, calls: Arc<Vec<C>>, answers: Vec<Resolver<EngineResult<C::Answer>>>) {
        let Ok(calls) = Arc::try_unwrap(calls) else {
            // Whoever still has them did not end, so there is no telling.
            for answer in answers {
                let _ = answer.resolve(Err(EngineError::OutcomeUnknown));
            }
            return;
        };
        for (call, answer) in calls.into_iter().zip(answers) {
            let done = (self.apart)(call);
            self.runtime.spawn(async move {
                let _ = answer.resolve(done.await);
            });
        }
    }
}

/// Whether an error may come from one call of several, and the others would do without it.
fn may_be_one_of_them(error: &EngineError) -> bool {
    match error {
        EngineError::Busy | EngineError::Io(_) | EngineError::Corrupt(_) => true,
        EngineError::DiskFull
        | EngineError::Poisoned(_)
        | EngineError::Unavailable(_)
        | EngineError::Closed
        | EngineError::OutcomeUnknown
        | EngineError::TokensExhausted => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// A call that waits for somebody.
    const LOCKED: usize = 13;

    struct Number(usize);

    impl Call for Number {
        type Answer = usize;
        fn weight(&self) -> usize {
            1
        }
    }

    /// Calls that wait go together, up to a full transaction. Whoever cannot be done with others, or waits for
    /// somebody, is set apart, and keeps neither the others nor the lane, even if it came alone.
    #[tokio::test]
    async fn what_waits_goes_together_and_what_fails_goes_alone() {
        let (gate, runs) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (gate_again, runs_again) = (Arc::clone(&gate), Arc::clone(&runs));
        let together: Together<Number> = Arc::new(move |calls: Arc<Vec<Number>>| {
            let (gate, runs) = (Arc::clone(&gate_again), Arc::clone(&runs_again));
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                runs.fetch_add(1, Ordering::Relaxed);
                if calls.iter().any(|call| call.0 == LOCKED) {
                    return Err(Failed::Locked);
                }
                Ok(calls.iter().map(|call| call.0 * 2).collect())
            })
        });
        let ended = Arc::new(Semaphore::new(0));
        let ended_again = Arc::clone(&ended);
        let apart: Apart<Number> = Arc::new(move |call: Number| {
            let ended = Arc::clone(&ended_again);
            Box::pin(async move {
                if call.0 == LOCKED {
                    ended.acquire().await.unwrap().forget();
                    return Err(EngineError::Busy);
                }
                Ok(call.0 * 2)
            })
        });
        let lanes = Lanes::new(1, 10, Handle::current(), together, apart);
        let first = lanes.call(Number(1));
        // The lane takes the first alone and waits at the gate; these come meanwhile.
        tokio::task::yield_now().await;
        let others: Vec<_> = (2..LOCKED).map(|number| lanes.call(Number(number))).collect();
        let locked = lanes.call(Number(LOCKED));
        gate.add_permits(100);
        assert_eq!(first.await, Some(Ok(2)));
        for (number, answer) in (2..).zip(others) {
            assert_eq!(answer.await, Some(Ok(number * 2)));
        }
        // 1, then 2 to 11, then 12 and 13 together, which then were set apart.
        assert_eq!(runs.load(Ordering::Relaxed), 3);
        let locked_alone = lanes.call(Number(LOCKED));
        assert_eq!(lanes.call(Number(20)).await, Some(Ok(40)), "the lane is free while it waits");
        ended.add_permits(2);
        assert_eq!(locked.await, Some(Err(EngineError::Busy)));
        assert_eq!(locked_alone.await, Some(Err(EngineError::Busy)));
    }
}
