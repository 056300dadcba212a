//! The loop that delivers: leases jobs with an HTTP target, hands them to a [`Deliverer`], keeps their leases alive and
//! writes down what became of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use onefold_core::{
    BoxFuture, Clock, DeliveryParams, DurationMs, End, Engine, EngineError, FencingToken, ItemResult, JobId,
    Lane, LeasedJob, Refusal, SettleAction, SettleOp, Settled, WorkerName,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Length of the lease of a delivery. Short, so that a delivery whose server was killed is repeated soon.
const LEASE: DurationMs = DurationMs::from_ms(15_000);
/// Between two extensions of one.
const EXTEND_AFTER: DurationMs = DurationMs::from_ms(5_000);
/// How long the loop sleeps at the most: hints of other processes may not reach it, and waits in lanes are looked at.
const BACKSTOP: DurationMs = DurationMs::from_ms(1_000);
/// Between two tries to write down what became of a delivery, or to lease, while the store cannot.
const FIRST_BACKOFF: DurationMs = DurationMs::from_ms(50);
const LONGEST_BACKOFF: DurationMs = DurationMs::from_ms(2_000);

/// What delivers jobs: it knows targets, how many deliveries each may have, and what an answer means.
pub trait Deliverer: Send + Sync + 'static {
    /// What it could take now. Gives back through [`Deliverer::told`] what has waited here for too long.
    fn room(&self) -> Room;

    /// Takes a leased job. What became of it is told, once.
    fn take(&self, job: LeasedJob);

    /// What is to be written of deliveries, as soon as there is something: for each job some words about it, and an end.
    fn told(&self) -> BoxFuture<'_, Vec<SettleOp>>;

    /// Calls a delivery off whose lease is gone: nothing is told of it any more.
    fn call_off(&self, job: JobId, token: FencingToken);

    /// Gives back a job that still waits for its turn, if it does, because a cancel was asked for.
    fn give_back(&self, job: JobId, token: FencingToken);

    /// Starts nothing more and gives back what waits. What runs goes on.
    fn drain(&self);

    /// Brings what is kept durably for it up to date, and looks for changes somebody else made.
    fn refresh(&self) -> BoxFuture<'_, ()>;
}

/// What a [`Deliverer`] could take.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// Jobs in all.
    pub max: u32,
    /// Jobs of a lane that is not in `lanes`.
    pub per_lane: u32,
    /// Jobs of these lanes.
    pub lanes: HashMap<Lane, u32>,
    /// When there will be more room though nothing happened, by the monotonic clock.
    pub again_at: Option<DurationMs>,
}

/// Deliveries being made by this process.
///
/// Dropping it ends them; [`Deliveries::drain`] lets them end.
#[derive(Debug)]
pub struct Deliveries {
    drain: watch::Sender<Option<Duration>>,
    over: CancellationToken,
    stop: CancellationToken,
}

