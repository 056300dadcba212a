//! The scale-out engine with users' own transactions in front of it: whatever the SQL functions can do is done by them,
//! the rest by the engine. What they refuse is asked of the engine, too, which must refuse it for the same reason.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is a failed test"
)]

#[path = "../postgres_support/server.rs"]
pub(crate) mod server;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use onefold_conformance::{Flags, Harness, World};
use onefold_core::schedule::{
    ListSchedules, NewSchedule, PutSchedule, ScheduleId, SchedulePage, ScheduleView, Schedules,
};
use onefold_core::{
    AddParams, Added, BackupDone, BoxFuture, Capabilities, Clock, DeletedQueue, DeliveryParams, DurationMs,
    Effect, EffectName, EffectOp, EffectPage, EffectResult, End, Engine, EngineError, EngineResult, Entropy,
    EventCursor, EventPage, EventsParams, FencingToken, ItemResult, JobEdit, JobId, JobPage, JobView, Key,
    KeyView, LeaseParams, LeasedJob, ListEffects, ListParams, NewJob, Outcome, QueueName, QueuePatch,
    QueueView, RedriveParams, Redriven, Refusal, Setting, SettleAction, SettleOp, Settled, State, StoreStats,
    Ticked, Timestamp, limits,
};
use onefold_engine_postgres::user_tx::{self, UserTxError};
use onefold_engine_postgres::{Options, PostgresConfig, PostgresEngine, Time};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Transaction};

/// Where connections and engines live; cases have a runtime of their own without I/O.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// So long that it never comes in a test: time is the clock's, and nobody else serves the store.
const NEVER: Duration = Duration::from_secs(86_400);
/// Users' connections of a store.
const USERS: usize = 2;

static SCHEMAS: AtomicU64 = AtomicU64::new(0);

/// A store that users' transactions write to.
pub(crate) struct SqlHarness {
    engine: Arc<SqlEngine>,
    config: PostgresConfig,
    world: World,
}

/// See the module.
struct SqlEngine {
    inner: Arc<PostgresEngine>,
    world: World,
    schema: String,
    users: Vec<tokio::sync::Mutex<Client>>,
    turn: AtomicU64,
    /// Attempts that users ended: the engine counts its own.
    ended: Mutex<BTreeMap<Outcome, u64>>,
    /// The earliest time at which a job of theirs may run that the engine does not know of.
    due: Mutex<Option<Timestamp>>,
    closed: AtomicBool,
}

/// Connects as somebody who sees the store's tables and functions by bare names.
pub(crate) async fn connect(config: &PostgresConfig) -> Client {
    let (server, schema) = (config.server.clone(), config.schema.replace('"', "\"\""));
    let client = RUNTIME.spawn(async move {
        let (client, connection) = server.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("SET search_path = \"{schema}\"")).await.unwrap();
        client
    });
    client.await.unwrap()
}

/// A store in a schema nobody used yet.
pub(crate) fn fresh_config() -> PostgresConfig {
    let number = SCHEMAS.fetch_add(1, Ordering::Relaxed);
    PostgresConfig {
        // A name that has to be quoted, and quoted again inside literals.
        schema: format!("users' $$ \"{}\" {number}", std::process::id()),
        connections: 4,
        ..PostgresConfig::new(server::config())
    }
}

/// Has the functions take time and dice from settings of the session.
pub(crate) async fn take_over_time(client: &Client) {
    client
        .batch_execute(
            "CREATE OR REPLACE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS \
             $f$ SELECT current_setting('of_test.now')::bigint $f$; \
             CREATE OR REPLACE FUNCTION draw(most bigint) RETURNS bigint LANGUAGE sql VOLATILE AS \
             $f$ SELECT (current_setting('of_test.roll')::numeric % (most + 1))::bigint $f$",
        )
        .await
        .unwrap();
}

