//! What a worker does with jobs and their leases. On tokio's paused time: leases, heartbeats and
//! backoff take no time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onefold::{
    CancelReason, Context, DeadReason, Error, HandlerError, Job, JobId, NewJob, Onefold, Outcome, RawPayload,
    Refusal, State, Worker, WorkerReport,
};
use onefold_core::{EngineError, SettleAction};
use support::watched::Call;
use support::{pass, store, watched, when};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// A worker in a task of its own.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<WorkerReport, Error>>,
}

impl Running {
    fn start(worker: onefold::ReadyWorker) -> Running {
        let (stop, stopped) = oneshot::channel();
        let run = worker.run_until(async {
            let _ = stopped.await;
        });
        Running { stop, task: tokio::spawn(run) }
    }

    async fn stop(self) -> WorkerReport {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap()
    }
}

fn lease_lost<T: std::fmt::Debug>(outcome: Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Refused(Refusal::LeaseLost { .. })))
}

async fn add(onefold: &Onefold, payload: u64) -> JobId {
    onefold.queue::<u64>("q").add(payload).await.unwrap().id
}

async fn add_many(onefold: &Onefold, count: u64) -> Vec<JobId> {
    let added = onefold.queue::<u64>("q").add_many(0..count).await.unwrap();
    added.into_iter().map(|added| added.unwrap().id).collect()
}

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
        let start = Instant::now();
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

/// A handler may run far longer than its lease: heartbeats keep it, in few calls.
#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_long_job() {
    let extensions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&extensions);
    let onefold = watched(move |call| {
        if let Call::Settle(ops) = call {
            let extends = ops.iter().filter(|op| matches!(op.action, SettleAction::Extend(_))).count();
            count.fetch_add(extends, Ordering::Relaxed);
        }
        Ok(())
    });
    let id = add(&onefold, 1).await;
    let worker = Worker::new(&onefold).queue("q").handle(|_: Job<u64>, _| async {
        pass(SECOND * 600).await;
        Ok(())
    });
    let running = Running::start(worker);
    let job = when(&onefold, id, State::Completed).await;
    assert_eq!((job.attempts.len(), job.lost_leases), (1, 0));
    let extensions = extensions.load(Ordering::Relaxed);
    assert!((55..=61).contains(&extensions), "every 10 s for 600 s, not {extensions} times");
    running.stop().await;
}

/// Short jobs cost no heartbeats.
#[tokio::test(start_paused = true)]
async fn short_jobs_are_not_extended() {
    let extensions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&extensions);
    let onefold = watched(move |call| {
        if let Call::Settle(ops) = call {
            let extends = ops.iter().filter(|op| matches!(op.action, SettleAction::Extend(_))).count();
            count.fetch_add(extends, Ordering::Relaxed);
        }
        Ok(())
    });
    let worker = Worker::new(&onefold).queue("q").handle(|_: Job<u64>, _| async {
        pass(SECOND * 2).await;
        Ok(())
    });
    let running = Running::start(worker);
    // Heartbeats come at full tens of seconds, so that now they meet jobs that run.
    pass(SECOND).await;
    for _ in 0..30 {
        let id = add(&onefold, 1).await;
        when(&onefold, id, State::Completed).await;
    }
    assert_eq!(running.stop().await.completed, 30);
    assert_eq!(extensions.load(Ordering::Relaxed), 0);
}

