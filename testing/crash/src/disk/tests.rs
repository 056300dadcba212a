//! The model of the disk, on logs written by hand.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::log::BaselineFile;

const FILE: FileId = FileId(1);
const OTHER: FileId = FileId(2);
const SEEDS: Range<u64> = 0..200;

fn log(entries: Vec<Entry>) -> Log {
    Log { baseline: Arc::new([]), entries }
}

/// A log that goes on from a file `a` that is on the disk with these bytes.
fn log_from(bytes: &[u8], entries: Vec<Entry>) -> Log {
    let known = BaselineFile { name: Path::new("a").into(), file: FILE, bytes: bytes.into() };
    Log { baseline: Arc::new([known]), entries }
}

fn created(file: FileId, name: &str) -> Entry {
    Entry::Created { file, name: Path::new(name).into() }
}

fn write(file: FileId, offset: u64, bytes: &[u8]) -> Entry {
    Entry::Write { file, offset, bytes: bytes.into() }
}

fn sync(file: FileId, covers: usize) -> Entry {
    Entry::Sync { file, covers: LogPosition::after(covers), flags: 2 }
}

fn directory_sync(covers: usize) -> Entry {
    Entry::DirectorySync { directory: PathBuf::new(), covers: LogPosition::after(covers) }
}

fn deleted(name: &str) -> Entry {
    Entry::Deleted { name: Path::new(name).into() }
}

/// The bytes of the file `a` when power fails at the end.
fn a(log: &Log, policy: Policy) -> Option<Vec<u8>> {
    named(log, policy, "a")
}

fn named(log: &Log, policy: Policy, wanted: &str) -> Option<Vec<u8>> {
    let image = log.image_at(log.end(), policy);
    image.files().find(|(name, _)| *name == Path::new(wanted)).map(|(_, bytes)| bytes.to_vec())
}

/// What `a` may hold at the end, over many seeds.
fn outcomes(log: &Log, policy: fn(u64) -> Policy) -> BTreeSet<Option<Vec<u8>>> {
    SEEDS.map(|seed| a(log, policy(seed))).collect()
}

fn some(outcomes: &[&[u8]]) -> BTreeSet<Option<Vec<u8>>> {
    outcomes.iter().map(|bytes| Some(bytes.to_vec())).collect()
}

fn every_policy() -> Vec<Policy> {
    Policy::all(SEEDS)
}

/// A write is certain once its file was synced, whatever the policy, and not before.
#[test]
fn only_a_sync_makes_a_write_certain() {
    let unsynced = log_from(b"old", vec![write(FILE, 0, b"new")]);
    assert_eq!(a(&unsynced, Policy::DropAll).as_deref(), Some(&b"old"[..]));
    assert_eq!(a(&unsynced, Policy::KeepAll).as_deref(), Some(&b"new"[..]));
    assert_eq!(outcomes(&unsynced, Policy::Subset), some(&[b"old", b"new"]));

    let synced = log_from(b"old", vec![write(FILE, 0, b"new"), sync(FILE, 1)]);
    for policy in every_policy() {
        assert_eq!(a(&synced, policy).as_deref(), Some(&b"new"[..]), "{policy:?}");
    }
}

/// Another file's sync says nothing about this one.
#[test]
fn a_sync_covers_its_own_file_only() {
    let log = log_from(b"old", vec![created(OTHER, "b"), write(FILE, 0, b"new"), sync(OTHER, 2)]);
    assert_eq!(a(&log, Policy::DropAll).as_deref(), Some(&b"old"[..]));
}

/// What another thread writes while the disk is busy with a sync may be left out of it.
#[test]
fn a_sync_covers_only_what_came_before_it_was_asked_for() {
    let log = log_from(b"__", vec![write(FILE, 0, b"1"), write(FILE, 1, b"2"), sync(FILE, 1)]);
    assert_eq!(a(&log, Policy::DropAll).as_deref(), Some(&b"1_"[..]));
}

/// A position before the sync returned knows nothing of the sync.
#[test]
fn what_happens_after_the_position_has_not_happened() {
    let log = log_from(b"old", vec![write(FILE, 0, b"new"), sync(FILE, 1)]);
    let image = log.image_at(LogPosition::after(1), Policy::DropAll);
    assert_eq!(image.files().collect::<Vec<_>>(), [(Path::new("a"), &b"old"[..])]);
    assert_eq!(log.image_at(LogPosition::START, Policy::KeepAll), image);
}

