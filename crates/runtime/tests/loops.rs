//! The loop over an engine, on tokio's paused time: hours pass in no time, and every tick counts.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

#[path = "support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onefold_core::reference::ReferenceEngine;
use onefold_core::{
    AddParams, Clock, DurationMs, Engine, EngineError, JobId, LeaseParams, LeasedJob, NewJob, QueueName,
    SeededEntropy, State, Timestamp, When, WorkerName,
};
use onefold_runtime::{Health, Phase, Runtime, TokioClock};
use support::{Call, Watched};
use tokio::time::timeout;

/// Tokio's clock with a wall clock that can be set.
struct SteppableClock {
    tokio: TokioClock,
    stepped_by: Mutex<i64>,
}

impl Clock for SteppableClock {
    fn now(&self) -> Timestamp {
        let ms = self.tokio.now().as_unix_ms() + *self.stepped_by.lock().unwrap();
        Timestamp::from_unix_ms(ms).unwrap()
    }
    fn monotonic(&self) -> DurationMs {
        self.tokio.monotonic()
    }
}

struct Store {
    runtime: Runtime,
    clock: Arc<SteppableClock>,
}

impl Store {
    async fn with(wrap: impl FnOnce(ReferenceEngine) -> Arc<dyn Engine>) -> Store {
        let start = Timestamp::from_unix_ms(1_800_000_000_000).unwrap();
        let clock = SteppableClock { tokio: TokioClock::at(start), stepped_by: Mutex::new(0) };
        let clock = Arc::new(clock);
        let engine = ReferenceEngine::new(clock.clone(), Arc::new(SeededEntropy::new(1)));
        let runtime = Runtime::start(wrap(engine), clock.clone());
        Store { runtime, clock }
    }

    async fn start() -> Store {
        let store = Store::with(|engine| Arc::new(engine)).await;
        store.health_when(Health::is_serving).await;
        store
    }

    async fn health_when(&self, condition: impl FnMut(&Health) -> bool) -> Health {
        self.runtime.watch_health().wait_for(condition).await.unwrap().clone()
    }

    async fn add(&self, when: When) -> JobId {
        let jobs = vec![NewJob { when, ..NewJob::default() }];
        let params = AddParams { queue: queue(), jobs, atomic: false };
        self.runtime.engine().add(params).await.unwrap().remove(0).unwrap().id
    }

    async fn lease(&self, wait: DurationMs) -> Vec<LeasedJob> {
        let params = LeaseParams {
            queues: vec![queue()],
            max: 1,
            lease: seconds(30),
            worker: WorkerName::new("w").unwrap(),
            fair: false,
            wait,
            poll: None,
        };
        self.runtime.engine().lease(params).await.unwrap()
    }

    async fn state(&self, id: JobId) -> State {
        self.runtime.engine().get(id).await.unwrap().unwrap().job.state
    }
}

fn queue() -> QueueName {
    QueueName::new("q").unwrap()
}

fn seconds(n: u64) -> DurationMs {
    DurationMs::from_ms(n * 1000)
}

/// An idle store is left alone: the loop ticks only as often as the engine wants, once a minute.
#[tokio::test(start_paused = true)]
async fn an_idle_loop_makes_no_ticks() {
    let store = Store::start().await;
    let before = store.runtime.health().ticks;
    let ticked_again = store.health_when(|health| health.ticks > before);
    assert!(timeout(Duration::from_secs(59), ticked_again).await.is_err(), "ticked without need");
}

/// A job added while the loop sleeps is available when its time comes, for one tick to learn of
/// the earlier time and one to act.
#[tokio::test(start_paused = true)]
async fn a_job_is_available_when_its_time_comes() {
    let store = Store::start().await;
    let before = store.runtime.health();
    let id = store.add(When::After(seconds(40))).await;
    assert_eq!(store.state(id).await, State::Scheduled);
    let added_at = store.clock.now();
    let health = store.health_when(|health| health.due == 1).await;
    assert_eq!(store.state(id).await, State::Available);
    assert_eq!(store.clock.now(), added_at.saturating_add(seconds(40)));
    assert_eq!(health.ticks, before.ticks + 2);
}

/// A parked poll is answered by the tick that makes a job available, and an empty one when its
/// wait is over.
#[tokio::test(start_paused = true)]
async fn parked_polls_end_by_ticks() {
    let store = Store::start().await;
    let id = store.add(When::After(seconds(7))).await;
    let start = store.clock.now();
    let leased = store.lease(seconds(20)).await;
    assert_eq!(leased[0].job.id, id);
    assert_eq!(store.clock.now(), start.saturating_add(seconds(7)));
    assert!(store.lease(seconds(20)).await.is_empty());
    assert_eq!(store.clock.now(), start.saturating_add(seconds(27)));
}

/// A lease nobody extends is lost at its deadline and the job leased again.
#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_leased_again() {
    let store = Store::start().await;
    let id = store.add(When::Now).await;
    let first = store.lease(DurationMs::ZERO).await.remove(0);
    let leased_at = store.clock.now();
    let second = store.lease(seconds(60)).await.remove(0);
    assert_eq!(store.clock.now(), leased_at.saturating_add(seconds(30)));
    assert_eq!(second.job.id, id);
    assert!(second.attempt().unwrap().token > first.attempt().unwrap().token);
    assert_eq!(store.runtime.health().expired, 1);
}

