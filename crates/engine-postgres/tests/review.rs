//! What open transactions, dumps and settings of somebody else must not be able to do to a store.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a broken expectation is a failed test")]

mod kit;

use std::time::Duration;

use kit::*;
use onefold_core::{DurationMs, Engine, JobId, LeaseParams, NewJob, Refusal, State};
use onefold_engine_postgres::{PostgresConfig, PostgresEngine};
use tokio_postgres::Client;

/// A store whose operations wait long for locks.
fn patient() -> PostgresConfig {
    PostgresConfig { lock_wait: Duration::from_secs(20), ..config() }
}

/// Waits until an operation of this store waits for a lock, for as long as it may and not for the moment it first tries.
async fn until_blocked(config: &PostgresConfig, client: &Client) {
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND strpos(query, $1) > 0 \
                 AND clock_timestamp() - query_start > interval '1 second'";
    let schema = format!("\"{}\"", config.schema);
    while client.query_one(waits, &[&schema]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
}

async fn force_delete(node: &PostgresEngine, name: &str) -> u64 {
    node.delete_queue(queue(name), true).await.unwrap().unwrap().jobs
}

/// I2: what is added while its queue is being deleted is either deleted with it, and counted so, or it is a job like any
/// other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_a_job_added_while_its_queue_is_deleted_can_be_leased() {
    let config = patient();
    let node = node(&config).await;
    let (mut holder, watcher) = (other(&config).await, other(&config).await);
    add(&node, "q", vec![keyed("old"), NewJob::default()]).await;
    let open = holder.transaction().await.unwrap();
    open.query("SELECT 1 FROM jobs WHERE ns = 0 FOR UPDATE", &[]).await.unwrap();
    let deleting = tokio::spawn({
        let node = std::sync::Arc::clone(&node);
        async move { force_delete(&node, "q").await }
    });
    until_blocked(&config, &watcher).await;
    let mut grouped = NewJob::default();
    grouped.spec.group = Some(onefold_core::Group::new("g").unwrap());
    let later = NewJob { when: onefold_core::When::After(DurationMs::from_ms(1)), ..keyed("later") };
    let added = add(&node, "q", vec![keyed("new"), grouped, later]).await;
    open.rollback().await.unwrap();
    assert_eq!(deleting.await.unwrap(), 2);
    for added in added {
        let id = added.unwrap().id;
        let state = node.get(id).await.unwrap().unwrap().job.state;
        assert!(matches!(state, State::Available | State::Scheduled), "{id} is {state}");
    }
    assert!(add_one(&node, "q", keyed("new")).await.duplicate, "I3: its key is held");
    let counts = node.queue(queue("q")).await.unwrap().unwrap().counts;
    assert_eq!((counts.accepted, counts.unfinished()), (3, 3), "{counts:?}");
    // All of them are leased; the later one once its millisecond has passed.
    let mut leased = 0;
    while leased < 3 {
        node.tick().await.unwrap();
        leased += lease(&node, "q", 9).await.len();
    }
}

/// I2: a queue that gets an unfinished job while it is being deleted is deleted only with `force`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_a_job_that_is_run_again_keeps_its_queue_from_being_deleted() {
    let config = patient();
    let node = node(&config).await;
    let (mut holder, watcher) = (other(&config).await, other(&config).await);
    let added = add(&node, "q", vec![NewJob::default(), NewJob::default()]).await;
    let ids: Vec<JobId> = added.into_iter().map(|added| added.unwrap().id).collect();
    for id in &ids {
        node.cancel(*id, false).await.unwrap().unwrap();
    }
    let open = holder.transaction().await.unwrap();
    open.query("SELECT 1 FROM jobs WHERE ns = 0 ORDER BY seq LIMIT 1 FOR UPDATE", &[]).await.unwrap();
    let deleting = tokio::spawn({
        let node = std::sync::Arc::clone(&node);
        async move { node.delete_queue(queue("q"), false).await.unwrap() }
    });
    // It counted, and waits for the first job: the second is not its yet.
    until_blocked(&config, &watcher).await;
    assert_eq!(node.retry(ids[1], false).await.unwrap().unwrap().job.state, State::Available);
    open.rollback().await.unwrap();
    assert_eq!(deleting.await.unwrap(), Err(Refusal::QueueNotEmpty { unfinished: 1 }));
    assert_eq!(lease(&node, "q", 1).await.len(), 1);
}

