//! What a server says about its jobs and queues.

use serde_json::Value;

use crate::Client;

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
