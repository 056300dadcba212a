//! What the tests of the library share: stores in memory, watched.

#![allow(dead_code, reason = "not every test uses everything")]

#[path = "../../../runtime/tests/support/mod.rs"]
pub(crate) mod watched;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use onefold::{Error, JobId, JobView, Onefold, ReadyWorker, Refusal, State, WorkerReport};
use onefold_core::reference::ReferenceEngine;
use onefold_core::{Clock, Engine, EngineError};
use onefold_runtime::{SystemEntropy, TokioClock};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use watched::{Call, Watched};

/// A store in memory whose engine is wrapped.
pub(crate) fn store(wrap: impl FnOnce(Arc<dyn Engine>) -> Watched) -> Onefold {
    let clock = Arc::new(TokioClock::new());
    let engine = ReferenceEngine::new(clock.clone(), Arc::new(SystemEntropy));
    Onefold::with_engine(Arc::new(wrap(Arc::new(engine))), clock)
}

/// A store in memory whose calls are seen by `before`, which may refuse them.
pub(crate) fn watched(
    before: impl Fn(&Call<'_>) -> Result<(), EngineError> + Send + Sync + 'static,
) -> Onefold {
    store(|engine| Watched::new(engine, before))
}

/// Measures paused time.
pub(crate) struct Stopwatch(TokioClock);

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        Stopwatch(TokioClock::new())
    }
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.monotonic().into()
    }
}

/// Lets time pass, on paused time at once.
pub(crate) async fn pass(time: Duration) {
    let _ = timeout(time, pending::<()>()).await;
}

/// Waits until a job is in a state. Looks again whenever anything happens in the store.
pub(crate) async fn when(onefold: &Onefold, id: JobId, state: State) -> JobView {
    let engine = Arc::clone(onefold.runtime().unwrap().engine());
    let mut cursor = 0;
    let reached = async {
        loop {
            let page =
                engine.events(onefold_core::EventsParams { after: cursor, limit: 1_000 }).await.unwrap();
            cursor = page.next;
            let view = onefold.get(id).await.unwrap().unwrap();
            if view.state == state {
                return view;
            }
            engine.events_after(cursor).await.unwrap();
        }
    };
    match timeout(Duration::from_secs(3_600), reached).await {
        Ok(view) => view,
        Err(_elapsed) => panic!("{id} did not become {state}: {:?}", onefold.get(id).await),
    }
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A worker in a task of its own.
pub(crate) struct Running {
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<Result<WorkerReport, Error>>,
}

impl Running {
    pub(crate) fn start(worker: ReadyWorker) -> Running {
        let (stop, stopped) = oneshot::channel();
        let run = worker.run_until(async {
            let _ = stopped.await;
        });
        Running { stop, task: tokio::spawn(run) }
    }

    pub(crate) async fn stop(self) -> WorkerReport {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap()
    }
}

pub(crate) fn lease_lost<T: std::fmt::Debug>(outcome: Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Refused(Refusal::LeaseLost { .. })))
}

pub(crate) async fn add(onefold: &Onefold, payload: u64) -> JobId {
    onefold.queue::<u64>("q").add(payload).await.unwrap().id
}

pub(crate) async fn add_many(onefold: &Onefold, count: u64) -> Vec<JobId> {
    let added = onefold.queue::<u64>("q").add_many(0..count).await.unwrap();
    added.into_iter().map(|added| added.unwrap().id).collect()
}
