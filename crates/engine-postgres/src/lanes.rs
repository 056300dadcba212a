//! Calls that come together go together: what waits while a transaction runs is the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onefold_core::promise::{Promise, Resolver, promise};
use onefold_core::{BoxFuture, EngineError, EngineResult};
use tokio::runtime::Handle;

/// Calls that may wait for their transaction; more are refused.
const WAITING_MAX: usize = 10_000;

/// What a call asks for.
pub(crate) trait Call: Send + Sync + 'static {
    /// Its answer.
    type Answer: Send + 'static;

    /// How much of a transaction it takes.
    fn weight(&self) -> usize;
}

type Run<C> =
    Arc<dyn Fn(Arc<Vec<C>>) -> BoxFuture<'static, EngineResult<Vec<<C as Call>::Answer>>> + Send + Sync>;

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
    run: Run<C>,
    lanes: usize,
    /// Weight of one transaction at the most; a call that weighs more goes alone.
    full: usize,
    runtime: Handle,
}

impl<C: Call> Lanes<C> {
    /// `run` does the calls of one transaction, all of them or none, and gives as many answers.
    pub(crate) fn new(lanes: usize, full: usize, runtime: Handle, run: Run<C>) -> Arc<Lanes<C>> {
        let inner = Mutex::new(Inner { waiting: Vec::new(), busy: 0 });
        Arc::new(Lanes { inner, run, lanes, full, runtime })
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
            match (self.run)(Arc::clone(&calls)).await {
                Ok(done) => {
                    for (answer, done) in answers.into_iter().zip(done) {
                        // Nobody may be left to hear of it.
                        let _ = answer.resolve(Ok(done));
                    }
                }
                Err(error) if answers.len() == 1 || !may_be_one_of_them(&error) => {
                    for answer in answers {
                        let _ = answer.resolve(Err(error.clone()));
                    }
                }
                // One of them cannot be done, or waits for somebody: each is on its own now, so that it keeps nobody.
                Err(_) => self.apart(calls, answers),
            }
        }
    }

    fn apart(&self, calls: Arc<Vec<C>>, answers: Vec<Resolver<EngineResult<C::Answer>>>) {
        let Ok(calls) = Arc::try_unwrap(calls) else {
            // Whoever still has them did not end, so there is no telling.
            for answer in answers {
                let _ = answer.resolve(Err(EngineError::OutcomeUnknown));
            }
            return;
        };
        for (call, answer) in calls.into_iter().zip(answers) {
            let run = Arc::clone(&self.run);
            self.runtime.spawn(async move {
                let done = run(Arc::new(vec![call]))
                    .await
                    .and_then(|mut done| done.pop().ok_or(EngineError::Closed));
                let _ = answer.resolve(done);
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

    struct Number(usize);

    impl Call for Number {
        type Answer = usize;
        fn weight(&self) -> usize {
            1
        }
    }

    /// Calls that wait go together, up to a full transaction, and one that cannot be done keeps nobody.
    #[tokio::test]
    async fn what_waits_goes_together_and_what_fails_goes_alone() {
        let (gate, runs) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (gate_again, runs_again) = (Arc::clone(&gate), Arc::clone(&runs));
        let run: Run<Number> = Arc::new(move |calls: Arc<Vec<Number>>| {
            let (gate, runs) = (Arc::clone(&gate_again), Arc::clone(&runs_again));
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                runs.fetch_add(1, Ordering::Relaxed);
                if calls.iter().any(|call| call.0 == 13) {
                    return Err(EngineError::Busy);
                }
                Ok(calls.iter().map(|call| call.0 * 2).collect())
            })
        });
        let lanes = Lanes::new(1, 10, Handle::current(), run);
        let first = lanes.call(Number(1));
        // The lane takes the first alone and waits at the gate; these come meanwhile.
        tokio::task::yield_now().await;
        let others: Vec<_> = (2..14).map(|number| lanes.call(Number(number))).collect();
        gate.add_permits(100);
        assert_eq!(first.await, Some(Ok(2)));
        for (number, answer) in (2..).zip(others) {
            let expected = if number == 13 { Err(EngineError::Busy) } else { Ok(number * 2) };
            assert_eq!(answer.await, Some(expected));
        }
        // 1, then 2 to 11, then 12 and 13 together, then each of those alone.
        assert_eq!(runs.load(Ordering::Relaxed), 5);
    }
}
