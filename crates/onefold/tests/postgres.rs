//! A store in PostgreSQL, by the library alone: any number of processes, and whatever their clocks show.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

#[path = "postgres/inbox.rs"]
mod inbox;
mod support;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use onefold::{
    DurationMs, FencingToken, HandlerError, InTxError, Job, Onefold, Postgres, PostgresConfig,
    PostgresOpenError, Refusal, State, Timestamp, Worker,
};
use onefold_core::Clock;
use onefold_engine_postgres::user_tx::UserTxError;
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

/// Outbox: a job added in a transaction is there with its commit and not without; its completion goes with the handler's
/// rows, and the handler's own completion is the same again.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_added_and_completed_with_the_users_rows() {
    let store = Postgres::open(schema("in tx")).await.unwrap();
    let config: tokio_postgres::Config = url().parse().unwrap();
    let connect = || async {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    };
    let mut client = connect().await;
    client.batch_execute("CREATE TABLE public.charges (job text, amount bigint)").await.unwrap();
    for commits in [false, true] {
        let tx = client.transaction().await.unwrap();
        let added = store.add_in(&tx, store.queue::<u64>("paid").add(7).key("k")).await.unwrap();
        assert!(!added.duplicate);
        if commits {
            tx.commit().await.unwrap()
        } else {
            tx.rollback().await.unwrap()
        }
        assert_eq!(store.get(added.id).await.unwrap().is_some(), commits);
    }
    store.committed();
    let mistake = store.add_in(&client, store.queue::<u64>("no such name").add(7)).await.unwrap_err();
    assert!(matches!(mistake, InTxError::Invalid(_)), "{mistake:?}");
    let other = store.add_in(&client, store.queue::<u64>("paid").add(8).key("k")).await.unwrap_err();
    assert!(matches!(other, InTxError::Failed(UserTxError::Refused(Refusal::KeyReused { .. }))), "{other:?}");

    let (handle, id) = (store.clone(), store.list().await.unwrap().jobs[0].id);
    let workers = Arc::new(tokio::sync::Mutex::new(connect().await));
    let worker = Worker::new(&store).queue("paid").handle(move |job: Job<u64>, ctx| {
        let (store, client) = (handle.clone(), Arc::clone(&workers));
        async move {
            let mut client = client.lock().await;
            let tx = client.transaction().await?;
            let amount = job.payload.cast_signed();
            tx.execute("INSERT INTO public.charges VALUES ($1, $2)", &[&job.id.to_string(), &amount]).await?;
            let stale = FencingToken::new(ctx.fencing_token().get() - 1).unwrap();
            let savepoint = tx.batch_execute("SAVEPOINT s").await;
            let refused = store.complete_in(&tx, job.id, stale, &"done").await.unwrap_err();
            assert!(matches!(refused, InTxError::Failed(UserTxError::Refused(Refusal::LeaseLost { .. }))));
            savepoint?;
            tx.batch_execute("ROLLBACK TO s").await?;
            store.complete_in(&tx, job.id, ctx.fencing_token(), &"done").await?;
            tx.commit().await?;
            store.committed();
            Ok("done")
        }
    });
    let running = Running::start(worker);
    assert_eq!(store.result::<String>(id, SECOND * 30).await.unwrap(), Some("done".to_owned()));
    running.stop().await;
    let view = store.get(id).await.unwrap().unwrap();
    assert_eq!((view.state, view.attempts.len()), (State::Completed, 1));
    let rows = client.query("SELECT job FROM public.charges", &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<_, &str>(0), id.to_string());
}

/// I7: a step whose rows are the user's own is written once over attempts, with no begin and no window.
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_step_with_the_users_rows_is_written_once() {
    let store = Postgres::open(schema("steps")).await.unwrap();
    let config: tokio_postgres::Config = url().parse().unwrap();
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("CREATE TABLE public.bookings (job text)").await.unwrap();
    let client = Arc::new(tokio::sync::Mutex::new(client));
    let id = store.queue::<u64>("book").add(7).await.unwrap().id;
    let (handle, connections) = (store.clone(), Arc::clone(&client));
    let worker = Worker::new(&store).queue("book").handle(move |job: Job<u64>, ctx| {
        let (store, client) = (handle.clone(), Arc::clone(&connections));
        async move {
            let mut client = client.lock().await;
            let tx = client.transaction().await?;
            let done = store.once_in(&tx, job.id, ctx.fencing_token(), "book", &job.payload).await?;
            if done.is_none() {
                tx.execute("INSERT INTO public.bookings VALUES ($1)", &[&job.id.to_string()]).await?;
            }
            tx.commit().await?;
            if ctx.attempt() == 1 {
                return Err(HandlerError::retry_in(Duration::from_millis(1), "after the commit"));
            }
            Ok(done)
        }
    });
    let running = Running::start(worker);
    assert_eq!(store.result::<u64>(id, SECOND * 30).await.unwrap(), Some(7));
    running.stop().await;
    let rows = client.lock().await.query("SELECT job FROM public.bookings", &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
}
