//! Opening a data directory: lock, schema, and everything the writer keeps in memory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onefold_core::{Clock, Entropy, QueueName, Timestamp, TokenSequence};
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::error::{StoreError, StoreResult};
use crate::key_index::{Filter, KeyHash, KeyHasher};
use crate::ledger_id::LedgerId;
use crate::shared::{QueueSeen, Shared};
use crate::statements::Statements;
use crate::writer::ledger::LEDGER_CLASSES;
use crate::writer::memory::{Counters, Memory, SetName};
use crate::writer::queue::Queue;
use crate::writer::seal::Sealing;
use crate::writer::store::Store;

/// The version of the schema this program writes.
pub(crate) const SCHEMA_VERSION: i64 = 1;
/// "Onef" in ASCII: marks a database file as a store of ours.
pub(crate) const APPLICATION_ID: i64 = 0x4f6e_6566;
/// Two connections may corrupt a log that is reset under them before this version.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// Says that there is, or was, a store in a directory.
pub(crate) const MARKER: &str = "onefold-store";
/// Memory of the writer's page cache.
const WRITER_CACHE_KIB: i64 = 16 * 1024;
/// Memory of a reader's page cache.
const READER_CACHE_KIB: i64 = 2 * 1024;

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by another onefold process; stop that one, or choose another directory", .0.display())]
    Locked(PathBuf),
    /// Written by a newer version.
    #[error("{} was written by a newer onefold (schema {found}, this one knows {known}); use that version or newer", .path.display())]
    NewerSchema {
        /// The directory.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Nothing to look into.
    #[error("there is no store in {}; name the directory a server keeps its data in", .0.display())]
    NoStore(PathBuf),
    /// A database, but not one of ours.
    #[error("{} is not a onefold store: its database was made by another program", .0.display())]
    NotAStore(PathBuf),
    /// There was a store here, and its database is gone or empty.
    #[error("{} held a onefold store, but its database file is missing or empty; restore a backup, or remove the file {MARKER} to start anew", .0.display())]
    DatabaseGone(PathBuf),
    /// The file system refuses.
    #[error("cannot use {}: {source}; the directory must exist or be creatable, and be writable", .path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The linked SQLite has a known bug.
    #[error("the SQLite library is {found}, but at least 3.51.3 is needed")]
    SqliteTooOld {
        /// Its version.
        found: &'static str,
    },
    /// The contents cannot be used.
    #[error("{} cannot be opened: {reason}", .path.display())]
    Store {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The file that says a process is using the directory. Released when dropped, or by the kernel.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    pub(crate) fn take(dir: &Path) -> Result<DirLock, OpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(io(dir))?;
        let path = dir.join("lock");
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(DirLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked(dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
        }
    }
}

/// Where the database lies in a data directory.
pub(crate) fn database_path(dir: &Path) -> PathBuf {
    dir.join("onefold.db")
}

/// A connection to the store's file. All but the writer's are told not to write.
pub(crate) fn connect(database: &Path, vfs: Option<&str>, writes: bool) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if writes {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let conn = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(database, flags, vfs)?,
        None => Connection::open_with_flags(database, flags)?,
    };
    // Only another program can hold a lock for longer than a moment.
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    let cache = if writes { WRITER_CACHE_KIB } else { READER_CACHE_KIB };
    conn.pragma_update(None, "cache_size", -cache)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "mmap_size", 0)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    // The rules of core keep the CHECKs; `onefold doctor` looks whether they did.
    conn.pragma_update(None, "ignore_check_constraints", true)?;
    conn.set_prepared_statement_cache_capacity(32);
    Ok(conn)
}

/// Brings a writing connection to our journal mode and schema.
pub(crate) fn prepare(
    conn: &Connection,
    dir: &Path,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<(), OpenError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(OpenError::SqliteTooOld { found: rusqlite::version() });
    }
    let refused = |error: rusqlite::Error| OpenError::Store { path: dir.to_owned(), reason: explain(&error) };
    let application: i64 = conn.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(refused)?;
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(refused)?;
    let tables: i64 =
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(refused)?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(OpenError::NotAStore(dir.to_owned()));
    }
    if version > SCHEMA_VERSION {
        return Err(OpenError::NewerSchema { path: dir.to_owned(), found: version, known: SCHEMA_VERSION });
    }
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(refused)?;
    if mode != "wal" {
        let reason = format!("its file system does not support write-ahead logging (journal mode {mode})");
        return Err(OpenError::Store { path: dir.to_owned(), reason });
    }
    // Pages of the log that a failed sync left only in the operating system's cache must reach the
    // disk before anything is built on them.
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(refused)?;
    let pages: u64 = pragma(conn, "page_count").map_err(refused)?;
    let page_size: u64 = pragma(conn, "page_size").map_err(refused)?;
    let length = database_path(dir).metadata().map_or(0, |meta| meta.len());
    if version > 0 && length < pages * page_size {
        let reason =
            format!("its database was cut to {length} of {} bytes; restore a backup", pages * page_size);
        return Err(OpenError::Store { path: dir.to_owned(), reason });
    }
    let marker = dir.join(MARKER);
    if version == 0 {
        if marker.exists() {
            return Err(OpenError::DatabaseGone(dir.to_owned()));
        }
        create(conn, clock, entropy).map_err(refused)?;
    }
    mark(dir, &marker).map_err(|source| OpenError::Io { path: marker, source })
}

