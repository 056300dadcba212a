//! A store in a directory: what is acknowledged outlives the handle.

#![cfg(feature = "engine-sqlite")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod support;

use std::sync::{Arc, Mutex};

use onefold::{HandlerError, Job, JobId, Onefold, OpenError, State, Worker};
use support::{Running, SECOND};
use tokio::sync::{Notify, oneshot};

/// Jobs, keys and results are there after a restart; a directory has one process at a time.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_outlives_its_handle() {
    let dir = tempfile::tempdir().unwrap();
    let onefold = Onefold::open(dir.path()).await.unwrap();
    assert!(matches!(Onefold::open(dir.path()).await, Err(OpenError::Locked(_))));
    let queue = onefold.queue::<u64>("q");
    let waits = queue.add(1).key("a").delay(SECOND * 3_600).await.unwrap().id;
    let done = queue.add(2).await.unwrap().id;
    let running = Running::start(Worker::new(&onefold).queue("q").handle(|job: Job<u64>, ctx| async move {
        ctx.checkpoint(&"seen").await?;
        Ok(job.payload * 2)
    }));
    assert_eq!(onefold.result::<u64>(done, SECOND * 30).await, Ok(Some(4)));
    running.stop().await;
    onefold.close().await.unwrap();
    drop((queue, onefold));

    let onefold = Onefold::open(dir.path()).await.unwrap();
    assert_eq!(onefold.result::<u64>(done, SECOND).await, Ok(Some(4)));
    let again = onefold.queue::<u64>("q").add_unique("a", 1).await.unwrap();
    assert_eq!((again.id, again.duplicate), (waits, true));
    assert_eq!(onefold.get(waits).await.unwrap().unwrap().state, State::Scheduled);
}

/// Without faults N jobs are N runs, on threads that really run beside each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_runs_once() {
    let dir = tempfile::tempdir().unwrap();
    let onefold = Onefold::open(dir.path()).await.unwrap();
    let queue = onefold.queue::<u64>("q");
    let added = queue.add_many(0..3_000).await.unwrap();
    let ids: Vec<JobId> = added.into_iter().map(|added| added.unwrap().id).collect();
    let runs = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::new(Notify::new());
    let (seen, tell) = (Arc::clone(&runs), Arc::clone(&all));
    let worker = Worker::new(&onefold).queue("q").concurrency(50).handle(move |job: Job<u64>, _| {
        let mut seen = seen.lock().unwrap();
        seen.push(job.payload);
        if seen.len() == 3_000 {
            tell.notify_one();
        }
        async { Ok(()) }
    });
    let running = Running::start(worker);
    all.notified().await;
    let report = running.stop().await;
    assert_eq!((report.leased, report.completed, report.lost), (3_000, 3_000, 0));
    let mut runs = runs.lock().unwrap().clone();
    runs.sort_unstable();
    assert_eq!(runs, (0..3_000).collect::<Vec<_>>());
    for id in ids.into_iter().step_by(97) {
        assert_eq!(onefold.get(id).await.unwrap().unwrap().attempt, 1);
    }
}

/// A worker whose future is dropped stops at once; its jobs come back when their leases run out,
/// and its late word is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_worker_loses_its_leases_only() {
    let dir = tempfile::tempdir().unwrap();
    let onefold = Onefold::open(dir.path()).await.unwrap();
    let id = onefold.queue::<u64>("q").add(7).await.unwrap().id;
    let (started, start) = oneshot::channel();
    let started = Arc::new(Mutex::new(Some(started)));
    let base = || Worker::new(&onefold).queue("q").lease(SECOND);
    let worker = base().handle(move |_: Job<u64>, ctx| {
        if let Some(started) = started.lock().unwrap().take() {
            let _ = started.send(ctx);
        }
        std::future::pending::<Result<(), HandlerError>>()
    });
    let running = Running::start(worker);
    let ctx = start.await.unwrap();
    let waits = tokio::spawn({
        let ctx = ctx.clone();
        async move { ctx.cancelled().await }
    });
    running.task.abort();
    waits.await.unwrap();
    let running = Running::start(base().handle(|job: Job<u64>, _| async move { Ok(job.attempt) }));
    assert_eq!(onefold.result::<u32>(id, SECOND * 30).await, Ok(Some(2)));
    running.stop().await;
    assert!(ctx.checkpoint(&1).await.is_err());
    let job = onefold.get(id).await.unwrap().unwrap();
    assert_eq!((job.lost_leases, job.failures), (1, 0));
}
