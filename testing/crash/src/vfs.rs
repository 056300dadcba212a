//! SQLite's door to the recorder: a VFS that hands every call to SQLite's own `unix` VFS and tells
//! the recorder of those that change what a disk holds.
#![allow(unsafe_code, reason = "a VFS is a table of C functions: docs/decisions/0001")]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]
// How memory lies here. SQLite allocates `szOsFile` bytes for an open file: a `Head` of ours, right
// behind it the file of the `unix` VFS. What a registered VFS points to is never freed, because
// nothing tells when the last connection that uses it is closed.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rusqlite::ffi::{
    self, SQLITE_CANTOPEN, SQLITE_IOERR, SQLITE_OK, sqlite3_file, sqlite3_int64, sqlite3_io_methods,
    sqlite3_vfs,
};

use crate::recorder::{RegisterError, Shared, TrackedFile};

/// A registered VFS. Dropping it keeps new connections from using it.
#[derive(Debug)]
pub(crate) struct Registration {
    vfs: NonNull<sqlite3_vfs>,
    name: String,
}

// SAFETY: the pointer is only used to unregister, which SQLite guards with a mutex of its own.
unsafe impl Send for Registration {}
// SAFETY: as above; a shared reference gives out nothing but the name.
unsafe impl Sync for Registration {}

impl Registration {
    /// `name` must be unique in the process and free of NUL bytes.
    pub(crate) fn new(name: String, shared: Arc<Shared>) -> Result<Registration, RegisterError> {
        let c_name = CString::new(name.as_str()).map_err(|_| RegisterError::Refused(ffi::SQLITE_MISUSE))?;
        // SAFETY: a NUL-terminated name; SQLite's list of VFSs may be asked at any time.
        let base = NonNull::new(unsafe { ffi::sqlite3_vfs_find(c"unix".as_ptr()) });
        let base = base.ok_or(RegisterError::NoUnixVfs)?;
        // SAFETY: SQLite's own VFSs are static, and nothing changes these fields.
        let (base_size, path_max) = unsafe { ((*base.as_ptr()).szOsFile, (*base.as_ptr()).mxPathname) };
        let vfs = Box::leak(Box::new(sqlite3_vfs {
            iVersion: 2,
            szOsFile: size_of::<Head>() as c_int + base_size,
            mxPathname: path_max,
            pNext: ptr::null_mut(),
            zName: c_name.into_raw(),
            pAppData: Box::into_raw(Box::new(App { shared, base })).cast(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            xDlOpen: Some(dl_open),
            xDlError: Some(dl_error),
            xDlSym: Some(dl_sym),
            xDlClose: Some(dl_close),
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(current_time),
            xGetLastError: Some(get_last_error),
            xCurrentTimeInt64: Some(current_time_int64),
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        }));
        // SAFETY: `vfs` is complete and lives for ever, so does all it points to.
        match unsafe { ffi::sqlite3_vfs_register(vfs, 0) } {
            SQLITE_OK => Ok(Registration { vfs: NonNull::from(vfs), name }),
            code => Err(RegisterError::Refused(code)),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: it was registered; SQLite only takes it off its list, open files keep using it.
        unsafe { ffi::sqlite3_vfs_unregister(self.vfs.as_ptr()) };
    }
}

/// What `pAppData` points to. Never changes, so that all threads may read it.
struct App {
    shared: Arc<Shared>,
    base: NonNull<sqlite3_vfs>,
}

/// Our part of an open file.
#[repr(C)]
struct Head {
    sqlite: sqlite3_file,
    tracked: Option<Box<TrackedFile>>,
}

/// # Safety
/// `vfs` is one that [`Registration::new`] registered.
unsafe fn app<'a>(vfs: *mut sqlite3_vfs) -> &'a App {
    // SAFETY: such a VFS and its `App` are never freed, and the `App` never changes.
    unsafe { &*(*vfs).pAppData.cast::<App>() }
}

/// The `unix` VFS. Only fields may be read of it, no reference made: SQLite changes its `pNext`.
///
/// # Safety
/// As for [`app`].
unsafe fn base_vfs(vfs: *mut sqlite3_vfs) -> *mut sqlite3_vfs {
    // SAFETY: by the caller's word.
    unsafe { app(vfs).base.as_ptr() }
}

/// The file of the `unix` VFS behind our head.
///
/// # Safety
/// `file` is memory of `szOsFile` bytes that SQLite allocated for a VFS of ours.
unsafe fn behind_head(file: *mut sqlite3_file) -> *mut sqlite3_file {
    const { assert!(size_of::<Head>().is_multiple_of(8) && align_of::<Head>() <= 8) };
    // SAFETY: `szOsFile` is the head and the base's file; the head keeps SQLite's alignment of 8.
    unsafe { file.cast::<u8>().add(size_of::<Head>()).cast() }
}

/// The file of the `unix` VFS, its methods, and our record of it.
///
/// # Safety
/// `file` was opened by [`open`] and is not closed. SQLite uses an open file from one thread at a time.
unsafe fn opened<'a>(
    file: *mut sqlite3_file,
) -> (*mut sqlite3_file, &'a sqlite3_io_methods, Option<&'a TrackedFile>) {
    // SAFETY: `open` wrote the head and left the base's file with static methods, else it failed.
    unsafe {
        let base = behind_head(file);
        (base, &*(*base).pMethods, (*file.cast::<Head>()).tracked.as_deref())
    }
}

/// # Safety
/// `name` is NUL-terminated and outlives the result.
unsafe fn path<'a>(name: *const c_char) -> &'a Path {
    // SAFETY: by the caller's word.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()))
}

// The functions below are called by SQLite alone, with arguments as sqlite3.h says: `vfs` is the one
// registered, `file` is memory of `szOsFile` bytes, opened by `open` for all but `open` itself. That
// is meant by "as SQLite calls" in their safety comments.

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let head = file.cast::<Head>();
    // SAFETY: as SQLite calls. A file without methods is one that SQLite does not close.
    let (base, base_open, base_file, shared) = unsafe {
        head.write(Head { sqlite: sqlite3_file { pMethods: ptr::null() }, tracked: None });
        let base = base_vfs(vfs);
        (base, (*base).xOpen, behind_head(file), &app(vfs).shared)
    };
    let Some(base_open) = base_open else { return SQLITE_CANTOPEN };
    // Files without a name, or that are unlinked while they are used, do not outlive the process.
    let outlives = !name.is_null() && flags & ffi::SQLITE_OPEN_DELETEONCLOSE == 0;
    // SAFETY: as SQLite calls; `name` is not NULL.
    let path = outlives.then(|| unsafe { path(name) });
    // SAFETY: the arguments as SQLite gave them, but with the base's own VFS and file.
    let real = || unsafe { base_open(base, name, base_file, flags, out_flags) };
    match shared.open(path, syncs_directory(flags), real) {
        Ok(tracked) => {
            let sqlite = sqlite3_file { pMethods: &raw const METHODS };
            // SAFETY: the memory is ours, and the head written above owns nothing.
            unsafe { head.write(Head { sqlite, tracked: tracked.map(Box::new) }) };
            SQLITE_OK
        }
        Err(code) => code,
    }
}

