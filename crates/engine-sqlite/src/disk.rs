//! The files beside the rows: the write-ahead log and its checkpoints, and the head-room that
//! lets finishing and deleting go on when the disk is full.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

/// Bytes set aside in a file of their own and given up when the disk is full.
const HEAD_ROOM_BYTES: u64 = 16 * 1024 * 1024;
/// Adding is refused before the disk has less than this left, beside the head-room.
const FREE_BYTES_MIN: u64 = 32 * 1024 * 1024;
/// Commits between two looks at the free space.
const COMMITS_PER_LOOK: u32 = 64;
/// Pages the write-ahead log grows by between two checkpoints (4 MiB): commits wait for the disk
/// while one is synced, so it must be small.
const CHECKPOINT_PAGES: i32 = 1_024;
/// Pages of the log from which it should be begun anew (64 MiB).
const RESTART_PAGES: i32 = 16_384;
/// Pages of the log at which the writer finishes what a checkpoint left, if that is little, so that
/// it is begun anew (128 MiB). At twice as many it does so whatever it costs.
const RESTART_PAGES_MAX: i32 = 2 * RESTART_PAGES;
/// What is little then, in pages.
const FINISH_PAGES: i64 = 512;
/// Checkpoints in a row that try to catch up with the writer.
const ATTEMPTS_TO_CATCH_UP: u32 = 6;

/// Pages in the write-ahead log after the writer's last commit.
pub(crate) type LogPages = Arc<AtomicI32>;

/// No checkpoint under way.
const IDLE: i64 = -1;
/// One under way.
const BUSY: i64 = -2;

/// See the [module](self).
pub(crate) struct Disk {
    dir: PathBuf,
    database: PathBuf,
    full: bool,
    commits: u32,
    free_space: FreeSpace,
    log_pages: LogPages,
    /// Pages of the log at the last checkpoint.
    checkpointed: i32,
    /// [`IDLE`], [`BUSY`], or the pages the last checkpoint left.
    checkpoint: Arc<AtomicI64>,
    wake: Option<Sender<Rest>>,
    thread: Option<JoinHandle<()>>,
}

/// How many bytes are free in the data directory; `None` if that cannot be told.
pub(crate) type FreeSpace = Arc<dyn Fn(&Path) -> Option<u64> + Send + Sync>;

/// What the file system says.
pub(crate) fn file_system_free(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

impl Disk {
    /// Starts the checkpointer, which works on `connection` in a thread of its own.
    pub(crate) fn start(
        dir: &Path,
        database: &Path,
        free_space: FreeSpace,
        log_pages: LogPages,
        connection: Connection,
    ) -> std::io::Result<Disk> {
        let checkpoint = Arc::new(AtomicI64::new(IDLE));
        let (wake, woken) = channel::<Rest>();
        let state = Arc::clone(&checkpoint);
        let thread = std::thread::Builder::new().name("onefold-checkpoint".to_owned()).spawn(move || {
            while let Ok(rest) = woken.recv() {
                let left = checkpoint_beside_the_writer(&connection, rest);
                state.store(left, Ordering::Release);
            }
        })?;
        let mut disk = Disk {
            dir: dir.to_owned(),
            database: database.to_owned(),
            full: false,
            commits: 0,
            free_space,
            log_pages,
            checkpointed: 0,
            checkpoint,
            wake: Some(wake),
            thread: Some(thread),
        };
        disk.look_now();
        Ok(disk)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Looks at the free space now and then, and always while the disk is full.
    pub(crate) fn look(&mut self) {
        self.commits += 1;
        if self.full || self.commits >= COMMITS_PER_LOOK {
            self.commits = 0;
            self.look_now();
        }
    }

    fn look_now(&mut self) {
        let reserve = self.dir.join("head-room");
        let set_aside = reserve.metadata().map_or(0, |meta| meta.len());
        let Some(free) = (self.free_space)(&self.dir) else {
            // Nobody says how much there is: what can be set aside is there.
            self.full = self.full && set_aside < HEAD_ROOM_BYTES && set_aside_bytes(&reserve).is_err();
            return;
        };
        let was_full = self.full;
        if free < FREE_BYTES_MIN {
            self.full = true;
        } else if set_aside < HEAD_ROOM_BYTES {
            let enough = free >= FREE_BYTES_MIN + HEAD_ROOM_BYTES;
            self.full = !(enough && set_aside_bytes(&reserve).is_ok());
        } else {
            self.full = false;
        }
        match (was_full, self.full) {
            (false, true) => {
                tracing::error!(free, "the disk is nearly full: adding is refused, finishing goes on")
            }
            (true, false) => tracing::info!(free, "there is space again: adding goes on"),
            _ => {}
        }
    }

    /// A write met a full disk: gives up the head-room so that finishing can go on.
    pub(crate) fn filled_up(&mut self) {
        self.full = true;
        if fs::remove_file(self.dir.join("head-room")).is_ok() {
            tracing::error!("the disk is full: the head-room was given up so that finishing can go on");
        }
    }

    /// Called by the writer between transactions: has the log checkpointed as it grows, beside the
    /// writer. Once a checkpoint leaves nothing, the writer's next write starts the log from the
    /// beginning. A writer that never pauses has to do the last part itself.
    pub(crate) fn after_commit(&mut self, writer: &Connection) {
        let pages = self.log_pages.load(Ordering::Relaxed);
        match self.checkpoint.load(Ordering::Acquire) {
            BUSY => {}
            IDLE if pages < self.checkpointed => self.checkpointed = 0,
            IDLE if pages - self.checkpointed >= CHECKPOINT_PAGES => {
                let rest = if pages >= RESTART_PAGES { Rest::None } else { Rest::Any };
                self.begin_checkpoint(pages, rest);
            }
            IDLE => {}
            left => {
                self.checkpoint.store(IDLE, Ordering::Release);
                let little = left <= FINISH_PAGES;
                if little && pages >= RESTART_PAGES_MAX || pages >= 2 * RESTART_PAGES_MAX {
                    // A reader may stand in the way: then again once the log has grown.
                    if matches!(checkpoint_once(writer), Ok(0)) {
                        self.log_pages.store(0, Ordering::Relaxed);
                        self.checkpointed = 0;
                    }
                }
            }
        }
    }

    fn begin_checkpoint(&mut self, pages: i32, rest: Rest) {
        self.checkpointed = pages;
        self.checkpoint.store(BUSY, Ordering::Release);
        let asked = self.wake.as_ref().is_some_and(|wake| wake.send(rest).is_ok());
        if !asked {
            self.checkpoint.store(IDLE, Ordering::Release);
        }
    }

    /// Bytes of the database and of its log.
    pub(crate) fn file_sizes(&self) -> (u64, u64) {
        let size = |path: &Path| path.metadata().map_or(0, |meta| meta.len());
        let mut log = self.database.clone().into_os_string();
        log.push("-wal");
        (size(&self.database), size(Path::new(&log)))
    }

    /// Waits for the checkpointer and empties the log.
    pub(crate) fn close(&mut self, writer: &Connection) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
}

/// Has the writer's connection tell how long the log is.
pub(crate) fn watch_log(writer: &mut Connection) -> rusqlite::Result<LogPages> {
    let pages = LogPages::default();
    let noted = Arc::clone(&pages);
    writer.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
        noted.store(pages, Ordering::Relaxed);
        Ok(())
    }))?;
    Ok(pages)
}

