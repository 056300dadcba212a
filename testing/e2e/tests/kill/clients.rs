//! Producers and workers that go on whatever happens to the server, and write down what they are told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use onefold_e2e::{Client, Gate, Lease, Reply, Rng, Told};
use serde_json::{Value, json};

/// Producers rest while this many of their jobs are not completed.
const BACKLOG: u64 = 5_000;
/// Keys of the last so many that all producers fight over.
const CONTESTED: u64 = 40;

/// What clients of one run share.
pub(crate) struct Shared {
    stop: AtomicBool,
    contested: AtomicU64,
}

/// Who the clients of one run are.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    server: SocketAddr,
    gate: &'a Gate,
    told: &'a Told,
    seed: u64,
    shared: &'a Shared,
}

/// How a worker treats its leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Completes what it gets.
    Completing,
    /// Ends its leases in time, in one way or another.
    Careful,
    /// Takes short leases and completes when they are over.
    Sloppy,
}

/// Something a worker says of a lease.
struct Said {
    lease: Lease,
    what: What,
    op: Value,
}

enum What {
    /// Its end, as the history calls it.
    End(&'static str),
    Checkpoint,
}

impl<'a> Load<'a> {
    pub(crate) fn new(server: SocketAddr, gate: &'a Gate, told: &'a Told, seed: u64) -> Load<'a> {
        // Threads of a scope want to share it for as long as the test runs.
        let shared =
            Box::leak(Box::new(Shared { stop: AtomicBool::new(false), contested: AtomicU64::new(0) }));
        Load { server, gate, told, seed, shared }
    }

