//! What goes wrong between a node and its server, and what callers are told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a broken expectation is a failed test")]

mod kit;

use std::time::Duration;

use futures_util::FutureExt;
use kit::*;
use onefold_core::{
    AddParams, DurationMs, Engine, EngineError, JobFilter, JobId, LeaseParams, LeasedJob, NewJob,
    RedriveParams, Refusal, SettleAction, SettleOp, State, When,
};
use onefold_engine_postgres::{Migrated, OpenError, PostgresConfig, SCHEMA_VERSION, migrate};

/// I3: a key in somebody's open transaction delays only callers of that key; they are told to try again, and answered
/// right once the transaction has ended, either way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_an_open_transaction_delays_only_callers_of_its_key() {
    let config = config();
    let node = node(&config).await;
    let first = add_one(&node, "q", keyed("taken")).await;
    for committed in [false, true] {
        let key = format!("open {committed}");
        let mut other = other(&config).await;
        let open = other.transaction().await.unwrap();
        open.execute(
            "INSERT INTO keys SELECT ns, queue, space, $1, seq, created_ms, fingerprint, until_ms, free_on FROM keys \
             WHERE key = 'taken'",
            &[&key],
        )
        .await
        .unwrap();
        let others = add(&node, "q", vec![keyed(&format!("free {committed}")), NewJob::default()]).await;
        assert!(others.iter().all(|added| added.as_ref().is_ok_and(|added| !added.duplicate)));
        // More callers than there are lanes, and than there are connections: none of them keeps anybody else.
        let waiting: Vec<_> = (0..40).map(|_| node.add(add_params("q", vec![keyed(&key)]))).collect();
        let more =
            vec![keyed(&format!("before {committed}")), keyed(&key), keyed(&format!("after {committed}"))];
        let mixed = node.add(add_params("q", more));
        // With keys of its own: those of the call beside it may be held for a moment, too.
        let one = |place: &str| keyed(&format!("atomic {place} {committed}"));
        let all = vec![one("before"), keyed(&key), one("after")];
        let atomic = node.add(AddParams { atomic: true, ..add_params("q", all) });
        assert!(!add_one(&node, "q", keyed(&format!("meanwhile {committed}"))).await.duplicate);
        for one in waiting {
            assert_eq!(one.await, Ok(vec![Err(Refusal::KeyInProgress)]));
        }
        let mixed = mixed.await.unwrap();
        assert_eq!(mixed[1], Err(Refusal::KeyInProgress));
        assert!(mixed[0].is_ok() && mixed[2].is_ok());
        let of_batch = Err(Refusal::AtomicBatch { item: 1 });
        assert_eq!(atomic.await.unwrap(), [of_batch.clone(), Err(Refusal::KeyInProgress), of_batch]);
        if committed {
            open.commit().await.unwrap();
            let added = add_one(&node, "q", keyed(&key)).await;
            assert_eq!((added.id, added.duplicate), (first.id, true));
        } else {
            open.rollback().await.unwrap();
            assert!(!add_one(&node, "q", keyed(&key)).await.duplicate);
        }
    }
}

/// A job in somebody's open transaction delays only those who say something about that job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_in_an_open_transaction_delays_only_its_own_operations() {
    let config = config();
    let node = node(&config).await;
    add(&node, "q", vec![keyed("a"), keyed("b"), keyed("c")]).await;
    let leased = lease(&node, "q", 3).await;
    let mut other = other(&config).await;
    let open = other.transaction().await.unwrap();
    open.batch_execute("SELECT * FROM jobs j JOIN specs s USING (seq) WHERE s.key = 'b' FOR UPDATE OF j")
        .await
        .unwrap();
    let settled = node.settle(leased.iter().map(complete).collect()).await.unwrap();
    assert!(settled[0].is_ok() && settled[2].is_ok());
    assert_eq!(settled[1], Err(Refusal::JobInProgress));
    open.rollback().await.unwrap();
    assert!(settle(&node, complete(&leased[1])).await.is_ok());
}