/// A file's own sync does not make its name certain; a sync of the directory does.
#[test]
fn a_name_needs_a_sync_of_its_directory() {
    let mut entries = vec![created(FILE, "a"), write(FILE, 0, b"x"), sync(FILE, 2)];
    assert_eq!(a(&log(entries.clone()), Policy::DropAll), None);
    assert_eq!(a(&log(entries.clone()), Policy::KeepAll).as_deref(), Some(&b"x"[..]));

    entries.push(directory_sync(2));
    for policy in every_policy() {
        assert_eq!(a(&log(entries.clone()), policy).as_deref(), Some(&b"x"[..]), "{policy:?}");
    }
}

/// Neither a name made while the directory was being synced is certain, nor one in another directory.
#[test]
fn a_sync_of_a_directory_covers_what_was_in_it_when_asked_for() {
    let log =
        log(vec![created(FILE, "a"), created(OTHER, "deep/b"), created(FileId(3), "c"), directory_sync(2)]);
    let image = log.image_at(log.end(), Policy::DropAll);
    assert_eq!(image.files().map(|(name, _)| name).collect::<Vec<_>>(), [Path::new("a")]);
}

/// A deletion whose directory was not synced may be undone, and brings back what was certain.
#[test]
fn a_deleted_file_may_be_back() {
    let mut entries = vec![write(FILE, 0, b"1"), sync(FILE, 1), write(FILE, 1, b"2"), deleted("a")];
    let before = log_from(b"__", entries.clone());
    assert_eq!(a(&before, Policy::DropAll).as_deref(), Some(&b"1_"[..]));
    assert_eq!(a(&before, Policy::KeepAll), None);
    let mut expected = some(&[b"1_", b"12"]);
    expected.insert(None);
    assert_eq!(outcomes(&before, Policy::Subset), expected);

    entries.push(directory_sync(4));
    for policy in every_policy() {
        assert_eq!(a(&log_from(b"__", entries.clone()), policy), None, "{policy:?}");
    }
}

/// A name used again stands for the old file or the new one, whole, never for a mixture.
#[test]
fn a_name_used_again_never_mixes_two_files() {
    let log = log_from(
        b"old file",
        vec![deleted("a"), created(OTHER, "a"), write(OTHER, 0, b"new"), sync(OTHER, 3)],
    );
    let mut expected = some(&[b"old file", b"new"]);
    expected.insert(None);
    assert_eq!(outcomes(&log, Policy::Subset), expected);
}

/// Changes to two names may reach the disk in either order.
#[test]
fn two_names_are_independent_in_a_subset() {
    let log = log(vec![created(FILE, "a"), created(OTHER, "b")]);
    let both = |policy: Policy| (named(&log, policy, "a").is_some(), named(&log, policy, "b").is_some());
    let subsets: BTreeSet<_> = SEEDS.map(|seed| both(Policy::Subset(seed))).collect();
    assert_eq!(subsets.len(), 4);
    let prefixes: BTreeSet<_> = SEEDS.map(|seed| both(Policy::KeepPrefix(seed))).collect();
    assert_eq!(prefixes, BTreeSet::from([(false, false), (true, false), (true, true)]));
}

/// A write is torn at sectors of the file, not of the write, and the bytes beside it stay.
#[test]
fn a_subset_tears_writes_at_sectors() {
    let old = vec![b'.'; 3 * SECTOR];
    let log = log_from(&old, vec![write(FILE, SECTOR as u64 - 2, b"aabb")]);
    let torn: BTreeSet<Vec<u8>> = outcomes(&log, Policy::Subset).into_iter().flatten().collect();
    let middles: BTreeSet<&[u8]> = torn.iter().map(|bytes| &bytes[SECTOR - 2..SECTOR + 2]).collect();
    assert_eq!(middles, BTreeSet::from([&b"...."[..], b"aa..", b"..bb", b"aabb"]));
    for bytes in torn {
        assert_eq!(bytes.len(), old.len());
        assert!(bytes[..SECTOR - 2].iter().chain(&bytes[SECTOR + 2..]).all(|byte| *byte == b'.'));
    }
}