async fn open(config: &PostgresConfig, world: &World) -> Arc<SqlEngine> {
    let options = Options {
        time: Time::Clock,
        look_around: NEVER,
        serve_gap: NEVER,
        retention_slack: DurationMs::ZERO,
        ..Options::new(world.clock.clone(), world.dice.clone())
    };
    let opened = RUNTIME.spawn(PostgresEngine::open(config.clone(), options)).await.unwrap();
    let inner = Arc::new(opened.unwrap_or_else(|error| panic!("{error}")));
    let mut users = Vec::new();
    for _ in 0..USERS {
        users.push(tokio::sync::Mutex::new(connect(config).await));
    }
    let turn = AtomicU64::new(0);
    let (schema, world) = (config.schema.clone(), world.clone());
    Arc::new(SqlEngine {
        inner,
        world,
        schema,
        users,
        turn,
        ended: Mutex::default(),
        due: Mutex::default(),
        closed: AtomicBool::new(false),
    })
}

impl Harness for SqlHarness {
    fn open(world: World) -> BoxFuture<'static, SqlHarness> {
        Box::pin(async move {
            let config = fresh_config();
            let engine = open(&config, &world).await;
            take_over_time(&connect(&config).await).await;
            SqlHarness { engine, config, world }
        })
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(Shared(Arc::clone(&self.engine)))
    }

    fn world(&self) -> &World {
        &self.world
    }

    fn flags(&self) -> Flags {
        Flags { alone: false, ..Flags::default() }
    }

    fn reopen_after_crash(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.engine.inner.abort();
            connect(&self.config).await.batch_execute("DELETE FROM nodes").await.unwrap();
            self.engine = open(&self.config, &self.world).await;
        })
    }

    fn reopen_cleanly(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.engine.inner.close().await.unwrap();
            self.engine = open(&self.config, &self.world).await;
        })
    }
}

impl Drop for SqlHarness {
    fn drop(&mut self) {
        self.engine.inner.abort();
        if !server::is_ours() {
            let config = self.config.clone();
            RUNTIME.spawn(async move { onefold_engine_postgres::drop_schema(&config).await });
        }
    }
}

/// A refusal whose job is called as the engine calls it.
fn renamed(refusal: Refusal, ids: &BTreeMap<JobId, JobId>) -> Refusal {
    let known = |id: JobId| ids.get(&id).copied().unwrap_or(id);
    match refusal {
        Refusal::KeyReused { existing } => Refusal::KeyReused { existing: known(existing) },
        Refusal::DuplicateKey { existing } => Refusal::DuplicateKey { existing: known(existing) },
        Refusal::VersionStale { existing } => Refusal::VersionStale { existing: known(existing) },
        other => other,
    }
}

/// What an SQL function refused, or panics: nothing else may go wrong in a case.
fn refused(error: UserTxError) -> Refusal {
    match error {
        UserTxError::Refused(refusal) => refusal,
        other => panic!("{other}: {other:?}"),
    }
}

/// What a user's transaction does.
enum Call {
    Add(QueueName, Box<NewJob>),
    End(JobId, FencingToken, End),
    Cancel(JobId, bool),
}

/// What came of it.
enum Done {
    Added(Added),
    State(State),
}

impl Done {
    fn added(self) -> Added {
        match self {
            Done::Added(added) => added,
            Done::State(state) => panic!("an add was answered with {state}"),
        }
    }

    fn state(&self) -> State {
        match self {
            Done::State(state) => *state,
            Done::Added(added) => panic!("an end was answered with {added:?}"),
        }
    }
}

impl Call {
    async fn run(&self, tx: &Transaction<'_>, schema: &str) -> Result<Done, UserTxError> {
        Ok(match self {
            Call::Add(queue, job) => {
                let added = user_tx::add(tx, schema, queue, job).await?;
                // As the next tick would.
                tx.execute("SELECT fold_repeats(1000)", &[]).await?;
                Done::Added(added)
            }
            Call::End(id, token, end) => Done::State(match end {
                End::Complete { result } => {
                    user_tx::complete(tx, schema, *id, *token, result.as_deref()).await?
                }
                End::Fail { error, retryable, retry_in } => {
                    user_tx::fail(tx, schema, *id, *token, error, *retryable, *retry_in).await?
                }
                End::Snooze { delay } => user_tx::snooze(tx, schema, *id, *token, *delay).await?,
                End::Release => panic!("there is no release by SQL"),
            }),
            Call::Cancel(id, force) => Done::State(user_tx::cancel(tx, schema, *id, *force).await?),
        })
    }
}

