//! The engine: the contract, each operation on the node's runtime.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use onefold_core::promise::{promise, promise_or_return};
use onefold_core::{
    AddParams, Added, BackupDone, BoxFuture, Capabilities, Clock, DeletedQueue, DeliveryParams, Effect,
    EffectName, EffectOp, EffectPage, EffectResult, Engine, EngineError, EngineResult, EventCursor,
    EventPage, EventsParams, ItemResult, JobEdit, JobId, JobPage, JobView, Key, KeyView, LeaseParams,
    LeasedJob, ListEffects, ListParams, QueueName, QueuePatch, QueueView, RedriveParams, Redriven, Setting,
    SettleOp, Settled, StoreStats, Ticked,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::clock::DatabaseClock;
use crate::inspect::{self, Standby};
use crate::lanes::{Call, Lanes};
use crate::node::{Node, Verdict, commit};
use crate::notify::keep_in_touch;
use crate::ops::lease::Given;
use crate::pool::{Pool, PoolOptions};
use crate::serving::{begin_to_serve, lease_or_park, one_tick};
use crate::{
    Listener, OpenError, Options, PostgresConfig, SCHEMA_VERSION, Time, apart, migrate, ops, params, sql,
};

/// Transactions of adds, and as many of leases and of settles, that a node runs at a time.
const LANES: usize = 3;
/// How long calls that go together wait for a row somebody holds, before each waits for itself.
pub(crate) const WAIT_TOGETHER: Duration = Duration::from_millis(50);
/// Jobs of one of them at the most.
const FULL: usize = 1_000;
/// Jobs asked for by the leases of one transaction at the most.
const FULL_OF_LEASES: usize = 200;
/// Payload bytes that weigh as much as a job.
const BYTES_LIKE_A_JOB: usize = 4 * 1024;

/// Tells nodes of one process apart.
static NODES: AtomicU64 = AtomicU64::new(0);

/// A node that serves a store in PostgreSQL.
pub struct PostgresEngine {
    node: Arc<Node>,
    adds: Arc<Lanes<Add>>,
    leases: Arc<Lanes<Lease>>,
    settles: Arc<Lanes<Settle>>,
    effects: Arc<Lanes<Effects>>,
    loops: Mutex<Vec<JoinHandle<()>>>,
}

/// A call of [`Engine::add`] that may go with others.
struct Add(AddParams);

/// A call of [`Engine::lease`].
pub(crate) struct Lease(pub(crate) LeaseParams);

/// A call of [`Engine::settle`].
struct Settle(Vec<SettleOp>);

/// A call of [`Engine::effects`].
struct Effects(Vec<EffectOp>);

impl Call for Effects {
    type Answer = Vec<EffectResult>;

    fn weight(&self) -> usize {
        self.0.len()
    }
}

impl Call for Add {
    type Answer = Vec<ItemResult<Added>>;

    fn weight(&self) -> usize {
        let bytes: usize = self.0.jobs.iter().map(|job| job.spec.payload.len()).sum();
        self.0.jobs.len() + bytes / BYTES_LIKE_A_JOB
    }
}

impl Call for Lease {
    type Answer = Given;

    fn weight(&self) -> usize {
        self.0.max as usize
    }
}

impl Call for Settle {
    type Answer = Vec<ItemResult<Settled>>;

    fn weight(&self) -> usize {
        self.0.len()
    }
}

/// Something that is done with the node, as often as wanted.
fn of_node<P, T, F>(
    node: &Arc<Node>,
    run: impl Fn(Arc<Node>, P) -> F + Send + Sync + 'static,
) -> Arc<dyn Fn(P) -> BoxFuture<'static, T> + Send + Sync>
where
    F: Future<Output = T> + Send + 'static,
{
    let node = Arc::clone(node);
    Arc::new(move |of| Box::pin(run(Arc::clone(&node), of)))
}

impl PostgresEngine {
    /// Opens the store, making its schema in a database that has none. To be called on a tokio runtime with I/O and
    /// time enabled, on which the engine then lives; its operations may be awaited anywhere.
    ///
    /// # Errors
    /// [`OpenError`], with what to do about it.
    pub async fn open(config: PostgresConfig, options: Options) -> Result<PostgresEngine, OpenError> {
        let runtime = Handle::try_current().map_err(|_| OpenError::NoRuntime)?;
        let found = migrate::version(&migrate::client(&config, &runtime).await?, &config.schema).await?;
        match found {
            None => drop(migrate::migrate(&config).await?),
            Some(SCHEMA_VERSION) => {}
            Some(found) if found > SCHEMA_VERSION => {
                return Err(OpenError::Newer { found, known: SCHEMA_VERSION });
            }
            Some(found) => return Err(OpenError::Older { found, needed: SCHEMA_VERSION }),
        }
        let same = || Listener { server: config.server.clone(), tls: config.tls.clone() };
        let listener = config.listen.or_else(|| (!config.transaction_pooler).then(same));
        let database_clock = Arc::new(DatabaseClock::new(Arc::clone(&options.clock)));
        let clock: Arc<dyn Clock> = match options.time {
            Time::Database => Arc::clone(&database_clock) as Arc<dyn Clock>,
            Time::Clock => options.clock,
        };
        let pool = Arc::new(Pool::new(
            PoolOptions {
                server: config.server,
                tls: config.tls,
                schema: config.schema,
                transaction_pooler: config.transaction_pooler,
                connections: config.connections.max(1),
                connect_within: config.connect_within,
                lend_within: config.lend_within,
                lock_wait: config.lock_wait,
                clock: database_clock,
                time: options.time,
            },
            runtime.clone(),
        ));
        let number = NODES.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}-{:016x}", std::process::id(), options.entropy.next_u64());
        let node = Arc::new(Node::new(
            pool,
            clock,
            options.entropy,
            options.time,
            runtime.clone(),
            name,
            options.serve_gap,
            options.retention_slack,
        ));
        begin_to_serve(&node).await.map_err(|error| OpenError::Failed(error.to_string()))?;
        let mut loops = vec![
            runtime.spawn(Arc::clone(&node).serve()),
            runtime.spawn(Arc::clone(&node).look_around(options.look_around)),
        ];
        loops.extend(listener.map(|listener| runtime.spawn(keep_in_touch(Arc::clone(&node), listener))));
        let adds = Lanes::new(
            LANES,
            FULL,
            runtime.clone(),
            of_node(&node, |node, calls: Arc<Vec<Add>>| async move {
                let calls: &Vec<&AddParams> = &calls.iter().map(|call| &call.0).collect();
                commit!(node, within Some(WAIT_TOGETHER), |work| ops::add::add(work, calls))
            }),
            of_node(&node, |node, call: Add| async move { apart::add(&node, call.0).await }),
        );
        let leases = Lanes::new(
            LANES,
            FULL_OF_LEASES,
            runtime.clone(),
            of_node(&node, |node, calls: Arc<Vec<Lease>>| async move {
                let calls: &Vec<&LeaseParams> = &calls.iter().map(|call| &call.0).collect();
                commit!(node, within Some(WAIT_TOGETHER), |work| ops::lease::lease(work, calls))
            }),
            of_node(&node, |node, call: Lease| async move {
                node.lease_now(&[&call.0]).await.and_then(|mut given| given.pop().ok_or(EngineError::Closed))
            }),
        );
        let effects = Lanes::new(
            LANES,
            FULL,
            runtime.clone(),
            of_node(&node, |node, calls: Arc<Vec<Effects>>| async move {
                let calls: &Vec<&[EffectOp]> = &calls.iter().map(|call| call.0.as_slice()).collect();
                commit!(node, within Some(WAIT_TOGETHER), |work| ops::effects::apply_calls(work, calls))
            }),
            of_node(&node, |node, call: Effects| async move { apart::effects(&node, &call.0).await }),
        );
        let settles = Lanes::new(
            LANES,
            FULL,
            runtime,
            of_node(&node, |node, calls: Arc<Vec<Settle>>| async move {
                let calls: &Vec<&[SettleOp]> = &calls.iter().map(|call| call.0.as_slice()).collect();
                commit!(node, within Some(WAIT_TOGETHER), |work| ops::settle::settle_calls(work, calls))
            }),
            of_node(&node, |node, call: Settle| async move { apart::settle(&node, &call.0).await }),
        );
        Ok(PostgresEngine { node, adds, leases, settles, effects, loops: Mutex::new(loops) })
    }

    /// Looks at once for what other nodes and users' own transactions did, instead of with the next look around: for whoever
    /// has just committed such a transaction.
    pub fn look_now(&self) {
        self.node.look_now();
    }

    /// The clock it lives by: the database's time, carried on by this machine's monotonic clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.node.clock)
    }

    /// Whether what is acknowledged is on another machine, too.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub async fn standby(&self) -> EngineResult<Standby> {
        self.run(|node| async move {
            commit!(node, |work| async {
                let rows = work.tx.look(inspect::STANDBY).await?;
                let row = rows.first().ok_or_else(|| crate::error::corrupt("no row about standbys"))?;
                Ok(inspect::standby(row)?)
            })
        })
        .await
    }

    /// Stops at once and without a goodbye, as the end of the process would: for tests.
    pub fn abort(&self) {
        self.node.local.close();
        self.node.pool.close();
        for task in self.loops.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }

    /// Runs an operation on the engine's runtime: it goes on if nobody awaits it any more.
    pub(crate) fn run<T, F>(&self, operation: impl FnOnce(Arc<Node>) -> F) -> BoxFuture<'_, EngineResult<T>>
    where
        T: Send + 'static,
        F: Future<Output = EngineResult<T>> + Send + 'static,
    {
        let (resolver, done) = promise();
        let operation = operation(Arc::clone(&self.node));
        self.node.runtime.spawn(async move {
            // Nobody may be left to hear of it.
            let _ = resolver.resolve(operation.await);
        });
        Box::pin(async move { done.await.unwrap_or(Err(EngineError::Closed)) })
    }
}