/// A prefix never holds a later write of a file without the earlier ones, and may end in a torn one.
#[test]
fn a_prefix_keeps_the_order_of_writes() {
    let big = vec![b'3'; 2 * SECTOR];
    let log = log_from(b"", vec![write(FILE, 0, b"1"), write(FILE, 1, b"2"), write(FILE, 0, &big)]);
    let torn = &big[..SECTOR];
    assert_eq!(outcomes(&log, Policy::KeepPrefix), some(&[b"", b"1", b"12", torn, &big]));
}

/// The length may reach the disk before the bytes do: zeros or anything else is read then.
#[test]
fn a_file_may_grow_before_its_bytes_arrive() {
    let log = log_from(b"1", vec![write(FILE, 1, b"2345")]);
    let outcomes = outcomes(&log, Policy::Subset);
    let wanted = some(&[b"1", b"12345", b"1\0\0\0\0"]);
    assert!(outcomes.is_superset(&wanted), "{outcomes:?}");
    assert!(outcomes.len() > wanted.len(), "no stale bytes were tried: {outcomes:?}");
    assert!(outcomes.iter().flatten().all(|bytes| bytes.starts_with(b"1")));
}

/// A truncation is uncertain like a write, and may get lost while a later write is kept.
#[test]
fn a_truncation_needs_a_sync() {
    let cut = Entry::Truncate { file: FILE, size: 1 };
    let unsynced = log_from(b"123", vec![cut.clone(), write(FILE, 1, b"x")]);
    assert_eq!(a(&unsynced, Policy::DropAll).as_deref(), Some(&b"123"[..]));
    assert_eq!(a(&unsynced, Policy::KeepAll).as_deref(), Some(&b"1x"[..]));
    assert!(outcomes(&unsynced, Policy::Subset).is_superset(&some(&[b"123", b"1", b"1x", b"1x3"])));

    let synced = log_from(b"123", vec![cut, sync(FILE, 1)]);
    for policy in every_policy() {
        assert_eq!(a(&synced, policy).as_deref(), Some(&b"1"[..]), "{policy:?}");
    }
}

/// After a failed sync the operating system takes the pages for written: a sync that is tried again
/// and returns well has written nothing of them.
#[test]
fn a_failed_sync_leaves_its_writes_in_doubt_for_ever() {
    let failed = Entry::SyncFailed { file: FILE, covers: LogPosition::after(1) };
    let retried = log_from(b"__", vec![write(FILE, 0, b"1"), failed.clone(), sync(FILE, 2)]);
    assert_eq!(a(&retried, Policy::DropAll).as_deref(), Some(&b"__"[..]));
    assert_eq!(a(&retried, Policy::KeepAll).as_deref(), Some(&b"1_"[..]));

    // What is written anew after it is as good as any write, also over the same place.
    let again = vec![write(FILE, 0, b"1"), failed, write(FILE, 0, b"12"), sync(FILE, 3)];
    for policy in every_policy() {
        assert_eq!(a(&log_from(b"__", again.clone()), policy).as_deref(), Some(&b"12"[..]), "{policy:?}");
    }
}

/// A failure that was found can be found again.
#[test]
fn a_seed_always_gives_the_same_image() {
    let noise: Vec<u8> = (0..=255).cycle().take(20 * SECTOR).collect();
    let log = log_from(b"", vec![write(FILE, 0, &noise)]);
    for policy in every_policy() {
        assert_eq!(a(&log, policy), a(&log, policy), "{policy:?}");
    }
    assert!(outcomes(&log, Policy::Subset).len() > 150);
}

/// An image written to a directory is read back as it is, and never over files of another.
#[test]
fn an_image_is_written_as_it_is() {
    let scratch = crate::scratch_dir().unwrap();
    let log = log(vec![created(FILE, "a"), created(OTHER, "deep/b"), write(OTHER, 0, b"x")]);
    let image = log.image_at(log.end(), Policy::KeepAll);
    image.materialise(scratch.path()).unwrap();
    assert_eq!(fs::read(scratch.path().join("a")).unwrap(), b"");
    assert_eq!(fs::read(scratch.path().join("deep/b")).unwrap(), b"x");
    assert_eq!(image.materialise(scratch.path()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
}
