//! I4 over a restore: a data directory of an earlier moment never hands out a token again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::path::Path;
use std::time::Duration;

use onefold_e2e::{Client, Gate, Lease, Process, Server, onefold_command};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);
const JOBS: usize = 200;

fn add(client: &mut Client, count: usize) {
    let jobs: Vec<_> = (0..count).map(|n| json!({ "payload": n })).collect();
    client.post("/v1/queues/work/jobs", &json!(jobs)).ok();
}

fn lease(client: &mut Client, count: usize) -> Vec<Lease> {
    let body = json!({"queues": ["work"], "max": count, "lease": "1h", "worker": "somebody"});
    let leased = client.post("/v1/leases", &body).ok();
    let leases: Vec<Lease> = leased["jobs"].as_array().unwrap().iter().map(Lease::of).collect();
    assert_eq!(leases.len(), count);
    leases
}

fn all_larger(after: &[Lease], before: &[Lease]) {
    let highest = before.iter().map(|lease| lease.token).max().unwrap();
    assert!(after.iter().all(|lease| lease.token > highest), "{after:?} after {highest}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Tokens follow the clock: those of a store opened in a later second are larger than any of an earlier one. A file
/// of an hour ago is a file of more than a second ago.
fn into_the_next_second() {
    Gate::new().pause(Duration::from_millis(1_050));
}

/// Somebody copies the data directory back from an earlier moment: jobs run again, tokens do not come again, and who
/// held a job before the restore is not taken for its holder.
#[test]
fn a_data_directory_copied_back_reissues_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copied) = (dir.path().join("data"), dir.path().join("copied"));
    let mut server = Server::start(&data);
    let mut client = server.client();
    add(&mut client, JOBS);
    let mut before = lease(&mut client, 20);
    assert!(server.terminate().0.success());
    copy(&data, &copied);
    server.restart();
    before.extend(lease(&mut server.client(), JOBS - 20));
    server.kill();
    into_the_next_second();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&copied, &data);
    server.restart();
    let mut client = server.client();
    let after = lease(&mut client, JOBS - 20);
    all_larger(&after, &before);
    let again = before.iter().find(|lease| lease.id == after[0].id).unwrap();
    assert_eq!(complete(&mut client, again), "lease-lost");
    assert_eq!(complete(&mut client, &after[0]), "completed");
}

/// The code of a refusal, or the state it led to.
fn complete(client: &mut Client, lease: &Lease) -> String {
    let op = json!({"op": "complete", "id": lease.id, "fencing_token": lease.token});
    let settled = client.post("/v1/leases/settle", &json!({ "ops": [op] })).ok();
    let result = &settled["results"][0];
    result["code"].as_str().or(result["state"].as_str()).unwrap().to_owned()
}

/// The same with the commands that are made for it.
#[test]
fn a_backup_put_back_reissues_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data);
    let mut client = server.client();
    add(&mut client, JOBS);
    let mut before = lease(&mut client, 20);
    run(&server, dir.path(), &["backup", "monday.db"]);
    before.extend(lease(&mut client, JOBS - 20));
    server.kill();
    into_the_next_second();
    run(&server, dir.path(), &["restore", "monday.db", "--data", data.to_str().unwrap(), "--force"]);
    server.restart();
    all_larger(&lease(&mut server.client(), JOBS - 20), &before);
}

fn run(server: &Server, dir: &Path, arguments: &[&str]) {
    let mut command = onefold_command(dir);
    let mut process = Process::start(command.env("ONEFOLD_URL", server.url()).args(arguments), "");
    let (status, printed, errors) = process.finish(PATIENCE);
    assert!(status.success(), "{arguments:?}: {printed:?}\n{errors}");
}
