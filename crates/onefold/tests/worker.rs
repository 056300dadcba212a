//! What a worker does with jobs. On tokio's paused time: backoff takes no time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onefold::{DeadReason, Error, HandlerError, Job, Onefold, RawPayload, State, Worker};
use onefold_core::EngineError;
use support::watched::{Call, Watched};
use support::{Running, SECOND, Stopwatch, add, add_many, pass, store, watched, when};
use tokio::sync::{Notify, Semaphore, mpsc};

/// Without faults N jobs are N runs, each with its own payload, and each result is kept.
#[tokio::test(start_paused = true)]
async fn every_job_runs_once() {
    let onefold = Onefold::in_memory();
    let ids = add_many(&onefold, 300).await;
    let runs = Arc::new(Mutex::new(BTreeMap::<u64, u32>::new()));
    let seen = Arc::clone(&runs);
    let worker = Worker::new(&onefold).queue("q").concurrency(8).handle(move |job: Job<u64>, ctx| {
        let seen = Arc::clone(&seen);
        async move {
            assert_eq!((job.attempt, job.id), (ctx.attempt(), ctx.job_id()));
            *seen.lock().unwrap().entry(job.payload).or_default() += 1;
            Ok(job.payload * 2)
        }
    });
    let running = Running::start(worker);
    for (payload, id) in (0..).zip(&ids) {
        assert_eq!(onefold.result::<u64>(*id, SECOND * 60).await, Ok(Some(payload * 2)));
    }
    let report = running.stop().await;
    assert_eq!((report.leased, report.completed, report.lost), (300, 300, 0));
    assert_eq!(*runs.lock().unwrap(), (0..300).map(|payload| (payload, 1)).collect());
}

/// What a handler returns decides what becomes of its job.
#[tokio::test(start_paused = true)]
async fn each_outcome_does_what_it_says() {
    let onefold = Onefold::in_memory();
    let queue = onefold.queue::<String>("q");
    let worker = Worker::new(&onefold).queue("q").handle(|job: Job<String>, _| async move {
        match (job.payload.as_str(), job.attempt) {
            ("fail", 1) => Err(HandlerError::retry("no answer").kind("http-503")),
            ("parse", 1) => Ok("x".parse::<u64>().map(|_| ())?),
            ("later", 1) => Err(HandlerError::retry_in(SECOND * 100, "come back")),
            ("permanent", _) => Err(HandlerError::permanent("gone")),
            ("snooze", 1) => Err(HandlerError::snooze(SECOND * 50)),
            ("release", 1) => Err(HandlerError::release()),
            ("panic", 1) => panic!("at the disco"),
            _ => Ok(()),
        }
    });
    let running = Running::start(worker);
    let run = async |what: &str, state| {
        let start = Stopwatch::start();
        let id = queue.add(what.to_owned()).await.unwrap().id;
        (when(&onefold, id, state).await, start.elapsed().as_secs())
    };

    let (job, _) = run("fail", State::Completed).await;
    let error = job.last_error().unwrap();
    assert_eq!((error.message.as_str(), error.kind.as_deref()), ("no answer", Some("http-503")));
    assert_eq!((job.failures, job.attempts.len()), (1, 2));
    let (job, _) = run("parse", State::Completed).await;
    assert_eq!(job.last_error().unwrap().message, "invalid digit found in string");
    let (job, took) = run("later", State::Completed).await;
    assert_eq!((job.failures, took), (1, 100));
    let (job, _) = run("permanent", State::Dead).await;
    assert_eq!((job.reason, job.failures), (Some(DeadReason::Permanent), 1));
    let (job, took) = run("snooze", State::Completed).await;
    assert_eq!((job.failures, job.lost_leases, took), (0, 0, 50));
    let (job, _) = run("release", State::Completed).await;
    assert_eq!((job.failures, job.lost_leases, job.attempts.len()), (0, 0, 2));
    let (job, _) = run("panic", State::Completed).await;
    let error = job.last_error().unwrap();
    assert_eq!(error.kind.as_deref(), Some("panic"));
    assert!(error.message.contains("at the disco"));

    let report = running.stop().await;
    assert_eq!((report.completed, report.failed, report.snoozed, report.released), (6, 5, 1, 1));
}

