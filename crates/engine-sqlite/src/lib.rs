//! The embedded engine: one SQLite file in a data directory, one writer thread, group commit.
//!
//! A reply is sent after the commit that holds its change, and every commit is one `fdatasync`
//! (write-ahead log, `synchronous = FULL`). How it is laid out and why: `docs/internals/engine-sqlite.md`.

mod backup;
mod disk;
mod effects;
mod error;
mod events;
pub mod inspect;
mod key_index;
mod ledger_id;
mod local;
mod open;
mod reader;
mod rows;
mod schedules;
mod sets;
mod shared;
mod statements;
mod stats;
mod varint;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use onefold_core::promise::{Resolver, promise, promise_or_return};
use onefold_core::{
    AddParams, Added, BackupDone, BoxFuture, Capabilities, Clock, DeletedQueue, DeliveryParams, DurationMs,
    Effect, EffectName, EffectOp, EffectPage, EffectResult, Engine, EngineError, EngineResult, Entropy,
    EventCursor, EventPage, EventsParams, ItemResult, JobEdit, JobId, JobPage, JobView, Key, KeyView,
    LeaseParams, LeasedJob, ListEffects, ListParams, QueueName, QueuePatch, QueueView, RedriveParams,
    Redriven, Setting, SettleOp, Settled, StoreStats, Ticked,
};
use rusqlite::Connection;

use disk::{Disk, FreeSpace};
use error::StoreResult;
pub use local::{LocalDone, LocalError, LocalStep, LocalTx, LocalWork};
use open::DirLock;
pub use open::OpenError;
pub use rusqlite;
use shared::Shared;
use writer::{Answer, Command, Writer};

/// Threads that read beside the writer.
const READERS: usize = 2;

/// Memory the index of held keys may take unless told otherwise: some 12 million of them.
pub const KEY_INDEX_BYTES: usize = 256 * 1024 * 1024;

/// How to open a store.
#[derive(Clone)]
pub struct Options {
    /// The clocks it lives by.
    pub clock: Arc<dyn Clock>,
    /// Where jitter and hash keys come from.
    pub entropy: Arc<dyn Entropy>,
    /// How much later than due finished jobs may be deleted, so that neighbours go together.
    pub retention_slack: DurationMs,
    /// Memory the index of held keys may take, in bytes. Beyond it older keys are looked up on
    /// disk: slower, never forgotten.
    pub key_index_bytes: usize,
    /// The SQLite VFS to use instead of the default: for tests of power loss and failing disks.
    pub vfs: Option<String>,
    /// How many bytes are free, instead of what the file system says: for tests of full disks.
    pub free_space: Option<FreeSpaceProbe>,
}

/// See [`Options::free_space`].
pub type FreeSpaceProbe = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

impl Options {
    /// The defaults with these clocks and this randomness.
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Options {
        let retention_slack = DurationMs::from_ms(60_000);
        let key_index_bytes = KEY_INDEX_BYTES;
        Options { clock, entropy, retention_slack, key_index_bytes, vfs: None, free_space: None }
    }
}

