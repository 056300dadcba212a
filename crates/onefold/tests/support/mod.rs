//! What the tests of the library share: stores in memory, watched.

#![allow(dead_code, reason = "not every test uses everything")]

#[path = "../../../runtime/tests/support/mod.rs"]
pub(crate) mod watched;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use onefold::{JobId, JobView, Onefold, State};
use onefold_core::reference::ReferenceEngine;
use onefold_core::{Engine, EngineError};
use onefold_runtime::{SystemEntropy, TokioClock};
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