/// A payload that is not what the handler takes cannot become so by trying again.
#[tokio::test(start_paused = true)]
async fn an_unreadable_payload_is_a_permanent_failure() {
    let onefold = Onefold::in_memory();
    let text = onefold.queue("q").add("not a number".to_owned()).await.unwrap().id;
    let image = onefold.queue("q").add(RawPayload::binary(&b"\x89PNG"[..], "image/png")).await.unwrap().id;
    let running = Running::start(Worker::new(&onefold).queue("q").handle(|_: Job<u64>, _| async { Ok(()) }));
    for id in [text, image] {
        let job = when(&onefold, id, State::Dead).await;
        assert_eq!(job.reason, Some(DeadReason::Permanent));
        assert_eq!(job.last_error().unwrap().kind.as_deref(), Some("payload"));
    }
    running.stop().await;
}

/// A settle that failed for a reason that may pass is repeated, and counts once (I6).
#[tokio::test(start_paused = true)]
async fn i6_settles_are_repeated() {
    let failures = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failures);
    let onefold = watched(move |call| match call {
        Call::Settle(_) => match count.fetch_add(1, Ordering::Relaxed) {
            0 => Err(EngineError::Busy),
            1 => Err(EngineError::OutcomeUnknown),
            2 => Err(EngineError::DiskFull),
            _ => Ok(()),
        },
        _ => Ok(()),
    });
    let ids = add_many(&onefold, 20).await;
    let running = Running::start(Worker::new(&onefold).queue("q").handle(|_: Job<u64>, _| async { Ok(()) }));
    for id in ids {
        assert_eq!(when(&onefold, id, State::Completed).await.attempts.len(), 1);
    }
    let report = running.stop().await;
    assert_eq!((report.leased, report.completed, report.lost), (20, 20, 0));
    assert!(failures.load(Ordering::Relaxed) > 3);
}

/// One operation the store cannot do does not keep its neighbours from being done.
#[tokio::test(start_paused = true)]
async fn a_bad_operation_costs_only_itself() {
    let damaged = Arc::new(Mutex::new(None));
    let is_damaged = Arc::clone(&damaged);
    let onefold = watched(move |call| match call {
        Call::Settle(ops) if ops.iter().any(|op| Some(op.id) == *is_damaged.lock().unwrap()) => {
            Err(EngineError::Corrupt("row 7".to_owned()))
        }
        _ => Ok(()),
    });
    let ids = add_many(&onefold, 20).await;
    *damaged.lock().unwrap() = Some(ids[7]);
    let start = Arc::new(Notify::new());
    let all = Arc::clone(&start);
    let worker = Worker::new(&onefold).queue("q").concurrency(20).handle(move |_: Job<u64>, _| {
        let all = Arc::clone(&all);
        async move {
            all.notified().await;
            Ok(())
        }
    });
    let running = Running::start(worker);
    for id in &ids {
        when(&onefold, *id, State::Running).await;
    }
    start.notify_waiters();
    for id in ids.iter().filter(|id| **id != ids[7]) {
        when(&onefold, *id, State::Completed).await;
    }
    assert_eq!(onefold.get(ids[7]).await.unwrap().unwrap().state, State::Running);
    let report = running.stop().await;
    assert_eq!((report.completed, report.lost), (19, 1));
}