/// See the [crate](self).
pub struct SqliteEngine {
    commands: Sender<Command>,
    reads: Mutex<Option<Sender<ReadTask>>>,
    shared: Arc<Shared>,
    database: PathBuf,
    vfs: Option<String>,
    clock: Arc<dyn Clock>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

type ReadTask = Box<dyn FnOnce(&Connection, &Shared) + Send>;

impl SqliteEngine {
    /// Opens the store in `dir`, making both if there is none.
    ///
    /// # Errors
    /// [`OpenError`], with what to do about it.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<SqliteEngine, OpenError> {
        let dir = dir.as_ref().to_owned();
        let lock = DirLock::take(&dir)?;
        let database = open::database_path(&dir);
        let shared = Arc::new(Shared::default());
        let (commands, received) = channel();
        let (report, opened) = sync_channel(1);
        let writer = {
            let (shared, database, options) = (Arc::clone(&shared), database.clone(), options.clone());
            spawn(&dir, "onefold-writer", move || {
                let closing = write(&dir_of(&database), &database, &options, &shared, &received, &report);
                drop(lock);
                if let Some(answer) = closing {
                    // Nobody waits any more: nobody has to be told.
                    let _ = answer.resolve(Ok(()));
                }
            })?
        };
        let dir_again = dir.clone();
        match opened.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let _ = writer.join();
                return Err(error);
            }
            Err(_) => {
                let reason = "the writer stopped while opening it".to_owned();
                return Err(OpenError::Store { path: dir_again, reason });
            }
        }
        let (reads, tasks) = channel::<ReadTask>();
        let tasks = Arc::new(Mutex::new(tasks));
        let mut threads = vec![writer];
        for _ in 0..READERS {
            let refused =
                |error: rusqlite::Error| OpenError::Store { path: dir.clone(), reason: error.to_string() };
            let conn = open::connect(&database, options.vfs.as_deref(), false).map_err(refused)?;
            conn.pragma_update(None, "query_only", true).map_err(refused)?;
            let (tasks, shared) = (Arc::clone(&tasks), Arc::clone(&shared));
            threads.push(spawn(&dir, "onefold-reader", move || read(&conn, &shared, &tasks))?);
        }
        let threads = Mutex::new(threads);
        Ok(SqliteEngine {
            commands,
            reads: Mutex::new(Some(reads)),
            shared,
            database,
            vfs: options.vfs,
            clock: options.clock,
            threads,
        })
    }

    /// Writes rows of the user's own tables in the engine's transaction, and completes the job whose step they are in the same:
    /// all of it is durable, or nothing. The work runs on the writer's thread, beside which nobody else writes: keep it short.
    ///
    /// # Errors
    /// [`EngineError`]: nothing was written.
    pub fn local(&self, step: LocalStep, work: LocalWork) -> BoxFuture<'_, EngineResult<LocalDone>> {
        self.ask(|answer| Command::Local(step, Mutex::new(work), answer))
    }

    fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(Answer<T>) -> Command,
    ) -> BoxFuture<'_, EngineResult<T>> {
        let (resolver, promise) = promise();
        self.send(command(resolver));
        Box::pin(async move { promise.await.unwrap_or(Err(EngineError::Closed)) })
    }

    /// If the writer is gone the command is dropped, and with it the promise of an answer.
    fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection, &Shared) -> StoreResult<T> + Send + 'static,
    ) -> BoxFuture<'_, EngineResult<T>> {
        let (resolver, promise): (Resolver<EngineResult<T>>, _) = promise();
        let task: ReadTask = Box::new(move |conn, shared| {
            let _ = resolver.resolve(query(conn, shared).map_err(|error| error.verdict()));
        });
        let reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reads) = reads.as_ref() {
            let _ = reads.send(task);
        }
        Box::pin(async move { promise.await.unwrap_or(Err(EngineError::Closed)) })
    }
}

impl Drop for SqliteEngine {
    fn drop(&mut self) {
        let (resolver, _promise) = promise();
        self.send(Command::Close(resolver));
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).take();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = thread.join();
        }
    }
}

fn dir_of(database: &Path) -> PathBuf {
    database.parent().unwrap_or(Path::new(".")).to_owned()
}

fn spawn(
    dir: &Path,
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, OpenError> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(body).map_err(|source| OpenError::Io { path: dir.to_owned(), source })
}

