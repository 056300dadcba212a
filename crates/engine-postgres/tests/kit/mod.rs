//! Stores in schemas of their own, and nodes that serve them, by the database's clock.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is a failed test, and each file uses its part"
)]

#[path = "../../../../testing/conformance/tests/postgres_support/server.rs"]
pub(crate) mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use onefold_core::{
    AddParams, Added, Clock, DurationMs, End, Engine, Fingerprint, ItemResult, JobId, Key, LeaseParams,
    LeasedJob, NewJob, QueueName, SeededEntropy, SettleAction, SettleOp, Settled, Timestamp, WorkerName,
};
use onefold_engine_postgres::{OpenError, Options, PostgresConfig, PostgresEngine};
use tokio_postgres::{Client, NoTls};

static SCHEMAS: AtomicU64 = AtomicU64::new(0);

/// The process's own clocks; under the database's time only the monotonic one counts.
#[derive(Debug)]
pub(crate) struct ProcessClock(tokio::time::Instant);

impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH.saturating_add(self.monotonic())
    }
    fn monotonic(&self) -> DurationMs {
        DurationMs::from_ms(self.0.elapsed().as_millis() as u64)
    }
}

/// A schema nobody used yet.
pub(crate) fn config() -> PostgresConfig {
    let number = SCHEMAS.fetch_add(1, Ordering::Relaxed);
    PostgresConfig {
        schema: format!("node tests {} {number}", std::process::id()),
        lock_wait: Duration::from_millis(200),
        ..PostgresConfig::new(server::config())
    }
}

/// Whether the server is of this process alone.
pub(crate) fn server_is_ours() -> bool {
    server::is_ours()
}

pub(crate) fn options() -> Options {
    let clock = Arc::new(ProcessClock(tokio::time::Instant::now()));
    let seed = SCHEMAS.fetch_add(1, Ordering::Relaxed);
    Options {
        look_around: Duration::from_millis(50),
        ..Options::new(clock, Arc::new(SeededEntropy::new(seed)))
    }
}

pub(crate) async fn try_node(config: &PostgresConfig) -> Result<PostgresEngine, OpenError> {
    PostgresEngine::open(config.clone(), options()).await
}

pub(crate) async fn node(config: &PostgresConfig) -> Arc<PostgresEngine> {
    Arc::new(try_node(config).await.unwrap())
}

/// A connection of somebody else, who sees the schema as `onefold`'s tables by bare names.
pub(crate) async fn other(config: &PostgresConfig) -> Client {
    let (client, connection) = config.server.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("SET search_path = \"{}\"", config.schema)).await.unwrap();
    client
}

pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

pub(crate) fn keyed(key: &str) -> NewJob {
    let mut job = NewJob::default();
    job.spec.key = Some(Key::new(key).unwrap());
    job.spec.fingerprint = Some(Fingerprint::custom("same").unwrap());
    job
}

pub(crate) fn add_params(to: &str, jobs: Vec<NewJob>) -> AddParams {
    AddParams { queue: queue(to), jobs, atomic: false }
}

pub(crate) async fn add(node: &PostgresEngine, to: &str, jobs: Vec<NewJob>) -> Vec<ItemResult<Added>> {
    node.add(add_params(to, jobs)).await.unwrap()
}

pub(crate) async fn add_one(node: &PostgresEngine, to: &str, job: NewJob) -> Added {
    add(node, to, vec![job]).await.pop().unwrap().unwrap()
}

pub(crate) fn call(from: &str, max: u32) -> LeaseParams {
    LeaseParams {
        queues: vec![queue(from)],
        max,
        lease: DurationMs::from_ms(30_000),
        worker: WorkerName::new("w").unwrap(),
        fair: false,
        wait: DurationMs::ZERO,
        poll: None,
    }
}

pub(crate) async fn lease(node: &PostgresEngine, from: &str, max: u32) -> Vec<LeasedJob> {
    node.lease(call(from, max)).await.unwrap()
}

pub(crate) fn token_of(leased: &LeasedJob) -> u64 {
    leased.attempt().unwrap().token.get()
}

pub(crate) fn complete(leased: &LeasedJob) -> SettleOp {
    let (id, token): (JobId, _) = (leased.job.id, leased.attempt().unwrap().token);
    SettleOp { id, token, action: SettleAction::End(End::Complete { result: None }) }
}

pub(crate) async fn settle(node: &PostgresEngine, op: SettleOp) -> ItemResult<Settled> {
    node.settle(vec![op]).await.unwrap().pop().unwrap()
}
