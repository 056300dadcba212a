//! Looking into a data directory without serving it: beside a running server or after it, and
//! putting a backup in its place. For `onefold jobs --data`, `doctor`, `backup` and `restore`.
//!
//! An [`Inspector`] never writes. Each of its answers is of one moment.

mod check;
mod effects;
mod engine;
mod restore;

use std::fs::TryLockError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onefold_core::schedule::{ListSchedules, ScheduleId, SchedulePage, ScheduleView};
use onefold_core::{
    BackupDone, Effect, EffectName, EffectPage, EngineError, EngineResult, JobId, JobPage, JobView,
    ListEffects, ListParams, QueueCounts, QueueName, QueueSettings, QueueView, Starts, Timestamp,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::error::{StoreError, StoreResult};
use crate::open::{APPLICATION_ID, SCHEMA_VERSION, explain};
use crate::reader;
use crate::sets::SeqSet;
use crate::shared::{QueueSeen, Shared};
use crate::{OpenError, backup, open, schedules};

pub use check::{Check, Checked, Finding, Progress};
pub use engine::LookOnly;
pub use restore::{RestoreError, Restored, restore};

/// A store to look into.
pub struct Inspector {
    conn: Connection,
    database: PathBuf,
    shared: Shared,
}

/// What stands at the head of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The version of its schema.
    pub schema: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// The fencing token the next lease gets at the least.
    pub next_token: u64,
    /// Bytes of the database, its log not counted.
    pub bytes: u64,
}

/// Whether the directory holds a store, or once did.
pub fn is_there(dir: &Path) -> bool {
    open::database_path(dir).exists() || dir.join(open::MARKER).exists()
}

/// Whether a process serves the directory now.
///
/// # Errors
/// [`OpenError::Io`] if its lock file cannot be opened.
pub fn is_in_use(dir: &Path) -> Result<bool, OpenError> {
    let path = dir.join("lock");
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}

impl Inspector {
    /// Opens the store in `dir` for reading.
    ///
    /// # Errors
    /// [`OpenError`], with what to do about it.
    pub fn open(dir: &Path) -> Result<Inspector, OpenError> {
        match Inspector::open_file(&open::database_path(dir), dir) {
            // Nothing where something was is not the same as nothing.
            Err(OpenError::NoStore(_) | OpenError::NotAStore(_)) if dir.join(open::MARKER).exists() => {
                Err(OpenError::DatabaseGone(dir.to_owned()))
            }
            opened => opened,
        }
    }