/// The `unix` VFS syncs the directory with the first sync of a journal or log it was told to create
/// (`UNIXFILE_DIRSYNC` in its source), of a database never.
fn syncs_directory(flags: c_int) -> bool {
    let journal = ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL;
    flags & ffi::SQLITE_OPEN_CREATE != 0 && flags & journal != 0
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync_directory: c_int) -> c_int {
    // SAFETY: as SQLite calls.
    let (shared, base, path) = unsafe { (&app(vfs).shared, base_vfs(vfs), path(name)) };
    // SAFETY: as above.
    let Some(base_delete) = (unsafe { (*base).xDelete }) else { return SQLITE_IOERR };
    // SAFETY: the arguments as SQLite gave them, with the base's own VFS.
    shared.delete(path, sync_directory & 1 != 0, || unsafe { base_delete(base, name, sync_directory) })
}

/// No `xFetch`: every write comes through `write`.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: as SQLite calls; it closes once and does not use the file again.
    unsafe {
        let (base, methods, _) = opened(file);
        let code = methods.xClose.map_or(SQLITE_IOERR, |base_close| base_close(base));
        file.cast::<Head>().drop_in_place();
        code
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: as SQLite calls.
    let (base, methods, tracked) = unsafe { opened(file) };
    let Some(base_write) = methods.xWrite else { return SQLITE_IOERR };
    // SAFETY: no more of what SQLite wants written than it offered.
    let real = |len: usize| unsafe { base_write(base, from, len as c_int, offset) };
    let len = usize::try_from(amount).unwrap_or(0);
    match tracked {
        None => real(len),
        Some(tracked) => {
            // SAFETY: as SQLite calls: `from` has `amount` bytes, which stay as they are meanwhile.
            let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), len) };
            tracked.write(offset, bytes, real)
        }
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: as SQLite calls.
    let (base, methods, tracked) = unsafe { opened(file) };
    let Some(base_truncate) = methods.xTruncate else { return SQLITE_IOERR };
    // SAFETY: as SQLite calls, with the base's file.
    let real = || unsafe { base_truncate(base, size) };
    tracked.map_or_else(real, |tracked| tracked.truncate(size, real))
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: as SQLite calls.
    let (base, methods, tracked) = unsafe { opened(file) };
    let Some(base_sync) = methods.xSync else { return SQLITE_IOERR };
    // SAFETY: as SQLite calls, with the base's file.
    let real = || unsafe { base_sync(base, flags) };
    tracked.map_or_else(real, |tracked| tracked.sync(flags, real))
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, op: c_int, argument: *mut c_void) -> c_int {
    match op {
        // Both let the base grow a file by means other than a write; neither is more than advice.
        ffi::SQLITE_FCNTL_SIZE_HINT | ffi::SQLITE_FCNTL_CHUNK_SIZE => SQLITE_OK,
        ffi::SQLITE_FCNTL_MMAP_SIZE => {
            // SAFETY: as SQLite calls: the argument of this operation is a 64-bit size. None is mapped.
            unsafe { argument.cast::<sqlite3_int64>().write(0) };
            SQLITE_OK
        }
        _ => {
            // SAFETY: as SQLite calls, with the base's file.
            unsafe {
                let (base, methods, _) = opened(file);
                methods.xFileControl.map_or(ffi::SQLITE_NOTFOUND, |control| control(base, op, argument))
            }
        }
    }
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    // What the model of the disk promises too: it leaves alone what lies beside a write.
    const MODELLED: c_int = ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE | ffi::SQLITE_IOCAP_SUBPAGE_READ;
    // SAFETY: as SQLite calls, with the base's file.
    unsafe {
        let (base, methods, _) = opened(file);
        methods.xDeviceCharacteristics.map_or(0, |base_has| base_has(base) & MODELLED)
    }
}

