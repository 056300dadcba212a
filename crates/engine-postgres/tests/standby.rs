//! Commits that wait for a synchronous standby that is not there. The whole server is changed for it, so it is a server of
//! this file's own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a broken expectation is a failed test")]

mod kit;

use std::time::Duration;

use kit::*;
use onefold_core::{Added, Engine, EngineError, EngineResult, ItemResult};
use onefold_engine_postgres::PostgresEngine;
use tokio_postgres::Client;

async fn configure(client: &Client, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        client.batch_execute(&format!("ALTER SYSTEM SET {name} = {value}")).await.unwrap();
    }
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
}

/// The first outcome of adding one of these keys that is as wanted, and the key. The server takes a moment to read its
/// configuration.
async fn until(
    node: &PostgresEngine,
    name: &str,
    wanted: impl Fn(&EngineResult<Vec<ItemResult<Added>>>) -> bool,
) -> String {
    let looked = async {
        for number in 0.. {
            let key = format!("{name}-{number}");
            if wanted(&node.add(add_params("q", vec![keyed(&key)])).await) {
                return key;
            }
        }
        panic!("numbers end")
    };
    tokio::time::timeout(Duration::from_secs(30), looked).await.unwrap()
}

/// What an operator does to whoever is stuck.
async fn cancel_waits(client: &Client) {
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    loop {
        client.query(cancel, &[]).await.unwrap();
        tokio::task::yield_now().await;
    }
}

/// I1: what the server acknowledged without its standby, because the wait was cut short, is of unknown outcome; and no
/// change of the server's configuration makes a session of ours acknowledge without waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_commit_that_did_not_wait_for_its_standby_is_of_unknown_outcome() {
    assert!(server_is_ours(), "this test changes the server's configuration: run it without DATABASE_URL");
    let config = config();
    let node = node(&config).await;
    assert!(!add_one(&node, "q", keyed("before")).await.duplicate);
    let mut superuser = config.clone();
    superuser.server.options("-c synchronous_commit=local");
    let superuser = other(&superuser).await;
    configure(&superuser, &[("synchronous_standby_names", "'nobody'"), ("synchronous_commit", "'off'")])
        .await;
    let alone = tokio::select! {
        alone = until(&node, "alone", |added| *added == Err(EngineError::OutcomeUnknown)) => alone,
        () = cancel_waits(&superuser) => panic!("it goes on"),
    };
    configure(&superuser, &[("synchronous_standby_names", "''"), ("synchronous_commit", "'on'")]).await;
    until(&node, "together", Result::is_ok).await;
    assert!(add_one(&node, "q", keyed(&alone)).await.duplicate, "its key tells");
}