    /// Producers end once everything they sent is answered.
    pub(crate) fn stop_producing(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Posts until there is an answer. What became of a request whose connection died is not known, so it is sent
    /// again; a server that is not serving yet or any more is asked again as well. `None` once it is over.
    fn post(&self, client: &mut Client, path: &str, body: &Value) -> Option<Reply> {
        self.send(client, &format!("POST {path}"), body)
    }

    fn put(&self, client: &mut Client, path: &str, body: &Value) {
        if let Some(reply) = self.send(client, &format!("PUT {path}"), body) {
            reply.ok();
        }
    }

    fn send(&self, client: &mut Client, head: &str, body: &Value) -> Option<Reply> {
        loop {
            self.gate.serving();
            match client.send(head, &[("Content-Type", "application/json")], body.to_string().as_bytes()) {
                Ok(reply) if reply.status != 503 => return Some(reply),
                Ok(_) | Err(_) if self.gate.is_over() => return None,
                Ok(_) | Err(_) => self.gate.pause(Duration::from_millis(2)),
            }
        }
    }

    /// Adds keyed jobs until told to stop, or until there are `count` of its own.
    pub(crate) fn produce(&self, number: u64, count: Option<u64>) {
        let (mut client, mut random) = (Client::new(self.server), Rng::new(self.seed, number));
        let mut own = 0;
        while !self.shared.stop.load(Ordering::Relaxed) && count.is_none_or(|count| own < count) {
            let keys: Vec<String> =
                (0..random.within(1..40)).map(|_| self.key(number, &mut own, &mut random)).collect();
            if let ([key], true) = (&keys[..], random.one_in(2)) {
                self.add_one(&mut client, key);
            } else {
                self.add_many(&mut client, &keys);
            }
            while self.told.keys() > self.told.completed() + BACKLOG && !self.gate.is_over() {
                self.gate.pause(Duration::from_millis(20));
            }
        }
    }

    /// A new key, one of before, or one all producers use at the same time.
    fn key(&self, number: u64, own: &mut u64, random: &mut Rng) -> String {
        if random.one_in(10) {
            let newest = match random.one_in(4) {
                true => self.shared.contested.fetch_add(1, Ordering::Relaxed) + 1,
                false => self.shared.contested.load(Ordering::Relaxed),
            };
            return format!("contested-{}", newest.saturating_sub(random.within(0..CONTESTED)));
        }
        if *own > 0 && random.one_in(10) {
            return format!("own-{number}-{}", random.within(0..*own));
        }
        *own += 1;
        format!("own-{number}-{}", *own - 1)
    }

    fn add_one(&self, client: &mut Client, key: &str) {
        if let Some(reply) = self.post(client, "/v1/queues/load/jobs", &new_job(key)) {
            let status = reply.status;
            let answer = reply.ok();
            if (status == 201) == (answer["duplicate"] == true) {
                self.told.broken(format!("the status of an add is {status}: {answer}"));
            }
            self.note_added(key, &answer);
        }
    }

    fn add_many(&self, client: &mut Client, keys: &[String]) {
        let body = Value::Array(keys.iter().map(|key| new_job(key)).collect());
        if let Some(reply) = self.post(client, "/v1/queues/load/jobs", &body) {
            let answer = reply.ok();
            let jobs = answer["jobs"].as_array().expect("a list of jobs");
            assert_eq!(jobs.len(), keys.len());
            keys.iter().zip(jobs).for_each(|(key, job)| self.note_added(key, job));
        }
    }

    fn note_added(&self, key: &str, answer: &Value) {
        match (answer["id"].as_str(), answer["duplicate"].as_bool()) {
            (Some(id), Some(duplicate)) => self.told.added(key, id, duplicate),
            _ => self.told.broken(format!("the add of {key} was answered with {answer}")),
        }
    }

    /// Cancels jobs and changes settings until told to stop: the limit that each queue was given.
    pub(crate) fn operate(&self) -> Vec<(String, u64)> {
        let (mut client, mut random) = (Client::new(self.server), Rng::new(self.seed, 200));
        let mut limits = Vec::new();
        for number in 0.. {
            if self.shared.stop.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("cancelled-{number}");
            let job = json!({"kind": "load", "payload": {"of": key}, "key": key, "delay": "1h"});
            let Some(added) = self.post(&mut client, "/v1/queues/load/jobs", &job) else { break };
            let added = added.ok();
            self.note_added(&key, &added);
            let id = added["id"].as_str().expect("a job has an id").to_owned();
            let Some(cancelled) = self.post(&mut client, &format!("/v1/jobs/{id}/cancel"), &json!({})) else {
                break;
            };
            if cancelled.ok()["state"] == "cancelled" {
                self.told.cancelled(&id);
            }
            let (queue, limit) = (format!("queue-{number}"), random.within(1..1_000));
            self.put(&mut client, &format!("/v1/queues/{queue}"), &json!({ "concurrency": limit }));
            limits.push((queue, limit));
        }
        limits
    }

    /// Leases and ends jobs until it is over.
    pub(crate) fn work(&self, number: u64, habit: Habit) {
        let (mut client, mut random) = (Client::new(self.server), Rng::new(self.seed, 100 + number));
        for poll in 0.. {
            if self.gate.is_over() {
                return;
            }
            let (lease, max) =
                if habit == Habit::Sloppy { ("100ms", 8) } else { ("30s", random.within(1..60)) };
            // Polls of workers end soon enough after the last job is done.
            let body = json!({
                "queues": ["load"], "max": max, "lease": lease, "wait": "500ms",
                "worker": format!("{habit:?}-{number}"), "poll_id": format!("{}-{poll}", self.seed),
            });
            let highest = self.told.highest_token();
            let Some(reply) = self.post(&mut client, "/v1/leases", &body) else { return };
            let leased = reply.ok();
            let leases: Vec<Lease> =
                leased["jobs"].as_array().expect("a list of jobs").iter().map(Lease::of).collect();
            leases.iter().for_each(|lease| self.told.leased(lease.clone(), highest));
            if habit == Habit::Sloppy && !leases.is_empty() {
                self.gate.pause(Duration::from_millis(random.within(150..400)));
            }
            let said: Vec<Said> =
                leases.into_iter().flat_map(|lease| last_words(lease, habit, &mut random)).collect();
            if !said.is_empty() {
                self.settle(&mut client, &said, random.one_in(5));
            }
        }
    }

    fn settle(&self, client: &mut Client, said: &[Said], again: bool) {
        let ops: Vec<&Value> = said.iter().map(|said| &said.op).collect();
        let body = json!({ "ops": ops });
        let Some(first) = self.results(client, &body, said.len()) else { return };
        for (said, result) in said.iter().zip(&first) {
            let answer = (result["ok"].as_bool(), result["code"].as_str(), result["state"].as_str());
            match (&said.what, answer) {
                (What::End(outcome), (Some(true), None, Some(state))) => {
                    self.told.ended(&said.lease, outcome, state);
                }
                (What::End(outcome), (Some(false), Some("lease-lost"), _)) => {
                    self.told.refused(&said.lease, outcome);
                }
                (What::Checkpoint, (Some(true), None, Some("running"))) => {
                    self.told.checkpointed(&said.lease)
                }
                // The answer to the first time was lost, and the end that followed was accepted then.
                (What::Checkpoint, (Some(false), Some("lease-lost"), _)) => {}
                _ => self.told.broken(format!("{} was answered with {result}", said.op)),
            }
        }
        if !again {
            return;
        }
        let Some(second) = self.results(client, &body, said.len()) else { return };
        let pairs = said.iter().zip(first.iter().zip(&second));
        for (end, (first, second)) in pairs.filter(|(said, _)| matches!(said.what, What::End(_))) {
            if (&first["ok"], &first["code"]) != (&second["ok"], &second["code"])
                || (first["ok"] == true && first["state"] != second["state"])
            {
                self.told.broken(format!("I6: {} was answered with {first} and then {second}", end.op));
            }
        }
    }

    fn results(&self, client: &mut Client, body: &Value, count: usize) -> Option<Vec<Value>> {
        let answer = self.post(client, "/v1/leases/settle", body)?.ok();
        let results = answer["results"].as_array().expect("a list of results").clone();
        assert_eq!(results.len(), count);
        Some(results)
    }
}

/// The job of a key, always with the same content.
fn new_job(key: &str) -> Value {
    let mut job = json!({"kind": "load", "payload": {"of": key}, "key": key});
    if key.ends_with('7') {
        job["delay"] = json!("150ms");
    }
    job
}

/// How a worker ends a lease, sometimes after it has left a checkpoint.
fn last_words(lease: Lease, habit: Habit, random: &mut Rng) -> Vec<Said> {
    let op = |op: &str| json!({"op": op, "id": lease.id, "fencing_token": lease.token});
    let other = habit == Habit::Careful && random.one_in(8);
    let (mut end, outcome) = match random.within(0..3) {
        0 if other => (op("fail"), "failed"),
        1 if other => (op("snooze"), "snoozed"),
        2 if other => (op("release"), "released"),
        _ => (op("complete"), "completed"),
    };
    match outcome {
        "failed" => {
            end["error"] = json!({"message": "not this time"});
            end["retry_in"] = json!("20ms");
        }
        "snoozed" => end["delay"] = json!("30ms"),
        "completed" => end["result"] = json!({"by": lease.token}),
        _ => {}
    }
    let mut checkpoint = op("checkpoint");
    checkpoint["value"] = json!(lease.token);
    let end = Said { lease: lease.clone(), what: What::End(outcome), op: end };
    match other {
        true => vec![Said { lease, what: What::Checkpoint, op: checkpoint }, end],
        false => vec![end],
    }
}
