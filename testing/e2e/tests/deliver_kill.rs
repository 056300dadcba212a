//! SIGKILL of the server between a target's answer and our record of it, under load. The target is a process of its own
//! that makes durable what it got before it answers, and says when it has answered: that is when the server is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use onefold_e2e::{
    Client, Gate, Receiver, Rng, Server, counts, in_full, job, long, now, seed, sum_of_states, unfinished,
    until,
};
use onefold_test_postgres::{DATABASE, Server as Postgres, USER};
use serde_json::{Value, json};

const QUEUE: &str = "hooks";
/// SIGKILLs that left an answer without a record.
const KILLS: u64 = 20;
/// Answers of one life of the server, at the most, before it is killed.
const ANSWERS: u64 = 80;
const BATCH: u64 = 25;
/// Jobs that are not answered yet, at the most: enough to keep all slots busy.
const AHEAD: u64 = 300;
const PATIENCE: Duration = Duration::from_secs(120);

/// A delivery as its target saw it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    job: String,
    attempt: u64,
    token: u64,
    body: String,
}

fn seen(request: &Value) -> Seen {
    let header =
        |name: &str| request["headers"][name].as_str().unwrap_or_else(|| panic!("{name}: {request}"));
    let job = header("onefold-job-id");
    assert_eq!((header("idempotency-key"), header("webhook-id")), (job, job));
    Seen {
        job: job.to_owned(),
        attempt: header("onefold-attempt").parse().unwrap(),
        token: header("onefold-fencing-token").parse().unwrap(),
        body: request["body"].as_str().unwrap().to_owned(),
    }
}

/// Adds jobs with a target, whatever happens to the server, and remembers what it was told.
struct Producer<'a> {
    server: std::net::SocketAddr,
    url: String,
    gate: &'a Gate,
    answered: &'a AtomicU64,
    /// Payloads by id.
    accepted: Mutex<BTreeMap<String, String>>,
}

impl Producer<'_> {
    fn add(&self, first: u64) -> Option<Vec<Value>> {
        let jobs: Vec<Value> = (first..first + BATCH)
            .map(|n| json!({ "payload": { "n": n }, "key": format!("k{n}"), "target": { "url": self.url } }))
            .collect();
        loop {
            self.gate.serving();
            let reply = Client::new(self.server).try_post(&format!("/v1/queues/{QUEUE}/jobs"), &json!(jobs));
            match reply {
                Ok(reply) if reply.status == 200 => {
                    return Some(reply.json()["jobs"].as_array().unwrap().clone());
                }
                _ if self.gate.is_over() => return None,
                // Nobody knows whether it was accepted: the keys tell.
                _ => self.gate.pause(Duration::from_millis(5)),
            }
        }
    }

    fn add_until(&self, enough: impl Fn(u64) -> bool) {
        let mut first = 0;
        while !enough(first) {
            if first > self.answered.load(Ordering::Relaxed) + AHEAD {
                self.gate.pause(Duration::from_millis(2));
                continue;
            }
            let Some(added) = self.add(first) else { return };
            let mut accepted = self.accepted.lock().unwrap();
            for (n, added) in (first..).zip(added) {
                let id = added["id"].as_str().unwrap_or_else(|| panic!("{added}")).to_owned();
                let before = accepted.insert(id, format!("{{\"n\":{n}}}"));
                assert_eq!(before, None, "I3: two keys have one job");
            }
            first += BATCH;
        }
    }
}

/// What the receiver wrote down, by job, in its order.
fn logged(log: &Path) -> BTreeMap<String, Vec<Seen>> {
    let mut by_job: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let seen = seen(&serde_json::from_str(line).unwrap());
        by_job.entry(seen.job.clone()).or_default().push(seen);
    }
    by_job
}