/// Errors: connections that break between operations cost nobody anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_are_made_again() {
    let mut config = config();
    let name = format!("broken {}", std::process::id());
    config.server.application_name(&name);
    let node = node(&config).await;
    config.server.application_name("somebody else");
    let other = other(&config).await;
    for number in 0..5 {
        add_one(&node, "q", keyed(&format!("k{number}"))).await;
        other
            .query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1",
                &[&name],
            )
            .await
            .unwrap();
    }
    assert_eq!(node.queue(queue("q")).await.unwrap().unwrap().counts.accepted, 5);
}

/// I1: a connection that breaks during a commit leaves the outcome open, and says so; a repeat of the key resolves it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_commit_without_an_answer_is_of_unknown_outcome() {
    let config = config();
    let node = node(&config).await;
    add_one(&node, "q", NewJob::default()).await;
    let other = other(&config).await;
    // A commit that takes its time, and then breaks.
    other
        .batch_execute(
            "CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER stall AFTER INSERT ON jobs DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION stall()",
        )
        .await
        .unwrap();
    let adding = node.add(add_params("q", vec![keyed("k")]));
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event = 'PgSleep'";
    while other.query(kill, &[]).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(adding.await, Err(EngineError::OutcomeUnknown));
    other.batch_execute("DROP TRIGGER stall ON jobs").await.unwrap();
    assert!(!add_one(&node, "q", keyed("k")).await.duplicate, "it had not happened");
    assert!(add_one(&node, "q", keyed("k")).await.duplicate);
}

/// Bad input: when all connections are lent, callers are told to try again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_pool_is_busy() {
    let config = PostgresConfig {
        connections: 1,
        lend_within: Duration::from_millis(50),
        lock_wait: Duration::from_secs(60),
        ..config()
    };
    let node = node(&config).await;
    let id = add_one(&node, "q", keyed("k")).await.id;
    let mut holder = other(&config).await;
    let open = holder.transaction().await.unwrap();
    open.batch_execute("SELECT * FROM jobs FOR UPDATE").await.unwrap();
    let mut blocked = node.cancel(id, false);
    // For as long as it may, and not for the moment it first tries. Seen from outside: in a transaction what
    // pg_stat_activity shows stays as it was when first looked at.
    let outside = other(&config).await;
    let waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND strpos(query, $1) > 0 \
                 AND clock_timestamp() - query_start > interval '1 second'";
    let schema = format!("\"{}\"", config.schema);
    while outside.query(waits, &[&schema]).await.unwrap().is_empty() {
        // Between its first try and the long one the only connection may have been somebody else's.
        if let Some(outcome) = (&mut blocked).now_or_never() {
            assert_eq!(outcome, Err(EngineError::Busy));
            blocked = node.cancel(id, false);
        }
    }
    assert_eq!(node.queues().await, Err(EngineError::Busy));
    open.rollback().await.unwrap();
    assert!(blocked.await.unwrap().is_ok());
    assert!(node.queues().await.is_ok());
}

/// Schema: made once however many programs ask at once; a newer one is refused by both doors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_made_once_and_a_newer_one_is_refused() {
    let config = config();
    let racing: Vec<_> = (0..4)
        .map(|_| {
            let config = config.clone();
            tokio::spawn(async move { migrate(&config).await })
        })
        .collect();
    for one in racing {
        assert_eq!(one.await.unwrap().unwrap().to, SCHEMA_VERSION);
    }
    let again = migrate(&config).await.unwrap();
    assert_eq!(again, Migrated { from: SCHEMA_VERSION, to: SCHEMA_VERSION });
    let other = other(&config).await;
    other.batch_execute("INSERT INTO schema_versions (version) VALUES (99)").await.unwrap();
    let newer = OpenError::Newer { found: 99, known: SCHEMA_VERSION };
    assert_eq!(migrate(&config).await, Err(newer.clone()));
    assert_eq!(try_node(&config).await.err(), Some(newer));
}

