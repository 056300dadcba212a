//! The recording itself. Everything here is safe code; `vfs.rs` only brings SQLite's calls here.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::ffi::SQLITE_OK;

use crate::disk::SECTOR;
use crate::fault::{Fault, Faults};
use crate::log::{BaselineFile, Entry, FileId, Log, LogPosition, Mark};
use crate::vfs::Registration;

/// Why a [`Recorder`] cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The directory or a file in it cannot be read.
    #[error("cannot record {}: {source}; the directory must exist and its files be readable", .path.display())]
    Directory {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite did not take the VFS.
    #[error(transparent)]
    Register(#[from] RegisterError),
}

/// Why SQLite did not take the VFS.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// There is nothing to wrap.
    #[error("this SQLite has no VFS named unix; power loss can be recorded on Unix only")]
    NoUnixVfs,
    /// SQLite refused.
    #[error("SQLite refused to register the recording VFS (code {0})")]
    Refused(i32),
}

/// Writes down, in order, what SQLite does to the files of one directory.
///
/// Connections opened with [`Recorder::vfs_name`] are recorded, those of other VFSs are not. Not
/// recorded either: the `-shm` file, which SQLite builds anew after a power failure; temporary
/// files; files outside the directory; what is done to files past SQLite. Dropping it forgets the
/// log; connections that are still open work on, no longer recorded.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    registration: Registration,
}

impl Recorder {
    /// Begins to record `dir`. The files in it now count as on the disk, so install before the
    /// first connection is opened.
    ///
    /// # Errors
    /// [`InstallError`].
    pub fn install(dir: impl AsRef<Path>) -> Result<Recorder, InstallError> {
        static INSTALLED: AtomicU64 = AtomicU64::new(0);
        let shared = Arc::new(Shared::of_directory(dir.as_ref())?);
        let name = format!("onefold-recorder-{}", INSTALLED.fetch_add(1, Ordering::Relaxed));
        let registration = Registration::new(name, Arc::clone(&shared))?;
        Ok(Recorder { shared, registration })
    }

    /// What to give to `Connection::open_with_flags_and_vfs`. No other recorder of this process has
    /// the same.
    pub fn vfs_name(&self) -> &str {
        self.registration.name()
    }

    /// The recorded directory, free of links.
    pub fn dir(&self) -> &Path {
        &self.shared.root
    }

    /// Now.
    pub fn position(&self) -> LogPosition {
        self.shared.lock().position()
    }

    /// Says something at this very place among writes and syncs, such as "the client was told that
    /// job 7 is accepted". The position returned is the first at which it has been said.
    pub fn mark(&self, label: impl AsRef<[u8]>) -> LogPosition {
        let mut state = self.shared.lock();
        state.push(Entry::Mark { label: label.as_ref().into() });
        state.position()
    }

    /// Everything so far. Bytes are shared, not copied.
    pub fn log(&self) -> Log {
        let state = self.shared.lock();
        Log { baseline: Arc::clone(&state.baseline), entries: state.entries.clone() }
    }

    /// The positions right after each completed sync of a file so far.
    pub fn syncs(&self) -> Vec<LogPosition> {
        self.log().syncs()
    }

    /// The marks so far, in order.
    pub fn marks(&self) -> Vec<Mark> {
        self.log().marks()
    }

    /// Makes something fail later.
    pub fn inject(&self, fault: Fault) {
        self.shared.lock().faults.add(fault);
    }

    /// Takes back all faults.
    pub fn heal(&self) {
        self.shared.lock().faults.clear();
    }

    /// How many operations were made to fail.
    pub fn faults_caused(&self) -> u64 {
        self.shared.lock().faults.caused()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.retired = true;
        state.entries = Vec::new();
        state.faults.clear();
    }
}

/// What the recorder and the open files have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    baseline: Arc<[BaselineFile]>,
    entries: Vec<Entry>,
    /// The names there are now.
    names: HashMap<Arc<Path>, FileId>,
    files: u32,
    faults: Faults,
    retired: bool,
}

impl State {
    fn position(&self) -> LogPosition {
        LogPosition::after(self.entries.len())
    }

    fn push(&mut self, entry: Entry) {
        if !self.retired {
            self.entries.push(entry);
        }
    }

    fn new_file(&mut self) -> FileId {
        self.files += 1;
        FileId(self.files)
    }

    fn create(&mut self, name: &Arc<Path>) -> FileId {
        let file = self.new_file();
        self.names.insert(Arc::clone(name), file);
        self.push(Entry::Created { file, name: Arc::clone(name) });
        file
    }
}

