//! What a server says about its jobs and queues.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::Client;

/// Clients that read jobs in full at the same time.
const READERS: u64 = 8;

/// Every job of a queue as the list shows it, newest first.
pub fn all_jobs(client: &mut Client, queue: &str) -> Vec<Value> {
    let mut jobs = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("/v1/jobs?queue={queue}&limit=1000{cursor}")).ok();
        jobs.extend(page["jobs"].as_array().expect("a list of jobs").iter().cloned());
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return jobs,
        }
    }
}

/// Everything about a job.
pub fn job(client: &mut Client, id: &str) -> Value {
    client.get(&format!("/v1/jobs/{id}")).ok()
}

/// The counts of a queue.
pub fn counts(client: &mut Client, queue: &str) -> Value {
    client.get(&format!("/v1/queues/{queue}")).ok()["counts"].take()
}

/// All there are of a queue's jobs now, and all there were: what `accepted` must be (I2).
pub fn sum_of_states(counts: &Value) -> u64 {
    let states =
        ["scheduled", "available", "running", "retrying", "completed", "dead", "cancelled", "purged"];
    states.iter().map(|state| counts[*state].as_u64().expect("every state is counted")).sum()
}

/// Jobs of these counts that are not over.
pub fn unfinished(counts: &Value) -> u64 {
    let states = ["scheduled", "available", "running", "retrying"];
    states.iter().map(|state| counts[*state].as_u64().expect("every state is counted")).sum()
}

/// All jobs of a queue with their history, asked for by several clients.
pub fn in_full(server: SocketAddr, queue: &str) -> Vec<Value> {
    let listed = all_jobs(&mut Client::new(server), queue);
    let next = AtomicU64::new(0);
    let read = || {
        let (mut client, mut jobs) = (Client::new(server), Vec::new());
        while let Some(listed) = listed.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap()) {
            jobs.push(job(&mut client, listed["id"].as_str().unwrap()));
        }
        jobs
    };
    std::thread::scope(|threads| {
        let readers: Vec<_> = (0..READERS).map(|_| threads.spawn(read)).collect();
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    })
}
