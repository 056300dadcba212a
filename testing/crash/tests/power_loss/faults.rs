//! Faults surface as the errors of SQLite that a real disk causes.

use onefold_crash::{Entry, Fault, Recorder, scratch_dir};
use rusqlite::{Connection, ErrorCode, ffi};

use crate::workload::{Workload, checkpoint, commit, commits_in};

const WAL: &str = "test.db-wal";

struct Store {
    recorder: Recorder,
    db: Connection,
    _dir: tempfile::TempDir,
}

fn store() -> Store {
    let dir = scratch_dir().unwrap();
    let recorder = Recorder::install(dir.path()).unwrap();
    let db = Workload::WAL_FULL.open(&recorder);
    commit(&db, 1).unwrap();
    Store { recorder, db, _dir: dir }
}

fn extended_code(result: rusqlite::Result<()>) -> i32 {
    match result.unwrap_err() {
        rusqlite::Error::SqliteFailure(error, _) => error.extended_code,
        other => panic!("{other}"),
    }
}

/// The code is the one of a failed fsync, the transaction is not there, and the next one is.
#[test]
fn a_failed_sync_is_ioerr_fsync() {
    let Store { recorder, db, .. } = &store();
    recorder.inject(Fault::sync());
    assert_eq!(extended_code(commit(db, 2)), ffi::SQLITE_IOERR_FSYNC);
    assert_eq!(recorder.faults_caused(), 1);
    let failed = |entry: &&Entry| matches!(entry, Entry::SyncFailed { .. });
    assert_eq!(recorder.log().entries().iter().filter(failed).count(), 1);
    commit(db, 2).unwrap();
    assert_eq!(commits_in(recorder.dir()).unwrap(), 2);
}

/// A write that fails names itself, and leaves about half of what it wrote.
#[test]
fn a_failed_write_is_ioerr_write() {
    let Store { recorder, db, .. } = &store();
    recorder.inject(Fault::write().in_file(WAL).after(1));
    let before = recorder.position();
    assert_eq!(extended_code(commit(db, 2)), ffi::SQLITE_IOERR_WRITE);
    let log = recorder.log();
    let lengths: Vec<usize> = log.entries()[before.entries()..]
        .iter()
        .filter_map(|entry| match entry {
            Entry::Write { bytes, .. } => Some(bytes.len()),
            _ => None,
        })
        .collect();
    // The header of a frame, then half of its page.
    assert_eq!(lengths, [24, 2048]);
    commit(db, 2).unwrap();
    assert_eq!(commits_in(recorder.dir()).unwrap(), 2);
}

/// A full disk is told apart from a broken one, lasts, and passes when there is room again.
#[test]
fn a_full_disk_is_full_until_healed() {
    let Store { recorder, db, .. } = &store();
    recorder.inject(Fault::full().from_then_on());
    for _ in 0..3 {
        let error = commit(db, 2).unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DiskFull));
    }
    assert_eq!(recorder.faults_caused(), 3);
    let present: i64 = db.query_row("SELECT commits FROM total", [], |row| row.get(0)).unwrap();
    assert_eq!(present, 1);
    recorder.heal();
    commit(db, 2).unwrap();
    assert_eq!(commits_in(recorder.dir()).unwrap(), 2);
}

/// A fault lets as many operations pass as it was told to, and then happens once.
#[test]
fn a_fault_waits_for_its_turn() {
    let Store { recorder, db, .. } = &store();
    recorder.inject(Fault::sync().after(2));
    let outcomes: Vec<bool> = (2..7).map(|n| commit(db, n).is_ok()).collect();
    assert_eq!(outcomes, [true, true, false, true, true]);
}

/// A fault can be meant for one file: commits go on while the database cannot be checkpointed.
#[test]
fn a_fault_can_be_meant_for_one_file() {
    let Store { recorder, db, .. } = &store();
    recorder.inject(Fault::sync().in_file("test.db").from_then_on());
    commit(db, 2).unwrap();
    assert_eq!(extended_code(checkpoint(db, "TRUNCATE")), ffi::SQLITE_IOERR_FSYNC);
    commit(db, 3).unwrap();
    recorder.heal();
    checkpoint(db, "TRUNCATE").unwrap();
    assert_eq!(commits_in(recorder.dir()).unwrap(), 3);
}
