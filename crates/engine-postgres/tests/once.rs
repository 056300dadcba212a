//! `once` in a user's own transaction: the step's record and the user's rows are committed together (I7).

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a broken expectation is a failed test")]

mod kit;

use std::sync::Arc;

use kit::*;
use onefold_core::{
    EffectName, EffectState, Engine, EvidenceKind, JobId, Key, LeasedJob, NewJob, Refusal, State,
};
use onefold_engine_postgres::user_tx::{self, Step, UserTxError};
use onefold_engine_postgres::{PostgresConfig, PostgresEngine};
use tokio_postgres::Client;

async fn store() -> (PostgresConfig, Arc<PostgresEngine>, Client) {
    let config = config();
    let node = node(&config).await;
    let client = other(&config).await;
    client.batch_execute("CREATE TABLE ledger (entry integer)").await.unwrap();
    (config, node, client)
}

async fn leased(node: &PostgresEngine) -> LeasedJob {
    add_one(node, "q", NewJob::default()).await;
    lease(node, "q", 1).await.remove(0)
}

/// Writes the step's row in a transaction, unless it was written. Gives what `once` said.
async fn book(client: &mut Client, schema: &str, job: &LeasedJob, commit: bool) -> Result<Step, UserTxError> {
    let tx = client.transaction().await.unwrap();
    let token = job.attempt().unwrap().token;
    let step = user_tx::once(&tx, schema, job.job.id, token, "book", Some(br#"{ "entry":7 }"#)).await?;
    if step == Step::Execute {
        tx.execute("INSERT INTO ledger VALUES (7)", &[]).await.unwrap();
    }
    if commit {
        tx.commit().await.unwrap();
    }
    Ok(step)
}

async fn booked(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM ledger", &[]).await.unwrap().get(0)
}

fn done() -> Step {
    Step::Done(r#"{ "entry":7 }"#.to_owned())
}

/// I7: rows and record are committed together or not at all, over attempts and engines, and are read as an effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_rows_are_written_once_over_attempts() {
    let (config, node, mut client) = store().await;
    let first = leased(&node).await;
    // Rolled back: as if it never was.
    assert_eq!(book(&mut client, &config.schema, &first, false).await.unwrap(), Step::Execute);
    assert_eq!(book(&mut client, &config.schema, &first, true).await.unwrap(), Step::Execute);
    assert_eq!(book(&mut client, &config.schema, &first, true).await.unwrap(), done());
    let release = onefold_core::SettleAction::End(onefold_core::End::Release);
    let token = first.attempt().unwrap().token;
    node.settle(vec![onefold_core::SettleOp { id: first.job.id, token, action: release }]).await.unwrap();
    let second = lease(&node, "q", 1).await.remove(0);
    // The holder of an old lease is refused, whatever was done.
    let stale = book(&mut client, &config.schema, &first, true).await;
    assert!(
        matches!(stale, Err(UserTxError::Refused(Refusal::LeaseLost { state: State::Running }))),
        "{stale:?}"
    );
    assert_eq!(book(&mut client, &config.schema, &second, true).await.unwrap(), done());
    assert_eq!(booked(&client).await, 1);
    let name = EffectName::of_step(first.job.id, Key::new("book").unwrap());
    let record = node.effect(name).await.unwrap().unwrap();
    assert_eq!((record.state, record.executions, record.attempt), (EffectState::Completed, 1, Some(1)));
    assert_eq!(record.result.as_deref(), Some(&br#"{ "entry":7 }"#[..]));
    let view = node.get(first.job.id).await.unwrap().unwrap();
    let replays = view.evidence.iter().filter(|e| e.kind == EvidenceKind::EffectReplayed).count();
    assert_eq!((view.effects.len(), replays), (1, 1));
}

/// L-16: two transactions that have the job at once: the second waits for the first, and does not write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l_16_two_workers_at_once_write_once() {
    let (config, node, mut client) = store().await;
    let job = leased(&node).await;
    let mut clients = [other(&config).await, other(&config).await, other(&config).await];
    let calls = clients.iter_mut().map(|client| book(client, &config.schema, &job, true));
    let said: Vec<Step> =
        futures_util::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(said.iter().filter(|said| **said == Step::Execute).count(), 1, "{said:?}");
    assert_eq!(booked(&client).await, 1);
    assert_eq!(book(&mut client, &config.schema, &job, true).await.unwrap(), done());
}

/// The token may be left out: the record alone decides. What cannot be is refused, with SQLSTATEs of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_the_record_decides() {
    let (_, node, client) = store().await;
    let job = leased(&node).await;
    let id = job.job.id.to_string();
    let once = "SELECT once($1, $2)::text";
    let said: String = client.query_one(once, &[&id, &"mail"]).await.unwrap().get(0);
    assert_eq!(said, r#"{"state" : "execute"}"#);
    let said: String = client.query_one(once, &[&id, &"mail"]).await.unwrap().get(0);
    assert_eq!(said, r#"{"state" : "completed", "result" : null}"#);
    let unknown = JobId::new(job.job.created_at(), onefold_core::Seq::new(999_999).unwrap()).to_string();
    for (job, step, state) in [(&id, " ", "OF021"), (&unknown, "mail", "OF002")] {
        let refused = client.query_one(once, &[job, &step]).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), state);
    }
    // A step that was begun as an effect elsewhere is not taken for done.
    let claim = onefold_core::JobClaim { id: job.job.id, token: job.attempt().unwrap().token };
    let begin = onefold_core::BeginEffect {
        fingerprint: None,
        policy: onefold_core::EffectPolicy::AtMostOnce,
        lease: onefold_core::limits::LEASE_DEFAULT,
        ttl: onefold_core::limits::EFFECT_TTL,
        key_valid_for: None,
        job: Some(claim),
        call: None,
    };
    let name = EffectName::of_step(job.job.id, Key::new("charge").unwrap());
    let action = onefold_core::EffectAction::Begin(begin);
    node.effects(vec![onefold_core::EffectOp { name, action }]).await.unwrap();
    let refused = client.query_one(once, &[&id, &"charge"]).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "OF015");
}
