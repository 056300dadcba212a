//! Programs that break their promise. The sweep must find each of them.

use onefold_crash::{Fault, Policy, Recorder, Sweep, SweepFailure, scratch_dir};

use crate::workload::{Broken, Told, Workload, check, checkpoint, commit};

/// The workload must be found to lose a commit that the client was told of.
fn assert_caught(workload: Workload) {
    let failure = workload.sweep(|sweep| sweep).expect_err("the sweep found nothing wrong");
    let lost = matches!(failure, SweepFailure::Check { error: Broken::Lost { .. }, .. });
    assert!(lost, "{failure}");
}

/// Without syncs nothing is durable.
#[test]
fn syncing_never_is_caught() {
    assert_caught(Workload { synchronous: "OFF", ..Workload::WAL_FULL });
}

/// `NORMAL` syncs the log at checkpoints only: the commits since the last one can get lost.
#[test]
fn syncing_at_checkpoints_only_is_caught() {
    assert_caught(Workload { synchronous: "NORMAL", ..Workload::WAL_FULL });
}

/// All settings right, and the answer a moment too early.
#[test]
fn answering_before_the_commit_is_caught() {
    assert_caught(Workload { told: Told::Before, ..Workload::WAL_FULL });
}

/// SQLite commits by deleting the journal, and syncs the directory only with `EXTRA`: its documentation
/// says that a commit just before power fails may be rolled back.
#[test]
fn a_deletion_without_a_sync_of_the_directory_is_caught() {
    assert_caught(Workload { journal: "DELETE", ..Workload::WAL_FULL });
}

/// The policies that keep everything or nothing show no torn pages; the one that keeps sectors does.
/// Nothing is promised to a client here: the damage alone is found.
#[test]
fn damage_by_torn_checkpoints_is_caught() {
    let workload = Workload { synchronous: "OFF", told: Told::Never, ..Workload::WAL_FULL };
    workload.sweep(|sweep| sweep.policies([Policy::DropAll, Policy::KeepAll])).unwrap();
    let failure = workload.sweep(|sweep| sweep.policies((0..3).map(Policy::Subset))).unwrap_err();
    let broken =
        matches!(failure, SweepFailure::Check { error: Broken::Damaged(_) | Broken::NotAPrefix(_), .. });
    assert!(broken, "{failure}");
}

/// A sync that failed and is tried again until it returns well: the pages of the log count as written,
/// are not, and the checkpoint goes on to overwrite the database. Power lost in the middle of it finds
/// neither the log to repair it from nor the pages it had before.
#[test]
fn believing_a_repeated_sync_is_caught() {
    let dir = scratch_dir().unwrap();
    let recorder = Recorder::install(dir.path()).unwrap();
    let db = Workload { synchronous: "NORMAL", ..Workload::WAL_FULL }.open(&recorder);
    checkpoint(&db, "TRUNCATE").unwrap();
    for n in 1..=20 {
        commit(&db, n).unwrap();
    }
    recorder.inject(Fault::sync().in_file("test.db-wal"));
    checkpoint(&db, "PASSIVE").unwrap_err();
    checkpoint(&db, "PASSIVE").unwrap();
    let failure = Sweep::over(recorder.log()).run(check).expect_err("the sweep found nothing wrong");
    println!("{failure}");
    assert!(matches!(failure, SweepFailure::Check { error: Broken::Damaged(_) | Broken::NotAPrefix(_), .. }));
}