/// Somebody's open transaction that ends an attempt keeps no node from opening, and no other lease from its full length.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_opens_beside_an_open_transaction() {
    let config = config();
    let first = node(&config).await;
    add(&first, "q", vec![NewJob::default(), NewJob::default()]).await;
    let leased = lease(&first, "q", 2).await;
    first.close().await.unwrap();
    let (mut idle, client) = (other(&config).await, other(&config).await);
    // Both leases are all but over, and nobody served for long.
    client
        .batch_execute(
            "UPDATE leases SET lease_until_ms = 0, check_ms = 0; UPDATE nodes SET seen_at = seen_at - interval '1 hour'; \
             DELETE FROM nodes",
        )
        .await
        .unwrap();
    let open = idle.transaction().await.unwrap();
    let done = format!("SELECT complete('{}', {})", leased[0].job.id, token_of(&leased[0]));
    open.query_one(&done, &[]).await.unwrap();
    let second = try_node(&config).await.unwrap();
    second.tick().await.unwrap();
    let other_job = second.get(leased[1].job.id).await.unwrap().unwrap().job;
    assert_eq!(other_job.state, State::Running, "its lease has its full length again");
    open.rollback().await.unwrap();
    second.tick().await.unwrap();
    let held = second.get(leased[0].job.id).await.unwrap().unwrap().job;
    assert_eq!(held.state, State::Running, "this one, too");
}

/// Jobs that somebody completes in an open transaction keep no other lease from being noticed as lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_lost_beside_an_open_transaction_that_completes_many() {
    const HELD: usize = 60;
    let config = config();
    let node = node(&config).await;
    add(&node, "q", vec![NewJob::default(); HELD + 1]).await;
    let mut idle = other(&config).await;
    let open = idle.transaction().await.unwrap();
    let short = || LeaseParams { lease: DurationMs::from_ms(100), ..call("q", 1) };
    for _ in 0..HELD {
        let leased = node.lease(short()).await.unwrap().pop().unwrap();
        let done = format!("SELECT complete('{}', {})", leased.job.id, token_of(&leased));
        open.query_one(&done, &[]).await.unwrap();
    }
    let lost = node.lease(short()).await.unwrap().pop().unwrap().job.id;
    let noticed = async {
        while node.get(lost).await.unwrap().unwrap().job.state == State::Running {
            node.tick().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), noticed).await.unwrap();
    open.commit().await.unwrap();
    assert_eq!(node.queue(queue("q")).await.unwrap().unwrap().counts.completed, HELD as u64);
}

/// However many calls wait for what somebody's open transaction holds, there is a connection left for everybody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_leave_connections_to_others() {
    let config = PostgresConfig { connections: 4, ..patient() };
    let node = node(&config).await;
    let id = add_one(&node, "q", NewJob::default()).await.id;
    let (mut idle, watcher) = (other(&config).await, other(&config).await);
    let open = idle.transaction().await.unwrap();
    open.batch_execute(&format!("SELECT make_queue('new'); SELECT cancel('{id}')")).await.unwrap();
    let waiting: Vec<_> = (0..16)
        .map(|number| {
            let node = std::sync::Arc::clone(&node);
            tokio::spawn(async move {
                match number % 2 {
                    0 => add_one(&node, "new", NewJob::default()).await.id,
                    _ => node.cancel(id, false).await.unwrap().unwrap().job.id,
                }
            })
        })
        .collect();
    until_blocked(&config, &watcher).await;
    for _ in 0..20 {
        let added = tokio::time::timeout(Duration::from_secs(5), add_one(&node, "q", NewJob::default()));
        added.await.unwrap();
    }
    open.commit().await.unwrap();
    for call in waiting {
        call.await.unwrap();
    }
}

/// `pg_dump` reads all tables in one long transaction: nodes open meanwhile, and lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_opens_while_the_database_is_dumped() {
    let config = config();
    let first = node(&config).await;
    let mut dump = other(&config).await;
    let open = dump.transaction().await.unwrap();
    open.batch_execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; LOCK TABLE store, jobs, keys, nodes IN ACCESS SHARE MODE")
        .await
        .unwrap();
    let second = try_node(&config).await.unwrap();
    add(&first, "q", vec![NewJob::default(), NewJob::default()]).await;
    assert_eq!(lease(&first, "q", 1).await.len() + lease(&second, "q", 1).await.len(), 2);
    open.rollback().await.unwrap();
}

/// Contract: an empty answer means that there was nothing. Who finds the line being claimed from waits for what is left
/// of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_waits_for_what_another_leaves_in_line() {
    let config = patient();
    let nodes = [node(&config).await, node(&config).await];
    add(&nodes[0], "q", vec![NewJob::default(); 20]).await;
    let (mut other, watcher) = (other(&config).await, other(&config).await);
    let claiming = other.transaction().await.unwrap();
    claiming.batch_execute("SELECT * FROM segments FOR UPDATE").await.unwrap();
    let calls = nodes.each_ref().map(|node| node.lease(call("q", 3)));
    until_blocked(&config, &watcher).await;
    claiming.rollback().await.unwrap();
    for call in calls {
        assert_eq!(call.await.unwrap().len(), 3);
    }
}
