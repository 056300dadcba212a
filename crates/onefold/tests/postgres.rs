//! A store in PostgreSQL, by the library alone: any number of processes, and whatever their clocks show.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod support;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use onefold::{DurationMs, Job, Onefold, PostgresConfig, PostgresOpenError, State, Timestamp, Worker};
use onefold_core::Clock;
use onefold_engine_postgres::{Options, PostgresEngine, migrate};
use onefold_runtime::{SystemClock, SystemEntropy};
use onefold_test_postgres::{DATABASE, Server, THROW_AWAY, USER};
use support::{Running, SECOND};

static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(THROW_AWAY));

fn url() -> String {
    format!("host={} user={USER} dbname={DATABASE}", SERVER.directory().display())
}

fn schema(name: &str) -> PostgresConfig {
    PostgresConfig { schema: name.to_owned(), ..PostgresConfig::parse(&url()).unwrap() }
}

/// Jobs, keys and results are there for every process, one after the other or at once.
#[tokio::test(flavor = "multi_thread")]
async fn handles_share_a_store_that_outlives_them() {
    let (here, there) = (Onefold::postgres(&url()).await.unwrap(), Onefold::postgres(&url()).await.unwrap());
    let waits = here.queue::<u64>("q").add(1).key("a").delay(SECOND * 3_600).await.unwrap().id;
    let done = here.queue::<u64>("q").add(2).await.unwrap().id;
    let worker = Worker::new(&there).queue("q").handle(|job: Job<u64>, _| async move { Ok(job.payload * 2) });
    let running = Running::start(worker);
    assert_eq!(here.result::<u64>(done, SECOND * 30).await, Ok(Some(4)));
    running.stop().await;
    here.close().await.unwrap();
    there.close().await.unwrap();
    drop((here, there));

    let onefold = Onefold::postgres(&url()).await.unwrap();
    assert_eq!(onefold.result::<u64>(done, SECOND).await, Ok(Some(4)));
    let again = onefold.queue::<u64>("q").add_unique("a", 1).await.unwrap();
    assert_eq!((again.id, again.duplicate), (waits, true));
    assert_eq!(onefold.get(waits).await.unwrap().unwrap().state, State::Scheduled);
}

/// The machine's clocks, the wall clock of which is wrong.
struct Wrong {
    machine: SystemClock,
    ahead: bool,
}

const WRONG_BY: DurationMs = DurationMs::from_ms(3_600_000);

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        match self.ahead {
            true => self.machine.now().saturating_add(WRONG_BY),
            false => self.machine.now().saturating_sub(WRONG_BY),
        }
    }

    fn monotonic(&self) -> DurationMs {
        self.machine.monotonic()
    }
}

/// A node whose clock is an hour off runs what is due when it is due by the database's clock, holds leases as long as
/// others do, and does not spin meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn the_clock_of_a_node_counts_nowhere() {
    let right = Onefold::postgres_with(schema("clocks")).await.unwrap();
    for ahead in [true, false] {
        let clock = Arc::new(Wrong { machine: SystemClock::new(), ahead });
        let engine = PostgresEngine::open(schema("clocks"), Options::new(clock, Arc::new(SystemEntropy)));
        let engine = engine.await.unwrap();
        let clock = engine.clock();
        let off = clock.now().as_unix_ms().abs_diff(SystemClock::new().now().as_unix_ms());
        assert!(off < 60_000, "the node lives by a clock that is {off} ms off");
        let wrong = Onefold::with_engine(Arc::new(engine), clock);
        let worker = Worker::new(&wrong).queue("due").handle(|_: Job<()>, _| async move { Ok(()) });
        let running = Running::start(worker);
        let job = wrong.queue::<()>("due").add(()).delay(Duration::from_millis(1_500)).await.unwrap();
        let seen = wrong.get(job.id).await.unwrap().unwrap();
        assert_eq!(seen.run_at.as_unix_ms() - seen.created_at.as_unix_ms(), 1_500);
        assert_eq!(wrong.result::<()>(job.id, SECOND * 30).await, Ok(Some(())));
        let seen = right.get(job.id).await.unwrap().unwrap();
        let attempt = &seen.attempts[0];
        assert!(attempt.started_at >= seen.run_at, "started before it was due: {seen:?}");
        assert_eq!(seen.attempt, 1, "its lease was taken from it: {seen:?}");
        let ticks = wrong.runtime().unwrap().health().ticks;
        assert!(ticks < 100, "{ticks} ticks in some two seconds");
        running.stop().await;
        wrong.close().await.unwrap();
    }
}

/// A store that this program cannot serve is not touched.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_version_is_refused() {
    drop(Onefold::postgres_with(schema("versions")).await.unwrap());
    SERVER.psql("UPDATE versions.schema_versions SET version = version + 1");
    let refused = Onefold::postgres_with(schema("versions")).await.map(drop);
    assert!(matches!(refused, Err(PostgresOpenError::Newer { .. })), "{refused:?}");
    SERVER.psql("DELETE FROM versions.schema_versions");
    SERVER.psql("INSERT INTO versions.schema_versions (version) VALUES (0)");
    let refused = Onefold::postgres_with(schema("versions")).await.map(drop);
    assert!(matches!(refused, Err(PostgresOpenError::Older { found: 0, .. })), "{refused:?}");
    // No migration ends like this.
    let refused = migrate(&schema("versions")).await;
    assert!(matches!(refused, Err(PostgresOpenError::Torn { .. })), "{refused:?}");
    SERVER.psql("CREATE SCHEMA elsewhere");
    SERVER.psql("CREATE TABLE elsewhere.jobs ()");
    let refused = Onefold::postgres_with(schema("elsewhere")).await.map(drop);
    assert!(matches!(refused, Err(PostgresOpenError::Foreign { .. })), "{refused:?}");
}
