use onefold_core::{AddParams, End, Engine, EngineError, SettleAction, SettleOp, State};
use onefold_crash::{Fault, Recorder, scratch_dir};
use onefold_engine_sqlite::SqliteEngine;

use crate::scenario::{check, clock, job, lease_params, options, play, queue};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn add(key: &str) -> AddParams {
    AddParams { queue: queue(), jobs: vec![job(key)], atomic: false }
}

/// An fsync that failed is never retried and believed: the engine stops, says so, and what was
/// acknowledged before is there after a restart.
#[test]
fn a_failed_sync_poisons_the_engine() {
    block_on(async {
        let dir = scratch_dir().unwrap();
        let recorder = Recorder::install(dir.path()).unwrap();
        let clock = clock();
        let engine = SqliteEngine::open(dir.path(), options(&clock, Some(recorder.vfs_name()))).unwrap();
        let first = engine.add(add("a")).await.unwrap().remove(0).unwrap();
        recorder.inject(Fault::sync().in_file("onefold.db-wal"));
        let failed = engine.add(add("b")).await;
        assert!(matches!(failed, Err(EngineError::Poisoned(_))), "{failed:?}");
        assert!(matches!(engine.add(add("c")).await, Err(EngineError::Poisoned(_))));
        assert!(matches!(engine.lease(lease_params(1)).await, Err(EngineError::Poisoned(_))));
        drop(engine);
        recorder.heal();
        let engine = SqliteEngine::open(dir.path(), options(&clock, Some(recorder.vfs_name()))).unwrap();
        assert_eq!(engine.add(add("a")).await.unwrap().remove(0).unwrap().id, first.id);
        assert_eq!(engine.queues().await.unwrap()[0].counts.duplicates, 1);
    });
}

/// A full disk refuses adds with its own error and poisons nothing; finishing goes on, and adding
/// again once there is space.
#[test]
fn a_full_disk_refuses_adds_and_lets_the_rest_go_on() {
    block_on(async {
        let dir = scratch_dir().unwrap();
        let recorder = Recorder::install(dir.path()).unwrap();
        let clock = clock();
        let engine = SqliteEngine::open(dir.path(), options(&clock, Some(recorder.vfs_name()))).unwrap();
        engine.add(add("a")).await.unwrap().remove(0).unwrap();
        let leased = engine.lease(lease_params(1)).await.unwrap().remove(0);
        recorder.inject(Fault::full());
        assert_eq!(engine.add(add("b")).await, Err(EngineError::DiskFull));
        let token = leased.attempt().unwrap().token;
        let op =
            SettleOp { id: leased.job.id, token, action: SettleAction::End(End::Complete { result: None }) };
        let settled = engine.settle(vec![op]).await.unwrap().remove(0).unwrap();
        assert_eq!(settled.state, State::Completed);
        drop(engine);
        let engine = SqliteEngine::open(dir.path(), options(&clock, Some(recorder.vfs_name()))).unwrap();
        let added = engine.add(add("b")).await.unwrap().remove(0).unwrap();
        assert!(!added.duplicate, "the refused add left nothing behind");
    });
}

/// The engine refuses adds before the disk is full, as soon as what is left is less than its
/// reserve, and takes them again when there is more.
#[test]
fn adding_stops_before_the_disk_is_full() {
    block_on(async {
        let dir = scratch_dir().unwrap();
        let clock = clock();
        let free = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(1 << 40));
        let mut options = options(&clock, None);
        let probe = free.clone();
        options.free_space =
            Some(std::sync::Arc::new(move || Some(probe.load(std::sync::atomic::Ordering::SeqCst))));
        free.store(1 << 20, std::sync::atomic::Ordering::SeqCst);
        let engine = SqliteEngine::open(dir.path(), options).unwrap();
        assert_eq!(engine.add(add("a")).await, Err(EngineError::DiskFull));
        assert!(engine.stats().await.unwrap().disk_full);
        free.store(1 << 40, std::sync::atomic::Ordering::SeqCst);
        assert!(engine.add(add("a")).await.unwrap()[0].is_ok());
    });
}

