//! Failures on demand.

use std::path::{Path, PathBuf};

use rusqlite::ffi;

/// A failure for a [`crate::Recorder`] to cause. Counting starts when it is given to
/// [`crate::Recorder::inject`]; unless told otherwise the next operation of its kind on any
/// recorded file fails, once.
#[derive(Clone, Debug)]
pub struct Fault {
    kind: FaultKind,
    passes: u64,
    lasting: bool,
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FaultKind {
    Sync,
    Write,
    Full,
}

impl Fault {
    /// A sync fails with `SQLITE_IOERR_FSYNC`. What it should have covered stays in doubt for ever,
    /// see [`crate::Entry::SyncFailed`].
    pub fn sync() -> Fault {
        Fault::of(FaultKind::Sync)
    }

    /// A write fails with `SQLITE_IOERR_WRITE` after about half of it went through.
    pub fn write() -> Fault {
        Fault::of(FaultKind::Write)
    }

    /// A write fails with `SQLITE_FULL` after about half of it went through.
    pub fn full() -> Fault {
        Fault::of(FaultKind::Full)
    }

    fn of(kind: FaultKind) -> Fault {
        Fault { kind, passes: 0, lasting: false, file: None }
    }

    /// Lets so many operations through first.
    pub fn after(self, passes: u64) -> Fault {
        Fault { passes, ..self }
    }

    /// From then on every such operation fails, until [`crate::Recorder::heal`].
    pub fn from_then_on(self) -> Fault {
        Fault { lasting: true, ..self }
    }

    /// Only in the file of this name, relative to the recorded directory.
    pub fn in_file(self, name: impl Into<PathBuf>) -> Fault {
        Fault { file: Some(name.into()), ..self }
    }

    fn code(&self) -> i32 {
        match self.kind {
            FaultKind::Sync => ffi::SQLITE_IOERR_FSYNC,
            FaultKind::Write => ffi::SQLITE_IOERR_WRITE,
            FaultKind::Full => ffi::SQLITE_FULL,
        }
    }
}

/// The faults waiting to happen.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    waiting: Vec<Fault>,
    caused: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.waiting.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    pub(crate) fn caused(&self) -> u64 {
        self.caused
    }

    /// The SQLite error a sync of `name` must fail with, if it must.
    pub(crate) fn on_sync(&mut self, name: &Path) -> Option<i32> {
        self.strike(name, |kind| kind == FaultKind::Sync)
    }

    /// The SQLite error a write to `name` must fail with, if it must.
    pub(crate) fn on_write(&mut self, name: &Path) -> Option<i32> {
        self.strike(name, |kind| kind != FaultKind::Sync)
    }

    fn strike(&mut self, name: &Path, concerns: impl Fn(FaultKind) -> bool) -> Option<i32> {
        let mut struck = None;
        for (index, fault) in self.waiting.iter_mut().enumerate() {
            if !concerns(fault.kind) || fault.file.as_deref().is_some_and(|only| only != name) {
                continue;
            }
            if fault.passes > 0 {
                fault.passes -= 1;
            } else {
                struck = struck.or(Some(index));
            }
        }
        let index = struck?;
        let code = self.waiting[index].code();
        if !self.waiting[index].lasting {
            self.waiting.remove(index);
        }
        self.caused += 1;
        Some(code)
    }
}
