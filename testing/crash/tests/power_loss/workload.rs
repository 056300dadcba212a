//! Numbered commits, and a check that says what became of them.

use std::fmt;
use std::path::Path;

use onefold_crash::{PowerLoss, Recorder, Sweep, SweepFailure, SweepReport};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

pub(crate) const DATABASE: &str = "test.db";
/// Rows of one commit. They lie on different pages, so a commit that is torn shows.
const PARTS: i64 = 3;

/// Connects through the VFS of that name, or the normal one.
pub(crate) fn connect(dir: &Path, vfs: Option<&str>) -> Connection {
    let (path, flags) = (dir.join(DATABASE), OpenFlags::default());
    match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
        None => Connection::open_with_flags(path, flags),
    }
    .unwrap()
}

/// When the client of a workload is told that its commit is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    After,
    Before,
    Never,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) journal: &'static str,
    pub(crate) synchronous: &'static str,
    pub(crate) commits: i64,
    /// Commits between checkpoints, which take turns in being passive, restarting and truncating.
    pub(crate) checkpoint_every: i64,
    pub(crate) told: Told,
}

impl Workload {
    pub(crate) const WAL_FULL: Workload = Workload {
        journal: "WAL",
        synchronous: "FULL",
        commits: 200,
        checkpoint_every: 17,
        told: Told::After,
    };

    pub(crate) fn open(&self, recorder: &Recorder) -> Connection {
        let db = connect(recorder.dir(), Some(recorder.vfs_name()));
        let mode: String =
            db.query_row(&format!("PRAGMA journal_mode = {}", self.journal), [], |row| row.get(0)).unwrap();
        assert_eq!(mode.to_uppercase(), self.journal);
        db.pragma_update(None, "synchronous", self.synchronous).unwrap();
        db.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        db.execute_batch(
            "BEGIN IMMEDIATE;
             CREATE TABLE IF NOT EXISTS parts (n, part, filler, UNIQUE (part, n));
             CREATE TABLE IF NOT EXISTS total (commits);
             INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT * FROM total);
             COMMIT;",
        )
        .unwrap();
        db
    }

    pub(crate) fn run(&self, recorder: &Recorder) {
        let db = self.open(recorder);
        let checkpointer = connect(recorder.dir(), Some(recorder.vfs_name()));
        checkpointer.pragma_update(None, "synchronous", self.synchronous).unwrap();
        let modes = ["PASSIVE", "RESTART", "TRUNCATE"];
        let mut modes = modes.iter().cycle();
        for n in 1..=self.commits {
            if self.told == Told::Before {
                recorder.mark(n.to_string());
            }
            commit(&db, n).unwrap();
            if self.told == Told::After {
                recorder.mark(n.to_string());
            }
            if n % self.checkpoint_every == 0 && self.journal == "WAL" {
                checkpoint(&checkpointer, modes.next().unwrap()).unwrap();
            }
        }
    }

    /// Runs it on an empty directory and sweeps over what was recorded.
    pub(crate) fn sweep(
        &self,
        adjust: impl FnOnce(Sweep) -> Sweep,
    ) -> Result<SweepReport, SweepFailure<Broken>> {
        let dir = onefold_crash::scratch_dir().unwrap();
        let recorder = Recorder::install(dir.path()).unwrap();
        self.run(&recorder);
        let result = adjust(Sweep::over(recorder.log())).run(check);
        match &result {
            Ok(report) => println!("{self:?}\n  {report}"),
            Err(failure) => println!("{self:?}\n  {failure}"),
        }
        result
    }
}

pub(crate) fn commit(db: &Connection, n: i64) -> rusqlite::Result<()> {
    let tx = db.unchecked_transaction()?;
    for part in 0..PARTS {
        tx.prepare_cached("INSERT INTO parts VALUES (?1, ?2, ?3)")?.execute(params![
            n,
            part,
            filler(n, part)
        ])?;
    }
    tx.prepare_cached("UPDATE total SET commits = ?1")?.execute([n])?;
    tx.commit()
}

pub(crate) fn checkpoint(db: &Connection, mode: &str) -> rusqlite::Result<()> {
    db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
}

fn filler(n: i64, part: i64) -> Vec<u8> {
    let byte = u8::try_from((n * PARTS + part) % 251).unwrap();
    vec![byte; usize::try_from(60 + n % 90).unwrap()]
}

/// What a check of the files found wrong.
#[derive(Debug)]
pub(crate) enum Broken {
    /// A commit is gone that the client was told of.
    Lost { commit: i64, present: i64 },
    /// What is there is not "the first so many commits, each whole".
    NotAPrefix(&'static str),
    /// SQLite says that the file is damaged.
    Damaged(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Lost { commit, present } => {
                write!(f, "commit {commit} was acknowledged, but only {present} are there")
            }
            Broken::NotAPrefix(what) => write!(f, "the commits are no prefix: {what}"),
            Broken::Damaged(what) => write!(f, "the database is damaged: {what}"),
        }
    }
}

impl From<rusqlite::Error> for Broken {
    fn from(error: rusqlite::Error) -> Broken {
        Broken::Damaged(error.to_string())
    }
}

/// The rule: what is there is a prefix of the commits, and holds every one the client was told of.
pub(crate) fn check(loss: &PowerLoss<'_>) -> Result<(), Broken> {
    let told = loss.marks.iter().map(|mark| std::str::from_utf8(&mark.label).unwrap().parse().unwrap()).max();
    let present = commits_in(loss.dir)?;
    match told {
        Some(commit) if commit > present => Err(Broken::Lost { commit, present }),
        _ => Ok(()),
    }
}

/// How many commits the database holds, if they are a prefix.
pub(crate) fn commits_in(dir: &Path) -> Result<i64, Broken> {
    let db = connect(dir, None);
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Broken::Damaged(verdict));
    }
    let tables: i64 =
        db.query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get(0))?;
    match tables {
        0 => return Ok(0),
        2 => {}
        _ => return Err(Broken::NotAPrefix("half of the schema is there")),
    }
    let total: Option<i64> = db.query_row("SELECT commits FROM total", [], |row| row.get(0)).optional()?;
    let total = total.ok_or(Broken::NotAPrefix("the total is gone"))?;
    let mut expected = (1..=total).flat_map(|n| (0..PARTS).map(move |part| (n, part)));
    let mut rows = db.prepare("SELECT n, part, filler FROM parts ORDER BY n, part")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let (n, part): (i64, i64) = (row.get(0)?, row.get(1)?);
        if expected.next() != Some((n, part)) {
            return Err(Broken::NotAPrefix("the total and the rows are not of one commit"));
        }
        if row.get_ref(2)?.as_blob().ok() != Some(filler(n, part).as_slice()) {
            return Err(Broken::NotAPrefix("a row holds other bytes than were committed"));
        }
    }
    match expected.next() {
        None => Ok(total),
        Some(_) => Err(Broken::NotAPrefix("rows of a counted commit are gone")),
    }
}
