//! Damage that reaches work nobody named: it goes on without the damaged job.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod kit;

use kit::{GatedClock, add, after, call, damage, days, end, ids, keyed, open, queue, secs};
use onefold_core::{
    Clock, End, Engine, EngineError, FreeOn, Group, JobId, LeaseParams, LeasedJob, NewJob, State,
};
use onefold_engine_sqlite::SqliteEngine;
use onefold_engine_sqlite::inspect::Inspector;

fn in_group(name: &str) -> NewJob {
    let mut job = NewJob::default();
    job.spec.group = Some(Group::new(name).unwrap());
    job
}

async fn complete(engine: &SqliteEngine, leased: &LeasedJob) {
    kit::settle(engine, end(leased, End::Complete { result: None })).await.unwrap().unwrap();
}

/// Has the engine forget what it knows of a running job beside its row: by a transaction that
/// extends its lease and is rolled back over `bad`, a damaged job.
async fn evict(engine: &SqliteEngine, clock: &GatedClock, leased: &LeasedJob, bad: JobId) {
    clock.shut();
    let held_up = engine.stats();
    clock.wait_for_the_writer();
    let extend = onefold_core::SettleAction::Extend(onefold_core::DurationMs::from_ms(30_000));
    let op = onefold_core::SettleOp { action: extend, ..end(leased, End::Release) };
    let extended = engine.settle(vec![op]);
    let refused = engine.cancel(bad, false);
    clock.open();
    held_up.await.unwrap();
    extended.await.unwrap().remove(0).unwrap();
    assert!(matches!(refused.await, Err(EngineError::Corrupt(_))));
}

/// The end of a job is accepted although the next job of its group is damaged.
#[tokio::test]
async fn a_job_ends_although_the_next_of_its_group_is_damaged() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let first = add(&engine, in_group("g")).await;
    let second = add(&engine, in_group("g")).await;
    let held = engine.lease(call(9)).await.unwrap();
    assert_eq!(ids(&held), [first]);
    damage(dir.path(), second);
    complete(&engine, &held[0]).await;
    assert_eq!(engine.get(first).await.unwrap().unwrap().job.state, State::Completed);
    assert_eq!(engine.lease(call(9)).await.unwrap(), []);
}

/// A lost lease ends although the next job of the group is damaged.
#[tokio::test]
async fn a_deadline_passes_although_the_next_of_the_group_is_damaged() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let first = add(&engine, NewJob { max_attempts: Some(1), ..in_group("g") }).await;
    let second = add(&engine, in_group("g")).await;
    engine.lease(call(1)).await.unwrap();
    damage(dir.path(), second);
    clock.advance(secs(31));
    assert_eq!(engine.tick().await.unwrap().expired, 1);
    assert_eq!(engine.get(first).await.unwrap().unwrap().job.state, State::Dead);
}

/// A store with a damaged running job can be opened; the others go on.
#[tokio::test]
async fn a_damaged_running_job_does_not_keep_the_store_from_opening() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let bad = add(&engine, NewJob::default()).await;
    let good = add(&engine, NewJob::default()).await;
    let held = engine.lease(call(2)).await.unwrap();
    drop(engine);
    damage(dir.path(), bad);
    let engine = open(dir.path(), &clock);
    complete(&engine, &held[1]).await;
    assert_eq!(engine.get(good).await.unwrap().unwrap().job.state, State::Completed);
    assert!(matches!(engine.get(bad).await, Err(EngineError::Corrupt(_))));
    clock.advance(secs(60));
    engine.tick().await.unwrap();
}

/// A step of the clock is acted on although a running job is damaged.
#[tokio::test]
async fn a_clock_step_is_acted_on_although_a_running_job_is_damaged() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let bad = add(&engine, NewJob::default()).await;
    let running = engine.lease(call(1)).await.unwrap().remove(0);
    let other = add(&engine, after(secs(90_000))).await;
    damage(dir.path(), other);
    evict(&engine, &clock, &running, other).await;
    damage(dir.path(), bad);
    evict_again(&engine, &clock, other).await;
    clock.step_by(secs(600));
    assert!(engine.tick().await.unwrap().clock_stepped);
}

