//! Leases jobs while there is room for them.

use std::sync::Arc;

use onefold_core::{DurationMs, LeaseParams, limits};

use super::lease::Lease;
use super::retry::Retry;
use super::shared::{Shared, Ticket};
use crate::Error;
use crate::backend::Leased;
use crate::time::to_std;

/// How long the store may take to answer the last two calls of a worker that stops.
const LAST_CALLS: std::time::Duration = std::time::Duration::from_secs(2);

pub(crate) async fn run(shared: Arc<Shared>) {
    let mut leaser = Leaser { retry: Retry::new(), poll: shared.onefold.entropy().next_u64(), shared };
    let stopping = leaser.shared.stopping.clone();
    loop {
        let room = tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            room = leaser.shared.room() => room,
        };
        leaser.poll = leaser.poll.wrapping_add(1);
        if !leaser.call(room).await {
            return;
        }
    }
}

struct Leaser {
    shared: Arc<Shared>,
    retry: Retry,
    poll: u64,
}

impl Leaser {
    /// One call, repeated under its poll id until it is answered. Whether to go on.
    async fn call(&mut self, room: usize) -> bool {
        let shared = Arc::clone(&self.shared);
        let first_asked_at = shared.clock().monotonic();
        loop {
            let asked_at = shared.clock().monotonic();
            let mut leasing = shared.backend().lease(self.params(room, shared.config.wait()));
            let answer = tokio::select! {
                biased;
                answer = &mut leasing => answer,
                () = shared.stopping.cancelled() => {
                    if shared.backend().repeats_polls() {
                        self.take_back(leasing).await;
                    }
                    return false;
                }
            };
            match answer {
                Ok(jobs) => {
                    let empty = jobs.is_empty();
                    // A repeated poll may get jobs that were leased for its first call.
                    self.take_in(jobs, first_asked_at);
                    return self.answered(empty, asked_at).await;
                }
                Err(error) if error.is_transient() || error.is_partial() => {
                    tracing::warn!(%error, "leasing failed; it is tried again");
                    if !self.pause().await {
                        return false;
                    }
                }
                Err(error) => {
                    shared.fail(error);
                    return false;
                }
            }
        }
    }

    fn params(&self, room: usize, wait: DurationMs) -> LeaseParams {
        let config = &self.shared.config;
        LeaseParams {
            queues: config.queues.clone(),
            max: u32::try_from(room).unwrap_or(u32::MAX).min(limits::LEASE_JOBS_MAX),
            lease: config.lease,
            worker: config.name.clone(),
            fair: config.fair,
            wait,
            poll: self.shared.backend().repeats_polls().then_some(self.poll),
        }
    }

    fn take_in(&self, jobs: Vec<Leased>, asked_at: DurationMs) {
        let got_at = self.shared.clock().monotonic();
        let length = self.shared.config.lease;
        let ticket = |job: Leased| {
            let lease = Lease::new(job.id, job.token, asked_at, got_at, length, job.timeout);
            Ticket { job, lease: Arc::new(lease) }
        };
        self.shared.take_in(jobs.into_iter().map(ticket).collect());
    }

    /// A store that drains answers at once with nothing: it is not asked in a loop. Whether to
    /// go on.
    async fn answered(&mut self, empty: bool, asked_at: DurationMs) -> bool {
        let took = self.shared.clock().monotonic().saturating_sub(asked_at);
        if empty && took.as_ms() < self.shared.config.wait().as_ms() / 2 {
            return self.pause().await;
        }
        self.retry.succeeded();
        true
    }

    async fn pause(&mut self) -> bool {
        let pause = self.retry.pause(self.shared.onefold.entropy());
        tokio::select! {
            () = tokio::time::sleep(to_std(pause)) => true,
            () = self.shared.stopping.cancelled() => false,
        }
    }

    /// Ends a parked call by repeating it without a wait, so that no job is handed out to nobody.
    /// What either call got goes to those that wait for a runner, which the worker gives back next.
    async fn take_back(&self, leasing: impl Future<Output = Result<Vec<Leased>, Error>>) {
        let repeated = self.shared.backend().lease(self.params(1, DurationMs::ZERO));
        let both = async { tokio::join!(leasing, repeated) };
        let Ok((first, second)) = tokio::time::timeout(LAST_CALLS, both).await else { return };
        let mut jobs = first.unwrap_or_default();
        for job in second.unwrap_or_default() {
            if !jobs.iter().any(|known| known.token == job.token) {
                jobs.push(job);
            }
        }
        self.take_in(jobs, self.shared.clock().monotonic());
    }
}
