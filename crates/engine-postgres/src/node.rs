//! A node: connections, what it keeps in memory, and how a transaction is run.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onefold_core::{
    BoxFuture, Clock, DeliveryParams, DurationMs, End, EngineError, EngineResult, Entropy, LeaseParams,
    LeasedJob, QueueName, SettleAction, SettleOp,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use crate::Time;
use crate::engine::WAIT_TOGETHER;
use crate::error::{Fault, Outcome};
use crate::floors::Floors;
use crate::local::Local;
use crate::ops;
use crate::ops::lease::Given;
use crate::pool::Pool;
use crate::rows::LineNumber;
use crate::work::Work;

/// How often a transaction is tried that fails for no fault of its own.
const TRIES: u32 = 10;
/// Wait before the second try; doubled for each after it.
const FIRST_WAIT: Duration = Duration::from_millis(2);
/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Parked calls served by one transaction.
const SERVED_TOGETHER: usize = 64;
/// Locks that keep calls with the same poll id apart.
const POLL_LOCKS: usize = 64;

/// Once the database could not be reached for so long, callers hear of it.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(5);

/// Why a transaction was given up.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Somebody's open transaction holds a row it needs.
    Locked,
    Engine(EngineError),
}

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Failed {
        Failed::Engine(error)
    }
}

impl Failed {
    pub(crate) fn or_busy(self) -> EngineError {
        match self {
            Failed::Locked => EngineError::Busy,
            Failed::Engine(error) => error,
        }
    }
}

/// See the [module](self).
pub(crate) struct Node {
    pub(crate) pool: Arc<Pool>,
    pub(crate) local: Local,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) time: Time,
    pub(crate) runtime: Handle,
    pub(crate) name: String,
    pub(crate) serve_gap: Duration,
    /// How much later than due finished jobs and old keys may be deleted.
    pub(crate) retention_slack: DurationMs,
    /// Queues in which something may have become leasable; `None`: any of them.
    hints: Mutex<Option<BTreeSet<QueueName>>>,
    hinted: Notify,
    /// Somebody has reason to look around now.
    look: Notify,
    /// The line deliveries were last leased from.
    delivery_turn: Mutex<LineNumber>,
    serving: tokio::sync::Mutex<()>,
    polls: [tokio::sync::Mutex<()>; POLL_LOCKS],
    floors: Arc<Floors>,
    /// Jobs whose leases are still to get their full length again.
    unrenewed: Mutex<BTreeSet<i64>>,
    /// Held by calls that wait long for a row of somebody's open transaction.
    pub(crate) waits_long: Semaphore,
}

/// Tells the compiler that what an operation borrows (`'a`) outlives its use of the work (`'w`).
pub(crate) type Within<'w, 'a> = PhantomData<&'w &'a ()>;

/// Runs a transaction of one operation of `ops` and commits it.
macro_rules! commit {
    ($node:expr, within $wait:expr, |$work:ident| $operation:expr) => {
        $node
            .transact_or_locked($wait, |$work, _| {
                Box::pin(async move { $operation.await.map(Verdict::Commit) })
            })
            .await
    };
    ($node:expr, |$work:ident| $operation:expr) => {
        $node.transact(|$work, _| Box::pin(async move { $operation.await.map(Verdict::Commit) })).await
    };
}

pub(crate) use commit;

/// What became of a transaction that ended well: keep it or take it back.
pub(crate) enum Verdict<T> {
    Commit(T),
    RollBack(T),
}

impl Node {
    #[allow(clippy::too_many_arguments, reason = "a node is made in one place, of these things")]
    pub(crate) fn new(
        pool: Arc<Pool>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        time: Time,
        runtime: Handle,
        name: String,
        serve_gap: Duration,
        retention_slack: DurationMs,
    ) -> Node {
        let local = Local::new();
        let waits_long = Semaphore::new((pool.options.connections / 4).max(1));
        let (hints, serving) = (Mutex::new(Some(BTreeSet::new())), tokio::sync::Mutex::new(()));
        Node {
            pool,
            local,
            clock,
            entropy,
            time,
            runtime,
            name,
            serve_gap,
            retention_slack,
            hints,
            hinted: Notify::new(),
            look: Notify::new(),
            delivery_turn: Mutex::new(ops::lease::NO_LINE),
            serving,
            floors: Arc::default(),
            unrenewed: Mutex::default(),
            waits_long,
            polls: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
        }
    }

