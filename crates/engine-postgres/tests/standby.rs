//! Commits that wait for a synchronous standby that is not there. The whole server is changed for it, so it is a server of
//! this file's own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a broken expectation is a failed test")]

mod kit;

use kit::*;
use onefold_core::{Engine, EngineError};
use tokio_postgres::Client;

async fn configure(client: &Client, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        client.batch_execute(&format!("ALTER SYSTEM SET {name} = {value}")).await.unwrap();
    }
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    for (name, value) in settings {
        let asked = format!("SELECT current_setting('{name}') = {value}");
        while !client.query_one(&asked, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::task::yield_now().await;
        }
    }
}

/// I1: what the server acknowledged without its standby, because the wait was cut short, is of unknown outcome; and no
/// change of the server's configuration makes a session of ours acknowledge without waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_commit_that_did_not_wait_for_its_standby_is_of_unknown_outcome() {
    assert!(server_is_ours(), "this test changes the server's configuration: run it without DATABASE_URL");
    let mut config = config();
    // What an operator may have given the role.
    config.server.options("-c statement_timeout=300");
    let node = node(&config).await;
    assert!(!add_one(&node, "q", keyed("before")).await.duplicate);
    let mut superuser = config.clone();
    superuser.server.options("-c synchronous_commit=local");
    let superuser = other(&superuser).await;
    configure(&superuser, &[("synchronous_standby_names", "'nobody'"), ("synchronous_commit", "'off'")])
        .await;
    let alone = node.add(add_params("q", vec![keyed("alone")])).await;
    configure(&superuser, &[("synchronous_standby_names", "''"), ("synchronous_commit", "'on'")]).await;
    assert_eq!(alone, Err(EngineError::OutcomeUnknown));
    assert!(add_one(&node, "q", keyed("alone")).await.duplicate, "its key tells");
}
