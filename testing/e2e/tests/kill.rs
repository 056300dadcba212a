//! Kill -9 for real: the release binary under load, killed at random, also while it recovers. Afterwards everything
//! is compared with what clients were told. The power going off is another matter: see `testing/crash`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

#[path = "kill/rounds.rs"]
mod rounds;

use onefold_e2e::Server;

/// I1–I6 under SIGKILL: nothing acknowledged is lost, no key has two jobs, no token repeats or goes back, no
/// accepted completion is undone, old tokens are refused and leave evidence, counts are conserved.
#[test]
fn what_clients_were_told_is_so_after_any_number_of_sigkills() {
    let dir = tempfile::tempdir().unwrap();
    rounds::kill_under_load(Server::start(&dir.path().join("data")), 50_000);
}

/// Without faults, N accepted jobs are N deliveries: none is lost, and none is run twice.
#[test]
fn without_faults_every_job_is_delivered_once() {
    let dir = tempfile::tempdir().unwrap();
    rounds::deliver_in_peace(&Server::start(&dir.path().join("data")));
}