/// Schema: a migration that breaks in the middle leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_never_half_made() {
    let config = config();
    let other = other(&config).await;
    let schema = config.schema.clone();
    // Something of the same name is in the way of the migration's last steps.
    other
        .batch_execute(&format!(
            "CREATE SCHEMA \"{schema}\"; CREATE TABLE \"{schema}\".nodes (x int); \
             CREATE TABLE \"{schema}\".schema_versions (version integer)"
        ))
        .await
        .unwrap();
    assert!(matches!(migrate(&config).await, Err(OpenError::Torn { .. })));
    let left =
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1";
    let left: i64 = other.query_one(left, &[&schema]).await.unwrap().get(0);
    assert_eq!(left, 2, "only what was there before");
}

/// Bad input: what cannot be opened says why, and what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_opened_says_why() {
    let config = config();
    assert!(matches!(PostgresConfig::parse("postgres://[::"), Err(OpenError::Config(_))));
    let mut nowhere = PostgresConfig::parse("host=127.0.0.1 port=1 user=u").unwrap();
    nowhere.connect_within = Duration::from_secs(2);
    assert!(matches!(try_node(&nowhere).await, Err(OpenError::Unreachable(_))));
    let mut stranger = config.clone();
    stranger.server.user("nobody_of_that_name");
    assert!(matches!(try_node(&stranger).await, Err(OpenError::Credentials(_))));
    let mut elsewhere = config.clone();
    elsewhere.server.dbname("no_database_of_that_name");
    assert!(matches!(try_node(&elsewhere).await, Err(OpenError::NoDatabase(_))));
    let latin = format!("latin_{}", std::process::id());
    let owner = other(&config).await;
    owner
        .batch_execute(&format!("CREATE DATABASE {latin} ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'"))
        .await
        .unwrap();
    let mut other_encoding = config.clone();
    other_encoding.server.dbname(&latin);
    assert_eq!(try_node(&other_encoding).await.err(), Some(OpenError::Encoding("LATIN1".to_owned())));
    let role = format!("guest_{}", std::process::id());
    owner.batch_execute(&format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    let mut guest = config.clone();
    guest.server.user(&role);
    assert!(matches!(try_node(&guest).await, Err(OpenError::Privileges(_))));
    node(&config).await.close().await.unwrap();
    assert!(matches!(try_node(&guest).await, Err(OpenError::Privileges(_))));
    owner.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
    owner.batch_execute(&format!("DROP DATABASE {latin} WITH (FORCE)")).await.unwrap();
}

/// However many jobs somebody's open transaction holds that are due, those of others come due, and a tick that can do nothing says
/// to come again later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_jobs_that_are_due_keep_no_others_waiting() {
    const MANY: usize = 600;
    let config = config();
    let node = node(&config).await;
    let soon = |ms| NewJob { when: When::After(DurationMs::from_ms(ms)), ..NewJob::default() };
    assert_eq!(add(&node, "held", vec![soon(1); MANY]).await.len(), MANY);
    add(&node, "held-running", vec![NewJob::default(); MANY]).await;
    add(&node, "running", vec![NewJob::default()]).await;
    let extend = |leased: &LeasedJob, ms| SettleOp {
        id: leased.job.id,
        token: leased.attempt().unwrap().token,
        action: SettleAction::Extend(DurationMs::from_ms(ms)),
    };
    for (name, ms) in [("held-running", 100), ("running", 101)] {
        let leased = lease(&node, name, MANY as u32).await;
        let extended = node.settle(leased.iter().map(|leased| extend(leased, ms)).collect()).await.unwrap();
        assert!(extended.iter().all(Result::is_ok));
    }
    let mut other = other(&config).await;
    let open = other.transaction().await.unwrap();
    open.batch_execute(
        "SELECT * FROM jobs JOIN queues USING (queue) WHERE name LIKE 'held%' FOR UPDATE OF jobs",
    )
    .await
    .unwrap();
    add(&node, "free", vec![soon(2)]).await;
    let mut seen = (0, 0);
    let mut tick = async || {
        let before = node.clock().now();
        let ticked = node.tick().await.unwrap();
        seen = (seen.0 + ticked.due, seen.1 + ticked.expired);
        (seen, ticked.next >= before.saturating_add(DurationMs::from_ms(100)))
    };
    // A tick that finds nothing to do has seen everything that is due by then.
    let mut busy = 0;
    while tick().await.0 != (1, 1) {
        busy += 1;
        assert!(busy < 2_000, "those nobody holds are never looked at");
    }
    let mut busy = 0;
    while !tick().await.1 {
        busy += 1;
        assert!(busy < 20, "a tick that can do nothing asks for the next one at once");
    }
    open.rollback().await.unwrap();
    while tick().await.0 != (MANY as u64 + 1, MANY as u64 + 1) {}
}

