//! Calls that wait for a row of somebody's open transaction, each by itself: what can be done is done, and only who needs
//! that row is told that it is in use.

use std::ops::Range;
use std::time::Duration;

use onefold_core::{
    AddParams, Added, EffectOp, EffectRefusal, EffectResult, EngineError, EngineResult, ItemResult, NewJob,
    Refusal, SettleOp, Settled,
};
use tokio::time::Instant;

use crate::engine::WAIT_TOGETHER;
use crate::node::{Failed, Node, Verdict, commit};
use crate::ops;

/// No wait for a lock is shorter: one that is free is not missed.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);

/// Adds the jobs of one call that is not atomic.
pub(crate) async fn add(node: &Node, params: AddParams) -> EngineResult<Vec<ItemResult<Added>>> {
    let (queue, jobs) = (&params.queue, &params.jobs);
    // So that a queue in somebody's open transaction is not taken for a key.
    commit!(node, |work| ops::add::make_queue(work, queue))?;
    let has_key = |item: usize| jobs.get(item).is_some_and(holds_key);
    let until = node.locks_until();
    let mut outcomes = Vec::with_capacity(jobs.len());
    let mut left = Halves::of(jobs.len());
    while let Some(items) = left.next() {
        let part = AddParams {
            queue: queue.clone(),
            jobs: jobs.get(items.clone()).unwrap_or_default().to_vec(),
            atomic: false,
        };
        let (calls, wait) = (&[&part], node.patience(&items, until).await?);
        match commit!(node, within Some(wait.length), |work| ops::add::add(work, calls)) {
            Ok(mut done) => outcomes.extend(done.pop().unwrap_or_default()),
            Err(Failed::Locked) if items.len() > 1 => left.split(items),
            Err(Failed::Locked) if has_key(items.start) => outcomes.push(Err(Refusal::KeyInProgress)),
            Err(failed) => return Err(or_told_before(failed, &outcomes)),
        }
    }
    Ok(outcomes)
}

/// Does what the holders of leases say.
pub(crate) async fn settle(node: &Node, ops: &[SettleOp]) -> EngineResult<Vec<ItemResult<Settled>>> {
    let until = node.locks_until();
    let mut outcomes = Vec::with_capacity(ops.len());
    let mut left = Halves::of(ops.len());
    while let Some(items) = left.next() {
        let part = ops.get(items.clone()).unwrap_or_default();
        let wait = node.patience(&items, until).await?;
        match commit!(node, within Some(wait.length), |work| ops::settle::settle(work, part)) {
            Ok(done) => outcomes.extend(done),
            Err(Failed::Locked) if items.len() > 1 => left.split(items),
            Err(Failed::Locked) => outcomes.push(Err(Refusal::JobInProgress)),
            Err(failed) => return Err(or_told_before(failed, &outcomes)),
        }
    }
    Ok(outcomes)
}

/// Does what is asked for with effects.
pub(crate) async fn effects(node: &Node, ops: &[EffectOp]) -> EngineResult<Vec<EffectResult>> {
    let until = node.locks_until();
    let mut outcomes = Vec::with_capacity(ops.len());
    let mut left = Halves::of(ops.len());
    while let Some(items) = left.next() {
        let part = ops.get(items.clone()).unwrap_or_default();
        let wait = node.patience(&items, until).await?;
        match commit!(node, within Some(wait.length), |work| ops::effects::apply(work, part)) {
            Ok(done) => outcomes.extend(done),
            Err(Failed::Locked) if items.len() > 1 => left.split(items),
            Err(Failed::Locked) => outcomes.push(Err(EffectRefusal::JobInProgress)),
            Err(failed) => return Err(or_told_before(failed, &outcomes)),
        }
    }
    Ok(outcomes)
}