fn pragma(conn: &Connection, name: &str) -> rusqlite::Result<u64> {
    conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// Notes that the directory holds a store, so that an emptied database is not taken for a new one.
fn mark(dir: &Path, marker: &Path) -> std::io::Result<()> {
    if marker.exists() {
        return Ok(());
    }
    let mut file = File::create(marker)?;
    file.write_all(b"This directory holds a onefold store: onefold.db. Without this file an empty database is a new store.\n")?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

fn create(conn: &Connection, clock: &dyn Clock, entropy: &dyn Entropy) -> rusqlite::Result<()> {
    let tx = conn.unchecked_transaction()?;
    tx.execute_batch(include_str!("../sql/schema_1.sql"))?;
    let random = || [entropy.next_u64().to_be_bytes(), entropy.next_u64().to_be_bytes()].concat();
    tx.execute(include_str!("../sql/meta_insert.sql"), (random(), random(), clock.now().as_unix_ms()))?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    tx.commit()
}

pub(crate) fn explain(error: &rusqlite::Error) -> String {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            "its database file is not one, or is damaged; restore a backup".to_owned()
        }
        Some(ErrorCode::DatabaseCorrupt) => format!("its database is damaged ({error}); restore a backup"),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => format!("its files cannot be written ({error})"),
        Some(ErrorCode::DiskFull) => "the disk is full; make some space first".to_owned(),
        _ => error.to_string(),
    }
}

impl From<StoreError> for String {
    fn from(error: StoreError) -> String {
        match error {
            StoreError::Sql(error) => explain(&error),
            StoreError::Corrupt(what) => format!("{what}; restore a backup"),
            error @ (StoreError::TokensExhausted | StoreError::Abandoned) => error.to_string(),
        }
    }
}

/// Loads what the writer keeps in memory, makes the new start of the token sequence durable and
/// gives live leases their full length again (I4).
pub(crate) fn load<'c>(
    conn: &'c Connection,
    clock: &dyn Clock,
    entropy: Arc<dyn Entropy>,
    shared: &Shared,
    key_index_bytes: usize,
) -> StoreResult<Store<'c>> {
    let now = clock.now();
    let stmts = Statements::prepare(conn)?;
    let mut mem = Memory::new();
    let (secret, token_high_water) = load_meta(conn, &mut mem)?;
    load_queues(conn, &mut mem, shared)?;
    load_sets(conn, &mut mem)?;
    let hasher = KeyHasher::new(&secret);
    load_keys(conn, &mut mem, &hasher)?;
    load_retention(conn, &mut mem)?;
    let running: Vec<u64> = mem.set(SetName::Running).map(|set| set.iter().collect()).unwrap_or_default();
    let tokens = TokenSequence::opened(token_high_water, now);
    mem.commit();
    let mut store = Store::new(stmts, mem, entropy, hasher, tokens, now, key_index_bytes);
    conn.execute_batch("BEGIN IMMEDIATE")?;
    for seq in running {
        match store.load_running(seq) {
            Err(error) if error.is_damage() => {
                tracing::error!(%error, seq, "a running job's rows are damaged: it is passed over; `onefold doctor` tells more");
                store.mem.set_aside(seq);
            }
            loaded => loaded?,
        }
    }
    store.load_timers()?;
    store.renew_running_leases()?;
    store.load_schedules()?;
    store.flush()?;
    conn.execute_batch("COMMIT")?;
    store.committed();
    shared.tell_last_event(store.mem.counters.next_event - 1);
    Ok(store)
}