/// The writer thread. Gives back who closed the store.
fn write(
    dir: &Path,
    database: &Path,
    options: &Options,
    shared: &Arc<Shared>,
    commands: &Receiver<Command>,
    report: &SyncSender<Result<(), OpenError>>,
) -> Option<Answer<()>> {
    let refuse = |error: OpenError| {
        let _ = report.send(Err(error));
        None
    };
    let refused = |reason: String| OpenError::Store { path: dir.to_owned(), reason };
    let connect = |writes| {
        open::connect(database, options.vfs.as_deref(), writes)
            .map_err(|error| refused(open::explain(&error)))
    };
    let prepared = connect(true).and_then(|conn| {
        open::prepare(&conn, dir, options.clock.as_ref(), options.entropy.as_ref())?;
        Ok((conn, connect(false)?))
    });
    let (mut conn, checkpoint_conn) = match prepared {
        Ok(connections) => connections,
        Err(error) => return refuse(error),
    };
    if let Err(error) = local::guard(&mut conn, Arc::clone(&shared.users_statements)) {
        return refuse(refused(error.into()));
    }
    let log_pages = match disk::watch_log(&mut conn) {
        Ok(pages) => pages,
        Err(error) => return refuse(refused(error.to_string())),
    };
    let free_space: FreeSpace = match options.free_space.clone() {
        Some(probe) => Arc::new(move |_| probe()),
        None => Arc::new(disk::file_system_free),
    };
    let disk = match Disk::start(dir, database, free_space, log_pages, checkpoint_conn) {
        Ok(disk) => disk,
        Err(source) => return refuse(OpenError::Io { path: dir.to_owned(), source }),
    };
    let entropy = Arc::clone(&options.entropy);
    match open::load(&conn, options.clock.as_ref(), entropy, shared, options.key_index_bytes) {
        Ok(store) => {
            let _ = report.send(Ok(()));
            let slack = options.retention_slack.as_ms();
            Writer::new(&conn, store, Arc::clone(&options.clock), Arc::clone(shared), disk, slack)
                .run(commands)
        }
        Err(error) => refuse(refused(error.into())),
    }
}

/// A reader thread.
fn read(conn: &Connection, shared: &Shared, tasks: &Mutex<Receiver<ReadTask>>) {
    loop {
        let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match task {
            Ok(task) => task(conn, shared),
            Err(_) => return,
        }
    }
}

