//! Connections that break while they commit, both ways it can end: callers are told that the outcome is not known, and learn
//! it by repeating what they said, at any node.

use std::time::Duration;

use onefold_cluster::{Cluster, Fault, Node};
use onefold_e2e::{Client, Lease, Reply, job, now, until};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
/// What other nodes wait at the most for a transaction of a node that is gone.
const BOUND: Duration = Duration::from_secs(20);

/// What became of the commit.
const OUTCOMES: [Fault; 2] = [Fault::BreaksBefore, Fault::BreaksAfter];

/// The answer to a request during whose commit the connection breaks.
fn with_broken_commit(
    node: &Node,
    fault: Fault,
    marker: impl AsRef<[u8]>,
    ask: impl FnOnce(&mut Client) -> Reply,
) {
    let sprung = node.way().sprung();
    node.way().trap(marker, fault);
    let reply = ask(&mut node.client());
    assert_eq!(node.way().sprung(), sprung + 1, "no such transaction was committed");
    assert_eq!(reply.refusal(), (503, "outcome-unknown".to_owned()), "{}", reply.text());
}

/// I1, I3: an add of unknown outcome is resolved by repeating its key, at the same node or another.
#[test]
fn i3_repeating_the_key_tells_what_became_of_an_add() {
    let cluster = Cluster::of_primary(2);
    for (number, fault) in OUTCOMES.into_iter().enumerate() {
        for repeat_at in cluster.nodes() {
            let key = format!("key-{number}-{}", repeat_at.server.address().port());
            let job = json!({"kind": "k", "payload": 1, "key": key});
            let (one, array) = ("/v1/queues/q/jobs", json!([job]));
            with_broken_commit(cluster.node(0), fault, &key, |client| client.post(one, &job));
            let again = repeat_at.client().post(one, &job);
            let expected = match fault {
                Fault::BreaksAfter => (200, json!(true)),
                _ => (201, json!(false)),
            };
            assert_eq!((again.status, again.json()["duplicate"].clone()), expected, "{fault:?}");
            let once_more = cluster.node(1).client().post(one, &array).ok()["jobs"][0].take();
            assert_eq!((&once_more["id"], &once_more["duplicate"]), (&again.json()["id"], &json!(true)));
        }
    }
    let counts = onefold_e2e::counts(&mut cluster.node(0).client(), "q");
    assert_eq!(counts["accepted"], 4, "I2: {counts}");
}

/// The same for all of an array or none of it.
#[test]
fn i3_repeating_an_atomic_array_tells_what_became_of_it() {
    let cluster = Cluster::of_primary(1);
    let node = cluster.node(0);
    for fault in OUTCOMES {
        let keys = [format!("first-{fault:?}"), format!("second-{fault:?}")];
        let jobs: Vec<Value> =
            keys.iter().map(|key| json!({"kind": "k", "payload": 1, "key": key})).collect();
        let add = |client: &mut Client| client.post("/v1/queues/q/jobs?atomic=true", &json!(jobs));
        with_broken_commit(node, fault, &keys[1], add);
        let again = add(&mut node.client()).ok();
        let is_there = fault == Fault::BreaksAfter;
        for number in 0..2 {
            assert_eq!(again["jobs"][number]["duplicate"], is_there, "{fault:?}: {again}");
        }
    }
}

/// I6: the same end of an attempt again gets the answer the first would have got, whether or not it happened.
#[test]
fn i6_repeating_an_end_gets_its_answer() {
    let cluster = Cluster::of_primary(2);
    let node = cluster.node(0);
    for fault in OUTCOMES {
        for op in ["complete", "fail", "snooze", "release"] {
            let marker = format!("{op}-{fault:?}");
            let queue = format!("q-{marker}");
            let jobs = json!([{"kind": "k", "payload": 1}, {"kind": "k", "payload": 2}]);
            node.client().post(&format!("/v1/queues/{queue}/jobs"), &jobs).ok();
            let poll = json!({"queues": [queue], "worker": "w", "max": 2});
            let leased = node.client().post("/v1/leases", &poll).ok();
            let [lease, other] = [0, 1].map(|number| Lease::of(&leased["jobs"][number]));
            let mut end = json!({"op": op, "id": lease.id, "fencing_token": lease.token});
            let state = match op {
                "complete" => "completed",
                "fail" => "retrying",
                "snooze" => "scheduled",
                _ => "available",
            };
            match op {
                "fail" => end["error"] = json!({"message": "not this time"}),
                "snooze" => end["delay"] = json!("1h"),
                _ => {}
            }
            // Not every end sends words of the worker's: it is known by what is said together with it.
            let with =
                json!({"op": "complete", "id": other.id, "fencing_token": other.token, "result": marker});
            let settle =
                |client: &mut Client| client.post("/v1/leases/settle", &json!({ "ops": [end, with] }));
            with_broken_commit(node, fault, &marker, settle);
            for at in cluster.nodes() {
                let again = settle(&mut at.client()).ok()["results"][0].take();
                assert_eq!((&again["ok"], &again["state"]), (&json!(true), &json!(state)), "{marker}");
            }
            let job = job(&mut node.client(), &lease.id);
            assert_eq!(job["attempts"].as_array().unwrap().len(), 1, "{marker}: {job}");
        }
    }
}

