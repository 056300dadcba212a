//! What clients were told, and whether it is so.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;

/// Broken promises that are shown; there may be many more of the same.
const SHOWN: usize = 20;

/// A lease as its holder was told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub id: String,
    /// The number of the attempt.
    pub attempt: u64,
    /// Its fencing token.
    pub token: u64,
    /// What an earlier attempt left, if that was a token.
    pub checkpoint: Option<u64>,
    /// When the last attempt may start.
    pub retry_until: String,
}

impl Lease {
    /// The lease in an answer to `POST /v1/leases`.
    pub fn of(job: &Value) -> Lease {
        Lease {
            id: text(&job["id"]),
            attempt: job["attempt"].as_u64().expect("an attempt has a number"),
            token: job["fencing_token"].as_u64().expect("a lease has a token"),
            checkpoint: job["checkpoint"].as_u64(),
            retry_until: job["retry_until"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

/// Everything clients were told. What contradicts itself is noted at once; [`Told::compare`] finds what is not so.
#[derive(Default)]
pub struct Told {
    books: Mutex<Books>,
    acknowledged: AtomicU64,
    highest_token: AtomicU64,
    stale: AtomicU64,
}

#[derive(Default)]
struct Books {
    keys: HashMap<String, KeyTold>,
    duplicates: u64,
    completed: u64,
    jobs: HashMap<String, JobTold>,
    /// Jobs of each group, in the order in which they were accepted, one after the other.
    groups: HashMap<String, Vec<String>>,
    /// Token to job and attempt.
    tokens: HashMap<u64, (String, u64)>,
    broken: Vec<String>,
}

struct KeyTold {
    id: String,
    /// Somebody was told that it had not been there before.
    new: bool,
}

#[derive(Default)]
struct JobTold {
    leases: Vec<Lease>,
    /// Ends that were accepted, by token: the outcome and the state it led to.
    ends: HashMap<u64, (&'static str, String)>,
    /// Completes that were refused, by token.
    late_successes: HashMap<u64, u64>,
    /// The last checkpoint that was accepted: its writer's token.
    checkpoint: Option<u64>,
    /// A cancel was accepted before it was ever leased.
    cancelled: bool,
}

impl Books {
    fn broken(&mut self, what: String) {
        self.broken.push(what);
    }

    /// A job somebody was told of. Leases may be told earlier than the answer to the add arrives.
    fn job(&mut self, id: &str) -> &mut JobTold {
        if !self.jobs.contains_key(id) {
            self.jobs.insert(id.to_owned(), JobTold::default());
        }
        self.jobs.get_mut(id).expect("it was inserted")
    }
}

impl Told {
    /// Nothing yet.
    pub fn new() -> Told {
        Told::default()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a broken promise that a test saw itself.
    pub fn broken(&self, what: String) {
        self.books().broken(what);
    }

    /// Writes that were acknowledged: adds, leases, ends.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends that were refused because of an old token.
    pub fn stale(&self) -> u64 {
        self.stale.load(Ordering::Relaxed)
    }

    /// The largest token anybody was told so far: what is leased from now on must have a larger one.
    pub fn highest_token(&self) -> u64 {
        self.highest_token.load(Ordering::SeqCst)
    }

    /// Keys that were accepted.
    pub fn keys(&self) -> u64 {
        self.books().keys.len() as u64
    }

    /// Adds that were answered with an earlier job.
    pub fn duplicates(&self) -> u64 {
        self.books().duplicates
    }

    /// Leases that were handed out.
    pub fn leases(&self) -> u64 {
        self.books().tokens.len() as u64
    }

    /// Whether a completion of this job was accepted.
    pub fn is_completed(&self, id: &str) -> bool {
        self.books().jobs.get(id).is_some_and(|job| job.completed_by().is_some())
    }

    /// Jobs whose completion was accepted.
    pub fn completed(&self) -> u64 {
        self.books().completed
    }

    /// An add was answered with this job.
    pub fn added(&self, key: &str, id: &str, duplicate: bool) {
        self.acknowledge();
        let mut books = self.books();
        books.job(id);
        books.duplicates += u64::from(duplicate);
        // Of two adds that race, the answer to the second may be read first.
        let told =
            books.keys.entry(key.to_owned()).or_insert_with(|| KeyTold { id: id.to_owned(), new: false });
        let (first, new_before) = (told.id.clone(), told.new);
        told.new |= !duplicate;
        if first != id {
            books.broken(format!("I3: key {key} has two jobs, {first} and {id}"));
        } else if new_before && !duplicate {
            books.broken(format!("I3: key {key} was told to be new twice, as {id}"));
        }
    }

    /// An add to a group was answered with this job, before the next one was sent.
    pub fn in_group(&self, group: &str, id: &str) {
        self.books().groups.entry(group.to_owned()).or_default().push(id.to_owned());
    }

    /// A lease was handed out. `highest` is what [`Told::highest_token`] was before it was asked for.
    pub fn leased(&self, lease: Lease, highest: u64) {
        self.acknowledge();
        self.highest_token.fetch_max(lease.token, Ordering::SeqCst);
        let mut books = self.books();
        if lease.token <= highest {
            books.broken(format!(
                "I4: {lease:?} has no larger token than {highest}, told before it was asked for"
            ));
        }
        if let Some((id, attempt)) = books.tokens.insert(lease.token, (lease.id.clone(), lease.attempt)) {
            books.broken(format!("I4: {lease:?} has the token of attempt {attempt} of {id}"));
        }
        let id = lease.id.clone();
        if lease.retry_until.is_empty() {
            books.broken(format!("I11: {lease:?} does not say how long it may be tried"));
        }
        let left = books.job(&id).checkpoint;
        if lease.checkpoint < left {
            books.broken(format!("I1: {lease:?} was not given the checkpoint of token {left:?}"));
        }
        books.job(&id).leases.push(lease);
    }

    /// A checkpoint was accepted, which says nothing but who wrote it.
    pub fn checkpointed(&self, lease: &Lease) {
        self.acknowledge();
        let mut books = self.books();
        let job = books.job(&lease.id);
        job.checkpoint = job.checkpoint.max(Some(lease.token));
    }

    /// A job that was not due yet was cancelled.
    pub fn cancelled(&self, id: &str) {
        self.acknowledge();
        self.books().job(id).cancelled = true;
    }

    /// An end was accepted: its outcome as the history calls it, and the state it led to.
    pub fn ended(&self, lease: &Lease, outcome: &'static str, state: &str) {
        self.acknowledge();
        let mut books = self.books();
        let job = books.job(&lease.id);
        let is_first = outcome == "completed" && job.completed_by().is_none();
        let by_another = job.completed_by().filter(|token| *token != lease.token);
        let before = job.ends.insert(lease.token, (outcome, state.to_owned()));
        books.completed += u64::from(is_first);
        if let (Some(token), "completed") = (by_another, outcome) {
            books.broken(format!("I4: {lease:?} was completed, and with token {token} before"));
        }
        if before.as_ref().is_some_and(|before| (before.0, before.1.as_str()) != (outcome, state)) {
            books.broken(format!("I6: {lease:?} was told {before:?} and then {outcome}, {state}"));
        }
    }

    /// An end was refused because of its token.
    pub fn refused(&self, lease: &Lease, outcome: &'static str) {
        self.stale.fetch_add(1, Ordering::Relaxed);
        let mut books = self.books();
        let job = books.job(&lease.id);
        let accepted = job.ends.contains_key(&lease.token);
        if outcome == "completed" {
            *job.late_successes.entry(lease.token).or_default() += 1;
        }
        if accepted {
            books.broken(format!("I6: an end of {lease:?} was accepted and then refused"));
        }
    }

    /// Compares what was told with all jobs there are, in full as `GET /v1/jobs/{id}` shows them.
    ///
    /// # Panics
    /// If a promise was broken, with what it was.
    pub fn compare(&self, jobs: &[Value]) {
        let broken = self.complaints(jobs);
        let shown = broken.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
        assert!(broken.is_empty(), "{} broken promises:\n{shown}", broken.len());
    }

    fn complaints(&self, jobs: &[Value]) -> Vec<String> {
        let mut books = self.books();
        let there: HashMap<&str, &Value> =
            jobs.iter().map(|job| (job["id"].as_str().expect("a job has an id"), job)).collect();
        let mut broken = std::mem::take(&mut books.broken);
        if there.len() != jobs.len() {
            broken.push("a job is listed twice".to_owned());
        }
        let mut keys: HashMap<&str, &str> = HashMap::new();
        for (id, job) in &there {
            let key = job["key"].as_str().unwrap_or_default();
            if let Some(other) = keys.insert(key, id) {
                broken.push(format!("I3: key {key} has two jobs, {other} and {id}"));
            }
            if !books.jobs.contains_key(*id) {
                broken.push(format!("I2: {id} (key {key}) is there, and nobody was told of it"));
            }
        }
        for (key, KeyTold { id, .. }) in &books.keys {
            if there.get(id.as_str()).is_none_or(|job| job["key"] != key.as_str()) {
                broken.push(format!("I1: {id} was accepted with key {key}, and is not there"));
            }
        }
        for (id, told) in &books.jobs {
            match there.get(id.as_str()) {
                Some(job) => told.compare(job, &mut broken),
                None => broken.push(format!("I1: somebody was told of {id}, and it is not there")),
            }
        }
        for (group, ids) in &books.groups {
            let jobs: Vec<&Value> = ids.iter().filter_map(|id| there.get(id.as_str()).copied()).collect();
            for pair in jobs.windows(2) {
                let (last, first) = (tokens(pair[0]).max(), tokens(pair[1]).min());
                if first.is_some_and(|first| last.is_none_or(|last| last >= first)) {
                    broken.push(format!(
                        "I8: in {group}, {} was leased with token {first:?} before {} was over, which has {last:?}",
                        pair[1]["id"], pair[0]["id"],
                    ));
                }
            }
        }
        broken
    }
}

/// The tokens of a job's attempts.
fn tokens(job: &Value) -> impl Iterator<Item = u64> {
    let attempts = job["attempts"].as_array().expect("a job in full has attempts");
    attempts.iter().map(|attempt| attempt["fencing_token"].as_u64().unwrap_or(0))
}

impl JobTold {
    fn completed_by(&self) -> Option<u64> {
        self.ends.iter().find(|(_, (outcome, _))| *outcome == "completed").map(|(token, _)| *token)
    }

    fn compare(&self, job: &Value, broken: &mut Vec<String>) {
        let id = text(&job["id"]);
        let attempts = job["attempts"].as_array().expect("a job in full has attempts");
        let tokens: Vec<u64> = tokens(job).collect();
        if !tokens.is_sorted_by(|a, b| a < b) {
            broken.push(format!("I4: the tokens of {id} go back: {tokens:?}"));
        }
        for lease in &self.leases {
            let there =
                attempts.iter().any(|a| a["number"] == lease.attempt && a["fencing_token"] == lease.token);
            if !there {
                broken.push(format!("I1: {lease:?} was handed out, and is not in the history"));
            }
        }
        let of_token = |token: u64| attempts.iter().find(|attempt| attempt["fencing_token"] == token);
        for (token, (outcome, state)) in &self.ends {
            let there =
                of_token(*token).is_some_and(|a| a["outcome"] == *outcome && a["state"] == state.as_str());
            if !there {
                broken.push(format!(
                    "I1: {id} was {outcome} with token {token}, and the history does not say so"
                ));
            }
        }
        for (token, count) in &self.late_successes {
            let seen = of_token(*token).and_then(|attempt| attempt["late_success"]["count"].as_u64());
            if seen.unwrap_or(0) < *count {
                broken.push(format!(
                    "I5: {count} late completes of {id} with token {token}, and the history has {seen:?}"
                ));
            }
        }
        if let Some(token) = self.completed_by()
            && job["state"] != "completed"
        {
            broken.push(format!("I1: {id} was completed with token {token}, and is {}", job["state"]));
        }
        if let (Some(completed), Some(last)) = (self.completed_by(), tokens.last())
            && *last > completed
        {
            broken.push(format!("I4: {id} was completed with token {completed}, and ran again with {last}"));
        }
        if self.cancelled && job["state"] != "cancelled" {
            broken.push(format!("I1: {id} was cancelled, and is {}", job["state"]));
        }
        if job["state"] == "dead" && job["reason"].is_null() {
            broken.push(format!("I10: {id} is dead, and nobody says why"));
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("an id is a text").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(token: u64) -> Lease {
        let retry_until = "2026-01-01T00:00:00Z".to_owned();
        Lease { id: "job_1".to_owned(), attempt: token - 10, token, checkpoint: None, retry_until }
    }

    /// What a server with the job of [`told`] shows.
    fn there() -> Value {
        json!({"id": "job_1", "key": "k", "state": "completed", "attempts": [
            {"number": 1, "fencing_token": 11, "outcome": "lease_lost", "state": "available",
             "late_success": {"count": 1}},
            {"number": 2, "fencing_token": 12, "outcome": "completed", "state": "completed"},
        ]})
    }

    fn told() -> Told {
        let told = Told::new();
        told.leased(lease(11), 0);
        told.added("k", "job_1", false);
        told.added("k", "job_1", true);
        told.leased(lease(12), 11);
        told.ended(&lease(12), "completed", "completed");
        told.refused(&lease(11), "completed");
        told
    }

    fn complaint(told: &Told, jobs: &[Value]) -> String {
        told.complaints(jobs).join("\n")
    }

    #[test]
    fn what_is_as_told_passes() {
        told().compare(&[there()]);
        assert_eq!((told().acknowledged(), told().stale(), told().completed()), (5, 1, 1));
    }

    /// A checker that sees nothing would pass any server.
    #[test]
    fn every_broken_promise_is_seen() {
        let changed = |pointer: &str, value: Value| {
            let mut job = there();
            *job.pointer_mut(pointer).unwrap() = value;
            complaint(&told(), &[job])
        };
        assert!(complaint(&told(), &[]).contains("I1: job_1 was accepted with key k"));
        assert!(changed("/state", json!("available")).contains("I1: job_1 was completed with token 12"));
        assert!(changed("/attempts/1/outcome", json!("failed")).contains("history does not say so"));
        assert!(changed("/attempts/0/number", json!(7)).contains("I1: Lease"));
        assert!(changed("/attempts/0/fencing_token", json!(13)).contains("I4: the tokens of job_1 go back"));
        assert!(changed("/attempts/0/late_success/count", json!(0)).contains("I5: 1 late completes"));
        let other = json!({"id": "job_2", "key": "k", "state": "available", "attempts": []});
        assert!(complaint(&told(), &[there(), other.clone()]).contains("I3: key k has two jobs"));
        assert!(complaint(&told(), &[there(), other]).contains("I2: job_2"));
        let ran_again = json!({"number": 3, "fencing_token": 13, "outcome": null});
        let mut job = there();
        job["attempts"].as_array_mut().unwrap().push(ran_again);
        assert!(complaint(&told(), &[job]).contains("I4: job_1 was completed with token 12, and ran again"));
    }

    /// A job of a group that was leased before the one before it was over, or that nobody leased before it.
    #[test]
    fn a_group_that_is_not_in_order_is_seen() {
        let job = |id: &str, tokens: &[u64]| {
            let attempts: Vec<Value> = tokens.iter().map(|token| json!({ "fencing_token": token })).collect();
            json!({"id": id, "key": id, "state": "completed", "attempts": attempts})
        };
        let complaints = |first: &[u64], second: &[u64]| {
            let told = Told::new();
            for id in ["a", "b"] {
                told.added(id, id, false);
                told.in_group("g", id);
            }
            complaint(&told, &[job("a", first), job("b", second)])
        };
        assert_eq!(complaints(&[1, 2], &[3, 4]), "");
        assert_eq!(complaints(&[1], &[]), "");
        assert!(complaints(&[1, 3], &[2, 4]).contains("I8: in g"));
        assert!(complaints(&[], &[2]).contains("I8: in g"));
    }

    #[test]
    fn answers_that_contradict_each_other_are_seen() {
        let after = |tell: fn(&Told)| {
            let told = told();
            tell(&told);
            complaint(&told, &[there()])
        };
        assert!(after(|told| told.added("k", "job_2", true)).contains("I3: key k has two jobs"));
        assert!(after(|told| told.added("k", "job_1", false)).contains("I3: key k was told to be new twice"));
        assert!(after(|told| told.leased(lease(12), 11)).contains("I4: Lease"));
        assert!(after(|told| told.leased(lease(13), 13)).contains("no larger token"));
        let endless = |told: &Told| told.leased(Lease { retry_until: String::new(), ..lease(13) }, 12);
        assert!(after(endless).contains("I11: Lease"));
        assert!(
            after(|told| told.ended(&lease(13), "completed", "completed")).contains("with token 12 before")
        );
        assert!(after(|told| told.ended(&lease(12), "failed", "retrying")).contains("I6"));
        assert!(after(|told| told.refused(&lease(12), "completed")).contains("accepted and then refused"));
    }
}