// From here on everything is handed on as it comes.

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    into: *mut c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: as SQLite calls, with the base's file.
    unsafe {
        let (base, methods, _) = opened(file);
        methods.xRead.map_or(SQLITE_IOERR, |base_read| base_read(base, into, amount, offset))
    }
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    // SAFETY: as SQLite calls, with the base's file.
    unsafe {
        let (base, methods, _) = opened(file);
        methods.xFileSize.map_or(SQLITE_IOERR, |base_size| base_size(base, size))
    }
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: as SQLite calls, with the base's file.
    unsafe {
        let (base, methods, _) = opened(file);
        methods.xLock.map_or(SQLITE_IOERR, |base_lock| base_lock(base, level))
    }
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: as SQLite calls, with the base's file.
    unsafe {
        let (base, methods, _) = opened(file);
        methods.xUnlock.map_or(SQLITE_IOERR, |base_unlock| base_unlock(base, level))
    }
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, result: *mut c_int) -> c_int {
    // SAFETY: as SQLite calls, with the base's file.
    unsafe {
        let (base, methods, _) = opened(file);
        methods.xCheckReservedLock.map_or(SQLITE_IOERR, |base_check| base_check(base, result))
    }
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    // SAFETY: as SQLite calls, with the base's file.
    unsafe {
        let (base, methods, _) = opened(file);
        methods.xSectorSize.map_or(0, |base_size| base_size(base))
    }
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    mapped: *mut *mut c_void,
) -> c_int {
    // SAFETY: as SQLite calls, with the base's file.
    unsafe {
        let (base, methods, _) = opened(file);
        methods.xShmMap.map_or(SQLITE_IOERR, |base_map| base_map(base, region, size, extend, mapped))
    }
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, offset: c_int, count: c_int, flags: c_int) -> c_int {
    // SAFETY: as SQLite calls, with the base's file.
    unsafe {
        let (base, methods, _) = opened(file);
        methods.xShmLock.map_or(SQLITE_IOERR, |base_lock| base_lock(base, offset, count, flags))
    }
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: as SQLite calls, with the base's file.
    unsafe {
        let (base, methods, _) = opened(file);
        if let Some(base_barrier) = methods.xShmBarrier {
            base_barrier(base);
        }
    }
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    // SAFETY: as SQLite calls, with the base's file.
    unsafe {
        let (base, methods, _) = opened(file);
        methods.xShmUnmap.map_or(SQLITE_IOERR, |base_unmap| base_unmap(base, delete))
    }
}

