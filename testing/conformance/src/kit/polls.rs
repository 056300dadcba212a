//! Parked calls for jobs.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use onefold_core::{EngineResult, LeaseParams, LeasedJob};

use crate::{Harness, Lease};

/// A parked call for jobs. Dropping it takes it back.
pub struct ParkedPoll {
    future: Pin<Box<dyn Future<Output = EngineResult<Vec<LeasedJob>>> + Send>>,
}

impl ParkedPoll {
    /// Waits for its answer.
    pub async fn answer(self) -> Vec<LeasedJob> {
        self.result().await.unwrap()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn result(self) -> EngineResult<Vec<LeasedJob>> {
        self.future.await
    }

    /// Waits for its answer, which must be one job.
    pub async fn job(self) -> Lease {
        let answer = self.answer().await;
        assert_eq!(answer.len(), 1, "{answer:?}");
        Lease::from(&answer[0])
    }

    /// The answer, if it is there already.
    pub async fn peek(&mut self) -> Option<EngineResult<Vec<LeasedJob>>> {
        peek(self.future.as_mut()).await
    }
}

/// Polls once: the value, if it is there already.
pub async fn peek<T>(mut future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

impl<'a> dyn Harness + 'a {
    /// Calls for jobs, which must not be there, and waits until the engine has parked the call.
    pub async fn park(&self, params: LeaseParams) -> ParkedPoll {
        let engine = self.engine();
        let before = engine.stats().await.unwrap().parked_polls;
        let mut poll = self.send(params);
        assert_eq!(poll.peek().await, None, "an answer without parking");
        while engine.stats().await.unwrap().parked_polls <= before {
            assert_eq!(poll.peek().await, None, "an answer without parking");
            tokio::task::yield_now().await;
        }
        poll
    }

    /// Prepares a call for jobs, to be awaited later.
    pub fn send(&self, params: LeaseParams) -> ParkedPoll {
        let engine = self.engine();
        ParkedPoll { future: Box::pin(async move { engine.lease(params).await }) }
    }
}
