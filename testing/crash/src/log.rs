//! What happened to the files, in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, Image, Policy};

/// A moment between two entries of a [`Log`]: after the first *n* of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogPosition(usize);

impl LogPosition {
    /// Before anything happened.
    pub const START: LogPosition = LogPosition(0);

    /// After this many entries.
    pub fn after(entries: usize) -> LogPosition {
        LogPosition(entries)
    }

    /// How many entries come before it.
    pub fn entries(self) -> usize {
        self.0
    }
}

/// One file as the disk knows it. A name that is deleted and created again names another file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(pub(crate) u32);

/// One thing that happened. Names are relative to the recorded directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A name began to stand for a new, empty file.
    Created {
        /// The new file.
        file: FileId,
        /// Its name.
        name: Arc<Path>,
    },
    /// Bytes were handed to the operating system.
    Write {
        /// Where to.
        file: FileId,
        /// First byte written, from the start of the file.
        offset: u64,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// The file was cut, or stretched with zeros.
    Truncate {
        /// Which.
        file: FileId,
        /// Its new length in bytes.
        size: u64,
    },
    /// A sync returned: everything that happened to the file before `covers` is on the disk.
    Sync {
        /// Which.
        file: FileId,
        /// When the sync was asked for.
        covers: LogPosition,
        /// `SQLITE_SYNC_*`, as SQLite gave them.
        flags: i32,
    },
    /// A sync failed. What it should have covered may be on the disk or not, and no later sync of
    /// the file changes that: the operating system takes the pages for written.
    SyncFailed {
        /// Which.
        file: FileId,
        /// When the sync was asked for.
        covers: LogPosition,
    },
    /// A name was taken away from its file.
    Deleted {
        /// The name.
        name: Arc<Path>,
    },
    /// A sync of a directory returned: the names created and deleted in it before `covers` are so
    /// on the disk.
    DirectorySync {
        /// Which; empty for the recorded directory itself.
        directory: PathBuf,
        /// When the sync was asked for.
        covers: LogPosition,
    },
    /// The application's own word, see [`crate::Recorder::mark`].
    Mark {
        /// What it said.
        label: Arc<[u8]>,
    },
}

/// A mark and its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The first position at which the mark has been made.
    pub position: LogPosition,
    /// What the application said.
    pub label: Arc<[u8]>,
}

/// A file that was there before recording began. All of it counts as on the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BaselineFile {
    pub(crate) name: Arc<Path>,
    pub(crate) file: FileId,
    pub(crate) bytes: Arc<[u8]>,
}

/// Everything recorded so far, as a copy that no longer changes.
#[derive(Clone, Debug)]
pub struct Log {
    pub(crate) baseline: Arc<[BaselineFile]>,
    pub(crate) entries: Vec<Entry>,
}

impl Log {
    /// What happened, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// After everything.
    pub fn end(&self) -> LogPosition {
        LogPosition(self.entries.len())
    }

    /// The positions right after each completed sync of a file.
    pub fn syncs(&self) -> Vec<LogPosition> {
        self.positions_after(|entry| matches!(entry, Entry::Sync { .. }))
    }

    /// The marks, in order.
    pub fn marks(&self) -> Vec<Mark> {
        let mark = |(before, entry): (usize, &Entry)| match entry {
            Entry::Mark { label } => {
                Some(Mark { position: LogPosition(before + 1), label: Arc::clone(label) })
            }
            _ => None,
        };
        self.entries.iter().enumerate().filter_map(mark).collect()
    }

    /// The files as a disk may hold them when power fails at `position` (later positions than
    /// [`Log::end`] count as it).
    pub fn image_at(&self, position: LogPosition, policy: Policy) -> Image {
        let mut disk = Disk::new(self);
        disk.advance_to(position);
        disk.image(policy)
    }

    /// The entry just before `position`, in words.
    pub(crate) fn describe(&self, position: LogPosition) -> String {
        let Some(entry) = position.0.checked_sub(1).and_then(|index| self.entries.get(index)) else {
            return "before anything was written".to_owned();
        };
        match entry {
            Entry::Created { name, .. } => format!("after {} was created", name.display()),
            Entry::Write { file, offset, bytes } => {
                format!("after a write of {} bytes at {offset} to {}", bytes.len(), self.name_of(*file))
            }
            Entry::Truncate { file, size } => {
                format!("after {} was cut to {size} bytes", self.name_of(*file))
            }
            Entry::Sync { file, .. } => format!("after a sync of {}", self.name_of(*file)),
            Entry::SyncFailed { file, .. } => format!("after a failed sync of {}", self.name_of(*file)),
            Entry::Deleted { name } => format!("after {} was deleted", name.display()),
            Entry::DirectorySync { .. } => "after a sync of the directory".to_owned(),
            Entry::Mark { label } => format!("after the mark {:?}", String::from_utf8_lossy(label)),
        }
    }

    fn name_of(&self, wanted: FileId) -> String {
        let created = self.entries.iter().find_map(|entry| match entry {
            Entry::Created { file, name } if *file == wanted => Some(name),
            _ => None,
        });
        let known = || self.baseline.iter().find(|known| known.file == wanted).map(|known| &known.name);
        created.or_else(known).map_or_else(|| format!("{wanted:?}"), |name| name.display().to_string())
    }

    /// The positions right after the entries for which `wanted` holds.
    pub(crate) fn positions_after(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<LogPosition> {
        let after = |(before, entry): (usize, &Entry)| wanted(entry).then_some(LogPosition(before + 1));
        self.entries.iter().enumerate().filter_map(after).collect()
    }
}
