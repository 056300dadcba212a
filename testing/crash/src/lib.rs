//! Power loss for programs that store with SQLite.
//!
//! Killing a process never proves that it syncs: the operating system still writes what the process
//! left behind. So a [`Recorder`] puts itself between SQLite and the files and writes down every
//! write, truncation, deletion and sync, in order, together with the application's own
//! [marks](Recorder::mark) of what it told its clients. A [`Sweep`] then goes through that [`Log`] and
//! for every position makes the files as a disk may hold them if power fails right there, see
//! [`Policy`], and lets the application's check say whether everything is there that was promised.
//!
//! ```
//! use onefold_crash::{PowerLoss, Recorder, Sweep, scratch_dir};
//! use rusqlite::{Connection, OpenFlags};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = scratch_dir()?;
//! let recorder = Recorder::install(dir.path())?;
//! let db = Connection::open_with_flags_and_vfs(
//!     dir.path().join("test.db"),
//!     OpenFlags::default(),
//!     recorder.vfs_name(),
//! )?;
//! db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (x);")?;
//! db.execute("INSERT INTO t VALUES (1)", [])?;
//! recorder.mark("the client was told that 1 is there");
//!
//! let report = Sweep::over(recorder.log()).run(|loss: &PowerLoss| -> rusqlite::Result<()> {
//!     let db = Connection::open(loss.dir.join("test.db"))?;
//!     for _told in loss.marks {
//!         db.query_row("SELECT 1 FROM t WHERE x = 1", [], |_row| Ok(()))?;
//!     }
//!     Ok(())
//! })?;
//! assert!(report.images > 0);
//! # Ok(())
//! # }
//! ```
//!
//! A [`Fault`] makes a sync or a write fail while recording.

mod dice;
mod disk;
mod fault;
mod log;
mod recorder;
mod sweep;
mod vfs;

pub use disk::{Image, Policy, SECTOR};
pub use fault::Fault;
pub use log::{Entry, FileId, Log, LogPosition, Mark};
pub use recorder::{InstallError, Recorder, RegisterError};
pub use sweep::{PowerLoss, Sweep, SweepFailure, SweepReport, scratch_dir};