impl Drop for PostgresEngine {
    fn drop(&mut self) {
        self.abort();
    }
}

impl Engine for PostgresEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities { durable: true, multi_process: true, backup: false }
    }

    fn add(&self, params: AddParams) -> BoxFuture<'_, EngineResult<Vec<ItemResult<Added>>>> {
        if !params.atomic {
            let added = self.adds.call(Add(params));
            return Box::pin(async move { added.await.unwrap_or(Err(EngineError::Closed)) });
        }
        self.run(|node| async move { apart::add_atomic(&node, &params).await })
    }

    fn lease(&self, params: LeaseParams) -> BoxFuture<'_, EngineResult<Vec<LeasedJob>>> {
        let (node, leases) = (Arc::clone(&self.node), Arc::clone(&self.leases));
        let give_back = Arc::clone(&self.node);
        let (answer, promised) = promise_or_return(move |unclaimed: Vec<LeasedJob>| {
            let runtime = give_back.runtime.clone();
            runtime.spawn(async move { give_back.release(unclaimed).await });
        });
        let (failed, failure) = promise();
        self.node.runtime.spawn(async move {
            if let Err(error) = lease_or_park(&node, &leases, params, answer).await {
                let _ = failed.resolve(error);
            }
        });
        Box::pin(async move {
            match promised.await {
                Some(leased) => Ok(leased),
                None => Err(failure.await.unwrap_or(EngineError::Closed)),
            }
        })
    }

    fn lease_deliveries(&self, params: DeliveryParams) -> BoxFuture<'_, EngineResult<Vec<LeasedJob>>> {
        let (node, give_back) = (Arc::clone(&self.node), Arc::clone(&self.node));
        let (answer, promised) = promise_or_return(move |unclaimed: EngineResult<Vec<LeasedJob>>| {
            let (runtime, unclaimed) = (give_back.runtime.clone(), unclaimed.unwrap_or_default());
            runtime.spawn(async move { give_back.release(unclaimed).await });
        });
        self.node.runtime.spawn(async move {
            let leased = node.lease_deliveries(&params).await;
            if let Err(Ok(unwanted)) = answer.resolve(leased) {
                node.release(unwanted).await;
            }
        });
        Box::pin(async move { promised.await.unwrap_or(Err(EngineError::Closed)) })
    }

    fn deliveries_after(&self, seen: u64) -> BoxFuture<'_, u64> {
        let told = self.node.local.wait_deliveries(seen);
        Box::pin(async move { told.await.unwrap_or(seen) })
    }

    fn settle(&self, ops: Vec<SettleOp>) -> BoxFuture<'_, EngineResult<Vec<ItemResult<Settled>>>> {
        let settled = self.settles.call(Settle(ops));
        Box::pin(async move { settled.await.unwrap_or(Err(EngineError::Closed)) })
    }

    fn cancel(&self, id: JobId, force: bool) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.run(move |node| async move { commit!(node, |work| ops::manage::cancel(work, id, force)) })
    }

    fn retry(&self, id: JobId, accept_duplicates: bool) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.run(
            move |node| async move { commit!(node, |work| ops::manage::retry(work, id, accept_duplicates)) },
        )
    }

    fn redrive(&self, params: RedriveParams) -> BoxFuture<'_, EngineResult<ItemResult<Redriven>>> {
        self.run(|node| async move {
            let params = &params;
            commit!(node, |work| ops::manage::redrive(work, params))
        })
    }

    fn edit(&self, id: JobId, edit: JobEdit) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.run(move |node| async move {
            let edit = &edit;
            commit!(node, |work| ops::manage::edit(work, id, edit))
        })
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.run(move |node| async move { commit!(node, |work| ops::manage::delete(work, id)) })
    }

    fn get(&self, id: JobId) -> BoxFuture<'_, EngineResult<Option<JobView>>> {
        self.run(move |node| async move { commit!(node, |work| ops::look::get(work, id)) })
    }

    fn list(&self, params: ListParams) -> BoxFuture<'_, EngineResult<JobPage>> {
        self.run(|node| async move {
            let params = &params;
            commit!(node, |work| ops::look::list(work, params))
        })
    }

    fn finished(&self, id: JobId) -> BoxFuture<'_, EngineResult<()>> {
        // Registered before the look, so that an end in between is not missed.
        let waiter = self.node.local.wait_finished(id);
        let there = self.run(move |node| async move {
            node.local.open()?;
            let ids = [id].into();
            let ids = &ids;
            let states = commit!(node, |work| ops::look::states(work, ids))?;
            Ok(states.get(&id).is_some_and(|state| !state.is_finished()))
        });
        Box::pin(async move { if there.await? { waiter.await.ok_or(EngineError::Closed) } else { Ok(()) } })
    }

    fn queues(&self) -> BoxFuture<'_, EngineResult<Vec<QueueView>>> {
        self.run(|node| async move { commit!(node, |work| ops::queues::all(work)) })
    }

    fn queue(&self, name: QueueName) -> BoxFuture<'_, EngineResult<Option<QueueView>>> {
        self.run(|node| async move {
            let name = &name;
            commit!(node, |work| ops::queues::one(work, name))
        })
    }

    fn set_queue(&self, name: QueueName, patch: QueuePatch) -> BoxFuture<'_, EngineResult<QueueView>> {
        self.run(|node| async move {
            let (name, patch) = (&name, &patch);
            commit!(node, |work| ops::queues::set(work, name, patch))
        })
    }

    fn delete_queue(
        &self,
        name: QueueName,
        force: bool,
    ) -> BoxFuture<'_, EngineResult<ItemResult<DeletedQueue>>> {
        self.run(move |node| async move {
            let name = &name;
            commit!(node, |work| ops::queues::delete(work, name, force))
        })
    }

    fn key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, EngineResult<Option<KeyView>>> {
        self.run(|node| async move {
            let (queue, key) = (&queue, &key);
            commit!(node, |work| ops::look::key(work, queue, key.clone()))
        })
    }

    fn release_key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, EngineResult<Option<KeyView>>> {
        self.run(|node| async move {
            let (queue, key) = (&queue, &key);
            commit!(node, |work| ops::manage::release_key(work, queue, key.clone()))
        })
    }

    fn setting(&self, name: String) -> BoxFuture<'_, EngineResult<Option<Setting>>> {
        self.run(|node| async move {
            let name = &name;
            commit!(node, |work| ops::queues::setting(work, name))
        })
    }

    fn set_setting(
        &self,
        name: String,
        value: Bytes,
        expected: u64,
    ) -> BoxFuture<'_, EngineResult<Result<u64, Setting>>> {
        self.run(move |node| async move {
            let (name, value) = (&name, &value);
            commit!(node, |work| ops::queues::set_setting(work, name, value, expected))
        })
    }

    fn effects(&self, ops: Vec<EffectOp>) -> BoxFuture<'_, EngineResult<Vec<EffectResult>>> {
        let done = self.effects.call(Effects(ops));
        Box::pin(async move { done.await.unwrap_or(Err(EngineError::Closed)) })
    }

    fn effect(&self, name: EffectName) -> BoxFuture<'_, EngineResult<Option<Effect>>> {
        self.run(|node| async move {
            let name = &name;
            commit!(node, |work| ops::effects::get(work, name))
        })
    }

    fn list_effects(&self, params: ListEffects) -> BoxFuture<'_, EngineResult<EffectPage>> {
        self.run(|node| async move {
            let params = &params;
            commit!(node, |work| ops::effects::list(work, params))
        })
    }

    fn events(&self, params: EventsParams) -> BoxFuture<'_, EngineResult<EventPage>> {
        self.run(|node| async move {
            let params = &params;
            commit!(node, |work| ops::events::page(work, params))
        })
    }

    fn events_after(&self, cursor: EventCursor) -> BoxFuture<'_, EngineResult<()>> {
        let waiter = self.node.local.wait_events(cursor);
        let last = self.run(|node| async move { commit!(node, |work| ops::events::number(work)) });
        Box::pin(async move {
            if last.await? > cursor { Ok(()) } else { waiter.await.ok_or(EngineError::Closed) }
        })
    }

    fn tick(&self) -> BoxFuture<'_, EngineResult<Ticked>> {
        self.run(|node| async move {
            node.local.open()?;
            one_tick(&node).await
        })
    }

    fn tick_sooner(&self) -> BoxFuture<'_, ()> {
        match self.node.local.wait_tick(self.node.clock.as_ref()) {
            None => Box::pin(std::future::ready(())),
            Some(waiter) => Box::pin(async move {
                waiter.await;
            }),
        }
    }

    fn backup(&self, _to: PathBuf) -> BoxFuture<'_, EngineResult<BackupDone>> {
        let advice = "a PostgreSQL store is backed up with PostgreSQL's own means: pg_dump, or pg_basebackup with WAL archiving";
        Box::pin(std::future::ready(Err(EngineError::Io(advice.to_owned()))))
    }

    fn stats(&self) -> BoxFuture<'_, EngineResult<StoreStats>> {
        let parked = self.node.local.figures().0;
        self.run(move |node| async move {
            node.local.open()?;
            let (keys, file_bytes) = commit!(node, |work| async {
                let rows = work.rows(sql::FIGURES, params![]).await?;
                let row = rows.first().ok_or_else(|| crate::error::corrupt("figures without a row"))?;
                Ok((row.try_get::<_, i64>(0)?, row.try_get::<_, i64>(1)?))
            })?;
            let (_, attempts, commits) = node.local.figures();
            Ok(StoreStats {
                attempts,
                commits,
                parked_polls: parked,
                keys: keys.cast_unsigned(),
                file_bytes: file_bytes.cast_unsigned(),
                ..StoreStats::default()
            })
        })
    }

    fn drain(&self) -> BoxFuture<'_, EngineResult<()>> {
        self.node.local.drain();
        Box::pin(std::future::ready(self.node.local.open()))
    }

    fn close(&self) -> BoxFuture<'_, EngineResult<()>> {
        self.run(|node| async move {
            let name = &node.name;
            let gone = commit!(node, |work| async {
                work.rows(sql::NODE_GONE, params![name.clone()]).await.map(drop)
            });
            node.local.close();
            node.pool.idle_again().await;
            node.pool.close();
            match gone {
                Ok(()) | Err(EngineError::Closed) => Ok(()),
                Err(error) => {
                    // Others find out by themselves that nobody ticks here any more.
                    tracing::warn!(%error, "could not say goodbye to the database");
                    Ok(())
                }
            }
        })
    }
}