impl SqlEngine {
    /// Runs one transaction of a user's, which is committed if all of it went well; again if others were in its way. Gives
    /// what was done up to the first refusal, if there was one.
    async fn transaction(&self, calls: &[Call]) -> Result<Vec<Done>, (Vec<Done>, Refusal)> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize % self.users.len();
        let mut user = self.users[turn].lock().await;
        let now = self.world.clock.now().as_unix_ms().to_string();
        let roll = self.world.dice.next_u64().to_string();
        'again: loop {
            let tx = user.transaction().await.unwrap();
            let set = "SELECT set_config('of_test.now', $1, true), set_config('of_test.roll', $2, true), \
                       set_config('onefold.repeated_end', 'first_answer', true)";
            tx.execute(set, &[&now, &roll]).await.unwrap();
            let mut done = Vec::new();
            for call in calls {
                match call.run(&tx, &self.schema).await {
                    Ok(value) => done.push(value),
                    Err(UserTxError::Again(_)) => {
                        tx.rollback().await.unwrap();
                        continue 'again;
                    }
                    Err(error) => {
                        tx.rollback().await.unwrap();
                        return Err((done, refused(error)));
                    }
                }
            }
            tx.commit().await.unwrap();
            return Ok(done);
        }
    }

    async fn add_all(&self, params: AddParams) -> EngineResult<Vec<ItemResult<Added>>> {
        let call = |job: &NewJob| Call::Add(params.queue.clone(), Box::new(job.clone()));
        let calls: Vec<Call> = params.jobs.iter().map(call).collect();
        match self.transaction(&calls).await {
            Ok(done) => {
                self.stirred(&done);
                Ok(done.into_iter().map(|done| Ok(done.added())).collect())
            }
            // The engine does all of it, and says the same up to there; what it adds gets other ids.
            Err((done, refusal)) => {
                let outcomes = self.inner.add(params).await?;
                let mut ids: BTreeMap<JobId, JobId> = BTreeMap::new();
                let mut said = outcomes.iter();
                let as_said = done.into_iter().map(Done::added).zip(&mut said).all(|(done, outcome)| {
                    let Ok(outcome) = outcome else { return false };
                    if !done.duplicate {
                        ids.insert(done.id, outcome.id);
                    }
                    *outcome == Added { id: ids.get(&done.id).copied().unwrap_or(done.id), ..done }
                });
                let refusal = renamed(refusal, &ids);
                let first = said.next().and_then(|outcome| outcome.as_ref().err());
                assert!(
                    as_said && first == Some(&refusal),
                    "SQL refuses {refusal:?}, the engine says {outcomes:?}"
                );
                Ok(outcomes)
            }
        }
    }

    /// The engine hears of what a user's transaction did.
    fn stirred(&self, done: &[Done]) {
        let due = done.iter().filter_map(|done| match done {
            Done::Added(added) => added.run_at,
            Done::State(_) => None,
        });
        let mut earliest = self.due.lock().unwrap();
        *earliest = due.chain(*earliest).min();
        drop(earliest);
        self.inner.look_now();
    }

    /// Counts an attempt that a user ended.
    async fn note_end(&self, id: JobId, before: &Option<JobView>) -> EngineResult<()> {
        let open = before.as_ref().and_then(|view| view.job.attempt.as_ref()).filter(|a| a.end.is_none());
        let Some(open) = open else { return Ok(()) };
        let after = self.inner.get(id).await?;
        let attempt = after.and_then(|view| view.attempts.into_iter().find(|a| a.token == open.token));
        if let Some(end) = attempt.and_then(|attempt| attempt.end) {
            *self.ended.lock().unwrap().entry(end.outcome).or_default() += 1;
        }
        Ok(())
    }

    async fn settle_all(&self, ops: Vec<SettleOp>) -> EngineResult<Vec<ItemResult<Settled>>> {
        let call = |op: &SettleOp| match &op.action {
            SettleAction::End(end) if *end != End::Release => Some(Call::End(op.id, op.token, end.clone())),
            _ => None,
        };
        let Some(calls) = ops.iter().map(call).collect::<Option<Vec<Call>>>() else {
            return self.inner.settle(ops).await;
        };
        let mut before = BTreeMap::new();
        for op in &ops {
            before.insert(op.id, self.inner.get(op.id).await?);
        }
        match self.transaction(&calls).await {
            Ok(done) => {
                for (id, view) in before {
                    self.note_end(id, &view).await?;
                }
                self.stirred(&done);
                let settled = |done: Done| Settled { state: done.state(), cancel: false, lease_until: None };
                Ok(done.into_iter().map(|done| Ok(settled(done))).collect())
            }
            Err((done, refusal)) => {
                let outcomes = self.inner.settle(ops).await?;
                let mut said = outcomes.iter();
                let as_said = done.into_iter().zip(&mut said).all(|(done, outcome)| {
                    outcome.as_ref().is_ok_and(|settled| settled.state == done.state())
                });
                let first = said.next().and_then(|outcome| outcome.as_ref().err());
                assert!(
                    as_said && first == Some(&refusal),
                    "SQL refuses {refusal:?}, the engine says {outcomes:?}"
                );
                Ok(outcomes)
            }
        }
    }

    async fn cancel_one(&self, id: JobId, force: bool) -> EngineResult<ItemResult<JobView>> {
        let before = self.inner.get(id).await?;
        match self.transaction(&[Call::Cancel(id, force)]).await {
            Ok(done) => {
                self.note_end(id, &before).await?;
                self.stirred(&done);
                let view = self.inner.get(id).await?.unwrap();
                assert!(done.into_iter().all(|done| done.state() == view.job.state));
                Ok(Ok(view))
            }
            Err((_, refusal)) => {
                let outcome = self.inner.cancel(id, force).await?;
                assert_eq!(
                    outcome.as_ref().err(),
                    Some(&refusal),
                    "SQL and the engine refuse for different reasons"
                );
                Ok(outcome)
            }
        }
    }

    fn open(&self) -> EngineResult<()> {
        if self.closed.load(Ordering::Relaxed) { Err(EngineError::Closed) } else { Ok(()) }
    }
}

