//! Calls that wait for a row of somebody's open transaction, each by itself: what can be done is done, and only who needs
//! that row is told that it is in use.

use std::ops::Range;
use std::time::Duration;

use onefold_core::{
    AddParams, Added, BoxFuture, EffectOp, EffectRefusal, EffectResult, EngineError, EngineResult,
    ItemResult, NewJob, Refusal, SettleOp, Settled,
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
    let in_use = |item: usize| jobs.get(item).is_some_and(holds_key).then_some(Err(Refusal::KeyInProgress));
    let add = |items: Range<usize>, wait| -> Part<'_, _> {
        let part = jobs.get(items).unwrap_or_default().to_vec();
        let part = AddParams { queue: queue.clone(), jobs: part, atomic: false };
        Box::pin(async move {
            let calls = &[&part];
            let done = commit!(node, within Some(wait), |work| ops::add::add(work, calls));
            done.map(|mut done| done.pop().unwrap_or_default())
        })
    };
    in_halves(node, jobs.len(), add, in_use).await
}

/// Does what the holders of leases say.
pub(crate) async fn settle(node: &Node, ops: &[SettleOp]) -> EngineResult<Vec<ItemResult<Settled>>> {
    let settle = |items: Range<usize>, wait| -> Part<'_, _> {
        let part = ops.get(items).unwrap_or_default();
        Box::pin(async move { commit!(node, within Some(wait), |work| ops::settle::settle(work, part)) })
    };
    in_halves(node, ops.len(), settle, |_| Some(Err(Refusal::JobInProgress))).await
}

/// Does what is asked for with effects.
pub(crate) async fn effects(node: &Node, ops: &[EffectOp]) -> EngineResult<Vec<EffectResult>> {
    let apply = |items: Range<usize>, wait| -> Part<'_, _> {
        let part = ops.get(items).unwrap_or_default();
        Box::pin(async move { commit!(node, within Some(wait), |work| ops::effects::apply(work, part)) })
    };
    in_halves(node, ops.len(), apply, |_| Some(Err(EffectRefusal::JobInProgress))).await
}

/// Some items of a call being done, for as long as locks may be waited for.
type Part<'c, T> = BoxFuture<'c, Result<Vec<T>, Failed>>;

/// Does the items of a call together, and in halves where somebody's transaction is in the way, until those stand alone
/// that it is in the way of: `in_use` says what they are told, `None` if it cannot be their own row that is held.
async fn in_halves<'c, T>(
    node: &Node,
    count: usize,
    part: impl Fn(Range<usize>, Duration) -> Part<'c, T>,
    in_use: impl Fn(usize) -> Option<T>,
) -> EngineResult<Vec<T>> {
    let until = node.locks_until();
    let mut outcomes = Vec::with_capacity(count);
    let mut left = Halves::of(count);
    while let Some(items) = left.next() {
        let wait = node.patience(&items, until).await?;
        match part(items.clone(), wait.length).await {
            Ok(done) => outcomes.extend(done),
            Err(Failed::Locked) if items.len() > 1 => left.split(items),
            Err(failed) => match in_use(items.start).filter(|_| matches!(failed, Failed::Locked)) {
                Some(told) => outcomes.push(told),
                None => return Err(or_told_before(failed, &outcomes)),
            },
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
