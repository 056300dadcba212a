//! Limits of queues over three nodes that are killed and started again: they are the queue's, not a node's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::net::SocketAddr;
use std::time::Duration;

use onefold_core::Timestamp;
use onefold_e2e::{Client, Gate, Server, counts, in_full, until};
use onefold_test_postgres::{DATABASE, Server as Postgres, USER};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(120);
const NODES: usize = 3;
const WORKERS_PER_NODE: usize = 2;
const KILLS: u64 = 6;

/// A queue that is limited in how many run, and one in how many begin.
const NARROW: (&str, u64) = ("narrow", 900);
const AT_ONCE: i64 = 5;
const PACED: (&str, u64) = ("paced", 140);
const BEGIN: usize = 20;
const PER_MS: i64 = 500;

/// Takes what it is given, keeps it for a round trip, and completes it, until it is over. Whatever a dead node leaves it
/// holding is left to its lease.
fn work(node: SocketAddr, worker: &str, gate: &Gate) {
    let mut client = Client::patient(node, Duration::from_secs(10));
    let call = json!({
        "queues": [NARROW.0, PACED.0], "fair": true, "max": 3, "wait": "100ms", "lease": "1s", "worker": worker
    });
    while !gate.is_over() {
        let done = client.try_post("/v1/leases", &call).and_then(|leased| {
            let leased = leased.json();
            let jobs = leased["jobs"].as_array().cloned().unwrap_or_default();
            for ends in [json!({ "op": "extend", "lease": "1s" }), json!({ "op": "complete" })] {
                let ops: Vec<Value> = jobs.iter().map(|job| op(&ends, job)).collect();
                if !ops.is_empty() {
                    client.try_post("/v1/leases/settle", &json!({ "ops": ops }))?;
                }
            }
            Ok(())
        });
        if done.is_err() {
            client = Client::patient(node, Duration::from_secs(10));
            gate.pause(Duration::from_millis(20));
        }
    }
}

fn op(what: &Value, job: &Value) -> Value {
    let mut op = what.clone();
    op["id"] = job["id"].clone();
    op["fencing_token"] = job["fencing_token"].clone();
    op
}

/// From when to when each attempt of a queue ran, by the database's clock.
fn attempts(node: SocketAddr, queue: &str) -> Vec<(i64, i64)> {
    let at = |attempt: &Value, what: &str| {
        let text = attempt[what].as_str().unwrap_or_else(|| panic!("no {what} in {attempt}"));
        text.parse::<Timestamp>().unwrap().as_unix_ms()
    };
    let jobs = in_full(node, queue);
    let attempts = jobs.iter().flat_map(|job| job["attempts"].as_array().unwrap());
    attempts.map(|attempt| (at(attempt, "started_at"), at(attempt, "ended_at"))).collect()
}

/// `concurrency` and `rate` hold over nodes and restarts: at no moment do more attempts run, and in no stretch of its
/// time do more begin.
#[test]
fn limits_hold_over_three_nodes_and_restarts() {
    let postgres = Postgres::start(&[("autovacuum_naptime", "1s")]);
    let address = format!("host={} user={USER} dbname={DATABASE}", postgres.directory().display());
    let dir = tempfile::tempdir().unwrap();
    let mut nodes: Vec<Server> =
        (0..NODES).map(|_| Server::start_on(&address, dir.path(), &[]).unwrap()).collect();
    let mut client = nodes[0].client();
    let put = |client: &mut Client, queue: &str, settings: &Value| {
        let body = settings.to_string();
        let headers = [("Content-Type", "application/json")];
        client.send(&format!("PUT /v1/queues/{queue}"), &headers, body.as_bytes()).unwrap().ok();
    };
    put(&mut client, NARROW.0, &json!({ "concurrency": AT_ONCE }));
    put(&mut client, PACED.0, &json!({ "rate": { "limit": BEGIN, "per": PER_MS } }));
    for (queue, number) in [NARROW, PACED] {
        let jobs = vec![json!({ "payload": 1 }); usize::try_from(number).unwrap()];
        client.post(&format!("/v1/queues/{queue}/jobs"), &Value::Array(jobs)).ok();
    }

    let gate = Gate::new();
    let addresses: Vec<SocketAddr> = nodes.iter().map(Server::address).collect();
    std::thread::scope(|threads| {
        let _over = gate.finish_at_last();
        for worker in 0..NODES * WORKERS_PER_NODE {
            let (node, gate) = (addresses[worker % NODES], &gate);
            threads.spawn(move || work(node, &format!("w{worker}"), gate));
        }
        let completed =
            |client: &mut Client, queue: &str| counts(client, queue)["completed"].as_u64().unwrap();
        for kill in 0..KILLS {
            let node = usize::try_from(kill).unwrap() % NODES;
            let other = &mut nodes[(node + 1) % NODES].client();
            let far_enough = NARROW.1 * (kill + 1) / (KILLS + 2);
            until("work to go on", PATIENCE, || (completed(other, NARROW.0) >= far_enough).then_some(()));
            nodes[node].restart();
        }
        for (queue, number) in [NARROW, PACED] {
            let other = &mut nodes[0].client();
            until(&format!("{queue} to be done"), PATIENCE, || {
                (completed(other, queue) == number).then_some(())
            });
        }
    });

    let narrow = attempts(addresses[0], NARROW.0);
    assert!(narrow.len() as u64 > NARROW.1, "no lease was lost, so no restart was in the way");
    // Of what ends and begins in one millisecond, the end is first.
    let mut steps: Vec<(i64, i64)> =
        narrow.iter().flat_map(|(start, end)| [(*start, 1), (*end, -1)]).collect();
    steps.sort_unstable();
    let mut running = 0;
    for (at, step) in steps {
        running += step;
        assert!(running <= AT_ONCE, "{running} run at {at}");
    }

    let mut begun: Vec<i64> = attempts(addresses[0], PACED.0).into_iter().map(|(start, _)| start).collect();
    begun.sort_unstable();
    for (first, one_too_many) in begun.iter().zip(begun.iter().skip(BEGIN)) {
        assert!(one_too_many - first >= PER_MS, "{} began within {} ms", BEGIN + 1, one_too_many - first);
    }
}
