//! Producers and workers that go on whatever happens to the servers, and write down what they are told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Client, Gate, Lease, Reply, Rng, Told, now};

/// Producers rest while this many of their jobs are not completed, if not told otherwise.
const BACKLOG: u64 = 5_000;
/// Keys of the last so many that all producers fight over.
const CONTESTED: u64 = 40;

/// Jobs of a group that wait at the most, and for how long one is waited for that is slow.
const IN_LINE: usize = 10;
const LONG_ENOUGH: Duration = Duration::from_secs(5);
/// A settle is sent again at most so often because jobs of it are in use.
const AGAIN: usize = 1_000;

/// What clients of one run share.
struct Shared {
    stop: AtomicBool,
    contested: AtomicU64,
}

/// Who the clients of one run are.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    /// Any of them will do.
    servers: &'a [SocketAddr],
    /// After so long without an answer a request is sent again, to another server if there is one.
    patience: Duration,
    /// What workers ask for that end their leases in time.
    lease: &'a str,
    backlog: u64,
    gate: &'a Gate,
    told: &'a Told,
    seed: u64,
    shared: &'a Shared,
}

/// A client's way to all servers.
struct Clients {
    all: Vec<Client>,
    at: usize,
}

impl Clients {
    fn current(&mut self) -> &mut Client {
        let at = self.at % self.all.len();
        &mut self.all[at]
    }

    fn next(&mut self) {
        self.at = self.at.wrapping_add(1);
    }
}