/// Holds what the target saw against what producers were told and what the server remembers. Gives the number of
/// deliveries that were repeats.
fn compare(server: &Server, accepted: &BTreeMap<String, String>, log: &BTreeMap<String, Vec<Seen>>) -> usize {
    let counts = counts(&mut server.client(), QUEUE);
    let all = accepted.len() as u64;
    assert_eq!(
        (&counts["accepted"], &counts["completed"], sum_of_states(&counts)),
        (&json!(all), &json!(all), all)
    );
    assert_eq!(
        log.keys().collect::<Vec<_>>(),
        accepted.keys().collect::<Vec<_>>(),
        "a job was lost or made up"
    );
    let mut repeats = 0;
    for job in in_full(server.address(), QUEUE) {
        let id = job["id"].as_str().unwrap();
        let attempts = job["attempts"].as_array().unwrap();
        let numbers: Vec<u64> = attempts.iter().map(|attempt| attempt["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=attempts.len() as u64).collect::<Vec<_>>(), "{job}");
        let of_job = &log[id];
        repeats += of_job.len() - 1;
        assert!(of_job.is_sorted_by(|a, b| (a.attempt, a.token) < (b.attempt, b.token) && a.token < b.token));
        for seen in of_job {
            assert_eq!(seen.body, accepted[id]);
            // I1: the attempt was durable before its first byte left.
            let attempt = &attempts[usize::try_from(seen.attempt).unwrap() - 1];
            assert_eq!(attempt["fencing_token"], seen.token, "I4: {job}");
        }
        for attempt in attempts {
            let is_last = attempt["number"] == attempts.len() as u64;
            let expected = if is_last { "completed" } else { "lease_lost" };
            assert_eq!(attempt["outcome"], expected, "{job}");
        }
        assert_eq!(
            of_job.last().unwrap().attempt,
            attempts.len() as u64,
            "the target saw the one that counts"
        );
    }
    repeats
}

/// W-01: kills the server at the moment its target has answered, until often enough the answer had not been written down.
fn kill_between_answer_and_record(mut server: Server, dir: &Path) {
    let seed = seed("deliver_kill");
    let (kills_wanted, started) = (KILLS * long(), now());
    let log = dir.join("received.jsonl");
    let receiver = Receiver::start_logging(env!("CARGO_BIN_EXE_onefold-receiver"), &log);
    let (gate, answered) = (Gate::new(), AtomicU64::new(0));
    let (killed_enough, mut kills, mut killed_after) = (AtomicU64::new(0), 0, Duration::ZERO);
    let producer = Producer {
        server: server.address(),
        url: receiver.url("/"),
        gate: &gate,
        answered: &answered,
        accepted: Mutex::default(),
    };
    // Answered, and not written down when the server was killed.
    let mut unrecorded: BTreeSet<Seen> = BTreeSet::new();
    gate.set_serving(true);
    std::thread::scope(|threads| {
        let _at_last = gate.finish_at_last();
        let producing =
            threads.spawn(|| producer.add_until(|_| killed_enough.load(Ordering::Relaxed) >= kills_wanted));
        let mut random = Rng::new(seed, 0);
        while killed_enough.load(Ordering::Relaxed) < kills_wanted {
            let patience = PATIENCE * u32::try_from(long()).unwrap();
            assert!(now() - started < patience, "the answers are written down too soon: {kills} kills");
            let mut of_this_life: Vec<Seen> = Vec::new();
            for _ in 0..random.within(1..ANSWERS) {
                of_this_life.push(seen(&receiver.next()));
                answered.fetch_add(1, Ordering::Relaxed);
            }
            gate.set_serving(false);
            server.kill();
            kills += 1;
            of_this_life.extend(receiver.told().iter().map(seen));
            server.restart();
            gate.set_serving(true);
            let mut client = server.client();
            let before = unrecorded.len();
            unrecorded.extend(of_this_life.into_iter().rev().take(50).filter(|seen| {
                let job = job(&mut client, &seen.job);
                let attempt = &job["attempts"][usize::try_from(seen.attempt).unwrap() - 1];
                attempt.get("outcome").is_none() || attempt["outcome"] == "lease_lost"
            }));
            killed_enough.fetch_add(u64::from(unrecorded.len() > before), Ordering::Relaxed);
        }
        killed_after = now() - started;
        producing.join().unwrap();
        let mut client = server.client();
        until("all jobs to be finished", PATIENCE, || {
            unfinished(&counts(&mut client, QUEUE)).eq(&0).then_some(())
        });
        gate.finish();
    });
    let (accepted, log) = (producer.accepted.lock().unwrap(), logged(&log));
    let repeats = compare(&server, &accepted, &log);
    let mut next = 0;
    for first in &unrecorded {
        let again = log[&first.job].iter().find(|seen| seen.attempt > first.attempt);
        let again = again.unwrap_or_else(|| panic!("{first:?} was not delivered again"));
        assert!(again.token > first.token && again.body == first.body, "{first:?}, then {again:?}");
        // Otherwise another kill met the attempt between before it had reached the target.
        next += usize::from(again.attempt == first.attempt + 1);
    }
    eprintln!(
        "deliver_kill: {kills} SIGKILLs, {} deliveries answered and not written down, {next} of them \
         again with the next attempt, {} jobs, {repeats} repeats; killing {killed_after:.1?}, all {:.1?}",
        unrecorded.len(),
        accepted.len(),
        now() - started
    );
    assert!(repeats >= unrecorded.len() && next as u64 >= kills_wanted);
    assert_eq!(server.terminate().0.code(), Some(0));
}

/// Without faults each job is one delivery.
fn deliver_in_peace(server: &Server, dir: &Path) {
    const JOBS: u64 = 2_000;
    let log = dir.join("received.jsonl");
    let receiver = Receiver::start_logging(env!("CARGO_BIN_EXE_onefold-receiver"), &log);
    let (gate, answered) = (Gate::new(), AtomicU64::new(JOBS));
    gate.set_serving(true);
    let producer = Producer {
        server: server.address(),
        url: receiver.url("/"),
        gate: &gate,
        answered: &answered,
        accepted: Mutex::default(),
    };
    producer.add_until(|added| added >= JOBS);
    let mut client = server.client();
    until("all jobs to be finished", PATIENCE, || {
        unfinished(&counts(&mut client, QUEUE)).eq(&0).then_some(())
    });
    let accepted = producer.accepted.lock().unwrap();
    assert_eq!(accepted.len() as u64, JOBS);
    assert_eq!(compare(server, &accepted, &logged(&log)), 0, "a delivery was repeated");
}

fn postgres() -> (Postgres, String) {
    // Commits are made durable as they are where it matters.
    let postgres = Postgres::start(&[]);
    let address = format!("host={} user={USER} dbname={DATABASE}", postgres.directory().display());
    (postgres, address)
}

/// W-01, I1, I4: each such delivery is made again with the same id, the next attempt and a larger token; none is lost.
#[test]
fn w_01_what_was_answered_and_not_written_down_is_delivered_again() {
    let dir = tempfile::tempdir().unwrap();
    kill_between_answer_and_record(Server::start(&dir.path().join("data")), dir.path());
}

/// W-01 with the store in PostgreSQL.
#[test]
fn w_01_what_was_answered_and_not_written_down_is_delivered_again_on_postgres() {
    let (_postgres, address) = postgres();
    let dir = tempfile::tempdir().unwrap();
    kill_between_answer_and_record(Server::start_on(&address, dir.path(), &[]).unwrap(), dir.path());
}

/// Without faults each job is delivered exactly once.
#[test]
fn without_faults_each_job_is_delivered_once() {
    let dir = tempfile::tempdir().unwrap();
    deliver_in_peace(&Server::start(&dir.path().join("data")), dir.path());
}

/// The same with the store in PostgreSQL.
#[test]
fn without_faults_each_job_is_delivered_once_on_postgres() {
    let (_postgres, address) = postgres();
    let dir = tempfile::tempdir().unwrap();
    deliver_in_peace(&Server::start_on(&address, dir.path(), &[]).unwrap(), dir.path());
}
