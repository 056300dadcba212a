//! Putting a backup where a server will open it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use onefold_core::{FencingToken, Timestamp, TokenSequence};
use rusqlite::Connection;

use super::{Checked, Facts, Inspector, Progress};
use crate::OpenError;
use crate::open::{DirLock, database_path, explain};

/// Bytes copied between two reports of progress.
const COPY_BYTES: usize = 1024 * 1024;

/// Why a backup was not put in place. The data directory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The directory or the backup cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file cannot be read or written.
    #[error("cannot use {}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is something in the directory already.
    #[error(
        "{} already holds a store; restore into an empty directory, or give --force to replace it (what is in it now is then lost)",
        .0.display()
    )]
    NotEmpty(PathBuf),
    /// The file belongs to a data directory and is not complete without its log.
    #[error(
        "{} is the database of a data directory whose latest changes are in the -wal file beside it; make a backup of that directory with `onefold backup FILE --data DIR` and restore that",
        .0.display()
    )]
    HasLog(PathBuf),
    /// The backup is damaged.
    #[error("{} is damaged: {what}; restore another backup", .path.display())]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// How.
        what: String,
    },
    /// The token to go on from does not exist.
    #[error("fencing tokens are below 2^53, so {0} cannot be one of them")]
    NoSuchToken(u64),
}

/// A backup in place.
#[derive(Debug, Clone, PartialEq)]
pub struct Restored {
    /// What stands at the head of the store.
    pub facts: Facts,
    /// What was checked.
    pub checked: Checked,
    /// Fencing tokens handed out from now on are at least this.
    pub tokens_from: u64,
}

/// Copies the backup `from` into the data directory `dir`, checks the copy, and puts it in place
/// at once: before that moment the directory is as it was, afterwards it holds the backup.
///
/// A store hands out no token below unix seconds × 2^20 after it was opened, so tokens go on
/// growing as long as the clock was not set back; for that case they can be made to start at
/// `token_at_least`.
///
/// # Errors
/// [`RestoreError`].
pub fn restore(
    from: &Path,
    dir: &Path,
    force: bool,
    token_at_least: Option<u64>,
    now: Timestamp,
    progress: &mut dyn FnMut(Progress),
) -> Result<Restored, RestoreError> {
    if let Some(token) = token_at_least.filter(|token| FencingToken::new(*token).is_none()) {
        return Err(RestoreError::NoSuchToken(token));
    }
    let log = beside(from, "-wal");
    if fs::metadata(&log).is_ok_and(|meta| meta.len() > 0) {
        return Err(RestoreError::HasLog(from.to_owned()));
    }
    File::open(from).map_err(io(from))?;
    let _lock = DirLock::take(dir)?;
    let database = database_path(dir);
    if database.exists() && !force {
        return Err(RestoreError::NotEmpty(dir.to_owned()));
    }
    let tokens = token_at_least.max(tokens_of(&database));
    let copy = beside(&database, ".restoring");
    let restored = prepare(from, &copy, tokens, now, progress)
        .and_then(|restored| put_in_place(&copy, &database, dir).map(|()| restored));
    if restored.is_err() {
        let _ = fs::remove_file(&copy);
    }
    restored
}

/// The first token the store to be replaced has not handed out, if that can still be told.
fn tokens_of(database: &Path) -> Option<u64> {
    let facts = Inspector::open_file(database, database).ok()?.facts().ok()?;
    Some(facts.next_token).filter(|token| FencingToken::new(*token).is_some())
}

/// Copies and checks the backup.
fn prepare(
    from: &Path,
    copy: &Path,
    token_at_least: Option<u64>,
    now: Timestamp,
    progress: &mut dyn FnMut(Progress),
) -> Result<Restored, RestoreError> {
    for leftover in ["", "-wal", "-shm", "-journal"] {
        remove(&beside(copy, leftover))?;
    }
    copy_file(from, copy, progress)?;
    let checked = Inspector::open_file(copy, from)?.check(now, progress);
    let checked = checked.map_err(|error| damaged(from, error.to_string()))?;
    if let Some(what) = checked.findings.values().find_map(|finding| finding.told.first()) {
        return Err(damaged(from, what.clone()));
    }
    finish_file(copy, token_at_least)
        .map_err(|error| OpenError::Store { path: copy.to_owned(), reason: explain(&error) })?;
    File::open(copy).and_then(|file| file.sync_all()).map_err(io(copy))?;
    let facts =
        Inspector::open_file(copy, from)?.facts().map_err(|error| damaged(from, error.to_string()))?;
    let tokens_from = TokenSequence::opened(facts.next_token, now).high_water();
    Ok(Restored { facts, checked, tokens_from })
}

fn damaged(from: &Path, what: String) -> RestoreError {
    RestoreError::Damaged { path: from.to_owned(), what }
}

fn copy_file(from: &Path, to: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), RestoreError> {
    let mut source = File::open(from).map_err(io(from))?;
    let of = source.metadata().map_err(io(from))?.len();
    let mut copy = OpenOptions::new().write(true).create_new(true).open(to).map_err(io(to))?;
    let (mut buffer, mut done) = (vec![0_u8; COPY_BYTES], 0);
    loop {
        progress(Progress { reading: "backup", done, of });
        let read = source.read(&mut buffer).map_err(io(from))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        copy.write_all(bytes).map_err(io(to))?;
        done += read as u64;
    }
    copy.sync_all().map_err(io(to))
}

/// Makes the copy one file without a log beside it, and raises its tokens.
fn finish_file(copy: &Path, token_at_least: Option<u64>) -> rusqlite::Result<()> {
    let conn = Connection::open(copy)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    if let Some(token) = token_at_least {
        conn.execute(include_str!("../../sql/token_raise.sql"), [token as i64])?;
    }
    conn.close().map_err(|(_, error)| error)
}

/// Replaces the database by the copy in one step.
fn put_in_place(copy: &Path, database: &Path, dir: &Path) -> Result<(), RestoreError> {
    if database.exists() {
        absorb_log(database);
        for beside_it in ["-wal", "-shm"] {
            remove(&beside(database, beside_it))?;
        }
        sync_dir(dir)?;
    }
    fs::rename(copy, database).map_err(io(database))?;
    sync_dir(dir)
}

/// Moves what is in the log of the store to be replaced into its file, so that it stays whole
/// until the very moment it is replaced. A damaged one cannot be helped.
fn absorb_log(database: &Path) {
    if let Ok(conn) = Connection::open(database) {
        let _ = conn.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()));
    }
}

fn sync_dir(dir: &Path) -> Result<(), RestoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io(dir))
}

fn remove(path: &Path) -> Result<(), RestoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::Io { path, source }
}