/// Rolls back a transaction that looks at every running job.
async fn evict_again(engine: &SqliteEngine, clock: &GatedClock, bad: JobId) {
    clock.shut();
    let held_up = engine.stats();
    clock.wait_for_the_writer();
    let poll = engine.lease(LeaseParams { poll: Some(99), ..call(1) });
    let refused = engine.cancel(bad, false);
    clock.open();
    held_up.await.unwrap();
    let _ = poll.await;
    assert!(matches!(refused.await, Err(EngineError::Corrupt(_))));
}

/// Polls with an id get jobs although some running job is damaged.
#[tokio::test]
async fn polls_with_an_id_are_served_although_a_running_job_is_damaged() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let bad = add(&engine, NewJob::default()).await;
    engine.lease(call(1)).await.unwrap();
    let other = add(&engine, after(secs(90_000))).await;
    damage(dir.path(), other);
    damage(dir.path(), bad);
    evict_again(&engine, &clock, other).await;
    let good = add(&engine, NewJob::default()).await;
    let leased = engine.lease(LeaseParams { poll: Some(5), ..call(1) }).await.unwrap();
    assert_eq!(ids(&leased), [good]);
}

/// A finished job in a state that does not exist is passed over.
#[tokio::test]
async fn a_state_nobody_knows_does_not_stop_retention() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let bad = add(&engine, NewJob::default()).await;
    let good = add(&engine, NewJob::default()).await;
    for held in engine.lease(call(2)).await.unwrap() {
        complete(&engine, &held).await;
    }
    let conn = rusqlite::Connection::open(dir.path().join("onefold.db")).unwrap();
    conn.pragma_update(None, "ignore_check_constraints", true).unwrap();
    let sql = "UPDATE onefold_jobs SET state = 77 WHERE seq = ?1";
    assert_eq!(conn.execute(sql, [bad.seq().get() as i64]).unwrap(), 1);
    drop(conn);
    clock.advance(days(8));
    assert_eq!(engine.tick().await.unwrap().purged, 1);
    assert_eq!(engine.get(good).await.unwrap(), None);
}

/// A column of another type is damage of one row, too.
#[tokio::test]
async fn a_column_of_another_type_does_not_stop_the_engine() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let bad = add(&engine, NewJob::default()).await;
    let good = add(&engine, NewJob::default()).await;
    for held in engine.lease(call(2)).await.unwrap() {
        complete(&engine, &held).await;
    }
    drop(engine);
    let conn = rusqlite::Connection::open(dir.path().join("onefold.db")).unwrap();
    conn.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    conn.pragma_update(None, "writable_schema", true).unwrap();
    let strict = |from: &str, to: &str| {
        let sql = "UPDATE sqlite_schema SET sql = replace(sql, ?1, ?2) WHERE name = 'onefold_jobs'";
        assert_eq!(conn.execute(sql, [from, to]).unwrap(), 1);
    };
    strict(") STRICT", ")");
    drop(conn);
    let conn = rusqlite::Connection::open(dir.path().join("onefold.db")).unwrap();
    conn.execute("UPDATE onefold_jobs SET retain = 'a text' WHERE seq = ?1", [bad.seq().get() as i64])
        .unwrap();
    drop(conn);
    let engine = open(dir.path(), &clock);
    clock.advance(days(8));
    assert_eq!(engine.tick().await.unwrap().purged, 1);
    assert_eq!(engine.get(good).await.unwrap(), None);
}

/// A finished job that was passed over is purged once it can be read again.
#[tokio::test]
async fn a_job_passed_over_by_retention_is_purged_after_its_repair() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let id = add(&engine, in_group("g")).await;
    let held = engine.lease(call(1)).await.unwrap();
    complete(&engine, &held[0]).await;
    let body = |dir: &std::path::Path| -> Vec<u8> {
        let conn = rusqlite::Connection::open(dir.join("onefold.db")).unwrap();
        conn.query_row("SELECT body FROM onefold_jobs", [], |row| row.get(0)).unwrap()
    };
    let whole = body(dir.path());
    damage(dir.path(), id);
    clock.advance(days(8));
    for _ in 0..3 {
        assert_eq!(engine.tick().await.unwrap().purged, 0);
    }
    assert!(engine.tick().await.unwrap().next > clock.now(), "no hurry");
    drop(engine);
    let conn = rusqlite::Connection::open(dir.path().join("onefold.db")).unwrap();
    conn.execute("UPDATE onefold_jobs SET body = ?1", [whole]).unwrap();
    drop(conn);
    let engine = open(dir.path(), &clock);
    clock.advance(days(8));
    while engine.tick().await.unwrap().next <= clock.now() {}
    assert_eq!(engine.get(id).await.unwrap(), None);
}

