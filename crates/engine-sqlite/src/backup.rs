//! A consistent copy of the store beside running work.

use std::path::Path;

use onefold_core::{BackupDone, EngineError, EngineResult};
use rusqlite::backup::{Backup, StepResult};

/// Pages copied at a time.
const PAGES_PER_STEP: std::ffi::c_int = 1_024;

/// Copies the database to `to`, which must not exist.
pub(crate) fn write(database: &Path, vfs: Option<&str>, to: &Path) -> EngineResult<BackupDone> {
    let refused = |what: String| EngineError::Io(format!("the backup to {} failed: {what}", to.display()));
    // Made here, so that two backups never write one file.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(to)
        .map_err(|e| refused(e.to_string()))?;
    let copied = copy(database, vfs, to).map_err(|error| refused(error.to_string()));
    if let Err(error) = copied {
        let _ = std::fs::remove_file(to);
        return Err(error);
    }
    file.sync_all().map_err(|error| refused(error.to_string()))?;
    let bytes = to.metadata().map_err(|error| refused(error.to_string()))?.len();
    Ok(BackupDone { bytes })
}

fn copy(database: &Path, vfs: Option<&str>, to: &Path) -> rusqlite::Result<()> {
    let from = crate::open::connect(database, vfs, false)?;
    // A read transaction pins one moment: the copy never starts over because of the writer.
    from.execute_batch("BEGIN; SELECT count(*) FROM onefold_meta;")?;
    let mut copy = rusqlite::Connection::open(to)?;
    {
        let backup = Backup::new(&from, &mut copy)?;
        while backup.step(PAGES_PER_STEP)? != StepResult::Done {}
    }
    // As a single file: no log beside it.
    copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))
}
