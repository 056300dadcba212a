//! A job's life through the engine and over a restart.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;

use bytes::Bytes;
use onefold_core::{
    AddParams, DurationMs, End, Engine, JobSpec, Key, LeaseParams, ManualClock, NewJob, Payload, QueueName,
    SeededEntropy, SettleAction, SettleOp, State, Timestamp, WorkerName,
};
use onefold_engine_sqlite::{Options, SqliteEngine};

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_unix_ms(1_795_253_400_000).unwrap()))
}

fn open(dir: &std::path::Path, clock: &Arc<ManualClock>) -> SqliteEngine {
    SqliteEngine::open(dir, Options::new(clock.clone(), Arc::new(SeededEntropy::new(1)))).unwrap()
}

fn job(key: &str) -> NewJob {
    let payload = Payload::Json(Bytes::from_static(b"{\"n\":1}"));
    let fingerprint = Some(onefold_core::Fingerprint::custom("same").unwrap());
    let spec = JobSpec { key: Some(Key::new(key).unwrap()), fingerprint, payload, ..JobSpec::default() };
    NewJob { spec, ..NewJob::default() }
}

fn queue() -> QueueName {
    QueueName::new("q").unwrap()
}

fn lease(max: u32) -> LeaseParams {
    LeaseParams {
        queues: vec![queue()],
        max,
        lease: DurationMs::from_ms(30_000),
        worker: WorkerName::new("w").unwrap(),
        fair: false,
        wait: DurationMs::ZERO,
        poll: None,
    }
}

#[tokio::test]
async fn a_job_is_added_once_leased_once_and_completed_over_a_restart() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let engine = open(dir.path(), &clock);
    let add = |key: &str| AddParams { queue: queue(), jobs: vec![job(key)], atomic: false };
    let first = engine.add(add("a")).await.unwrap().remove(0).unwrap();
    let again = engine.add(add("a")).await.unwrap().remove(0).unwrap();
    assert_eq!((again.id, again.duplicate), (first.id, true));
    let leased = engine.lease(lease(10)).await.unwrap();
    assert_eq!(leased.len(), 1);
    let token = leased[0].attempt().unwrap().token;
    drop(engine);

    let engine = open(dir.path(), &clock);
    let after_restart = engine.add(add("a")).await.unwrap().remove(0).unwrap();
    assert_eq!((after_restart.id, after_restart.duplicate), (first.id, true));
    let complete =
        SettleOp { id: first.id, token, action: SettleAction::End(End::Complete { result: None }) };
    let settled = engine.settle(vec![complete]).await.unwrap().remove(0).unwrap();
    assert_eq!(settled.state, State::Completed);
    let view = engine.get(first.id).await.unwrap().unwrap();
    assert_eq!((view.job.state, view.attempts.len(), view.job.duplicates), (State::Completed, 1, 2));
    let events = engine.events(onefold_core::EventsParams { after: 0, limit: 100 }).await.unwrap();
    assert_eq!(events.events.len(), 5, "{events:?}");
    assert!(engine.queues().await.unwrap()[0].counts.conserved());
}