impl Deliveries {
    /// Starts delivering on the current tokio runtime, which needs its timers enabled. `clock` is the one the engine
    /// lives by; `worker` is who holds the leases, for people.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        deliverer: Arc<dyn Deliverer>,
        worker: WorkerName,
    ) -> Deliveries {
        let (drain, draining) = watch::channel(None);
        let (over, stop) = (CancellationToken::new(), CancellationToken::new());
        let backstop = BACKSTOP;
        let state = Loop {
            engine,
            clock,
            deliverer,
            worker,
            backstop,
            held: HashMap::new(),
            writing: JoinSet::new(),
            stop: stop.clone(),
        };
        let told = over.clone();
        tokio::spawn(async move {
            let _told_however_it_ends = told.drop_guard();
            state.run(draining).await;
        });
        Deliveries { drain, over, stop }
    }

    /// Leases no more, gives back what waits for its turn, and lets what runs end for up to `within`; what then still
    /// runs is called off and given back at no cost. Returns once all of that is written down.
    pub async fn drain(&self, within: Duration) {
        self.drain.send_replace(Some(within));
        self.over.cancelled().await;
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Loop {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    deliverer: Arc<dyn Deliverer>,
    worker: WorkerName,
    backstop: DurationMs,
    /// Leases that are kept alive, and when to extend them, by the monotonic clock.
    held: HashMap<(JobId, FencingToken), DurationMs>,
    /// What is being written.
    writing: JoinSet<Vec<Written>>,
    stop: CancellationToken,
}

/// What was to be written, and what came of it.
type Written = (SettleOp, ItemResult<Settled>);

/// Why the loop ends: nothing can be leased or written any more.
struct StoreGone;

impl Loop {
    async fn run(mut self, mut draining: watch::Receiver<Option<Duration>>) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            within = self.deliver(&mut draining) => {
                if let Ok(within) = within {
                    self.wind_up(within).await;
                }
            }
        }
    }

    /// Delivers until it is to drain. Gives how long that may take.
    async fn deliver(
        &mut self,
        draining: &mut watch::Receiver<Option<Duration>>,
    ) -> Result<Duration, StoreGone> {
        let (engine, deliverer) = (Arc::clone(&self.engine), Arc::clone(&self.deliverer));
        let (mut seen, mut failing) = (0, 0);
        let mut look = true;
        let mut refreshed: Option<DurationMs> = None;
        loop {
            let now = self.clock.monotonic();
            if refreshed.is_none_or(|last| now.saturating_sub(last) >= self.backstop) {
                deliverer.refresh().await;
                refreshed = Some(now);
            }
            let room = deliverer.room();
            let mut wait = self.backstop;
            if look && room.max > 0 {
                match self.lease(&room).await {
                    Ok(may_be_more) => (look, failing) = (may_be_more, 0),
                    Err(EngineError::Closed | EngineError::Poisoned(_)) => return Err(StoreGone),
                    Err(error) => {
                        tracing::warn!(%error, "no deliveries can be leased; it is tried again");
                        failing += 1;
                        wait = backoff(failing);
                    }
                }
                // Whoever has room still goes on at once.
                if look && failing == 0 && deliverer.room().max > 0 {
                    continue;
                }
            }
            let now = self.clock.monotonic();
            self.extend(now);
            let again = room.again_at.into_iter().chain(self.held.values().copied()).min();
            let until_again = again.map_or(wait, |at| at.saturating_sub(now).max(DurationMs::from_ms(1)));
            tokio::select! {
                within = told_to_drain(draining) => return Ok(within),
                ops = deliverer.told() => {
                    self.write(ops);
                    look = true;
                }
                hint = engine.deliveries_after(seen), if failing == 0 && !look => (seen, look) = (hint, true),
                Some(written) = self.writing.join_next() => self.written(written.unwrap_or_default()),
                () = sleep(wait.min(until_again).into()) => look = true,
            }
        }
    }

    /// Leases what there is room for. Whether there may be more.
    async fn lease(&mut self, room: &Room) -> Result<bool, EngineError> {
        let params = DeliveryParams {
            max: room.max,
            per_lane: room.per_lane,
            room: room.lanes.clone(),
            lease: LEASE,
            worker: self.worker.clone(),
        };
        let leased = self.engine.lease_deliveries(params).await?;
        let extend_at = self.clock.monotonic().saturating_add(EXTEND_AFTER);
        let count = leased.len();
        for job in leased {
            if let Some(attempt) = job.attempt() {
                self.held.insert((job.job.id, attempt.token), extend_at);
                self.deliverer.take(job);
            }
        }
        Ok(count >= room.max as usize)
    }

    fn extend(&mut self, now: DurationMs) {
        let next = now.saturating_add(EXTEND_AFTER);
        let mut ops = Vec::new();
        for ((id, token), at) in self.held.iter_mut().filter(|(_, at)| **at <= now) {
            *at = next;
            ops.push(SettleOp { id: *id, token: *token, action: SettleAction::Extend(LEASE) });
        }
        if !ops.is_empty() {
            let engine = Arc::clone(&self.engine);
            // One that fails is made again with the next.
            self.writing.spawn(async move {
                let settled = engine.settle(ops.clone()).await.unwrap_or_default();
                ops.into_iter().zip(settled).collect()
            });
        }
    }

    /// Writes down what was told, trying again for as long as the store cannot.
    fn write(&mut self, ops: Vec<SettleOp>) {
        for op in &ops {
            if matches!(op.action, SettleAction::End(_)) {
                self.held.remove(&(op.id, op.token));
            }
        }
        let engine = Arc::clone(&self.engine);
        self.writing.spawn(async move {
            for failing in 1.. {
                match engine.settle(ops.clone()).await {
                    Ok(settled) => return ops.into_iter().zip(settled).collect(),
                    Err(EngineError::Closed | EngineError::Poisoned(_)) => break,
                    Err(error) => {
                        tracing::warn!(%error, "the end of deliveries cannot be written; it is tried again")
                    }
                }
                sleep(backoff(failing).into()).await;
            }
            Vec::new()
        });
    }

    fn written(&mut self, written: Vec<Written>) {
        for (op, outcome) in written {
            match outcome {
                Ok(settled) if settled.cancel && matches!(op.action, SettleAction::Extend(_)) => {
                    self.deliverer.give_back(op.id, op.token);
                }
                Ok(_) => {}
                Err(Refusal::JobInProgress) => {
                    // Somebody's transaction holds the job: the extension is made again, an end has to be.
                    if matches!(op.action, SettleAction::End(_)) {
                        self.write(vec![op]);
                    }
                }
                Err(refusal) => {
                    tracing::debug!(job = %op.id, %refusal, "the lease of a delivery is gone");
                    if self.held.remove(&(op.id, op.token)).is_some() {
                        self.deliverer.call_off(op.id, op.token);
                    }
                }
            }
        }
    }

    /// Lets what runs end, and gives the rest back.
    async fn wind_up(&mut self, within: Duration) {
        let deliverer = Arc::clone(&self.deliverer);
        deliverer.drain();
        let deadline = sleep(within);
        tokio::pin!(deadline);
        while !self.held.is_empty() {
            let now = self.clock.monotonic();
            self.extend(now);
            let next = self.held.values().copied().min().map_or(self.backstop, |at| at.saturating_sub(now));
            tokio::select! {
                () = &mut deadline => break,
                ops = deliverer.told() => self.write(ops),
                Some(written) = self.writing.join_next() => self.written(written.unwrap_or_default()),
                () = sleep(next.max(DurationMs::from_ms(1)).into()) => {}
            }
        }
        let rest: Vec<SettleOp> = self
            .held
            .keys()
            .map(|(id, token)| SettleOp { id: *id, token: *token, action: SettleAction::End(End::Release) })
            .collect();
        if !rest.is_empty() {
            tracing::info!(deliveries = rest.len(), "deliveries that did not end in time are given back");
            rest.iter().for_each(|op| deliverer.call_off(op.id, op.token));
            self.write(rest);
        }
        while let Some(written) = self.writing.join_next().await {
            self.written(written.unwrap_or_default());
        }
        deliverer.refresh().await;
    }
}

async fn told_to_drain(draining: &mut watch::Receiver<Option<Duration>>) -> Duration {
    let within = draining.wait_for(Option::is_some).await.map(|within| *within);
    match within {
        Ok(within) => within.unwrap_or_default(),
        // Whoever could tell is gone, and stops the loop in another way.
        Err(_) => std::future::pending().await,
    }
}

fn backoff(failing: u32) -> DurationMs {
    let doubled = FIRST_BACKOFF.as_ms() << failing.saturating_sub(1).min(16);
    DurationMs::from_ms(doubled.min(LONGEST_BACKOFF.as_ms()))
}
