//! How a worker holds leases, loses them and gives them back. On tokio's paused time: leases and
//! heartbeats take no time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use onefold::{CancelReason, Context, HandlerError, Job, NewJob, Onefold, Outcome, State, Worker};
use onefold_core::{EngineError, SettleAction};
use support::watched::{Call, Watched};
use support::{Running, SECOND, Stopwatch, add, add_many, lease_lost, pass, store, watched, when};
use tokio::sync::{mpsc, oneshot};

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
    let revoked_at = Stopwatch::start();
    assert_eq!(told.recv().await, Some("refused"));
    assert!(revoked_at.elapsed() <= SECOND * 10);
    let refused_at = Stopwatch::start();
    assert_eq!(told.recv().await, Some("dropped"));
    assert!(refused_at.elapsed() <= SECOND);
    assert_eq!(running.stop().await.lost, 1);
    assert_eq!(when(&onefold, id, State::Cancelled).await.attempts[0].outcome, Some(Outcome::Revoked));
}

/// While somebody's open transaction holds a job, the worker cannot say how its attempt ended: it says so again until it is
/// heard, or the lease is over.
#[tokio::test(start_paused = true)]
async fn an_end_is_told_again_while_an_open_transaction_holds_the_job() {
    for held_times in [3, usize::MAX] {
        let asked = Arc::new(AtomicUsize::new(0));
        let onefold = store(move |engine| {
            Watched::new(engine, |_| Ok(())).with_jobs_in_progress(move |op| {
                matches!(op.action, SettleAction::End(_))
                    && asked.fetch_add(1, Ordering::Relaxed) < held_times
            })
        });
        let id = add(&onefold, 1).await;
        let (ran, mut runs) = mpsc::unbounded_channel();
        let worker = Worker::new(&onefold).queue("q").handle(move |_: Job<u64>, _| {
            let ran = ran.clone();
            async move {
                let _ = ran.send(());
                Ok(())
            }
        });
        let running = Running::start(worker);
        runs.recv().await.unwrap();
        if held_times == usize::MAX {
            assert_eq!(runs.recv().await, Some(()), "it comes back once its lease is over");
            running.stop().await;
            assert_eq!(onefold.get(id).await.unwrap().unwrap().attempts[0].outcome, Some(Outcome::LeaseLost));
        } else {
            let job = when(&onefold, id, State::Completed).await;
            assert_eq!((job.attempts.len(), running.stop().await.lost), (1, 0));
        }
    }
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
    let started_at = Stopwatch::start();
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

/// A job that waits for a runner while its hard limit runs is given back in time, so that its
/// handler has most of the limit for itself.
#[tokio::test(start_paused = true)]
async fn a_job_that_waits_too_long_is_given_back() {
    let onefold = Onefold::in_memory();
    let queue = onefold.queue::<u64>("q");
    let jobs = [1, 2].map(|n| NewJob::new(n).timeout(SECOND * 40).max_attempts(1));
    let ids = queue.add_many(jobs).await.unwrap().into_iter().map(|added| added.unwrap().id);
    let worker = Worker::new(&onefold).queue("q").concurrency(1).prefetch(2).handle(|_: Job<u64>, _| async {
        pass(SECOND * 30).await;
        Ok(())
    });
    let running = Running::start(worker);
    let watch = Stopwatch::start();
    for id in ids {
        let job = when(&onefold, id, State::Completed).await;
        assert_eq!((job.failures, job.lost_leases), (0, 0));
    }
    assert_eq!(watch.elapsed().as_secs(), 60);
    // The runners are all still there.
    let another = add(&onefold, 3).await;
    when(&onefold, another, State::Completed).await;
    assert!(running.stop().await.released >= 2);
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
    let stopped_at = Stopwatch::start();
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
    let stopped_at = Stopwatch::start();
    let report = running.stop().await;
    assert_eq!(stopped_at.elapsed().as_secs(), 21);
    assert_eq!((told.recv().await, told.recv().await), (Some("told"), Some("dropped")));
    assert_eq!(report.released, 1);
    let job = onefold.get(id).await.unwrap().unwrap();
    assert_eq!((job.state, job.failures, job.lost_leases), (State::Available, 0, 0));
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
    let started_at = Stopwatch::start();
    let running = Running::start(worker);
    assert_eq!(told.recv().await, Some("dropped"));
    assert_eq!(started_at.elapsed().as_secs(), 3);
    let job = when(&onefold, id, State::Dead).await;
    assert_eq!(job.attempts[0].outcome, Some(Outcome::TimedOut));
    running.stop().await;
}