unsafe extern "C" fn access(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    result: *mut c_int,
) -> c_int {
    // SAFETY: as SQLite calls, with the base's VFS.
    unsafe {
        let base = base_vfs(vfs);
        (*base).xAccess.map_or(SQLITE_IOERR, |base_access| base_access(base, name, flags, result))
    }
}

unsafe extern "C" fn full_pathname(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: as SQLite calls, with the base's VFS.
    unsafe {
        let base = base_vfs(vfs);
        (*base).xFullPathname.map_or(SQLITE_CANTOPEN, |base_full| base_full(base, name, size, out))
    }
}

unsafe extern "C" fn dl_open(vfs: *mut sqlite3_vfs, name: *const c_char) -> *mut c_void {
    // SAFETY: as SQLite calls, with the base's VFS.
    unsafe {
        let base = base_vfs(vfs);
        (*base).xDlOpen.map_or(ptr::null_mut(), |base_open| base_open(base, name))
    }
}

unsafe extern "C" fn dl_error(vfs: *mut sqlite3_vfs, size: c_int, message: *mut c_char) {
    // SAFETY: as SQLite calls, with the base's VFS.
    unsafe {
        let base = base_vfs(vfs);
        if let Some(base_error) = (*base).xDlError {
            base_error(base, size, message);
        }
    }
}

/// `void (*)(void)`, as SQLite's binding spells it.
type Symbol = Option<unsafe extern "C" fn(*mut sqlite3_vfs, *mut c_void, *const c_char)>;

unsafe extern "C" fn dl_sym(vfs: *mut sqlite3_vfs, library: *mut c_void, symbol: *const c_char) -> Symbol {
    // SAFETY: as SQLite calls, with the base's VFS.
    unsafe {
        let base = base_vfs(vfs);
        (*base).xDlSym.and_then(|base_sym| base_sym(base, library, symbol))
    }
}

unsafe extern "C" fn dl_close(vfs: *mut sqlite3_vfs, library: *mut c_void) {
    // SAFETY: as SQLite calls, with the base's VFS.
    unsafe {
        let base = base_vfs(vfs);
        if let Some(base_close) = (*base).xDlClose {
            base_close(base, library);
        }
    }
}

unsafe extern "C" fn randomness(vfs: *mut sqlite3_vfs, size: c_int, out: *mut c_char) -> c_int {
    // SAFETY: as SQLite calls, with the base's VFS.
    unsafe {
        let base = base_vfs(vfs);
        (*base).xRandomness.map_or(0, |base_randomness| base_randomness(base, size, out))
    }
}

unsafe extern "C" fn sleep(vfs: *mut sqlite3_vfs, microseconds: c_int) -> c_int {
    // SAFETY: as SQLite calls, with the base's VFS.
    unsafe {
        let base = base_vfs(vfs);
        (*base).xSleep.map_or(0, |base_sleep| base_sleep(base, microseconds))
    }
}

unsafe extern "C" fn current_time(vfs: *mut sqlite3_vfs, julian_day: *mut f64) -> c_int {
    // SAFETY: as SQLite calls, with the base's VFS.
    unsafe {
        let base = base_vfs(vfs);
        (*base).xCurrentTime.map_or(SQLITE_IOERR, |base_time| base_time(base, julian_day))
    }
}

unsafe extern "C" fn current_time_int64(vfs: *mut sqlite3_vfs, julian_ms: *mut sqlite3_int64) -> c_int {
    // SAFETY: as SQLite calls, with the base's VFS, which has this since its version 2.
    unsafe {
        let base = base_vfs(vfs);
        (*base).xCurrentTimeInt64.map_or(SQLITE_IOERR, |base_time| base_time(base, julian_ms))
    }
}

unsafe extern "C" fn get_last_error(vfs: *mut sqlite3_vfs, size: c_int, message: *mut c_char) -> c_int {
    // SAFETY: as SQLite calls, with the base's VFS.
    unsafe {
        let base = base_vfs(vfs);
        (*base).xGetLastError.map_or(0, |base_error| base_error(base, size, message))
    }
}
