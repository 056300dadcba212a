//! Three nodes, a primary and its synchronous standby under load, and everything that happens to them. Afterwards all
//! is compared with what clients were told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

#[path = "storm/charges.rs"]
mod charges;

use std::net::SocketAddr;
use std::time::Duration;

use charges::Charges;

use onefold_cluster::{Cluster, Steps};
use onefold_e2e::{
    Client, Gate, Habit, Lease, Load, Told, counts, in_full, long, now, seed, sum_of_states, unfinished,
    until,
};
use serde_json::{Value, json};

const NODES: usize = 3;
const PRODUCERS: u64 = 4;
/// Of groups.
const ORDERED: u64 = 3;
const WORKERS: u64 = 6;
/// Of the workers: those that hold short leases too long.
const SLOPPY: u64 = 2;
/// Workers that complete in transactions of their own.
const CHARGERS: u64 = 2;
/// Jobs that wait at the most.
const BACKLOG: u64 = 500;
/// How long workers may hold what they lease; what a node that is cut off handed out is lost to them after that.
const LEASE: &str = "2s";
/// After so long a client asks another node.
const ASK_ANOTHER: Duration = Duration::from_secs(3);
/// What is acknowledged between two things that happen.
const BETWEEN: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// I1–I8, I10, I11 over nodes that are killed and cut off, and over a primary that stops for good. After the promotion,
/// which is all anybody does by hand, every node goes on, and no token is as small as one from before.
#[test]
fn what_clients_were_told_is_so_after_kills_cuts_and_failover() {
    let seed = seed("cluster");
    let steps = Steps::of("cluster");
    let mut cluster = Cluster::of_primary_and_standby(NODES);
    let addresses = cluster.addresses();
    await_standby(&cluster, "synchronous");
    steps.log("three nodes serve on a primary and its synchronous standby");
    let charges = Charges::prepare(&cluster);
    let (gate, told) = (Gate::new(), Told::new());
    let load =
        Load::new(&addresses, ASK_ANOTHER, &gate, &told, seed).with_leases(LEASE).with_backlog(BACKLOG);
    gate.set_serving(true);
    let story = Story { steps: &steps, told: &told };
    std::thread::scope(|threads| {
        let _at_last = gate.finish_at_last();
        let mut producers: Vec<_> =
            (0..PRODUCERS).map(|number| threads.spawn(move || load.produce(number, None))).collect();
        producers.extend((0..ORDERED).map(|number| threads.spawn(move || load.produce_in_order(number))));
        for number in 0..WORKERS {
            let habit = if number < SLOPPY { Habit::Sloppy } else { Habit::Careful };
            threads.spawn(move || load.work(number, habit));
        }
        for number in 0..CHARGERS {
            let (charges, gate) = (&charges, &gate);
            threads.spawn(move || charges.work(number, gate));
        }
        for round in 1..=long() {
            story.goes_on("under load");
            story.kill_a_node(&mut cluster);
            story.cut_a_node_off(&cluster, round);
            story.break_connections(&cluster);
            story.fail_over(&mut cluster, round);
            if round < long() {
                cluster.add_standby();
                charges.lead_to(&cluster);
                steps.log("another standby is synchronous");
            }
        }
        load.stop_producing();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        let mut client = cluster.node(0).client();
        until("all jobs to be finished", PATIENCE, || {
            unfinished(&counts(&mut client, "load")).eq(&0).then_some(())
        });
        charges.stop();
        until("all charges to be made", PATIENCE, || {
            unfinished(&counts(&mut client, charges::QUEUE)).eq(&0).then_some(())
        });
        gate.finish();
    });
    steps.log("all jobs are finished");
    let (charged, refused) = charges.check(&cluster);
    steps.log(&format!("{charged} jobs were charged for once each, {refused} late charges were taken back"));
    let jobs = in_full(addresses[1], "load");
    told.compare(&jobs);
    let counts = counts(&mut cluster.node(2).client(), "load");
    assert_eq!(counts["accepted"], told.keys(), "I2: accepted is not what producers were told: {counts}");
    assert_eq!(sum_of_states(&counts), told.keys(), "I2: jobs went missing: {counts}");
    steps.log(&format!(
        "all is as told: {} acknowledged writes, {} stale ends, {} jobs, {} repeats, {} dead",
        told.acknowledged(),
        told.stale(),
        told.keys(),
        told.duplicates(),
        counts["dead"],
    ));
}

/// What happens, each told and waited for.
struct Story<'a> {
    steps: &'a Steps,
    told: &'a Told,
}