/// How a worker treats its leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
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
    /// Clients of these servers, which are one store.
    pub fn new(
        servers: &[SocketAddr],
        patience: Duration,
        gate: &'a Gate,
        told: &'a Told,
        seed: u64,
    ) -> Load<'a> {
        // Threads of a scope want to share it for as long as the test runs.
        let shared =
            Box::leak(Box::new(Shared { stop: AtomicBool::new(false), contested: AtomicU64::new(0) }));
        Load {
            servers: servers.to_vec().leak(),
            patience,
            lease: "30s",
            backlog: BACKLOG,
            gate,
            told,
            seed,
            shared,
        }
    }

    /// The same with producers that rest while so many jobs are not completed.
    pub fn with_backlog(self, backlog: u64) -> Load<'a> {
        Load { backlog, ..self }
    }

    /// The same with other leases than of 30 seconds.
    pub fn with_leases(self, lease: &'a str) -> Load<'a> {
        Load { lease, ..self }
    }

    fn clients(&self, first: u64) -> Clients {
        let all = self.servers.iter().map(|server| Client::patient(*server, self.patience)).collect();
        Clients { all, at: usize::try_from(first).unwrap_or(0) }
    }

    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed) || self.gate.is_over()
    }

    /// Producers end once everything they sent is answered.
    pub fn stop_producing(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Posts until there is an answer. What became of a request whose connection died is not known, so it is sent
    /// again; so it is if the server cannot do it now. `None` once it is over.
    fn post(&self, clients: &mut Clients, path: &str, body: &Value) -> Option<Reply> {
        self.send(clients, &format!("POST {path}"), body)
    }

    fn put(&self, clients: &mut Clients, path: &str, body: &Value) {
        if let Some(reply) = self.send(clients, &format!("PUT {path}"), body) {
            reply.ok();
        }
    }

    fn send(&self, clients: &mut Clients, head: &str, body: &Value) -> Option<Reply> {
        loop {
            self.gate.serving();
            let fields = &[("Content-Type", "application/json")];
            match clients.current().send(head, fields, body.to_string().as_bytes()) {
                Ok(reply) if reply.status != 503 && !is_in_use(&reply) => return Some(reply),
                Ok(_) | Err(_) if self.gate.is_over() => return None,
                Ok(_) | Err(_) => {
                    clients.next();
                    self.gate.pause(Duration::from_millis(2));
                }
            }
        }
    }

    /// Adds keyed jobs until told to stop, or until there are `count` of its own.
    pub fn produce(&self, number: u64, count: Option<u64>) {
        let (mut clients, mut random) = (self.clients(number), Rng::new(self.seed, number));
        let mut own = 0;
        while !self.is_stopped() && count.is_none_or(|count| own < count) {
            let keys: Vec<String> =
                (0..random.within(1..40)).map(|_| self.key(number, &mut own, &mut random)).collect();
            if let ([key], true) = (&keys[..], random.one_in(2)) {
                self.add_one(&mut clients, key, &new_job(key));
            } else {
                self.add_many(&mut clients, &keys);
            }
            self.rest();
        }
    }

    fn rest(&self) {
        while self.told.keys() > self.told.completed() + self.backlog && !self.gate.is_over() {
            self.gate.pause(Duration::from_millis(20));
        }
    }

    /// Waits until a job is completed, but not for ever: it may die.
    fn wait_for(&self, id: &str) {
        let until = now() + LONG_ENOUGH;
        while !self.told.is_completed(id) && !self.is_stopped() && now() < until {
            self.gate.pause(Duration::from_millis(20));
        }
    }

    /// Adds jobs of one group, one after the other, until told to stop.
    pub fn produce_in_order(&self, number: u64) {
        let (mut clients, group) = (self.clients(number), format!("group-{number}"));
        let mut line: VecDeque<String> = VecDeque::new();
        for place in 0_u64.. {
            if self.is_stopped() {
                return;
            }
            let key = format!("ordered-{number}-{place}");
            let job = json!({"kind": "load", "payload": {"of": key}, "key": key, "group": group});
            let Some(added) = self.add_one(&mut clients, &key, &job) else { return };
            let id = added["id"].as_str().expect("a job has an id");
            self.told.in_group(&group, id);
            line.push_back(id.to_owned());
            if line.len() > IN_LINE {
                self.wait_for(&line.pop_front().expect("there are some"));
            }
            // The next one may go to another server.
            clients.next();
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

    fn add_one(&self, clients: &mut Clients, key: &str, job: &Value) -> Option<Value> {
        let reply = self.post(clients, "/v1/queues/load/jobs", job)?;
        let status = reply.status;
        let answer = reply.ok();
        if (status == 201) == (answer["duplicate"] == true) {
            self.told.broken(format!("the status of an add is {status}: {answer}"));
        }
        self.note_added(key, &answer);
        Some(answer)
    }

    fn add_many(&self, clients: &mut Clients, keys: &[String]) {
        let body = Value::Array(keys.iter().map(|key| new_job(key)).collect());
        let Some(reply) = self.post(clients, "/v1/queues/load/jobs", &body) else { return };
        let answer = reply.ok();
        let jobs = answer["jobs"].as_array().expect("a list of jobs");
        assert_eq!(jobs.len(), keys.len());
        for (key, job) in keys.iter().zip(jobs) {
            match job["error"]["code"].as_str() {
                Some("key-in-progress") => drop(self.add_one(clients, key, &new_job(key))),
                _ => self.note_added(key, job),
            }
        }
    }

    fn note_added(&self, key: &str, answer: &Value) {
        match (answer["id"].as_str(), answer["duplicate"].as_bool()) {
            (Some(id), Some(duplicate)) => self.told.added(key, id, duplicate),
            _ => self.told.broken(format!("the add of {key} was answered with {answer}")),
        }
    }

    /// Cancels jobs and changes settings until told to stop: the limit that each queue was given.
    pub fn operate(&self) -> Vec<(String, u64)> {
        let (mut clients, mut random) = (self.clients(0), Rng::new(self.seed, 200));
        let mut limits = Vec::new();
        for number in 0.. {
            if self.is_stopped() {
                break;
            }
            let key = format!("cancelled-{number}");
            let job = json!({"kind": "load", "payload": {"of": key}, "key": key, "delay": "1h"});
            let Some(added) = self.post(&mut clients, "/v1/queues/load/jobs", &job) else { break };
            let added = added.ok();
            self.note_added(&key, &added);
            let id = added["id"].as_str().expect("a job has an id").to_owned();
            let Some(cancelled) = self.post(&mut clients, &format!("/v1/jobs/{id}/cancel"), &json!({}))
            else {
                break;
            };
            if cancelled.ok()["state"] == "cancelled" {
                self.told.cancelled(&id);
            }
            let (queue, limit) = (format!("queue-{number}"), random.within(1..1_000));
            self.put(&mut clients, &format!("/v1/queues/{queue}"), &json!({ "concurrency": limit }));
            limits.push((queue, limit));
        }
        limits
    }

    /// Leases and ends jobs until it is over.
    pub fn work(&self, number: u64, habit: Habit) {
        let (mut clients, mut random) = (self.clients(number), Rng::new(self.seed, 100 + number));
        for poll in 0.. {
            if self.gate.is_over() {
                return;
            }
            let (lease, max) =
                if habit == Habit::Sloppy { ("100ms", 8) } else { (self.lease, random.within(1..60)) };
            // Polls of workers end soon enough after the last job is done.
            let body = json!({
                "queues": ["load"], "max": max, "lease": lease, "wait": "500ms",
                "worker": format!("{habit:?}-{number}"), "poll_id": format!("{}-{poll}", self.seed),
            });
            let highest = self.told.highest_token();
            let Some(reply) = self.post(&mut clients, "/v1/leases", &body) else { return };
            let leased = reply.ok();
            let leases: Vec<Lease> =
                leased["jobs"].as_array().expect("a list of jobs").iter().map(Lease::of).collect();
            // Any server may be told of the end.
            if random.one_in(4) {
                clients.next();
            }
            leases.iter().for_each(|lease| self.told.leased(lease.clone(), highest));
            if habit == Habit::Sloppy && !leases.is_empty() {
                self.gate.pause(Duration::from_millis(random.within(150..400)));
            }
            let said: Vec<Said> =
                leases.into_iter().flat_map(|lease| last_words(lease, habit, &mut random)).collect();
            if !said.is_empty() {
                self.settle(&mut clients, &said, random.one_in(5));
            }
        }
    }

    fn settle(&self, clients: &mut Clients, said: &[Said], again: bool) {
        let ops: Vec<&Value> = said.iter().map(|said| &said.op).collect();
        let body = json!({ "ops": ops });
        let Some(first) = self.results(clients, &body, said.len()) else { return };
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
        let Some(second) = self.results(clients, &body, said.len()) else { return };
        let pairs = said.iter().zip(first.iter().zip(&second));
        for (end, (first, second)) in pairs.filter(|(said, _)| matches!(said.what, What::End(_))) {
            if (&first["ok"], &first["code"]) != (&second["ok"], &second["code"])
                || (first["ok"] == true && first["state"] != second["state"])
            {
                self.told.broken(format!("I6: {} was answered with {first} and then {second}", end.op));
            }
        }
    }

    /// Results of all operations, none of which is that somebody's open transaction holds the job.
    fn results(&self, clients: &mut Clients, body: &Value, count: usize) -> Option<Vec<Value>> {
        for _ in 0..AGAIN {
            let answer = self.post(clients, "/v1/leases/settle", body)?.ok();
            let results = answer["results"].as_array().expect("a list of results");
            assert_eq!(results.len(), count);
            if results.iter().all(|result| result["code"] != "job-in-progress") {
                return Some(results.clone());
            }
        }
        self.told.broken(format!("jobs are in use for ever: {body}"));
        None
    }
}

/// Somebody's open transaction holds what was asked for.
fn is_in_use(reply: &Reply) -> bool {
    reply.status == 409 && ["key-in-progress", "job-in-progress"].contains(&reply.refusal().1.as_str())
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
