//! The log says what happened to the files, and recording changes nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use onefold_crash::{Entry, LogPosition, Policy, Recorder, Sweep, scratch_dir};
use rusqlite::{Connection, OpenFlags};

use crate::workload::{DATABASE, Told, Workload, check, commit, commits_in, connect};

fn files_in(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.file_name().to_string_lossy().ends_with("-shm"))
        .map(|entry| (entry.file_name().into(), fs::read(entry.path()).unwrap()))
        .collect()
}

fn files_at_end(recorder: &Recorder) -> BTreeMap<PathBuf, Vec<u8>> {
    let log = recorder.log();
    let image = log.image_at(log.end(), Policy::KeepAll);
    image.files().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
}

/// Everything kept, the image is the directory, byte for byte: no write goes past the recorder.
#[test]
fn the_log_holds_everything_that_was_written() {
    for journal in ["WAL", "DELETE", "TRUNCATE", "PERSIST"] {
        let dir = scratch_dir().unwrap();
        let recorder = Recorder::install(dir.path()).unwrap();
        let workload = Workload { journal, commits: 40, ..Workload::WAL_FULL };
        let db = workload.open(&recorder);
        // Ways to write that SQLite may choose when it can.
        let mapped: i64 = db.query_row("PRAGMA mmap_size = 1000000", [], |row| row.get(0)).unwrap();
        assert_eq!(mapped, 0);
        for n in 1..=40 {
            commit(&db, n).unwrap();
        }
        db.execute("DELETE FROM parts WHERE n > 20", []).unwrap();
        db.execute_batch("VACUUM").unwrap();
        assert!(!files_at_end(&recorder).is_empty());
        assert_eq!(files_at_end(&recorder), files_in(dir.path()), "{journal}, open");
        db.close().unwrap();
        assert_eq!(files_at_end(&recorder), files_in(dir.path()), "{journal}, closed");
    }
}

/// A commit is in the log as SQLite makes it: frames of the log, a sync of it, then the mark.
#[test]
fn marks_stand_between_what_happened_before_and_after() {
    let dir = scratch_dir().unwrap();
    let recorder = Recorder::install(dir.path()).unwrap();
    let db = Workload::WAL_FULL.open(&recorder);
    let before = recorder.position();
    commit(&db, 1).unwrap();
    let told = recorder.mark("1");
    commit(&db, 2).unwrap();

    let log = recorder.log();
    assert_eq!(recorder.marks(), log.marks());
    assert_eq!(log.marks()[0].position, told);
    assert_eq!(&*log.marks()[0].label, b"1");
    let first = &log.entries()[before.entries()..told.entries()];
    let [writes @ .., Entry::Sync { .. }, Entry::Mark { .. }] = first else { panic!("{first:?}") };
    assert!(!writes.is_empty() && writes.iter().all(|entry| matches!(entry, Entry::Write { .. })));
    let last_sync = *recorder.syncs().last().unwrap();
    assert!(told < last_sync && last_sync == log.end());
}

/// What is in the directory when recording begins counts as on the disk.
#[test]
fn files_from_before_are_kept() {
    let dir = scratch_dir().unwrap();
    let earlier = Recorder::install(dir.path()).unwrap();
    Workload { commits: 5, ..Workload::WAL_FULL }.run(&earlier);
    drop(earlier);

    let recorder = Recorder::install(dir.path()).unwrap();
    recorder.mark("5");
    let db = connect(recorder.dir(), Some(recorder.vfs_name()));
    db.pragma_update(None, "synchronous", "FULL").unwrap();
    commit(&db, 6).unwrap();
    recorder.mark("6");
    Sweep::over(recorder.log()).run(check).unwrap();

    let at_start = scratch_dir().unwrap();
    recorder.log().image_at(LogPosition::START, Policy::DropAll).materialise(at_start.path()).unwrap();
    assert_eq!(commits_in(at_start.path()).unwrap(), 5);
}

/// A file that appears past the recorder was synced by nobody it knows.
#[test]
fn files_from_elsewhere_are_not_taken_for_synced() {
    let elsewhere = scratch_dir().unwrap();
    connect(elsewhere.path(), None).execute_batch("CREATE TABLE t (x)").unwrap();
    let dir = scratch_dir().unwrap();
    let recorder = Recorder::install(dir.path()).unwrap();
    fs::copy(elsewhere.path().join(DATABASE), dir.path().join(DATABASE)).unwrap();
    let db = connect(recorder.dir(), Some(recorder.vfs_name()));
    db.query_row("SELECT count(*) FROM t", [], |_| Ok(())).unwrap();

    assert_eq!(files_at_end(&recorder), files_in(dir.path()));
    let log = recorder.log();
    assert_eq!(log.image_at(log.end(), Policy::DropAll).files().count(), 0);
}

/// Each recorder has a name and a log of its own, and leaves files elsewhere alone.
#[test]
fn recorders_do_not_mix() {
    let (dir, other_dir) = (scratch_dir().unwrap(), scratch_dir().unwrap());
    let recorder = Recorder::install(dir.path()).unwrap();
    let other = Recorder::install(other_dir.path()).unwrap();
    assert_ne!(recorder.vfs_name(), other.vfs_name());
    let workload = Workload { commits: 3, told: Told::Never, ..Workload::WAL_FULL };
    workload.run(&recorder);
    assert!(recorder.position() > LogPosition::START);
    assert_eq!(other.position(), LogPosition::START);

    let outside = connect(dir.path(), Some(other.vfs_name()));
    commit(&outside, 4).unwrap();
    assert_eq!(other.position(), LogPosition::START);
    assert_eq!(commits_in(dir.path()).unwrap(), 4);
}

/// A connection outlives its recorder; a new one cannot be opened.
#[test]
fn connections_may_outlive_the_recorder() {
    let dir = scratch_dir().unwrap();
    let recorder = Recorder::install(dir.path()).unwrap();
    let name = recorder.vfs_name().to_owned();
    let db = Workload::WAL_FULL.open(&recorder);
    drop(recorder);
    for n in 1..=10 {
        commit(&db, n).unwrap();
    }
    let flags = OpenFlags::default();
    assert!(Connection::open_with_flags_and_vfs(dir.path().join(DATABASE), flags, name.as_str()).is_err());
    db.close().unwrap();
    assert_eq!(commits_in(dir.path()).unwrap(), 10);
}

/// A directory that is not there is an error that names it.
#[test]
fn a_missing_directory_is_refused() {
    let dir = scratch_dir().unwrap();
    let error = Recorder::install(dir.path().join("missing")).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}