impl Shared {
    fn of_directory(dir: &Path) -> Result<Shared, InstallError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| InstallError::Directory { path, source }
        };
        let root = dir.canonicalize().map_err(failed(dir))?;
        let mut state = State {
            baseline: Arc::new([]),
            entries: Vec::new(),
            names: HashMap::new(),
            files: 0,
            faults: Faults::default(),
            retired: false,
        };
        let mut baseline = Vec::new();
        for path in regular_files(&root).map_err(failed(&root))? {
            let bytes = fs::read(&path).map_err(failed(&path))?.into();
            let name: Arc<Path> = path.strip_prefix(&root).unwrap_or(&path).into();
            let file = state.new_file();
            state.names.insert(Arc::clone(&name), file);
            baseline.push(BaselineFile { name, file, bytes });
        }
        state.baseline = baseline.into();
        Ok(Shared { root, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one step, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name_of(&self, path: &Path) -> Option<Arc<Path>> {
        path.strip_prefix(&self.root).ok().map(Arc::from)
    }

    /// Opens a file with `real`, and follows it from now on if it has a path and lies in the directory.
    /// `syncs_directory`: its first sync also syncs its directory.
    pub(crate) fn open(
        self: &Arc<Shared>,
        path: Option<&Path>,
        syncs_directory: bool,
        real: impl FnOnce() -> i32,
    ) -> Result<Option<TrackedFile>, i32> {
        let opened = |code| if code == SQLITE_OK { Ok(()) } else { Err(code) };
        let named = path.and_then(|path| Some((path, self.name_of(path)?)));
        let Some((path, name)) = named else { return opened(real()).map(|()| None) };
        let mut state = self.lock();
        let existed = path.exists();
        opened(real())?;
        let known = state.names.get(&name).copied();
        let file = match (known, existed) {
            (Some(file), true) => file,
            (Some(_), false) => {
                state.push(Entry::Deleted { name: Arc::clone(&name) });
                state.create(&name)
            }
            (None, false) => state.create(&name),
            (None, true) => {
                // Somebody else wrote it after the recorder was installed. Nobody here saw a sync of
                // it, so none is assumed. (Closing it again gives up the process's locks on it: whoever
                // has it open through another VFS meanwhile has lost them.)
                let bytes = fs::read(path).unwrap_or_default().into();
                let file = state.create(&name);
                state.push(Entry::Write { file, offset: 0, bytes });
                file
            }
        };
        drop(state);
        let directory_sync_due = AtomicBool::new(syncs_directory);
        Ok(Some(TrackedFile { shared: Arc::clone(self), file, name, directory_sync_due }))
    }

    /// Deletes a file with `real`, which also syncs the directory if `sync_directory`.
    pub(crate) fn delete(&self, path: &Path, sync_directory: bool, real: impl FnOnce() -> i32) -> i32 {
        let Some(name) = self.name_of(path) else { return real() };
        let mut state = self.lock();
        let code = real();
        if code == SQLITE_OK && state.names.remove(&name).is_some() {
            state.push(Entry::Deleted { name: Arc::clone(&name) });
            if sync_directory {
                let covers = state.position();
                state.push(Entry::DirectorySync { directory: directory_of(&name), covers });
            }
        }
        code
    }
}

/// An open file that is recorded.
#[derive(Debug)]
pub(crate) struct TrackedFile {
    shared: Arc<Shared>,
    file: FileId,
    name: Arc<Path>,
    directory_sync_due: AtomicBool,
}

impl TrackedFile {
    /// `real` writes the first so many of the bytes. The lock is held meanwhile, so that the log
    /// has the order in which the bytes got to the file.
    pub(crate) fn write(&self, offset: i64, bytes: &[u8], real: impl FnOnce(usize) -> i32) -> i32 {
        let mut state = self.shared.lock();
        let fault = state.faults.on_write(&self.name);
        let len = match fault {
            // A full disk takes some blocks of a write before it refuses the rest.
            Some(_) => bytes.len() / 2 / SECTOR * SECTOR,
            None => bytes.len(),
        };
        if len > 0 {
            let code = real(len);
            if code != SQLITE_OK {
                // The machine's own disk failed. What landed is unknown, and SQLite will not use it.
                return code;
            }
            let (file, bytes) = (self.file, bytes[..len].into());
            state.push(Entry::Write { file, offset: offset.unsigned_abs(), bytes });
        }
        fault.unwrap_or(SQLITE_OK)
    }

    pub(crate) fn truncate(&self, size: i64, real: impl FnOnce() -> i32) -> i32 {
        let mut state = self.shared.lock();
        let code = real();
        if code == SQLITE_OK {
            state.push(Entry::Truncate { file: self.file, size: size.unsigned_abs() });
        }
        code
    }

    /// The lock is not held while the disk works, so others may write meanwhile: what they write is
    /// not covered.
    pub(crate) fn sync(&self, flags: i32, real: impl FnOnce() -> i32) -> i32 {
        let mut state = self.shared.lock();
        let (file, covers) = (self.file, state.position());
        if let Some(code) = state.faults.on_sync(&self.name) {
            state.push(Entry::SyncFailed { file, covers });
            return code;
        }
        drop(state);
        let code = real();
        let mut state = self.shared.lock();
        if code != SQLITE_OK {
            state.push(Entry::SyncFailed { file, covers });
            return code;
        }
        state.push(Entry::Sync { file, covers, flags });
        if self.directory_sync_due.swap(false, Ordering::Relaxed) {
            state.push(Entry::DirectorySync { directory: directory_of(&self.name), covers });
        }
        code
    }
}

fn directory_of(name: &Path) -> PathBuf {
    name.parent().unwrap_or(Path::new("")).to_owned()
}

/// All regular files under `root`, but not SQLite's shared memory, in the order of their names.
fn regular_files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() && !entry.file_name().to_string_lossy().ends_with("-shm") {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// While the disk is busy with a sync others go on writing, and the sync says nothing of that.
    #[test]
    fn a_sync_covers_what_came_before_it_was_asked_for() {
        let dir = crate::scratch_dir().unwrap();
        let shared = Arc::new(Shared::of_directory(dir.path()).unwrap());
        let path = shared.root.join("a");
        let write_ok = |_| SQLITE_OK;
        let Ok(Some(file)) = shared.open(Some(&path), true, || SQLITE_OK) else { panic!("not recorded") };
        assert_eq!(file.write(0, b"before", write_ok), SQLITE_OK);
        assert_eq!(file.sync(2, || file.write(6, b"meanwhile", write_ok)), SQLITE_OK);

        let state = shared.lock();
        let (file, covers) = (file.file, LogPosition::after(2));
        let [.., sync, directory_sync] = &state.entries[..] else { panic!("{:?}", state.entries) };
        assert_eq!(*sync, Entry::Sync { file, covers, flags: 2 });
        assert_eq!(*directory_sync, Entry::DirectorySync { directory: PathBuf::new(), covers });
    }
}
