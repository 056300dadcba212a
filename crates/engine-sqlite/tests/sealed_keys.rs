//! I3 beyond the memory of the key index: slower, exact, never forgetting.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod kit;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kit::{GatedClock, add, call, damage, days, end, keyed, queue};
use onefold_core::{Clock, End, Engine, EngineError, NewJob, SeededEntropy};
use onefold_engine_sqlite::inspect::{Check, Inspector};
use onefold_engine_sqlite::{Options, SqliteEngine};

/// Room for about a thousand keys.
const BYTES: usize = 16 * 1024;

fn open(dir: &Path, clock: &Arc<GatedClock>) -> SqliteEngine {
    let options = Options::new(clock.clone(), Arc::new(SeededEntropy::new(1)));
    SqliteEngine::open(dir, Options { key_index_bytes: BYTES, ..options }).unwrap()
}

fn batch(keys: std::ops::Range<u32>) -> Vec<NewJob> {
    keys.map(|n| keyed(&format!("key-{n}"))).collect()
}

/// How many of these keys are held.
async fn held(engine: &SqliteEngine, keys: std::ops::Range<u32>) -> usize {
    let added = engine.add(kit::jobs(batch(keys))).await.unwrap();
    added.into_iter().filter(|added| added.as_ref().unwrap().duplicate).count()
}

fn assert_healthy(dir: &Path, clock: &GatedClock) {
    let checked = Inspector::open(dir).unwrap().check(clock.now(), &mut |_| {}).unwrap();
    assert_eq!(checked.findings, Default::default());
}

/// However many keys there are, and whenever the store is opened again: every one is held, memory
/// stays within its budget, and after their windows all are free and forgotten.
#[tokio::test]
async fn sealed_keys_are_held_over_restarts_and_free_after_their_windows() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let mut engine = open(dir.path(), &clock);
    const KEYS: u32 = 6_000;
    for start in (0..KEYS).step_by(250) {
        assert_eq!(held(&engine, start..start + 250).await, 0);
        if start % 1_000 == 250 {
            // Also in the middle of a pass.
            drop(engine);
            engine = open(dir.path(), &clock);
        }
    }
    let stats = engine.stats().await.unwrap();
    assert_eq!(stats.keys, u64::from(KEYS));
    assert!(stats.keys_in_memory < 2_000, "{}", stats.keys_in_memory);
    assert_eq!(held(&engine, 0..KEYS).await, KEYS as usize);
    assert_healthy(dir.path(), &clock);
    drop(engine);
    let engine = open(dir.path(), &clock);
    assert_eq!(held(&engine, 0..KEYS).await, KEYS as usize);
    assert_eq!(engine.stats().await.unwrap().keys, u64::from(KEYS));
    let leased = engine.lease(call(KEYS)).await.unwrap();
    engine.settle(leased.iter().map(|l| end(l, End::Complete { result: None })).collect()).await.unwrap();
    clock.advance(days(8));
    while engine.tick().await.unwrap().next <= clock.now() {}
    assert_eq!(engine.stats().await.unwrap().keys, 0);
    assert_eq!(held(&engine, 0..10).await, 0, "they are free");
    drop(engine);
    let engine = open(dir.path(), &clock);
    assert_eq!(held(&engine, 0..20).await, 10, "and the new ones held, over a restart");
    assert_healthy(dir.path(), &clock);
}

/// What a rolled-back transaction sealed is in memory as before.
#[tokio::test]
async fn a_rolled_back_transaction_loses_no_key() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let bad = add(&engine, NewJob::default()).await;
    damage(dir.path(), bad);
    for start in (0..4_000).step_by(200) {
        clock.shut();
        let held_up = engine.stats();
        clock.wait_for_the_writer();
        let added = engine.add(kit::jobs(batch(start..start + 200)));
        let refused = engine.cancel(bad, false);
        clock.open();
        held_up.await.unwrap();
        assert!(added.await.unwrap().iter().all(|added| !added.as_ref().unwrap().duplicate));
        assert!(matches!(refused.await, Err(EngineError::Corrupt(_))));
    }
    assert_eq!(held(&engine, 0..4_000).await, 4_000);
    assert_eq!(engine.stats().await.unwrap().keys, 4_000);
    let checked = Inspector::open(dir.path()).unwrap().check(clock.now(), &mut |_| {}).unwrap();
    assert!(!checked.findings.contains_key(&Check::Keys), "{:?}", checked.findings);
}

/// The keys of a deleted queue are free, sealed or not.
#[tokio::test]
async fn deleting_a_queue_frees_its_sealed_keys() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    engine.add(kit::jobs(batch(0..3_000))).await.unwrap();
    engine.delete_queue(queue("q"), true).await.unwrap().unwrap();
    assert_eq!(engine.stats().await.unwrap().keys, 0);
    assert_eq!(held(&engine, 0..3_000).await, 0);
}

/// While the disk is full nothing is sealed: what little space is left is for finishing.
#[tokio::test]
async fn nothing_is_sealed_while_the_disk_is_full() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let free = Arc::new(AtomicU64::new(1 << 40));
    let probe = Arc::clone(&free);
    let options = Options {
        free_space: Some(Arc::new(move || Some(probe.load(Ordering::Relaxed)))),
        ..Options::new(clock.clone(), Arc::new(SeededEntropy::new(1)))
    };
    let engine = SqliteEngine::open(dir.path(), options.clone()).unwrap();
    engine.add(kit::jobs(batch(0..6_000))).await.unwrap();
    drop(engine);
    free.store(0, Ordering::Relaxed);
    let engine = SqliteEngine::open(dir.path(), Options { key_index_bytes: BYTES, ..options }).unwrap();
    for _ in 0..20 {
        assert_eq!(engine.stats().await.unwrap().keys_in_memory, 6_000);
    }
    free.store(1 << 40, Ordering::Relaxed);
    for _ in 0..20 {
        engine.stats().await.unwrap();
    }
    assert!(engine.stats().await.unwrap().keys_in_memory < 2_000, "and then it is");
}