/// I3: the key of an unfinished job is held although the job's row is damaged.
#[tokio::test]
async fn a_damaged_unfinished_job_keeps_its_key() {
    for damage in ["created_at = created_at + 1", "state = 5"] {
        let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
        let engine = open(dir.path(), &clock);
        let id = add(&engine, keyed("a")).await;
        let conn = rusqlite::Connection::open(dir.path().join("onefold.db")).unwrap();
        conn.pragma_update(None, "ignore_check_constraints", true).unwrap();
        let sql = format!("UPDATE onefold_jobs SET {damage} WHERE seq = ?1");
        assert_eq!(conn.execute(&sql, [id.seq().get() as i64]).unwrap(), 1);
        drop(conn);
        clock.advance(days(8));
        engine.tick().await.unwrap();
        let again = engine.add(kit::jobs(vec![keyed("a")])).await;
        assert!(matches!(again, Err(EngineError::Corrupt(_))), "{damage}: {again:?}");
    }
}

/// Redriving a queue passes over a damaged dead job.
#[tokio::test]
async fn a_damaged_dead_job_does_not_stop_a_redrive() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let bad = add(&engine, NewJob::default()).await;
    let good = add(&engine, NewJob::default()).await;
    engine.cancel(bad, false).await.unwrap().unwrap();
    engine.cancel(good, false).await.unwrap().unwrap();
    damage(dir.path(), bad);
    let params = onefold_core::RedriveParams {
        queue: queue("q"),
        states: vec![State::Cancelled],
        filter: Default::default(),
        accept_duplicates: false,
        limit: 100,
    };
    assert_eq!(engine.redrive(params).await.unwrap().unwrap().redriven, 1);
    assert_eq!(ids(&engine.lease(call(9)).await.unwrap()), [good]);
}

/// The settings of a queue can be changed although a job of a group is damaged.
#[tokio::test]
async fn a_damaged_job_of_a_group_does_not_keep_settings_from_changing() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let mut waits = in_group("g");
    waits.when = onefold_core::When::After(secs(100));
    let bad = add(&engine, waits).await;
    add(&engine, in_group("g")).await;
    let other = add(&engine, in_group("h")).await;
    damage(dir.path(), bad);
    let patch = onefold_core::QueuePatch {
        group_head: Some(Some(onefold_core::GroupHead::Skip)),
        ..Default::default()
    };
    engine.set_queue(queue("q"), patch).await.unwrap();
    assert_eq!(
        ids(&engine.lease(call(9)).await.unwrap()),
        [other],
        "nobody can tell whether the head is over"
    );
}

/// Damages the first page of a table behind the engine's back, while the store is closed.
fn damage_page(dir: &std::path::Path, table: &str) {
    let path = dir.join("onefold.db");
    let conn = rusqlite::Connection::open(&path).unwrap();
    let page_size: i64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let root: i64 = conn.query_row(sql, [table], |row| row.get(0)).unwrap();
    drop(conn);
    let mut bytes = std::fs::read(&path).unwrap();
    let mut at = ((root - 1) * page_size) as usize;
    if matches!(bytes[at], 2 | 5) {
        let cell = at + usize::from(u16::from_be_bytes([bytes[at + 12], bytes[at + 13]]));
        let child = u32::from_be_bytes(bytes[cell..cell + 4].try_into().unwrap());
        at = ((i64::from(child) - 1) * page_size) as usize;
    }
    assert!(matches!(bytes[at], 10 | 13), "a leaf");
    bytes[at] = 0x77;
    std::fs::write(&path, bytes).unwrap();
}