impl Engine for SqliteEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities { durable: true, multi_process: false, backup: true }
    }

    fn add(&self, params: AddParams) -> BoxFuture<'_, EngineResult<Vec<ItemResult<Added>>>> {
        self.ask(|answer| Command::Add(params, answer))
    }

    fn lease(&self, params: LeaseParams) -> BoxFuture<'_, EngineResult<Vec<LeasedJob>>> {
        let commands = self.commands.clone();
        let (resolver, promise) = promise_or_return(move |unclaimed: EngineResult<Vec<LeasedJob>>| {
            let ops = writer::release_ops(&unclaimed.unwrap_or_default());
            if !ops.is_empty() {
                let _ = commands.send(Command::Unclaimed(ops));
            }
        });
        self.send(Command::Lease(params, resolver));
        Box::pin(async move { promise.await.unwrap_or(Err(EngineError::Closed)) })
    }

    fn lease_deliveries(&self, params: DeliveryParams) -> BoxFuture<'_, EngineResult<Vec<LeasedJob>>> {
        let commands = self.commands.clone();
        let (resolver, promise) = promise_or_return(move |unclaimed: EngineResult<Vec<LeasedJob>>| {
            let ops = writer::release_ops(&unclaimed.unwrap_or_default());
            if !ops.is_empty() {
                let _ = commands.send(Command::Unclaimed(ops));
            }
        });
        self.send(Command::LeaseDeliveries(params, resolver));
        Box::pin(async move { promise.await.unwrap_or(Err(EngineError::Closed)) })
    }

    fn deliveries_after(&self, seen: u64) -> BoxFuture<'_, u64> {
        let told = self.shared.wait_deliveries(seen);
        Box::pin(async move { told.await.unwrap_or(seen) })
    }

    fn settle(&self, ops: Vec<SettleOp>) -> BoxFuture<'_, EngineResult<Vec<ItemResult<Settled>>>> {
        self.ask(|answer| Command::Settle(ops, answer))
    }

    fn cancel(&self, id: JobId, force: bool) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.ask(|answer| Command::Cancel(id, force, answer))
    }

    fn retry(&self, id: JobId, accept_duplicates: bool) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.ask(|answer| Command::Retry(id, accept_duplicates, answer))
    }

    fn redrive(&self, params: RedriveParams) -> BoxFuture<'_, EngineResult<ItemResult<Redriven>>> {
        self.ask(|answer| Command::Redrive(params, answer))
    }

    fn edit(&self, id: JobId, edit: JobEdit) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.ask(|answer| Command::Edit(id, edit, answer))
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.ask(|answer| Command::Delete(id, answer))
    }

    fn get(&self, id: JobId) -> BoxFuture<'_, EngineResult<Option<JobView>>> {
        let now = self.clock.now();
        self.query(move |conn, shared| reader::get(conn, shared, id, now))
    }

    fn list(&self, params: ListParams) -> BoxFuture<'_, EngineResult<JobPage>> {
        let now = self.clock.now();
        self.query(move |conn, shared| reader::list(conn, shared, &params, now))
    }

    fn finished(&self, id: JobId) -> BoxFuture<'_, EngineResult<()>> {
        Box::pin(async move {
            let told = self.shared.wait_finished(id.seq().get());
            match self.get(id).await? {
                Some(view) if !view.job.state.is_finished() => told.await.ok_or(EngineError::Closed),
                Some(_) | None => Ok(()),
            }
        })
    }

    fn queues(&self) -> BoxFuture<'_, EngineResult<Vec<QueueView>>> {
        self.ask(Command::Queues)
    }

    fn queue(&self, name: QueueName) -> BoxFuture<'_, EngineResult<Option<QueueView>>> {
        self.ask(|answer| Command::Queue(name, answer))
    }

    fn set_queue(&self, name: QueueName, patch: QueuePatch) -> BoxFuture<'_, EngineResult<QueueView>> {
        self.ask(|answer| Command::SetQueue(name, patch, answer))
    }

    fn delete_queue(
        &self,
        name: QueueName,
        force: bool,
    ) -> BoxFuture<'_, EngineResult<ItemResult<DeletedQueue>>> {
        self.ask(|answer| Command::DeleteQueue(name, force, answer))
    }

    fn key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, EngineResult<Option<KeyView>>> {
        self.ask(|answer| Command::Key(queue, key, answer))
    }

    fn release_key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, EngineResult<Option<KeyView>>> {
        self.ask(|answer| Command::ReleaseKey(queue, key, answer))
    }

    fn setting(&self, name: String) -> BoxFuture<'_, EngineResult<Option<Setting>>> {
        self.query(move |conn, _| {
            reader::read_setting(&mut *conn.prepare_cached(include_str!("../sql/setting_select.sql"))?, &name)
        })
    }

    fn set_setting(
        &self,
        name: String,
        value: Bytes,
        expected: u64,
    ) -> BoxFuture<'_, EngineResult<Result<u64, Setting>>> {
        self.ask(move |answer| Command::SetSetting(name, value, expected, answer))
    }

    fn effects(&self, ops: Vec<EffectOp>) -> BoxFuture<'_, EngineResult<Vec<EffectResult>>> {
        self.ask(|answer| Command::Effects(ops, answer))
    }

    fn effect(&self, name: EffectName) -> BoxFuture<'_, EngineResult<Option<Effect>>> {
        self.query(move |conn, _| effects::effect(conn, &name))
    }

    fn list_effects(&self, params: ListEffects) -> BoxFuture<'_, EngineResult<EffectPage>> {
        self.query(move |conn, _| effects::list_effects(conn, &params))
    }

    fn events(&self, params: EventsParams) -> BoxFuture<'_, EngineResult<EventPage>> {
        self.query(move |conn, _| reader::events(conn, &params))
    }

    fn events_after(&self, cursor: EventCursor) -> BoxFuture<'_, EngineResult<()>> {
        let told = self.shared.wait_event(cursor);
        Box::pin(async move { told.await.ok_or(EngineError::Closed) })
    }

    fn tick(&self) -> BoxFuture<'_, EngineResult<Ticked>> {
        self.ask(Command::Tick)
    }

    fn tick_sooner(&self) -> BoxFuture<'_, ()> {
        let (resolver, promise) = promise();
        self.send(Command::TickSooner(resolver));
        Box::pin(async move {
            promise.await;
        })
    }

    fn backup(&self, to: PathBuf) -> BoxFuture<'_, EngineResult<BackupDone>> {
        let (database, vfs) = (self.database.clone(), self.vfs.clone());
        Box::pin(
            async move { self.query(move |_, _| Ok(backup::write(&database, vfs.as_deref(), &to))).await? },
        )
    }

    fn stats(&self) -> BoxFuture<'_, EngineResult<StoreStats>> {
        self.ask(Command::Stats)
    }

    fn drain(&self) -> BoxFuture<'_, EngineResult<()>> {
        self.ask(Command::Drain)
    }

    fn close(&self) -> BoxFuture<'_, EngineResult<()>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.ask(Command::Close)
    }
}
