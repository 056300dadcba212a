//! Workers that write rows of their own and complete their jobs in one transaction of theirs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use onefold_cluster::Cluster;
use onefold_e2e::{Client, Gate, Lease, in_full};
use onefold_test_postgres::psql;
use serde_json::json;

/// Where their jobs are.
pub(crate) const QUEUE: &str = "charges";

const LEASE: &str = "10s";
const SHORT_LEASE: &str = "500ms";
/// Longer than a short lease, and until somebody notices.
const TOO_LONG: Duration = Duration::from_millis(2_500);
const PATIENCE: Duration = Duration::from_secs(3);

/// What they share.
pub(crate) struct Charges {
    nodes: Vec<SocketAddr>,
    /// The servers, which they reach whatever becomes of the nodes.
    url: Mutex<String>,
    stopped: AtomicBool,
    refused: AtomicU64,
}

impl Charges {
    /// Makes the table they write to, in which nothing keeps a job from standing twice.
    pub(crate) fn prepare(cluster: &Cluster) -> Charges {
        cluster.primary().psql("CREATE TABLE charged (job text, token bigint)");
        let (nodes, url) = (cluster.addresses(), Mutex::new(cluster.url()));
        Charges { nodes, url, stopped: AtomicBool::new(false), refused: AtomicU64::new(0) }
    }

    /// There is another server.
    pub(crate) fn lead_to(&self, cluster: &Cluster) {
        *self.url.lock().unwrap() = cluster.url();
    }

    /// No more jobs are added.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Adds jobs and does what there is, at one node after the other, until it is over. Every third job is held too long.
    pub(crate) fn work(&self, number: u64, gate: &Gate) {
        for (round, address) in (0_u64..).zip(self.nodes.iter().cycle()) {
            if gate.is_over() {
                return;
            }
            let mut client = Client::patient(*address, PATIENCE);
            let (is_slow, is_stopped) = (round % 3 == 0, self.stopped.load(Ordering::Relaxed));
            if !is_slow && !is_stopped {
                let job = json!({"kind": "charge", "payload": 1, "key": format!("{number}-{round}")});
                let _ = client.try_post(&format!("/v1/queues/{QUEUE}/jobs"), &job);
            }
            let lease = if is_slow && !is_stopped { SHORT_LEASE } else { LEASE };
            let poll = json!({"queues": [QUEUE], "lease": lease, "wait": "200ms", "worker": format!("charger-{number}")});
            let Ok(leased) = client.try_post("/v1/leases", &poll) else { continue };
            if leased.status != 200 {
                continue;
            }
            let leased = leased.json();
            let Some(lease) = leased["jobs"].get(0).map(Lease::of) else { continue };
            if is_slow && !is_stopped {
                gate.pause(TOO_LONG);
            }
            let (id, token) = (&lease.id, lease.token);
            // What became of it is not asked: if it was not done, the job is leased again.
            let url = self.url.lock().unwrap().clone();
            let done = psql(
                &url,
                &format!(
                    "BEGIN; INSERT INTO charged VALUES ('{id}', {token}); SELECT onefold.complete('{id}', {token}); COMMIT"
                ),
            );
            if done.is_err_and(|why| why.contains("lease-lost") || why.contains("the lease is gone")) {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// I7: every job stands in the table once, charged under the token it was completed with. How many do, and how many
    /// charges under an old token were refused.
    pub(crate) fn check(&self, cluster: &Cluster) -> (usize, u64) {
        let rows = cluster.primary().psql("SELECT job, token FROM charged");
        let mut charged: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (job, token) in rows.lines().filter_map(|row| row.split_once('|')) {
            charged.entry(job.to_owned()).or_default().push(token.parse().unwrap());
        }
        let mut count = 0;
        for job in &in_full(cluster.addresses()[0], QUEUE) {
            let id = job["id"].as_str().unwrap();
            let attempts = job["attempts"].as_array().unwrap();
            let by: Vec<u64> = attempts
                .iter()
                .filter(|attempt| attempt["outcome"] == "completed")
                .filter_map(|attempt| attempt["fencing_token"].as_u64())
                .collect();
            let rows = charged.remove(id).unwrap_or_default();
            // One that was held too long too often is dead, and must not stand there.
            let once = usize::from(job["state"] == "completed");
            assert_eq!((&rows, rows.len()), (&by, once), "I7: {job}");
            count += once;
        }
        assert!(charged.is_empty(), "I7: charged for jobs that are not there: {charged:?}");
        (count, self.refused.load(Ordering::Relaxed))
    }
}
