//! The scale-out engine as a harness: each store in a schema of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is a failed test"
)]

mod server;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use onefold_conformance::{Harness, World};
use onefold_core::{BoxFuture, DurationMs, Engine};
use onefold_engine_postgres::{Options, PostgresConfig, PostgresEngine, Time};
use tokio::runtime::Runtime;

/// Where the engines live; cases have a runtime of their own without I/O.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// So long that it never comes in a test: time is the clock's, and nobody else serves the store.
const NEVER: Duration = Duration::from_secs(86_400);

static SCHEMAS: AtomicU64 = AtomicU64::new(0);

/// A store in a schema of its own.
pub(crate) type PostgresHarness = Postgres<false>;

/// The same without prepared statements and session settings.
pub(crate) type PooledHarness = Postgres<true>;

/// A store in a schema of its own, behind a transaction pooler or not.
pub(crate) struct Postgres<const POOLED: bool> {
    engine: Arc<PostgresEngine>,
    config: PostgresConfig,
    world: World,
}

async fn open(config: &PostgresConfig, world: &World) -> Arc<PostgresEngine> {
    let options = Options {
        time: Time::Clock,
        look_around: NEVER,
        serve_gap: NEVER,
        // What is due is purged at the tick it is due.
        retention_slack: DurationMs::ZERO,
        ..Options::new(world.clock.clone(), world.dice.clone())
    };
    let opened = RUNTIME.spawn(PostgresEngine::open(config.clone(), options)).await.unwrap();
    Arc::new(opened.unwrap_or_else(|error| panic!("{error}")))
}

/// Runs a statement as nobody in particular.
async fn execute(config: &PostgresConfig, statement: String) {
    let server = config.server.clone();
    let done = RUNTIME.spawn(async move {
        let (client, connection) = server.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&statement).await.unwrap();
    });
    done.await.unwrap();
}

impl<const POOLED: bool> Harness for Postgres<POOLED> {
    fn open(world: World) -> BoxFuture<'static, Self> {
        Box::pin(async move {
            let number = SCHEMAS.fetch_add(1, Ordering::Relaxed);
            let config = PostgresConfig {
                // A name that has to be quoted, and quoted again inside literals.
                schema: format!("it's \"{}\" {number}", std::process::id()),
                transaction_pooler: POOLED,
                connections: 8,
                ..PostgresConfig::new(server::config())
            };
            let engine = open(&config, &world).await;
            Postgres { engine, config, world }
        })
    }

    fn engine(&self) -> Arc<dyn Engine> {
        self.engine.clone()
    }

    fn world(&self) -> &World {
        &self.world
    }

    /// The node is gone without a goodbye, and long enough for others to notice.
    fn reopen_after_crash(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.engine.abort();
            let schema = self.config.schema.replace('"', "\"\"");
            execute(&self.config, format!("DELETE FROM \"{schema}\".nodes")).await;
            self.engine = open(&self.config, &self.world).await;
        })
    }

    fn reopen_cleanly(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.engine.close().await.unwrap();
            self.engine = open(&self.config, &self.world).await;
        })
    }
}

impl<const POOLED: bool> Drop for Postgres<POOLED> {
    fn drop(&mut self) {
        self.engine.abort();
        if server::is_ours() {
            return;
        }
        let (config, schema) = (self.config.clone(), self.config.schema.replace('"', "\"\""));
        RUNTIME.spawn(async move { execute(&config, format!("DROP SCHEMA \"{schema}\" CASCADE")).await });
    }
}
