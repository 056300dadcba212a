//! Power loss at every place of a log where it matters.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;

use tempfile::TempDir;

use crate::disk::{Disk, Policy};
use crate::log::{Entry, Log, LogPosition, Mark};

/// One power failure: what was left of the files, and what had been said before.
#[derive(Debug)]
pub struct PowerLoss<'a> {
    /// Holds the files and nothing else. The check may do with them as it likes.
    pub dir: &'a Path,
    /// When.
    pub position: LogPosition,
    /// How the disk dealt with what was not synced.
    pub policy: Policy,
    /// All marks made before, in order.
    pub marks: &'a [Mark],
}

/// How much a sweep looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SweepReport {
    /// Entries of the log.
    pub entries: usize,
    /// Completed syncs of files in it.
    pub syncs: usize,
    /// Marks in it.
    pub marks: usize,
    /// Positions at which power failed.
    pub positions: usize,
    /// Different images that were checked.
    pub images: usize,
    /// Images not checked, because one that is the same and follows the same marks was.
    pub repeats: usize,
}

impl fmt::Display for SweepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SweepReport { entries, syncs, marks, positions, images, repeats } = self;
        write!(
            f,
            "power lost at {positions} positions of {entries} entries ({syncs} syncs, {marks} marks): "
        )?;
        write!(f, "{images} images checked, {repeats} repeats skipped")
    }
}

/// Why a sweep stopped.
#[derive(Debug, thiserror::Error)]
pub enum SweepFailure<E> {
    /// A check did not hold. `Log::image_at(position, policy)` makes the same image again.
    #[error("power lost at position {} ({after}), {policy:?}: {error}", .position.entries())]
    Check {
        /// When power failed.
        position: LogPosition,
        /// How the disk dealt with what was not synced.
        policy: Policy,
        /// What had happened last, in words.
        after: String,
        /// What the check found.
        error: E,
    },
    /// An image could not be written or removed.
    #[error("cannot write an image of the files: {0}; is there room in the temporary directory?")]
    Image(#[from] io::Error),
}

/// Lets power fail at every position of a log that matters: before and after each sync, whether it
/// went well or not, after each mark, at both ends, and at every so many of the others.
#[derive(Clone, Debug)]
pub struct Sweep {
    log: Log,
    stride: NonZeroUsize,
    policies: Vec<Policy>,
}

impl Sweep {
    /// Every position, and every policy with three seeds.
    pub fn over(log: Log) -> Sweep {
        Sweep { log, stride: NonZeroUsize::MIN, policies: Policy::all(0..3) }
    }

    /// Of the positions that are not named above, every how many-th is tried.
    pub fn stride(self, stride: NonZeroUsize) -> Sweep {
        Sweep { stride, ..self }
    }

    /// The policies that each position is tried with.
    pub fn policies(self, policies: impl IntoIterator<Item = Policy>) -> Sweep {
        Sweep { policies: policies.into_iter().collect(), ..self }
    }

    /// Checks every image, until a check fails.
    ///
    /// # Errors
    /// The first check that did not hold, or that images cannot be written.
    pub fn run<E>(
        &self,
        mut check: impl FnMut(&PowerLoss<'_>) -> Result<(), E>,
    ) -> Result<SweepReport, SweepFailure<E>> {
        let marks = self.log.marks();
        let positions = self.positions();
        let mut report = SweepReport {
            entries: self.log.entries().len(),
            syncs: self.log.syncs().len(),
            marks: marks.len(),
            positions: positions.len(),
            images: 0,
            repeats: 0,
        };
        let scratch = scratch_dir()?;
        let dir = scratch.path().join("image");
        let mut disk = Disk::new(&self.log);
        let mut seen = HashSet::new();
        for position in positions {
            disk.advance_to(position);
            let marks = &marks[..marks.partition_point(|mark| mark.position <= position)];
            for &policy in &self.policies {
                let plan = disk.plan(policy);
                if !seen.insert((marks.len(), plan.clone())) {
                    report.repeats += 1;
                    continue;
                }
                disk.build(&plan).materialise(&dir)?;
                check(&PowerLoss { dir: &dir, position, policy, marks }).map_err(|error| {
                    SweepFailure::Check { position, policy, after: self.log.describe(position), error }
                })?;
                report.images += 1;
                fs::remove_dir_all(&dir)?;
            }
        }
        Ok(report)
    }

    fn positions(&self) -> BTreeSet<LogPosition> {
        let is_sync = |entry: &Entry| {
            matches!(entry, Entry::Sync { .. } | Entry::SyncFailed { .. } | Entry::DirectorySync { .. })
        };
        let syncs = self.log.positions_after(is_sync);
        let before_syncs: Vec<_> =
            syncs.iter().map(|after| LogPosition::after(after.entries().saturating_sub(1))).collect();
        let marks = self.log.positions_after(|entry| matches!(entry, Entry::Mark { .. }));
        let others = (0..=self.log.entries().len()).step_by(self.stride.get()).map(LogPosition::after);
        let ends = [LogPosition::START, self.log.end()];
        syncs.into_iter().chain(before_syncs).chain(marks).chain(others).chain(ends).collect()
    }
}

/// A temporary directory, in memory where the machine offers that: durability is modelled here, so
/// what a real disk's syncs cost would buy nothing.
///
/// # Errors
/// Those of the file system.
pub fn scratch_dir() -> io::Result<TempDir> {
    let in_memory = Path::new("/dev/shm");
    if in_memory.is_dir()
        && let Ok(dir) = tempfile::tempdir_in(in_memory)
    {
        return Ok(dir);
    }
    tempfile::tempdir()
}