/// Goes on though nobody awaits it any more, as the contract has it: the user is another program.
fn apart<T: Send + 'static>(
    work: impl Future<Output = EngineResult<T>> + Send + 'static,
) -> BoxFuture<'static, EngineResult<T>> {
    let task = RUNTIME.spawn(work);
    Box::pin(
        async move { task.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic())) },
    )
}

/// The engine as the suite holds it.
struct Shared(Arc<SqlEngine>);

macro_rules! inner {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)+) => {
        $(fn $name(&self $(, $arg: $type)*) -> BoxFuture<'_, $out> { self.0.inner.$name($($arg),*) })+
    };
}

/// What is delivered the functions do not take.
fn goes_out(spec: &onefold_core::JobSpec) -> bool {
    spec.target.http().is_some() || spec.on_success.is_some() || spec.on_failure.is_some()
}

impl Engine for Shared {
    fn capabilities(&self) -> Capabilities {
        self.0.inner.capabilities()
    }

    fn add(&self, params: AddParams) -> BoxFuture<'_, EngineResult<Vec<ItemResult<Added>>>> {
        // What the edges of the API would not let in is not for the functions either.
        let fits = |job: &NewJob| {
            job.request.is_none()
                && job.spec.check(limits::PAYLOAD_BYTES_DEFAULT).is_ok()
                && !goes_out(&job.spec)
        };
        if params.atomic || !params.jobs.iter().all(fits) {
            return self.0.inner.add(params);
        }
        let engine = Arc::clone(&self.0);
        apart(async move {
            engine.open()?;
            engine.add_all(params).await
        })
    }

    fn settle(&self, ops: Vec<SettleOp>) -> BoxFuture<'_, EngineResult<Vec<ItemResult<Settled>>>> {
        let engine = Arc::clone(&self.0);
        apart(async move {
            engine.open()?;
            for op in &ops {
                let told = engine.inner.get(op.id).await?.is_some_and(|view| goes_out(&view.spec));
                if told {
                    return engine.inner.settle(ops).await;
                }
            }
            engine.settle_all(ops).await
        })
    }

    fn cancel(&self, id: JobId, force: bool) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        let engine = Arc::clone(&self.0);
        apart(async move {
            engine.open()?;
            if engine.inner.get(id).await?.is_some_and(|view| goes_out(&view.spec)) {
                return engine.inner.cancel(id, force).await;
            }
            engine.cancel_one(id, force).await
        })
    }

    fn stats(&self) -> BoxFuture<'_, EngineResult<StoreStats>> {
        Box::pin(async {
            let mut stats = self.0.inner.stats().await?;
            let mut attempts: BTreeMap<Outcome, u64> = stats.attempts.into_iter().collect();
            for (outcome, count) in self.0.ended.lock().unwrap().iter() {
                *attempts.entry(*outcome).or_default() += count;
            }
            stats.attempts = attempts.into_iter().collect();
            Ok(stats)
        })
    }

    fn tick_sooner(&self) -> BoxFuture<'_, ()> {
        if self.0.due.lock().unwrap().is_some() {
            return Box::pin(std::future::ready(()));
        }
        self.0.inner.tick_sooner()
    }

    fn tick(&self) -> BoxFuture<'_, EngineResult<Ticked>> {
        *self.0.due.lock().unwrap() = None;
        self.0.inner.tick()
    }

    fn close(&self) -> BoxFuture<'_, EngineResult<()>> {
        self.0.closed.store(true, Ordering::Relaxed);
        self.0.inner.close()
    }

    inner! {
        lease(params: LeaseParams) -> EngineResult<Vec<LeasedJob>>;
        lease_deliveries(params: DeliveryParams) -> EngineResult<Vec<LeasedJob>>;
        deliveries_after(seen: u64) -> u64;
        retry(id: JobId, accept: bool) -> EngineResult<ItemResult<JobView>>;
        redrive(params: RedriveParams) -> EngineResult<ItemResult<Redriven>>;
        edit(id: JobId, edit: JobEdit) -> EngineResult<ItemResult<JobView>>;
        delete(id: JobId) -> EngineResult<ItemResult<JobView>>;
        get(id: JobId) -> EngineResult<Option<JobView>>;
        list(params: ListParams) -> EngineResult<JobPage>;
        finished(id: JobId) -> EngineResult<()>;
        queues() -> EngineResult<Vec<QueueView>>;
        queue(name: QueueName) -> EngineResult<Option<QueueView>>;
        set_queue(name: QueueName, patch: QueuePatch) -> EngineResult<QueueView>;
        delete_queue(name: QueueName, force: bool) -> EngineResult<ItemResult<DeletedQueue>>;
        key(queue: QueueName, key: Key) -> EngineResult<Option<KeyView>>;
        release_key(queue: QueueName, key: Key) -> EngineResult<Option<KeyView>>;
        setting(name: String) -> EngineResult<Option<Setting>>;
        set_setting(name: String, value: Bytes, expected: u64) -> EngineResult<Result<u64, Setting>>;
        effects(ops: Vec<EffectOp>) -> EngineResult<Vec<EffectResult>>;
        effect(name: EffectName) -> EngineResult<Option<Effect>>;
        list_effects(params: ListEffects) -> EngineResult<EffectPage>;
        events(params: EventsParams) -> EngineResult<EventPage>;
        events_after(cursor: EventCursor) -> EngineResult<()>;
        backup(to: PathBuf) -> EngineResult<BackupDone>;
        drain() -> EngineResult<()>;
    }
}

impl Schedules for Shared {
    inner! {
        put_schedule(id: ScheduleId, new: NewSchedule) -> EngineResult<PutSchedule>;
        schedule(id: ScheduleId) -> EngineResult<Option<ScheduleView>>;
        schedules(params: ListSchedules) -> EngineResult<SchedulePage>;
        pause_schedule(id: ScheduleId, paused: bool) -> EngineResult<ItemResult<ScheduleView>>;
        run_schedule(id: ScheduleId) -> EngineResult<ItemResult<JobId>>;
        delete_schedule(id: ScheduleId) -> EngineResult<ItemResult<ScheduleView>>;
    }
}
