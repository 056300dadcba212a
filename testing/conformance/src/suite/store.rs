//! The store as a whole.

use onefold_core::{EngineError, Outcome, limits};

use crate::{Build, Harness, call, complete, fail, fail_for, job, keyed, ms, peek, queue, secs, snooze};

/// Serving: after close every call says so; what was begun is there at the next opening.
pub async fn a_closed_store_says_so(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let engine = h.engine();
    let poll = h.park(onefold_core::LeaseParams { wait: limits::WAIT_MAX, ..call("nothing") }).await;
    engine.close().await.unwrap();
    let mut poll = poll;
    while poll.peek().await.is_none() {
        tokio::task::yield_now().await;
    }
    let params = onefold_core::AddParams { queue: queue("q"), jobs: vec![job()], atomic: false };
    assert_eq!(engine.add(params).await, Err(EngineError::Closed));
    assert_eq!(engine.lease(call("q")).await, Err(EngineError::Closed));
    assert_eq!(engine.tick().await, Err(EngineError::Closed));
    assert_eq!(engine.get(id).await, Err(EngineError::Closed));
    h.reopen_after_crash().await;
    assert_eq!(h.take("q").await.id, id);
}

/// API: the attempts of a store are counted by outcome, each end once.
pub async fn attempts_are_counted_by_outcome(h: &mut dyn Harness) {
    h.add_all("q", vec![job().max_attempts(100); 2]).await;
    let ends = [fail_for(secs(0)), snooze(secs(0)), onefold_core::End::Release, complete()];
    for end in ends {
        let lease = h.take("q").await;
        h.end(lease, end.clone()).await;
        h.try_end(lease, end).await.unwrap();
        h.tick().await;
    }
    h.lose("q").await;
    let revoked = h.take("q").await;
    h.force_cancel(revoked.id).await.unwrap();
    h.try_end(revoked, fail()).await.unwrap_err();
    h.add("q", job().timeout(ms(100))).await;
    h.take("q").await;
    h.pass(ms(100)).await;
    let counted = h.engine().stats().await.unwrap().attempts;
    for outcome in Outcome::ALL {
        let count: u64 = counted.iter().filter(|(o, _)| o == outcome).map(|(_, n)| n).sum();
        assert_eq!(count, 1, "{outcome}: {counted:?}");
    }
}

/// Contract: a backup writes a new file beside running work where the engine can, and is refused
/// where it cannot or where the file exists; either way the store goes on.
pub async fn a_backup_is_made_or_refused(h: &mut dyn Harness) {
    h.add("q", keyed("k", "x")).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("copy");
    let made = h.engine().backup(file.clone()).await;
    if h.engine().capabilities().backup {
        let done = made.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().len(), done.bytes);
        assert!(matches!(h.engine().backup(file).await, Err(EngineError::Io(_))));
    } else {
        assert!(matches!(made, Err(EngineError::Io(_))));
        assert!(!file.exists());
    }
    assert_eq!(h.work("q", complete()).await.accepted_unix_ms(), h.now().as_unix_ms());
}

/// Contract: an operation whose future is dropped before it began changes nothing, or all of it.
pub async fn a_dropped_add_is_whole_or_not_at_all(h: &mut dyn Harness) {
    let engine = h.engine();
    let jobs = vec![keyed("a", "x"), keyed("b", "x")];
    let params = onefold_core::AddParams { queue: queue("q"), jobs, atomic: true };
    let mut adding = engine.add(params);
    let _ = peek(adding.as_mut()).await;
    drop(adding);
    let repeats = h.add_atomic("q", vec![keyed("a", "x"), keyed("b", "x")]).await;
    let duplicate: Vec<bool> = repeats.iter().map(|added| added.as_ref().unwrap().duplicate).collect();
    assert_eq!(duplicate[0], duplicate[1]);
    assert_eq!(h.counts("q").await.accepted, 2);
}
