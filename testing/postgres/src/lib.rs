//! PostgreSQL servers that live as long as a test: of the packaged version, each in a temporary directory that goes with
//! the process, reached by a socket in that directory.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "for tests: without its server a test cannot go on, and has failed"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// What to do where there is no PostgreSQL.
pub const MISSING: &str = "these tests need PostgreSQL 14 or newer: install the packages postgresql and postgresql-client \
    (Debian: apt-get install postgresql), or put initdb into PATH";

/// The superuser of every server here.
pub const USER: &str = "onefold";

/// The database that is there from the start.
pub const DATABASE: &str = "postgres";

const KEEPER: &str = include_str!("keeper.sh");

/// What holds for all: found by its socket alone, and room for many nodes.
const SETTINGS: &str = "-c listen_addresses= -c max_connections=300 -c log_min_messages=error";

/// For servers that nobody pulls the plug of, and that live but a minute.
pub const THROW_AWAY: &[(&str, &str)] =
    &[("fsync", "off"), ("full_page_writes", "off"), ("autovacuum", "off")];

/// A server, and who keeps it.
pub struct Server {
    directory: PathBuf,
    settings: String,
    port: String,
    keeper: Mutex<Keeper>,
}

struct Keeper {
    /// Its input is what keeps it alive.
    _process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Server {
    /// A new server with these settings.
    ///
    /// # Panics
    /// If it cannot be, with what to install.
    pub fn start(settings: &[(&str, &str)]) -> Server {
        let server = Server::of_nobody(settings);
        server.run(&format!("\"$bin/initdb\" -D data -U {USER} -A trust -E UTF8 --locale=C --no-sync"));
        server.start_again();
        server
    }

    /// A standby that streams from `primary`, known to it by `name`.
    ///
    /// # Panics
    /// If it cannot be.
    pub fn standby_of(primary: &Server, name: &str, settings: &[(&str, &str)]) -> Server {
        let server = Server::of_nobody(settings);
        let primary = primary.directory.display();
        server.run(&format!(
            "\"$bin/pg_basebackup\" -d 'host={primary} user={USER} application_name={name}' -D data -R -X stream -c fast \
             --no-sync"
        ));
        server.start_again();
        server
    }

    fn of_nobody(settings: &[(&str, &str)]) -> Server {
        let mut words = SETTINGS.to_owned();
        for (name, value) in settings {
            words.push_str(&format!(" -c {name}={value}"));
        }
        let mut process = command(&programs().expect(MISSING)).spawn().expect(MISSING);
        let mut answers = BufReader::new(process.stdout.take().expect("its output is piped"));
        let commands = process.stdin.take().expect("its input is piped");
        let directory = PathBuf::from(line(&mut answers));
        assert!(directory.is_absolute(), "there is no directory for a PostgreSQL server; {MISSING}");
        let keeper = Mutex::new(Keeper { _process: process, commands, answers });
        let port = settings.iter().find(|(name, _)| *name == "port").map_or("5432", |(_, port)| *port);
        Server { directory, settings: words, port: port.to_owned(), keeper }
    }

    /// Where its socket is: the `host` of a connection.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(format!(".s.PGSQL.{}", self.port))
    }

    /// Starts it where it was stopped, and waits until it takes connections.
    ///
    /// # Panics
    /// If it does not.
    pub fn start_again(&self) {
        let settings = &self.settings;
        self.run(&format!(
            "\"$bin/pg_ctl\" -D data -l log -w -t 120 -o \"-k '$dir' {settings}\" start || {{ cat log; exit 1; }}"
        ));
    }

    /// Ends it without a goodbye to anybody, and without a checkpoint.
    ///
    /// # Panics
    /// If it does not run.
    pub fn stop_immediately(&self) {
        self.run("\"$bin/pg_ctl\" -D data -m immediate -w stop");
    }

    /// Makes a standby the primary, and waits until it takes writes.
    ///
    /// # Panics
    /// If it is none.
    pub fn promote(&self) {
        self.run("\"$bin/pg_ctl\" -D data -w promote");
    }

    /// Runs SQL as the superuser: what it printed, values between `|`.
    ///
    /// # Panics
    /// If the server refuses it.
    pub fn psql(&self, sql: &str) -> String {
        let quoted = sql.replace('\'', r"'\''");
        self.run(&format!(
            "\"$bin/psql\" -X -q -A -t -v ON_ERROR_STOP=1 -h \"$dir\" -p {} -U {USER} -d {DATABASE} -c '{quoted}'",
            self.port
        ))
    }

    /// Runs a line of shell as the server's user, in its directory.
    fn run(&self, command: &str) -> String {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(keeper.commands, "{command}").expect("the keeper of a server listens");
        let verdict = line(&mut keeper.answers);
        let (verdict, lines) = verdict.split_once(' ').expect("a verdict and a number");
        let lines = lines.trim().parse().expect("a number of lines");
        let said: Vec<String> = (0..lines).map(|_| line(&mut keeper.answers)).collect();
        let said = said.join("\n").trim().to_owned();
        assert!(verdict == "ok", "{command} failed: {said}");
        said
    }
}

/// Runs SQL over a connection of its own to this address: what it printed.
///
/// # Errors
/// What `psql` said if it failed: whether a commit in it happened may not be known.
pub fn psql(address: &str, sql: &str) -> Result<String, String> {
    let mut psql = Command::new(programs().expect(MISSING).join("psql"));
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", address, "-c", sql]);
    let output = psql.env("PGCONNECT_TIMEOUT", "3").stdin(Stdio::null()).output().expect(MISSING);
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("the keeper of a server speaks UTF-8");
    line.truncate(line.trim_end_matches('\n').len());
    line
}

/// The keeper, as somebody PostgreSQL runs for: not root.
fn command(bin: &Path) -> Command {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let mut command = Command::new(if is_root { "runuser" } else { "sh" });
    if is_root {
        command.args(["-u", "postgres", "--", "sh"]);
    }
    command.args(["-c", KEEPER, "sh"]).arg(bin).current_dir("/");
    // It ends a moment after us, and must not hold what waits for the end of our output.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// The directory of the programs: where distributions put them, the newest first, or in PATH.
fn programs() -> Option<PathBuf> {
    let needed = ["initdb", "postgres", "pg_ctl", "pg_basebackup", "psql"];
    let has_all = |dir: &PathBuf| needed.iter().all(|name| dir.join(name).is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut packaged: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    packaged.sort();
    packaged.into_iter().rev().chain(std::env::split_paths(&path)).find(has_all)
}