/// The check itself finds what it looks for: a mark of something that never happened.
#[test]
fn the_check_notices_what_was_lost() {
    block_on(async {
        let dir = scratch_dir().unwrap();
        let recorder = Recorder::install(dir.path()).unwrap();
        play(&recorder, 2).await;
        recorder.mark("added 99 job_01a1fd70f1c070008000000000000063");
        let marks = recorder.marks();
        assert!(check(dir.path(), &marks).await.unwrap_err().contains("I1"));
        assert_eq!(check(dir.path(), &marks[..marks.len() - 1]).await, Ok(()));
    });
}

fn complete(leased: &onefold_core::LeasedJob) -> SettleOp {
    let token = leased.attempt().unwrap().token;
    SettleOp { id: leased.job.id, token, action: SettleAction::End(End::Complete { result: None }) }
}

/// A disk that stays full although the file system says there is plenty: who finishes is told so
/// too, nothing is lost, and all goes on by itself once there is space.
#[test]
fn a_disk_that_stays_full_is_told_and_outlived() {
    block_on(async {
        let dir = scratch_dir().unwrap();
        let recorder = Recorder::install(dir.path()).unwrap();
        let clock = clock();
        for free in [None, Some(1_u64 << 40)] {
            let mut options = options(&clock, Some(recorder.vfs_name()));
            options.free_space = Some(std::sync::Arc::new(move || free));
            let engine = SqliteEngine::open(dir.path(), options).unwrap();
            let key = format!("{free:?}");
            engine.add(add(&key)).await.unwrap().remove(0).unwrap();
            let leased = engine.lease(lease_params(1)).await.unwrap().remove(0);
            recorder.inject(Fault::full().from_then_on());
            for _ in 0..3 {
                assert_eq!(engine.settle(vec![complete(&leased)]).await, Err(EngineError::DiskFull));
                assert_eq!(engine.add(add("b")).await, Err(EngineError::DiskFull));
            }
            recorder.heal();
            let settled = engine.settle(vec![complete(&leased)]).await.unwrap().remove(0).unwrap();
            assert_eq!(settled.state, State::Completed);
            let other = engine.add(add(&format!("after {key}"))).await.unwrap().remove(0).unwrap();
            assert!(!other.duplicate);
            assert_eq!(engine.lease(lease_params(9)).await.unwrap().len(), 1);
            drop(engine);
        }
    });
}

/// A transaction that failed at any of its writes never happened: memory says what the file says,
/// and the same operations done again have their whole effect.
#[test]
fn whatever_write_a_transaction_fails_at_it_never_happened() {
    block_on(async {
        let dir = scratch_dir().unwrap();
        let recorder = Recorder::install(dir.path()).unwrap();
        let clock = clock();
        let engine = SqliteEngine::open(dir.path(), options(&clock, Some(recorder.vfs_name()))).unwrap();
        let mut failed = 0;
        for passes in 0..12 {
            let caused = recorder.faults_caused();
            recorder.inject(Fault::full().after(passes));
            let key = format!("key {passes}");
            let added = match engine.add(add(&key)).await {
                Err(EngineError::DiskFull) => engine.add(add(&key)).await.unwrap(),
                added => added.unwrap(),
            };
            let added = added.into_iter().next().unwrap().unwrap();
            assert!(!added.duplicate, "write {passes}");
            let leased = engine.lease(lease_params(9)).await.unwrap();
            assert_eq!(leased.iter().map(|l| l.job.id).collect::<Vec<_>>(), [added.id], "write {passes}");
            let settled = engine.settle(vec![complete(&leased[0])]).await.unwrap().remove(0);
            assert_eq!(settled.unwrap().state, State::Completed, "write {passes}");
            assert_eq!(engine.get(added.id).await.unwrap().unwrap().job.state, State::Completed);
            failed += recorder.faults_caused() - caused;
        }
        recorder.heal();
        assert!(failed > 5, "{failed}");
        let counts = engine.queues().await.unwrap()[0].counts;
        assert_eq!((counts.accepted, counts.completed), (12, 12));
    });
}