/// Everything that ends while a settle is on its way goes in the next one, together.
#[tokio::test(start_paused = true)]
async fn settles_are_coalesced() {
    let gate = Arc::new(Semaphore::new(0));
    let (settled, mut settles) = mpsc::unbounded_channel();
    let (release, leased) = (Arc::clone(&gate), Arc::new(Notify::new()));
    let all_leased = Arc::clone(&leased);
    let onefold = store(|engine| {
        Watched::new(engine, move |call| {
            if let Call::Settle(ops) = call {
                let _ = settled.send(ops.len());
            }
            Ok(())
        })
        .gating_settles(release)
    });
    let ids = add_many(&onefold, 40).await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let worker = Worker::new(&onefold).queue("q").concurrency(40).handle(move |job: Job<u64>, _| {
        let (started, leased) = (started.clone(), Arc::clone(&leased));
        async move {
            let _ = started.send(());
            if job.payload > 0 {
                leased.notified().await;
            }
            Ok(())
        }
    });
    let running = Running::start(worker);
    for _ in 0..40 {
        starts.recv().await.unwrap();
    }
    assert_eq!(settles.recv().await, Some(1), "the first end goes at once");
    all_leased.notify_waiters();
    pass(SECOND).await;
    gate.add_permits(1_000);
    assert_eq!(settles.recv().await, Some(39), "the others go together");
    for id in ids {
        when(&onefold, id, State::Completed).await;
    }
    running.stop().await;
}

/// How many of something there are and were at most.
#[derive(Clone, Default)]
struct Gauge(Arc<Mutex<(usize, usize)>>);

