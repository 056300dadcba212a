//! `commit_with`: the user's rows, the step's record and the job's completion in one transaction of the embedded store (I7).

#![cfg(feature = "engine-sqlite")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod support;

use std::path::Path;
use std::time::Duration;

use onefold::rusqlite::{Connection, Error as SqlError};
use onefold::{Context, Embedded, HandlerError, Job, JobId, JobView, LocalTx, State, Worker};
use support::{Running, SECOND, when};

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS charges (job TEXT NOT NULL, amount INTEGER NOT NULL CHECK (amount > 0))";

fn charge(tx: &LocalTx<'_>, job: JobId, amount: i64) -> Result<(), SqlError> {
    tx.execute(TABLE, ())?;
    tx.execute("INSERT INTO charges VALUES (?1, ?2)", (job.to_string(), amount))?;
    Ok(())
}

/// Rows there are, read as anybody may: by a connection of one's own.
fn charges(dir: &Path) -> Vec<i64> {
    let conn = Connection::open(dir.join("onefold.db")).unwrap();
    let mut stmt = conn.prepare("SELECT amount FROM charges ORDER BY amount").unwrap();
    stmt.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

async fn run<F>(
    store: &Embedded,
    end: State,
    handler: impl Fn(Embedded, Context) -> F + Send + Sync + 'static,
) -> JobView
where
    F: Future<Output = Result<String, HandlerError>> + Send + 'static,
{
    let id = store.queue::<u64>("q").add(1).await.unwrap().id;
    let handle = store.clone();
    let worker = Worker::new(store).queue("q").handle(move |_: Job<u64>, ctx| handler(handle.clone(), ctx));
    let running = Running::start(worker);
    let job = when(store, id, end).await;
    running.stop().await;
    job
}

/// I7: rows, record and completion are durable together; the handler's own completion is the same again.
#[tokio::test(flavor = "multi_thread")]
async fn i7_rows_and_completion_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).await.unwrap();
    let job = run(&store, State::Completed, |store, ctx| async move {
        let id = ctx.job_id();
        let work = move |tx: &LocalTx<'_>| charge(tx, id, 7).map(|()| "receipt".to_owned());
        store.commit_with(&ctx, "charge", work).await
    })
    .await;
    assert_eq!(
        (job.result.as_deref(), job.attempts.len(), job.late_writes),
        (Some(&br#""receipt""#[..]), 1, 0)
    );
    assert_eq!(charges(dir.path()), [7]);
    store.close().await.unwrap();
    drop(store);
    let store = Embedded::open(dir.path()).await.unwrap();
    assert_eq!(store.get(job.id).await.unwrap().unwrap().state, State::Completed);
    assert_eq!(charges(dir.path()), [7]);
}

/// A closure that fails or panics takes its own rows back, alone; the job is tried again, and others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_closure_that_fails_is_rolled_back_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).await.unwrap();
    let job = run(&store, State::Completed, |store, ctx| async move {
        let (id, attempt) = (ctx.job_id(), i64::from(ctx.attempt()));
        let committed = store.commit_with(&ctx, "charge", move |tx| {
            charge(tx, id, attempt)?;
            match attempt {
                1 => Err(SqlError::InvalidQuery),
                2 => panic!("out of paper"),
                3 => charge(tx, id, -1).map(|()| String::new()),
                _ => Ok("done".to_owned()),
            }
        });
        // Beside it, in the same group commits.
        let (committed, added) = tokio::join!(committed, store.queue::<u64>("other").add(1));
        added?;
        committed.map_err(|why| HandlerError::retry_in(Duration::from_millis(1), format!("{why:?}")))
    })
    .await;
    assert_eq!((job.attempts.len(), job.failures), (4, 3));
    assert!(job.attempts[1].error.as_ref().unwrap().message.contains("out of paper"));
    let check = &job.attempts[2].error.as_ref().unwrap().message;
    assert!(check.contains("CHECK constraint"), "a table of the user's keeps its CHECKs: {check}");
    assert_eq!(charges(dir.path()), [4]);
    assert_eq!(store.list().queue("other").await.unwrap().jobs.len(), 4);
}

/// The store's tables, transactions and pragmas are out of reach; a statement that gives the transaction up harms nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_out_of_reach() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).await.unwrap();
    let job = run(&store, State::Completed, |store, ctx| async move {
        let id = ctx.job_id();
        let abandoned = store.commit_with(&ctx, "abandoned", move |tx| {
            tx.execute("CREATE TABLE IF NOT EXISTS once_only (n INTEGER UNIQUE)", ())?;
            tx.execute("INSERT INTO once_only VALUES (1)", ())?;
            tx.execute("INSERT OR ROLLBACK INTO once_only VALUES (1)", ()).map(|_| String::new())
        });
        assert!(abandoned.await.is_err());
        let work = move |tx: &LocalTx<'_>| {
            tx.execute(TABLE, ())?;
            for sql in [
                "UPDATE onefold_meta SET next_token = 1",
                "DELETE FROM ONEFOLD_jobs",
                "SELECT count(*) FROM onefold_jobs",
                "DROP TABLE onefold_jobs",
                "CREATE TABLE onefold_mine (n)",
                "CREATE INDEX onefold_mine ON charges (job)",
                "COMMIT",
                "ROLLBACK",
                "SAVEPOINT mine",
                "RELEASE onefold_local",
                "PRAGMA synchronous = OFF",
                "ATTACH ':memory:' AS other",
            ] {
                let refused = tx.query(sql, (), |_| Ok(())).unwrap_err();
                assert!(
                    refused.to_string().contains("not authorized")
                        || refused.to_string().contains("prohibited"),
                    "{sql}: {refused}"
                );
            }
            charge(tx, id, 7).map(|()| "kept out".to_owned())
        };
        store.commit_with(&ctx, "charge", work).await
    })
    .await;
    assert_eq!(job.result.as_deref(), Some(&br#""kept out""#[..]));
    assert_eq!(charges(dir.path()), [7]);
}

/// I5: a holder whose lease is gone writes nothing, and leaves evidence.
#[tokio::test(flavor = "multi_thread")]
async fn i5_an_old_holder_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).await.unwrap();
    let job = run(&store, State::Cancelled, |store, ctx| async move {
        let id = ctx.job_id();
        store.cancel_by_force(id).await?;
        let refused =
            store.commit_with(&ctx, "charge", move |tx| charge(tx, id, 7).map(|()| String::new())).await;
        assert!(refused.is_err());
        refused
    })
    .await;
    let late = async {
        loop {
            let view = store.get(job.id).await.unwrap().unwrap();
            if view.history.iter().any(|e| e.kind == onefold::EvidenceKind::LateEffect) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SECOND * 30, late).await.unwrap();
    let conn = Connection::open(dir.path().join("onefold.db")).unwrap();
    assert!(conn.prepare("SELECT * FROM charges").is_err(), "not even the table");
}
