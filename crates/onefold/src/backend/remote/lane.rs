//! Single adds to one queue: those made while a request is on its way go together in the next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onefold_core::{Added, limits};
use tokio::sync::oneshot;

use super::Remote;
use crate::Error;
use crate::backend::Outcome;

/// A request stops growing beyond this; its first job always goes.
const REQUEST_BYTES: usize = 8 * 1024 * 1024;

/// A job as JSON, and who waits for its outcome.
struct Passenger {
    job: Vec<u8>,
    outcome: Waiter,
}

type Waiter = oneshot::Sender<Outcome<Added>>;

/// An array of jobs, and who waits for the outcome of each.
struct Request {
    body: Vec<u8>,
    outcomes: Vec<Waiter>,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Passenger>,
    /// A task is sending.
    busy: bool,
}

#[derive(Default)]
pub(super) struct Lane {
    inner: Mutex<Inner>,
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job to `path`. Order is kept: of two adds the one called first is accepted first.
    pub(super) async fn add(
        self: Arc<Lane>,
        remote: Arc<Remote>,
        path: String,
        job: Vec<u8>,
    ) -> Outcome<Added> {
        let (outcome, added) = oneshot::channel();
        let idle = {
            let mut inner = self.lock();
            inner.waiting.push_back(Passenger { job, outcome });
            !std::mem::replace(&mut inner.busy, true)
        };
        // In a task of its own: whoever waits may go away, the others' jobs must still be sent.
        if idle {
            tokio::spawn(self.send_all(remote, path));
        }
        added.await.unwrap_or_else(|_gone| Err(Error::Unreachable("the client was shut down".to_owned())))
    }

    async fn send_all(self: Arc<Lane>, remote: Arc<Remote>, path: String) {
        while let Some(Request { body, outcomes }) = self.next_request() {
            let answered = remote.send_jobs(&path, body, outcomes.len()).await;
            match answered {
                Ok(added) => outcomes.into_iter().zip(added).for_each(|(waiter, outcome)| {
                    // Whoever waited may have gone away.
                    let _ = waiter.send(outcome);
                }),
                Err(error) => outcomes.into_iter().for_each(|waiter| {
                    let _ = waiter.send(Err(error.clone()));
                }),
            }
        }
    }

    /// The next request; `None`, and no longer busy, if there is nothing to send.
    fn next_request(&self) -> Option<Request> {
        let mut inner = self.lock();
        let mut body = Vec::with_capacity(inner.waiting.iter().take(64).map(|p| p.job.len() + 1).sum());
        let mut outcomes = Vec::new();
        while let Some(next) = inner.waiting.front() {
            let full = outcomes.len() == limits::ADD_JOBS_MAX || body.len() + next.job.len() > REQUEST_BYTES;
            if full && !outcomes.is_empty() {
                break;
            }
            let Some(Passenger { job, outcome }) = inner.waiting.pop_front() else { break };
            body.push(if outcomes.is_empty() { b'[' } else { b',' });
            body.extend_from_slice(&job);
            outcomes.push(outcome);
        }
        inner.busy = !outcomes.is_empty();
        if outcomes.is_empty() {
            return None;
        }
        body.push(b']');
        Some(Request { body, outcomes })
    }
}