/// A queue that was deleted while a user's own transaction added to it is there again, for who redrives as for who looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_deleted_while_it_was_added_to_is_there_again() {
    let config = config();
    let node = node(&config).await;
    add_one(&node, "q", NewJob::default()).await;
    let redrive = RedriveParams {
        filter: JobFilter::default(),
        queue: queue("q"),
        states: vec![State::Cancelled],
        limit: 10,
        accept_duplicates: false,
    };
    let mut user = other(&config).await;
    let open = user.transaction().await.unwrap();
    let added = open.query_one("SELECT add('q') ->> 'id'", &[]).await.unwrap();
    assert!(node.delete_queue(queue("q"), true).await.unwrap().is_ok());
    assert_eq!(node.redrive(redrive.clone()).await.unwrap(), Err(Refusal::QueueNotFound));
    open.commit().await.unwrap();
    let id: JobId = added.get::<_, &str>(0).parse().unwrap();
    assert!(node.cancel(id, false).await.unwrap().is_ok());
    assert_eq!(node.queue(queue("q")).await.unwrap().unwrap().counts.cancelled, 1);
    assert_eq!(node.redrive(redrive).await.unwrap().unwrap().redriven, 1);
}

/// Bad input: a damaged row is told to whoever asks for it, and keeps nobody from the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_damaged_job_stops_no_batch() {
    let config = config();
    let node = node(&config).await;
    let soon = || NewJob { when: When::After(DurationMs::from_ms(1)), ..NewJob::default() };
    let now = add(&node, "now", vec![NewJob::default(); 3]).await;
    let later = add(&node, "later", vec![soon(), soon(), soon()]).await;
    let running = add(&node, "running", vec![NewJob::default(); 3]).await;
    let params = LeaseParams { lease: DurationMs::from_ms(100), ..call("running", 9) };
    assert_eq!(node.lease(params).await.unwrap().len(), 3);
    let other = other(&config).await;
    for added in [&now, &later, &running] {
        let seq = added[0].as_ref().unwrap().id.seq().get().cast_signed();
        // What was asked for, and where the job stands.
        let damage = if added[0] == now[0] { "jobs SET reason" } else { "specs SET payload_form" };
        other.execute(&format!("UPDATE {damage} = 99 WHERE seq = $1"), &[&seq]).await.unwrap();
    }
    let damaged = now[0].as_ref().unwrap().id;
    assert!(matches!(node.get(damaged).await, Err(EngineError::Corrupt(_))));
    let leased = lease(&node, "now", 9).await;
    assert_eq!(leased.len(), 2);
    let mut both = vec![complete(&leased[0]), complete(&leased[1])];
    both[0].id = damaged;
    let together = [node.settle(vec![both.remove(0)]), node.settle(both)];
    let [of_damaged, of_other] = futures_util::future::join_all(together).await.try_into().unwrap();
    assert!(matches!(of_damaged, Err(EngineError::Corrupt(_))), "{of_damaged:?}");
    assert!(of_other.unwrap().iter().all(Result::is_ok));
    let mut expired = 0;
    while expired < 2 {
        expired += node.tick().await.unwrap().expired;
    }
    assert_eq!(lease(&node, "later", 9).await.len(), 2);
    assert_eq!(lease(&node, "running", 9).await.len(), 2);
}