    /// Opens a database file, such as a backup; `named` is what messages call it.
    ///
    /// # Errors
    /// [`OpenError`], with what to do about it.
    pub fn open_file(database: &Path, named: &Path) -> Result<Inspector, OpenError> {
        match std::fs::metadata(database) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(OpenError::NoStore(named.to_owned()));
            }
            Err(source) => return Err(OpenError::Io { path: database.to_owned(), source }),
            Ok(_) => {}
        }
        let refused =
            |error: rusqlite::Error| OpenError::Store { path: named.to_owned(), reason: explain(&error) };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(database, flags).map_err(refused)?;
        conn.busy_timeout(std::time::Duration::from_secs(5)).map_err(refused)?;
        let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(refused);
        if number("PRAGMA application_id")? != APPLICATION_ID {
            return Err(OpenError::NotAStore(named.to_owned()));
        }
        let found = number("PRAGMA user_version")?;
        if found > SCHEMA_VERSION {
            let path = named.to_owned();
            return Err(OpenError::NewerSchema { path, found, known: SCHEMA_VERSION });
        }
        Ok(Inspector { conn, database: database.to_owned(), shared: Shared::default() })
    }

    /// One effect, with its result.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    pub fn effect(&self, name: &EffectName) -> EngineResult<Option<Effect>> {
        answer(crate::effects::effect(&self.conn, name))
    }

    /// A page of effects by scope and key.
    ///
    /// # Errors
    /// If they cannot be read, or one is damaged.
    pub fn list_effects(&self, params: &ListEffects) -> EngineResult<EffectPage> {
        answer(crate::effects::list_effects(&self.conn, params))
    }

    /// One schedule.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn schedule(&self, id: &ScheduleId) -> EngineResult<Option<ScheduleView>> {
        answer(schedules::one(&self.conn, id))
    }

    /// Schedules by their ids.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn schedules(&self, params: &ListSchedules) -> EngineResult<SchedulePage> {
        answer(schedules::page(&self.conn, params))
    }

    /// What stands at the head of the store.
    ///
    /// # Errors
    /// [`EngineError::Corrupt`] and [`EngineError::Poisoned`] if it cannot be read.
    pub fn facts(&self) -> EngineResult<Facts> {
        answer(self.read_facts())
    }

    /// All queues, by name.
    ///
    /// # Errors
    /// As [`Inspector::facts`].
    pub fn queues(&self) -> EngineResult<Vec<QueueView>> {
        answer(self.read_queue_views())
    }

    /// Everything about a job.
    ///
    /// # Errors
    /// As [`Inspector::facts`].
    pub fn get(&self, id: JobId) -> EngineResult<Option<JobView>> {
        answer(self.show_queues().and_then(|_| reader::get(&self.conn, &self.shared, id, Timestamp::EPOCH)))
    }

    /// Jobs, newest first; a page may be short and still have a cursor.
    ///
    /// # Errors
    /// As [`Inspector::facts`].
    pub fn list(&self, params: &ListParams) -> EngineResult<JobPage> {
        answer(
            self.show_queues().and_then(|_| reader::list(&self.conn, &self.shared, params, Timestamp::EPOCH)),
        )
    }

    /// Writes a consistent copy to a file that must not exist, beside a running server.
    ///
    /// # Errors
    /// [`EngineError::Io`] with what failed.
    pub fn backup(&self, to: &Path) -> EngineResult<BackupDone> {
        backup::write(&self.database, None, to)
    }

    fn read_facts(&self) -> StoreResult<Facts> {
        let number = |sql: &str| self.conn.query_row(sql, [], |row| row.get::<_, i64>(0));
        let (created_at, next_token): (i64, i64) =
            self.conn.query_row(include_str!("../../sql/meta_facts.sql"), [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        Ok(Facts {
            schema: number("PRAGMA user_version")?,
            created_at: Timestamp::from_unix_ms(created_at).unwrap_or(Timestamp::EPOCH),
            next_token: next_token as u64,
            bytes: number("PRAGMA page_count")?.saturating_mul(number("PRAGMA page_size")?) as u64,
        })
    }

    /// Reads the queues, and shows them to the readers of jobs.
    fn show_queues(&self) -> StoreResult<Vec<StoredQueue>> {
        let queues = stored_queues(&self.conn)?;
        for queue in &queues {
            let seen = QueueSeen {
                name: queue.name.clone(),
                settings: Arc::new(queue.settings.clone()),
                running: queue.counts.running,
                // Which of them still count depends on the time, which nobody tells here.
                starts: Starts::default(),
            };
            self.shared.show_queue(queue.id, Some(seen));
        }
        Ok(queues)
    }

    fn read_queue_views(&self) -> StoreResult<Vec<QueueView>> {
        let moment = self.conn.unchecked_transaction()?;
        let mut views = Vec::new();
        for queue in stored_queues(&moment)? {
            let oldest_available = oldest_ready(&moment, queue.id)?;
            let StoredQueue { name, settings, counts, .. } = queue;
            views.push(QueueView { name, settings, counts, oldest_available });
        }
        views.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(views)
    }
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").field("database", &self.database).finish_non_exhaustive()
    }
}

fn answer<T>(read: StoreResult<T>) -> EngineResult<T> {
    read.map_err(|error| match error.verdict() {
        // Nothing stops here: there is only this one reading.
        EngineError::Poisoned(what) => EngineError::Io(format!("the store cannot be read: {what}")),
        verdict => verdict,
    })
}

struct StoredQueue {
    id: i64,
    name: QueueName,
    settings: QueueSettings,
    counts: QueueCounts,
}

fn stored_queues(conn: &Connection) -> StoreResult<Vec<StoredQueue>> {
    let damaged = || StoreError::corrupt("a queue's row is damaged".to_owned());
    let mut all = conn.prepare_cached(include_str!("../../sql/queue_select_all.sql"))?;
    let mut found = all.query([])?;
    let mut queues = Vec::new();
    while let Some(row) = found.next()? {
        queues.push(StoredQueue {
            id: row.get(0)?,
            name: QueueName::new(row.get::<_, String>(1)?).map_err(|_| damaged())?,
            settings: serde_json::from_str(&row.get::<_, String>(2)?).map_err(|_| damaged())?,
            counts: serde_json::from_str(&row.get::<_, String>(3)?).map_err(|_| damaged())?,
        });
    }
    Ok(queues)
}

/// When the oldest leasable job of a queue was accepted.
fn oldest_ready(conn: &Connection, queue: i64) -> StoreResult<Option<Timestamp>> {
    let mut heads = conn.prepare_cached(include_str!("../../sql/set_heads.sql"))?;
    let mut found = heads.query([queue])?;
    let mut oldest: Option<u64> = None;
    while let Some(row) = found.next()? {
        let bucket = row.get::<_, i64>(0)? as u64;
        let mut set = SeqSet::default();
        let damaged = || StoreError::corrupt("a set of jobs is damaged".to_owned());
        set.load(bucket, row.get_ref(1)?.as_blob()?).ok_or_else(damaged)?;
        oldest = oldest.into_iter().chain(set.first()).min();
    }
    let Some(seq) = oldest else { return Ok(None) };
    let created: Option<i64> = conn
        .prepare_cached(include_str!("../../sql/job_created.sql"))?
        .query_row([seq as i64], |row| row.get(0))
        .optional()?;
    Ok(created.and_then(Timestamp::from_unix_ms))
}
