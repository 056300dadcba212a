//! Nodes tell each other what became leasable. Nobody here looks around by themselves: what another node did is known
//! by `NOTIFY` or not at all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a broken expectation is a failed test")]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use kit::*;
use onefold_core::{DurationMs, Engine, LeaseParams, LeasedJob, NewJob, SettleAction, SettleOp};
use onefold_engine_postgres::{Listener, Options, PostgresConfig, PostgresEngine};
use tokio::task::JoinHandle;

/// No test takes so long.
const NEVER: Duration = Duration::from_secs(86_400);

async fn node_that_never_looks(config: &PostgresConfig) -> Arc<PostgresEngine> {
    let options = Options { look_around: NEVER, ..options() };
    let node = PostgresEngine::open(config.clone(), options).await.unwrap();
    Arc::new(node)
}

/// How many sessions listen for this store.
async fn listeners(config: &PostgresConfig) -> i64 {
    let channel = "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN onefold_' || md5($1)";
    let other = other(config).await;
    other.query_one(channel, &[&config.schema]).await.unwrap().get(0)
}

async fn until_listening(config: &PostgresConfig, nodes: i64) {
    while listeners(config).await < nodes {
        tokio::task::yield_now().await;
    }
}

/// Parks a call, and returns once it is.
async fn park(node: &Arc<PostgresEngine>, from: &str) -> JoinHandle<Vec<LeasedJob>> {
    let parked = node.stats().await.unwrap().parked_polls;
    let (leasing, call) =
        (Arc::clone(node), LeaseParams { wait: DurationMs::from_ms(60_000), ..call(from, 1) });
    let waits = tokio::spawn(async move { leasing.lease(call).await.unwrap() });
    while node.stats().await.unwrap().parked_polls <= parked {
        tokio::task::yield_now().await;
    }
    waits
}

/// What a parked call was given.
async fn served(waits: JoinHandle<Vec<LeasedJob>>) -> Vec<LeasedJob> {
    let served = tokio::time::timeout(Duration::from_secs(30), waits).await;
    served.unwrap_or_else(|_| panic!("the parked call was not served")).unwrap()
}

/// A job added at one node is handed to a call that is parked at another; so is one that was given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_parked_at_another_node_is_served() {
    let config = config();
    let (here, there) = (node_that_never_looks(&config).await, node_that_never_looks(&config).await);
    // A node is told only while it is seen to serve.
    there.tick().await.unwrap();
    // What listens has said nothing after LISTEN, and what has told something has listened before.
    until_listening(&config, 2).await;
    let waits = park(&there, "q").await;
    let added = add_one(&here, "q", NewJob::default()).await;
    let leased = served(waits).await;
    assert_eq!(leased[0].job.id, added.id);
    let waits = park(&here, "q").await;
    let token = leased[0].attempt().unwrap().token;
    let release = SettleOp { id: added.id, token, action: SettleAction::End(onefold_core::End::Release) };
    settle(&there, release).await.unwrap();
    assert_eq!(served(waits).await[0].job.id, added.id);
}

/// A connection that was cut is made again, and what was added meanwhile is found then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_could_not_listen_catches_up() {
    let config = config();
    let (here, there) = (node_that_never_looks(&config).await, node_that_never_looks(&config).await);
    there.tick().await.unwrap();
    until_listening(&config, 2).await;
    let waits = park(&there, "q").await;
    let other = other(&config).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN onefold_' || md5($1)";
    other.query(cut, &[&config.schema]).await.unwrap();
    let added = add_one(&here, "q", NewJob::default()).await;
    assert_eq!(served(waits).await[0].job.id, added.id);
}

/// Behind a transaction pooler nobody listens, unless there is a way around it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_pooler_nodes_listen_on_a_direct_connection() {
    let pooled = PostgresConfig { transaction_pooler: true, ..config() };
    let deaf = node_that_never_looks(&pooled).await;
    let way = Listener::direct(pooled.server.clone());
    let config = PostgresConfig { listen: Some(way), ..pooled };
    let (here, there) = (node_that_never_looks(&config).await, node_that_never_looks(&config).await);
    there.tick().await.unwrap();
    until_listening(&config, 2).await;
    assert_eq!(listeners(&config).await, 2);
    let waits = park(&there, "q").await;
    let added = add_one(&here, "q", NewJob::default()).await;
    assert_eq!(served(waits).await[0].job.id, added.id);
    drop(deaf);
}