fn load_meta(conn: &Connection, mem: &mut Memory) -> StoreResult<([u8; 16], u64)> {
    let (secret, seq, token, event): (Vec<u8>, i64, i64, i64) =
        conn.query_row(include_str!("../sql/meta_select.sql"), [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
    let secret: [u8; 16] =
        secret.try_into().map_err(|_| StoreError::corrupt("the store's hash key is damaged".to_owned()))?;
    let next_queue = mem.counters.next_queue;
    mem.counters = Counters { next_seq: seq as u64, next_event: event as u64, next_queue };
    Ok((secret, token as u64))
}

fn load_queues(conn: &Connection, mem: &mut Memory, shared: &Shared) -> StoreResult<()> {
    let damaged = || StoreError::corrupt("a queue's row is damaged".to_owned());
    let mut names = conn.prepare(include_str!("../sql/queue_names.sql"))?;
    let mut found = names.query([])?;
    while let Some(row) = found.next()? {
        mem.counters.next_queue = mem.counters.next_queue.max(row.get::<_, i64>(0)? + 1);
    }
    let mut all = conn.prepare(include_str!("../sql/queue_select_all.sql"))?;
    let mut found = all.query([])?;
    while let Some(row) = found.next()? {
        let id: i64 = row.get(0)?;
        let name = QueueName::new(row.get::<_, String>(1)?).map_err(|_| damaged())?;
        let settings = serde_json::from_str(&row.get::<_, String>(2)?).map_err(|_| damaged())?;
        let counts = serde_json::from_str(&row.get::<_, String>(3)?).map_err(|_| damaged())?;
        let starts = serde_json::from_str(&row.get::<_, String>(4)?).map_err(|_| damaged())?;
        let queue = Queue { name, settings: Arc::new(settings), counts, starts };
        shared.show_queue(id, Some(QueueSeen::of(&queue)));
        mem.load_queue(id, queue);
    }
    Ok(())
}

fn load_sets(conn: &Connection, mem: &mut Memory) -> StoreResult<()> {
    let damaged = || StoreError::corrupt("a set of jobs is damaged".to_owned());
    let mut all = conn.prepare(include_str!("../sql/set_scan.sql"))?;
    let mut found = all.query([])?;
    while let Some(row) = found.next()? {
        let name =
            SetName::from_columns(row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?).ok_or_else(damaged)?;
        let members = row.get_ref(5)?.as_blob().map_err(|_| damaged())?;
        mem.load_set(name, row.get::<_, i64>(4)? as u64, members).ok_or_else(damaged)?;
    }
    Ok(())
}

fn load_keys(conn: &Connection, mem: &mut Memory, hasher: &KeyHasher) -> StoreResult<()> {
    load_sealing(conn, mem)?;
    let sealing = mem.sealing().clone();
    let mut entries = conn.prepare(include_str!("../sql/ledger_scan.sql"))?;
    for class in 0..LEDGER_CLASSES {
        let first = LedgerId::new(class, sealing.first_in_memory(class));
        let mut found = entries.query((first.stored(), LedgerId::last_of(class).stored()))?;
        while let Some(row) = found.next()? {
            let (lid, hash) = (LedgerId::from_stored(row.get(0)?), KeyHash::from_stored(row.get(1)?));
            if !hash.is_of(lid) {
                load_damaged_key(conn, mem, hasher, lid)?;
            }
            if !sealing.is_sealed(lid, hash) {
                mem.load_key(hash, lid);
            }
        }
    }
    Ok(())
}

/// Finds a ledger entry by its key whose hash is damaged, so that the key is still held: adding it
/// is refused, since the row does not match its checksum.
fn load_damaged_key(
    conn: &Connection,
    mem: &mut Memory,
    hasher: &KeyHasher,
    lid: LedgerId,
) -> StoreResult<()> {
    let (space, queue, key): (i64, i64, String) =
        conn.query_row(include_str!("../sql/ledger_key.sql"), [lid.stored()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    tracing::error!(
        lid = lid.stored(),
        "an entry of the dedup ledger is damaged: its key is refused; `onefold doctor` tells more"
    );
    mem.load_key(hasher.hash(space as u8, queue, &key), lid);
    Ok(())
}

fn load_sealing(conn: &Connection, mem: &mut Memory) -> StoreResult<()> {
    let (sealing, filters) = read_sealing(conn)?;
    mem.load_sealing(sealing);
    for (shard, filter) in filters {
        mem.put_filter(shard, filter);
    }
    Ok(())
}

/// How far sealing is, and the filters of the shards that have sealed keys.
pub(crate) fn read_sealing(conn: &Connection) -> StoreResult<(Sealing, Vec<(u32, Filter)>)> {
    let stored: Option<String> =
        conn.query_row(include_str!("../sql/sealing_select.sql"), [], |row| row.get(0)).optional()?;
    let Some(stored) = stored else { return Ok((Sealing::default(), Vec::new())) };
    let mut read = Vec::new();
    let mut filters = conn.prepare(include_str!("../sql/filter_scan.sql"))?;
    let mut found = filters.query([])?;
    while let Some(row) = found.next()? {
        let shard: u32 = row.get(0)?;
        let bits = row.get_ref(1)?.as_blob()?;
        let filter = if crate::rows::value_crc(u64::from(shard), bits) == row.get::<_, i64>(2)? {
            Filter::from_stored(bits)
        } else {
            tracing::error!(shard, "a filter of sealed keys is damaged: they are looked up on disk");
            Filter::EVERYTHING
        };
        read.push((shard, filter));
    }
    Ok((Sealing::read(&stored)?, read))
}

fn load_retention(conn: &Connection, mem: &mut Memory) -> StoreResult<()> {
    let mut all = conn.prepare(include_str!("../sql/retention_scan.sql"))?;
    let mut found = all.query([])?;
    while let Some(row) = found.next()? {
        let at = Timestamp::from_unix_ms(row.get(1)?).unwrap_or(Timestamp::EPOCH);
        mem.load_retention(row.get::<_, i64>(0)? as u64, at);
    }
    Ok(())
}