fn set_aside_bytes(path: &Path) -> std::io::Result<()> {
    let written = write_zeros(path);
    if written.is_err() {
        // Part of it would take the last bytes from those who finish.
        let _ = fs::remove_file(path);
    }
    written
}

fn write_zeros(path: &Path) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let block = vec![0_u8; 1024 * 1024];
    for _ in 0..HEAD_ROOM_BYTES / block.len() as u64 {
        file.write_all(&block)?;
    }
    file.sync_all()
}

/// One passive checkpoint; how many pages it left.
fn checkpoint_once(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let (log, done): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok((log - done).max(0))
    })
}

/// What a checkpoint may leave of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// What is written meanwhile.
    Any,
    /// Nothing, if that can be had.
    None,
}

fn checkpoint_beside_the_writer(connection: &Connection, rest: Rest) -> i64 {
    let mut left = i64::MAX;
    for _ in 0..ATTEMPTS_TO_CATCH_UP {
        match checkpoint_once(connection) {
            Ok(now) if now == 0 || rest == Rest::Any => return now,
            Ok(now) => left = now,
            Err(error) => {
                tracing::warn!(%error, "a checkpoint failed; the log grows until one succeeds");
                return i64::MAX;
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits so large that every checkpoint leaves much: the log is begun anew all the same, once
    /// it is twice as long as it should be.
    #[test]
    fn a_log_that_no_checkpoint_catches_up_with_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("onefold.db");
        let mut writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
        let pages = watch_log(&mut writer).unwrap();
        let beside = Connection::open(&path).unwrap();
        let free: FreeSpace = Arc::new(|_| None);
        let mut disk = Disk::start(dir.path(), &path, free, Arc::clone(&pages), beside).unwrap();
        let mut after_commit = |log: i32| {
            writer.execute_batch("INSERT INTO t VALUES (1)").unwrap();
            pages.store(log, Ordering::Relaxed);
            disk.checkpoint.store(FINISH_PAGES + 1, Ordering::Release);
            disk.after_commit(&writer);
            pages.load(Ordering::Relaxed)
        };
        assert_eq!(after_commit(RESTART_PAGES_MAX), RESTART_PAGES_MAX, "it may still catch up");
        assert_eq!(after_commit(2 * RESTART_PAGES_MAX), 0);
        writer.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        assert_eq!(pages.load(Ordering::Relaxed), 1, "the first page of the new log");
    }
}
