//! Settings of SQLite that promise durability, and keep it at every position.

use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use onefold_crash::{Fault, LogPosition, Policy, Recorder, Sweep, scratch_dir};

use crate::workload::{Told, Workload, check, checkpoint, commit, commits_in, connect};

/// More of the same where time does not matter.
fn seeds() -> u64 {
    if std::env::var_os("ONEFOLD_LONG").is_some() { 24 } else { 3 }
}

/// Ends the loops of other threads also when this one panics.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The mode that Onefold uses: no acknowledged commit is ever lost, whatever the disk does with what
/// was not synced.
#[test]
fn wal_with_full_sync_loses_nothing() {
    let report = Workload::WAL_FULL.sweep(|sweep| sweep.policies(Policy::all(0..seeds()))).unwrap();
    assert_eq!(report.marks, 200);
    // One a commit, two a checkpoint.
    assert!(report.syncs >= 200 + 2 * 11, "{report}");
    assert_eq!(report.positions, report.entries + 1);
    assert!(report.images > 2_000, "{report}");
}

/// The journal modes that SQLite documents as durable. `DELETE` is only with `EXTRA`: the others need
/// no sync of the directory to commit. Guards the model against losing more than a disk can.
#[test]
fn rollback_journals_lose_nothing() {
    for (journal, synchronous) in [("DELETE", "EXTRA"), ("TRUNCATE", "FULL"), ("PERSIST", "FULL")] {
        let workload = Workload { journal, synchronous, commits: 25, ..Workload::WAL_FULL };
        let report = workload.sweep(|sweep| sweep.policies(Policy::all(0..seeds()))).unwrap();
        assert_eq!(report.marks, 25);
        assert!(report.images > 500, "{report}");
    }
}

/// Every commit is whole and none is missing before a later one, even where SQLite promises no
/// durability of the last ones.
#[test]
fn weaker_modes_keep_a_prefix() {
    for (journal, synchronous) in [("WAL", "NORMAL"), ("DELETE", "FULL")] {
        let workload = Workload { journal, synchronous, commits: 30, checkpoint_every: 7, told: Told::Never };
        let report = workload.sweep(|sweep| sweep.policies(Policy::all(0..seeds()))).unwrap();
        assert!(report.images > 500, "{report}");
    }
}

/// Several connections in several threads, as an engine has them: one commits, one checkpoints at the
/// same time, one reads.
#[test]
fn concurrent_checkpoints_and_readers_lose_nothing() {
    let dir = scratch_dir().unwrap();
    let recorder = Recorder::install(dir.path()).unwrap();
    let workload = Workload { commits: 120, ..Workload::WAL_FULL };
    let db = workload.open(&recorder);
    let (start, done) = (Barrier::new(3), AtomicBool::new(false));
    let other = || {
        let db = connect(recorder.dir(), Some(recorder.vfs_name()));
        db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        start.wait();
        db
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let db = other();
            while !done.load(Ordering::Relaxed) {
                checkpoint(&db, "PASSIVE").unwrap();
            }
        });
        scope.spawn(|| {
            let db = other();
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                let now: i64 = db.query_row("SELECT commits FROM total", [], |row| row.get(0)).unwrap();
                assert!(now >= seen, "a reader went back from {seen} to {now}");
                seen = now;
            }
        });
        start.wait();
        let _stop = StopOnDrop(&done);
        for n in 1..=workload.commits {
            commit(&db, n).unwrap();
            recorder.mark(n.to_string());
        }
    });
    let log = recorder.log();
    // The checkpointer may find many small pieces of work.
    let stride = NonZeroUsize::new(log.entries().len() / 400).unwrap_or(NonZeroUsize::MIN);
    let report = Sweep::over(log).stride(stride).policies(Policy::all(0..2)).run(check).unwrap();
    println!("{report}");
    assert_eq!(report.marks, 120);
    assert!(report.images > 500, "{report}");
}

/// Power fails again while what is left of the first time is being recovered and written to.
#[test]
fn a_second_power_loss_loses_nothing() {
    let workload = Workload { commits: 12, checkpoint_every: 5, ..Workload::WAL_FULL };
    let dir = scratch_dir().unwrap();
    let first = Recorder::install(dir.path()).unwrap();
    workload.run(&first);
    let log = first.log();
    let mut second_losses = 0;
    for position in (0..log.entries().len()).step_by(3).map(LogPosition::after) {
        let left = scratch_dir().unwrap();
        log.image_at(position, Policy::Subset(7)).materialise(left.path()).unwrap();
        let second = Recorder::install(left.path()).unwrap();
        let db = workload.open(&second);
        let present: i64 = db.query_row("SELECT commits FROM total", [], |row| row.get(0)).unwrap();
        second.mark(present.to_string());
        commit(&db, present + 1).unwrap();
        second.mark((present + 1).to_string());
        let report = Sweep::over(second.log()).policies([Policy::DropAll, Policy::Subset(1)]).run(check);
        match report {
            Ok(report) => second_losses += report.images,
            Err(failure) => panic!("first loss at {position:?}: {failure}"),
        }
    }
    println!("{second_losses} images of a second power loss checked");
    assert!(second_losses > 500, "{second_losses}");
}

/// A commit that failed because a sync did, tried again in the same process, is durable: SQLite
/// writes the pages anew. So is the model's doubt about failed syncs no false alarm.
#[test]
fn a_commit_repeated_after_a_failed_sync_is_durable() {
    let dir = scratch_dir().unwrap();
    let recorder = Recorder::install(dir.path()).unwrap();
    let db = Workload::WAL_FULL.open(&recorder);
    for n in 1..=20 {
        recorder.inject(Fault::sync().in_file("test.db-wal"));
        commit(&db, n).unwrap_err();
        if !db.is_autocommit() {
            db.execute_batch("ROLLBACK").unwrap();
        }
        commit(&db, n).unwrap();
        recorder.mark(n.to_string());
    }
    assert_eq!(recorder.faults_caused(), 20);
    assert_eq!(commits_in(recorder.dir()).unwrap(), 20);
    let report = Sweep::over(recorder.log()).run(check).unwrap();
    println!("{report}");
    assert!(report.images > 200, "{report}");
}
