//! What `kill.rs` and `demo.rs` ask of a store in a directory, asked of one in PostgreSQL. The servers are killed, the database
//! is not: what happens to that is the matter of `testing/cluster`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

#[path = "demo/page.rs"]
mod page;
#[path = "kill/rounds.rs"]
mod rounds;

use std::time::Duration;

use onefold_e2e::{Process, Server, onefold_command};
use onefold_test_postgres::{DATABASE, Server as Postgres, USER};

/// Commits are made durable as they are where it matters.
fn postgres() -> (Postgres, String) {
    let postgres = Postgres::start(&[("autovacuum_naptime", "1s")]);
    let address = format!("host={} user={USER} dbname={DATABASE}", postgres.directory().display());
    (postgres, address)
}

/// I1–I6 under SIGKILL, as for a directory.
#[test]
fn what_clients_were_told_is_so_after_any_number_of_sigkills() {
    let (_postgres, address) = postgres();
    let dir = tempfile::tempdir().unwrap();
    rounds::kill_under_load(Server::start_on(&address, dir.path(), &[]).unwrap(), 20_000);
}

/// Without faults, N accepted jobs are N deliveries: none is lost, and none is run twice.
#[test]
fn without_faults_every_job_is_delivered_once() {
    let (_postgres, address) = postgres();
    let dir = tempfile::tempdir().unwrap();
    rounds::deliver_in_peace(&Server::start_on(&address, dir.path(), &[]).unwrap());
}

/// The demo prints the same page, and leaves neither a directory nor a schema behind.
#[test]
fn the_demo_charges_customers_once_on_two_nodes() {
    let (postgres, address) = postgres();
    let room = tempfile::tempdir().unwrap();
    let mut command = onefold_command(room.path());
    command.env("TMPDIR", room.path()).args(["demo", "--orders", "300", "--postgres", &address]);
    let (status, printed, errors) = Process::start(&mut command, "").finish(Duration::from_secs(180));
    assert_eq!(status.code(), Some(0), "{printed:?}\n{errors}");
    page::is_sound(&printed, 300);
    assert!(errors.contains("they are killed, the database is not"), "{errors}");
    assert!(std::fs::read_dir(room.path()).unwrap().next().is_none(), "the demo left something behind");
    assert_eq!(postgres.psql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'onefold%'"), "0");
}