impl Gauge {
    fn up(&self, by: usize) {
        let mut gauge = self.0.lock().unwrap();
        gauge.0 += by;
        gauge.1 = gauge.1.max(gauge.0);
    }
    fn down(&self, by: usize) {
        self.0.lock().unwrap().0 -= by;
    }
    fn most(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

/// No more handlers run at once than the concurrency, and no more jobs are held by them and for
/// them than the prefetch; both are used to the full.
#[tokio::test(start_paused = true)]
async fn concurrency_and_prefetch_are_bounds() {
    for prefetch in [5, 12] {
        let (held, running_now) = (Gauge::default(), Gauge::default());
        let more = held.clone();
        let onefold = store(|engine| {
            Watched::new(engine, |call| match call {
                Call::Lease(params) if params.max == 0 => Err(EngineError::Closed),
                _ => Ok(()),
            })
            .on_leased(move |jobs| more.up(jobs.len()))
        });
        let ids = add_many(&onefold, 200).await;
        let (runs, less) = (running_now.clone(), held.clone());
        let worker = Worker::new(&onefold).queue("q").concurrency(5).prefetch(prefetch).handle(
            move |job: Job<u64>, _| {
                let (runs, less) = (runs.clone(), less.clone());
                async move {
                    runs.up(1);
                    pass(SECOND * u32::try_from(job.payload % 3).unwrap()).await;
                    runs.down(1);
                    less.down(1);
                    Ok(())
                }
            },
        );
        let running = Running::start(worker);
        for id in ids {
            when(&onefold, id, State::Completed).await;
        }
        running.stop().await;
        assert_eq!((running_now.most(), held.most()), (5, prefetch));
    }
}

/// A store that does not answer settles is not asked for more and more jobs.
#[tokio::test(start_paused = true)]
async fn unsettled_jobs_are_bounded() {
    let (gate, leased) = (Arc::new(Semaphore::new(0)), Gauge::default());
    let (closed, count) = (Arc::clone(&gate), leased.clone());
    let onefold = store(|engine| {
        Watched::new(engine, |_| Ok(())).gating_settles(closed).on_leased(move |jobs| count.up(jobs.len()))
    });
    let ids = add_many(&onefold, 100).await;
    let worker = Worker::new(&onefold).queue("q").concurrency(2).prefetch(6);
    let running = Running::start(worker.handle(|_: Job<u64>, _| async { Ok(()) }));
    pass(SECOND * 5).await;
    assert_eq!(leased.most(), 12);
    gate.add_permits(1_000);
    for id in ids {
        when(&onefold, id, State::Completed).await;
    }
    running.stop().await;
}

/// A store that hands out nothing because it drains is asked again and again, but not in a loop;
/// a store that is closed ends the worker.
#[tokio::test(start_paused = true)]
async fn a_draining_store_is_not_asked_in_a_loop_and_a_closed_one_ends_the_worker() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let onefold = watched(move |call| {
        if matches!(call, Call::Lease(_)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    let running = Running::start(Worker::new(&onefold).queue("q").handle(|_: Job<u64>, _| async { Ok(()) }));
    pass(SECOND).await;
    onefold.runtime().unwrap().drain().await.unwrap();
    pass(SECOND * 60).await;
    let calls = calls.load(Ordering::Relaxed);
    assert!((12..50).contains(&calls), "{calls} calls in a minute");
    onefold.close().await.unwrap();
    assert_eq!(running.task.await.unwrap(), Err(Error::Store(EngineError::Closed)));
}

/// What an attempt leaves is handed to the next one; what it says is in the history.
#[tokio::test(start_paused = true)]
async fn checkpoints_progress_and_log_lines_are_kept() {
    let onefold = Onefold::in_memory();
    let id = add(&onefold, 1).await;
    let worker = Worker::new(&onefold).queue("q").handle(|job: Job<u64>, ctx| async move {
        let Some(done) = ctx.last_checkpoint::<u32>()? else {
            ctx.progress(10)?;
            ctx.progress_with(40, "four of ten")?;
            ctx.log("one")?;
            ctx.log("two")?;
            ctx.checkpoint(&4).await?;
            return Err(HandlerError::retry("stopped half way"));
        };
        assert_eq!((done, job.attempt, job.failures), (4, 2, 1));
        assert!(ctx.last_checkpoint::<String>().is_err());
        assert!(matches!(ctx.checkpoint(&"x".repeat(1024 * 1024)).await, Err(Error::Invalid(_))));
        assert!(matches!(ctx.progress(101), Err(Error::Invalid(_))));
        assert!(matches!(ctx.extend(SECOND * 3_601).await, Err(Error::Invalid(_))));
        Ok(done)
    });
    let running = Running::start(worker);
    let job = when(&onefold, id, State::Completed).await;
    let first = &job.attempts[0];
    let progress = first.progress.as_ref().unwrap();
    assert_eq!((progress.percent, progress.message.as_deref()), (Some(40), Some("four of ten")));
    assert_eq!(first.log, ["one", "two"]);
    assert_eq!(onefold.result::<u32>(id, SECOND).await, Ok(Some(4)));
    running.stop().await;
}

/// Earlier queues go first.
#[tokio::test(start_paused = true)]
async fn queues_are_taken_in_order() {
    let onefold = Onefold::in_memory();
    for name in ["low", "high"] {
        for result in onefold.queue::<u64>(name).add_many(0..3).await.unwrap() {
            result.unwrap();
        }
    }
    let (ran, mut order) = mpsc::unbounded_channel();
    let worker = Worker::new(&onefold).queue("high").queue("low").concurrency(1).prefetch(1).handle(
        move |job: Job<u64>, _| {
            let _ = ran.send(job.queue);
            async { Ok(()) }
        },
    );
    let running = Running::start(worker);
    for expected in ["high", "high", "high", "low", "low", "low"] {
        assert_eq!(order.recv().await.as_deref(), Some(expected));
    }
    running.stop().await;
}

/// Mistakes in a worker's options are told before anything is leased.
#[tokio::test(start_paused = true)]
async fn mistakes_in_options_are_told() {
    let onefold = Onefold::in_memory();
    let base = || Worker::new(&onefold).queue("q");
    let wrong = [
        Worker::new(&onefold),
        base().queue("not a queue"),
        base().concurrency(0),
        base().concurrency(10).prefetch(9),
        base().lease(Duration::from_millis(99)),
        base().lease(SECOND * 3_601),
        base().name(""),
    ];
    for worker in wrong {
        let ran = worker.clone().handle(|_: Job<u64>, _| async { Ok(()) }).run().await;
        assert!(matches!(ran, Err(Error::Invalid(_))), "{worker:?} ran: {ran:?}");
    }
}