/// Tells when it is dropped.
struct DropTeller(mpsc::UnboundedSender<&'static str>);

impl Drop for DropTeller {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

/// A lost lease is heard of at the next heartbeat: the handler is told, every call of its context
/// is refused from then on, and if it does not stop it is dropped a second later.
#[tokio::test(start_paused = true)]
async fn a_lost_lease_cancels_the_handler() {
    let onefold = Onefold::in_memory();
    let id = add(&onefold, 1).await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let (context_out, context) = oneshot::channel::<Context>();
    let context_out = Arc::new(Mutex::new(Some(context_out)));
    let worker = Worker::new(&onefold).queue("q").handle(move |_: Job<u64>, ctx| {
        let (tell, context_out) = (tell.clone(), Arc::clone(&context_out));
        async move {
            let _drop = DropTeller(tell.clone());
            let _ = context_out.lock().unwrap().take().unwrap().send(ctx.clone());
            ctx.cancelled().await;
            assert_eq!(ctx.cancel_reason(), Some(CancelReason::LeaseLost));
            assert!(lease_lost(ctx.checkpoint(&1).await));
            assert!(lease_lost(ctx.extend(SECOND).await));
            assert!(lease_lost(ctx.progress(1)));
            assert!(lease_lost(ctx.log("still here")));
            let _ = tell.send("refused");
            std::future::pending::<()>().await;
            Ok(())
        }
    });
    let running = Running::start(worker);
    let context = context.await.unwrap();
    context.checkpoint(&7).await.unwrap();
    onefold.cancel_by_force(id).await.unwrap();
    let revoked_at = Instant::now();
    assert_eq!(told.recv().await, Some("refused"));
    assert!(revoked_at.elapsed() <= SECOND * 10);
    let refused_at = Instant::now();
    assert_eq!(told.recv().await, Some("dropped"));
    assert!(refused_at.elapsed() <= SECOND);
    assert_eq!(running.stop().await.lost, 1);
    assert_eq!(when(&onefold, id, State::Cancelled).await.attempts[0].outcome, Some(Outcome::Revoked));
}

/// When the store cannot be reached, nobody can know whether the lease still is ours: the handler
/// is told before it may be somebody else's, and dropped by then.
#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_extended_is_given_up_in_time() {
    let onefold = watched(|call| match call {
        Call::Settle(_) => Err(EngineError::Busy),
        _ => Ok(()),
    });
    add(&onefold, 1).await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let worker = Worker::new(&onefold).queue("q").concurrency(1).prefetch(1).grace(SECOND).handle(
        move |_: Job<u64>, ctx| {
            let tell = tell.clone();
            async move {
                let _drop = DropTeller(tell.clone());
                let _ = tell.send("started");
                ctx.cancelled().await;
                assert_eq!(ctx.cancel_reason(), Some(CancelReason::LeaseLost));
                let _ = tell.send("told");
                std::future::pending::<()>().await;
                Ok(())
            }
        },
    );
    let running = Running::start(worker);
    assert_eq!(told.recv().await, Some("started"));
    let started_at = Instant::now();
    assert_eq!(told.recv().await, Some("told"));
    assert_eq!(started_at.elapsed().as_secs(), 29);
    assert_eq!(told.recv().await, Some("dropped"));
    assert!(started_at.elapsed() <= SECOND * 30);
    drop(running);
}

/// The success of a handler whose lease is lost is still told: the store refuses it and keeps it
/// as evidence (I5). The handler's failure would say nothing.
#[tokio::test(start_paused = true)]
async fn i5_a_late_success_is_told() {
    let onefold = Onefold::in_memory();
    let ids = [add(&onefold, 1).await, add(&onefold, 0).await];
    let worker = Worker::new(&onefold).queue("q").handle(|job: Job<u64>, ctx| async move {
        ctx.cancelled().await;
        if job.payload == 1 { Ok(()) } else { Err(HandlerError::retry("cancelled")) }
    });
    let running = Running::start(worker);
    for id in ids {
        when(&onefold, id, State::Running).await;
        onefold.cancel_by_force(id).await.unwrap();
    }
    pass(SECOND * 12).await;
    assert_eq!(running.stop().await.lost, 2);
    for (id, late) in ids.into_iter().zip([1, 0]) {
        let job = onefold.get(id).await.unwrap().unwrap();
        assert_eq!(
            (job.state, job.attempts[0].late_success, job.late_writes),
            (State::Cancelled, late, late)
        );
    }
}

/// A cancel is heard of at a heartbeat. The handler may stop, or complete all the same.
#[tokio::test(start_paused = true)]
async fn a_requested_cancel_reaches_the_handler() {
    let onefold = Onefold::in_memory();
    let (stops, completes) = (add(&onefold, 0).await, add(&onefold, 1).await);
    let worker = Worker::new(&onefold).queue("q").handle(|job: Job<u64>, ctx| async move {
        ctx.cancelled().await;
        assert_eq!(ctx.cancel_reason(), Some(CancelReason::Requested));
        // Not dropped, and still the holder.
        pass(SECOND * 60).await;
        ctx.checkpoint(&"almost").await?;
        if job.payload == 1 { Ok(()) } else { Err(HandlerError::retry("cancelled")) }
    });
    let running = Running::start(worker);
    for id in [stops, completes] {
        when(&onefold, id, State::Running).await;
        assert!(onefold.cancel(id).await.unwrap().cancel_requested);
    }
    when(&onefold, stops, State::Cancelled).await;
    when(&onefold, completes, State::Completed).await;
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
        support::watched::Watched::new(engine, move |call| {
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

/// No more handlers run at once than the concurrency, and no more jobs are held than the
/// prefetch; both are used to the full.
#[tokio::test(start_paused = true)]
async fn concurrency_and_prefetch_are_bounds() {
    let held = Arc::new(Mutex::new((0_usize, 0_usize)));
    let (more, less) = (Arc::clone(&held), Arc::clone(&held));
    let onefold = store(|engine| {
        support::watched::Watched::new(engine, move |call| {
            match call {
                Call::Settle(ops) => {
                    let ends = ops.iter().filter(|op| matches!(op.action, SettleAction::End(_))).count();
                    less.lock().unwrap().0 -= ends;
                }
                Call::Lease(params) if params.max == 0 => return Err(EngineError::Closed),
                Call::Lease(_) | Call::Add(_) | Call::Tick => {}
            }
            Ok(())
        })
        .on_leased(move |jobs| {
            let mut held = more.lock().unwrap();
            held.0 += jobs.len();
            held.1 = held.1.max(held.0);
        })
    });
    let ids = add_many(&onefold, 200).await;
    let running_now = Arc::new(Mutex::new((0_usize, 0_usize)));
    let seen = Arc::clone(&running_now);
    let worker =
        Worker::new(&onefold).queue("q").concurrency(5).prefetch(12).handle(move |job: Job<u64>, _| {
            let seen = Arc::clone(&seen);
            async move {
                {
                    let mut seen = seen.lock().unwrap();
                    seen.0 += 1;
                    seen.1 = seen.1.max(seen.0);
                }
                pass(SECOND * u32::try_from(job.payload % 3).unwrap()).await;
                seen.lock().unwrap().0 -= 1;
                Ok(())
            }
        });
    let running = Running::start(worker);
    for id in ids {
        when(&onefold, id, State::Completed).await;
    }
    running.stop().await;
    assert_eq!(running_now.lock().unwrap().1, 5);
    assert_eq!(held.lock().unwrap().1, 12);
}

/// A worker that stops gives back at once what waits for a handler, lets running handlers finish,
/// and none of it costs an attempt.
#[tokio::test(start_paused = true)]
async fn shutdown_gives_back_what_waits() {
    let onefold = Onefold::in_memory();
    let ids = add_many(&onefold, 10).await;
    let worker =
        Worker::new(&onefold).queue("q").concurrency(1).prefetch(10).handle(|_: Job<u64>, ctx| async move {
            ctx.shutting_down().await;
            pass(SECOND * 5).await;
            Ok(())
        });
    let running = Running::start(worker);
    for id in &ids {
        when(&onefold, *id, State::Running).await;
    }
    let stopped_at = Instant::now();
    let report = running.stop().await;
    assert_eq!(stopped_at.elapsed().as_secs(), 5);
    assert_eq!((report.leased, report.completed, report.released), (10, 1, 9));
    for (place, id) in ids.into_iter().enumerate() {
        let job = onefold.get(id).await.unwrap().unwrap();
        assert_eq!((job.failures, job.lost_leases), (0, 0));
        if place == 0 {
            assert_eq!(job.state, State::Completed);
        } else {
            assert_eq!((job.state, job.attempts[0].outcome), (State::Available, Some(Outcome::Released)));
        }
    }
}

/// A handler that is not done when the grace period ends is told, dropped a moment later, and its
/// job given back at no cost.
#[tokio::test(start_paused = true)]
async fn shutdown_drops_handlers_after_the_grace_period() {
    let onefold = Onefold::in_memory();
    let id = add(&onefold, 1).await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let worker = Worker::new(&onefold).queue("q").grace(SECOND * 20).handle(move |_: Job<u64>, ctx| {
        let tell = tell.clone();
        async move {
            let _drop = DropTeller(tell.clone());
            ctx.cancelled().await;
            assert_eq!(ctx.cancel_reason(), Some(CancelReason::Shutdown));
            ctx.checkpoint(&"half way").await?;
            let _ = tell.send("told");
            std::future::pending::<()>().await;
            Ok(())
        }
    });
    let running = Running::start(worker);
    when(&onefold, id, State::Running).await;
    let stopped_at = Instant::now();
    let report = running.stop().await;
    assert_eq!(stopped_at.elapsed().as_secs(), 21);
    assert_eq!((told.recv().await, told.recv().await), (Some("told"), Some("dropped")));
    assert_eq!(report.released, 1);
    let job = onefold.get(id).await.unwrap().unwrap();
    assert_eq!((job.state, job.failures, job.lost_leases), (State::Available, 0, 0));
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
        assert!(matches!(ctx.checkpoint(&"x".repeat(17_000)).await, Err(Error::Invalid(_))));
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

/// A context outlives its handler, but speaks for nobody any more.
#[tokio::test(start_paused = true)]
async fn a_context_is_silent_after_its_handler() {
    let onefold = Onefold::in_memory();
    let id = add(&onefold, 1).await;
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let running = Running::start(Worker::new(&onefold).queue("q").handle(move |_: Job<u64>, ctx| {
        *keep.lock().unwrap() = Some(ctx);
        async { Ok(()) }
    }));
    when(&onefold, id, State::Completed).await;
    let ctx: Context = kept.lock().unwrap().take().unwrap();
    assert!(lease_lost(ctx.checkpoint(&1).await));
    assert!(lease_lost(ctx.log("hello?")));
    running.stop().await;
    assert_eq!(onefold.get(id).await.unwrap().unwrap().late_writes, 0);
}

/// A hard limit shorter than a heartbeat still stops the handler when it ends the attempt.
#[tokio::test(start_paused = true)]
async fn the_hard_limit_stops_the_handler() {
    let onefold = Onefold::in_memory();
    let job = NewJob::new(1).timeout(SECOND * 3).max_attempts(1);
    let id = onefold.queue::<u64>("q").add_many([job]).await.unwrap().remove(0).unwrap().id;
    let (tell, mut told) = mpsc::unbounded_channel();
    let worker = Worker::new(&onefold).queue("q").handle(move |_: Job<u64>, _| {
        let tell = tell.clone();
        async move {
            let _drop = DropTeller(tell);
            std::future::pending::<()>().await;
            Ok(())
        }
    });
    let started_at = Instant::now();
    let running = Running::start(worker);
    assert_eq!(told.recv().await, Some("dropped"));
    assert_eq!(started_at.elapsed().as_secs(), 3);
    let job = when(&onefold, id, State::Dead).await;
    assert_eq!(job.attempts[0].outcome, Some(Outcome::TimedOut));
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