/// A damaged page takes the jobs that lie in it out of turn, whatever the size of a lease.
#[tokio::test]
async fn a_damaged_page_of_specs_stops_only_its_own_jobs() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let mut job = keyed("x");
    job.spec.key = None;
    engine.add(kit::jobs(vec![job; 300])).await.unwrap();
    drop(engine);
    damage_page(dir.path(), "onefold_specs");
    let engine = open(dir.path(), &clock);
    let mut leased = engine.lease(call(500)).await;
    if leased.is_err() {
        // So many at once are told of.
        leased = engine.lease(call(500)).await;
    }
    let leased = leased.unwrap().len();
    assert!(leased > 0 && leased < 300, "{leased}");
}

/// Damage of what all jobs share is told of, and takes no long time.
#[tokio::test]
async fn a_damaged_page_of_attempts_is_told_of() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    engine.add(kit::jobs(vec![NewJob::default(); 300])).await.unwrap();
    let leased = engine.lease(call(300)).await.unwrap();
    engine.settle(leased.iter().map(|leased| end(leased, End::Release)).collect()).await.unwrap();
    drop(engine);
    damage_page(dir.path(), "onefold_attempts");
    let engine = open(dir.path(), &clock);
    let told = engine.lease(call(300)).await;
    assert!(matches!(told, Err(EngineError::Corrupt(_))), "{told:?}");
}

/// A job whose end frees its key ends although the entry of its key is damaged; the key stays held.
#[tokio::test]
async fn a_job_ends_although_the_ledger_entry_of_its_key_is_damaged() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let until_done = |key| {
        let mut job = keyed(key);
        job.spec.dedup.free_on = FreeOn::DONE;
        NewJob { max_attempts: Some(1), ..job }
    };
    let completes = add(&engine, until_done("a")).await;
    let dies = add(&engine, until_done("b")).await;
    let held = engine.lease(call(2)).await.unwrap();
    let conn = rusqlite::Connection::open(dir.path().join("onefold.db")).unwrap();
    assert_eq!(conn.execute("UPDATE onefold_ledger SET until = until + 1", []).unwrap(), 2);
    drop(conn);
    complete(&engine, &held[0]).await;
    clock.advance(secs(31));
    engine.tick().await.unwrap();
    for (id, state) in [(completes, State::Completed), (dies, State::Dead)] {
        assert_eq!(engine.get(id).await.unwrap().unwrap().job.state, state);
    }
    assert!(matches!(engine.add(kit::jobs(vec![keyed("a")])).await, Err(EngineError::Corrupt(_))));
}

/// I3: a damaged hash in the ledger hides no key from an engine that opens the store.
#[tokio::test]
async fn a_damaged_hash_frees_no_key_over_a_restart() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    add(&engine, keyed("a")).await;
    add(&engine, keyed("b")).await;
    drop(engine);
    let conn = rusqlite::Connection::open(dir.path().join("onefold.db")).unwrap();
    let flip = "UPDATE onefold_ledger SET hash = hash + (1 << 40) WHERE key = 'a'";
    assert_eq!(conn.execute(flip, []).unwrap(), 1);
    drop(conn);
    let engine = open(dir.path(), &clock);
    assert!(matches!(engine.add(kit::jobs(vec![keyed("a")])).await, Err(EngineError::Corrupt(_))));
    assert!(engine.add(kit::jobs(vec![keyed("b")])).await.unwrap().remove(0).unwrap().duplicate);
}

/// A queue with damaged jobs can be deleted, by force, and leaves nothing behind.
#[tokio::test]
async fn a_queue_with_damaged_jobs_can_be_deleted() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let ready = add(&engine, keyed("a")).await;
    let delayed = add(&engine, after(secs(5))).await;
    let grouped = add(&engine, in_group("g")).await;
    let behind = add(&engine, in_group("g")).await;
    for id in [ready, delayed, grouped] {
        damage(dir.path(), id);
    }
    let deleted = engine.delete_queue(queue("q"), true).await.unwrap().unwrap();
    assert_eq!(deleted.jobs, 4);
    assert_eq!(engine.get(behind).await.unwrap(), None);
    clock.advance(secs(5));
    assert_eq!(engine.tick().await.unwrap().due, 0);
    drop(engine);
    let checked = Inspector::open(dir.path()).unwrap().check(clock.now(), &mut |_| {}).unwrap();
    assert_eq!(checked.findings, Default::default());
    let engine = open(dir.path(), &clock);
    assert!(!engine.add(kit::jobs(vec![keyed("a")])).await.unwrap().remove(0).unwrap().duplicate);
}