/// A step of the wall clock, forth or back, is noticed within seconds, not at the end of the
/// sleep, and gives live leases their full length again.
#[tokio::test(start_paused = true)]
async fn a_step_of_the_clock_renews_leases() {
    for step in [3_600_000, -3_600_000] {
        let store = Store::start().await;
        store.add(When::Now).await;
        store.lease(DurationMs::ZERO).await;
        // On paused time this ends when the loop sleeps and nothing else is left to do.
        let _ = timeout(Duration::from_millis(100), std::future::pending::<()>()).await;
        let stepped_at = store.clock.monotonic().as_ms();
        *store.clock.stepped_by.lock().unwrap() = step;
        let health = store.health_when(|health| health.clock_steps == 1).await;
        assert_eq!(health.expired, 0, "the lease was lost to the clock");
        let renewed_at = store.clock.monotonic().as_ms();
        assert!(renewed_at - stepped_at <= 5_000);
        store.health_when(|health| health.expired == 1).await;
        assert_eq!(store.clock.monotonic().as_ms() - renewed_at, 30_000);
    }
}

/// A store that other processes serve too is looked at every second: hints may be lost.
#[tokio::test(start_paused = true)]
async fn a_shared_store_is_looked_at_every_second() {
    let wrap =
        |engine| Arc::new(Watched::new(Arc::new(engine), |_| Ok(())).claiming_many_processes()) as Arc<_>;
    let store = Store::with(wrap).await;
    let before = store.health_when(Health::is_serving).await;
    let start = store.clock.now();
    store.health_when(|health| health.ticks == before.ticks + 10).await;
    let took = store.clock.now().as_unix_ms() - start.as_unix_ms();
    assert!((10_000..=10_100).contains(&took), "ten ticks took {took} ms");
}

/// An error that may pass is told, and tried again with growing pauses.
#[tokio::test(start_paused = true)]
async fn failing_ticks_back_off_and_recover() {
    let failures = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failures);
    let fails_five_times = move |call: &Call<'_>| match call {
        Call::Tick if count.fetch_add(1, Ordering::Relaxed) < 5 => Err(EngineError::Busy),
        _ => Ok(()),
    };
    let store =
        Store::with(|engine| Arc::new(Watched::new(Arc::new(engine), fails_five_times)) as Arc<_>).await;
    let start = store.clock.now();
    let failing = store.health_when(|health| health.failing == 5).await;
    assert_eq!((failing.error, failing.phase), (Some(EngineError::Busy), Phase::Starting));
    let serving = store.health_when(Health::is_serving).await;
    assert_eq!((serving.failing, serving.error), (0, None));
    let waited = store.clock.now().as_unix_ms() - start.as_unix_ms();
    assert!((3_100..3_200).contains(&waited), "100 + 200 + 400 + 800 + 1600 ms, not {waited}");
}

/// A poisoned engine ends the loop, and whoever watches hears of it.
#[tokio::test(start_paused = true)]
async fn a_poisoned_engine_is_told() {
    let poisoned = EngineError::Poisoned("fsync failed".to_owned());
    let error = poisoned.clone();
    let wrap = |engine| Arc::new(Watched::new(Arc::new(engine), move |_| Err(error.clone()))) as Arc<_>;
    let store = Store::with(wrap).await;
    let health = store.health_when(|health| health.phase.is_over()).await;
    assert_eq!(health.phase, Phase::Failed(poisoned));
    assert!(!health.is_serving());
}

/// Draining ends parked polls and new leases while time goes on; stopping closes the engine, and
/// doing so again changes nothing.
#[tokio::test(start_paused = true)]
async fn draining_then_stopping_is_graceful() {
    let store = Store::start().await;
    let due = store.add(When::After(seconds(5))).await;
    let (parked, drained) = tokio::join!(store.lease(seconds(60)), store.runtime.drain());
    assert!(parked.is_empty() && drained.is_ok());
    assert!(!store.runtime.health().is_serving());
    store.health_when(|health| health.due == 1).await;
    assert_eq!(store.state(due).await, State::Available);
    assert!(store.lease(DurationMs::ZERO).await.is_empty());
    store.runtime.stop().await.unwrap();
    assert_eq!(store.runtime.health().phase, Phase::Stopped);
    assert_eq!(store.runtime.engine().get(due).await, Err(EngineError::Closed));
    assert!(matches!(store.runtime.stop().await, Ok(()) | Err(EngineError::Closed)));
}

/// Dropping the runtime ends the ticking: the loop does not keep the engine alive.
#[tokio::test(start_paused = true)]
async fn a_dropped_runtime_lets_go_of_the_engine() {
    let store = Store::start().await;
    let engine = Arc::downgrade(store.runtime.engine());
    let mut health = store.runtime.watch_health();
    drop(store);
    while health.changed().await.is_ok() {}
    assert!(engine.upgrade().is_none());
}