/// Adds all jobs or none. It waits for a key alone, in a transaction that is taken back, so that it keeps nobody from its
/// other keys meanwhile.
pub(crate) async fn add_atomic(node: &Node, params: &AddParams) -> EngineResult<Vec<ItemResult<Added>>> {
    let until = node.locks_until();
    loop {
        let done = node.transact_or_locked(Some(WAIT_TOGETHER), |work, _| {
            Box::pin(async move { ops::add::add_atomic(work, params).await })
        });
        match done.await {
            Ok(outcomes) => return Ok(outcomes),
            Err(Failed::Locked) => {}
            Err(Failed::Engine(error)) => return Err(error),
        }
        for item in 0..params.jobs.len() {
            if !has_key(node, params, item, until).await? {
                let refused = ops::add::AtomicRefused { item, refusal: Refusal::KeyInProgress };
                return Ok(refused.outcomes(params.jobs.len()));
            }
        }
        if Instant::now() >= until {
            return Err(EngineError::Busy);
        }
    }
}

/// Whether an add could have its key, if it has one.
async fn has_key(node: &Node, params: &AddParams, item: usize, until: Instant) -> EngineResult<bool> {
    let Some(job) = params.jobs.get(item).filter(|job| holds_key(job)) else { return Ok(true) };
    let one = &AddParams { queue: params.queue.clone(), jobs: vec![job.clone()], atomic: false };
    let wait = node.patience(&(item..item + 1), until).await?;
    let tried = node.transact_or_locked(Some(wait.length), |work, _| {
        Box::pin(async move { Ok(Verdict::RollBack(ops::add::add_alone(work, one).await?.is_ok())) })
    });
    match tried.await {
        // Refused or not: it was not kept waiting.
        Ok(_) => Ok(true),
        Err(Failed::Locked) => Ok(false),
        Err(Failed::Engine(error)) => Err(error),
    }
}

fn holds_key(job: &NewJob) -> bool {
    job.spec.key.is_some() || job.request.is_some()
}

/// What was done of a call before the rest failed is durable, and nobody could tell which part: so the outcome of the
/// call as a whole is not known. Repeating it with its keys is safe.
fn or_told_before<T>(failed: Failed, outcomes: &[T]) -> EngineError {
    match failed {
        Failed::Engine(error @ EngineError::Closed) => error,
        failed if outcomes.is_empty() => failed.or_busy(),
        Failed::Locked | Failed::Engine(_) => EngineError::OutcomeUnknown,
    }
}

/// How long to wait for a lock, and the right to do so.
pub(crate) struct Patience<'n> {
    pub(crate) length: Duration,
    _permit: Option<tokio::sync::SemaphorePermit<'n>>,
}

impl Node {
    pub(crate) fn locks_until(&self) -> Instant {
        Instant::now() + self.lock_wait()
    }

    /// One item may wait until then, several but a moment. Few may wait long, so that the pool has connections for all
    /// others.
    pub(crate) async fn patience(&self, items: &Range<usize>, until: Instant) -> EngineResult<Patience<'_>> {
        let left = until.saturating_duration_since(Instant::now());
        if items.len() > 1 || left <= WAIT_TOGETHER {
            return Ok(Patience { length: left.min(WAIT_TOGETHER).max(SHORTEST_WAIT), _permit: None });
        }
        let permit = match tokio::time::timeout_at(until, self.waits_long.acquire()).await {
            Ok(Ok(permit)) => Some(permit),
            Ok(Err(_)) => return Err(EngineError::Closed),
            Err(_) => None,
        };
        let left = until.saturating_duration_since(Instant::now());
        Ok(Patience { length: left.max(SHORTEST_WAIT), _permit: permit })
    }
}

/// Parts of a call still to be done, first ones first.
struct Halves(Vec<Range<usize>>);

impl Halves {
    #[allow(clippy::single_range_in_vec_init, reason = "one part to begin with")]
    fn of(len: usize) -> Halves {
        Halves(vec![0..len])
    }

    fn next(&mut self) -> Option<Range<usize>> {
        self.0.pop()
    }

    fn split(&mut self, part: Range<usize>) {
        let middle = part.start + part.len() / 2;
        self.0.push(middle..part.end);
        self.0.push(part.start..middle);
    }
}
