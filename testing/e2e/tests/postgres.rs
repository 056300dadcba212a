//! The command line and a real PostgreSQL: how a node starts and is refused, what it says when the database is away, and that
//! it goes on by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

#[path = "postgres/bad_input.rs"]
mod bad_input;
#[path = "postgres/doctor.rs"]
mod doctor;
#[path = "postgres/outage.rs"]
mod outage;
#[path = "postgres/tls.rs"]
mod tls;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use onefold_e2e::{Process, Server, onefold_command, until};
use onefold_test_postgres::{DATABASE, Server as Postgres, THROW_AWAY, USER};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// For tests that need no server of their own.
static SHARED: LazyLock<Postgres> = LazyLock::new(|| Postgres::start(THROW_AWAY));

fn address_of(postgres: &Postgres) -> String {
    format!("host={} user={USER} dbname={DATABASE}", postgres.directory().display())
}

/// A port nobody listens at just now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A directory to run commands in, and a schema nobody used yet.
struct Room {
    dir: tempfile::TempDir,
    schema: String,
}

/// What a command did.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Room {
    fn new() -> Room {
        static SCHEMAS: AtomicU64 = AtomicU64::new(0);
        let number = SCHEMAS.fetch_add(1, Ordering::Relaxed);
        Room { dir: tempfile::tempdir().unwrap(), schema: format!("room_{number}") }
    }

    /// Runs a command to its end, with the settings in its environment.
    fn run(&self, address: &str, arguments: &[&str]) -> Ran {
        let mut command = onefold_command(self.dir.path());
        command.env("ONEFOLD_POSTGRES", address).env("ONEFOLD_POSTGRES_SCHEMA", &self.schema);
        let (status, out, err) = Process::start(command.args(arguments), "").finish(PATIENCE);
        Ran { code: status.code(), out: out.join("\n"), err }
    }

    /// Starts a server that must not come up; it waits for nothing.
    fn refused(&self, address: &str) -> String {
        let ran = self.run(address, &["serve", "--listen", "127.0.0.1:0", "--postgres-wait", "0s"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.out.is_empty(), "{ran:?}");
        ran.err
    }

    fn serve(&self, address: &str) -> Server {
        let server = self.try_serve(address, &[]);
        server.unwrap_or_else(|errors| panic!("the server did not start: {errors}"))
    }

    fn try_serve(&self, address: &str, arguments: &[&str]) -> Result<Server, String> {
        let schema = ["--postgres-schema", &self.schema];
        Server::start_on(address, self.dir.path(), &[&schema[..], arguments].concat())
    }
}

fn ready(server: &Server) -> (u16, Value) {
    let reply = server.client().get("/readyz");
    (reply.status, reply.json())
}