impl Story<'_> {
    /// Waits until clients were told a good deal more.
    fn goes_on(&self, what: &str) {
        let before = self.told.acknowledged();
        until("clients to be told more", PATIENCE, || {
            (self.told.acknowledged() >= before + BETWEEN).then_some(())
        });
        self.steps
            .log(&format!("{what}: {} more writes are acknowledged", self.told.acknowledged() - before));
    }

    fn kill_a_node(&self, cluster: &mut Cluster) {
        cluster.server(0).kill();
        self.steps.log("node 0 got SIGKILL");
        self.goes_on("without node 0");
        cluster.server(0).restart();
        self.steps.log("node 0 was started again");
        assert_serves(cluster.addresses()[0]);
        self.goes_on("with node 0");
    }

    /// A node that is cut off loses its leases and nothing else: what it handed out is handed out by others, its late
    /// word is refused, and it serves again by itself.
    fn cut_a_node_off(&self, cluster: &Cluster, round: u64) {
        let (node, other) = (cluster.node(1), cluster.node(2));
        let queue = format!("cut-{round}");
        let job = json!({"kind": "cut", "payload": 1, "key": "k"});
        node.client().post(&format!("/v1/queues/{queue}/jobs"), &job).ok();
        let lease = |client: &mut Client, lease: &str| {
            let poll = json!({"queues": [queue], "lease": lease, "wait": "60s", "worker": "of a cut"});
            Lease::of(&client.post("/v1/leases", &poll).ok()["jobs"][0])
        };
        let first = lease(&mut node.client(), LEASE);
        node.cut_off();
        self.steps.log("node 1 was cut off from both servers");
        let second = lease(&mut other.client(), "5m");
        assert_eq!(second.id, first.id);
        assert!(second.token > first.token, "I4: {second:?} after {first:?}");
        self.steps.log("node 2 handed out what node 1 had");
        self.goes_on("without node 1");
        node.heal();
        self.steps.log("node 1 is no longer cut off");
        let settle = |client: &mut Client, lease: &Lease| {
            let op = json!({"op": "complete", "id": lease.id, "fencing_token": lease.token});
            insistently(client, "/v1/leases/settle", &json!({ "ops": [op] }))["results"][0].take()
        };
        let late = settle(&mut node.client(), &first);
        assert_eq!((&late["ok"], &late["code"]), (&json!(false), &json!("lease-lost")), "I5: {late}");
        let done = settle(&mut other.client(), &second);
        assert_eq!(done["state"], "completed", "{done}");
        assert_serves(cluster.addresses()[1]);
        self.steps.log("node 1 serves again, and its late complete was refused");
    }

    fn break_connections(&self, cluster: &Cluster) {
        for _ in 0..3 {
            cluster.nodes().iter().for_each(|node| node.reset());
            self.steps.log("all connections to the servers were broken");
            self.goes_on("with new connections");
        }
    }

    /// The primary is gone for good, and the standby is promoted. Nobody touches the nodes.
    fn fail_over(&self, cluster: &mut Cluster, round: u64) {
        cluster.stop_primary();
        let stopped = now();
        let highest = self.told.highest_token();
        self.steps
            .log(&format!("the primary was stopped (immediate); the highest token so far is {highest}"));
        let addresses = cluster.addresses();
        std::thread::scope(|threads| {
            for address in &addresses {
                threads.spawn(|| assert_says_that_there_is_no_database(*address));
            }
        });
        self.steps.log("every node says that it cannot reach the database");
        cluster.promote();
        let promoted = now();
        self.steps.log("the standby was promoted");
        std::thread::scope(|threads| {
            for (number, address) in addresses.into_iter().enumerate() {
                threads.spawn(move || {
                    assert_serves_in(address, &format!("failover-{round}"), Some(highest));
                    let (since_stop, since_promotion) = (now() - stopped, now() - promoted);
                    self.steps.log(&format!(
                        "node {number} acknowledges adds and leases {:.1} s after the stop, {:.1} s after the promotion",
                        since_stop.as_secs_f64(),
                        since_promotion.as_secs_f64(),
                    ));
                });
            }
        });
        self.goes_on("on the new primary");
    }
}

/// Waits until a node says this of the standby, for which it looks now and then.
fn await_standby(cluster: &Cluster, is: &str) {
    let mut client = cluster.node(0).client();
    until(&format!("the standby to be {is}"), PATIENCE, || {
        let reply = client.get("/readyz");
        (reply.status == 200 && reply.json()["standby"] == is).then_some(())
    });
}

fn assert_says_that_there_is_no_database(address: SocketAddr) {
    let mut client = Client::new(address);
    let told = until("a refusal", PATIENCE, || {
        let reply =
            client.post("/v1/queues/outage/jobs", &json!({"kind": "k", "payload": 1, "key": address}));
        // A commit that was under way, or too many who wait, come first.
        (reply.refusal().1 == "store-unavailable").then_some(reply)
    });
    assert_eq!(told.status, 503);
    assert!(told.text().contains("the database cannot be reached"), "{}", told.text());
}

fn assert_serves(address: SocketAddr) {
    assert_serves_in(address, "probe", None);
}

/// Waits until a node acknowledges an add and hands out what was added.
fn assert_serves_in(address: SocketAddr, kind: &str, highest: Option<u64>) {
    let queue = format!("{kind}-{}", address.port());
    let mut client = Client::patient(address, ASK_ANOTHER);
    insistently(&mut client, &format!("/v1/queues/{queue}/jobs"), &json!({"kind": kind, "payload": 1}));
    let poll = json!({"queues": [queue], "wait": "1s", "worker": queue, "poll_id": queue});
    let lease = until("a lease", PATIENCE, || {
        insistently(&mut client, "/v1/leases", &poll)["jobs"].get(0).map(Lease::of)
    });
    assert!(highest.is_none_or(|highest| lease.token > highest), "I4: {lease:?} is not above {highest:?}");
}

/// Posts until it succeeds.
fn insistently(client: &mut Client, path: &str, body: &Value) -> Value {
    until(&format!("an answer to POST {path}"), PATIENCE, || match client.try_post(path, body) {
        Ok(reply) if reply.status == 503 => None,
        Ok(reply) => Some(reply.ok()),
        Err(_) => None,
    })
}