/// I4: a poll of unknown outcome, repeated at the same node or another, is given the jobs it was given, and no second
/// attempt is spent on them.
#[test]
fn i4_repeating_a_poll_gets_the_jobs_it_was_given() {
    let cluster = Cluster::of_primary(2);
    let node = cluster.node(0);
    for fault in OUTCOMES {
        for (number, at) in cluster.nodes().iter().enumerate() {
            let (queue, worker) = (format!("q-{fault:?}-{number}"), format!("worker-{fault:?}-{number}"));
            let jobs: Vec<Value> = (0..3).map(|_| json!({"kind": "k", "payload": 1})).collect();
            node.client().post(&format!("/v1/queues/{queue}/jobs"), &json!(jobs)).ok();
            let poll = json!({"queues": [queue], "max": 2, "worker": worker, "poll_id": "p"});
            with_broken_commit(node, fault, &worker, |client| client.post("/v1/leases", &poll));
            let leases = |reply: Reply| -> Vec<Lease> {
                reply.ok()["jobs"].as_array().unwrap().iter().map(Lease::of).collect()
            };
            let mut held = leases(at.client().post("/v1/leases", &poll));
            let mut again = leases(node.client().post("/v1/leases", &poll));
            held.sort_by_key(|lease| lease.token);
            again.sort_by_key(|lease| lease.token);
            assert_eq!((held.len(), &held), (2, &again));
            for lease in &held {
                let attempts = job(&mut node.client(), &lease.id)["attempts"].take();
                let tokens: Vec<_> =
                    attempts.as_array().unwrap().iter().map(|a| a["fencing_token"].as_u64()).collect();
                assert_eq!(tokens, [Some(lease.token)], "{fault:?}: the one attempt there is");
            }
        }
    }
}

/// The same for a poll that is parked: its caller is given the job all the same, once.
#[test]
fn a_parked_poll_outlives_a_broken_commit() {
    let cluster = Cluster::of_primary(2);
    let node = cluster.node(0);
    for fault in OUTCOMES {
        let (queue, worker) = (format!("parked-{fault:?}"), format!("parked-worker-{fault:?}"));
        let poll = json!({"queues": [queue], "wait": "30s", "worker": worker, "poll_id": "p", "lease": "5m"});
        let leased = std::thread::scope(|threads| {
            let polling = threads.spawn(|| node.client().post("/v1/leases", &poll));
            until("the poll to be parked", PATIENCE, || {
                let metrics = node.client().get("/metrics").text();
                let parked = metrics.lines().find_map(|line| line.strip_prefix("onefold_parked_polls"));
                parked.is_some_and(|rest| !rest.ends_with(" 0")).then_some(())
            });
            node.way().trap(&worker, fault);
            let job = json!({"kind": "k", "payload": 1});
            cluster.node(1).client().post(&format!("/v1/queues/{queue}/jobs"), &job).ok();
            polling.join().unwrap()
        });
        let lease = Lease::of(&leased.ok()["jobs"][0]);
        let attempts = job(&mut node.client(), &lease.id)["attempts"].take();
        assert_eq!(attempts.as_array().unwrap().len(), 1, "{fault:?}: {attempts}");
    }
    assert_eq!(node.way().sprung(), 2);
}

/// A node that is cut off in the middle of a transaction delays the callers of its key and its jobs for a moment, and
/// keeps nobody from starting another node: the server takes the transaction back.
#[test]
fn a_node_that_is_cut_off_in_a_transaction_keeps_nobody_for_long() {
    let mut cluster = Cluster::of_primary(3);
    let job = json!({"kind": "k", "payload": 1, "key": "taken"});
    cluster.node(2).client().post("/v1/queues/leased/jobs", &json!({"kind": "k", "payload": 1})).ok();
    let poll = |worker: &str| json!({"queues": ["leased"], "worker": worker});
    let start = now();
    // Their callers get no answer before they are healed.
    let callers =
        [(0, "taken", "/v1/queues/q/jobs", job.clone()), (1, "cut-off", "/v1/leases", poll("cut-off"))].map(
            |(number, marker, path, body)| {
                let node = cluster.node(number);
                node.way().trap(marker, Fault::CutBefore);
                let mut client = node.client();
                let caller = std::thread::spawn(move || client.try_post(path, &body));
                until("the node to be cut off", PATIENCE, || (node.way().sprung() == 1).then_some(()));
                caller
            },
        );
    let mut client = cluster.node(2).client();
    until("the key to be free", PATIENCE, || {
        let reply = client.post("/v1/queues/q/jobs", &job);
        (reply.status == 201).then_some(())
    });
    until("the job to be free", PATIENCE, || {
        let leased = client.post("/v1/leases", &poll("another")).ok();
        (leased["jobs"].as_array().unwrap().len() == 1).then_some(())
    });
    eprintln!("commit: what cut off nodes held was free {:.1?} later", now() - start);
    assert!(now() - start < BOUND);
    cluster.server(2).restart();
    [0, 1].into_iter().for_each(|number| cluster.node(number).heal());
    for caller in callers {
        // Whatever the answer is: there is one.
        let _ = caller.join().unwrap();
    }
}