    /// Runs one transaction, again if it fails for no fault of its own. Few at a time wait long for a row of somebody's
    /// open transaction.
    pub(crate) async fn transact<'a, T>(
        &self,
        operation: impl for<'w> Fn(&'w mut Work, Within<'w, 'a>) -> BoxFuture<'w, Outcome<Verdict<T>>>
        + Send
        + Sync,
    ) -> EngineResult<T> {
        let until = self.locks_until();
        match self.transact_or_locked(Some(WAIT_TOGETHER), &operation).await {
            Err(Failed::Locked) => {}
            done => return done.map_err(Failed::or_busy),
        }
        let wait = self.patience(&(0..1), until).await?;
        self.transact_or_locked(Some(wait.length), operation).await.map_err(Failed::or_busy)
    }

    /// The same, telling a row that was waited for in vain from other reasons to give up. It waits as long as usual
    /// if not told how long.
    pub(crate) async fn transact_or_locked<'a, T>(
        &self,
        lock_wait: Option<Duration>,
        operation: impl for<'w> Fn(&'w mut Work, Within<'w, 'a>) -> BoxFuture<'w, Outcome<Verdict<T>>>
        + Send
        + Sync,
    ) -> Result<T, Failed> {
        let begun = tokio::time::Instant::now();
        let mut wait = FIRST_WAIT;
        let mut last = EngineError::Busy;
        for attempt in 0..TRIES {
            self.local.open()?;
            if attempt > 0 {
                if begun.elapsed() > UNREACHABLE_AFTER {
                    break;
                }
                let jitter = self.entropy.up_to(wait.as_micros() as u64 / 2);
                tokio::time::sleep(wait / 2 + Duration::from_micros(jitter)).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            match self.once(lock_wait, &operation).await {
                Ok(value) => return Ok(value),
                Err(Fault::Engine(error)) => return Err(error.into()),
                Err(Fault::Locked) => return Err(Failed::Locked),
                Err(Fault::NewServer) => self.raise_tokens().await?,
                Err(Fault::Again(why)) => {
                    tracing::debug!(why, attempt, "a transaction is tried again");
                    last = EngineError::Busy;
                }
                Err(Fault::Unreachable(why)) => {
                    tracing::debug!(why, attempt, "a transaction is tried again");
                    last = EngineError::Unavailable(format!(
                        "the database cannot be reached: {why}; it is tried again with each call"
                    ));
                }
            }
        }
        tracing::warn!(error = %last, "a transaction was given up");
        Err(last.into())
    }

    async fn once<'a, T>(
        &self,
        lock_wait: Option<Duration>,
        operation: &(
             impl for<'w> Fn(&'w mut Work, Within<'w, 'a>) -> BoxFuture<'w, Outcome<Verdict<T>>> + Send + Sync
         ),
    ) -> Outcome<T> {
        let (tx, database_time) = self.pool.begin(lock_wait).await?;
        let now = match self.time {
            Time::Database => database_time,
            Time::Clock => self.clock.now(),
        };
        let mut work = Work::new(tx, now, Arc::clone(&self.entropy), Arc::clone(&self.floors));
        match operation(&mut work, PhantomData).await {
            Ok(Verdict::Commit(value)) => {
                let effects = std::mem::take(&mut work.effects);
                if let Err(fault) = work.tx.commit().await {
                    self.floors.forget();
                    return Err(fault);
                }
                self.floors.committed(&effects.lines);
                self.local.committed(&effects, self.clock.as_ref());
                self.hint(&effects.leasable);
                Ok(value)
            }
            Ok(Verdict::RollBack(value)) => {
                work.tx.roll_back().await;
                Ok(value)
            }
            Err(fault) => {
                // Others may have passed by what it had locked.
                self.floors.forget();
                work.tx.roll_back().await;
                Err(fault)
            }
        }
    }

    pub(crate) fn lock_wait(&self) -> Duration {
        self.pool.options.lock_wait
    }

    /// Makes tokens larger than whatever an earlier life of the server may have handed out (I4).
    pub(crate) async fn raise_tokens(&self) -> EngineResult<()> {
        for _ in 0..TRIES {
            let raise = self.once(None, &|work, _| {
                Box::pin(async move { ops::lease::raise_tokens(work).await.map(Verdict::Commit) })
            });
            match raise.await {
                Ok(()) => return Ok(()),
                Err(Fault::Again(why)) => tracing::debug!(why, "tokens are to be raised again"),
                Err(Fault::Unreachable(why)) => {
                    return Err(EngineError::Unavailable(format!("the database cannot be reached: {why}")));
                }
                Err(Fault::Locked | Fault::NewServer) => {}
                Err(Fault::Engine(error)) => return Err(error),
            }
            tokio::time::sleep(FIRST_WAIT).await;
        }
        Err(EngineError::Busy)
    }

    /// Gives live leases their full length again. Those of jobs in somebody's open transaction get it later, from
    /// [`Node::renew_left`].
    pub(crate) async fn renew_leases(&self) -> EngineResult<()> {
        let mut from = Some(ops::renew::RenewedTo::Extended(i64::MIN));
        while let Some(after) = from {
            let renewed = commit!(self, |work| ops::renew::renew(work, after))?;
            self.unrenewed().extend(renewed.left);
            from = renewed.next;
        }
        let mut from = Some(Default::default());
        while let Some(after) = from {
            let after: &(String, String) = &after;
            from = commit!(self, |work| ops::effects::renew(work, after.clone()))?;
        }
        Ok(())
    }

    /// Renews leases that could not be had before.
    pub(crate) async fn renew_left(&self) -> EngineResult<()> {
        let seqs: Vec<i64> = self.unrenewed().iter().copied().collect();
        if seqs.is_empty() {
            return Ok(());
        }
        let these = &seqs;
        let left = commit!(self, |work| ops::renew::renew_these(work, these.clone()))?;
        *self.unrenewed() = left.into_iter().collect();
        Ok(())
    }

    fn unrenewed(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.unrenewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hint(&self, queues: &BTreeSet<QueueName>) {
        if queues.is_empty() {
            return;
        }
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hints) = hints.as_mut() {
            hints.extend(queues.iter().cloned());
        }
        drop(hints);
        self.hinted.notify_one();
    }

    /// Held by one call with this poll id at a time, and by few others.
    pub(crate) async fn poll_lock(&self, poll: u64) -> tokio::sync::MutexGuard<'_, ()> {
        let [first, ..] = &self.polls;
        let place = usize::try_from(poll % POLL_LOCKS as u64).unwrap_or(0);
        self.polls.get(place).unwrap_or(first).lock().await
    }

    /// Has every parked call looked at.
    pub(crate) fn hint_all(&self) {
        *self.hints.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.hinted.notify_one();
    }

    /// Leases for several calls at once.
    pub(crate) async fn lease_now(&self, calls: &[&LeaseParams]) -> EngineResult<Vec<Given>> {
        commit!(self, |work| ops::lease::lease(work, calls))
    }

    /// Leases jobs to deliver.
    pub(crate) async fn lease_deliveries(&self, call: &DeliveryParams) -> EngineResult<Vec<LeasedJob>> {
        self.local.open()?;
        if self.local.is_draining() {
            return Ok(Vec::new());
        }
        let turn = || self.delivery_turn.lock().unwrap_or_else(PoisonError::into_inner);
        let last = *turn();
        let (leased, last) = commit!(self, |work| ops::lease::lease_deliveries(work, call, last))?;
        *turn() = last;
        Ok(leased)
    }

    /// Gives back jobs that were leased for a call that is gone, at no cost.
    pub(crate) async fn release(&self, unwanted: Vec<LeasedJob>) {
        let op = |leased: &LeasedJob| {
            let token = leased.attempt()?.token;
            Some(SettleOp { id: leased.job.id, token, action: SettleAction::End(End::Release) })
        };
        let ops: Vec<SettleOp> = unwanted.iter().filter_map(op).collect();
        let released = self.transact(|work, _| {
            let ops = &ops;
            Box::pin(async move { ops::settle::settle(work, ops).await.map(Verdict::Commit) })
        });
        if let Err(error) = released.await {
            tracing::warn!(%error, "jobs leased for a call that was gone wait for the end of their leases");
        }
    }

    /// Serves parked calls for as long as the node lives.
    pub(crate) async fn serve(self: Arc<Self>) {
        loop {
            self.hinted.notified().await;
            if self.local.open().is_err() {
                return;
            }
            self.serve_once().await;
        }
    }

    /// Serves parked calls from the queues of which there were hints.
    pub(crate) async fn serve_once(&self) {
        let _one_at_a_time = self.serving.lock().await;
        let hints = {
            let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
            hints.replace(BTreeSet::new())
        };
        let waiting = self.local.to_serve(hints.as_ref());
        for calls in waiting.chunks(SERVED_TOGETHER) {
            let calls: Vec<_> = calls.iter().filter(|(number, _)| self.local.waits(*number)).collect();
            let params: Vec<&LeaseParams> = calls.iter().map(|(_, params)| params).collect();
            let leased = match self.lease_now(&params).await {
                Ok(leased) => leased,
                Err(EngineError::Closed) => return,
                Err(error) => {
                    if error == EngineError::OutcomeUnknown {
                        self.local.doubt(calls.iter().map(|(number, _)| *number));
                    }
                    tracing::warn!(%error, "parked calls could not be served");
                    continue;
                }
            };
            for ((number, _), given) in calls.into_iter().zip(leased) {
                let leased = match given {
                    Given::New(leased) => leased,
                    Given::Held(held) if self.local.is_in_doubt(*number) => {
                        // Gone or not: whoever has its poll id holds them.
                        let _ = self.local.give(*number, held);
                        continue;
                    }
                    // What its repeat at another node was given is not given twice.
                    Given::Held(_) => continue,
                };
                if leased.is_empty() {
                    continue;
                }
                if let Err(unwanted) = self.local.give(*number, leased) {
                    self.release(unwanted).await;
                }
            }
        }
    }

    /// Has the next look around come at once.
    pub(crate) fn look_now(&self) {
        self.floors.forget();
        self.look.notify_one();
    }

    /// Looks now and then for what other nodes did. Hints between nodes may be lost; this may not.
    pub(crate) async fn look_around(self: Arc<Self>, every: Duration) {
        loop {
            let _ = tokio::time::timeout(every, self.look.notified()).await;
            if self.local.open().is_err() {
                return;
            }
            self.floors.look_back();
            self.local.wake_ticks();
            self.hint_all();
            let awaited = self.local.awaited();
            if !awaited.is_empty() {
                self.look_for_ends(&awaited).await;
            }
            if self.local.awaits_events()
                && let Ok(last) = self
                    .transact(|work, _| {
                        Box::pin(async move { ops::events::number(work).await.map(Verdict::Commit) })
                    })
                    .await
            {
                self.local.tell_events(last);
            }
        }
    }

    async fn look_for_ends(&self, awaited: &BTreeSet<onefold_core::JobId>) {
        let states = self
            .transact(|work, _| {
                Box::pin(async move { ops::look::states(work, awaited).await.map(Verdict::RollBack) })
            })
            .await;
        if let Ok(states) = states {
            let over = |id: &&onefold_core::JobId| states.get(*id).is_none_or(|state| state.is_finished());
            self.local.tell_finished(&awaited.iter().filter(over).copied().collect());
        }
    }
}
