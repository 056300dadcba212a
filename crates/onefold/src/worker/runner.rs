//! Runs handlers, one at a time each; a worker has as many runners as its concurrency.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use onefold_core::End;
use tokio::time::Sleep;

use super::context::Context;
use super::lease::{CancelReason, Lease};
use super::outcome;
use super::shared::{Shared, Ticket};
use crate::add::BoxFuture;
use crate::backend::Leased;
use crate::time::to_std;

/// A handler with its types taken away: from a leased job to the end of its attempt.
pub(crate) type Handler = Arc<dyn Fn(Leased, Context) -> BoxFuture<End> + Send + Sync>;

/// How a handler ended.
enum Ran {
    Returned(End),
    Panicked(Box<dyn Any + Send>),
    /// It was told to stop and did not in time.
    Dropped,
}

pub(crate) async fn run(shared: Arc<Shared>, handler: Handler) {
    while let Some(Ticket { job, lease }) = shared.next_job().await {
        // Given up while it waited.
        if lease.must_stop() {
            finish(&shared, lease, Ran::Dropped);
            continue;
        }
        let context = Context::new(Arc::clone(&shared), Arc::clone(&lease), &job);
        let ran = supervise(&shared, &lease, || handler(job, context)).await;
        finish(&shared, lease, ran);
    }
}

/// Runs a handler until it returns, panics, or has to be dropped.
async fn supervise(shared: &Shared, lease: &Lease, start: impl FnOnce() -> BoxFuture<End>) -> Ran {
    let mut handler = match catch_unwind(AssertUnwindSafe(start)) {
        Ok(handler) => handler,
        Err(panic) => return Ran::Panicked(panic),
    };
    let mut last_moment: Option<Pin<Box<Sleep>>> = None;
    let ran = poll_fn(|task| {
        lease.wake_on_signal(task.waker());
        match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(task))) {
            Ok(Poll::Ready(end)) => return Poll::Ready(Ran::Returned(end)),
            Err(panic) => return Poll::Ready(Ran::Panicked(panic)),
            Ok(Poll::Pending) => {}
        }
        if lease.must_stop() { poll_last_moment(shared, &mut last_moment, task) } else { Poll::Pending }
    })
    .await;
    // What the handler holds may panic when it is dropped.
    match catch_unwind(AssertUnwindSafe(|| drop(handler))) {
        Ok(()) => ran,
        Err(panic) => Ran::Panicked(panic),
    }
}

fn poll_last_moment(
    shared: &Shared,
    last_moment: &mut Option<Pin<Box<Sleep>>>,
    task: &mut TaskContext<'_>,
) -> Poll<Ran> {
    let margin = to_std(shared.config.margin());
    let last_moment = last_moment.get_or_insert_with(|| Box::pin(tokio::time::sleep(margin)));
    last_moment.as_mut().poll(task).map(|()| Ran::Dropped)
}

fn finish(shared: &Shared, lease: Arc<Lease>, ran: Ran) {
    let end = match ran {
        Ran::Returned(end) => outcome::fit(end),
        Ran::Panicked(panic) => outcome::fit(outcome::panicked(panic.as_ref())),
        Ran::Dropped => End::Release,
    };
    // After a lost lease only success is told: the store may still take it, and if not it keeps
    // it as evidence that the work was done twice (I5).
    let lost = lease.cancelled() == Some(CancelReason::LeaseLost);
    if lost && !matches!(end, End::Complete { .. }) {
        shared.end_lost(&lease);
    } else {
        shared.end(lease, end);
    }
}
